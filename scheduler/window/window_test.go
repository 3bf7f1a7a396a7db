package window_test

import (
	"errors"
	"testing"
	"time"
	_ "time/tzdata"

	"pgregory.net/rapid"

	"oaas.io/control-plane/scheduler/window"
)

func at(t *testing.T, s string) time.Time {
	t.Helper()
	if s == "" {
		return time.Time{}
	}
	moment, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return moment
}

func TestOpen(t *testing.T) {
	type windows = []window.Window
	nightly := windows{{Start: "22:00", Duration: 4 * time.Hour, Zone: "UTC"}}
	weekend := windows{{Days: []time.Weekday{time.Saturday}, Start: "23:00", Duration: 2 * time.Hour, Zone: "Europe/Berlin"}}
	// In Berlin the clocks go from 02:00 to 03:00 on 2026-03-29, and from 03:00 to
	// 02:00 on 2026-10-25, both at 01:00 UTC.
	early := windows{{Start: "02:30", Duration: time.Hour, Zone: "Europe/Berlin"}}
	long := windows{{Start: "00:30", Duration: 4 * time.Hour, Zone: "Europe/Berlin"}}
	for _, tc := range []struct {
		name    string
		windows windows
		now     string
		open    bool
		next    string
	}{
		{"no windows", nil, "2026-01-01T00:00:00Z", true, ""},
		{"before", nightly, "2026-01-01T21:59:59Z", false, "2026-01-01T22:00:00Z"},
		{"opens", nightly, "2026-01-01T22:00:00Z", true, "2026-01-02T02:00:00Z"},
		{"over midnight", nightly, "2026-01-02T01:59:59Z", true, "2026-01-02T02:00:00Z"},
		{"closes", nightly, "2026-01-02T02:00:00Z", false, "2026-01-02T22:00:00Z"},
		{"over the year", nightly, "2026-12-31T23:00:00Z", true, "2027-01-01T02:00:00Z"},
		{"the day on which it opens", weekend, "2026-01-03T23:30:00Z", true, "2026-01-04T00:00:00Z"},
		{"not the day into which it lasts", weekend, "2026-01-04T22:30:00Z", false, "2026-01-10T22:00:00Z"},
		{"left out: not yet", early, "2026-03-29T00:59:59Z", false, "2026-03-29T01:00:00Z"},
		{"left out: opens at the change", early, "2026-03-29T01:00:00Z", true, "2026-03-29T02:00:00Z"},
		{"left out: closes", early, "2026-03-29T02:00:00Z", false, "2026-03-30T00:30:00Z"},
		{"twice: the first", early, "2026-10-25T00:30:00Z", true, "2026-10-25T01:30:00Z"},
		{"twice: not the second", early, "2026-10-25T01:30:00Z", false, "2026-10-26T01:30:00Z"},
		{"four hours in spring", long, "2026-03-28T23:30:00Z", true, "2026-03-29T03:30:00Z"},
		{"four hours in autumn", long, "2026-10-24T22:30:00Z", true, "2026-10-25T02:30:00Z"},
		{"overlapping", windows{
			{Start: "22:00", Duration: 2 * time.Hour, Zone: "UTC"}, {Start: "23:00", Duration: 3 * time.Hour, Zone: "UTC"},
		}, "2026-01-01T22:30:00Z", true, "2026-01-02T02:00:00Z"},
		{"one after the other", windows{
			{Start: "22:00", Duration: time.Hour, Zone: "UTC"}, {Start: "23:00", Duration: time.Hour, Zone: "UTC"},
		}, "2026-01-01T22:30:00Z", true, "2026-01-02T00:00:00Z"},
		{"never closes", windows{{Start: "00:00", Duration: 24 * time.Hour, Zone: "UTC"}}, "2026-01-01T22:30:00Z", true, ""},
		{"a whole week", windows{
			{Days: []time.Weekday{time.Monday}, Start: "12:00", Duration: window.MaxDuration, Zone: "UTC"},
		}, "2026-01-05T11:59:59Z", true, ""},
		{"a day in Auckland is another one here", windows{
			{Days: []time.Weekday{time.Sunday}, Start: "01:00", Duration: time.Hour, Zone: "Pacific/Auckland"},
		}, "2026-01-03T12:00:00Z", true, "2026-01-03T13:00:00Z"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			open, next, err := window.Open(tc.windows, at(t, tc.now))
			if err != nil {
				t.Fatal(err)
			}
			if open != tc.open || !next.Equal(at(t, tc.next)) {
				t.Errorf("open %v, next %v", open, next)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	good := window.Window{Start: "02:30", Duration: time.Hour, Zone: "UTC"}
	for _, tc := range []struct {
		field  string
		change func(*window.Window)
	}{
		{"days", func(w *window.Window) { w.Days = []time.Weekday{7} }},
		{"days", func(w *window.Window) { w.Days = []time.Weekday{-1} }},
		{"start", func(w *window.Window) { w.Start = "" }},
		{"start", func(w *window.Window) { w.Start = "2:30" }},
		{"start", func(w *window.Window) { w.Start = "24:00" }},
		{"start", func(w *window.Window) { w.Start = "23:60" }},
		{"start", func(w *window.Window) { w.Start = "+2:30" }},
		{"start", func(w *window.Window) { w.Start = "02-30" }},
		{"duration", func(w *window.Window) { w.Duration = 0 }},
		{"duration", func(w *window.Window) { w.Duration = -time.Hour }},
		{"duration", func(w *window.Window) { w.Duration = window.MaxDuration + 1 }},
		{"zone", func(w *window.Window) { w.Zone = "" }},
		{"zone", func(w *window.Window) { w.Zone = "Local" }},
		{"zone", func(w *window.Window) { w.Zone = "Europe/Nowhere" }},
		{"zone", func(w *window.Window) { w.Zone = "../etc/passwd" }},
	} {
		bad := good
		tc.change(&bad)
		_, _, err := window.Open([]window.Window{good, bad}, time.Unix(0, 0))
		var e *window.InvalidError
		if !errors.As(err, &e) || e.Window != 1 || e.Field != tc.field || e.Problem == "" || e.Error() == "" {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	_, err := window.New(make([]window.Window, window.MaxWindows+1))
	var e *window.InvalidError
	if !errors.As(err, &e) || e.Window != -1 || e.Field != "windows" {
		t.Error(err)
	}
}

// The answer stays the same until the next change, and is another one then.
func TestNextIsWhenItChanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		windows := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) window.Window {
			w := window.Window{
				Start:    rapid.SampledFrom([]string{"00:00", "00:30", "01:59", "02:00", "02:30", "03:00", "12:00", "23:59"}).Draw(t, "start"),
				Duration: time.Duration(rapid.IntRange(1, 30*60).Draw(t, "minutes")) * time.Minute,
				Zone: rapid.SampledFrom([]string{
					"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Asia/Kathmandu",
				}).Draw(t, "zone"),
			}
			for _, d := range rapid.SliceOfN(rapid.IntRange(0, 6), 0, 3).Draw(t, "days") {
				w.Days = append(w.Days, time.Weekday(d))
			}
			return w
		}), 1, 3).Draw(t, "windows")
		s, err := window.New(windows)
		if err != nil {
			t.Fatal(err)
		}
		now := time.Unix(rapid.Int64Range(1767225600, 1798761600).Draw(t, "now"), 0).UTC()
		open, next := s.Open(now)
		if next.IsZero() {
			if !open {
				t.Fatal("never opens")
			}
			return
		}
		if !next.After(now) {
			t.Fatalf("changes at %v, which is not after %v", next, now)
		}
		if after, _ := s.Open(next); after == open {
			t.Fatalf("at %v it is still %v", next, open)
		}
		between := now.Add(time.Duration(rapid.Int64Range(0, int64(next.Sub(now))-1).Draw(t, "between")))
		if still, same := s.Open(between); still != open || !same.Equal(next) {
			t.Fatalf("at %v it is %v until %v, at %v it was %v until %v", between, still, same, now, open, next)
		}
	})
}

