package crosscheck

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"

	"oaas.io/control-plane/scheduler/availability"
	"oaas.io/control-plane/scheduler/solver"
)

// draw gives a probability of being up, mostly of a few nines, at times of none.
func draw(r *rand.Rand) float64 {
	switch r.IntN(12) {
	case 0:
		return 1
	case 1:
		return r.Float64()
	default:
		return 1 - math.Pow(10, -1-3*r.Float64())
	}
}

// Instance draws a problem that is small enough to look at all sets: up to nine
// clusters in up to five domains within domains, with a factor, prices, limits and
// current clusters at times. Equal seeds give equal problems.
func Instance(seed uint64) (solver.Problem, error) {
	r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // it is to be the same every time
	var (
		domains []availability.Domain
		leaves  []availability.Leaf
		factors []availability.Factor
	)
	names := []string{""}
	for i := range r.IntN(6) {
		name := fmt.Sprint("d", i)
		domains = append(domains, availability.Domain{Name: name, Parent: names[r.IntN(len(names))], Up: draw(r)})
		names = append(names, name)
	}
	if r.IntN(5) == 0 {
		factors = append(factors, availability.Factor{Name: "f", Up: draw(r)})
	}
	p := solver.Problem{Permitted: math.Pow(10, -1-5*r.Float64()), Rule: solver.Rule(r.IntN(2)), Least: 1, Most: 1 + r.IntN(7), Budget: 1 << 30}
	if r.IntN(4) == 0 {
		p.Least = 1 + r.IntN(p.Most)
	}
	priced, alike := r.IntN(2) == 0, draw(r)
	for i := range 1 + r.IntN(9) {
		leaf := availability.Leaf{Name: fmt.Sprint("c", i), Domain: names[r.IntN(len(names))], Up: draw(r)}
		if r.IntN(3) == 0 {
			leaf.Up = alike
		}
		if len(factors) > 0 && r.IntN(2) == 0 {
			leaf.Factors = []int{0}
		}
		leaves = append(leaves, leaf)
		c := solver.Candidate{Leaf: i, Current: r.IntN(3) == 0}
		if priced {
			c.Cost = float64(1 + r.IntN(5))
		}
		p.Candidates = append(p.Candidates, c)
	}
	tree, err := availability.NewTree(domains, leaves, factors)
	if err != nil {
		return solver.Problem{}, err
	}
	p.Tree = tree
	for range r.IntN(2) * p.Tree.Domains() {
		p.Limits = append(p.Limits, solver.Limit{Domain: r.IntN(p.Tree.Domains()), Most: r.IntN(3)})
	}
	for range max(0, r.IntN(4)-1) {
		p.Spreads = append(p.Spreads, spread(r, len(p.Candidates)))
	}
	return p, nil
}

// spread draws how sets are to be spread over so many candidates.
func spread(r *rand.Rand, candidates int) solver.Spread {
	out := solver.Spread{Most: r.IntN(4), Least: r.IntN(4)}
	for range candidates {
		out.Part = append(out.Part, r.IntN(min(5, candidates+1))-1)
	}
	return out
}

// permitted says whether the limits and spreads let the set in.
func permitted(p *solver.Problem, set []int) bool {
	for _, l := range p.Limits {
		held := 0
		for _, i := range set {
			for d := p.Tree.DomainOf(p.Candidates[i].Leaf); d >= 0; d = p.Tree.Parent(d) {
				if d == l.Domain {
					held++
				}
			}
		}
		if held > l.Most {
			return false
		}
	}
	for _, s := range p.Spreads {
		held := map[int]int{}
		for _, i := range set {
			if part := s.Part[i]; part >= 0 {
				held[part]++
			}
		}
		for _, n := range held {
			if s.Most > 0 && n > s.Most {
				return false
			}
		}
		if len(held) < s.Least {
			return false
		}
	}
	return true
}

// Optimum looks at all sets of a problem.
func Optimum(p *solver.Problem) (best solver.Solution) {
	e := p.Tree.Evaluator()
	best.Loss = 1
	priced := slices.ContainsFunc(p.Candidates, func(c solver.Candidate) bool { return c.Cost > 0 })
	better := func(s *solver.Solution) bool {
		switch {
		case len(best.Chosen) == 0 || s.Met != best.Met:
			return len(best.Chosen) == 0 || s.Met
		case !s.Met:
			return s.Loss < best.Loss
		case priced && s.Cost != best.Cost:
			return s.Cost < best.Cost
		case !priced && len(s.Chosen) != len(best.Chosen):
			return len(s.Chosen) < len(best.Chosen)
		default:
			return s.Kept > best.Kept
		}
	}
	for state := range uint(1) << len(p.Candidates) {
		n := bits.OnesCount(state)
		if n < p.Least || n > p.Most || p.Rule == solver.Majority && n%2 == 0 {
			continue
		}
		var s solver.Solution
		var votes []availability.Vote
		for i := range p.Candidates {
			if c := &p.Candidates[i]; state&(1<<i) != 0 {
				s.Chosen, votes, s.Cost = append(s.Chosen, i), append(votes, availability.Vote{Leaf: c.Leaf, Weight: 1}), s.Cost+c.Cost
				if c.Current {
					s.Kept++
				}
			}
		}
		if !permitted(p, s.Chosen) {
			continue
		}
		s.Loss = e.Loss(votes, p.Rule.Need(n))
		if s.Met = s.Loss <= p.Permitted; better(&s) {
			best = s
		}
	}
	return best
}

