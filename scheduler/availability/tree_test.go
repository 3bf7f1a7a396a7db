package availability_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"oaas.io/control-plane/scheduler/availability"
)

// fleet is a description that tests write down shortly.
type fleet struct {
	domains []availability.Domain
	leaves  []availability.Leaf
	factors []availability.Factor
}

func (f *fleet) domain(name, parent string, up float64) string {
	f.domains = append(f.domains, availability.Domain{Name: name, Parent: parent, Up: up})
	return name
}

func (f *fleet) cluster(domain string, up float64, factors ...int) {
	f.leaves = append(f.leaves, availability.Leaf{Name: fmt.Sprint("c", len(f.leaves)), Domain: domain, Up: up, Factors: factors})
}

func (f *fleet) tree(t testing.TB) *availability.Tree {
	t.Helper()
	tree, err := availability.NewTree(f.domains, f.leaves, f.factors)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// votes gives one vote to each leaf, or those weights.
func votes(n int, weights ...int) []availability.Vote {
	out := make([]availability.Vote, n)
	for i := range out {
		out[i] = availability.Vote{Leaf: i, Weight: 1}
		if len(weights) > 0 {
			out[i].Weight = weights[i]
		}
	}
	return out
}

// Vectors computed by an independent implementation: sets of clusters in zones and
// regions. All clusters are up with 0.995 altogether: in a zone that is up with
// 0.9985, and, where there are regions, in one that is up with 0.9995.
func TestDomainVectors(t *testing.T) {
	const marginal, zone, region = 0.995, 0.9985, 0.9995
	for _, tc := range []struct {
		name string
		// zones has the region of each zone, -1 for none; clusters the zone of each.
		zones    []int
		clusters []int
		weights  []int
		need     int
		want     float64
	}{
		{"G8", []int{-1}, []int{0, 0, 0}, nil, 2, 0.998463280800},
		{"G9", []int{-1, -1}, []int{0, 0, 1}, nil, 2, 0.998452854281},
		{"G10", []int{-1, -1, -1}, []int{0, 1, 2}, nil, 2, 0.999925250000},
		{"G11", []int{0, 0, 0}, []int{0, 1, 2}, nil, 2, 0.999439402042},
		{"G12", []int{0, 1, 2}, []int{0, 1, 2}, nil, 2, 0.999925250000},
		{"G15", []int{0, 0, 1, 1, 2}, []int{0, 1, 2, 3, 4}, nil, 3, 0.999984852166},
		{"G16", []int{0, 0, 0, 1, 2}, []int{0, 1, 2, 3, 4}, nil, 3, 0.999498970761},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var f fleet
			for r := range 3 {
				f.domain(fmt.Sprint("r", r), "", region)
			}
			for z, r := range tc.zones {
				parent := ""
				if r >= 0 {
					parent = fmt.Sprint("r", r)
				}
				f.domain(fmt.Sprint("z", z), parent, zone)
			}
			for _, z := range tc.clusters {
				up := marginal / zone
				if tc.zones[z] >= 0 {
					up /= region
				}
				f.cluster(fmt.Sprint("z", z), up)
			}
			tree := f.tree(t)
			for i := range tc.clusters {
				near(t, tree.Marginal(i), marginal, 1e-15)
			}
			e, v := tree.Evaluator(), votes(len(tc.clusters), tc.weights...)
			near(t, e.AtLeast(v, tc.need), tc.want, 5e-13)
			near(t, e.Loss(v, tc.need), 1-tc.want, 5e-13)
		})
	}
}

// Vectors without domains: weights, and a witness.
func TestWeightVectors(t *testing.T) {
	for _, tc := range []struct {
		name    string
		ps      []float64
		weights []int
		need    int
		want    float64
	}{
		{"G14", repeat(0.99, 4), []int{2, 1, 1, 1}, 3, 0.999702},
		{"G17", []float64{0.995, 0.995, 0.95}, nil, 2, 0.9994775},
		{"two without the witness", repeat(0.995, 2), nil, 2, 0.990025},
		{"capacity for all but one", repeat(0.99, 3), []int{10, 10, 10}, 20, 0.999702},
		{"capacity of a large one", []float64{0.9, 0.5, 0.5}, []int{30, 10, 10}, 20, 0.925},
		{"more than there is", repeat(0.99, 3), []int{10, 10, 10}, 31, 0},
		{"nothing needed", repeat(0.5, 2), nil, 0, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var f fleet
			for _, p := range tc.ps {
				f.cluster("", p)
			}
			e, v := f.tree(t).Evaluator(), votes(len(tc.ps), tc.weights...)
			near(t, e.AtLeast(v, tc.need), tc.want, 5e-13)
			near(t, e.Loss(v, tc.need), 1-tc.want, 5e-13)
		})
	}
}

