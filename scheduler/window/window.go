package window

import (
	"fmt"
	"slices"
	"time"
)

// The limits of the windows.
const (
	MaxDuration = 7 * 24 * time.Hour
	MaxWindows  = 100
)

// horizon is how far the next change is looked for. All windows come again every week.
const horizon = 8

// Window opens at a time of day, on some days of the week.
type Window struct {
	// Days on which it opens, in its zone; all when there are none.
	Days []time.Weekday
	// Start is the time of day at which it opens: "HH:MM", 00:00 to 23:59.
	Start string
	// Duration is above zero and at most MaxDuration.
	Duration time.Duration
	// Zone is an IANA name such as "Europe/Berlin", or "UTC". The local zone is
	// refused, as it is another one on every machine.
	Zone string
}

// InvalidError is a window that contradicts its documentation.
type InvalidError struct {
	// Window is the index of the window, or -1 when it is all of them.
	Window int
	// Field is days, start, duration, zone or windows.
	Field   string
	Problem string
}

func (e *InvalidError) Error() string {
	if e.Window < 0 {
		return fmt.Sprintf("window: %s: %s", e.Field, e.Problem)
	}
	return fmt.Sprintf("window %d: %s: %s", e.Window, e.Field, e.Problem)
}

// Schedule is a list of windows that was found valid. It is immutable, and safe for
// concurrent use. The zero value is always open.
type Schedule struct{ windows []parsed }

type parsed struct {
	days         [7]bool
	hour, minute int
	duration     time.Duration
	zone         *time.Location
}

// New reads the windows. The error is an *InvalidError for the first problem.
func New(windows []Window) (Schedule, error) {
	if len(windows) > MaxWindows {
		return Schedule{}, &InvalidError{Window: -1, Field: "windows", Problem: fmt.Sprintf(
			"%d are more than %d", len(windows), MaxWindows)}
	}
	s := Schedule{windows: make([]parsed, len(windows))}
	for i, w := range windows {
		p, field, problem := w.parse()
		if problem != "" {
			return Schedule{}, &InvalidError{Window: i, Field: field, Problem: problem}
		}
		s.windows[i] = p
	}
	return s, nil
}

// Open tells whether one of the windows is open, and when that changes next: when the
// last of the windows that are open now, or open before it closes, closes, or when the
// next one opens. next is zero when it does not change within a week. Callers that ask
// more than once make a Schedule; the errors are those of New.
func Open(windows []Window, now time.Time) (open bool, next time.Time, err error) {
	s, err := New(windows)
	if err != nil {
		return false, time.Time{}, err
	}
	open, next = s.Open(now)
	return open, next, nil
}

// Open is as the function. A window is open at the moment it opens, and is not at the
// moment it closes. next has the location of now.
func (s Schedule) Open(now time.Time) (open bool, next time.Time) {
	if len(s.windows) == 0 {
		return true, time.Time{}
	}
	for _, o := range s.occurrences(now) {
		switch {
		case !o.end.After(now):
		case o.start.After(now):
			return false, beforeHorizon(o.start, now)
		default:
			return true, beforeHorizon(o.end, now)
		}
	}
	return false, time.Time{}
}

func beforeHorizon(next, now time.Time) time.Time {
	if next.After(now.AddDate(0, 0, horizon)) {
		return time.Time{}
	}
	return next.In(now.Location())
}

type occurrence struct{ start, end time.Time }

// occurrences are all that may matter at a moment, in ascending order, those that
// overlap or touch as one.
func (s Schedule) occurrences(now time.Time) []occurrence {
	var all []occurrence
	for _, w := range s.windows {
		year, month, day := now.In(w.zone).Date()
		// One that opened a whole duration ago may be open still, and one that opens
		// at the horizon may be part of one that is open now.
		for offset := -horizon; offset <= horizon+1; offset++ {
			// Noon exists on every day in every zone, which midnight does not.
			date := time.Date(year, month, day+offset, 12, 0, 0, 0, w.zone)
			if w.days[date.Weekday()] {
				start := w.opening(date)
				all = append(all, occurrence{start: start, end: start.Add(w.duration)})
			}
		}
	}
	slices.SortFunc(all, func(a, b occurrence) int { return a.start.Compare(b.start) })
	var merged []occurrence
	for _, o := range all {
		if n := len(merged); n > 0 && !o.start.After(merged[n-1].end) {
			if o.end.After(merged[n-1].end) {
				merged[n-1].end = o.end
			}
			continue
		}
		merged = append(merged, o)
	}
	return merged
}

// opening is the moment at which the window opens on a date.
func (w parsed) opening(date time.Time) time.Time {
	year, month, day := date.Date()
	t := time.Date(year, month, day, w.hour, w.minute, 0, 0, w.zone)
	begin, end := t.ZoneBounds()
	wanted := time.Date(year, month, day, w.hour, w.minute, 0, 0, time.UTC)
	if shown := wall(t); !shown.Equal(wanted) {
		// The clocks never show this time. time.Date gives one that is off by the
		// change, on either side of it; where midnight is left out, even on the day
		// before.
		if shown.After(wanted) {
			return begin
		}
		return end
	}
	if begin.IsZero() {
		return t
	}
	// The clocks may have shown this time already, before they were put back.
	_, after := t.Zone()
	_, before := begin.Add(-time.Second).Zone()
	if first := t.Add(time.Duration(after-before) * time.Second); before > after && first.Before(begin) {
		return first
	}
	return t
}

// wall is what the clocks show at a moment, as a time that can be compared.
func wall(t time.Time) time.Time {
	year, month, day := t.Date()
	return time.Date(year, month, day, t.Hour(), t.Minute(), 0, 0, time.UTC)
}

func (w Window) parse() (p parsed, field, problem string) {
	for _, d := range w.Days {
		if d < time.Sunday || d > time.Saturday {
			return p, "days", fmt.Sprintf("%d is no day of the week", int(d))
		}
		p.days[d] = true
	}
	if len(w.Days) == 0 {
		p.days = [7]bool{true, true, true, true, true, true, true}
	}
	var ok bool
	if p.hour, p.minute, ok = clock(w.Start); !ok {
		return p, "start", fmt.Sprintf("%q is not a time of day such as 02:30", w.Start)
	}
	if p.duration = w.Duration; w.Duration <= 0 || w.Duration > MaxDuration {
		return p, "duration", fmt.Sprintf("%v is not above 0 and at most %v", w.Duration, MaxDuration)
	}
	if w.Zone == "" || w.Zone == "Local" {
		return p, "zone", fmt.Sprintf("%q is not the name of a time zone such as Europe/Berlin or UTC", w.Zone)
	}
	zone, err := time.LoadLocation(w.Zone)
	if err != nil {
		return p, "zone", fmt.Sprintf("%q is not a time zone that is known here", w.Zone)
	}
	p.zone = zone
	return p, "", ""
}

// clock reads exactly HH:MM.
func clock(s string) (hour, minute int, ok bool) {
	if len(s) != 5 || s[2] != ':' {
		return 0, 0, false
	}
	for _, i := range []int{0, 1, 3, 4} {
		if s[i] < '0' || s[i] > '9' {
			return 0, 0, false
		}
	}
	hour, minute = int(s[0]-'0')*10+int(s[1]-'0'), int(s[3]-'0')*10+int(s[4]-'0')
	return hour, minute, hour < 24 && minute < 60
}
