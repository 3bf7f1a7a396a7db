package report

import (
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"oaas.io/control-plane/jepsen/history"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"took": took, "percent": percent, "rate": rate, "add": func(a, b float64) float64 { return round(a + b) },
	"middle":  func(x, width float64) float64 { return round(x + width/2) },
	"picture": func(p *page, id string, l lanes, none string) picture { return picture{p, id, l, none} },
}).Parse(pageText))

const (
	// embeddedBytes is how much of the attachments a page has within itself.
	embeddedBytes = 2 << 20
	// maxDetails and maxDetail bound what a page tells of one check.
	maxDetails = 100
	maxDetail  = 4000
	// firstDetails is how many of them are seen without asking for more.
	firstDetails = 10
)

// page is what the template shows.
type page struct {
	Summary
	Result                Result
	Length, Interval      time.Duration
	Operations            int
	Verdicts              []verdict
	Faults, Leaders, Note lanes
	Charts                []chart
	// Broken are the times of faults, to be seen behind the charts.
	Broken            []bar
	Shares            []share
	Asked             []*asked
	Ticks             []tick
	Attached          []attached
	Left, Plot, Whole float64
	// Series are the charts' values for the script.
	Series series
}

// picture is one of the timeline's pictures. None says what it means if it has no row.
type picture struct {
	Page  *page
	ID    string
	Lanes lanes
	None  string
}

// series is what the script needs to tell what is pointed at.
type series struct {
	Left     float64       `json:"left"`
	Plot     float64       `json:"plot"`
	LengthMS float64       `json:"lengthMs"`
	WidthMS  float64       `json:"widthMs"`
	Charts   []seriesChart `json:"charts"`
}

type seriesChart struct {
	Unit  string       `json:"unit"`
	Lines []seriesLine `json:"lines"`
}

type seriesLine struct {
	Name   string    `json:"name"`
	Values []float64 `json:"values"`
}

// verdict is a Verdict with what a page leaves out counted.
type verdict struct {
	Verdict
	// More are the details that are seen only by who asks for them.
	More    []string
	Omitted int
	Links   []link
}

// link leads to a part of the page.
type link struct{ ID, Name string }

// attached is an attachment as a page shows it.
type attached struct {
	Attachment
	ID string
	// Source is a data URL of what is embedded.
	Source template.URL
	// Page and Picture say how it is shown; neither is only named.
	Page, Picture bool
	// Link is where it lies, if it is a relative path.
	Link template.URL
	Why  string
}

func render(w io.Writer, h history.History, s Summary) error {
	ops := requestsOf(h)
	length := lengthOf(h, s.Took)
	width := intervalFor(length)
	a := axis{length}
	p := page{
		Summary: s, Result: s.Result(), Length: length, Interval: width, Operations: len(ops),
		Faults: faultLanes(h.Events, a), Leaders: leaderLanes(h.Events, a), Note: noteLane(h.Events, a),
		Charts: charts(intervals(ops, length, width), width, length),
		Shares: sharesOf(ops, h.Events, length), Asked: askedOf(ops), Ticks: a.ticks(),
		Attached: attachedOf(s.Attachments), Left: left, Plot: plotWidth, Whole: left + plotWidth + 20,
		Series: series{Left: left, Plot: plotWidth, LengthMS: ms(length), WidthMS: ms(width)},
	}
	_, pieces := piecesOf(h.Events, length)
	for _, b := range broken(pieces) {
		p.Broken = append(p.Broken, a.bar(b.from, b.to))
	}
	for _, c := range p.Charts {
		sc := seriesChart{Unit: c.Unit}
		for _, l := range c.Lines {
			sc.Lines = append(sc.Lines, seriesLine{l.Name, l.Values})
		}
		p.Series.Charts = append(p.Series.Charts, sc)
	}
	p.Verdicts = verdictsOf(s.Verdicts, p.Attached)
	if err := pageTemplate.Execute(w, &p); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

// verdictsOf gives the verdicts, those that want to be read first.
func verdictsOf(all []Verdict, files []attached) []verdict {
	out := make([]verdict, 0, len(all))
	for _, v := range all {
		shown := verdict{Verdict: v}
		if len(v.Details) > maxDetails {
			shown.Omitted = len(v.Details) - maxDetails
		}
		shown.Details = nil
		for _, d := range v.Details[:min(len(v.Details), maxDetails)] {
			if len(d) > maxDetail {
				d = strings.ToValidUTF8(d[:maxDetail], "") + "…"
			}
			shown.Details = append(shown.Details, d)
		}
		if n := len(shown.Details); n > firstDetails {
			shown.Details, shown.More = shown.Details[:firstDetails], shown.Details[firstDetails:]
		}
		for i := range files {
			if slices.Contains(v.Attachments, files[i].Name) {
				shown.Links = append(shown.Links, link{files[i].ID, files[i].Name})
			}
		}
		out = append(out, shown)
	}
	order := map[Result]int{Violated: 0, Undecided: 1, Holds: 2}
	slices.SortStableFunc(out, func(a, b verdict) int { return order[a.Result] - order[b.Result] })
	return out
}

// attachedOf embeds pictures and pages as far as there is room.
func attachedOf(all []Attachment) []attached {
	room := embeddedBytes
	out := make([]attached, 0, len(all))
	for i, f := range all {
		a := attached{Attachment: f, ID: "attachment-" + strconv.Itoa(i+1), Link: relative(f.Path)}
		switch media, _, _ := strings.Cut(f.Type, ";"); media {
		case "text/html":
			a.Page = true
		case "image/svg+xml", "image/png", "image/jpeg":
			a.Picture = true
		default:
			a.Why = "it is neither a page nor a picture"
		}
		switch {
		case a.Why != "":
		case len(f.Data) == 0:
			a.Why = "it is not at hand"
		case len(f.Data) > room:
			a.Why = fmt.Sprintf("it has %d bytes, which is more than there is room for", len(f.Data))
		default:
			room -= len(f.Data)
			media, _, _ := strings.Cut(f.Type, ";")
			a.Source = template.URL("data:" + media + ";charset=utf-8;base64," + base64.StdEncoding.EncodeToString(f.Data)) //nolint:gosec // the media type is one of those above
		}
		a.Page, a.Picture = a.Page && a.Source != "", a.Picture && a.Source != ""
		out = append(out, a)
	}
	return out
}

// relative makes a link of a path that leads to somewhere beside or below the page.
func relative(path string) template.URL {
	if path == "" || strings.HasPrefix(path, "/") || strings.HasPrefix(path, ".") || strings.ContainsFunc(path, func(r rune) bool { return !strings.ContainsRune(harmless, r) }) {
		return ""
	}
	return template.URL(path) //nolint:gosec // it has no scheme and nothing that has a meaning
}

// harmless are the characters that mean nothing in a link.
const harmless = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-"

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// took writes how long something took, with three digits.
func took(d time.Duration) string {
	switch {
	case d == 0:
		return "–"
	case d < time.Second:
		return fmt.Sprintf("%.3g ms", ms(d))
	case d < 2*time.Minute:
		return fmt.Sprintf("%.3g s", d.Seconds())
	default:
		return d.Round(time.Second).String()
	}
}

func rate(v float64) string {
	if v >= 100 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'f', 1, 64)
}

func percent(part, of int) string {
	if of == 0 {
		return "–"
	}
	return strconv.FormatFloat(100*float64(part)/float64(of), 'f', 2, 64) + " %"
}

// All is how many operations there were.
func (s *share) All() int { return s.OK + s.Failed + s.Unknown }
