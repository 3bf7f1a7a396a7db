package scheduler

import (
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"strings"

	"oaas.io/control-plane/scheduler/solver"
)

// Clusters that a deployment wants near each other: no two of a set may be farther
// apart than its limit. Clusters that are equal in this are one class, so that there are
// about as many classes as regions, and a set is near if its classes are a clique of
// those that are near each other. The best set of each maximal clique is found as if
// there were no other clusters; the best of them is the best of all.

const (
	// maxClasses is the width of a set of classes, and maxCliques bounds the sets that
	// are tried. What is beyond them is left out, and the plan says so.
	maxClasses = 64
	maxCliques = 256
)

// distance is the round trip between two clusters in milliseconds: what either of them
// says of the other one, else what they say of each other's regions, the longer one of
// two. Within a region about which nobody says anything it is taken for 0.
func (f *Fleet) distance(a, b int) (ms float64, known bool) {
	ca, cb := &f.clusters[a], &f.clusters[b]
	if a == b {
		return 0, true
	}
	for _, names := range [][2]string{{ca.Name, cb.Name}, {ca.Region, cb.Region}} {
		if there, ok := ca.Latency[names[1]]; ok && names[1] != "" {
			ms, known = there, true
		}
		if back, ok := cb.Latency[names[0]]; ok && names[0] != "" {
			ms, known = max(ms, back), true
		}
		if known {
			return ms, true
		}
	}
	return 0, ca.Region != "" && ca.Region == cb.Region
}

// farthest is the longest distance within a set; known is false when one is not known,
// or there is none.
func (f *Fleet) farthest(set []int) (ms float64, known bool) {
	for i := range set {
		for j := range i {
			d, ok := f.distance(set[i], set[j])
			if !ok {
				return 0, false
			}
			ms = max(ms, d)
		}
	}
	return ms, len(set) > 1
}

// nearness says which clusters are near enough to each other.
type nearness struct {
	limit float64
	// class of each cluster of the fleet; -1 for those that are left out.
	class []int
	// near has the classes that are near each class.
	near []uint64
	// cliques are the maximal sets of classes that are all near each other.
	cliques []uint64
	// cut is true when classes or cliques were left out.
	cut bool
}

// nearnessOf is nil for a placement without a limit.
func (f *Fleet) nearnessOf(p *Placement) *nearness {
	if p == nil || p.MaxLatency == nil {
		return nil
	}
	n := &nearness{limit: *p.MaxLatency, class: make([]int, len(f.clusters))}
	named := map[string]bool{}
	for i := range f.clusters {
		for name := range f.clusters[i].Latency {
			named[name] = true
		}
	}
	numbers := map[string]int{}
	var members [][]int
	for i := range f.clusters {
		key := f.latencyClass(i, named, n.limit)
		k, there := numbers[key]
		if !there {
			k = len(members)
			numbers[key], members = k, append(members, nil)
		}
		members[k] = append(members[k], i)
	}
	// The classes with the most available clusters are kept where there are too many.
	slices.SortStableFunc(members, func(a, b []int) int { return compareUp(f.bestUp(b), f.bestUp(a)) })
	for i := range n.class {
		n.class[i] = -1
	}
	n.cut = len(members) > maxClasses
	members = members[:min(len(members), maxClasses)]
	n.near = make([]uint64, len(members))
	for k, of := range members {
		for _, i := range of {
			n.class[i] = k
		}
		n.near[k] |= 1 << k
		for other := range k {
			if d, known := f.distance(of[0], members[other][0]); known && d <= n.limit {
				n.near[k] |= 1 << other
				n.near[other] |= 1 << k
			}
		}
	}
	n.extend(0, uint64(1)<<len(members)-1, 0)
	return n
}

// latencyClass is equal for clusters that are as far from all others, and near enough
// to each other.
func (f *Fleet) latencyClass(i int, named map[string]bool, limit float64) string {
	c := &f.clusters[i]
	own, says := c.Latency[c.Region]
	if c.Region == "" || named[c.Name] || says && own > limit {
		return fmt.Sprintf("%q", c.Name)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "/%q", c.Region)
	for _, name := range slices.Sorted(maps.Keys(c.Latency)) {
		fmt.Fprintf(&b, "%q=%v", name, c.Latency[name])
	}
	return b.String()
}

