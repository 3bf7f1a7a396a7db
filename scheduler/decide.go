package scheduler

import (
	"slices"

	"oaas.io/control-plane/scheduler/availability"
)

// Decide plans a deployment on a snapshot of the fleet.
//
// When no permitted set of clusters meets the target, the plan has the best set
// there is, TargetMet is false, and [Plan.Unreachable] is the error for callers
// that would rather refuse.
//
// Errors: *InvalidInputError, *UnknownClustersError, *NoCandidatesError.
func Decide(snap Snapshot, spec Spec) (*Plan, error) {
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	if err := snap.Validate(); err != nil {
		return nil, err
	}
	if len(spec.TargetEnvs) > 0 {
		return decideExplicit(snap, spec)
	}
	return decideAutomatic(snap, spec)
}

func decideExplicit(snap Snapshot, spec Spec) (*Plan, error) {
	pool, err := filterExplicit(snap, spec)
	if err != nil {
		return nil, err
	}
	target, _ := spec.target()
	named := score(pool.passed, spec)
	m, err := newModel(named)
	if err != nil {
		return nil, err
	}
	return assign(snap, spec, Explicit, pool, m.evaluate(named, permittedLoss(target))), nil
}

func decideAutomatic(snap Snapshot, spec Spec) (*Plan, error) {
	pool := filterAutomatic(snap, spec)
	if len(pool.passed) == 0 {
		return nil, pool.noCandidates()
	}
	target, _ := spec.target()
	ranked := score(pool.passed, spec)
	rank(ranked)
	m, err := newModel(ranked)
	if err != nil {
		return nil, err
	}
	b := sizes(len(ranked), spec)
	if m.tree == nil {
		return assign(snap, spec, Automatic, pool, m.choose(ranked, target, b)), nil
	}
	picked, err := m.solve(ranked, target, b)
	if err != nil {
		return nil, err
	}
	return assign(snap, spec, Automatic, pool, picked), nil
}

// secondsIn30Days turns a loss into an expected downtime.
const secondsIn30Days = 30 * 24 * 60 * 60

// assign makes the plan out of the chosen set.
func assign(snap Snapshot, spec Spec, mode Mode, pool filtered, picked selection) *Plan {
	target, declared := spec.target()
	p := &Plan{
		Mode:               mode,
		Target:             target,
		TargetDeclared:     declared,
		Achieved:           picked.achieved,
		Loss:               picked.loss,
		TargetMet:          picked.met,
		IfIndependent:      (&model{}).evaluate(picked.chosen, 0).achieved,
		DowntimeSeconds30d: picked.loss * secondsIn30Days,
		Quorum:             availability.Majority(len(picked.chosen)),
	}
	for i := range picked.chosen {
		p.Clusters = append(p.Clusters, picked.chosen[i].cluster.Name)
	}
	p.Changes = changes(snap.Current, p.Clusters)
	p.Explanation = explain(spec, mode, pool, picked)
	p.Summary = summarize(p)
	return p
}

// changes compares two sets of clusters. The lists are never nil, so that their
// JSON form is an array.
func changes(from, to []string) Changes {
	before, after := set(from), set(to)
	out := Changes{Keep: []string{}, Add: []string{}, Remove: []string{}}
	for name := range after {
		if before[name] {
			out.Keep = append(out.Keep, name)
		} else {
			out.Add = append(out.Add, name)
		}
	}
	for name := range before {
		if !after[name] {
			out.Remove = append(out.Remove, name)
		}
	}
	slices.Sort(out.Keep)
	slices.Sort(out.Add)
	slices.Sort(out.Remove)
	return out
}
