package solver_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"oaas.io/control-plane/bench/crosscheck"
	"oaas.io/control-plane/scheduler/availability"
	"oaas.io/control-plane/scheduler/solver"
)

// fleet makes a tree of regions with zones with clusters, all drawn.
type fleet struct {
	domains []availability.Domain
	leaves  []availability.Leaf
}

func (f *fleet) tree(t testing.TB) *availability.Tree {
	t.Helper()
	tree, err := availability.NewTree(f.domains, f.leaves, nil)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// The solver gives what looking at all sets gives.
func TestSolveEqualsBruteForce(t *testing.T) {
	const instances = 12_000
	met, wrong := 0, 0
	for seed := range uint64(instances) {
		p, err := crosscheck.Instance(seed)
		if err != nil {
			t.Fatal(err)
		}
		got, err := solver.Solve(p)
		if err != nil {
			t.Fatal(err)
		}
		want := crosscheck.Optimum(&p)
		if want.Met {
			met++
		}
		if err := crosscheck.Compare(&p, got, want); err != nil {
			if wrong++; wrong <= 5 {
				t.Errorf("seed %d: %v", seed, err)
			}
		}
	}
	t.Logf("%d instances, %d of which can be met; %d mismatches", instances, met, wrong)
	if met < instances/10 || met > instances*9/10 {
		t.Errorf("of %d instances %d can be met, which proves little of the others", instances, met)
	}
}

// The counts of the original rule, as its contract gives them, and where it fails.
func TestOriginalRule(t *testing.T) {
	repeat := func(p float64, n int) []float64 { return slices.Repeat([]float64{p}, n) }
	for _, tc := range []struct {
		target float64
		ups    []float64
		want   int
	}{
		{0.99, []float64{0.99}, 1}, {0.999, repeat(0.99, 2), 2}, {0.999, repeat(0.99, 3), 3}, {0.9999, repeat(0.99, 5), 5},
		{0.99, []float64{0.9, 0.95, 0.99}, 3}, {0.99, []float64{0.9, 0.95, 0.97, 0.99, 0.999}, 3}, {0.90, []float64{0.92, 0.94, 0.97}, 1},
		{0, []float64{0.1}, 1}, {1, []float64{1}, 1}, {1, repeat(0.99, 7), 7}, {0.99, repeat(0.5, 60), 50},
	} {
		if got := crosscheck.Original(tc.ups, tc.target); len(got) != tc.want {
			t.Errorf("%v for %v: %d, want %d", tc.ups, tc.target, len(got), tc.want)
		}
	}
	over, below, unreachable, even := 0, 0, 0, 0
	for seed := range uint64(2000) {
		ups, target := crosscheck.Fleet(seed)
		v, err := crosscheck.Judge(ups, target)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for count, is := range map[*int]bool{&over: v.Over > 0, &below: v.Below, &unreachable: v.Unreachable, &even: v.Even} {
			if is {
				*count++
			}
		}
	}
	t.Logf("of 2000 fleets: %d with too many clusters, %d below a target that can be met, %d at one that cannot, %d even", over, below, unreachable, even)
	if over == 0 || below == 0 || unreachable == 0 || even == 0 {
		t.Error("the fleets do not show every failure")
	}
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
