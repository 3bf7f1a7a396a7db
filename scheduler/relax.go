package scheduler

import (
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
		by := map[Code][]int{}
		for i := range p.rejected {
			c := &p.rejected[i]
			if leaf, known := p.fleet.byName[c.Cluster]; known && len(c.Findings) == 1 {
				by[c.Code] = append(by[c.Code], leaf)
			}
		}
		var out []Relaxation
		for _, r := range relaxable {
			names, err := p.admitted(spec, q, by[r.code])
			if err != nil {
				return nil, err
			}
			if len(names) > 0 {
				out = append(out, Relaxation{
					Code: CodeAdmitClusters, Value: float64(len(names)), Message: r.what + list(names), Reason: r.code, Clusters: names,
				})
			}
		}
		return out, nil
	})
}

// admitted names those of more clusters with which the target would be met; none when
// it would not.
func (p *pool) admitted(spec *Spec, q question, more []int) ([]string, error) {
	if len(more) == 0 {
		return nil, nil
	}
	var candidates []solver.Candidate
	// Of equal sets the one with the fewest of the others is wanted.
	for i := range p.passed {
		candidates = append(candidates, solver.Candidate{Leaf: p.passed[i].leaf, Current: true})
	}
	for _, leaf := range more {
		candidates = append(candidates, solver.Candidate{Leaf: leaf})
	}
	problem := p.problem(spec.asked(len(candidates), q.priced), candidates)
	problem.Budget = relaxationBudget
	found, err := solver.Solve(problem)
	if err != nil || !found.Met {
		return nil, err
	}
	var names []string
	for _, i := range found.Chosen {
		if i >= len(p.passed) {
			names = append(names, p.fleet.clusters[candidates[i].Leaf].Name)
		}
	}
	slices.Sort(names)
	return names, nil
}
