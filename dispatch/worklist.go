package dispatch

import (
	"time"

	"google.golang.org/protobuf/proto"

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
	have inventory
	// mute says that the manager tells of no deliveries.
	mute     bool
	attempts map[string]*attempt
	queue    *queue
	// open counts the units that are not confirmed.
	open int
	// reported is the size of all reports in the rows.
	reported int
}

func newWorklist() *worklist {
	return &worklist{units: map[string]*pmpb.Unit{}, attempts: map[string]*attempt{}, queue: newQueue()}
}

func unconfirmed(u *pmpb.Unit) bool { return u != nil && (u.GetTombstone() || !fsm.Acknowledged(u)) }

// adopt takes a new version of a row; nil means that the row is gone. It reports
// whether that is a new wish.
func (w *worklist) adopt(id string, u *pmpb.Unit) (newWish bool) {
	old := w.units[id]
	if unconfirmed(old) {
		w.open--
	}
	if unconfirmed(u) {
		w.open++
	}
	w.reported += proto.Size(u.GetRuntime()) - proto.Size(old.GetRuntime())
	if u == nil {
		delete(w.units, id)
		return false
	}
	w.units[id] = u
	return old.GetFence() != u.GetFence() || old.GetEpoch() != u.GetEpoch()
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
	do := w.decide(u)
	if do != deploy && do != remove && do != clearFirst {
		w.queue.remove(id)
		return do
	}
	switch a := w.attempts[id]; {
	case a != nil && a.inFlight:
		// One call about a unit at a time, whatever wish it is about: a manager that
		// knows no fences would keep what happens to arrive last.
		w.queue.remove(id)
	case a.about(u) && now.Before(a.earliest()):
		w.queue.putAt(id, a.earliest())
	default:
		w.queue.put(id, fresh(u, a))
	}
	return do
}

// decide is wanted with what this leader knows besides: a call that was confirmed need not be
// in the state yet.
func (w *worklist) decide(u *pmpb.Unit) action {
	do := wanted(u, w.have, w.mute)
	if a := w.attempts[u.GetId()]; do == clearFirst && a.about(u) && a.delivered > 0 {
		return acknowledge
	}
	return do
}

// fresh reports that a unit waits because somebody wants something else, and not
// because an earlier call failed or the cluster lost what it had.
func fresh(u *pmpb.Unit, a *attempt) bool {
	switch {
	case a.about(u):
		return false
	case u.GetTombstone():
		return true
	default:
		w := u.GetWaiting()
		return !fsm.Acknowledged(u) && w.GetCode() != fsm.WaitingLost && !w.GetPermanent()
	}
}

// due lets those start whose time has come.
func (w *worklist) due(now time.Time) {
	for id, ok := w.queue.popDue(now); ok; id, ok = w.queue.popDue(now) {
		w.look(id, now)
	}
}

// take gives at most room calls that are to start now, new wishes first, of which
// at most so many are repairs.
func (w *worklist) take(room, repairs int) (steps []step) {
	for len(steps) < room {
		id, repair, ok := w.queue.pop(repairs > 0)
		if !ok {
			break
		}
		if repair {
			repairs--
		}
		u := w.units[id]
		steps = append(steps, step{unit: u, do: w.decide(u), repair: repair})
	}
	return steps
}
