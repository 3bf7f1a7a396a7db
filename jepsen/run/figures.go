package run

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"oaas.io/control-plane/bench"
	"oaas.io/control-plane/jepsen/check"
	"oaas.io/control-plane/jepsen/history"
	"oaas.io/control-plane/jepsen/nemesis"
)

const (
	// killLeader is the nemesis after which the first acknowledged write is timed.
	killLeader = "kill-leader"
	// writeAfterKill is what is promised of it with the profile standard, in seconds.
	writeAfterKill = 3
)

// ViolationsFigure is how the figure of a check begins; its name follows, with underscores for its spaces.
const ViolationsFigure = "chaos_violations_"

// HealedFigure counts what did not come about after the last heal: that all nodes are ready,
// and that nothing is left to do.
const HealedFigure = "chaos_healed"

// Figures are what was measured, in the form of all benchmarks.
func (r *Result) Figures() []bench.Result {
	h := r.History
	seed := fmt.Sprintf("seed %d, %s, %d nodes, %d crm, %d agents", r.Options.Seed, r.Options.Duration, r.Options.Nodes, r.Options.CRMs, r.Options.Agents)
	stretches := broken(r.Done)
	faulty := shareOf(h, "faults", stretches)
	whole := shareOf(h, "whole", []Span{r.Broken})
	single := alone(h, killLeader)
	_, kills := check.Recovery(h, 0, func(e history.Event) bool { return e.Text == nemesis.WithSuccessors && single(e) })
	out := []bench.Result{
		bench.Info("chaos_operations", float64(whole.OK+whole.Failed+whole.Unknown), "", seed),
		bench.Info("chaos_faults", float64(len(r.Done)-skipped(r.Done)), "", fmt.Sprintf("of %d kinds; %d could not be done at their time, %d kinds not on this machine", kinds(r.Done), skipped(r.Done), len(r.Missing))),
		bench.Info("chaos_ops_per_second", whole.Rate, "1/s", "acknowledged, over the whole time"),
		bench.Info("chaos_ops_per_second_faults", faulty.Rate, "1/s", fmt.Sprintf("acknowledged while something was broken, %s of %s", faulty.Lasted.Round(time.Second), r.Broken.length().Round(time.Second))),
		bench.Info("chaos_unknown", float64(whole.Unknown), "", "operations whose outcome is not known"),
	}
	// Without one that came to an end there is no time: 0 would be a good one.
	if len(ended(r.Checks.Converged)) > 0 {
		out = append(out,
			bench.Info("chaos_convergence_p50", seconds(r.Checks.Converged, 50), "s", fmt.Sprintf("from the end of a fault until all nodes are ready, one leads and the clusters have confirmed, %s", reached(r.Checks.Converged))),
			bench.Info("chaos_convergence_p99", seconds(r.Checks.Converged, 99), "s", "the same"))
	}
	if len(ended(kills)) > 0 {
		out = append(out, bench.AtMost("chaos_write_after_kill_p99", seconds(kills, 99), writeAfterKill, "s",
			fmt.Sprintf("SIGKILL of the leader, with nothing else broken and all others in health, until a write is acknowledged that was sent after it, %s; p50 %.3f s", reached(kills), seconds(kills, 50))))
	}
	out = append(out, bench.Exactly(HealedFigure, unhealed(r), 0, "", fmt.Sprintf("0: ready %s and at rest %s after the last heal", after(r.Healed, r.Ready), after(r.Healed, r.Rested))))
	for i := range r.Checks.Verdicts {
		v := &r.Checks.Verdicts[i]
		out = append(out, bench.Exactly(ViolationsFigure+word(v.Name), violations(v), 0, "", v.Detail))
	}
	for _, s := range shares(h, r.Done, r.Broken) {
		if s.Times == 0 {
			continue
		}
		note := fmt.Sprintf("%s, %s in all; latency p50 %d ms, p99 %d ms; %d failed, %d unknown", count(s.Times, "time"), s.Lasted.Round(time.Second), s.P50.Milliseconds(), s.P99.Milliseconds(), s.Failed, s.Unknown)
		out = append(out, bench.Info("chaos_ops_per_second_"+word(s.Name), s.Rate, "1/s", note))
	}
	return out
}

// unhealed counts what did not come about after the last heal.
func unhealed(r *Result) (n float64) {
	for _, at := range []time.Duration{r.Ready, r.Rested} {
		if at == 0 {
			n++
		}
	}
	return n
}

func after(from, at time.Duration) string {
	if at == 0 {
		return "never"
	}
	return (at - from).Round(time.Millisecond).String()
}

// violations counts what a verdict found; one that could not be reached counts as one.
func violations(v *check.Verdict) float64 {
	if v.OK {
		return 0
	}
	return float64(max(v.Counts["violations"], len(v.Violations), 1))
}

func skipped(done []nemesis.Done) (n int) {
	for _, d := range done {
		if d.Skipped != nil {
			n++
		}
	}
	return n
}