// A name server that all depend on bounds what they achieve.
func TestSharedFactor(t *testing.T) {
	f := fleet{factors: []availability.Factor{{Name: "dns", Up: 0.9}, {Name: "v1.37", Up: 0.5}}}
	for range 3 {
		f.cluster("", 0.9, 0)
	}
	f.cluster("", 1, 0, 1)
	tree := f.tree(t)
	e := tree.Evaluator()
	near(t, e.AtLeast(votes(3), 2), 0.9*0.972, 1e-15)
	near(t, tree.Marginal(3), 0.45, 1e-15)
	near(t, e.AtLeast([]availability.Vote{{Leaf: 3, Weight: 1}}, 1), 0.45, 1e-15)
}

func TestEmptySet(t *testing.T) {
	var f fleet
	f.cluster("", 1)
	e := f.tree(t).Evaluator()
	near(t, e.Loss(nil, 0), 1, 0)
	near(t, e.AtLeast(nil, 0), 0, 0)
}

// What cannot be calculated with is refused, and named.
func TestBadTrees(t *testing.T) {
	for name, tc := range map[string]struct {
		make func(f *fleet)
		want string
	}{
		"around each other":   {func(f *fleet) { f.domain("a", "b", 1); f.domain("b", "a", 1) }, "domain a: it is within itself"},
		"around itself":       {func(f *fleet) { f.domain("x", "", 1); f.domain("a", "a", 1) }, "domain a: it is within itself"},
		"unknown parent":      {func(f *fleet) { f.domain("a", "b", 1) }, `domain a: the domain "b" around it is not described`},
		"twice":               {func(f *fleet) { f.domain("a", "", 1); f.domain("a", "", 1) }, "domain a: it is described twice"},
		"no name":             {func(f *fleet) { f.domain("", "", 1) }, "a domain: it has no name"},
		"domain of 2":         {func(f *fleet) { f.domain("a", "", 2) }, "domain a: 2 is not within 0..1"},
		"cluster of NaN":      {func(f *fleet) { f.cluster("", math.NaN()) }, "cluster c0: NaN is not within 0..1"},
		"unknown domain":      {func(f *fleet) { f.cluster("a", 1) }, `cluster c0: its domain "a" is not described`},
		"unknown factor":      {func(f *fleet) { f.cluster("", 1, 0) }, "cluster c0: it has the factor 0 of 0"},
		"factor below 0":      {func(f *fleet) { f.factors = []availability.Factor{{Name: "dns", Up: -1}} }, "factor dns: -1 is not within 0..1"},
		"too many factors":    {func(f *fleet) { f.factors = make([]availability.Factor, 5) }, "shared factors: there are 5"},
		"cluster twice":       {func(f *fleet) { f.leaves = []availability.Leaf{{Name: "a"}, {Name: "a"}} }, "cluster a: it is described twice"},
		"cluster has no name": {func(f *fleet) { f.leaves = []availability.Leaf{{}} }, "a cluster: it has no name"},
	} {
		t.Run(name, func(t *testing.T) {
			var f fleet
			tc.make(&f)
			_, err := availability.NewTree(f.domains, f.leaves, f.factors)
			var wrong *availability.ModelError
			if !errors.As(err, &wrong) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %s", err, tc.want)
			}
		})
	}
}

// A chain of 10,000 domains is deep, and no reason to fail.
func TestDeepTree(t *testing.T) {
	var f fleet
	parent := ""
	for i := range 10_000 {
		parent = f.domain(fmt.Sprint("d", i), parent, 1)
	}
	f.cluster(parent, 0.5)
	tree := f.tree(t)
	near(t, tree.Evaluator().AtLeast(votes(1), 1), 0.5, 0)
}