func (f *Fleet) bestUp(set []int) float64 {
	up := 0.0
	for _, i := range set {
		up = max(up, f.up[i])
	}
	return up
}

func compareUp(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	default:
		return 0
	}
}

// extend adds the maximal cliques that have all of in, some of may, and none of not
// (Bron and Kerbosch, Algorithm 457, Communications of the ACM 16, 1973, with a pivot).
func (n *nearness) extend(in, may, not uint64) {
	switch {
	case may == 0 && not == 0:
		n.cliques = append(n.cliques, in)
		return
	case may == 0:
		return
	case len(n.cliques) >= maxCliques:
		n.cut = true
		return
	}
	pivot := 0
	for rest, most := may|not, -1; rest != 0; rest &= rest - 1 {
		k := bits.TrailingZeros64(rest)
		if covered := bits.OnesCount64(may & n.near[k]); covered > most {
			pivot, most = k, covered
		}
	}
	for rest := may &^ n.others(pivot); rest != 0; rest &= rest - 1 {
		k := bits.TrailingZeros64(rest)
		n.extend(in|1<<k, may&n.others(k), not&n.others(k))
		may &^= 1 << k
		not |= 1 << k
	}
}

// others are the classes near a class, without itself.
func (n *nearness) others(k int) uint64 { return n.near[k] &^ (1 << k) }

// together says whether two clusters are near enough to each other.
func (n *nearness) together(a, b int) bool {
	ka, kb := n.class[a], n.class[b]
	return ka >= 0 && kb >= 0 && n.near[ka]&(1<<kb) != 0
}

// best asks for the best set within each clique, and gives the best of them, with
// indexes of all candidates.
func (n *nearness) best(q question, all []solver.Candidate, ask func(question, []solver.Candidate) (*choice, error)) (*choice, error) {
	var best *choice
	proven := !n.cut
	var value, lowest float64
	for _, clique := range n.cliques {
		var within []solver.Candidate
		var index []int
		for i := range all {
			if k := n.class[all[i].Leaf]; k >= 0 && clique&(1<<k) != 0 {
				within, index = append(within, all[i]), append(index, i)
			}
		}
		one := q
		if one.high = min(q.high, len(within)); one.high < q.low {
			continue
		}
		found, err := ask(one, within)
		if err != nil {
			return nil, err
		}
		if len(found.set) == 0 {
			continue
		}
		proven = proven && found.proven
		v := worth(q, within, found.set)
		for k, i := range found.set {
			found.set[k] = index[i]
		}
		better := best == nil || found.met && !best.met ||
			found.met == best.met && (found.met && v < value || (!found.met || v == value) && found.loss < lowest)
		if better {
			best, value, lowest = found, v, found.loss
		}
	}
	if best == nil {
		return &choice{proven: proven}, nil
	}
	best.proven = proven
	return best, nil
}

// worth is what a set costs, or its size, and of equals what is left of what runs.
func worth(q question, candidates []solver.Candidate, set []int) float64 {
	v, kept := 0.0, 0
	for _, i := range set {
		if c := candidates[i].Cost; c > 0 || q.priced {
			v += c
		} else {
			v++
		}
		if candidates[i].Current {
			kept++
		}
	}
	// The kept ones decide between equals only: they are few, and prices are told apart
	// by more than this.
	return v - float64(kept)*1e-9*(1+v)
}

// farFrom names a chosen cluster that another one is not near; empty when there is none.
func (o *selection) farFrom(s *scored) string {
	if o.nearness == nil {
		return ""
	}
	for i := range o.chosen {
		if !o.nearness.together(o.chosen[i].leaf, s.leaf) {
			return o.chosen[i].cluster.Name
		}
	}
	return ""
}

// tooFar tells of two clusters of a set that are farther apart than the limit; empty
// when there are none.
func (o *selection) tooFar(limit float64) string {
	f := o.fleet
	for j := range o.chosen {
		for i := range j {
			a, b := o.chosen[i].leaf, o.chosen[j].leaf
			switch d, known := f.distance(a, b); {
			case !known:
				return fmt.Sprintf("nobody said how far %s and %s are apart, and the limit is %s ms", f.clusters[a].Name, f.clusters[b].Name, price(limit))
			case d > limit:
				return fmt.Sprintf("%s and %s are %s ms apart, and the limit is %s ms", f.clusters[a].Name, f.clusters[b].Name, price(d), price(limit))
			}
		}
	}
	return ""
}
