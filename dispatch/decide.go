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
