package check

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"oaas.io/control-plane/jepsen/history"
)

// Lapse is how long something took from the end of a fault, or from its begin.
type Lapse struct {
	// Faults are the names of those that it is about.
	Faults []string      `json:"faults"`
	From   time.Duration `json:"from"`
	Took   time.Duration `json:"took"`
	// Reached is false when it had not happened by the time of the next fault, or of the end
	// of the run; Took is the time until then.
	Reached bool `json:"reached"`
	// WaitedFor names what was missing until the end of Took, or still is.
	WaitedFor string `json:"waited_for,omitempty"`
}

// Lapses are several.
type Lapses []Lapse

// Percentile gives the time within which so many of 100 lapses were over (nearest rank);
// one that was not reached counts as longer than any. It is 0 of none.
func (l Lapses) Percentile(p float64) time.Duration {
	if len(l) == 0 {
		return 0
	}
	took := make([]time.Duration, len(l))
	for i, one := range l {
		took[i] = one.Took
		if !one.Reached {
			took[i] = math.MaxInt64
		}
	}
	slices.Sort(took)
	rank := int(math.Ceil(p / 100 * float64(len(took))))
	return took[min(max(rank, 1), len(took))-1]
}

// quiet is a time in which nothing was broken.
type quiet struct {
	faults     []string
	from, till time.Duration
}

// quietTimes are those after faults, until the next fault begins or the history ends. Faults
// that overlap are one. There is none after a fault that was never ended.
func quietTimes(h history.History) []quiet {
	faults := slices.DeleteFunc(slices.Clone(h.Events), func(e history.Event) bool { return e.Kind != history.Fault })
	slices.SortStableFunc(faults, func(a, b history.Event) int { return cmp.Compare(a.At, b.At) })
	end := endOf(h)
	var out []quiet
	var now quiet
	for i, e := range faults {
		now.faults = append(now.faults, e.Name)
		ended := e.End
		if ended == 0 {
			ended = math.MaxInt64
		}
		now.from = max(now.from, ended)
		now.till = end
		if i+1 < len(faults) {
			now.till = faults[i+1].At
		}
		if now.from < now.till {
			out = append(out, now)
			now = quiet{}
		}
	}
	return out
}

func endOf(h history.History) time.Duration {
	var end time.Duration
	for i := range h.Operations {
		end = max(end, h.Operations[i].Return, h.Operations[i].Call)
	}
	return end
}

// looked is a look at a node.
type looked struct {
	*history.Operation
	status history.Status
}

func looksOf(h history.History) ([]looked, error) {
	var out []looked
	for i := range h.Operations {
		op := &h.Operations[i]
		if op.Kind != history.Look || op.Return == 0 {
			continue
		}
		s, err := history.As[history.Status](op.Output)
		if err != nil {
			return nil, fmt.Errorf("check: operation %d: %w", op.ID, err)
		}
		out = append(out, looked{op, s})
	}
	slices.SortStableFunc(out, func(a, b looked) int { return cmp.Compare(a.Return, b.Return) })
	return out, nil
}

// Convergence tells for each time without faults how long it took until all was well: from
// some moment on every node of nodes was ready and one led, and then there was a moment at
// which clusters had confirmed all that is wanted of them, but for as much as was always
// under way before the first fault. (That is a moment only, because users go on changing
// what is wanted.) Longer than limit is a violation, and so is never, unless the time
// without faults was shorter than limit.
func Convergence(h history.History, nodes []string, limit time.Duration) (Verdict, Lapses) {
	f := newFindings("convergence")
	looks, err := looksOf(h)
	if err != nil {
		return broken(f.name, err), nil
	}
	var out Lapses
	usual := usualPending(h, looks)
	for _, q := range quietTimes(h) {
		l := converged(q, looks, nodes, usual)
		out = append(out, l)
		f.count("heals", 1)
		if !l.Reached {
			f.count("not converged", 1)
		}
		if l.Took > limit {
			what := "slow convergence"
			if !l.Reached {
				what = "no convergence"
			}
			f.violation(Violation{
				What: what, Key: strings.Join(l.Faults, "+"),
				Detail: fmt.Sprintf("%s after %s; waited for %s", l.Took.Round(time.Millisecond), l.From.Round(time.Millisecond), l.WaitedFor),
			})
		}
	}
	return withLapses(f.verdict(), out), out
}

func withLapses(v Verdict, l Lapses) Verdict {
	reached := slices.DeleteFunc(slices.Clone(l), func(one Lapse) bool { return !one.Reached })
	if len(reached) > 0 {
		v.Detail += fmt.Sprintf("; p50 %s, p95 %s, max %s", round(reached.Percentile(50)), round(reached.Percentile(95)), round(reached.Percentile(100)))
	}
	return v
}

