package scheduler

// What is tried in the place of each chosen cluster: some of the best that are left, in
// sets that are quickly evaluated. Plans of very many deployments do so as well.
const (
	mostSpare    = 3
	mostReplaced = 9
)

// spare are the best usable clusters that were not chosen.
func (o *selection) spare(mode Mode) []scored {
	if mode == Explicit || len(o.chosen) > mostReplaced {
		return nil
	}
	var out []scored
	for s := range o.left {
		if out = append(out, s); len(out) == mostSpare {
			break
		}
	}
	return out
}

// replacement is the best of the spare clusters in the place of a chosen one: that with
// which the set is the most available, and the first of equals.
func (o *selection) replacement(i int, spare []scored) *Replacement {
	var best *Replacement
	set := leaves(o.chosen)
	lowest := 0.0
	for k := range spare {
		set[i] = spare[k].leaf
		if !o.spread(set) {
			continue
		}
		loss, up := o.scratch.chances(set, o.q.rule.Need(len(set)))
		if best != nil && loss >= lowest {
			continue
		}
		lowest = loss
		best = &Replacement{Cluster: spare[k].cluster.Name, Achieved: up, TargetMet: loss <= o.q.permitted}
		if have, want := o.chosen[i].cluster.Cost, spare[k].cluster.Cost; have != nil && want != nil {
			change := *want - *have
			best.CostChange = &change
		}
	}
	return best
}
