package scheduler

import (
	"fmt"
	"slices"
	"strings"

	"oaas.io/control-plane/scheduler/solver"
)

// slack absorbs the rounding of decimal input when a loss is compared with the
// permitted one: 0.9 three times gives a majority of 0.972, and asking for
// 0.972 must not fail on the last bit. It is 30 microseconds in a thousand
// years.
const slack = 1e-15

func permittedLoss(target float64) float64 {
	return 1 - target + slack
}

// question is what the select stage is asked, apart from where the deployment runs.
type question struct {
	permitted float64
	rule      solver.Rule
	low, high int
	priced    bool
}

// asked makes the question of a deployment that may use so many clusters; priced says
// that the cheapest set is the best.
func (s *Spec) asked(usable int, priced bool) question {
	target, _ := s.target()
	q := question{
		permitted: min(permittedLoss(target), 1), rule: s.Kind.rule(), low: 1, high: min(s.limit(), usable),
		priced: priced,
	}
	if q.rule == solver.Majority && q.high%2 == 0 {
		q.high--
	}
	if s.Strong && q.high >= StrongMinimum {
		q.low = StrongMinimum
	}
	return q
}

// choice is the best set wherever a deployment runs.
type choice struct {
	// set has the clusters, in the order of the pool.
	set    []int
	met    bool
	proven bool
	loss   float64
	// spared says that no discouraged cluster was needed.
	spared bool
}

// selection is the outcome of the select stage.
type selection struct {
	*ranking
	q question
	// chosen clusters, best first.
	chosen []scored
	// achieved and loss are complements, each exact in its small digits.
	achieved float64
	loss     float64
	met      bool
	// sticky says that the set was chosen because the deployment runs there.
	sticky bool
	// limited is true when the limit on the number ended the search.
	limited bool
	// unproven is true when the search for a better set was given up.
	unproven bool
	// admissions are changes of the filters that would meet the target; only when it is
	// not met.
	admissions []Relaxation
	// binding are the filters that stand in the way of a better set.
	binding []Binding
	// passedOver is the better set that was left in order not to move; nil when there
	// is none.
	passedOver *Alternative
	// held says why what would be planned is not, when the placement does not permit so
	// many moves; empty else.
	held string
	// scratch is for what the later stages calculate.
	scratch *scratch
}

// choose selects the clusters of a deployment that names none. In this order: where
// it runs, if that does; as much of it as possible, and the best others; the best set.
func (r *ranking) choose(spec *Spec, s *scratch) (*selection, error) {
	out := &selection{ranking: r, q: spec.asked(r.usable(), r.priced(spec.Prefer, r.exempt)), scratch: s}
	var best *choice
	var err error
	if len(r.passed) > 0 {
		q := spec.asked(len(r.passed), r.priced(spec.Prefer, nil))
		if best, err = r.best(q); err != nil {
			return nil, err
		}
		if out.binding, err = r.binding(spec, q, best); err != nil {
			return nil, err
		}
		if len(best.set) == 0 && len(r.exempt) == 0 {
			return nil, r.impossible(out.q.high)
		}
	}
	kept, err := out.keep(best)
	if err != nil {
		return nil, err
	}
	if kept == nil {
		set, err := out.place(best)
		if err != nil {
			return nil, err
		}
		if len(set) == 0 {
			return nil, r.impossible(out.q.high)
		}
		return out.settle(out.permitted(set, spec.Placement)), nil
	}
	return out.weigh(kept, best, spec)
}

// weigh holds what runs against what would be chosen if it did not.
func (o *selection) weigh(kept []int, best *choice, spec *Spec) (*selection, error) {
	kept = o.permitted(kept, spec.Placement)
	if o.held != "" || best == nil || !best.met || o.value(o.q, best.set) >= o.value(o.q, kept) {
		return o.settle(kept), nil
	}
	set, err := o.place(best)
	if err != nil {
		return nil, err
	}
	a := o.alternative(kept, set)
	if a == nil {
		return o.settle(kept), nil
	}
	if spec.Stability == Rebalance && a.worthwhile() {
		return o.settle(o.permitted(set, spec.Placement)), nil
	}
	o.passedOver = a
	return o.settle(kept), nil
}

