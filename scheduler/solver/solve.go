package solver

import (
	"cmp"
	"math"
	"slices"

	"oaas.io/control-plane/scheduler/availability"
)

// Solve gives the best set that meets the target; if none does, the one that loses
// the least. Without prices the fewest clusters are best, then those of which most
// are current; with prices the cheapest are. The error is an *InvalidProblemError.
func Solve(p Problem) (*Solution, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	s := newSearch(&p)
	if s.priced {
		s.cheapest()
	} else {
		s.fewest()
	}
	if s.best == nil {
		s.closest()
	}
	return s.solution(), nil
}

// option is a candidate that may be of use.
type option struct {
	candidate int
	leaf      int
	cost      float64
	current   bool
	// parts are those of the spreads.
	parts []int
	// up and marginal are the probabilities of being up: while its domains are, and
	// altogether.
	up, marginal float64
	// group has the options that can stand for each other.
	group int
	// effective is the probability with which it counts in bounds; negative when it
	// cannot be chosen.
	effective float64
}

// tried is a set that was evaluated.
type tried struct {
	chosen []int // indexes of options
	loss   float64
	cost   float64
	kept   int
}

// passing is that an option of a group was passed over.
type passing struct {
	group  int
	before float64
}

type goal int

const (
	// first stops at the first set that meets the target.
	first goal = iota
	// cheap goes on to the cheapest.
	cheap
	// closest goes on to the lowest loss.
	closest
)

// search is the state of solving one problem.
type search struct {
	p       *Problem
	e       *availability.Evaluator
	options []option
	groups  int
	priced  bool
	limits  []int // by domain
	spreads []spreading

	budget, spent, evaluations int
	over                       bool // the budget

	// What follows is of the size that is looked at.
	n, need   int
	goal      goal
	threshold float64
	keep      int   // how many have to be current; -1: any number
	caps      []int // by domain
	// tops has for each option the highest effective probabilities of it and those
	// after it, width of each.
	tops  []float64
	width int
	// currents counts the current options from each on.
	currents []int

	// What follows is the partial set.
	chosen []int
	votes  []availability.Vote
	held   []int // by domain
	kept   int
	cost   float64
	// passed is the highest probability of an option of each group that was passed
	// over.
	passed []float64
	// undo has what passed was before, the latest last.
	undo []passing
	more []float64

	best *tried
	done bool
}

func newSearch(p *Problem) *search {
	s := &search{p: p, e: p.Tree.Evaluator(), budget: cmp.Or(p.Budget, defaultBudget), keep: -1}
	s.limits = make([]int, p.Tree.Domains())
	for d := range s.limits {
		s.limits[d] = math.MaxInt
	}
	for _, l := range p.Limits {
		s.limits[l.Domain] = min(s.limits[l.Domain], l.Most)
	}
	for _, r := range p.Spreads {
		s.spreads = append(s.spreads, newSpreading(r))
	}
	s.caps, s.held = make([]int, len(s.limits)), make([]int, len(s.limits))
	s.addOptions()
	s.passed = make([]float64, s.groups)
	for g := range s.passed {
		s.passed[g] = -1
	}
	s.currents = make([]int, len(s.options)+1)
	for i := len(s.options) - 1; i >= 0; i-- {
		s.currents[i] = s.currents[i+1]
		if s.options[i].current {
			s.currents[i]++
		}
	}
	return s
}

// addOptions leaves out the candidates that better ones of their group make useless
// in any set, and puts the rest into the order in which they are tried.
func (s *search) addOptions() {
	all := make([]option, len(s.p.Candidates))
	for i := range s.p.Candidates {
		c := &s.p.Candidates[i]
		s.priced = s.priced || c.Cost > 0
		all[i] = option{candidate: i, leaf: c.Leaf, cost: c.Cost, current: c.Current, parts: s.p.partsOf(i), up: s.p.Tree.Up(c.Leaf), marginal: s.p.Tree.Marginal(c.Leaf)}
	}
	slices.SortFunc(all, func(a, b option) int {
		return cmp.Or(s.compareKind(&a, &b),
			cmp.Compare(b.up, a.up), cmp.Compare(a.cost, b.cost), cmp.Compare(a.candidate, b.candidate))
	})
	group, begin := -1, 0
	for i := range all {
		o := &all[i]
		if i == 0 || s.compareKind(&all[i-1], o) != 0 {
			group, begin = group+1, len(s.options)
		}
		better := 0
		for k := begin; k < len(s.options) && better < s.p.Most; k++ {
			if s.options[k].cost <= o.cost {
				better++
			}
		}
		if better < s.p.Most {
			o.group = group
			s.options = append(s.options, *o)
		}
	}
	s.groups = group + 1
	slices.SortFunc(s.options, func(a, b option) int {
		return cmp.Or(cmp.Compare(a.cost, b.cost), cmp.Compare(b.marginal, a.marginal), cmp.Compare(b.up, a.up), cmp.Compare(a.candidate, b.candidate))
	})
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	default:
		return -1
	}
}

