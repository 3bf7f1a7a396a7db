package command

import (
	"fmt"
	"strings"
	"time"
)

// newDisplay redraws on a terminal and writes lines elsewhere, or a document after each
// change where a format for programs is asked for.
func (a *app) newDisplay(format string) display {
	if format != "" && format != statusFormats[0] {
		return &documents{app: a, format: format}
	}
	if _, _, ok := a.Size(); ok {
		return &redraw{app: a, color: a.Getenv("NO_COLOR") == ""}
	}
	return &log{app: a}
}

// log writes a line per transition, with its time.
type log struct {
	app     *app
	before  progress
	silence string // the last trouble that was written
}

func (l *log) line(text string) {
	l.app.printf("%s  %s\n", l.app.Now().UTC().Format("2006-01-02T15:04:05.000Z"), printable(text))
}

func (l *log) show(p progress, _ time.Duration) {
	l.silence = ""
	for _, t := range p.transitions(l.before) {
		l.line(fmt.Sprintf("deployment/%s  %s", p.key, t))
	}
	l.before = p
}

func (l *log) trouble(err error) {
	if text := err.Error(); text != l.silence {
		l.silence = text
		l.line("waiting for a server: " + text)
	}
}

func (l *log) end(p progress, elapsed time.Duration) { l.app.printEnd(p, elapsed) }

func (a *app) printEnd(p progress, elapsed time.Duration) {
	a.printf("deployment %q is available in %s (%s)\n", p.key, clusters(len(p.units)), elapsed.Round(100*time.Millisecond))
}

// documents writes a document whenever something has changed.
type documents struct {
	app    *app
	format string
	last   string
}

func (d *documents) show(p progress, _ time.Duration) {
	raw, err := encodeJSON(p.document())
	if err != nil || string(raw) == d.last {
		return
	}
	d.last = string(raw)
	if err := d.app.printLine(d.format, p.document()); err != nil {
		d.app.errorf("%v\n", err)
	}
}

func (d *documents) trouble(err error) {
	d.app.errorf("waiting for a server: %s\n", printable(err.Error()))
}

func (d *documents) end(progress, time.Duration) {}

// redraw keeps a block of lines up to date in place.
type redraw struct {
	app   *app
	color bool
	lines []string // of the last frame, without trouble
	drawn int      // lines on the screen
}

func (r *redraw) show(p progress, elapsed time.Duration) {
	r.lines = p.frame(elapsed)
	r.draw(r.lines)
}

func (r *redraw) end(p progress, elapsed time.Duration) { r.app.printEnd(p, elapsed) }

func (r *redraw) trouble(err error) {
	r.draw(append(r.lines[:len(r.lines):len(r.lines)], "waiting for a server: "+printable(err.Error())))
}

var paint = strings.NewReplacer(
	"✔", "\x1b[32m✔\x1b[0m", "✘", "\x1b[31m✘\x1b[0m", "!", "\x1b[31m!\x1b[0m", "◐", "\x1b[33m◐\x1b[0m", "⧗", "\x1b[33m⧗\x1b[0m",
)

// draw goes back to the first line and overwrites. Lines are cut to the width of
// the terminal and the block to its height: the cursor cannot go back to a line
// that has wrapped or has scrolled away.
func (r *redraw) draw(lines []string) {
	var b strings.Builder
	if r.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\r", r.drawn)
	}
	columns, rows, ok := r.app.Size()
	if ok && len(lines) > rows-1 {
		more := len(lines) - (rows - 2)
		lines = append(lines[:rows-2:rows-2], fmt.Sprintf("… and %d more lines", more))
	}
	for _, line := range lines {
		if ok {
			line = clip(line, columns-1)
		}
		if glyph := []rune(line); r.color && len(glyph) > 0 {
			line = paint.Replace(string(glyph[:1])) + string(glyph[1:])
		}
		b.WriteString("\x1b[2K" + line + "\n")
	}
	b.WriteString("\x1b[J")
	r.drawn = len(lines)
	r.app.printf("%s", b.String())
}
