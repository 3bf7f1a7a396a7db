package availability_test

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"oaas.io/control-plane/scheduler/availability"
)

const day = 24 * time.Hour

var epoch = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

type (
	outage  = availability.Outage
	history = availability.History
)

// down is an outage that begins so long after the epoch.
func down(after, length time.Duration) outage {
	return outage{Start: epoch.Add(after), End: epoch.Add(after + length)}
}

func planned(after, length time.Duration) outage {
	o := down(after, length)
	o.Planned = true
	return o
}

// The published figures, all of which are reproduced in full: they were cut after five
// digits, not rounded, where the exact value in the comment says so. They are for
// evidence without decay. The exact values are of an arbitrary precision calculator.
func TestBoundsOfSoMuchEvidence(t *testing.T) {
	flat, fleet := availability.FlatPrior(), availability.DefaultPrior()
	for _, tc := range []struct {
		name        string
		prior       availability.Prior
		exposure    time.Duration
		outages     float64
		table, want float64
	}{
		{"no prior 7 d 0", flat, 7 * day, 0, .99116, 0.991162920389993},
		{"no prior 30 d 0", flat, 30 * day, 0, .99792, 0.997923949318385},
		{"no prior 30 d 1", flat, 30 * day, 1, .99672, 0.996716466748954},
		{"no prior 90 d 0", flat, 90 * day, 0, .99931, 0.999307024003936},
		{"no prior 365 d 0", flat, 365 * day, 0, .99983, 0.999829039947317},
		// .99907 if it were rounded.
		{"fleet prior 7 d 0", fleet, 7 * day, 0, .99906, 0.999069358109575},
		// .99931 if it were rounded, as in the row of 90 days without a prior, which
		// is the same number: 60 days assumed and 30 seen are 90.
		{"fleet prior 30 d 0", fleet, 30 * day, 0, .99930, 0.999307024003936},
		{"fleet prior 30 d 2", fleet, 30 * day, 2, .99854, 0.998544761171635},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := tc.prior.Estimate(availability.Evidence{
				Outages: tc.outages, Exposure: tc.exposure,
				Downtime: time.Duration(tc.outages) * 30 * time.Minute,
			})
			if math.Abs(e.Lower-tc.want) > 1e-12 {
				t.Errorf("lower bound %.15f, want %.15f", e.Lower, tc.want)
			}
			if rounded, cut := math.Round(e.Lower*1e5)/1e5, math.Floor(e.Lower*1e5)/1e5; rounded != tc.table && cut != tc.table {
				t.Errorf("lower bound %.7f is neither cut nor rounded to %v", e.Lower, tc.table)
			}
			if e.MTTR != 30*time.Minute {
				t.Errorf("MTTR %v", e.MTTR)
			}
			if e.Lower >= e.Mean {
				t.Errorf("lower %v, mean %v", e.Lower, e.Mean)
			}
		})
	}
	week := fleet.Estimate(availability.Evidence{Exposure: 7 * day})
	if math.Abs(week.Mean-0.999689151383276) > 1e-12 || math.Round(week.Mean*1e5)/1e5 != .99969 {
		t.Errorf("mean after a week %.15f", week.Mean)
	}
}

func TestWeigh(t *testing.T) {
	now := epoch.Add(10 * day)
	for _, tc := range []struct {
		name            string
		outages         []outage
		outs            float64
		lost, repair    time.Duration
		planned         int
		plannedDowntime time.Duration
	}{
		{name: "none"},
		{name: "one just now", outages: []outage{down(10*day-time.Hour, time.Hour)}, outs: 1, lost: time.Hour, repair: time.Hour},
		{name: "running counts up to now", outages: []outage{{Start: now.Add(-2 * time.Hour)}}, outs: 1, lost: 2 * time.Hour, repair: 2 * time.Hour},
		{name: "beyond now", outages: []outage{down(10*day-time.Hour, 9*time.Hour)}, outs: 1, lost: time.Hour, repair: time.Hour},
		{name: "in the future", outages: []outage{down(11*day, time.Hour)}},
		{name: "before the observation", outages: []outage{down(-2*day, day)}},
		{name: "ends before it starts", outages: []outage{down(9*day, -time.Hour)}},
		{name: "planned", outages: []outage{planned(10*day-4*time.Hour, 3*time.Hour)}, lost: 3 * time.Hour, planned: 1, plannedDowntime: 3 * time.Hour},
		{name: "overlapping are one", outages: []outage{
			down(10*day-2*time.Hour, time.Hour), down(10*day-3*time.Hour, 2*time.Hour),
		}, outs: 1, lost: 2 * time.Hour, repair: 2 * time.Hour},
		{name: "caused by planned work", outages: []outage{
			planned(10*day-4*time.Hour, 3*time.Hour), down(10*day-3*time.Hour, time.Hour),
		}, lost: 3 * time.Hour, planned: 1, plannedDowntime: 3 * time.Hour},
		{name: "outlasts planned work", outages: []outage{
			planned(10*day-4*time.Hour, 3*time.Hour), down(10*day-3*time.Hour, 3*time.Hour),
		}, outs: 1, lost: 4 * time.Hour, repair: time.Hour, planned: 1, plannedDowntime: 3 * time.Hour},
		{name: "planned work within an outage", outages: []outage{
			down(10*day-4*time.Hour, 4*time.Hour), planned(10*day-3*time.Hour, time.Hour),
		}, outs: 1, lost: 4 * time.Hour, repair: 3 * time.Hour, planned: 1, plannedDowntime: time.Hour},
	} {
		t.Run(tc.name, func(t *testing.T) {
			whole := availability.Weigh(history{Since: epoch}, now)
			e := availability.Weigh(history{Since: epoch, Outages: tc.outages}, now)
			near := func(what string, got, want, tolerance float64) {
				if math.Abs(got-want) > tolerance {
					t.Errorf("%s: %v, want %v", what, got, want)
				}
			}
			// Hours of decay are a thousandth.
			near("outages", e.Outages, tc.outs, 0.002)
			near("downtime", e.Downtime.Hours(), tc.repair.Hours(), 0.01)
			near("time not up", (whole.Exposure - e.Exposure).Hours(), tc.lost.Hours(), 0.01)
			if e.Planned != tc.planned || e.PlannedDowntime != tc.plannedDowntime {
				t.Errorf("planned %d for %v", e.Planned, e.PlannedDowntime)
			}
		})
	}
}

