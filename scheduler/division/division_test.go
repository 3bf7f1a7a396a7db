package division_test

import (
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"oaas.io/control-plane/scheduler/division"
)

type share = division.Share

// open is a share without bounds or history.
func open(weight float64) share { return share{Weight: weight, Most: math.MaxInt} }

func TestDivide(t *testing.T) {
	for _, tc := range []struct {
		name   string
		total  int
		shares []share
		want   []int
	}{
		{"nothing over nobody", 0, nil, []int{}},
		{"nothing", 0, []share{open(1)}, []int{0}},
		{"equal", 9, []share{open(1), open(1), open(1)}, []int{3, 3, 3}},
		{"the earlier of equals", 4, []share{open(1), open(1), open(1)}, []int{2, 1, 1}},
		// The usual example of Sainte-Laguë, seven seats.
		{"53 24 23", 7, []share{open(53), open(24), open(23)}, []int{3, 2, 2}},
		{"small weights", 7, []share{open(5.3e-300), open(2.4e-300), open(2.3e-300)}, []int{3, 2, 2}},
		{"large weights", 7, []share{open(5.3e307), open(2.4e307), open(2.3e307)}, []int{3, 2, 2}},
		{"cap", 10, []share{{Weight: 9, Most: 2}, open(1), open(1)}, []int{2, 4, 4}},
		{"floor", 10, []share{open(98), {Weight: 1, Least: 2, Most: 9}, {Weight: 1, Least: 3, Most: 3}}, []int{5, 2, 3}},
		{"floors take all", 3, []share{{Weight: 1, Least: 1, Most: 9}, {Weight: 9, Least: 2, Most: 9}}, []int{1, 2}},
		{"the holder of equals", 4, []share{open(1), {Weight: 1, Most: 9, Prior: 2}, open(1)}, []int{1, 2, 1}},
		{"a holder keeps ties only", 4, []share{open(3), {Weight: 1, Most: 9, Prior: 4}}, []int{3, 1}},
		{"a holder has no more than it held first", 3, []share{
			{Weight: 1, Most: 9}, {Weight: 1, Most: 9, Prior: 1},
		}, []int{2, 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := division.Divide(tc.total, tc.shares)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	invalid := func(i int) func(error) bool {
		return func(err error) bool {
			var e *division.InvalidError
			return errors.As(err, &e) && e.Share == i && e.Problem != ""
		}
	}
	for _, tc := range []struct {
		name   string
		total  int
		shares []share
		is     func(error) bool
	}{
		{"negative total", -1, nil, invalid(-1)},
		{"enormous total", division.MaxTotal + 1, []share{open(1)}, invalid(-1)},
		{"weight 0", 1, []share{open(1), open(0)}, invalid(1)},
		{"weight below 0", 1, []share{open(-1)}, invalid(0)},
		{"weight NaN", 1, []share{open(math.NaN())}, invalid(0)},
		{"weight infinite", 1, []share{open(math.Inf(1))}, invalid(0)},
		{"negative floor", 1, []share{{Weight: 1, Least: -1, Most: 1}}, invalid(0)},
		{"floor above cap", 1, []share{{Weight: 1, Least: 2, Most: 1}}, invalid(0)},
		{"negative prior", 1, []share{{Weight: 1, Most: 1, Prior: -1}}, invalid(0)},
		{"nobody", 2, nil, func(err error) bool {
			var e *division.ShortageError
			return errors.As(err, &e) && e.Missing() == 2
		}},
		{"caps", 10, []share{{Weight: 1, Most: 3}, {Weight: 1, Most: 4}}, func(err error) bool {
			var e *division.ShortageError
			return errors.As(err, &e) && *e == division.ShortageError{Total: 10, Capacity: 7} && e.Missing() == 3
		}},
		{"floors", 1, []share{{Weight: 1, Least: 2, Most: 3}, {Weight: 1, Least: 1, Most: 4}}, func(err error) bool {
			var e *division.FloorError
			return errors.As(err, &e) && *e == division.FloorError{Total: 1, Floor: 3} && e.Missing() == 2
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := division.Divide(tc.total, tc.shares)
			if !tc.is(err) || got != nil {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

func drawShares(t *rapid.T, n int) []share {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) share {
		least := rapid.IntRange(0, 3).Draw(t, "least")
		return share{
			// Small integers give many ties, which is where mistakes are.
			Weight: float64(rapid.IntRange(1, 6).Draw(t, "weight")),
			Least:  least,
			Most:   least + rapid.IntRange(0, 9).Draw(t, "span"),
			Prior:  rapid.IntRange(0, 9).Draw(t, "prior"),
		}
	}), n, n).Draw(t, "shares")
}

func bounds(shares []share) (least, most int) {
	for _, s := range shares {
		least, most = least+s.Least, most+s.Most
	}
	return least, most
}

func TestSumsToTheTotalWithinBoundsAndMonotonously(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shares := drawShares(t, rapid.IntRange(1, 7).Draw(t, "n"))
		least, most := bounds(shares)
		before := make([]int, len(shares))
		for total := least; total <= most; total++ {
			got, err := division.Divide(total, shares)
			if err != nil {
				t.Fatal(err)
			}
			sum := 0
			for i, g := range got {
				sum += g
				if g < shares[i].Least || g > shares[i].Most {
					t.Fatalf("total %d: share %d has %d", total, i, g)
				}
				if g < before[i] {
					t.Fatalf("total %d: share %d lost replicas: %v after %v", total, i, got, before)
				}
			}
			if sum != total {
				t.Fatalf("%v sums to %d, not %d", got, sum, total)
			}
			before = got
		}
	})
}

// Webster's division is the one in which no share got its last replica with a smaller
// quotient than another share would get its next one with: for each pair,
// w_i/(2a_i-1) >= w_j/(2a_j+1) where i may give and j may take.
func TestNoExchangeImproves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shares := drawShares(t, rapid.IntRange(2, 7).Draw(t, "n"))
		least, most := bounds(shares)
		got, err := division.Divide(rapid.IntRange(least, most).Draw(t, "total"), shares)
		if err != nil {
			t.Fatal(err)
		}
		for i, from := range shares {
			for j, to := range shares {
				if i == j || got[i] == from.Least || got[j] == to.Most {
					continue
				}
				give, take := from.Weight*float64(2*got[j]+1), to.Weight*float64(2*got[i]-1)
				if give < take {
					t.Fatalf("%v: %d should give to %d", got, i, j)
				}
				if give == take && got[i] > from.Prior && got[j] < to.Prior {
					t.Fatalf("%v: a tie moved a replica from %d, which held it, to %d", got, j, i)
				}
			}
		}
	})
}