// A window opens once on each of its days, and the clocks show its start then, unless
// they never do.
func TestOpensOnceADay(t *testing.T) {
	for _, zone := range []string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago"} {
		location, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		for _, start := range []string{"00:00", "00:30", "01:30", "02:00", "02:15", "02:30", "03:00"} {
			s, err := window.New([]window.Window{{Start: start, Duration: time.Minute, Zone: zone}})
			if err != nil {
				t.Fatal(err)
			}
			// Noon to noon.
			now := time.Date(2025, 12, 31, 12, 0, 0, 0, location)
			for range 365 {
				_, opens := s.Open(now)
				noon := time.Date(now.Year(), now.Month(), now.Day()+1, 12, 0, 0, 0, location)
				if !opens.Before(noon) {
					t.Fatalf("%s %s: does not open before %v", zone, start, noon)
				}
				if begin, _ := opens.In(location).ZoneBounds(); opens.In(location).Format("15:04") != start && !opens.Equal(begin) {
					t.Errorf("%s %s: opens at %v", zone, start, opens)
				}
				if _, again := s.Open(opens.Add(time.Minute)); !again.After(noon) {
					t.Errorf("%s %s: opens twice, at %v and %v", zone, start, opens, again)
				}
				now = noon
			}
		}
	}
}

func FuzzOpen(f *testing.F) {
	f.Add("02:30", int64(time.Hour), "Europe/Berlin", 0, int64(1774746000))
	f.Add("24:00", int64(-1), "Local", 9, int64(0))
	f.Fuzz(func(t *testing.T, start string, duration int64, zone string, day int, now int64) {
		w := []window.Window{{
			Days: []time.Weekday{time.Weekday(day)}, Start: start, Duration: time.Duration(duration), Zone: zone,
		}}
		moment := time.Unix(now%(1<<36), 0)
		_, next, err := window.Open(w, moment)
		if err != nil {
			var e *window.InvalidError
			if !errors.As(err, &e) {
				t.Fatalf("%T: %v", err, err)
			}
		} else if !next.IsZero() && !next.After(moment) {
			t.Fatalf("next %v at %v", next, moment)
		}
	})
}
