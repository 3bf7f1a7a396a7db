package dispatch

import (
	"math/rand/v2"
	"time"

	"oaas.io/control-plane/fsm"
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
	// clearFirst: what the cluster has is to go before the desired content is sent, because its
	// manager would keep it.
	clearFirst
	// acknowledge: the cluster has what is wanted, only the state does not know yet.
	acknowledge
	// lost: the cluster no longer has what it had acknowledged.
	lost
)

// wanted decides what to do about a unit, given the cluster's complete inventory. mute says
// that its manager tells of no deliveries.
func wanted(u *pmpb.Unit, have inventory, mute bool) action {
	if u.GetTombstone() {
		return remove
	}
	held, present := have[u.GetId()]
	switch {
	case present && held.carries(u):
		if fsm.Acknowledged(u) {
			return nothing
		}
		return acknowledge
	case present && !held.fenced && fsm.Acknowledged(u):
		// A manager without deliveries: its acknowledgement is all there is.
		return nothing
	case !present && fsm.Acknowledged(u):
		return lost
	case present && !held.fenced && mute:
		// Such a manager, as that of oaas-rs, answers OK to a unit that it has, and keeps
		// the old content. Any other takes over what was made by hand.
		return clearFirst
	default:
		return deploy
	}
}

// attempt remembers the calls that were made about one wish for a unit.
type attempt struct {
	// epoch and fence name the wish; a new wish starts afresh.
	epoch, fence uint64
	// failures counts calls that failed in a row, asked the removals that were
	// accepted.
	failures, asked int
	inFlight        bool
	// overtaken is true when the unit was reported as removed while the call was
	// in flight: what the call confirms may be gone again.
	overtaken bool
	// refused is true when repeating the call cannot help.
	refused bool
	// notBefore is when the next call may start.
	notBefore time.Time
	// delivered counts how often the cluster confirmed this wish lately, and
	// redeliver is when it may be sent again all the same.
	delivered   int
	confirmedAt time.Time
	redeliver   time.Time
}

// about reports that the attempt was made for the unit's present wish.
func (a *attempt) about(u *pmpb.Unit) bool {
	return a != nil && a.epoch == u.GetEpoch() && a.fence == u.GetFence()
}

// earliest is when the next call about the wish may start.
func (a *attempt) earliest() time.Time {
	if a.redeliver.After(a.notBefore) {
		return a.redeliver
	}
	return a.notBefore
}

// steady is how long a confirmation has to hold before what went before is forgotten.
const steady = 10 * time.Minute

// confirm notes that the cluster has confirmed the wish. A cluster that confirms
// and then has it no longer is sent it again at once; one that keeps doing so waits
// longer each time.
func (a *attempt) confirm(now time.Time, least, most time.Duration) {
	if now.Sub(a.confirmedAt) > steady {
		a.delivered = 0
	}
	a.failures, a.confirmedAt = 0, now
	a.delivered++
	if a.delivered > 1 {
		a.redeliver = now.Add(backoff(a.delivered-1, least, most))
	}
}

// step is one unit and what to do about it now.
type step struct {
	unit *pmpb.Unit
	do   action
	// repair is true when the call was made before or makes good a loss.
	repair bool
	// probe is true when the call tries whether the cluster answers at all.
	probe bool
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
