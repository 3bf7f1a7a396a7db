package scheduler

import (
	"oaas.io/control-plane/scheduler/availability"
)

// slack absorbs the rounding of decimal input when a loss is compared with the
// permitted one: 0.9 three times gives a majority of 0.972, and asking for
// 0.972 must not fail on the last bit. It is 30 microseconds in a thousand
// years.
const slack = 1e-15

// selection is the chosen set.
type selection struct {
	model *model
	// chosen clusters, best first.
	chosen []scored
	// left over clusters, best first.
	left []scored
	// achieved and loss are complements, each exact in its small digits.
	achieved float64
	loss     float64
	met      bool
	// met by moving less than the best set would.
	sticky bool
	// limited is true when the limit on the number ended the search.
	limited bool
	// unproven is true when the search for a better set was given up.
	unproven bool
}

// bounds of the number of clusters; both odd.
type bounds struct {
	low, high int
}

// sizes applies the deployment's wishes to the number of feasible clusters.
func sizes(feasible int, spec Spec) bounds {
	high := min(spec.limit(), feasible)
	if high%2 == 0 {
		high--
	}
	low := 1
	if spec.Strong && high >= StrongMinimum {
		low = StrongMinimum
	}
	return bounds{low: low, high: high}
}

// choose takes the fewest clusters that meet the target, or the best set there
// is when none does. ranked is not empty.
//
// The model has to be one of independent clusters. With them and equal votes the n best are the best set of size
// n, and each of these sets contains the one before, so their distributions are
// extended instead of computed anew.
func (m *model) choose(ranked []scored, target float64, b bounds) selection {
	permitted := permittedLoss(target)
	d := availability.NewDistribution(b.high)
	best, bestLoss := 0, 0.0
	for n := 1; n <= b.high; n++ {
		d.Add(ranked[n-1].p)
		if n < b.low || n%2 == 0 {
			continue
		}
		loss := d.Loss(availability.Majority(n))
		if loss <= permitted {
			return m.keepCurrent(ranked, n, permitted)
		}
		if best == 0 || loss < bestLoss-slack {
			best, bestLoss = n, loss
		}
	}
	out := m.evaluate(ranked[:best], permitted)
	out.left = ranked[best:]
	out.limited = best == b.high && b.high+1 < len(ranked)
	return out
}

// keepCurrent is the set of size n that meets the target and moves the
// deployment the least; the best n meet it, so there is one. For a given number
// of kept clusters the best of those and the best of the others are optimal.
func (m *model) keepCurrent(ranked []scored, n int, permitted float64) selection {
	running := 0
	for i := range ranked {
		if ranked[i].current {
			running++
		}
	}
	top := 0
	for i := range ranked[:n] {
		if ranked[i].current {
			top++
		}
	}
	for keep := min(n, running); keep > top; keep-- {
		chosen, left := split(ranked, keep, n-keep)
		if len(chosen) < n {
			continue
		}
		if out := m.evaluate(chosen, permitted); out.met {
			out.left, out.sticky = left, true
			return out
		}
	}
	out := m.evaluate(ranked[:n], permitted)
	out.left = ranked[n:]
	return out
}

// split takes the best of the current and of the other clusters and keeps the
// ranked order in both parts.
func split(ranked []scored, current, others int) (chosen, left []scored) {
	for _, s := range ranked {
		budget := &others
		if s.current {
			budget = &current
		}
		if *budget > 0 {
			*budget--
			chosen = append(chosen, s)
		} else {
			left = append(left, s)
		}
	}
	return chosen, left
}

func permittedLoss(target float64) float64 {
	return 1 - target + slack
}