// Compare holds a solution against the optimum.
func Compare(p *solver.Problem, got *solver.Solution, want solver.Solution) error {
	near := func(a, b float64) bool { return math.Abs(a-b) <= 1e-8*math.Max(a, b)+1e-15 }
	switch {
	case !got.Proven:
		return errors.New("not proven")
	case got.Met != want.Met || (len(got.Chosen) == 0) != (len(want.Chosen) == 0):
		return fmt.Errorf("met %v with %v, want %v with %v", got.Met, got.Chosen, want.Met, want.Chosen)
	case len(got.Chosen) > 0 && !permitted(p, got.Chosen):
		return fmt.Errorf("%v breaks a limit", got.Chosen)
	case !want.Met && !near(got.Loss, want.Loss):
		return fmt.Errorf("loses %g with %v, want %g with %v", got.Loss, got.Chosen, want.Loss, want.Chosen)
	case want.Met && (got.Cost != want.Cost || got.Kept != want.Kept || got.Cost == 0 && len(got.Chosen) != len(want.Chosen)):
		return fmt.Errorf("%v costs %v and keeps %d, want %v at %v that keeps %d", got.Chosen, got.Cost, got.Kept, want.Chosen, want.Cost, want.Kept)
	}
	return nil
}

// Fleet draws independent clusters, 3 to 12 of them, and a target of two to five
// nines, for a comparison with the rule of the original system. Equal seeds give
// equal fleets.
func Fleet(seed uint64) (ups []float64, target float64) {
	r := rand.New(rand.NewPCG(seed, 2)) //nolint:gosec // it is to be the same every time
	for range 3 + r.IntN(10) {
		ups = append(ups, 1-math.Pow(10, -1-2.5*r.Float64()))
	}
	return ups, 1 - math.Pow(10, -float64(2+r.IntN(4)))
}

// Original is the rule of the original system: how many clusters is the length of
// the first of the prefixes, the worst cluster first, whose majority meets the
// target, and all up to 50 when none does; which is the best ones of that number.
// It gives their availabilities, the best first.
func Original(ups []float64, target float64) []float64 {
	const most = 50
	sorted := slices.Sorted(slices.Values(ups))
	n := min(len(sorted), most)
	d := availability.NewDistribution(n)
	for i, p := range sorted[:n] {
		if d.Add(p); d.AtLeast(availability.Majority(i+1)) >= min(target, 0.999999999) {
			n = i + 1
			break
		}
	}
	slices.Reverse(sorted)
	return sorted[:n]
}

// Verdict is how the rule of the original system does on a fleet.
type Verdict struct {
	// Below: the set misses the target though there is one that meets it.
	// Unreachable: no set meets it, which is not told. Over: the number of clusters
	// more than are needed. Even: a cluster that adds nothing.
	Below, Unreachable, Even bool
	Over                     int
}

// Judge compares the rule with the solver, whose own solution must be as good.
func Judge(ups []float64, target float64) (Verdict, error) {
	leaves, candidates := make([]availability.Leaf, len(ups)), make([]solver.Candidate, len(ups))
	for i, p := range ups {
		leaves[i], candidates[i] = availability.Leaf{Name: fmt.Sprint(i), Up: p}, solver.Candidate{Leaf: i}
	}
	tree, err := availability.NewTree(nil, leaves, nil)
	if err != nil {
		return Verdict{}, err
	}
	best, err := solver.Solve(solver.Problem{Tree: tree, Candidates: candidates, Permitted: 1 - target, Least: 1, Most: len(ups)})
	if err != nil {
		return Verdict{}, err
	}
	set := Original(ups, target)
	d := availability.NewDistribution(len(set))
	for _, p := range set {
		d.Add(p)
	}
	loss := d.Loss(availability.Majority(len(set)))
	v := Verdict{Unreachable: !best.Met, Even: len(set)%2 == 0, Below: best.Met && loss > 1-target}
	if best.Met && !v.Below {
		v.Over = len(set) - len(best.Chosen)
	}
	if !best.Proven || v.Over < 0 || !best.Met && best.Loss > loss*(1+1e-9) {
		return v, fmt.Errorf("the solver takes %d clusters and loses %g, the rule %d and %g", len(best.Chosen), best.Loss, len(set), loss)
	}
	return v, nil
}
