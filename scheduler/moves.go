package scheduler

import "fmt"

// permitted gives the set itself, or another one when it would take more clusters away
// than the placement permits: the smallest that meets the target by adding to what has
// to stay, or what runs as it is.
func (o *selection) permitted(set []int, p *Placement) []int {
	if p == nil || p.MaxMoves == 0 && !p.Frozen || len(o.current) == 0 {
		return set
	}
	limit, why := p.MaxMoves, fmt.Sprintf("the placement permits %d at a time", p.MaxMoves)
	if p.Frozen {
		limit, why = 0, "it is outside of the placement's windows"
	}
	moves := o.movesTo(set)
	if moves <= limit {
		return set
	}
	o.held = fmt.Sprintf("a better set would leave %d of the environments, and %s", moves, why)
	running := len(o.current)
	// A part of what runs comes before anything with new clusters.
	for keep := max(running-limit, 1); keep <= running; keep++ {
		if other := o.within(keep, keep, limit); other != nil {
			return other
		}
	}
	for keep := max(running-limit, 1); keep <= running; keep++ {
		for n := keep + 1; n <= o.q.high; n++ {
			if other := o.within(keep, n, limit); other != nil {
				return other
			}
		}
	}
	return leaves(o.current)
}

// within gives n clusters, of which so many are current ones, if they meet the target
// without more moves than the limit; else nil.
func (o *selection) within(keep, n, limit int) []int {
	set := o.greedy(keep, n)
	if set == nil || !o.fits(set) || o.movesTo(set) > limit {
		return nil
	}
	if loss, _ := o.scratch.chances(set, o.q.rule.Need(n)); loss > o.q.permitted {
		return nil
	}
	return set
}

// movesTo counts the clusters that the deployment would leave for a set.
func (o *selection) movesTo(set []int) int {
	in := make(map[int]bool, len(set))
	for _, i := range set {
		in[i] = true
	}
	moves := 0
	for i := range o.current {
		if !in[o.current[i].leaf] {
			moves++
		}
	}
	return moves
}
