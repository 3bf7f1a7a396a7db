package check

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"oaas.io/control-plane/jepsen/history"
)

// LogOrder holds answers against the log, by the indexes that they claim. It needs no
// search, so it judges all of a history, also the reads that may be stale:
//
//   - Whoever asks after an answer has come sees at least as much of the log as it told of.
//     That is true of all writes, and of all reads that ask for no less.
//   - A read shows what the last write before its index has left.
//   - Between the version that a compare and set names and itself there is no other write.
//
// The lists of final, if there are any, are reads of all keys.
func LogOrder(h history.History, final *history.Final) Verdict {
	f := newFindings("log order")
	all, err := entries(h, history.Register, history.Set, history.Sessions, history.Lifecycle, history.Idempotent)
	if err != nil {
		return broken(f.name, err)
	}
	realTime(f, all)
	for _, o := range objectsOf(all) {
		if o.workload == history.Idempotent {
			continue // its values are written more than once; see OneEffect
		}
		l := logOf(o)
		for i := range o.ops {
			l.check(f, &o.ops[i])
		}
		if final != nil {
			l.checkFinal(f, final)
		}
	}
	return f.verdict()
}

// realTime checks that nobody is answered from before what was answered already.
func realTime(f *findings, all []entry) {
	type answered struct {
		at    time.Duration
		index uint64
		id    int
	}
	var told []answered
	for i := range all {
		if e := &all[i]; e.Outcome == history.OK && e.Index > 0 {
			told = append(told, answered{e.Return, e.Index, e.ID})
		}
	}
	slices.SortFunc(told, func(a, b answered) int { return cmp.Compare(a.at, b.at) })
	asked := make([]*entry, 0, len(all))
	for i := range all {
		e := &all[i]
		fresh := e.Kind == history.Read && (e.request.Mode == "" || e.request.Mode == history.Linearizable)
		if e.Outcome == history.OK && e.Index > 0 && (fresh || e.Command) {
			asked = append(asked, e)
		}
	}
	slices.SortFunc(asked, func(a, b *entry) int { return cmp.Compare(a.Call, b.Call) })
	f.count("answers in real time", len(asked))
	var newest answered
	for _, e := range asked {
		for len(told) > 0 && told[0].at < e.Call {
			if told[0].index > newest.index {
				newest = told[0]
			}
			told = told[1:]
		}
		if e.Index < newest.index || e.Command && e.Index == newest.index {
			f.violation(Violation{
				What: "went back in the log", Key: e.Key, Operations: []int{newest.id, e.ID},
				Detail: fmt.Sprintf("%s at %s is of index %d, asked after %d had been told of", e.Kind, e.Node, e.Index, newest.index),
			})
		}
	}
}

// objectLog is what is known of the log about one object.
type objectLog struct {
	*object
	// known are the writes whose place in the log is known, in its order.
	known []*entry
	place map[string]uint64 // of the write of a value
	// lost are the writes whose place is not known.
	lost   []*entry
	writes map[string]*write
}

func logOf(o *object) *objectLog {
	l := &objectLog{object: o, place: map[string]uint64{}}
	l.writes, _ = writesOf(o)
	for i := range o.ops {
		e := &o.ops[i]
		switch {
		case !isWrite(e.Kind) || e.Outcome == history.Failed:
		case e.Outcome == history.OK && e.Command && e.Index > 0:
			l.known = append(l.known, e)
			l.place[e.request.Value] = e.Index
		default:
			if w := l.writes[e.request.Value]; w != nil && w.version != 0 {
				// A read has shown where it is.
				found := *e
				found.Index = w.version
				l.known = append(l.known, &found)
				l.place[e.request.Value] = w.version
				continue
			}
			l.lost = append(l.lost, e)
		}
	}
	slices.SortFunc(l.known, func(a, b *entry) int { return cmp.Compare(a.Index, b.Index) })
	return l
}

// before gives the last known write at or below an index.
func (l *objectLog) before(index uint64) *entry {
	at, _ := slices.BinarySearchFunc(l.known, index+1, func(e *entry, i uint64) int { return cmp.Compare(e.Index, i) })
	if at == 0 {
		return nil
	}
	return l.known[at-1]
}

// may reports that a write whose place nobody knows may be what a read saw by the time at.
func (l *objectLog) may(at time.Duration, match func(*entry) bool) bool {
	return slices.ContainsFunc(l.lost, func(e *entry) bool { return e.Call < at && match(e) })
}