// What was divided stays as it is when it is divided again with any of its own results
// as the prior.
func TestStable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shares := drawShares(t, rapid.IntRange(1, 7).Draw(t, "n"))
		least, most := bounds(shares)
		total := rapid.IntRange(least, most).Draw(t, "total")
		first, err := division.Divide(total, shares)
		if err != nil {
			t.Fatal(err)
		}
		for i := range shares {
			shares[i].Prior = first[i]
		}
		again, err := division.Divide(total, shares)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(first, again); diff != "" {
			t.Fatalf("-first +again:\n%s", diff)
		}
	})
}

func TestFloor(t *testing.T) {
	for _, tc := range []struct{ demand, n, survive, want int }{
		{10, 3, 1, 5}, {10, 3, 0, 4}, {10, 3, 2, 10}, {9, 4, 1, 3}, {1, 5, 2, 1},
		{0, 3, 1, 0}, {-1, 3, 3, 0},
		{10, 3, 3, -1}, {10, 0, 0, -1}, {10, 3, -1, -1},
		{math.MaxInt, 2, 1, math.MaxInt},
	} {
		if got := division.Floor(tc.demand, tc.n, tc.survive); got != tc.want {
			t.Errorf("Floor(%d, %d, %d) = %d, want %d", tc.demand, tc.n, tc.survive, got, tc.want)
		}
	}
}

// The floor is enough, and one less is not.
func TestFloorIsTheLeastThatSurvives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 9).Draw(t, "n")
		survive := rapid.IntRange(0, n-1).Draw(t, "survive")
		demand := rapid.IntRange(1, 1000).Draw(t, "demand")
		f := division.Floor(demand, n, survive)
		if f*(n-survive) < demand || (f-1)*(n-survive) >= demand {
			t.Fatalf("floor %d", f)
		}
	})
}

func FuzzDivide(f *testing.F) {
	f.Add(7, 53.0, 24.0, 0, 9, 0)
	f.Add(3, 1.0, 1.0, 1, 2, 5)
	f.Fuzz(func(t *testing.T, total int, w1, w2 float64, least, most, prior int) {
		got, err := division.Divide(total%1000, []share{
			{Weight: w1, Least: least, Most: most, Prior: prior}, open(w2),
		})
		if err == nil && (got[0]+got[1] != total%1000 || got[0] < least || got[0] > most) {
			t.Fatalf("got %v", got)
		}
	})
}
