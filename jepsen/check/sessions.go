package check

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"oaas.io/control-plane/jepsen/history"
)

// DefaultStaleSlack is how much older than its bound a stale answer may be: a leader that is
// cut off counts as fresh until it has noticed, and what a node has heard of it has to apply.
const DefaultStaleSlack = 5 * time.Second

// Sessions says whether reads at an index have seen it, whether stale reads kept their bound
// and told what they are, and whether no read that asked for all was answered as a stale one.
//
// That a stale answer is within its bound is judged by the log: it must have what was
// acknowledged longer than the bound and slack (0 is DefaultStaleSlack) before it was asked for.
func Sessions(h history.History, slack time.Duration) Verdict {
	if slack == 0 {
		slack = DefaultStaleSlack
	}
	f := newFindings("sessions")
	all, err := entries(h, history.Register, history.Set, history.Sessions, history.Lifecycle, history.Idempotent)
	if err != nil {
		return broken(f.name, err)
	}
	acknowledged := ackedWrites(all)
	for i := range all {
		e := &all[i]
		if e.Kind != history.Read || e.Outcome != history.OK {
			continue
		}
		mode := cmp.Or(e.request.Mode, history.Linearizable)
		f.count(mode+" reads", 1)
		wrong := func(what, format string, args ...any) {
			f.violation(Violation{What: what, Key: e.Key, Operations: []int{e.ID}, Detail: e.Node + " " + fmt.Sprintf(format, args...)})
		}
		if e.answer.Mode != mode && (e.answer.Mode != "" || e.answer.Exists) {
			wrong("answer of another kind", "was asked for a %s read, and claims to answer a %q one", mode, e.answer.Mode)
		}
		switch mode {
		case history.AtIndex:
			if e.Index < e.request.AtIndex {
				wrong("read before its index", "answered at index %d, although %d was asked for", e.Index, e.request.AtIndex)
			}
		case history.Stale:
			bound := e.request.MaxStaleness
			if bound == 0 {
				continue
			}
			if e.answer.LastContact > bound {
				wrong("staler than allowed", "heard from the leader %s before, more than %s", e.answer.LastContact, bound)
			}
			if w := acknowledged.by(e.Call - bound - slack); w != nil && e.Index < w.Index {
				wrong("staler than allowed", "answered at index %d, although %d was acknowledged %s before (operation %d)",
					e.Index, w.Index, (e.Call - w.Return).Round(time.Millisecond), w.ID)
			}
		}
	}
	return f.verdict()
}

// acked are acknowledged writes in the order of their answers, each with the highest index so far.
type acked []*entry

func ackedWrites(all []entry) acked {
	var out acked
	for i := range all {
		if e := &all[i]; e.Outcome == history.OK && e.Command && e.Index > 0 {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b *entry) int { return cmp.Compare(a.Return, b.Return) })
	for i := 1; i < len(out); i++ {
		if out[i].Index < out[i-1].Index {
			highest := *out[i-1]
			highest.Return = out[i].Return
			out[i] = &highest
		}
	}
	return out
}

// by gives the write of the highest index that was answered before a time.
func (a acked) by(at time.Duration) *entry {
	n, _ := slices.BinarySearchFunc(a, at, func(e *entry, at time.Duration) int { return cmp.Compare(e.Return, at) })
	if n == 0 {
		return nil
	}
	return a[n-1]
}