// draw makes a small fleet and a set of votes of some of its clusters.
func draw(t *rapid.T) (*fleet, []availability.Vote, int) {
	p := func(name string) float64 {
		return rapid.OneOf(rapid.Just(0.0), rapid.Just(1.0), rapid.Float64Range(0, 1)).Draw(t, name)
	}
	var f fleet
	for i := range rapid.IntRange(0, 2).Draw(t, "factors") {
		f.factors = append(f.factors, availability.Factor{Name: fmt.Sprint(i), Up: p("factor")})
	}
	names := []string{""}
	for i := range rapid.IntRange(0, 4).Draw(t, "domains") {
		names = append(names, f.domain(fmt.Sprint("d", i), rapid.SampledFrom(names).Draw(t, "parent"), p("domain")))
	}
	var vs []availability.Vote
	for i := range rapid.IntRange(0, 5).Draw(t, "clusters") {
		var factors []int
		for k := range f.factors {
			if rapid.Bool().Draw(t, "has") {
				factors = append(factors, k)
			}
		}
		f.cluster(rapid.SampledFrom(names).Draw(t, "in"), p("cluster"), factors...)
		if rapid.IntRange(0, 4).Draw(t, "votes") > 0 {
			vs = append(vs, availability.Vote{Leaf: i, Weight: rapid.IntRange(1, 3).Draw(t, "weight")})
		}
	}
	return &f, rapid.Permutation(vs).Draw(t, "order"), rapid.IntRange(0, 8).Draw(t, "need")
}

// worlds sums over all states of domains, clusters and factors.
func (f *fleet) worlds(vs []availability.Vote, need int) (up float64) {
	if len(vs) == 0 {
		return 0
	}
	parts := len(f.domains) + len(f.leaves) + len(f.factors)
	index := map[string]int{}
	for i, d := range f.domains {
		index[d.Name] = i
	}
	for state := range uint(1) << parts {
		p := 1.0
		is := func(bit int, a float64) {
			if state&(1<<bit) != 0 {
				p *= a
			} else {
				p *= 1 - a
			}
		}
		for i, d := range f.domains {
			is(i, d.Up)
		}
		for i, l := range f.leaves {
			is(len(f.domains)+i, l.Up)
		}
		for i, x := range f.factors {
			is(len(f.domains)+len(f.leaves)+i, x.Up)
		}
		sum := 0
		for _, v := range vs {
			l := f.leaves[v.Leaf]
			alive := state&(1<<(len(f.domains)+v.Leaf)) != 0
			for d := l.Domain; d != ""; d = f.domains[index[d]].Parent {
				alive = alive && state&(1<<index[d]) != 0
			}
			for _, x := range l.Factors {
				alive = alive && state&(1<<(len(f.domains)+len(f.leaves)+x)) != 0
			}
			if alive {
				sum += v.Weight
			}
		}
		if sum >= need {
			up += p
		}
	}
	return up
}

func TestTreeEqualsBruteForce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, vs, need := draw(t)
		tree, err := availability.NewTree(f.domains, f.leaves, f.factors)
		if err != nil {
			t.Fatal(err)
		}
		e := tree.Evaluator()
		want := f.worlds(vs, need)
		for range 2 { // with the buffers of the first time, too
			if got := e.AtLeast(vs, need); math.Abs(got-want) > 1e-12 {
				t.Fatalf("AtLeast = %.17g, brute force %.17g", got, want)
			}
			if got := e.Loss(vs, need); math.Abs(got-(1-want)) > 1e-12 {
				t.Fatalf("Loss = %.17g, brute force %.17g", got, 1-want)
			}
		}
	})
}

// Small losses keep their digits through domains, too.
func TestTreeLossKeepsItsDigits(t *testing.T) {
	u := math.Ldexp(1, -20)
	var f fleet
	for i := range 3 {
		f.cluster(f.domain(fmt.Sprint("z", i), "", 1-u), 1)
	}
	want := 3*u*u - 2*u*u*u
	if got := f.tree(t).Evaluator().Loss(votes(3), 2); math.Abs(got-want)/want > 1e-12 {
		t.Errorf("loss %g, want %g", got, want)
	}
}

func BenchmarkEvaluate(b *testing.B) {
	var f fleet
	for r := range 5 {
		region := f.domain(fmt.Sprint("r", r), "", 0.9995)
		for z := range 3 {
			f.cluster(f.domain(fmt.Sprint("r", r, "z", z), region, 0.999), 0.995)
		}
	}
	e := f.tree(b).Evaluator()
	for _, n := range []int{3, 5, 7, 15} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			vs := votes(n)
			b.ReportAllocs()
			for b.Loop() {
				e.Loss(vs, n/2+1)
			}
		})
	}
}
