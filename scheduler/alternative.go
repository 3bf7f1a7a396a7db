package scheduler

import "fmt"

// Alternative is a set that meets the target as well and would be better, if the
// deployment did not run elsewhere.
type Alternative struct {
	Clusters []string `json:"clusters"`
	// Cost of it for 30 days, and Saving, the part of what the plan costs that it
	// would save. Without prices every cluster costs 1.
	Cost   float64 `json:"cost"`
	Saving float64 `json:"saving"`
	// Moves is the number of clusters that the deployment would leave.
	Moves int `json:"moves"`
	// Disruption is the part of its clusters that it would leave.
	Disruption float64 `json:"disruption"`
	Message    string  `json:"message"`
}

// What a better set has to save so that moving is worth while: a part of the cost, and
// as much of it per part of the deployment that moves. The first is CockroachDB's
// margin for rebalancing, the second Karpenter's balance of savings and disruption.
const (
	leastSaving    = 0.05
	savingPerMoved = 0.5
)

func (a *Alternative) worthwhile() bool {
	return a.Saving >= leastSaving && a.Saving >= savingPerMoved*a.Disruption
}

// alternative compares a set with the one that is kept; nil when it saves nothing.
func (o *selection) alternative(kept, set []int) *Alternative {
	have, want := o.value(o.q, kept), o.value(o.q, set)
	if want >= have {
		return nil
	}
	a := &Alternative{Cost: want, Saving: 1 - want/have}
	in := make(map[int]bool, len(set))
	all := make([]scored, 0, len(set))
	for _, i := range set {
		in[i] = true
		all = append(all, o.valued(o.find(i)))
	}
	o.sort(all)
	for i := range all {
		a.Clusters = append(a.Clusters, all[i].cluster.Name)
	}
	for _, i := range kept {
		if !in[i] {
			a.Moves++
		}
	}
	a.Disruption = float64(a.Moves) / float64(len(kept))
	a.Message = o.describeAlternative(a, have)
	return a
}

func (o *selection) describeAlternative(a *Alternative, have float64) string {
	what := fmt.Sprintf("%d environments instead of %.0f", len(a.Clusters), have)
	if o.q.priced {
		what = fmt.Sprintf("%.4g instead of %.4g in 30 days", a.Cost, have)
	}
	return fmt.Sprintf("%s would do with %s (%.0f %% less), but %d of the environments would have to be left for it",
		list(a.Clusters), what, a.Saving*100, a.Moves)
}
