package scheduler

import (
	"fmt"
	"slices"
	"strings"

	"oaas.io/control-plane/scheduler/availability"
)

// filtered is the outcome of the filter stage.
type filtered struct {
	// passed clusters may be used.
	passed []feasible
	// rejected clusters may not, each with all that is wrong; sorted by name.
	rejected []Candidate
}

// feasible is a cluster that may be used.
type feasible struct {
	cluster *Cluster
	current bool
	// preference is the place in the user's list; clusters without one come
	// last.
	preference int
	findings   []Finding
}

// filterAutomatic keeps what is within the available environments, healthy and
// of a sane availability. Every filter sees every cluster, so that a user does
// not learn his obstacles one by one.
func filterAutomatic(snap Snapshot, spec Spec) filtered {
	preference := make(map[string]int, len(spec.AvailableEnvs))
	for i, name := range spec.AvailableEnvs {
		if _, repeated := preference[name]; !repeated {
			preference[name] = i
		}
	}
	current := set(snap.Current)
	known := make(map[string]bool, len(snap.Clusters))

	var out filtered
	for i := range snap.Clusters {
		c := &snap.Clusters[i]
		known[c.Name] = true
		var wrong, noted []Finding
		place, listed := preference[c.Name]
		if len(preference) > 0 && !listed {
			wrong = append(wrong, Finding{CodeNotInAvailableEnvs, c.Name + ": not among the deployment's available environments"})
		}
		if !listed {
			place = len(preference)
		}
		if f, ok := healthFinding(c); !ok {
			if current[c.Name] {
				// It may come back any moment. Moving away for good is a
				// failover, and not for an ordinary update to decide.
				noted = append(noted, f)
			} else {
				wrong = append(wrong, f)
			}
		}
		if f, ok := availabilityFinding(c); !ok {
			wrong = append(wrong, f)
		} else if f.Code != "" {
			noted = append(noted, f)
		}
		if len(wrong) > 0 {
			out.rejected = append(out.rejected, rejected(c, wrong))
			continue
		}
		out.passed = append(out.passed, feasible{cluster: c, current: current[c.Name], preference: place, findings: noted})
	}
	for name := range preference {
		if !known[name] {
			out.rejected = append(out.rejected, rejected(&Cluster{Name: name}, []Finding{{CodeUnknownCluster, name + ": no such environment is known"}}))
		}
	}
	out.sort()
	return out
}

// filterExplicit passes exactly the clusters that the user named, in his order,
// and notes what is unusual about them.
func filterExplicit(snap Snapshot, spec Spec) (filtered, error) {
	byName := make(map[string]*Cluster, len(snap.Clusters))
	for i := range snap.Clusters {
		byName[snap.Clusters[i].Name] = &snap.Clusters[i]
	}
	current := set(snap.Current)
	named := make(map[string]bool, len(spec.TargetEnvs))

	var out filtered
	var unknown []string
	for i, name := range spec.TargetEnvs {
		if named[name] {
			continue
		}
		named[name] = true
		c := byName[name]
		if c == nil {
			unknown = append(unknown, name)
			continue
		}
		var noted []Finding
		if f, ok := healthFinding(c); !ok {
			noted = append(noted, f)
		}
		if f, ok := availabilityFinding(c); !ok || f.Code != "" {
			noted = append(noted, f)
		}
		out.passed = append(out.passed, feasible{cluster: c, current: current[name], preference: i, findings: noted})
	}
	if len(unknown) > 0 {
		return filtered{}, &UnknownClustersError{Unknown: unknown, Known: names(snap.Clusters)}
	}
	for i := range snap.Clusters {
		c := &snap.Clusters[i]
		if !named[c.Name] {
			out.rejected = append(out.rejected, rejected(c, []Finding{{CodeNotATarget, c.Name + ": the deployment names other environments"}}))
		}
	}
	out.sort()
	return out, nil
}

// sort puts the rejected clusters into their order; those that passed get
// theirs from the score.
func (f *filtered) sort() {
	slices.SortFunc(f.rejected, func(a, b Candidate) int { return strings.Compare(a.Cluster, b.Cluster) })
}

// noCandidates is the error when nothing passed.
func (f *filtered) noCandidates() *NoCandidatesError {
	e := &NoCandidatesError{}
	for _, c := range f.rejected {
		e.Rejected = append(e.Rejected, Rejection{Cluster: c.Cluster, Code: c.Code, Message: c.Message})
	}
	return e
}

// healthFinding is ok when the cluster is healthy.
func healthFinding(c *Cluster) (Finding, bool) {
	switch c.Health {
	case Healthy:
		return Finding{}, true
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

func names(clusters []Cluster) []string {
	out := make([]string, 0, len(clusters))
	for i := range clusters {
		out = append(out, clusters[i].Name)
	}
	slices.Sort(out)
	return out
}

func set(names []string) map[string]bool {
	out := make(map[string]bool, len(names))
	for _, n := range names {
		out[n] = true
	}
	return out
}
