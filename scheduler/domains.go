package scheduler

import (
	"cmp"
	"fmt"
	"slices"

	"oaas.io/control-plane/scheduler/availability"
	"oaas.io/control-plane/scheduler/solver"
)

// model is how the clusters in question fail together.
type model struct {
	// tree has the clusters as leaves, by the leaf of a scored cluster. It is nil when
	// no cluster says where it is: then nothing tells which of them could fail
	// together, and they are taken for independent.
	tree *availability.Tree
	e    *availability.Evaluator
}

// newModel places the clusters by their regions and zones, and numbers them.
func newModel(all []scored) (*model, error) {
	m := &model{}
	placed := slices.ContainsFunc(all, func(s scored) bool { return s.cluster.Region != "" || s.cluster.Zone != "" })
	if !placed {
		return m, nil
	}
	places := make([]availability.Place, len(all))
	for i := range all {
		c := all[i].cluster
		places[i] = availability.Place{Name: c.Name, Up: all[i].p, Region: c.Region, Zone: c.Zone}
		all[i].leaf = i
		if c.Region == "" {
			all[i].findings = append(slices.Clone(all[i].findings), Finding{CodeDomainUnknown,
				c.Name + ": says no region, and counts as together with all others that do not"})
		}
	}
	var err error
	if m.tree, err = availability.Infer(places, availability.DefaultShares(), nil); err != nil {
		return nil, &InvalidInputError{Field: "clusters", Problem: err.Error()}
	}
	m.e = m.tree.Evaluator()
	return m, nil
}

// evaluate computes what a set of clusters achieves.
func (m *model) evaluate(chosen []scored, permitted float64) selection {
	q := availability.Majority(len(chosen))
	out := selection{model: m, chosen: chosen}
	if m.tree == nil {
		d := availability.NewDistribution(len(chosen))
		for i := range chosen {
			d.Add(chosen[i].p)
		}
		out.loss, out.achieved = d.Loss(q), d.AtLeast(q)
	} else {
		votes := votesOf(chosen)
		out.loss, out.achieved = m.e.Loss(votes, q), m.e.AtLeast(votes, q)
	}
	out.met = out.loss <= permitted
	return out
}

func votesOf(chosen []scored) []availability.Vote {
	votes := make([]availability.Vote, len(chosen))
	for i := range chosen {
		votes[i] = availability.Vote{Leaf: chosen[i].leaf, Weight: 1}
	}
	return votes
}

// solve chooses where clusters share domains: the best by themselves may be the worst
// together.
func (m *model) solve(ranked []scored, target float64, b bounds) (selection, error) {
	p := solver.Problem{Tree: m.tree, Permitted: min(permittedLoss(target), 1), Rule: solver.Majority, Least: b.low, Most: max(b.high, b.low)}
	for i := range ranked {
		p.Candidates = append(p.Candidates, solver.Candidate{Leaf: ranked[i].leaf, Current: ranked[i].current})
	}
	found, err := solver.Solve(p)
	if err != nil {
		return selection{}, fmt.Errorf("scheduler: %w", err)
	}
	in := make(map[int]bool, len(found.Chosen))
	for _, i := range found.Chosen {
		in[i] = true
	}
	var chosen, left []scored
	top := 0
	for i := range ranked {
		if in[i] {
			chosen = append(chosen, ranked[i])
		} else {
			left = append(left, ranked[i])
		}
		if i < len(in) && ranked[i].current {
			top++
		}
	}
	out := m.evaluate(chosen, permittedLoss(target))
	out.left, out.sticky, out.unproven = left, found.Kept > top, !found.Proven
	out.limited = !out.met && len(chosen) == b.high && b.high+1 < len(ranked)
	return out, nil
}

// sharedWith gives the innermost domain that the cluster would have in common with
// one of the chosen, and that one; empty when there is none.
func (m *model) sharedWith(s *scored, chosen []scored) (domain, with string) {
	if m.tree == nil {
		return "", ""
	}
	for d := m.tree.DomainOf(s.leaf); d >= 0; d = m.tree.Parent(d) {
		for i := range chosen {
			for e := m.tree.DomainOf(chosen[i].leaf); e >= 0; e = m.tree.Parent(e) {
				if d == e {
					return m.tree.DomainName(d), chosen[i].cluster.Name
				}
			}
		}
	}
	return "", ""
}

// crowded says whether the cluster is up more often than one of the chosen, and was
// left because it would fail together with another one.
func (m *model) crowded(s *scored, chosen []scored) bool {
	if m.tree == nil || len(chosen) == 0 {
		return false
	}
	worst := slices.MinFunc(chosen, func(a, b scored) int { return cmp.Compare(a.p, b.p) })
	return s.p > worst.p
}
