package solver_test

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"oaas.io/control-plane/scheduler/availability"
	"oaas.io/control-plane/scheduler/solver"
)

// fleet makes a tree of regions with zones with clusters, all drawn.
type fleet struct {
	domains []availability.Domain
	leaves  []availability.Leaf
	factors []availability.Factor
}

func (f *fleet) tree(t testing.TB) *availability.Tree {
	t.Helper()
	tree, err := availability.NewTree(f.domains, f.leaves, f.factors)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

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

// instance draws a problem that is small enough to look at all sets.
func instance(t testing.TB, r *rand.Rand) solver.Problem {
	var f fleet
	names := []string{""}
	for i := range r.IntN(6) {
		name := fmt.Sprint("d", i)
		f.domains = append(f.domains, availability.Domain{Name: name, Parent: names[r.IntN(len(names))], Up: draw(r)})
		names = append(names, name)
	}
	if r.IntN(5) == 0 {
		f.factors = append(f.factors, availability.Factor{Name: "f", Up: draw(r)})
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
		if len(f.factors) > 0 && r.IntN(2) == 0 {
			leaf.Factors = []int{0}
		}
		f.leaves = append(f.leaves, leaf)
		c := solver.Candidate{Leaf: i, Current: r.IntN(3) == 0}
		if priced {
			c.Cost = float64(1 + r.IntN(5))
		}
		p.Candidates = append(p.Candidates, c)
	}
	p.Tree = f.tree(t)
	for range r.IntN(2) * p.Tree.Domains() {
		p.Limits = append(p.Limits, solver.Limit{Domain: r.IntN(p.Tree.Domains()), Most: r.IntN(3)})
	}
	return p
}

// permitted says whether the limits let the set in.
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
	return true
}

