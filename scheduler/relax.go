package scheduler

import (
	"cmp"
	"fmt"
	"slices"

	"oaas.io/control-plane/scheduler/solver"
)

// relaxable are the reasons for a rejection that somebody can do away with, with what
// has to be done. In the order in which they are told.
var relaxable = []struct {
	code Code
	what string
}{
	{CodeCordoned, "uncordon "},
	{CodeTaintNotTolerated, "tolerate the taints of "},
	{CodeNotInAvailableEnvs, "add to the available environments: "},
	{CodeNotAllowed, "allow in the placement: "},
	{CodeDenied, "do not deny in the placement: "},
	{CodeLabelMismatch, "change the labels, or what the placement asks of them, of "},
	{CodeExpressionFalse, "change the expression of the placement to let in "},
	{CodeCapabilityMissing, "do not require what is missing in "},
	{CodeTooExpensive, "raise the cost limit of the placement to let in "},
	{CodeQuotaExceeded, "raise the limit of units of "},
	{CodeOutOfCapacity, "make room in "},
	{CodeTooNear, "do not keep apart from what runs beside "},
	{CodeClusterDegraded, "bring back "},
	{CodeClusterUnreachable, "bring back "},
}

// relaxationBudget bounds the search for one relaxation: it is an aside.
const relaxationBudget = 5_000

// relaxed is what the relaxations of a pool depend on.
type relaxed struct {
	question
	limit  int
	strong bool
}

// admissions are the single changes of the filters with which the target could be met:
// for each reason the clusters that are rejected for nothing else, and of them those
// that would be needed.
func (p *pool) admissions(spec *Spec, q question) ([]Relaxation, error) {
	return p.relaxations.get(relaxed{q, spec.limit(), spec.Strong}, func() ([]Relaxation, error) {
		by := p.rejectedByOne()
		out, err := p.farther(q)
		if err != nil {
			return nil, err
		}
		for _, r := range relaxable {
			found, err := p.admitted(spec, q, by[r.code])
			if err != nil {
				return nil, err
			}
			if len(found.names) > 0 {
				out = append(out, Relaxation{
					Code: CodeAdmitClusters, Value: float64(len(found.names)), Message: r.what + list(found.names), Reason: r.code, Clusters: found.names,
				})
			}
		}
		return out, nil
	})
}

// farther is the latency with which the target would be met; nothing when there is no
// limit, or it does not stand in the way.
func (p *pool) farther(q question) ([]Relaxation, error) {
	if p.nearness == nil {
		return nil, nil
	}
	candidates := make([]solver.Candidate, len(p.passed))
	for i := range p.passed {
		candidates[i] = p.candidate(&p.passed[i], q)
	}
	found, err := p.askWithin(q, candidates, nil, relaxationBudget)
	if err != nil || !found.met {
		return nil, err
	}
	set := make([]int, len(found.set))
	names := make([]string, len(found.set))
	for k, i := range found.set {
		set[k] = candidates[i].Leaf
		names[k] = p.fleet.clusters[set[k]].Name
	}
	slices.Sort(names)
	ms, known := p.fleet.farthest(set)
	if !known || ms <= p.nearness.limit {
		return nil, nil // nobody said how far they are apart
	}
	return []Relaxation{{Code: CodeRaiseLatency, Value: ms, Clusters: names,
		Message: "let environments be " + price(ms) + " ms apart: " + list(names)}}, nil
}

// binding are the filters without one of which a better set than best would meet the
// target: fewer clusters, or cheaper ones.
func (p *pool) binding(spec *Spec, q question, best *choice) ([]Binding, error) {
	if !best.met || !q.priced && len(best.set) <= q.low {
		return nil, nil
	}
	return p.bindings.get(relaxed{q, spec.limit(), spec.Strong}, func() ([]Binding, error) {
		have := p.value(q, best.set)
		by := p.rejectedByOne()
		var out []Binding
		for _, r := range relaxable {
			more := slices.DeleteFunc(by[r.code], func(i int) bool { return q.priced && p.fleet.clusters[i].Cost == nil })
			found, err := p.admitted(spec, q, more)
			if err != nil {
				return nil, err
			}
			if len(found.names) == 0 || found.value >= have*(1-1e-9) {
				continue
			}
			what := fmt.Sprintf("%.0f instead of %.0f environments would do", found.value, have)
			if q.priced {
				what = fmt.Sprintf("environments for %.4g instead of %.4g in 30 days would do", found.value, have)
			}
			out = append(out, Binding{
				Code: r.code, Clusters: found.names, Value: found.value, Instead: have, Message: r.what + list(found.names) + ": " + what,
			})
		}
		return out, nil
	})
}

// value is what a set costs: its prices, or its size without prices.
func (p *pool) value(q question, set []int) float64 {
	if !q.priced {
		return float64(len(set))
	}
	sum := 0.0
	for _, i := range set {
		sum += p.price(&p.fleet.clusters[i])
	}
	return sum
}

// mostAdmitted bounds the clusters of one reason that are tried, by each of the two
// things that make one better: there may be very many.
const mostAdmitted = 64

// rejectedByOne gives the clusters that are rejected for a single reason, by that: the
// most available and the cheapest ones of each.
func (p *pool) rejectedByOne() map[Code][]int {
	by := map[Code][]int{}
	for i := range p.rejected {
		c := &p.rejected[i]
		if leaf, known := p.fleet.byName[c.Cluster]; known && len(c.Findings) == 1 {
			by[c.Code] = append(by[c.Code], leaf)
		}
	}
	for code, all := range by {
		if len(all) <= mostAdmitted {
			continue
		}
		cheapest := slices.Clone(all)
		slices.SortStableFunc(cheapest, func(a, b int) int {
			return cmp.Compare(p.price(&p.fleet.clusters[a]), p.price(&p.fleet.clusters[b]))
		})
		slices.SortStableFunc(all, func(a, b int) int { return cmp.Compare(p.fleet.up[b], p.fleet.up[a]) })
		best := append(all[:mostAdmitted:mostAdmitted], cheapest[:mostAdmitted]...)
		slices.Sort(best)
		by[code] = slices.Compact(best)
	}
	return by
}

// admission is a set that would meet the target with more clusters: those of them that
// it needs, and its value.
type admission struct {
	names []string
	value float64
}

// admitted finds those of more clusters with which the target would be met; none when
// it would not.
func (p *pool) admitted(spec *Spec, q question, more []int) (admission, error) {
	if len(more) == 0 {
		return admission{}, nil
	}
	var candidates []solver.Candidate
	// Of equal sets the one with the fewest of the others is wanted.
	for i := range p.passed {
		one := p.candidate(&p.passed[i], q)
		one.Current = true
		candidates = append(candidates, one)
	}
	for _, leaf := range more {
		candidates = append(candidates, p.candidate(&feasible{leaf: leaf, cluster: &p.fleet.clusters[leaf]}, q))
	}
	found, err := p.askWithin(spec.asked(len(candidates), q.priced), candidates, p.nearness, relaxationBudget)
	if err != nil || !found.met {
		return admission{}, err
	}
	var out admission
	var set []int
	for _, i := range found.set {
		set = append(set, candidates[i].Leaf)
		if i >= len(p.passed) {
			out.names = append(out.names, p.fleet.clusters[candidates[i].Leaf].Name)
		}
	}
	slices.Sort(out.names)
	out.value = p.value(q, set)
	return out, nil
}
