package dispatch

import (
	"math/rand/v2"
	"time"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
)

// action is what is to be done about one unit.
type action int

const (
	// nothing: the cluster has what is wanted.
	nothing action = iota
	// deploy: the desired content is to be sent.
	deploy
	// remove: the tombstone is to be sent.
	remove
	// acknowledge: the cluster has what is wanted, only the state does not know yet.
	acknowledge
	// lost: the cluster no longer has what it had acknowledged.
	lost
)

// inventory is what a cluster is known to have, by unit id. A manager that knows
// no deliveries gives entries without one.
type inventory map[string]*oaaspb.ClassRuntimeSummary

// wanted decides what to do about a unit, given the cluster's complete inventory.
func wanted(u *pmpb.Unit, have inventory) action {
	if u.GetTombstone() {
		return remove
	}
	summary, present := have[u.GetId()]
	switch {
	case present && carries(summary.GetDelivery(), u):
		if fsm.Acknowledged(u) {
			return nothing
		}
		return acknowledge
	case present && summary.GetDelivery() == nil && fsm.Acknowledged(u):
		// A manager without deliveries: its acknowledgement is all there is.
		return nothing
	case !present && fsm.Acknowledged(u):
		return lost
	default:
		return deploy
	}
}

// carries reports that a runtime holds exactly the unit's desired content under
// the unit's fence.
func carries(d *oaaspb.Delivery, u *pmpb.Unit) bool {
	return d != nil && d.GetEpoch() == u.GetEpoch() && d.GetFence() == u.GetFence() && d.GetContentHash() == u.GetContentHash()
}

// attempt remembers the calls that were made about one wish for a unit.
type attempt struct {
	// epoch and fence name the wish; a new wish starts afresh.
	epoch, fence uint64
	failures     int
	inFlight     bool
	// overtaken is true when the unit was reported as removed while the call was
	// in flight: what the call confirms may be gone again.
	overtaken bool
	// refused is true when repeating the call cannot help.
	refused bool
	// notBefore is when the next call may start.
	notBefore time.Time
}

// about reports that the attempt was made for the unit's present wish.
func (a *attempt) about(u *pmpb.Unit) bool {
	return a != nil && a.epoch == u.GetEpoch() && a.fence == u.GetFence()
}

// step is one unit and what to do about it now.
type step struct {
	unit *pmpb.Unit
	do   action
}

// due lists the steps to take now, at most room calls among them, and the time
// at which the next one becomes due (zero: only when something changes). User
// changes come before repairs: units that were never acknowledged are first.
func due(units []*pmpb.Unit, have inventory, attempts map[string]*attempt, room int, now time.Time) (steps []step, next time.Time) {
	var later []step
	for _, u := range units {
		do := wanted(u, have)
		switch do {
		case nothing:
			continue
		case acknowledge, lost:
			// Only the state has to learn of it; a lost unit is wanted again then.
			steps = append(steps, step{u, do})
			continue
		case deploy, remove:
		}
		a := attempts[u.GetId()]
		if a != nil && a.inFlight {
			// One call about a unit at a time, whatever wish it is about: a manager
			// that knows no fences would keep what happens to arrive last.
			continue
		}
		if a.about(u) && now.Before(a.notBefore) {
			if next.IsZero() || a.notBefore.Before(next) {
				next = a.notBefore
			}
			continue
		}
		later = append(later, step{u, do})
	}
	return append(steps, pick(later, room)...), next
}

// pick takes at most room steps, new wishes first.
func pick(steps []step, room int) []step {
	if len(steps) <= room {
		return steps
	}
	picked := make([]step, 0, room)
	for _, fresh := range []bool{true, false} {
		for _, s := range steps {
			if len(picked) == room {
				return picked
			}
			if (s.unit.GetAck() == nil) == fresh {
				picked = append(picked, s)
			}
		}
	}
	return picked
}

// backoff is the pause after the given number of failures in a row: exponential
// with full jitter above half (AWS architecture blog, "Exponential Backoff And
// Jitter", 2015, "equal jitter").
func backoff(failures int, least, most time.Duration) time.Duration {
	d := most
	if shift := failures - 1; shift < 16 {
		d = min(least<<max(shift, 0), most)
	}
	return d/2 + rand.N(d/2+1)
}
