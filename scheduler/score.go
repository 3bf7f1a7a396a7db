package scheduler

import (
	"slices"
)

// scored is a feasible cluster with what it is worth to the deployment.
type scored struct {
	feasible
	current bool
	// p is the availability to calculate with.
	p       float64
	assumed bool
}

// ranking is the outcome of the score stage: the clusters that a deployment may use
// with the order among them. Only the part that is asked for is worked out, as there
// are many more clusters than a deployment needs.
type ranking struct {
	filtered
	key uint64
	// current are the usable clusters in which the deployment runs, best first.
	current []scored
	runs    map[int]bool
	// spared says that discouraged clusters are not needed.
	spared bool
}

// score ranks the clusters for a deployment.
func (f *filtered) score(spec *Spec, current []string) *ranking {
	out := &ranking{filtered: *f, key: seed(spec.Key), runs: make(map[int]bool, len(current))}
	for _, name := range current {
		i, known := f.fleet.byName[name]
		if !known || out.runs[i] {
			continue
		}
		if one := f.find(i); one != nil {
			out.runs[i] = true
			out.current = append(out.current, out.valued(one))
		}
	}
	out.sort(out.current)
	return out
}

// find gives a usable cluster, or nil.
func (f *filtered) find(i int) *feasible {
	if k := f.position[i]; k >= 0 {
		return &f.passed[k]
	}
	for k := range f.exempt {
		if f.exempt[k].leaf == i {
			return &f.exempt[k]
		}
	}
	return nil
}

func (r *ranking) valued(one *feasible) scored {
	out := scored{feasible: *one, current: r.runs[one.leaf], p: r.fleet.up[one.leaf], assumed: r.fleet.assumed[one.leaf]}
	if out.current && out.suspected {
		// It may be heard again any moment.
		out.discouraged = false
	}
	return out
}

func (r *ranking) sort(all []scored) {
	slices.SortFunc(all, func(a, b scored) int { return r.fleet.compare(&a, &b, r.key) })
}

// others yields the usable clusters in which the deployment does not run, best first.
func (r *ranking) others(yield func(cluster int) bool) {
	f := r.fleet
	for from := 0; from < len(r.passed); {
		to := from + 1
		for to < len(r.passed) && alike(f, &r.passed[from], &r.passed[to]) {
			to++
		}
		for _, i := range r.drawn(r.passed[from:to]) {
			if skip := r.runs[i] || r.spared && r.passed[from].discouraged; !skip && !yield(i) {
				return
			}
		}
		from = to
	}
}

// alike says whether only the lot decides between two clusters.
func alike(f *Fleet, a, b *feasible) bool {
	return f.up[a.leaf] == f.up[b.leaf] && a.preference == b.preference && a.discouraged == b.discouraged
}

// drawn orders equal clusters by their tickets.
func (r *ranking) drawn(equal []feasible) []int {
	out := make([]int, len(equal))
	for i := range equal {
		out[i] = equal[i].leaf
	}
	if len(out) > 1 {
		slices.SortFunc(out, r.byTicket)
	}
	return out
}

func (r *ranking) byTicket(a, b int) int {
	ta, tb := r.fleet.ticket(r.key, a), r.fleet.ticket(r.key, b)
	switch {
	case ta < tb:
		return -1
	case ta > tb:
		return 1
	default:
		return a - b
	}
}

// above counts the usable clusters that are up more often than p.
func (f *filtered) above(p float64) int {
	n, _ := slices.BinarySearchFunc(f.passed, p, func(one feasible, p float64) int {
		if f.fleet.up[one.leaf] > p {
			return -1
		}
		return 1
	})
	for i := range f.exempt {
		if f.fleet.up[f.exempt[i].leaf] > p {
			n++
		}
	}
	return n
}
