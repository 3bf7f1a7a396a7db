package availability_test

import (
	"fmt"
	"math"
	"math/bits"
	"testing"

	"pgregory.net/rapid"

	"oaas.io/control-plane/scheduler/availability"
)

func of(ps []float64) *availability.Distribution {
	d := availability.NewDistribution(len(ps))
	for _, p := range ps {
		d.Add(p)
	}
	return d
}

func quorum(ps []float64, q int) float64     { return of(ps).AtLeast(q) }
func quorumLoss(ps []float64, q int) float64 { return of(ps).Loss(q) }
func majorityOf(ps []float64) float64        { return quorum(ps, availability.Majority(len(ps))) }

func repeat(p float64, n int) []float64 {
	ps := make([]float64, n)
	for i := range ps {
		ps[i] = p
	}
	return ps
}

func near(t *testing.T, got, want, tolerance float64) {
	t.Helper()
	if math.IsNaN(got) || math.Abs(got-want) > tolerance {
		t.Errorf("got %.15f, want %.15f within %g", got, want, tolerance)
	}
}

// The contract's vectors: Q1 to Q9.
func TestMajorityVectors(t *testing.T) {
	for _, tc := range []struct {
		name string
		ps   []float64
		want float64
	}{
		{"Q1", nil, 0},
		{"Q2", []float64{0.99}, 0.99},
		{"Q3", []float64{0.99, 0.99}, 0.9801},
		{"Q4", []float64{0.9, 0.9, 0.9}, 0.972},
		{"Q5", repeat(0.99, 3), 0.999702},
		{"Q6", []float64{0.95, 0.97, 0.99}, 0.99773},
		{"Q7", []float64{0.9, 0.95, 0.97, 0.99}, 0.9891855},
		{"Q8", []float64{0.9, 0.95, 0.97, 0.99, 0.999}, 0.999748926},
		{"Q9", repeat(0.5, 5), 0.5},
	} {
		t.Run(tc.name, func(t *testing.T) {
			near(t, majorityOf(tc.ps), tc.want, 1e-12)
		})
	}
}

// Vectors computed by an independent implementation.
func TestQuorumVectors(t *testing.T) {
	for _, tc := range []struct {
		name string
		ps   []float64
		q    int
		want float64
	}{
		{"G1", repeat(0.9, 3), 2, 0.972},
		{"G2", repeat(0.99, 3), 2, 0.999702},
		{"G3", []float64{0.99, 0.995, 0.999}, 2, 0.9999351},
		{"G4", []float64{0.9, 0.99, 0.999, 0.999, 0.999}, 3, 0.999996678324},
		{"G5", repeat(0.99, 4), 3, 0.99940797},
		{"G6", repeat(0.97, 3), 2, 0.997354},
		{"G7", []float64{0.5, 0.97, 0.97, 0.97}, 3, 0.9550135},
		{"G13", repeat(0.99, 2), 1, 0.9999},
		{"zero of one", []float64{0.3}, 0, 1},
		{"more than there are", []float64{1, 1}, 3, 0},
		{"certain", []float64{1, 1, 1}, 2, 1},
		{"never", []float64{0, 0, 0}, 2, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			near(t, quorum(tc.ps, tc.q), tc.want, 5e-13)
			near(t, quorumLoss(tc.ps, tc.q), 1-tc.want, 5e-13)
		})
	}
}

// The published table is rounded to the digits that are shown in it.
func TestMajorityTable(t *testing.T) {
	for _, tc := range []struct {
		p      float64
		n      int
		want   float64
		digits int
	}{
		{0.9, 1, 0.9, 12}, {0.9, 2, 0.81, 12}, {0.9, 3, 0.972, 12}, {0.9, 4, 0.9477, 12}, {0.9, 5, 0.99144, 12}, {0.9, 7, 0.99727, 5},
		{0.95, 1, 0.95, 12}, {0.95, 2, 0.9025, 12}, {0.95, 3, 0.99275, 12}, {0.95, 4, 0.98598, 5}, {0.95, 5, 0.99884, 5}, {0.95, 7, 0.99981, 5},
		{0.99, 1, 0.99, 12}, {0.99, 2, 0.9801, 12}, {0.99, 3, 0.999702, 12}, {0.99, 4, 0.999408, 6}, {0.99, 5, 0.999990149, 9}, {0.99, 7, 0.999999658, 9},
		{0.995, 1, 0.995, 12}, {0.995, 2, 0.990025, 12}, {0.995, 3, 0.99992525, 8}, {0.995, 5, 0.9999988, 7},
		{0.999, 1, 0.999, 12}, {0.999, 2, 0.998001, 12}, {0.999, 3, 0.999997, 6},
	} {
		t.Run(fmt.Sprintf("%g of %d", tc.p, tc.n), func(t *testing.T) {
			near(t, majorityOf(repeat(tc.p, tc.n)), tc.want, 0.51*math.Pow(10, -float64(tc.digits)))
		})
	}
}