// sizes yields the sizes that come into question, the smallest first.
func (s *search) sizes(yield func(n int) bool) {
	for n := s.p.Least; n <= min(s.p.Most, len(s.options)); n++ {
		if s.p.Rule == Majority && n%2 == 0 {
			continue
		}
		if !yield(n) {
			return
		}
	}
}

// fewest looks for the smallest set that does, and then for one of that size that
// keeps more.
func (s *search) fewest() {
	for n := range s.sizes {
		if s.look(n, first, s.p.Permitted, -1); s.best != nil {
			found := s.best
			for keep := min(n, s.currents[0]); keep > found.kept && !s.over; keep-- {
				s.best = nil
				if s.look(n, first, s.p.Permitted, keep); s.best != nil {
					return
				}
			}
			s.best = found
			return
		}
	}
}

func (s *search) cheapest() {
	for n := range s.sizes {
		s.look(n, cheap, s.p.Permitted, -1)
	}
}

// closest looks for the set that loses the least.
func (s *search) closest() {
	s.best = nil
	for n := range s.sizes {
		threshold := math.Inf(1)
		if s.best != nil {
			threshold = s.best.loss
		}
		s.look(n, closest, threshold, -1)
	}
}

// look searches the sets of a size.
func (s *search) look(n int, g goal, threshold float64, keep int) {
	s.n, s.need, s.goal, s.threshold, s.keep, s.done = n, s.p.Rule.Need(n), g, threshold, keep, false
	s.setCaps()
	s.setBounds()
	if !s.priced || g == closest {
		s.greedy()
	}
	if !s.done {
		s.descend(0)
	}
}

// setCaps limits the votes of each domain to what the problem lets in, and to what
// can be lost with it.
func (s *search) setCaps() {
	for d := range s.caps {
		s.caps[d] = min(s.limits[d], s.n)
		if 1-s.p.Tree.Reach(d) > s.threshold {
			s.caps[d] = min(s.caps[d], s.n-s.need)
		}
	}
}

// setBounds prepares what a partial set can become at best. The domains from the
// outermost one that has only one vote inwards are a part of that vote.
func (s *search) setBounds() {
	t := s.p.Tree
	for i := range s.options {
		o := &s.options[i]
		o.effective = o.up
		p := o.up
		for d := t.DomainOf(o.leaf); d >= 0; d = t.Parent(d) {
			switch p *= t.DomainUp(d); s.caps[d] {
			case 0:
				o.effective = -1
			case 1:
				o.effective = min(o.effective, p)
			}
		}
	}
	const most = 8 // beyond it, the last one stands for all that are lower
	s.width = min(s.n, most)
	s.tops = slices.Grow(s.tops[:0], (len(s.options)+1)*s.width)[:(len(s.options)+1)*s.width]
	last := s.tops[len(s.options)*s.width:]
	for k := range last {
		last[k] = -1
	}
	for i := len(s.options) - 1; i >= 0; i-- {
		row, after := s.tops[i*s.width:(i+1)*s.width], s.tops[(i+1)*s.width:(i+2)*s.width]
		copy(row, after)
		p := s.options[i].effective
		for k := range row {
			if p > row[k] {
				p, row[k] = row[k], p
			}
		}
	}
}

// greedy takes the best options by themselves.
func (s *search) greedy() {
	depth := len(s.chosen)
	for i := range s.options {
		if len(s.chosen) == s.n {
			break
		}
		if s.options[i].effective >= 0 && s.fits(i) {
			s.take(i)
		}
	}
	if len(s.chosen) == s.n {
		s.leaf()
	}
	for len(s.chosen) > depth {
		s.drop()
	}
}

// descend completes the partial set with options from an index on.
func (s *search) descend(from int) {
	if len(s.chosen) == s.n {
		s.leaf()
		return
	}
	end, mark := s.reach(from), len(s.undo)
	for i := from; i < end && !s.done && !s.over; i++ {
		o := &s.options[i]
		if o.effective < 0 {
			continue
		}
		// A better one of the group that was passed over could stand in its place.
		before := s.passed[o.group]
		if before >= o.up {
			continue
		}
		if s.fits(i) {
			s.take(i)
			s.descend(i + 1)
			s.drop()
		}
		s.undo = append(s.undo, passing{o.group, before})
		s.passed[o.group] = o.up
	}
	for len(s.undo) > mark {
		last := s.undo[len(s.undo)-1]
		s.passed[last.group], s.undo = last.before, s.undo[:len(s.undo)-1]
	}
}

