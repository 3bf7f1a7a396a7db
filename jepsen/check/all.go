package check

import (
	"time"

	"oaas.io/control-plane/jepsen/history"
)

// Options of All. The zero value is usable.
type Options struct {
	Linearizable LinearizableOptions
	// StaleSlack is that of Sessions; 0 is its default.
	StaleSlack time.Duration
	// Nodes that must be ready again after faults; none skips Convergence.
	Nodes []string
	// ConvergeWithin and RecoverWithin bound the two; defaults 60 s and 30 s.
	ConvergeWithin, RecoverWithin time.Duration
	// Recover matches the faults of Recovery; nil is all that hit the leader.
	Recover func(history.Event) bool
	// Growth bounds, of what was used by the time RestBefore and from RestAfter on; it is
	// skipped while RestAfter is 0.
	Growth                GrowthBounds
	RestBefore, RestAfter time.Duration
}

// Result is all that is found of a run.
type Result struct {
	Verdicts []Verdict `json:"verdicts"`
	// Converged and Recovered are the times that those verdicts are about.
	Converged Lapses `json:"converged,omitempty"`
	Recovered Lapses `json:"recovered,omitempty"`
}

// OK says that every verdict is.
func (r *Result) OK() bool {
	for i := range r.Verdicts {
		if !r.Verdicts[i].OK {
			return false
		}
	}
	return true
}

// All judges a whole run.
func All(h history.History, final *history.Final, o Options) *Result {
	if o.ConvergeWithin == 0 {
		o.ConvergeWithin = time.Minute
	}
	if o.RecoverWithin == 0 {
		o.RecoverWithin = 30 * time.Second
	}
	if o.Recover == nil {
		o.Recover = HitsLeader(h, "")
	}
	r := &Result{Verdicts: []Verdict{
		Linearizable(h, o.Linearizable), LogOrder(h, final), Set(h, final), Streams(h), OneEffect(h, final), Sessions(h, o.StaleSlack),
		Runtimes(desiredUnits(final), final.Clusters), Fences(final.Fenced), Promises(h, final), Leaders(h), Replicas(final), Answers(h),
	}}
	var v Verdict
	if len(o.Nodes) > 0 {
		v, r.Converged = Convergence(h, o.Nodes, o.ConvergeWithin)
		r.Verdicts = append(r.Verdicts, v)
	}
	v, r.Recovered = Recovery(h, o.RecoverWithin, o.Recover)
	r.Verdicts = append(r.Verdicts, v)
	if o.RestAfter > 0 {
		r.Verdicts = append(r.Verdicts, growthOf(h, o))
	}
	return r
}

func growthOf(h history.History, o Options) Verdict {
	if o.Growth == (GrowthBounds{}) {
		o.Growth = DefaultGrowth()
	}
	before, err := AtRest(h, 0, o.RestBefore)
	if err != nil {
		return broken("growth", err)
	}
	after, err := AtRest(h, o.RestAfter, endOf(h))
	if err != nil {
		return broken("growth", err)
	}
	return Growth(before, after, o.Growth)
}

// desiredUnits are those of the node with the newest state.
func desiredUnits(final *history.Final) []history.Unit {
	var newest history.NodeState
	for _, s := range final.Nodes {
		if s.Error == "" && s.Index >= newest.Index {
			newest = s
		}
	}
	return newest.Units
}