func TestMajority(t *testing.T) {
	want := map[int]int{-1: 0, 0: 0, 1: 1, 2: 2, 3: 2, 4: 3, 5: 3, 6: 4, 7: 4}
	for n, q := range want {
		if got := availability.Majority(n); got != q {
			t.Errorf("Majority(%d) = %d, want %d", n, got, q)
		}
	}
}

func TestValid(t *testing.T) {
	for _, p := range []float64{0, 1, 0.5, math.SmallestNonzeroFloat64} {
		if !availability.Valid(p) {
			t.Errorf("Valid(%v) = false", p)
		}
	}
	for _, p := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), -1e-300, math.Nextafter(1, 2)} {
		if availability.Valid(p) {
			t.Errorf("Valid(%v) = true", p)
		}
	}
}

// Nine nines and more must not drown in the rounding of 1-A.
func TestLossKeepsItsDigits(t *testing.T) {
	// Three members that fail with probability u lose the majority with
	// 3u²-2u³. 1-2^-20 is exact in binary, so no error comes from the input.
	u := math.Ldexp(1, -20)
	want := 3*u*u - 2*u*u*u
	got := quorumLoss(repeat(1-u, 3), 2)
	if rel := math.Abs(got-want) / want; rel > 1e-12 {
		t.Errorf("loss %g, want %g: relative error %g", got, want, rel)
	}
}

func TestZeroDistribution(t *testing.T) {
	var d availability.Distribution
	near(t, d.AtLeast(0), 0, 0)
	near(t, d.Loss(0), 1, 0)
	d.Add(0.25)
	near(t, d.AtLeast(1), 0.25, 0)
	if d.Len() != 1 {
		t.Errorf("Len = %d", d.Len())
	}
}

// bruteForce sums over all 2^n states of the members.
func bruteForce(ps []float64, q int) float64 {
	if len(ps) == 0 {
		return 0
	}
	var sum float64
	for state := range uint(1) << len(ps) {
		if bits.OnesCount(state) < q {
			continue
		}
		p := 1.0
		for i, a := range ps {
			if state&(1<<i) != 0 {
				p *= a
			} else {
				p *= 1 - a
			}
		}
		sum += p
	}
	return sum
}

func probabilities(low, high int) *rapid.Generator[[]float64] {
	return rapid.SliceOfN(rapid.Float64Range(0, 1), low, high)
}

func TestQuorumEqualsBruteForce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ps := probabilities(0, 9).Draw(t, "ps")
		q := rapid.IntRange(-1, 10).Draw(t, "q")
		want := bruteForce(ps, q)
		if got := quorum(ps, q); math.Abs(got-want) > 1e-12 {
			t.Fatalf("Quorum = %.17g, brute force %.17g", got, want)
		}
		if got := quorumLoss(ps, q); math.Abs(got-(1-want)) > 1e-12 {
			t.Fatalf("QuorumLoss = %.17g, brute force %.17g", got, 1-want)
		}
	})
}

func TestMonotoneInEachMember(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ps := probabilities(1, 12).Draw(t, "ps")
		i := rapid.IntRange(0, len(ps)-1).Draw(t, "i")
		before := majorityOf(ps)
		ps[i] += (1 - ps[i]) * rapid.Float64Range(0, 1).Draw(t, "gain")
		if after := majorityOf(ps); after < before-1e-12 {
			t.Fatalf("raising member %d lowered %.17g to %.17g", i, before, after)
		}
	})
}

func TestEvenCountsNeverPay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ps := probabilities(2, 12).Draw(t, "ps")
		if len(ps)%2 == 1 {
			ps = ps[1:]
		}
		even := majorityOf(ps)
		i := rapid.IntRange(0, len(ps)-1).Draw(t, "dropped")
		odd := append(append([]float64{}, ps[:i]...), ps[i+1:]...)
		if got := majorityOf(odd); got < even-1e-12 {
			t.Fatalf("%d members have %.17g, without one %.17g", len(ps), even, got)
		}
	})
}
