package report

import (
	"cmp"
	"slices"
	"time"

	"oaas.io/control-plane/jepsen/history"
)

// maxIntervals is how many intervals a line has at most.
const maxIntervals = 300

// widths are those that an interval may have, so that a rate is easy to think of.
var widths = []time.Duration{
	100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 15 * time.Second, 30 * time.Second,
	time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour,
}

// intervalFor is the shortest width with which so long a run has few enough intervals.
func intervalFor(length time.Duration) time.Duration {
	for _, w := range widths {
		if length <= maxIntervals*w {
			return w
		}
	}
	return length/maxIntervals + 1
}

// interval is what came to an end in a part of the run.
type interval struct {
	ok, failed, unknown int
	p50, p99            time.Duration
	took                []time.Duration
}

// lengthOf is the time from the begin of the run to the last thing that is known of it.
func lengthOf(h history.History, took time.Duration) time.Duration {
	length := max(took, time.Millisecond)
	for i := range h.Operations {
		length = max(length, h.Operations[i].Call, h.Operations[i].Return)
	}
	for i := range h.Events {
		length = max(length, h.Events[i].At, h.Events[i].End)
	}
	return length
}

// requestsOf are the operations that users wait for, in the order of their calls: neither
// the messages of streams nor the looks at nodes by which the harness learns who leads.
func requestsOf(h history.History) []*history.Operation {
	out := make([]*history.Operation, 0, len(h.Operations))
	for i := range h.Operations {
		if op := &h.Operations[i]; op.Kind != history.Follow && op.Kind != history.Look {
			out = append(out, op)
		}
	}
	slices.SortStableFunc(out, func(a, b *history.Operation) int { return cmp.Compare(a.Call, b.Call) })
	return out
}

// ended is when an operation came to an end. One that was never answered is shown when it
// was called.
func ended(op *history.Operation) time.Duration {
	return max(op.Return, op.Call, 0)
}

// intervals puts the operations into intervals of that width by when they ended.
func intervals(ops []*history.Operation, length, width time.Duration) []interval {
	out := make([]interval, int((length-1)/width)+1)
	for _, op := range ops {
		at := &out[min(int(ended(op)/width), len(out)-1)]
		switch op.Outcome {
		case history.OK:
			at.ok++
			at.took = append(at.took, op.Return-op.Call)
		case history.Failed:
			at.failed++
		case history.Unknown:
			at.unknown++
		}
	}
	for i := range out {
		out[i].p50, out[i].p99 = halfAndMost(out[i].took)
		out[i].took = nil
	}
	return out
}

// halfAndMost sorts latencies and gives their median and 99th percentile, 0 without any.
func halfAndMost(took []time.Duration) (p50, p99 time.Duration) {
	if len(took) == 0 {
		return 0, 0
	}
	slices.Sort(took)
	return took[(len(took)-1)/2], took[(len(took)*99+99)/100-1]
}

// Healthy names the time in which nothing was broken.
const healthy = "nothing broken"

// share is how operations went that were called in a part of the run.
type share struct {
	Name                string
	Times               int
	Lasted              time.Duration
	OK, Failed, Unknown int
	P50, P99            time.Duration
	took                []time.Duration
}

// Rate is how many operations succeeded per second.
func (s *share) Rate() float64 {
	if s.Lasted <= 0 {
		return 0
	}
	return float64(s.OK) / s.Lasted.Seconds()
}

// piece is a part of the run in which the same faults lasted.
type piece struct {
	from, to time.Duration
	shares   []*share
}

// sharesOf tells of each kind of fault, and of the time without any, how it went meanwhile.
// The first is the time without. An operation counts where it was called.
func sharesOf(ops []*history.Operation, events []history.Event, length time.Duration) []share {
	all, pieces := piecesOf(events, length)
	at := 0
	for _, op := range ops {
		for at+1 < len(pieces) && op.Call >= pieces[at].to {
			at++
		}
		for _, s := range pieces[at].shares {
			s.count(op)
		}
	}
	out := make([]share, 0, len(all))
	for _, s := range all {
		s.P50, s.P99 = halfAndMost(s.took)
		s.took = nil
		out = append(out, *s)
	}
	return out
}

func (s *share) count(op *history.Operation) {
	switch op.Outcome {
	case history.OK:
		s.OK++
		s.took = append(s.took, op.Return-op.Call)
	case history.Failed:
		s.Failed++
	case history.Unknown:
		s.Unknown++
	}
}

// edge is where a fault begins or ends.
type edge struct {
	at    time.Duration
	fault *share
	by    int
}

// broken are the parts of the run in which at least one fault lasted.
func broken(pieces []piece) (out []piece) {
	for _, p := range pieces {
		switch n := len(out); {
		case p.shares[0].Name == healthy:
		case n > 0 && out[n-1].to == p.from:
			out[n-1].to = p.to
		default:
			out = append(out, p)
		}
	}
	return out
}

// piecesOf cuts the run at the edges of all faults.
func piecesOf(events []history.Event, length time.Duration) (all []*share, pieces []piece) {
	named := map[string]*share{}
	var edges []edge
	for i := range events {
		e := &events[i]
		if e.Kind != history.Fault {
			continue
		}
		s := named[e.Name]
		if s == nil {
			s = &share{Name: e.Name}
			named[e.Name] = s
			all = append(all, s)
		}
		s.Times++
		edges = append(edges, edge{e.At, s, 1}, edge{endOf(e, length), s, -1})
	}
	slices.SortFunc(all, func(a, b *share) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortStableFunc(edges, func(a, b edge) int { return cmp.Compare(a.at, b.at) })
	none := &share{Name: healthy}
	active := map[*share]int{}
	from := time.Duration(0)
	cut := func(to time.Duration) {
		if to <= from {
			return
		}
		p := piece{from: from, to: to}
		for _, s := range all {
			if active[s] > 0 {
				p.shares = append(p.shares, s)
			}
		}
		if p.shares == nil {
			p.shares = []*share{none}
		}
		for _, s := range p.shares {
			s.Lasted += to - from
		}
		pieces, from = append(pieces, p), to
	}
	for _, e := range edges {
		cut(e.at)
		active[e.fault] += e.by
	}
	cut(length)
	if len(pieces) == 0 {
		pieces = []piece{{to: length, shares: []*share{none}}}
	}
	return append([]*share{none}, all...), pieces
}

// endOf is the end of an event; what did not end lasts as long as the run.
func endOf(e *history.Event, length time.Duration) time.Duration {
	if e.End < e.At || e.End == 0 {
		return max(length, e.At)
	}
	return e.End
}

// asked is how the operations of one kind went.
type asked struct {
	Workload, Kind string
	share
}

// askedOf tells it of each workload and kind, in their order.
func askedOf(ops []*history.Operation) []*asked {
	type key struct{ workload, kind string }
	all := map[key]*asked{}
	for _, op := range ops {
		k := key{op.Workload, op.Kind}
		if all[k] == nil {
			all[k] = &asked{Workload: k.workload, Kind: k.kind}
		}
		all[k].count(op)
	}
	out := make([]*asked, 0, len(all))
	for _, a := range all {
		a.P50, a.P99 = halfAndMost(a.took)
		a.took = nil
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b *asked) int {
		return cmp.Or(cmp.Compare(a.Workload, b.Workload), cmp.Compare(a.Kind, b.Kind))
	})
	return out
}
