package availability_test

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"oaas.io/control-plane/scheduler/availability"
)

// every is a history of so many days with an outage at a fixed distance.
func every(days int, gap, length time.Duration) history {
	h := history{Since: epoch}
	for at := gap; at < time.Duration(days)*day; at += gap {
		h.Outages = append(h.Outages, down(at, length))
	}
	return h
}

func TestFleetPrior(t *testing.T) {
	now := epoch.Add(60 * day)
	quiet := history{Since: epoch}
	perMonth := func(p availability.Prior) float64 { return p.Outages / p.Exposure.Hours() * 30 * 24 }

	for name, few := range map[string][]history{
		"nobody": nil, "one": {every(60, day, time.Hour)}, "not observed yet": {{Since: now}, {Since: now}},
	} {
		if diff := cmp.Diff(availability.DefaultPrior(), availability.FleetPrior(few, now)); diff != "" {
			t.Errorf("%s: -default +got:\n%s", name, diff)
		}
	}

	silent := availability.FleetPrior([]history{quiet, quiet, quiet}, now)
	if perMonth(silent) >= .5 || perMonth(silent) < availability.RarestOutages || silent.Exposure != 60*day {
		t.Errorf("a quiet fleet: %+v", silent)
	}

	alike := availability.FleetPrior([]history{
		every(60, 10*day, 10*time.Minute), every(60, 10*day, 10*time.Minute), every(60, 10*day, 10*time.Minute),
	}, now)
	if alike.Exposure != availability.StrongestPrior {
		t.Errorf("clusters that are alike say as much as they may about others: %+v", alike)
	}
	// 2.5 a month were seen; the default draws a little towards its half.
	if got := perMonth(alike); got < 1.5 || got > 2.5 {
		t.Errorf("%v outages a month, of 2.5 seen", got)
	}
	if alike.MTTR < 10*time.Minute || alike.MTTR > 14*time.Minute {
		t.Errorf("MTTR %v", alike.MTTR)
	}

	apart := availability.FleetPrior([]history{quiet, quiet, quiet, every(60, 12*time.Hour, time.Minute)}, now)
	if apart.Exposure != availability.WeakestPrior {
		t.Errorf("clusters that differ say little about others: %+v", apart)
	}
	if got := perMonth(apart); got > availability.MostOutages+1e-9 {
		t.Errorf("%v outages a month", got)
	}
}

// A fleet of two kinds of clusters, half of each, says the less about a new one the
// further their rates are apart, beyond what chance explains.
func TestFleetPriorFindsTheSpread(t *testing.T) {
	now := epoch.Add(100 * day)
	for _, tc := range []struct {
		gap, other  time.Duration
		least, most time.Duration
	}{
		// Rates of .1 and .15 a day: counting alone explains more.
		{10 * day, 160 * time.Hour, availability.StrongestPrior, availability.StrongestPrior},
		// Rates of .1 and .25: a variance of .0056, of which counting explains about
		// half; the mean of .175 divided by the rest is about 60 days.
		{10 * day, 4 * day, 40 * day, 100 * day},
		// Rates of .1 and .5: a mean of .3 by a variance of .04 are 7.5 days.
		{10 * day, 2 * day, availability.WeakestPrior, availability.WeakestPrior},
	} {
		var fleet []history
		for range 30 {
			fleet = append(fleet, every(100, tc.gap, time.Second), every(100, tc.other, time.Second))
		}
		if p := availability.FleetPrior(fleet, now); p.Exposure < tc.least || p.Exposure > tc.most {
			t.Errorf("%v and %v: a strength of %.1f days", tc.gap, tc.other, p.Exposure.Hours()/24)
		}
	}
}

func TestFleetPriorIsWithinBoundsWhateverTheOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := epoch.Add(time.Duration(rapid.IntRange(0, 300*24).Draw(t, "now")) * time.Hour)
		fleet := rapid.SliceOfN(rapid.Custom(drawHistory), 0, 6).Draw(t, "fleet")
		p := availability.FleetPrior(fleet, now)
		if p.Exposure < availability.WeakestPrior || p.Exposure > availability.StrongestPrior ||
			p.MTTR < availability.ShortestRepair || p.MTTR > availability.LongestRepair {
			t.Fatalf("%+v", p)
		}
		month := p.Outages / p.Exposure.Hours() * 30 * 24
		if math.IsNaN(month) || month < availability.RarestOutages-1e-9 || month > availability.MostOutages+1e-9 {
			t.Fatalf("%v outages a month", month)
		}
		again := availability.FleetPrior(rapid.Permutation(fleet).Draw(t, "order"), now)
		if diff := cmp.Diff(p, again); diff != "" {
			t.Fatalf("depends on the order:\n%s", diff)
		}
	})
}

