package scheduler

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"oaas.io/control-plane/scheduler/availability"
)

// feasible is a cluster that may be used.
type feasible struct {
	cluster *Cluster
	// leaf is the cluster's index in the fleet.
	leaf int
	// preference is the place in the user's list; clusters without one come
	// last.
	preference int
	findings   []Finding
	// discouraged clusters are used where the others do not do.
	discouraged bool
	// suspected says that it is discouraged only as it is suspect, which is no reason to
	// leave it.
	suspected bool
}

// pool is the outcome of the filter stage for all deployments that ask for the same,
// wherever they run.
type pool struct {
	fleet *Fleet
	// passed clusters may be used: the most available first, then by preference,
	// then by name.
	passed []feasible
	// position in passed by cluster; -1 for those that did not pass.
	position []int
	// rejected clusters may not be used, each with all that is wrong; sorted by name.
	rejected []Candidate
	// counts are the rejected clusters by code.
	counts map[Code]int
	// prices is the number of clusters that passed and have a price; dearest is the
	// highest one. It stands for those that are not known.
	prices  int
	dearest float64
	// spreads are how a set has to be spread, by clusters of the fleet.
	spreads []spreading
	// nearness is how near each other the clusters of a set have to be; nil when it does
	// not matter.
	nearness *nearness
	// discouraged is the number of clusters that passed, but of which their operators
	// say that others are better.
	discouraged int

	choices     cache[question, *choice]
	answers     cache[string, *choice]
	relaxations cache[relaxed, []Relaxation]
	bindings    cache[relaxed, []Binding]
}

// filtered is the outcome of the filter stage for one deployment.
type filtered struct {
	*pool
	// exempt clusters pass only because the deployment runs there.
	exempt []feasible
}

// filterAutomatic keeps what is within the available environments, healthy and of a
// sane availability. Every filter sees every cluster, so that a user does not learn
// his obstacles one by one.
func (f *Fleet) filterAutomatic(spec *Spec, current []string) (filtered, error) {
	p, err := f.pools.get(f.constraints(spec), func() (*pool, error) { return f.newPool(spec) })
	if err != nil {
		return filtered{}, err
	}
	out := filtered{pool: p}
	var filters *filters
	for _, name := range current {
		i, known := f.byName[name]
		if !known || p.position[i] >= 0 || out.exempted(name) {
			continue
		}
		if filters == nil {
			if filters, err = f.filtersOf(spec); err != nil {
				return filtered{}, err
			}
		}
		if one, wrong := filters.examine(i, true); len(wrong) == 0 {
			out.exempt = append(out.exempt, one)
		}
	}
	slices.SortFunc(out.exempt, func(a, b feasible) int { return cmp.Compare(a.leaf, b.leaf) })
	return out, nil
}

