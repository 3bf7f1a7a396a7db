package scheduler

import (
	"fmt"

	"oaas.io/control-plane/scheduler/availability"
)

// limitingDomain names the domain that keeps the chosen set from its target, or is
// empty. A set is never up more often than a domain whose loss takes the majority
// away (with the domains around it), so while so many of its votes are in there, no
// better clusters in the same domain help.
func limitingDomain(picked selection, permitted float64) (warning string) {
	t := picked.model.tree
	if t == nil {
		return ""
	}
	n := len(picked.chosen)
	spare := n - availability.Majority(n)
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
	return fmt.Sprintf("%d of %d environments are in %s, which is up %s of the time: without it there is no majority, so no more can be had from there",
		held[limiting], n, t.DomainName(limiting), percent(t.Reach(limiting)))
}