func TestSplit(t *testing.T) {
	now := epoch.Add(100 * day)
	with := func(outages ...outage) history { return history{Since: epoch, Outages: outages} }
	running := outage{Start: epoch.Add(50 * day)}
	for _, tc := range []struct {
		name    string
		members []history
		domain  []outage
		alone   [][]outage
	}{
		{"together", []history{with(down(day, time.Hour)), with(down(day+120*time.Second, time.Minute))},
			[]outage{down(day, time.Hour)}, [][]outage{nil, nil}},
		{"lasts until the last", []history{with(down(day, time.Minute)), with(down(day+time.Second, time.Hour))},
			[]outage{down(day, time.Hour+time.Second)}, [][]outage{nil, nil}},
		{"too late", []history{with(down(day, time.Hour)), with(down(day+121*time.Second, time.Hour))},
			nil, [][]outage{{down(day, time.Hour)}, {down(day+121*time.Second, time.Hour)}}},
		{"one after the other", []history{
			with(down(day, time.Hour)), with(down(day+100*time.Second, time.Hour)), with(down(day+200*time.Second, time.Hour)),
		}, []outage{down(day, time.Hour+200*time.Second)}, [][]outage{nil, nil, nil}},
		{"one cluster twice", []history{with(down(day, time.Second), down(day+time.Minute, time.Second)), with()},
			nil, [][]outage{{down(day, time.Second), down(day+time.Minute, time.Second)}, nil}},
		{"still running", []history{with(running), with(down(50*day+time.Second, time.Hour))},
			[]outage{running}, [][]outage{nil, nil}},
		{"planned work is nobody's outage", []history{with(planned(day, time.Hour)), with(down(day, time.Hour))},
			nil, [][]outage{{planned(day, time.Hour)}, {down(day, time.Hour)}}},
		{"nobody", nil, nil, [][]outage{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			domain, alone := availability.Split(tc.members, now)
			if diff := cmp.Diff(tc.domain, domain.Outages); diff != "" {
				t.Errorf("domain: -want +got:\n%s", diff)
			}
			got := make([][]outage, len(alone))
			for i := range alone {
				got[i] = alone[i].Outages
			}
			if diff := cmp.Diff(tc.alone, got); diff != "" {
				t.Errorf("alone: -want +got:\n%s", diff)
			}
		})
	}
}

func TestADomainIsObservedSinceItsSecondMember(t *testing.T) {
	now := epoch.Add(100 * day)
	domain, _ := availability.Split([]history{
		{Since: epoch.Add(9 * day)}, {Since: epoch}, {Since: epoch.Add(3 * day)},
	}, now)
	if !domain.Since.Equal(epoch.Add(3 * day)) {
		t.Errorf("since %v", domain.Since)
	}
	if domain, _ := availability.Split([]history{{Since: epoch}}, now); !domain.Since.Equal(now) {
		t.Errorf("since %v", domain.Since)
	}
}

func TestADomainIsMeasuredAfterThreeJointOutages(t *testing.T) {
	now := epoch.Add(100 * day)
	for joint := range 5 {
		var members [2]history
		for m := range members {
			members[m].Since = epoch
			for i := range joint {
				members[m].Outages = append(members[m].Outages, down(time.Duration(20*i+1)*day, time.Hour))
			}
		}
		domain, _ := availability.Split(members[:], now)
		e, ok := availability.MeasureDomain(domain, availability.DefaultPrior(), now)
		if ok != (joint >= availability.EnoughJoint) {
			t.Errorf("measured after %d joint outages: %v", joint, ok)
		}
		if e.Outages > float64(joint) || joint > 0 && e.Outages == 0 {
			t.Errorf("%d joint outages: %+v", joint, e)
		}
	}
}

// Splitting loses no outage: each is its member's own or part of one of the domain.
func TestSplitLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := epoch.Add(300 * day)
		members := rapid.SliceOfN(rapid.Custom(drawHistory), 0, 5).Draw(t, "members")
		domain, alone := availability.Split(members, now)
		for m := range members {
			for _, o := range members[m].Outages {
				kept := false
				for _, a := range alone[m].Outages {
					kept = kept || a == o
				}
				for _, d := range domain.Outages {
					kept = kept || !o.Planned && !o.Start.Before(d.Start) &&
						(d.End.IsZero() || !o.End.IsZero() && !o.End.After(d.End))
				}
				if !kept {
					t.Fatalf("%+v of member %d is lost", o, m)
				}
			}
		}
	})
}
