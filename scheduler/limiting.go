package scheduler

import (
	"fmt"

	"oaas.io/control-plane/scheduler/solver"
)

// limitingDomain names the domain that keeps the chosen set from its target, or is
// empty. A set is never up more often than a domain whose loss takes the majority
// away (with the domains around it), so while so many of its votes are in there, no
// better clusters in the same domain help.
func limitingDomain(picked *selection, permitted float64) (warning string) {
	t := picked.fleet.tree
	n := len(picked.chosen)
	spare := n - picked.q.rule.Need(n)
	held := map[int]int{}
	for i := range picked.chosen {
		for d := t.DomainOf(picked.chosen[i].leaf); d >= 0; d = t.Parent(d) {
			held[d]++
		}
	}
	limiting := -1
	// In the order of the tree, so that equal input gives an equal answer.
	for d := range t.Domains() {
		if held[d] > spare && 1-t.Reach(d) > permitted && (limiting < 0 || t.Reach(d) < t.Reach(limiting)) {
			limiting = d
		}
	}
	if limiting < 0 {
		return ""
	}
	if picked.q.rule == solver.Any {
		return fmt.Sprintf("all %d environments are in %s, which is up %s of the time, so no more can be had from there",
			n, t.DomainName(limiting), percent(t.Reach(limiting)))
	}
	return fmt.Sprintf("%d of %d environments are in %s, which is up %s of the time: without it there is no majority, so no more can be had from there",
		held[limiting], n, t.DomainName(limiting), percent(t.Reach(limiting)))
}

// sharedWith gives the innermost domain that the cluster would have in common with
// one of the chosen, and that one; empty when there is none.
func (o *selection) sharedWith(s *scored) (domain, with string) {
	t := o.fleet.tree
	for d := t.DomainOf(s.leaf); d >= 0; d = t.Parent(d) {
		for i := range o.chosen {
			for e := t.DomainOf(o.chosen[i].leaf); e >= 0; e = t.Parent(e) {
				if d == e {
					return t.DomainName(d), o.chosen[i].cluster.Name
				}
			}
		}
	}
	return "", ""
}