func TestWhatIsOldCountsHalf(t *testing.T) {
	now := epoch.Add(availability.HalfLife)
	e := availability.Weigh(history{Since: epoch, Outages: []outage{down(0, time.Hour)}}, now)
	if math.Abs(e.Outages-.5) > 1e-9 || math.Abs(e.Downtime.Minutes()-30) > 1e-6 {
		t.Errorf("%+v", e)
	}
	// The mean weight of a half-life is 1/(2 ln 2).
	want := availability.HalfLife.Hours()/2/math.Ln2 - .5
	if math.Abs(e.Exposure.Hours()-want) > .01 {
		t.Errorf("exposure %v h, want %v h", e.Exposure.Hours(), want)
	}
	ages := availability.Weigh(history{Since: epoch.AddDate(-50, 0, 0)}, epoch)
	if limit := availability.HalfLife.Hours() / math.Ln2; math.Abs(ages.Exposure.Hours()-limit) > .01 {
		t.Errorf("exposure %v h, want %v h", ages.Exposure.Hours(), limit)
	}
}

func TestRepairTimeIsDrawnToTheHistory(t *testing.T) {
	now := epoch.Add(30 * day)
	h := history{Since: epoch}
	for i := range 20 {
		h.Outages = append(h.Outages, down(29*day+time.Duration(i)*time.Hour, 3*time.Minute))
	}
	e := availability.Measure(h, availability.DefaultPrior(), now)
	// 2 repairs of 30 minutes and 20 of 3 are 5.45 in the mean, a little more with decay.
	if e.MTTR < 5*time.Minute || e.MTTR > 6*time.Minute {
		t.Errorf("MTTR %v", e.MTTR)
	}
}

func TestNeverUp(t *testing.T) {
	h := history{Since: epoch, Outages: []outage{{Start: epoch.Add(-day)}}}
	e := availability.Measure(h, availability.FlatPrior(), epoch.Add(day))
	if e.Mean != 0 || e.Lower != 0 || e.Exposure != 0 {
		t.Errorf("%+v", e)
	}
	if e := availability.Measure(h, availability.Prior{}, epoch.Add(-day)); e.Mean != 1 || e.Lower != 1 {
		t.Errorf("nothing known and nothing assumed: %+v", e)
	}
}

func drawHistory(t *rapid.T) history {
	gen := rapid.Custom(func(t *rapid.T) outage {
		o := down(time.Duration(rapid.IntRange(-1000, 200*24*60).Draw(t, "start"))*time.Minute,
			time.Duration(rapid.IntRange(-10, 3000).Draw(t, "length"))*time.Minute)
		o.Planned = rapid.IntRange(0, 3).Draw(t, "planned") == 0
		if rapid.IntRange(0, 9).Draw(t, "running") == 0 {
			o.End = time.Time{}
		}
		return o
	})
	return history{Since: epoch, Outages: rapid.SliceOfN(gen, 0, 12).Draw(t, "outages")}
}

func TestMeasureProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := drawHistory(t)
		now := epoch.Add(time.Duration(rapid.IntRange(0, 300*24).Draw(t, "now")) * time.Hour)
		prior := availability.DefaultPrior()
		e := availability.Measure(h, prior, now)
		if !availability.Valid(e.Mean) || !availability.Valid(e.Lower) || e.Lower > e.Mean {
			t.Fatalf("%+v", e)
		}
		if e.Exposure < 0 || e.Outages < 0 || e.MTTR < 0 || e.Exposure > now.Sub(epoch) {
			t.Fatalf("%+v", e)
		}
		shuffled := history{Since: h.Since, Outages: rapid.Permutation(h.Outages).Draw(t, "order")}
		if diff := cmp.Diff(e, availability.Measure(shuffled, prior, now)); diff != "" {
			t.Fatalf("depends on the order:\n%s", diff)
		}
	})
}

// Where nothing else differs, one more outage never makes the bound better.
func TestAnOutageMoreIsNeverBetter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		count := rapid.Float64Range(0, 50).Draw(t, "outages")
		more := rapid.Float64Range(0, 5).Draw(t, "more")
		exposure := time.Duration(rapid.IntRange(1, 1000).Draw(t, "days")) * day
		bound := func(n float64) float64 {
			return availability.DefaultPrior().Estimate(availability.Evidence{
				Outages: n, Exposure: exposure, Downtime: time.Duration(n * float64(30*time.Minute)),
			}).Lower
		}
		if bound(count+more) > bound(count)+1e-12 {
			t.Fatalf("%v with %v, %v with %v", bound(count), count, bound(count+more), count+more)
		}
	})
}