func round(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

// usualPending is the most that clusters had not confirmed while nothing was broken yet.
func usualPending(h history.History, looks []looked) int {
	first := time.Duration(math.MaxInt64)
	for i := range h.Events {
		if e := &h.Events[i]; e.Kind == history.Fault {
			first = min(first, e.At)
		}
	}
	usual := 0
	for _, one := range looks {
		if one.Return < first && one.status.Leads {
			usual = max(usual, one.status.Pending)
		}
	}
	return usual
}

// converged finds the moment at which all was well again.
func converged(q quiet, looks []looked, nodes []string, usual int) Lapse {
	at := q.from
	l := Lapse{Faults: q.faults, From: q.from, Reached: true}
	reach := func(moment time.Duration, ok bool, what string) {
		if !ok {
			l.Reached, l.WaitedFor, moment = false, what, q.till
		}
		if moment > at {
			at, l.WaitedFor = moment, what
		}
	}
	for _, node := range nodes {
		moment, ok := steadily(looks, q, func(one looked) (bool, bool) { return one.Node == node, one.status.Ready })
		if l.Reached {
			reach(moment, ok, node+" to be ready")
		}
	}
	// A look at one node cannot tell that nobody leads; that one does can be told.
	led, delivered := time.Duration(-1), time.Duration(-1)
	for _, one := range looks {
		if one.Call < q.from || one.Return > q.till || !one.status.Leads {
			continue
		}
		if led < 0 {
			led = one.Return
		}
		if delivered < 0 && one.Return >= at && one.status.Pending <= usual {
			delivered = one.Return
		}
	}
	if l.Reached {
		reach(led, led >= 0, "a leader")
	}
	if l.Reached {
		reach(delivered, delivered >= 0, "clusters to confirm")
	}
	l.Took = at - q.from
	return l
}

// steadily finds the first moment from which on all looks that are meant were good, if the
// last one was.
func steadily(looks []looked, q quiet, is func(looked) (mine, good bool)) (time.Duration, bool) {
	var since time.Duration
	ok := false
	for _, one := range looks {
		if one.Call < q.from || one.Return > q.till {
			continue
		}
		mine, good := is(one)
		switch {
		case !mine:
		case !good:
			ok = false
		case !ok:
			since, ok = one.Return, true
		}
	}
	return since, ok
}

// Recovery tells for each fault that matches how long it took from its begin until a write
// was acknowledged that was asked for after it. Longer than limit is a violation.
func Recovery(h history.History, limit time.Duration, match func(history.Event) bool) (Verdict, Lapses) {
	f := newFindings("recovery")
	var writes []*history.Operation
	for i := range h.Operations {
		if op := &h.Operations[i]; op.Command && op.Outcome == history.OK {
			writes = append(writes, op)
		}
	}
	slices.SortStableFunc(writes, func(a, b *history.Operation) int { return cmp.Compare(a.Return, b.Return) })
	end := endOf(h)
	var out Lapses
	for i := range h.Events {
		e := &h.Events[i]
		if e.Kind != history.Fault || !match(*e) {
			continue
		}
		f.count("faults", 1)
		l := Lapse{Faults: []string{e.Name}, From: e.At, Took: end - e.At, WaitedFor: "a write to be acknowledged"}
		for _, w := range writes {
			if w.Call >= e.At {
				l.Took, l.Reached = w.Return-e.At, true
				break
			}
		}
		out = append(out, l)
		if l.Took > limit {
			f.violation(Violation{What: "writes stood still", Key: e.Name, Detail: fmt.Sprintf("for %s from %s on", round(l.Took), round(l.From))})
		}
	}
	return withLapses(f.verdict(), out), out
}

// LeaderAt is the node that was last seen to lead at a time; empty when none was.
func LeaderAt(h history.History, at time.Duration) string {
	node := ""
	var term uint64
	for i := range h.Events {
		if e := &h.Events[i]; e.Kind == history.Leader && e.At <= at && e.Term >= term && len(e.Nodes) > 0 {
			node, term = e.Nodes[0], e.Term
		}
	}
	return node
}

// HitsLeader matches faults of some name that hit the node that led. The name is matched by
// its beginning; empty is any.
func HitsLeader(h history.History, name string) func(history.Event) bool {
	return func(e history.Event) bool {
		leader := LeaderAt(h, e.At)
		return strings.HasPrefix(e.Name, name) && leader != "" && slices.Contains(e.Nodes, leader)
	}
}
