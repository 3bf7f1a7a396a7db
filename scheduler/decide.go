package scheduler

import (
	"slices"

	"oaas.io/control-plane/scheduler/availability"
)

// Decide plans a deployment on a snapshot of the fleet. Who plans many deployments on
// the same clusters calls [Prepare] once instead.
func Decide(snap Snapshot, spec Spec) (*Plan, error) {
	fleet, err := Prepare(snap.Clusters, snap.Domains)
	if err != nil {
		return nil, err
	}
	return fleet.Decide(spec, snap.Current)
}

// Decide plans a deployment that runs in the clusters of current, in any order.
//
// When no permitted set of clusters meets the target, the plan has the best set
// there is, TargetMet is false, and [Plan.Unreachable] is the error for callers
// that would rather refuse.
//
// Errors: *InvalidInputError, *UnknownClustersError, *NoCandidatesError,
// *UnsatisfiableError.
func (f *Fleet) Decide(spec Spec, current []string) (*Plan, error) {
	if err := spec.wellFormed(); err != nil {
		return nil, err
	}
	s := f.scratch.Get().(*scratch)
	defer f.scratch.Put(s)
	if len(spec.TargetEnvs) > 0 {
		return f.decideExplicit(&spec, current, s)
	}
	return f.decideAutomatic(&spec, current, s)
}

func (f *Fleet) decideExplicit(spec *Spec, current []string, s *scratch) (*Plan, error) {
	named, err := f.named(spec)
	if err != nil {
		return nil, err
	}
	in := set(current)
	r := &ranking{filtered: f.filterExplicit(named), key: seed(spec.Key), runs: map[int]bool{}}
	picked := &selection{ranking: r, q: spec.asked(len(named), false), scratch: s}
	for i := range named {
		if in[named[i].cluster.Name] {
			r.runs[named[i].leaf] = true
		}
		picked.chosen = append(picked.chosen, r.valued(&named[i]))
	}
	picked.loss, picked.achieved = s.chances(leaves(picked.chosen), picked.q.rule.Need(len(named)))
	picked.met = picked.loss <= picked.q.permitted
	return assign(spec, Explicit, current, picked)
}

func (f *Fleet) decideAutomatic(spec *Spec, current []string, s *scratch) (*Plan, error) {
	pool, err := f.filterAutomatic(spec, current)
	if err != nil {
		return nil, err
	}
	if pool.usable() == 0 {
		return nil, pool.noCandidates()
	}
	picked, err := pool.score(spec, current).choose(spec, s)
	if err != nil {
		return nil, err
	}
	if !picked.met {
		if picked.admissions, err = pool.admissions(spec, picked.q); err != nil {
			return nil, err
		}
	}
	return assign(spec, Automatic, current, picked)
}

// secondsIn30Days turns a loss into an expected downtime.
const secondsIn30Days = 30 * 24 * 60 * 60

// assign makes the plan out of the chosen set.
func assign(spec *Spec, mode Mode, current []string, picked *selection) (*Plan, error) {
	target, declared := spec.target()
	p := &Plan{
		Mode:               mode,
		Kind:               spec.Kind,
		Target:             target,
		TargetDeclared:     declared,
		Achieved:           picked.achieved,
		Loss:               picked.loss,
		TargetMet:          picked.met,
		IfIndependent:      ifIndependent(picked.chosen),
		DowntimeSeconds30d: picked.loss * secondsIn30Days,
		Quorum:             picked.q.rule.Need(len(picked.chosen)),
		Cost:               costOf(picked.chosen),
		Alternative:        picked.passedOver,
	}
	for i := range picked.chosen {
		p.Clusters = append(p.Clusters, picked.chosen[i].cluster.Name)
	}
	if ms, known := picked.fleet.farthest(leaves(picked.chosen)); known && picked.fleet.measuresLatency {
		p.LatencyMS = &ms
	}
	var err error
	if p.Assignments, p.Voters, err = picked.assignments(spec); err != nil {
		return nil, err
	}
	if loss, up, ok := picked.objects(spec, p.Assignments, p.Voters); ok {
		p.Loss, p.Achieved, p.DowntimeSeconds30d = loss, up, loss*secondsIn30Days
		p.TargetMet = loss <= picked.q.permitted
	}
	p.Changes = changes(current, p.Clusters)
	p.Steps = picked.steps(p.Changes)
	p.Explanation = explain(spec, mode, picked, p)
	p.Summary = summarize(p)
	return p, nil
}

// ifIndependent is the availability of a majority of the clusters if no two shared a
// domain, whatever the kind of deployment: the contract's number.
func ifIndependent(chosen []scored) float64 {
	d := availability.NewDistribution(len(chosen))
	for i := range chosen {
		d.Add(chosen[i].p)
	}
	return d.AtLeast(availability.Majority(len(chosen)))
}

// costOf sums up the prices for 30 days; nil unless all are known.
func costOf(chosen []scored) *float64 {
	sum := 0.0
	for i := range chosen {
		c := chosen[i].cluster.Cost
		if c == nil {
			return nil
		}
		sum += *c
	}
	return &sum
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
