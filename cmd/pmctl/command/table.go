package command

import (
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// none stands in a cell that has no value.
const none = "<none>"

const columnGap = 3

// table is aligned text: each column as wide as its widest cell.
type table struct {
	header []string
	rows   [][]string
	indent string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// lines gives the table without line ends.
func (t *table) lines() []string {
	all := t.rows
	if len(t.header) > 0 {
		all = append([][]string{t.header}, t.rows...)
	}
	var widths []int
	for _, row := range all {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(printable(cell)))
		}
	}
	out := make([]string, 0, len(all))
	for _, row := range all {
		var b strings.Builder
		b.WriteString(t.indent)
		for i, cell := range row {
			cell = printable(cell)
			b.WriteString(cell)
			b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+columnGap))
		}
		out = append(out, strings.TrimRight(b.String(), " "))
	}
	return out
}

func (t *table) write(w io.Writer) error {
	lines := t.lines()
	if len(lines) == 0 {
		return nil
	}
	_, err := io.WriteString(w, strings.Join(lines, "\n")+"\n")
	return err
}

// printable keeps what servers and clusters send from steering the terminal.
func printable(s string) string {
	if !strings.ContainsFunc(s, unicode.IsControl) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}

// clip shortens a text to n characters.
func clip(s string, n int) string {
	if n < 1 || utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}

func orDash(s string) string {
	if s == "" {
		return none
	}
	return s
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// age is the time since t in the two units that matter.
func age(now time.Time, t *time.Time) string {
	if t == nil || t.IsZero() || t.Unix() == 0 {
		return none
	}
	return duration(now.Sub(*t))
}

func duration(d time.Duration) string {
	d = max(d, 0).Truncate(time.Second)
	day := 24 * time.Hour
	two := func(big, small time.Duration) string {
		out := shortUnit(d, big)
		if rest := d % big; rest >= small {
			out += shortUnit(rest, small)
		}
		return out
	}
	switch {
	case d < 2*time.Minute:
		return shortUnit(d, time.Second)
	case d < 10*time.Minute:
		return two(time.Minute, time.Second)
	case d < 3*time.Hour:
		return shortUnit(d, time.Minute)
	case d < 8*time.Hour:
		return two(time.Hour, time.Minute)
	case d < 2*day:
		return shortUnit(d, time.Hour)
	case d < 8*day:
		return two(day, time.Hour)
	default:
		return shortUnit(d, day)
	}
}

func shortUnit(d, unit time.Duration) string {
	letter := map[time.Duration]string{time.Second: "s", time.Minute: "m", time.Hour: "h", 24 * time.Hour: "d"}[unit]
	return strconv.FormatInt(int64(d/unit), 10) + letter
}
