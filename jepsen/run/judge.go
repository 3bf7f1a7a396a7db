package run

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"oaas.io/control-plane/jepsen/check"
	"oaas.io/control-plane/jepsen/report"
)

const (
	// recoverWithin bounds how long writes may stand still: faults last some seconds, two of them may follow each other, and most
	// cannot be lived through by a minority.
	recoverWithin = 60 * time.Second
)

// judge has everything checked.
func (r *Result) judge() {
	r.Checks = check.All(r.History, &r.Final, check.Options{
		Nodes: r.Nodes, ConvergeWithin: r.Options.Settle, RecoverWithin: recoverWithin, RestBefore: r.Broken.From, RestAfter: r.Rested,
	})
	if r.Restored != nil {
		r.Checks.Verdicts = append(r.Checks.Verdicts, *r.Restored)
	}
	for i := range r.Checks.Verdicts {
		r.say("%s", r.Checks.Verdicts[i])
	}
}

// Summary is what the report shows beside the history.
func (r *Result) Summary() report.Summary {
	s := report.Summary{
		Title:   fmt.Sprintf("%d nodes, %d crm, %d agents, %s", r.Options.Nodes, r.Options.CRMs, r.Options.Agents, r.Options.Duration),
		Seed:    r.Options.Seed,
		Command: r.Options.Command,
		Began:   r.Began, Took: r.Took,
		Versions: append(r.Versions, report.Field{Name: "Go", Value: runtime.Version()}),
	}
	for i := range r.Checks.Verdicts {
		v, pictures := verdictOf(&r.Checks.Verdicts[i])
		s.Verdicts, s.Attachments = append(s.Verdicts, v), append(s.Attachments, pictures...)
	}
	for _, f := range r.Figures() {
		value := strconv.FormatFloat(f.Value, 'g', -1, 64)
		if f.Unit != "" {
			value += " " + f.Unit
		}
		s.Figures = append(s.Figures, report.Field{Name: f.Name, Value: value, Note: f.Note})
	}
	for _, m := range r.Missing {
		s.Unavailable = append(s.Unavailable, report.Unavailable{Nemesis: m.Name, Reason: oneLine(m.Reason)})
	}
	return s
}

// verdictOf gives a verdict as the report shows it, with the pictures that belong to it. One
// that cannot be drawn is not among them: its violation is told in words.
func verdictOf(v *check.Verdict) (out report.Verdict, pictures []report.Attachment) {
	out = report.Verdict{Check: v.Name, Result: report.Holds, Looked: v.Detail}
	for _, one := range v.Violations {
		out.Details = append(out.Details, one.String())
	}
	switch {
	case len(v.Violations) > 0:
		out.Result = report.Violated
	case !v.OK:
		out.Result = report.Undecided
	}
	for _, p := range v.Pictures {
		var page bytes.Buffer
		if _, err := p.WriteTo(&page); err == nil {
			name := v.Name + " of " + p.Key
			out.Attachments = append(out.Attachments, name)
			pictures = append(pictures, report.Attachment{Name: name, Type: "text/html", Data: page.Bytes()})
		}
	}
	return out, pictures
}

// WriteReport writes the page of the run, making its directory.
func (r *Result) WriteReport(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	if err := errors.Join(report.Render(file, r.History, r.Summary()), file.Close()); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}