// constraints are what the filters look at, in a form that is equal for equal ones.
func (f *Fleet) constraints(s *Spec) string {
	if len(s.AvailableEnvs) == 0 && s.Placement == nil && len(s.Near) == 0 && !f.quotas {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%q", s.Near)
	if f.quotas {
		fmt.Fprintf(&b, "%q", s.Package)
	}
	b.WriteString(s.Placement.filterKey())
	s.Placement.writeTopologies(&b)
	for _, name := range s.AvailableEnvs {
		fmt.Fprintf(&b, "%q", name)
	}
	return b.String()
}

// preferences are the places of the available environments in the user's list.
func preferences(spec *Spec) map[string]int {
	out := make(map[string]int, len(spec.AvailableEnvs))
	for i, name := range spec.AvailableEnvs {
		if _, repeated := out[name]; !repeated {
			out[name] = i
		}
	}
	return out
}

// filters are the filters of a deployment.
type filters struct {
	fleet       *Fleet
	spec        *Spec
	preference  map[string]int
	constraints *constraints
	topologies  *topologies
}

func (f *Fleet) filtersOf(spec *Spec) (*filters, error) {
	compiled, err := spec.Placement.compile()
	if err != nil {
		return nil, err
	}
	return &filters{fleet: f, spec: spec, preference: preferences(spec), constraints: compiled, topologies: f.topologiesOf(spec.Placement)}, nil
}

func (f *Fleet) newPool(spec *Spec) (*pool, error) {
	filters, err := f.filtersOf(spec)
	if err != nil {
		return nil, err
	}
	out := &pool{fleet: f, position: make([]int, len(f.clusters)), counts: map[Code]int{}}
	out.choices.limit, out.answers.limit, out.relaxations.limit, out.bindings.limit = maxChoices, maxAnswers, maxChoices, maxChoices
	for i := range f.clusters {
		one, wrong := filters.examine(i, false)
		if len(wrong) > 0 {
			out.rejected = append(out.rejected, rejected(one.cluster, wrong))
			out.position[i] = -1
			continue
		}
		out.passed = append(out.passed, one)
	}
	for name := range filters.preference {
		if _, known := f.byName[name]; !known {
			out.rejected = append(out.rejected, rejected(&Cluster{Name: name}, []Finding{{CodeUnknownCluster, name + ": no such environment is known"}}))
		}
	}
	slices.SortFunc(out.rejected, func(a, b Candidate) int { return strings.Compare(a.Cluster, b.Cluster) })
	for i := range out.rejected {
		out.counts[out.rejected[i].Code]++
	}
	slices.SortFunc(out.passed, func(a, b feasible) int {
		return cmp.Or(cmp.Compare(f.up[b.leaf], f.up[a.leaf]), compareBool(a.discouraged, b.discouraged), cmp.Compare(a.preference, b.preference), cmp.Compare(a.leaf, b.leaf))
	})
	for k := range out.passed {
		out.position[out.passed[k].leaf] = k
		if cost := out.passed[k].cluster.Cost; cost != nil {
			out.prices, out.dearest = out.prices+1, max(out.dearest, *cost)
		}
		if out.passed[k].discouraged {
			out.discouraged++
		}
	}
	out.spreads, out.nearness = f.spreadsOf(spec.Placement), f.nearnessOf(spec.Placement)
	return out, nil
}

// examine runs all filters on one cluster. It must not be used if anything is wrong.
func (k *filters) examine(i int, current bool) (feasible, []Finding) {
	f, preference := k.fleet, k.preference
	c := &f.clusters[i]
	var wrong, noted []Finding
	place, listed := preference[c.Name]
	if len(preference) > 0 && !listed {
		wrong = append(wrong, Finding{CodeNotInAvailableEnvs, c.Name + ": not among the deployment's available environments"})
	}
	if !listed {
		place = len(preference)
	}
	if found, ok := healthFinding(c); !ok {
		if current {
			// It may come back any moment. Moving away for good is a failover, and
			// not for an ordinary update to decide.
			noted = append(noted, found)
		} else {
			wrong = append(wrong, found)
		}
	} else if found.Code != "" {
		noted = append(noted, found)
	}
	if found, ok := availabilityFinding(c); !ok {
		wrong = append(wrong, found)
	} else if found.Code != "" {
		noted = append(noted, found)
	}
	refused, remarks := k.constraints.check(c, k.spec.Package, current)
	wrong, noted = append(append(wrong, refused...), k.topologies.check(c)...), append(noted, remarks...)
	discouraged := slices.ContainsFunc(remarks, func(r Finding) bool { return r.Code == CodeTaintPreferred })
	if found, outside := k.spec.locationFinding(c); outside {
		noted, discouraged = append(noted, found), true
	}
	suspect := c.Health == Suspect
	return feasible{
		cluster: c, leaf: i, preference: place, findings: f.noteDomain(c, noted),
		discouraged: discouraged || suspect, suspected: suspect && !discouraged,
	}, wrong
}

// LocationLabel is the label by which operators name the location of a cluster.
const LocationLabel = "location"

// locationFinding says that a cluster is at none of the places that are preferred.
func (s *Spec) locationFinding(c *Cluster) (f Finding, outside bool) {
	if len(s.Near) == 0 {
		return f, false
	}
	for _, at := range []string{c.Name, c.Region, c.Zone, c.Provider, c.Labels[LocationLabel]} {
		if at != "" && slices.Contains(s.Near, at) {
			return f, false
		}
	}
	return Finding{CodeOutsideLocation, fmt.Sprintf("%s: is not in %s, where the deployment is to be available", c.Name, clip(list(s.Near)))}, true
}

// noteDomain adds that the cluster says no region, where others do.
func (f *Fleet) noteDomain(c *Cluster, noted []Finding) []Finding {
	if !f.placed || c.Region != "" {
		return noted
	}
	return append(noted, Finding{CodeDomainUnknown, c.Name + ": says no region, and counts as together with all others that do not"})
}

// named gives exactly the clusters that the user named, in his order, with what is
// unusual about them.
func (f *Fleet) named(spec *Spec) ([]feasible, error) {
	compiled, err := spec.Placement.compile()
	if err != nil {
		return nil, err
	}
	var out []feasible
	var unknown []string
	seen := make(map[string]bool, len(spec.TargetEnvs))
	for _, name := range spec.TargetEnvs {
		if seen[name] {
			continue
		}
		seen[name] = true
		i, known := f.byName[name]
		if !known {
			unknown = append(unknown, name)
			continue
		}
		c := &f.clusters[i]
		var noted []Finding
		if found, ok := healthFinding(c); !ok || found.Code != "" {
			noted = append(noted, found)
		}
		if found, ok := availabilityFinding(c); !ok || found.Code != "" {
			noted = append(noted, found)
		}
		refused, remarks := compiled.check(c, spec.Package, true)
		noted = append(append(noted, refused...), remarks...)
		if found, outside := spec.locationFinding(c); outside {
			noted = append(noted, found)
		}
		out = append(out, feasible{cluster: c, leaf: i, preference: len(out), findings: f.noteDomain(c, noted)})
	}
	if len(unknown) > 0 {
		known := make([]string, len(f.clusters))
		for i := range f.clusters {
			known[i] = f.clusters[i].Name
		}
		return nil, &UnknownClustersError{Unknown: unknown, Known: known}
	}
	return out, nil
}

// filterExplicit rejects all but the named clusters, and shows the first of them.
func (f *Fleet) filterExplicit(named []feasible) filtered {
	chosen := make(map[int]bool, len(named))
	for i := range named {
		chosen[named[i].leaf] = true
	}
	p := &pool{fleet: f, passed: named, counts: map[Code]int{}}
	if others := len(f.clusters) - len(chosen); others > 0 {
		p.counts[CodeNotATarget] = others
	}
	for i := range f.clusters {
		if len(p.rejected) == explained {
			break
		}
		if c := &f.clusters[i]; !chosen[i] {
			p.rejected = append(p.rejected, rejected(c, []Finding{{CodeNotATarget, c.Name + ": the deployment names other environments"}}))
		}
	}
	return filtered{pool: p}
}

// usable is the number of clusters that may be used.
func (f *filtered) usable() int { return len(f.passed) + len(f.exempt) }

// priced says whether the best set is the cheapest one. Where nothing costs anything,
// it is the smallest.
func (p *pool) priced(prefer Preference, exempt []feasible) bool {
	known := p.prices
	for i := range exempt {
		if exempt[i].cluster.Cost != nil {
			known++
		}
	}
	switch {
	case prefer == Fewest || p.dearest == 0:
		return false
	case prefer == Cheapest:
		return known > 0
	default:
		return known == len(p.passed)+len(exempt)
	}
}

// price is what a cluster costs; the dearest there is when it is not known.
func (p *pool) price(c *Cluster) float64 {
	if c.Cost == nil {
		return p.dearest
	}
	return *c.Cost
}

// exempted says whether a cluster passes only because the deployment runs there.
func (f *filtered) exempted(name string) bool {
	return slices.ContainsFunc(f.exempt, func(e feasible) bool { return e.cluster.Name == name })
}

// all yields the clusters that may be used, best first.
func (f *filtered) all(yield func(*feasible) bool) {
	up, exempt := f.fleet.up, slices.Clone(f.exempt)
	slices.SortStableFunc(exempt, func(a, b feasible) int { return cmp.Compare(up[b.leaf], up[a.leaf]) })
	next := 0
	for i := range f.passed {
		for next < len(exempt) && up[exempt[next].leaf] >= up[f.passed[i].leaf] {
			if !yield(&exempt[next]) {
				return
			}
			next++
		}
		if !yield(&f.passed[i]) {
			return
		}
	}
	for ; next < len(exempt); next++ {
		if !yield(&exempt[next]) {
			return
		}
	}
}

// noCandidates is the error when nothing passed.
func (f *filtered) noCandidates() *NoCandidatesError {
	e := &NoCandidatesError{}
	for _, c := range f.rejected {
		e.Rejected = append(e.Rejected, Rejection{Cluster: c.Cluster, Code: c.Code, Message: c.Message})
	}
	return e
}

// healthFinding is ok when the cluster can be given something; with a code when it is
// suspect.
func healthFinding(c *Cluster) (Finding, bool) {
	switch c.Health {
	case Healthy:
		return Finding{}, true
	case Suspect:
		return Finding{CodeClusterSuspect, c.Name + ": suspect, it has not been heard for a moment"}, true
	case Degraded:
		return Finding{CodeClusterDegraded, c.Name + ": degraded"}, false
	case Unreachable:
		return Finding{CodeClusterUnreachable, c.Name + ": unreachable"}, false
	default:
		return Finding{CodeHealthUnknown, c.Name + ": health is not known yet"}, false
	}
}

// availabilityFinding is ok when the availability can be used; with a code when
// it is assumed.
func availabilityFinding(c *Cluster) (Finding, bool) {
	switch {
	case c.Availability == nil:
		return Finding{CodeAvailabilityAssumed, fmt.Sprintf("%s: reports no availability, %s is assumed", c.Name, percent(AssumedAvailability))}, true
	case !availability.Valid(*c.Availability):
		return Finding{CodeAvailabilityInvalid, fmt.Sprintf("%s: availability %v is not within 0..1", c.Name, *c.Availability)}, false
	default:
		return Finding{}, true
	}
}

func rejected(c *Cluster, wrong []Finding) Candidate {
	messages := make([]string, 0, len(wrong))
	for i, f := range wrong {
		if i > 0 {
			f.Message = strings.TrimPrefix(f.Message, c.Name+": ")
		}
		messages = append(messages, f.Message)
	}
	out := Candidate{
		Cluster: c.Name, Verdict: Rejected, Stage: StageFilter,
		Code: wrong[0].Code, Message: strings.Join(messages, ", "), Findings: wrong,
	}
	if c.Availability != nil && availability.Valid(*c.Availability) {
		p := *c.Availability
		out.Availability = &p
	}
	return out
}

func set(names []string) map[string]bool {
	out := make(map[string]bool, len(names))
	for _, n := range names {
		out[n] = true
	}
	return out
}