func (l *objectLog) check(f *findings, e *entry) {
	if e.Outcome != history.OK || e.Index == 0 {
		return
	}
	switch {
	case e.Kind == history.Read:
		f.count("reads", 1)
		l.shows(f, &seen{op: e.ID, node: e.Node, index: e.Index, at: e.Return, exists: e.answer.Exists, value: e.answer.Value})
	case e.Command:
		f.count("writes", 1)
		l.follows(f, e)
	}
}

// seen is what was read, somewhere.
type seen struct {
	op     int
	node   string
	index  uint64
	at     time.Duration
	exists bool
	value  string
}

// shows checks a read against the log.
func (l *objectLog) shows(f *findings, r *seen) {
	last := l.before(r.index)
	wrong := func(what, detail string) {
		v := Violation{What: what, Key: l.key, Detail: fmt.Sprintf("%s at index %d %s", r.node, r.index, detail)}
		if last != nil {
			v.Operations = append(v.Operations, last.ID)
		}
		if r.op >= 0 {
			v.Operations = append(v.Operations, r.op)
		}
		f.violation(v)
	}
	if !r.exists {
		if last == nil || last.Kind == history.Delete || l.may(r.at, func(e *entry) bool { return e.Kind == history.Delete }) {
			return
		}
		wrong("lost write", fmt.Sprintf("shows nothing, although %q was written at %d", last.request.Value, last.Index))
		return
	}
	if last != nil && last.Kind != history.Delete && last.request.Value == r.value {
		return
	}
	place, placed := l.place[r.value]
	switch {
	case placed && place > r.index:
		wrong("read of the future", fmt.Sprintf("shows %q, which was written at %d", r.value, place))
	case placed && last.Kind == history.Delete:
		wrong("deleted object", fmt.Sprintf("shows %q of %d, although it was deleted at %d", r.value, place, last.Index))
	case placed:
		wrong("lost write", fmt.Sprintf("shows %q of %d, although %q was written at %d", r.value, place, last.request.Value, last.Index))
	case l.may(r.at, func(e *entry) bool { return e.request.Value == r.value }):
		f.count("reads of writes of unknown outcome", 1)
	default:
		wrong("value from nowhere", fmt.Sprintf("shows %q, which nobody wrote by then", r.value))
	}
}

// follows checks a write against what was before it.
func (l *objectLog) follows(f *findings, e *entry) {
	last := l.before(e.Index - 1)
	existed := last != nil && last.Kind != history.Delete
	wrong := func(what, detail string) {
		v := Violation{What: what, Key: l.key, Operations: []int{e.ID}, Detail: fmt.Sprintf("%s at %d %s", e.Kind, e.Index, detail)}
		if last != nil {
			v.Operations = []int{last.ID, e.ID}
		}
		f.violation(v)
	}
	switch {
	case e.Kind == history.Create && existed:
		if !l.may(e.Return, func(u *entry) bool { return u.Kind == history.Delete }) {
			wrong("created twice", fmt.Sprintf("although %q was written at %d", last.request.Value, last.Index))
		}
	case e.Kind == history.Create || e.Kind == history.Put && e.request.Version == 0:
	case !existed:
		if !l.may(e.Return, func(u *entry) bool { return u.Kind != history.Delete }) {
			wrong("changed what is not there", "follows no creation")
		}
	case e.request.Version != 0 && last.Index > e.request.Version:
		wrong("lost update", fmt.Sprintf("asked for version %d, although %q was written at %d", e.request.Version, last.request.Value, last.Index))
	}
}

// checkFinal takes the lists at the end as reads.
func (l *objectLog) checkFinal(f *findings, final *history.Final) {
	for _, node := range slices.Sorted(maps.Keys(final.Nodes)) {
		state := final.Nodes[node]
		if state.Error != "" || state.Index == 0 {
			continue
		}
		r := &seen{op: -1, node: node, index: state.Index, at: 1<<63 - 1}
		list := state.Deployments
		if l.versions {
			list = state.Packages
		}
		// The lists are in order of their keys.
		if at, ok := slices.BinarySearchFunc(list, l.key, func(o history.Object, key string) int { return cmp.Compare(o.Key, key) }); ok {
			r.exists, r.value = true, list[at].Value
		}
		f.count("objects in the end", 1)
		l.shows(f, r)
	}
}
