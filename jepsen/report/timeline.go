package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"oaas.io/control-plane/jepsen/history"
)

// The pictures share one axis of time, from left to left+plotWidth.
const (
	left      = 170.0
	plotWidth = 1000.0
	rowHeight = 18.0
	// maxBars is how many bars the timeline has at most. What comes later is counted.
	maxBars = 4000
	// maxText is how long a text in the timeline may be.
	maxText = 240
)

// bar is one thing that lasted.
type bar struct {
	X, Width float64
	// Label is written on the bar if there is room, Title shown when it is pointed at.
	Label, Title string
	Class        string
}

// row is all bars of one name.
type row struct {
	Name string
	// Y is the upper edge.
	Y    float64
	Bars []bar
}

// lanes is a picture of rows.
type lanes struct {
	Rows   []row
	Height float64
	// Left is what there was no room for.
	Omitted int
}

// axis turns times into places.
type axis struct{ length time.Duration }

func (a axis) x(at time.Duration) float64 {
	at = min(max(at, 0), a.length)
	return round(left + plotWidth*float64(at)/float64(a.length))
}

// bar makes the bar of something. What is too short to be seen is made a little longer.
func (a axis) bar(from, to time.Duration) bar {
	x := a.x(from)
	return bar{X: x, Width: max(round(a.x(to)-x), 1.5)}
}

func round(v float64) float64 { return math.Round(v*10) / 10 }

// faultLanes has a row for each kind of fault.
func faultLanes(events []history.Event, a axis) lanes {
	return a.lanes(events, history.Fault, func(e *history.Event) (string, bar) {
		end := endOf(e, a.length)
		b := a.bar(e.At, end)
		b.Class = "fault"
		lasts := fmt.Sprintf("%s to %s", clock(e.At), clock(end))
		if e.End == 0 {
			lasts = clock(e.At) + " and not ended"
		}
		b.Title = joined(e.Name, strings.Join(e.Nodes, " "), e.Text, lasts)
		return e.Name, b
	})
}

// leaderLanes has a row for each node that led. A node leads until another one is seen to.
func leaderLanes(events []history.Event, a axis) lanes {
	var led []history.Event
	for i := range events {
		if events[i].Kind == history.Leader {
			led = append(led, events[i])
		}
	}
	slices.SortStableFunc(led, func(x, y history.Event) int { return cmp.Compare(x.At, y.At) })
	for i := range led {
		if led[i].End == 0 && i+1 < len(led) {
			led[i].End = led[i+1].At
		}
	}
	return a.lanes(led, history.Leader, func(e *history.Event) (string, bar) {
		name := e.Name
		if len(e.Nodes) > 0 {
			name = strings.Join(e.Nodes, " ")
		}
		end := endOf(e, a.length)
		b := a.bar(e.At, end)
		b.Class = fmt.Sprintf("leader t%d", e.Term%2)
		b.Label = fmt.Sprint(e.Term)
		if b.Width < 9*float64(len(b.Label)) {
			b.Label = ""
		}
		b.Title = joined(name, fmt.Sprintf("term %d", e.Term), e.Text, fmt.Sprintf("%s to %s", clock(e.At), clock(end)))
		return name, b
	})
}

// noteLane has all notes in one row.
func noteLane(events []history.Event, a axis) lanes {
	return a.lanes(events, history.Note, func(e *history.Event) (string, bar) {
		b := a.bar(e.At, max(e.End, e.At))
		b.Class, b.Title = "note", joined(e.Name, strings.Join(e.Nodes, " "), e.Text, clock(e.At))
		return "notes", b
	})
}

// lanes puts the events of one kind into rows, by the name that place gives.
func (a axis) lanes(events []history.Event, kind history.EventKind, place func(*history.Event) (string, bar)) lanes {
	var out lanes
	rows := map[string][]bar{}
	bars := 0
	for i := range events {
		if events[i].Kind != kind {
			continue
		}
		if bars >= maxBars {
			out.Omitted++
			continue
		}
		bars++
		name, b := place(&events[i])
		rows[clipped(name)] = append(rows[clipped(name)], b)
	}
	for name, bars := range rows {
		out.Rows = append(out.Rows, row{Name: name, Bars: bars})
	}
	slices.SortFunc(out.Rows, func(a, b row) int { return cmp.Compare(a.Name, b.Name) })
	for i := range out.Rows {
		out.Rows[i].Y = float64(i) * rowHeight
	}
	out.Height = float64(len(out.Rows)) * rowHeight
	return out
}

func joined(parts ...string) string {
	parts = slices.DeleteFunc(parts, func(p string) bool { return p == "" })
	return clipped(strings.Join(parts, "\n"))
}

func clipped(text string) string {
	if len(text) <= maxText {
		return text
	}
	return strings.ToValidUTF8(text[:maxText], "") + "…"
}

// clock writes a time since the begin of the run.
func clock(d time.Duration) string {
	sign := ""
	if d < 0 {
		sign, d = "-", -d
	}
	tenths := int64(d / (100 * time.Millisecond))
	h, m, s := tenths/36000, tenths/600%60, float64(tenths%600)/10
	if h > 0 {
		return fmt.Sprintf("%s%d:%02d:%04.1f", sign, h, m, s)
	}
	return fmt.Sprintf("%s%d:%04.1f", sign, m, s)
}

// tick is a line of the grid with what it stands for.
type tick struct {
	At    float64
	Label string
}

// steps of a grid of times.
var steps = []time.Duration{
	100 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 20 * time.Second,
	time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour, 3 * time.Hour, 12 * time.Hour,
}

// ticks are some ten round times.
func (a axis) ticks() []tick {
	step := a.length/10 + 1
	for _, s := range steps {
		if a.length <= 12*s {
			step = s
			break
		}
	}
	var out []tick
	for at := time.Duration(0); at <= a.length; at += step {
		out = append(out, tick{At: a.x(at), Label: clock(at)})
	}
	return out
}
