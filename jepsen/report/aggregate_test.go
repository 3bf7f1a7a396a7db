package report

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"oaas.io/control-plane/jepsen/history"
)

func TestShares(t *testing.T) {
	h, s := small()
	got := sharesOf(requestsOf(h), h.Events, s.Took)
	want := []share{
		{Name: healthy, Lasted: 5 * second, OK: 3, P50: 3 * time.Millisecond, P99: 5 * time.Millisecond},
		{Name: "kill-leader", Times: 1, Lasted: 4 * second, OK: 1, Failed: 1, Unknown: 1, P50: 900 * time.Millisecond, P99: 900 * time.Millisecond},
		{Name: "slow-link", Times: 1, Lasted: 2 * second},
	}
	if d := cmp.Diff(want, got, cmpopts.IgnoreUnexported(share{})); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestIntervals(t *testing.T) {
	h, s := small()
	got := intervals(requestsOf(h), s.Took, 2*second)
	var counts [][3]int
	for _, i := range got {
		counts = append(counts, [3]int{i.ok, i.failed, i.unknown})
	}
	// The operation without an answer counts when it was called.
	if want := [][3]int{{2, 0, 0}, {1, 0, 1}, {0, 1, 0}, {0, 0, 0}, {1, 0, 0}}; !cmp.Equal(counts, want) {
		t.Errorf("counts = %v, want %v", counts, want)
	}
	if got[0].p50 != 2*time.Millisecond || got[0].p99 != 5*time.Millisecond || got[2].p99 != 0 {
		t.Errorf("latencies = %+v", got)
	}
}

// However long a run is and whatever its events are, no operation is lost, and all times
// are parted among the shares.
func TestNothingIsLost(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		length := time.Duration(rapid.Int64Range(int64(time.Millisecond), int64(100*time.Hour)).Draw(r, "length"))
		at := rapid.Map(rapid.Int64Range(0, int64(length)), func(n int64) time.Duration { return time.Duration(n) })
		var h history.History
		for range rapid.IntRange(0, 8).Draw(r, "faults") {
			h.Events = append(h.Events, history.Event{
				Kind: history.Fault, Name: rapid.SampledFrom([]string{"a", "b"}).Draw(r, "name"), At: at.Draw(r, "at"), End: at.Draw(r, "end"),
			})
		}
		for range rapid.IntRange(0, 20).Draw(r, "operations") {
			h.Operations = append(h.Operations, history.Operation{Outcome: history.OK, Call: at.Draw(r, "call"), Return: at.Draw(r, "return")})
		}
		length = lengthOf(h, length)
		ops := requestsOf(h)
		width := intervalFor(length)
		all := 0
		of := intervals(ops, length, width)
		for _, i := range of {
			all += i.ok
		}
		if all != len(ops) || len(of) > maxIntervals {
			r.Fatalf("%d of %d operations in %d intervals", all, len(ops), len(of))
		}
		listed, pieces := piecesOf(h.Events, length)
		from := time.Duration(0)
		for _, p := range pieces {
			if p.from != from || p.to <= from || len(p.shares) == 0 {
				r.Fatalf("pieces are %+v", pieces)
			}
			from = p.to
		}
		if from != length {
			r.Fatalf("the pieces end at %s, the run at %s", from, length)
		}
		most := time.Duration(0)
		for _, s := range listed {
			most += s.Lasted
		}
		if most < length {
			r.Fatalf("only %s of %s are somebody's", most, length)
		}
		counted := 0
		for _, s := range sharesOf(ops, h.Events, length) {
			counted += s.OK
		}
		if counted < len(ops) {
			r.Fatalf("%d of %d operations are counted", counted, len(ops))
		}
	})
}

func TestClock(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0:00.0", 1234 * time.Millisecond: "0:01.2", 61 * second: "1:01.0", time.Hour + 59*time.Minute + 59950*time.Millisecond: "1:59:59.9", -second: "-0:01.0",
	} {
		if got := clock(d); got != want {
			t.Errorf("clock(%s) = %s, want %s", d, got, want)
		}
	}
}

func TestNice(t *testing.T) {
	for v, want := range map[float64]float64{0: 1, 0.03: 0.04, 1: 1, 1.5: 2, 9: 10, 1000: 1000, 1001: 2000, 7999: 8000} {
		if got := nice(v); got < want*0.999 || got > want*1.001 {
			t.Errorf("nice(%g) = %g, want %g", v, got, want)
		}
	}
}
