package run

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"

	"oaas.io/control-plane/jepsen/check"
	"oaas.io/control-plane/jepsen/history"
	"oaas.io/control-plane/jepsen/report"
)

// judge has everything checked.
func (r *Result) judge() {
	r.Verdicts = []check.Verdict{
		check.Linearizable(r.History, check.LinearizableOptions{}), check.LogOrder(r.History, &r.Final), check.Set(r.History, &r.Final),
		check.Streams(r.History), check.OneEffect(r.History, &r.Final), check.Sessions(r.History, 0), check.Runtimes(r.desired(), r.Final.Clusters),
		check.Fences(r.Final.Fenced), check.Leaders(r.History), check.Replicas(&r.Final), check.Answers(r.History),
	}
	for i := range r.Verdicts {
		r.say("%s", r.Verdicts[i])
	}
}

// desired are the units as any node that told its state has them.
func (r *Result) desired() []history.Unit {
	for _, name := range slices.Sorted(maps.Keys(r.Final.Nodes)) {
		if state := r.Final.Nodes[name]; state.Error == "" {
			return state.Units
		}
	}
	return nil
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
	for i := range r.Verdicts {
		s.Verdicts = append(s.Verdicts, verdictOf(&r.Verdicts[i]))
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

func verdictOf(v *check.Verdict) report.Verdict {
	out := report.Verdict{Check: v.Name, Result: report.Holds, Looked: v.Detail}
	for _, one := range v.Violations {
		out.Details = append(out.Details, one.String())
	}
	switch {
	case len(v.Violations) > 0:
		out.Result = report.Violated
	case !v.OK:
		out.Result = report.Undecided
	}
	return out
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