func kinds(done []nemesis.Done) int {
	seen := map[string]bool{}
	for _, d := range done {
		if d.Skipped == nil {
			seen[d.Nemesis] = true
		}
	}
	return len(seen)
}

// Span is a stretch of the history.
type Span struct{ From, To time.Duration }

func (s Span) has(at time.Duration) bool { return at >= s.From && at < s.To }

func (s Span) length() time.Duration { return max(s.To-s.From, 0) }

// broken are the stretches in which at least one fault lasted, in order and without overlaps.
func broken(done []nemesis.Done) []Span {
	var all []Span
	for _, d := range done {
		if d.Skipped == nil {
			all = append(all, Span{d.Began, d.Ended})
		}
	}
	slices.SortFunc(all, func(a, b Span) int { return cmp.Compare(a.From, b.From) })
	var merged []Span
	for _, s := range all {
		if n := len(merged); n > 0 && s.From <= merged[n-1].To {
			merged[n-1].To = max(merged[n-1].To, s.To)
		} else {
			merged = append(merged, s)
		}
	}
	return merged
}

// alone matches faults of a name during which no other one lasted.
func alone(h history.History, name string) func(history.Event) bool {
	return func(e history.Event) bool {
		return e.Name == name && !slices.ContainsFunc(h.Events, func(o history.Event) bool {
			return o.Kind == history.Fault && (o.At != e.At || o.Name != e.Name) && o.At < e.End && o.End > e.At
		})
	}
}

// seconds is a percentile of those lapses that came to an end.
func seconds(l check.Lapses, p float64) float64 { return ended(l).Percentile(p).Seconds() }

func ended(l check.Lapses) check.Lapses {
	return slices.DeleteFunc(slices.Clone(l), func(one check.Lapse) bool { return !one.Reached })
}

func reached(l check.Lapses) string {
	n := len(ended(l))
	text := count(n, "time")
	if n < len(l) {
		text += fmt.Sprintf("; %d more were broken again before", len(l)-n)
	}
	return text
}

// isUse tells what users do from what is only looked at or listened to.
func isUse(op *history.Operation) bool { return op.Kind != history.Look && op.Kind != history.Follow }

// Share is how the operations went in a part of the history.
type Share struct {
	// Name of the nemesis, or what else the part is.
	Name string
	// Times that the nemesis was done; Skipped those that it could not be.
	Times, Skipped      int
	Lasted              time.Duration
	OK, Failed, Unknown int
	P50, P99            time.Duration
	// Rate of what was acknowledged, by the second.
	Rate float64
}

// shares tells for each nemesis, and for the time without any, how operations that were called meanwhile went.
func shares(h history.History, done []nemesis.Done, whole Span) []Share {
	parts, not := map[string][]Span{}, map[string]int{}
	var names []string
	for _, d := range done {
		if !slices.Contains(names, d.Nemesis) {
			names = append(names, d.Nemesis)
		}
		if d.Skipped != nil {
			not[d.Nemesis]++
			continue
		}
		parts[d.Nemesis] = append(parts[d.Nemesis], Span{d.Began, d.Ended})
	}
	slices.Sort(names)
	out := []Share{shareOf(h, "nothing-broken", gaps(broken(done), whole))}
	for _, name := range names {
		s := shareOf(h, name, parts[name])
		s.Skipped = not[name]
		out = append(out, s)
	}
	return out
}

// gaps are what some stretches leave of the whole.
func gaps(stretches []Span, whole Span) (left []Span) {
	at := whole.From
	for _, s := range stretches {
		if s.From > at {
			left = append(left, Span{at, min(s.From, whole.To)})
		}
		at = max(at, s.To)
	}
	if at < whole.To {
		left = append(left, Span{at, whole.To})
	}
	return left
}

func shareOf(h history.History, name string, parts []Span) Share {
	s := Share{Name: name, Times: len(parts)}
	for _, p := range parts {
		s.Lasted += p.length()
	}
	var took []time.Duration
	for i := range h.Operations {
		op := &h.Operations[i]
		if !isUse(op) || !slices.ContainsFunc(parts, func(p Span) bool { return p.has(op.Call) }) {
			continue
		}
		switch op.Outcome {
		case history.OK:
			s.OK++
			took = append(took, op.Return-op.Call)
		case history.Failed:
			s.Failed++
		case history.Unknown:
			s.Unknown++
		}
	}
	s.P50, s.P99 = bench.Quantile(took, 0.5), bench.Quantile(took, 0.99)
	if s.Lasted > 0 {
		s.Rate = float64(s.OK) / s.Lasted.Seconds()
	}
	return s
}

// word is a name as a part of a figure's.
func word(name string) string { return strings.NewReplacer(" ", "_", "-", "_").Replace(name) }

func count(n int, singular string) string {
	if n == 1 {
		return "1 " + singular
	}
	return fmt.Sprintf("%d %ss", n, singular)
}
