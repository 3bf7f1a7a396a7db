package report

import (
	"fmt"
	"math"
	"strings"
	"time"
)

const (
	chartHeight = 140.0
	// plotTop leaves room for the topmost label.
	plotTop = 8.0
)

// line is one line of a chart.
type line struct {
	Name, Class string
	// Points of the SVG polyline; Gaps part it where there is nothing to show.
	Polylines []string
	// Values by interval, for whoever points at one; -1 is none.
	Values []float64
}

// chart is some lines with one axis of values.
type chart struct {
	Title, Unit string
	Height      float64
	Lines       []line
	Ticks       []tick
}

// charts draws how the operations went.
func charts(of []interval, width, length time.Duration) []chart {
	rate := func(count func(*interval) int) []float64 {
		out := make([]float64, len(of))
		for i := range of {
			// The last one may be shorter.
			out[i] = float64(count(&of[i])) / min(width, length-time.Duration(i)*width).Seconds()
		}
		return out
	}
	latency := func(of []interval, took func(*interval) time.Duration) []float64 {
		out := make([]float64, len(of))
		for i := range of {
			out[i] = -1
			if of[i].ok > 0 {
				out[i] = float64(took(&of[i])) / float64(time.Millisecond)
			}
		}
		return out
	}
	a := axis{length}
	return []chart{
		a.linear("Answered", "operations per second", width,
			line{Name: "ok", Class: "ok", Values: rate(func(i *interval) int { return i.ok })}),
		a.linear("Not answered as asked", "operations per second", width,
			line{Name: "failed", Class: "failed", Values: rate(func(i *interval) int { return i.failed })},
			line{Name: "unknown", Class: "unknown", Values: rate(func(i *interval) int { return i.unknown })}),
		a.logarithmic("Latency of what succeeded", "ms", width,
			line{Name: "p50", Class: "p50", Values: latency(of, func(i *interval) time.Duration { return i.p50 })},
			line{Name: "p99", Class: "p99", Values: latency(of, func(i *interval) time.Duration { return i.p99 })}),
	}
}

// linear draws lines from 0 to their highest value.
func (a axis) linear(title, unit string, width time.Duration, lines ...line) chart {
	top := nice(highest(lines))
	c := chart{Title: title, Unit: unit, Height: plotTop + chartHeight}
	y := func(v float64) float64 { return round(plotTop + chartHeight*(1-v/top)) }
	for i := range 5 {
		v := top * float64(i) / 4
		c.Ticks = append(c.Ticks, tick{At: y(v), Label: short(v)})
	}
	c.Lines = a.drawn(lines, width, y)
	return c
}

// logarithmic draws lines with a decade for each power of ten. There is always one.
func (a axis) logarithmic(title, unit string, width time.Duration, lines ...line) chart {
	low, high := math.Inf(1), math.Inf(-1)
	for _, l := range lines {
		for _, v := range l.Values {
			if v > 0 {
				low, high = min(low, v), max(high, v)
			}
		}
	}
	if low > high {
		low, high = 1, 10
	}
	bottom := math.Floor(math.Log10(low))
	decades := max(math.Ceil(math.Log10(high))-bottom, 1)
	c := chart{Title: title, Unit: unit, Height: plotTop + chartHeight}
	y := func(v float64) float64 {
		share := 0.0
		if v > 0 {
			share = min(max((math.Log10(v)-bottom)/decades, 0), 1)
		}
		return round(plotTop + chartHeight*(1-share))
	}
	for i := 0.0; i <= decades; i++ {
		v := math.Pow(10, bottom+i)
		c.Ticks = append(c.Ticks, tick{At: y(v), Label: short(v)})
	}
	c.Lines = a.drawn(lines, width, y)
	return c
}

// drawn gives the lines with their points, one in the middle of each interval.
func (a axis) drawn(lines []line, width time.Duration, y func(float64) float64) []line {
	for i := range lines {
		var points []string
		end := func() {
			if len(points) == 1 { // a line of no length, which is drawn as a dot
				points = append(points, points[0])
			}
			if len(points) > 0 {
				lines[i].Polylines = append(lines[i].Polylines, strings.Join(points, " "))
			}
			points = nil
		}
		for at, v := range lines[i].Values {
			if v < 0 {
				end()
				continue
			}
			x := a.x(time.Duration(at)*width + width/2)
			points = append(points, fmt.Sprintf("%g,%g", x, y(v)))
			lines[i].Values[at] = math.Round(v*100) / 100
		}
		end()
	}
	return lines
}

func highest(lines []line) float64 {
	top := 0.0
	for _, l := range lines {
		for _, v := range l.Values {
			top = max(top, v)
		}
	}
	return top
}

// nice is the next of 1, 2, 4, 8, 10, 20, ... that is not less.
func nice(v float64) float64 {
	if v <= 0 {
		return 1
	}
	base := math.Pow(10, math.Floor(math.Log10(v)))
	for _, f := range []float64{1, 2, 4, 8} {
		if v <= f*base {
			return f * base
		}
	}
	return 10 * base
}

// short writes a value of an axis.
func short(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%gM", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%gk", v/1e3)
	default:
		return fmt.Sprintf("%.4g", v)
	}
}
