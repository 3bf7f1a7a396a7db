package dispatch

import (
	"container/heap"
	"time"
)

// queue orders the units that wait for a call: those that may start now, new
// wishes before repairs and each in the order in which they came, and those that
// wait for their time. Every operation costs at most the logarithm of its length.
type queue struct {
	fresh, repair fifo
	later         timeline
	// places has the one valid entry of each id. An entry that is found somewhere
	// else is a leftover.
	places map[string]place
	last   uint64
}

type placeKind int

const (
	placeFresh placeKind = iota
	placeRepair
	placeLater
)

type place struct {
	entry uint64
	kind  placeKind
	at    time.Time
}

func newQueue() *queue { return &queue{places: map[string]place{}} }

// put lets a unit start as soon as there is room. One that waits in the same line
// already keeps its place.
func (q *queue) put(id string, fresh bool) {
	kind, line := placeRepair, &q.repair
	if fresh {
		kind, line = placeFresh, &q.fresh
	}
	if have, ok := q.places[id]; ok && have.kind == kind {
		return
	}
	q.last++
	q.places[id] = place{entry: q.last, kind: kind}
	line.push(entry{id: id, number: q.last})
}

// putAt lets a unit start at a later time.
func (q *queue) putAt(id string, at time.Time) {
	if have, ok := q.places[id]; ok && have.kind == placeLater && have.at.Equal(at) {
		return
	}
	q.last++
	q.places[id] = place{entry: q.last, kind: placeLater, at: at}
	heap.Push(&q.later, entry{id: id, number: q.last, at: at})
}

func (q *queue) remove(id string) { delete(q.places, id) }

// pop gives the next unit that may start now.
func (q *queue) pop() (string, bool) {
	for _, line := range []*fifo{&q.fresh, &q.repair} {
		for e, ok := line.pop(); ok; e, ok = line.pop() {
			if q.valid(e) {
				delete(q.places, e.id)
				return e.id, true
			}
		}
	}
	return "", false
}

// popDue gives the next unit whose time has come.
func (q *queue) popDue(now time.Time) (string, bool) {
	for q.trim() && !q.later[0].at.After(now) {
		e := heap.Pop(&q.later).(entry)
		delete(q.places, e.id)
		return e.id, true
	}
	return "", false
}

// next gives the earliest time that a unit waits for, zero when none does.
func (q *queue) next() time.Time {
	if !q.trim() {
		return time.Time{}
	}
	return q.later[0].at
}

// trim drops leftovers from the front of the timeline and reports whether
// anything is left.
func (q *queue) trim() bool {
	for len(q.later) > 0 && !q.valid(q.later[0]) {
		heap.Pop(&q.later)
	}
	return len(q.later) > 0
}

func (q *queue) valid(e entry) bool { return q.places[e.id].entry == e.number }

type entry struct {
	id     string
	number uint64
	at     time.Time
}

// fifo is a queue in a slice whose used front is given back now and then.
type fifo struct {
	entries []entry
	head    int
}

func (f *fifo) push(e entry) { f.entries = append(f.entries, e) }

func (f *fifo) pop() (entry, bool) {
	if f.head == len(f.entries) {
		f.entries, f.head = f.entries[:0], 0
		return entry{}, false
	}
	e := f.entries[f.head]
	f.entries[f.head] = entry{}
	if f.head++; f.head > 1024 && f.head > len(f.entries)/2 {
		f.entries = append([]entry(nil), f.entries[f.head:]...)
		f.head = 0
	}
	return e, true
}

// timeline is a heap with the earliest time first.
type timeline []entry

func (t timeline) Len() int           { return len(t) }
func (t timeline) Less(i, j int) bool { return t[i].at.Before(t[j].at) }
func (t timeline) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *timeline) Push(x any)        { *t = append(*t, x.(entry)) }
func (t *timeline) Pop() any {
	old := *t
	e := old[len(old)-1]
	old[len(old)-1] = entry{}
	*t = old[:len(old)-1]
	return e
}