// keep gives the smallest part of what runs that meets the target, or the cheapest;
// nil when none does.
func (o *selection) keep(best *choice) ([]int, error) {
	if len(o.current) < o.q.low {
		return nil, nil
	}
	if all := leaves(o.current); !o.q.priced && o.fits(all) && best != nil && len(all) <= len(best.set) {
		loss, _ := o.scratch.chances(all, o.q.rule.Need(len(all)))
		switch {
		case loss <= o.q.permitted:
			return all, nil
		case len(o.exempt) == 0:
			// No part of it does, as none is large enough.
			return nil, nil
		}
	}
	found, err := o.solve(o.current, true)
	if err != nil || !found.met {
		return nil, err
	}
	return found.set, nil
}

// place chooses as if the deployment might move. Where nothing meets the target, only
// a better set is worth moving to.
func (o *selection) place(best *choice) ([]int, error) {
	o.spared = best != nil && best.spared
	if len(o.exempt) == 0 && best.met && !o.q.priced && (o.discouraged == 0 || o.spared) {
		if set := o.repair(len(best.set)); set != nil {
			o.unproven = !best.proven
			return set, nil
		}
	}
	if len(o.current) > 0 && (best == nil || best.met || len(o.exempt) > 0) {
		var err error
		if best, err = o.answers.get(o.asking(), func() (*choice, error) { return o.solve(slices.Collect(o.valuedAll), false) }); err != nil {
			return nil, err
		}
	}
	o.unproven = !best.proven
	if !best.met {
		if all := leaves(o.current); o.fits(all) {
			if loss, _ := o.scratch.chances(all, o.q.rule.Need(len(all))); loss <= best.loss*(1+1e-9) {
				return all, nil
			}
		}
	}
	return o.exchange(best.set), nil
}

// fits says whether a set has a size that it may have, and is spread as it has to be.
func (o *selection) fits(set []int) bool {
	n := len(set)
	return n >= o.q.low && n <= o.q.high && (o.q.rule == solver.Any || n%2 == 1) && o.spread(set)
}

