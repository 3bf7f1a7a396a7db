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
	// waiting counts the valid entries in each line.
	waiting [placeLater + 1]int
	// passed counts the new wishes that went before a repair that waits.
	passed int
}

// passes is how many new wishes may go before a repair that waits: users come
// first, but no flood of wishes keeps a repair away for good.
const passes = 16

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
	line.push(entry{id: id, number: q.take(id, place{kind: kind})})
}

// putAt lets a unit start at a later time.
func (q *queue) putAt(id string, at time.Time) {
	if have, ok := q.places[id]; ok && have.kind == placeLater && have.at.Equal(at) {
		return
	}
	heap.Push(&q.later, entry{id: id, number: q.take(id, place{kind: placeLater, at: at}), at: at})
}

// take gives a unit a new place, in place of the one that it has.
func (q *queue) take(id string, p place) (number uint64) {
	q.remove(id)
	q.last++
	p.entry = q.last
	q.places[id] = p
	q.waiting[p.kind]++
	return q.last
}

func (q *queue) remove(id string) {
	if have, ok := q.places[id]; ok {
		q.waiting[have.kind]--
		delete(q.places, id)
	}
}

// ready counts the units that may start now, with room for so many repairs.
func (q *queue) ready(repairs int) int {
	return q.waiting[placeFresh] + min(q.waiting[placeRepair], max(repairs, 0))
}

// pop gives the next unit that may start now, and whether it is a repair. It gives
// none of those unless repairs may start.
func (q *queue) pop(repairs bool) (id string, repair, ok bool) {
	repairs = repairs && q.waiting[placeRepair] > 0
	if repairs && (q.waiting[placeFresh] == 0 || q.passed >= passes) {
		q.passed = 0
		return q.first(&q.repair), true, true
	}
	if q.waiting[placeFresh] == 0 {
		return "", false, false
	}
	if repairs {
		q.passed++
	}
	return q.first(&q.fresh), false, true
}

// first takes the first valid entry out of a line that has one.
func (q *queue) first(line *fifo) string {
	for e, ok := line.pop(); ok; e, ok = line.pop() {
		if q.valid(e) {
			q.remove(e.id)
			return e.id
		}
	}
	return ""
}

// popDue gives the next unit whose time has come.
func (q *queue) popDue(now time.Time) (string, bool) {
	for q.trim() && !q.later[0].at.After(now) {
		e := heap.Pop(&q.later).(entry)
		q.remove(e.id)
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