// reach gives the first option at which there is no use in going on: the bounds only
// get worse from one to the next.
func (s *search) reach(from int) int {
	missing := s.n - len(s.chosen)
	low, high := from, len(s.options)-missing+1
	for low < high {
		middle := (low + high) / 2
		if s.promising(middle, missing) {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low
}

// promising says whether the partial set and so many options from an index on can be
// a better set.
func (s *search) promising(i, missing int) bool {
	if s.keep >= 0 && s.kept+min(missing, s.currents[i]) < s.keep {
		return false
	}
	if s.goal == cheap && s.best != nil {
		least := s.cost
		for k := range missing {
			least += s.options[i+k].cost
		}
		if least > s.best.cost || least == s.best.cost && s.kept+min(missing, s.currents[i]) <= s.best.kept {
			return false
		}
	}
	row := s.tops[i*s.width : (i+1)*s.width]
	s.more = s.more[:0]
	for k := range missing {
		p := row[min(k, s.width-1)]
		if p < 0 {
			return false
		}
		s.more = append(s.more, p)
	}
	s.spend()
	return s.allows(s.e.LossWith(s.votes, s.more, s.need))
}

// allows compares a loss with the threshold; in search of the lowest it has to be
// better than the best one by more than rounding.
func (s *search) allows(loss float64) bool {
	if s.goal == closest && s.best != nil {
		return loss < s.threshold*(1-1e-9)
	}
	return loss <= s.threshold
}

func (s *search) fits(i int) bool {
	o := &s.options[i]
	if s.keep >= 0 {
		if o.current && s.kept == s.keep || !o.current && len(s.chosen)-s.kept == s.n-s.keep {
			return false
		}
	}
	for d := s.p.Tree.DomainOf(o.leaf); d >= 0; d = s.p.Tree.Parent(d) {
		if s.held[d] >= s.caps[d] {
			return false
		}
	}
	for k := range s.spreads {
		if !s.spreads[k].admits(o.parts[k], s.n-len(s.chosen)-1) {
			return false
		}
	}
	return true
}

func (s *search) take(i int) {
	o := &s.options[i]
	s.chosen = append(s.chosen, i)
	s.votes = append(s.votes, availability.Vote{Leaf: o.leaf, Weight: 1})
	s.cost += o.cost
	if o.current {
		s.kept++
	}
	for d := s.p.Tree.DomainOf(o.leaf); d >= 0; d = s.p.Tree.Parent(d) {
		s.held[d]++
	}
	for k := range s.spreads {
		s.spreads[k].add(o.parts[k])
	}
}

// drop undoes the last take.
func (s *search) drop() {
	last := len(s.chosen) - 1
	o := &s.options[s.chosen[last]]
	s.chosen, s.votes = s.chosen[:last], s.votes[:last]
	s.cost = 0 // summed anew, so that rounding does not add up
	for _, i := range s.chosen {
		s.cost += s.options[i].cost
	}
	if o.current {
		s.kept--
	}
	for d := s.p.Tree.DomainOf(o.leaf); d >= 0; d = s.p.Tree.Parent(d) {
		s.held[d]--
	}
	for k := range s.spreads {
		s.spreads[k].remove(o.parts[k])
	}
}

// spend counts an evaluation against the budget, by the time that it takes.
func (s *search) spend() {
	s.evaluations++
	s.spent += 1 + s.n*s.n/64
	s.over = s.over || s.spent >= s.budget
}

// leaf evaluates a complete set.
func (s *search) leaf() {
	s.spend()
	loss := s.e.Loss(s.votes, s.need)
	if !s.allows(loss) {
		return
	}
	if s.goal == cheap && s.best != nil && (s.cost > s.best.cost || s.cost == s.best.cost && s.kept <= s.best.kept) {
		return
	}
	s.best = &tried{chosen: slices.Clone(s.chosen), loss: loss, cost: s.cost, kept: s.kept}
	switch s.goal {
	case first:
		s.done = true
	case closest:
		s.threshold = loss
	case cheap:
	}
}

func (s *search) solution() *Solution {
	out := &Solution{Loss: 1, Proven: !s.over, Evaluations: s.evaluations}
	if s.best == nil {
		return out
	}
	votes := make([]availability.Vote, 0, len(s.best.chosen))
	for _, i := range s.best.chosen {
		out.Chosen = append(out.Chosen, s.options[i].candidate)
		votes = append(votes, availability.Vote{Leaf: s.options[i].leaf, Weight: 1})
	}
	slices.Sort(out.Chosen)
	need := s.p.Rule.Need(len(votes))
	out.Loss, out.Up = s.e.Loss(votes, need), s.e.AtLeast(votes, need)
	out.Met, out.Cost, out.Kept = out.Loss <= s.p.Permitted, s.best.cost, s.best.kept
	return out
}