// asking names all that the answer of the solver depends on.
func (o *selection) asking() string {
	var b strings.Builder
	fmt.Fprint(&b, o.q)
	names := make([]string, 0, len(o.current))
	for i := range o.current {
		names = append(names, o.current[i].cluster.Name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(&b, "%q", name)
	}
	return b.String()
}

func (o *selection) valuedAll(yield func(scored) bool) {
	for one := range o.all {
		if o.spared && one.discouraged && !o.runs[one.leaf] {
			continue
		}
		if !yield(o.valued(one)) {
			return
		}
	}
}

// repair tries n clusters, as many as possible of those in which the deployment runs
// and the best others. What it gives needs no search: there is no smaller set, and
// none that keeps more. It gives nil when only a search can tell.
func (o *selection) repair(n int) []int {
	for keep := min(n, len(o.current)); keep >= 0; keep-- {
		if set := o.greedy(keep, n); set != nil {
			if loss, _ := o.scratch.chances(set, o.q.rule.Need(n)); loss <= o.q.permitted {
				return set
			}
		}
		if o.fleet.placed || len(o.spreads) > 0 || o.nearness != nil {
			// The best by themselves may be the worst together.
			return nil
		}
	}
	return nil
}

// greedy takes the best clusters by themselves, so many of which are current ones,
// and never more of a domain than may go down with it.
func (o *selection) greedy(keep, n int) []int {
	o.capDomains(n)
	out := make([]int, 0, n)
	for i := range o.current {
		if leaf := o.current[i].leaf; len(out) < keep && o.admits(out, leaf, n) && o.take(leaf) {
			out = append(out, leaf)
		}
	}
	if len(out) < keep {
		return nil
	}
	for leaf := range o.others {
		if len(out) == n {
			break
		}
		if o.admits(out, leaf, n) && o.take(leaf) {
			out = append(out, leaf)
		}
	}
	if len(out) < n {
		return nil
	}
	return out
}

// capDomains limits the votes of each domain that is down more often than permitted
// to what can be lost with it.
func (o *selection) capDomains(n int) {
	s, t := o.scratch, o.fleet.tree
	for d := range s.held {
		s.held[d], s.caps[d] = 0, n
		if 1-t.Reach(d) > o.q.permitted {
			s.caps[d] = n - o.q.rule.Need(n)
		}
	}
}

func (o *selection) take(leaf int) bool {
	s, t := o.scratch, o.fleet.tree
	for d := t.DomainOf(leaf); d >= 0; d = t.Parent(d) {
		if s.held[d] >= s.caps[d] {
			return false
		}
	}
	for d := t.DomainOf(leaf); d >= 0; d = t.Parent(d) {
		s.held[d]++
	}
	return true
}

// best is the best set of the pool, worked out once for all deployments that ask the
// same.
func (p *pool) best(q question) (*choice, error) {
	return p.choices.get(q, func() (*choice, error) {
		if p.discouraged > 0 && p.discouraged < len(p.passed) {
			// Discouraged clusters are used where the others do not do.
			found, err := p.bestOf(q, false)
			if err != nil || found.met {
				return found, err
			}
		}
		return p.bestOf(q, true)
	})
}

func (p *pool) bestOf(q question, discouraged bool) (*choice, error) {
	var candidates []solver.Candidate
	for i := range p.passed {
		if one := &p.passed[i]; discouraged || !one.discouraged {
			candidates = append(candidates, p.candidate(one, q))
		}
	}
	found, err := p.ask(q, candidates)
	if err != nil {
		return nil, err
	}
	for k, i := range found.set {
		found.set[k] = candidates[i].Leaf
	}
	found.spared = p.discouraged > 0 && !discouraged
	return found, nil
}

func (p *pool) candidate(one *feasible, q question) solver.Candidate {
	out := solver.Candidate{Leaf: one.leaf}
	if q.priced {
		out.Cost = p.price(one.cluster)
	}
	if p.discouraged > 0 && p.discouraged < len(p.passed) {
		// As few discouraged clusters as possible come before anything else: one of them
		// costs more than the largest set of others.
		if !q.priced {
			out.Cost = 1
		}
		if one.discouraged {
			out.Cost += (DefaultMaxClusters + 1) * max(p.dearest, 1)
		}
	}
	return out
}

func (p *pool) problem(q question, candidates []solver.Candidate) solver.Problem {
	out := solver.Problem{
		Tree: p.fleet.tree, Candidates: candidates, Permitted: q.permitted, Rule: q.rule, Least: q.low, Most: max(q.high, q.low),
	}
	for k := range p.spreads {
		out.Spreads = append(out.Spreads, p.spreads[k].over(candidates))
	}
	return out
}

// ask solves a problem; the set has indexes of candidates.
func (p *pool) ask(q question, candidates []solver.Candidate) (*choice, error) {
	found, err := p.askWithin(q, candidates, p.nearness, 0)
	if err == nil && len(found.set) == 0 && p.nearness != nil && q.low > 1 {
		// Where not even that many are near each other, fewer have to do.
		q.low = 1
		return p.askWithin(q, candidates, p.nearness, 0)
	}
	return found, err
}

// askWithin is ask with other demands on how near the clusters are, and with a bound of
// what is tried; 0 is the solver's own.
func (p *pool) askWithin(q question, candidates []solver.Candidate, near *nearness, budget int) (*choice, error) {
	ask := func(q question, candidates []solver.Candidate) (*choice, error) {
		problem := p.problem(q, candidates)
		problem.Budget = budget
		found, err := solver.Solve(problem)
		if err != nil {
			return nil, fmt.Errorf("scheduler: %w", err)
		}
		return &choice{set: found.Chosen, met: found.Met, proven: found.Proven, loss: found.Loss}, nil
	}
	if near == nil {
		return ask(q, candidates)
	}
	return near.best(q, candidates, ask)
}

// solve finds the best set of some clusters, of equal ones those that keep most. In
// what runs already, moving is no matter.
func (o *selection) solve(among []scored, running bool) (*choice, error) {
	candidates := make([]solver.Candidate, len(among))
	for i := range among {
		candidates[i] = o.candidate(&among[i].feasible, o.q)
		candidates[i].Current = among[i].current && !running
	}
	q := o.q
	q.high = min(q.high, len(among))
	ask := o.ask
	if running {
		// What runs is kept as it has to be, or not at all.
		ask = func(q question, candidates []solver.Candidate) (*choice, error) {
			return o.askWithin(q, candidates, o.nearness, 0)
		}
	}
	found, err := ask(q, candidates)
	if err != nil {
		return nil, err
	}
	for k, i := range found.set {
		found.set[k] = among[i].leaf
	}
	return found, nil
}

// exchange replaces clusters of a set that is the same for all deployments by others
// that are equal in everything, by lot: deployments are to be spread over them.
func (o *selection) exchange(set []int) []int {
	t, f := o.fleet.tree, o.fleet
	out := make([]int, 0, len(set))
	drawn := map[int]bool{} // chosen clusters whose equals were drawn
	for _, i := range set {
		k := o.position[i]
		if k < 0 || o.runs[i] {
			out = append(out, i)
			continue
		}
		if drawn[i] {
			continue
		}
		var equal []int
		wanted := 0
		for _, j := range o.alike(k) {
			if o.runs[j] || t.CompareKind(i, j) != 0 || !o.samePart(i, j) || !sameCost(&f.clusters[i], &f.clusters[j]) {
				continue
			}
			equal = append(equal, j)
			if slices.Contains(set, j) {
				drawn[j] = true
				wanted++
			}
		}
		slices.SortFunc(equal, o.byTicket)
		out = append(out, equal[:wanted]...)
	}
	return out
}

// alike gives the clusters around a position of the pool between which only the lot
// decides.
func (f *filtered) alike(k int) []int {
	from, to := k, k+1
	for from > 0 && alike(f.fleet, &f.passed[from-1], &f.passed[k]) {
		from--
	}
	for to < len(f.passed) && alike(f.fleet, &f.passed[k], &f.passed[to]) {
		to++
	}
	out := make([]int, 0, to-from)
	for i := from; i < to; i++ {
		out = append(out, f.passed[i].leaf)
	}
	return out
}

// samePart says whether two clusters are the same to all rules for sets.
func (p *pool) samePart(a, b int) bool {
	if p.nearness != nil && p.nearness.class[a] != p.nearness.class[b] {
		return false
	}
	return !slices.ContainsFunc(p.spreads, func(s spreading) bool { return s.part[a] != s.part[b] })
}

func sameCost(a, b *Cluster) bool {
	return (a.Cost == nil) == (b.Cost == nil) && (a.Cost == nil || *a.Cost == *b.Cost)
}

func leaves(all []scored) []int {
	out := make([]int, len(all))
	for i := range all {
		out[i] = all[i].leaf
	}
	return out
}

// settle makes the set the chosen one.
func (o *selection) settle(chosen []int) *selection {
	o.chosen = make([]scored, 0, len(chosen))
	for _, i := range chosen {
		o.chosen = append(o.chosen, o.valued(o.find(i)))
	}
	o.sort(o.chosen)
	n := len(o.chosen)
	o.loss, o.achieved = o.scratch.chances(chosen, o.q.rule.Need(n))
	o.met = o.loss <= o.q.permitted
	o.limited = !o.met && n == o.q.high && o.q.high+1 < o.usable()
	o.sticky = o.passedOver != nil || o.stuck()
	return o
}

// stuck says whether more current clusters were chosen than are among the best.
func (o *selection) stuck() bool {
	kept, top := 0, 0
	for i := range o.current {
		// Of equal clusters the current ones come first, in their order.
		before := o.above(o.current[i].p)
		for j := range i {
			if o.current[j].p == o.current[i].p {
				before++
			}
		}
		if before < len(o.chosen) {
			top++
		}
	}
	for i := range o.chosen {
		if o.chosen[i].current {
			kept++
		}
	}
	return o.met && kept > top
}
