package dispatch

import (
	"time"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

// worklist knows what is to be done in one cluster. It is told each change, of a
// unit, of the inventory, of an attempt, and then looks at that unit alone: the
// work is in proportion to what changes, not to what is there. It does no I/O.
type worklist struct {
	// units are the cluster's rows in the state, tombstones included.
	units map[string]*pmpb.Unit
	// have is the last complete inventory, nil while none is known.
	have     inventory
	attempts map[string]*attempt
	queue    *queue
	// open counts the units that are not confirmed.
	open int
}

func newWorklist() *worklist {
	return &worklist{units: map[string]*pmpb.Unit{}, attempts: map[string]*attempt{}, queue: newQueue()}
}

func unconfirmed(u *pmpb.Unit) bool { return u != nil && (u.GetTombstone() || !fsm.Acknowledged(u)) }

// adopt takes a new version of a row; nil means that the row is gone.
func (w *worklist) adopt(id string, u *pmpb.Unit) {
	if unconfirmed(w.units[id]) {
		w.open--
	}
	if unconfirmed(u) {
		w.open++
	}
	if u != nil {
		w.units[id] = u
		return
	}
	delete(w.units, id)
}

// look decides anew what is to be done about a unit, and queues it if that is a
// call. Of acknowledge and lost only the state has to learn: the caller tells it.
func (w *worklist) look(id string, now time.Time) action {
	u := w.units[id]
	if a := w.attempts[id]; u == nil && a != nil && !a.inFlight {
		delete(w.attempts, id)
	}
	if u == nil || w.have == nil {
		w.queue.remove(id)
		return nothing
	}
	do := wanted(u, w.have)
	if do != deploy && do != remove {
		w.queue.remove(id)
		return do
	}
	switch a := w.attempts[id]; {
	case a != nil && a.inFlight:
		// One call about a unit at a time, whatever wish it is about: a manager that
		// knows no fences would keep what happens to arrive last.
		w.queue.remove(id)
	case a.about(u) && now.Before(a.notBefore):
		w.queue.putAt(id, a.notBefore)
	default:
		w.queue.put(id, u.GetAck() == nil)
	}
	return do
}

// take gives at most room calls that are to start now, new wishes first, and the
// time of the next one that waits (zero: only when something changes).
func (w *worklist) take(room int, now time.Time) (steps []step, next time.Time) {
	for id, ok := w.queue.popDue(now); ok; id, ok = w.queue.popDue(now) {
		w.look(id, now)
	}
	for len(steps) < room {
		id, ok := w.queue.pop()
		if !ok {
			break
		}
		u := w.units[id]
		steps = append(steps, step{u, wanted(u, w.have)})
	}
	return steps, w.queue.next()
}