// optimum looks at all sets.
func optimum(p *solver.Problem) (best solver.Solution) {
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

// compare holds a solution against the optimum.
func compare(p *solver.Problem, got *solver.Solution, want solver.Solution) error {
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

// The solver gives what looking at all sets gives.
func TestSolveEqualsBruteForce(t *testing.T) {
	const instances = 12_000
	met, wrong := 0, 0
	for seed := range uint64(instances) {
		p := instance(t, rand.New(rand.NewPCG(seed, 1)))
		got, err := solver.Solve(p)
		if err != nil {
			t.Fatal(err)
		}
		want := optimum(&p)
		if want.Met {
			met++
		}
		if err := compare(&p, got, want); err != nil {
			if wrong++; wrong <= 5 {
				t.Errorf("seed %d: %v", seed, err)
			}
		}
	}
	t.Logf("%d instances, %d of which can be met; %d mismatches", instances, met, wrong)
}

func TestInvalidProblems(t *testing.T) {
	var f fleet
	f.leaves = []availability.Leaf{{Name: "a", Up: 1}}
	f.domains = []availability.Domain{{Name: "z", Up: 1}}
	tree := f.tree(t)
	for name, edit := range map[string]func(p *solver.Problem){
		"no tree":          func(p *solver.Problem) { p.Tree = nil },
		"loss of NaN":      func(p *solver.Problem) { p.Permitted = math.NaN() },
		"loss of 2":        func(p *solver.Problem) { p.Permitted = 2 },
		"no size":          func(p *solver.Problem) { p.Least = 0 },
		"sizes turned":     func(p *solver.Problem) { p.Most = 0 },
		"unknown cluster":  func(p *solver.Problem) { p.Candidates[0].Leaf = 1 },
		"cluster twice":    func(p *solver.Problem) { p.Candidates = append(p.Candidates, p.Candidates[0]) },
		"cost of infinity": func(p *solver.Problem) { p.Candidates[0].Cost = math.Inf(1) },
		"cost below 0":     func(p *solver.Problem) { p.Candidates[0].Cost = -1 },
		"unknown domain":   func(p *solver.Problem) { p.Limits = []solver.Limit{{Domain: 1}} },
		"limit below 0":    func(p *solver.Problem) { p.Limits = []solver.Limit{{Most: -1}} },
		"budget below 0":   func(p *solver.Problem) { p.Budget = -1 },
	} {
		t.Run(name, func(t *testing.T) {
			p := solver.Problem{Tree: tree, Candidates: []solver.Candidate{{}}, Permitted: 0.1, Least: 1, Most: 1}
			if _, err := solver.Solve(p); err != nil {
				t.Fatal(err)
			}
			edit(&p)
			var wrong *solver.InvalidProblemError
			if _, err := solver.Solve(p); !errors.As(err, &wrong) {
				t.Errorf("%v", err)
			}
		})
	}
}

// Without candidates, or with limits that let nothing in, there is no set.
func TestNothingToChoose(t *testing.T) {
	f := fleet{domains: []availability.Domain{{Name: "z", Up: 1}}, leaves: []availability.Leaf{{Name: "a", Domain: "z", Up: 1}}}
	p := solver.Problem{Tree: f.tree(t), Permitted: 0.1, Least: 1, Most: 3}
	for range 2 {
		got, err := solver.Solve(p)
		if err != nil || len(got.Chosen) > 0 || got.Met || got.Loss != 1 || !got.Proven {
			t.Errorf("%+v, %v", got, err)
		}
		p.Candidates, p.Limits = []solver.Candidate{{}}, []solver.Limit{{}}
	}
}

// A search that its budget ends says so, and gives what it found.
func TestBudget(t *testing.T) {
	p := large(t, 200, rand.New(rand.NewPCG(7, 7)), true)
	p.Permitted, p.Budget = 1e-9, 50
	got, err := solver.Solve(p)
	if err != nil || got.Proven || got.Evaluations > 2*p.Budget {
		t.Errorf("%+v, %v", got, err)
	}
}

// large draws a fleet of regions with three zones each.
func large(t testing.TB, n int, r *rand.Rand, priced bool) solver.Problem {
	var f fleet
	regions := max(3, n/25)
	for i := range regions {
		region := fmt.Sprint("r", i)
		f.domains = append(f.domains, availability.Domain{Name: region, Up: 1 - 0.0005*r.Float64()})
		for z := range 3 {
			f.domains = append(f.domains, availability.Domain{Name: fmt.Sprint(region, "z", z), Parent: region, Up: 1 - 0.001*r.Float64()})
		}
	}
	p := solver.Problem{Permitted: 1e-5, Least: 1, Most: 7}
	for i := range n {
		f.leaves = append(f.leaves, availability.Leaf{Name: fmt.Sprint("c", i), Domain: fmt.Sprint("r", r.IntN(regions), "z", r.IntN(3)), Up: 1 - 0.02*r.Float64()})
		c := solver.Candidate{Leaf: i, Current: r.IntN(n) < 3}
		if priced {
			c.Cost = 1 + 9*r.Float64()
		}
		p.Candidates = append(p.Candidates, c)
	}
	p.Tree = f.tree(t)
	return p
}

func BenchmarkSolve(b *testing.B) {
	for _, priced := range []bool{false, true} {
		for _, n := range []int{100, 1000, 10_000} {
			b.Run(fmt.Sprintf("priced=%v/clusters=%d", priced, n), func(b *testing.B) {
				var problems []solver.Problem
				for seed := range uint64(20) {
					problems = append(problems, large(b, n, rand.New(rand.NewPCG(seed, 2)), priced))
				}
				b.ReportAllocs()
				i, evaluations, unproven := 0, 0, 0
				for b.Loop() {
					s, err := solver.Solve(problems[i%len(problems)])
					if err != nil {
						b.Fatal(err)
					}
					evaluations = max(evaluations, s.Evaluations)
					if !s.Proven {
						unproven++
					}
					i++
				}
				b.ReportMetric(float64(evaluations), "evaluations-max")
				b.ReportMetric(float64(unproven)/float64(i), "unproven")
			})
		}
	}
}
