package run

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"oaas.io/control-plane/bench"
	"oaas.io/control-plane/jepsen/history"
	"oaas.io/control-plane/jepsen/nemesis"
)

// span is a stretch of the history.
type span struct{ from, to time.Duration }

func (s span) has(at time.Duration) bool { return at >= s.from && at < s.to }

func (s span) length() time.Duration { return max(s.to-s.from, 0) }

// broken are the stretches in which at least one fault lasted, in order and without overlaps.
func broken(done []nemesis.Done) []span {
	var all []span
	for _, d := range done {
		if d.Skipped == nil {
			all = append(all, span{d.Began, d.Ended})
		}
	}
	slices.SortFunc(all, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	var merged []span
	for _, s := range all {
		if n := len(merged); n > 0 && s.from <= merged[n-1].to {
			merged[n-1].to = max(merged[n-1].to, s.to)
		} else {
			merged = append(merged, s)
		}
	}
	return merged
}

// convergence gives, for each stretch of faults, how long after its end all nodes were ready at the same time. A stretch whose
// successor came first is censored: it is counted, and has no time.
func convergence(stretches []span, looks []Look, nodes int) (times []time.Duration, censored int) {
	slices.SortStableFunc(looks, func(a, b Look) int { return cmp.Compare(a.At, b.At) })
	for i, s := range stretches {
		until := time.Duration(1<<63 - 1)
		if i+1 < len(stretches) {
			until = stretches[i+1].from
		}
		if at, ok := allReady(looks, s.to, until, nodes); ok {
			times = append(times, at-s.to)
		} else {
			censored++
		}
	}
	return times, censored
}

// allReady is the first time in a stretch at which the latest look at each of that many nodes, since its begin, was good.
func allReady(looks []Look, from, to time.Duration, nodes int) (time.Duration, bool) {
	ready := map[string]bool{}
	for _, l := range looks {
		if l.At < from {
			continue
		}
		if l.At >= to {
			return 0, false
		}
		if l.Ready {
			ready[l.Node] = true
		} else {
			delete(ready, l.Node)
		}
		if len(ready) >= nodes {
			return l.At, true
		}
	}
	return 0, false
}

// firstWrites gives, for each fault of a name, how long after its begin a write was acknowledged that had been sent after it.
func firstWrites(h history.History, done []nemesis.Done, name string) (times []time.Duration) {
	for _, d := range done {
		if d.Nemesis != name || d.Skipped != nil {
			continue
		}
		first := time.Duration(0)
		for _, op := range h.Operations {
			if isWrite(op) && op.Outcome == history.OK && op.Call >= d.Began && (first == 0 || op.Return < first) {
				first = op.Return
			}
		}
		if first > 0 {
			times = append(times, first-d.Began)
		}
	}
	return times
}

// Share is how the operations went in a part of the history.
type Share struct {
	// Name of the nemesis, or what else the part is.
	Name string `json:"name"`
	// Times that the nemesis was done, and those that it could not be.
	Times   int           `json:"times"`
	Skipped int           `json:"skipped"`
	Lasted  time.Duration `json:"lasted"`
	OK      int           `json:"ok"`
	Failed  int           `json:"failed"`
	Unknown int           `json:"unknown"`
	P50     time.Duration `json:"p50"`
	P99     time.Duration `json:"p99"`
	Rate    float64       `json:"rate"`
}

// shares tells for each nemesis, and for the time without any, how operations that were called meanwhile went.
func shares(h history.History, done []nemesis.Done, whole span) []Share {
	parts := map[string][]span{}
	skipped := map[string]int{}
	var names []string
	for _, d := range done {
		if !slices.Contains(names, d.Nemesis) {
			names = append(names, d.Nemesis)
		}
		if d.Skipped != nil {
			skipped[d.Nemesis]++
			continue
		}
		parts[d.Nemesis] = append(parts[d.Nemesis], span{d.Began, d.Ended})
	}
	slices.Sort(names)
	out := []Share{shareOf(h, "(nothing broken)", gaps(broken(done), whole), false)}
	for _, name := range names {
		s := shareOf(h, name, parts[name], true)
		s.Skipped = skipped[name]
		out = append(out, s)
	}
	return out
}

// gaps are what some stretches leave of the whole.
func gaps(stretches []span, whole span) (left []span) {
	at := whole.from
	for _, s := range stretches {
		if s.from > at {
			left = append(left, span{at, min(s.from, whole.to)})
		}
		at = max(at, s.to)
	}
	if at < whole.to {
		left = append(left, span{at, whole.to})
	}
	return left
}

func shareOf(h history.History, name string, parts []span, counted bool) Share {
	s := Share{Name: name}
	if counted {
		s.Times = len(parts)
	}
	for _, p := range parts {
		s.Lasted += p.length()
	}
	var took []time.Duration
	for _, op := range h.Operations {
		if !slices.ContainsFunc(parts, func(p span) bool { return p.has(op.Call) }) {
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

// isWrite tells writes from reads by their kind.
func isWrite(op history.Operation) bool {
	switch op.Kind {
	case "read", "get", "list", "watch", "scan", "stale-read", "final-read":
		return false
	}
	return true
}

// heaviest is the largest resident set of any node's process, and what the same process had when it was first weighed.
func heaviest(weights []Weight) (most uint64) {
	for _, w := range weights {
		most = max(most, w.RSS)
	}
	return most
}

func count(n int, singular string) string {
	if n == 1 {
		return "1 " + singular
	}
	return fmt.Sprintf("%d %ss", n, singular)
}
