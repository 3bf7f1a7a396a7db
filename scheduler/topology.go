package scheduler

import (
	"fmt"
	"slices"
	"strings"

	"oaas.io/control-plane/scheduler/solver"
)

// topologies are the filters that a placement makes of domains: clusters that do not
// say in which one they are cannot be spread, and those in one with others are too near.
type topologies struct {
	placement *Placement
	// taken are the domains of the others, with one of them.
	taken map[string]string
}

func (f *Fleet) topologiesOf(p *Placement) *topologies {
	out := &topologies{placement: p}
	if p == nil || p.Apart == nil {
		return out
	}
	out.taken = map[string]string{}
	for _, other := range p.Apart.From {
		for _, name := range other.Clusters {
			i, known := f.byName[name]
			if !known {
				continue
			}
			domain := domainOf(&f.clusters[i], p.Apart.Topology)
			// Of several the first by name is told, whatever their order.
			if have, ok := out.taken[domain]; domain != "" && (!ok || other.Key < have) {
				out.taken[domain] = other.Key
			}
		}
	}
	return out
}

func (t *topologies) check(c *Cluster) (wrong []Finding) {
	if t.placement == nil {
		return nil
	}
	for _, s := range t.placement.Spread {
		if domainOf(c, s.Topology) == "" {
			wrong = append(wrong, Finding{CodeTopologyUnknown, c.Name + ": says no " + clip(s.Topology) + ", over which the deployment is to be spread"})
			break
		}
	}
	if a := t.placement.Apart; a != nil {
		if domain := domainOf(c, a.Topology); domain != "" && t.taken[domain] != "" {
			wrong = append(wrong, Finding{CodeTooNear, fmt.Sprintf("%s: %s runs in the same %s, and the deployment is to be apart from it", c.Name, clip(t.taken[domain]), clip(a.Topology))})
		}
	}
	return wrong
}

// writeTopologies adds to the filter key what the filters of domains look at.
func (p *Placement) writeTopologies(b *strings.Builder) {
	if p == nil {
		return
	}
	for _, s := range p.Spread {
		fmt.Fprintf(b, "/%q%d,%d", s.Topology, s.Max, s.Least)
	}
	if p.Apart != nil {
		fmt.Fprintf(b, "~%q", p.Apart.Topology)
		for _, other := range p.Apart.From {
			fmt.Fprintf(b, "%q%q", other.Key, other.Clusters)
		}
	}
}

// spreading is a rule of the placement over the clusters of the fleet.
type spreading struct {
	Spread
	// part is the domain of each cluster, as a number; -1 for none.
	part []int
}

func (f *Fleet) spreadsOf(p *Placement) []spreading {
	if p == nil {
		return nil
	}
	var out []spreading
	for _, s := range p.Spread {
		one, numbers := spreading{Spread: s, part: make([]int, len(f.clusters))}, map[string]int{}
		for i := range f.clusters {
			domain := domainOf(&f.clusters[i], s.Topology)
			if domain == "" {
				one.part[i] = -1
				continue
			}
			if _, there := numbers[domain]; !there {
				numbers[domain] = len(numbers)
			}
			one.part[i] = numbers[domain]
		}
		out = append(out, one)
	}
	return out
}

// over is the rule for some candidates.
func (s *spreading) over(candidates []solver.Candidate) solver.Spread {
	out := solver.Spread{Most: s.Max, Least: s.Least, Part: make([]int, len(candidates))}
	for i := range candidates {
		out.Part[i] = s.part[candidates[i].Leaf]
	}
	return out
}

// admits says whether a set of n may have another cluster.
func (s *spreading) admits(set []int, next, n int) bool {
	domains, same := map[int]bool{}, 1
	for _, i := range set {
		domains[s.part[i]] = true
		if s.part[i] == s.part[next] {
			same++
		}
	}
	domains[s.part[next]] = true
	delete(domains, -1)
	return (s.Max == 0 || s.part[next] < 0 || same <= s.Max) && len(domains)+n-len(set)-1 >= s.Least
}

// admits says whether the rules for sets let a cluster into a set of n.
func (p *pool) admits(set []int, next, n int) bool {
	if p.nearness != nil {
		for _, i := range set {
			if !p.nearness.together(i, next) {
				return false
			}
		}
	}
	for k := range p.spreads {
		if !p.spreads[k].admits(set, next, n) {
			return false
		}
	}
	return true
}

// spread says whether a whole set is spread as it has to be.
func (p *pool) spread(set []int) bool {
	for i := range set {
		if !p.admits(set[:i], set[i], len(set)) {
			return false
		}
	}
	return true
}

// impossible is the rule of the placement that no set of the usable clusters keeps.
func (f *filtered) impossible(most int) *UnsatisfiableError {
	for k := range f.spreads {
		s := &f.spreads[k]
		domains := map[int]bool{}
		for one := range f.all {
			domains[s.part[one.leaf]] = true
		}
		field := "placement.spread: " + s.Topology
		switch {
		case len(domains) < s.Least:
			return &UnsatisfiableError{Constraint: field, Problem: fmt.Sprintf("min_domains is %d, and the %d usable environments are in %d", s.Least, f.usable(), len(domains))}
		case most < s.Least:
			return &UnsatisfiableError{Constraint: field, Problem: fmt.Sprintf("min_domains is %d, and at most %d environments may be chosen", s.Least, most)}
		}
	}
	if near := f.nearness; near != nil && len(f.spreads) == 0 {
		return &UnsatisfiableError{Constraint: "placement.max_latency_ms", Problem: fmt.Sprintf(
			"no set of the %d usable environments is within %s ms of each other", f.usable(), price(near.limit))}
	}
	names := make([]string, 0, len(f.spreads))
	for k := range f.spreads {
		names = append(names, f.spreads[k].Topology)
	}
	slices.Sort(names)
	return &UnsatisfiableError{Constraint: "placement.spread", Problem: fmt.Sprintf("no set of the %d usable environments keeps the rules of %s together", f.usable(), list(names))}
}
