package fsm

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/proto/pmpb"
)

// WaitingLost is the Waiting code of a unit that its cluster no longer has.
const WaitingLost = "LOST"

// updateUnits takes in what clusters said. An update that is not about the
// unit's present fence has no effect, and neither has one that says nothing new:
// the updates are facts, may be repeated and come late.
func updateUnits(c *call, op *pmpb.UpdateUnits) error {
	b := newUnitBatch(c)
	for i, update := range op.GetUpdates() {
		if update.GetUpdate() == nil {
			return invalidf("update %d, about unit %q, says nothing", i, update.GetId())
		}
		b.take(update)
	}
	return nil
}

// unitBatch sees the rows as the earlier updates of its command have left them.
type unitBatch struct {
	*call
	// units and deletions hold the changed rows, nil for a removed one.
	units     map[string]*pmpb.Unit
	deletions map[string]*pmpb.Deletion
}

func newUnitBatch(c *call) *unitBatch {
	return &unitBatch{call: c, units: map[string]*pmpb.Unit{}, deletions: map[string]*pmpb.Deletion{}}
}

func (b *unitBatch) unit(id string) *pmpb.Unit {
	if u, ok := b.units[id]; ok {
		return u
	}
	return b.view.Unit(id)
}

func (b *unitBatch) take(update *pmpb.UnitUpdate) {
	old := b.unit(update.GetId())
	if old == nil || update.GetEpoch() != old.GetEpoch() || update.GetFence() != old.GetFence() {
		return
	}
	u := shallow(old)
	switch v := update.GetUpdate().(type) {
	case *pmpb.UnitUpdate_Acked:
		b.acked(u, v.Acked)
	case *pmpb.UnitUpdate_Runtime:
		u.Runtime = v.Runtime
	case *pmpb.UnitUpdate_Waiting:
		b.waiting(u, v.Waiting)
	case *pmpb.UnitUpdate_Lost:
		b.lost(u, v.Lost)
	case *pmpb.UnitUpdate_Gone:
		b.gone(old)
		return
	}
	if proto.Equal(old, u) {
		return
	}
	u.ModifyIndex = b.index
	b.units[u.GetId()] = u
	b.putUnit(old, u)
}

// acked records what the cluster confirmed to have stored. The same
// confirmation again keeps the time of the first.
func (b *unitBatch) acked(u *pmpb.Unit, ack *pmpb.Ack) {
	if u.GetTombstone() {
		return
	}
	next := &pmpb.Ack{Epoch: u.GetEpoch(), Fence: u.GetFence(), ContentHash: ack.GetContentHash(), Time: b.timeOr(ack.GetTime())}
	if have := u.GetAck(); have.GetEpoch() != next.Epoch || have.GetFence() != next.Fence || have.GetContentHash() != next.ContentHash {
		u.Ack = next
	}
	if Acknowledged(u) {
		u.Waiting = nil
	}
}

// waiting records why the wish is not confirmed yet. The same cause keeps the
// time at which it began.
func (b *unitBatch) waiting(u *pmpb.Unit, w *pmpb.Waiting) {
	if Acknowledged(u) {
		return
	}
	w.Since = b.timeOr(w.GetSince())
	if have := u.GetWaiting(); have != nil && have.GetCode() == w.GetCode() {
		w.Since = have.GetSince()
	}
	u.Waiting = w
}

// lost takes the acknowledgement back, so that the unit is sent again.
func (b *unitBatch) lost(u *pmpb.Unit, l *pmpb.Lost) {
	if u.GetTombstone() || !Acknowledged(u) {
		return
	}
	u.Ack, u.Runtime = nil, nil
	u.Waiting = &pmpb.Waiting{Code: WaitingLost, Message: l.GetMessage(), Since: b.now()}
}

// gone removes a tombstone that the cluster has confirmed, and with the last one
// of a deleted deployment its deletion.
func (b *unitBatch) gone(u *pmpb.Unit) {
	if !u.GetTombstone() {
		return
	}
	b.tellGone(u, u.GetEnv(), EventRemoved)
	b.release(u, false)
}

// release removes a tombstone, and with the last one of a deleted deployment its deletion.
// orphaned says that the cluster has not confirmed.
func (b *unitBatch) release(u *pmpb.Unit, orphaned bool) {
	b.units[u.GetId()] = nil
	b.drop(atUnits, u)
	old := b.deletion(u.GetDeploymentUid())
	if old == nil {
		return
	}
	left, envLeft := b.remaining(u)
	if left == 0 {
		if orphaned || len(old.GetOrphanedEnvs()) > 0 {
			b.tellGone(u, "", EventDeletionAbandoned)
		} else {
			b.tellGone(u, "", EventDeletionConfirmed)
		}
		b.deletions[u.GetDeploymentUid()] = nil
		b.drop(atDeletions, old)
		return
	}
	if envLeft > 0 {
		return
	}
	next := shallow(old)
	if orphaned {
		next.OrphanedEnvs = withName(old.GetOrphanedEnvs(), u.GetEnv())
	} else {
		next.ConfirmedEnvs = withName(old.GetConfirmedEnvs(), u.GetEnv())
	}
	next.ModifyIndex = b.index
	b.deletions[u.GetDeploymentUid()] = next
	b.put(atDeletions, next)
}

func (b *unitBatch) deletion(uid string) *pmpb.Deletion {
	if d, ok := b.deletions[uid]; ok {
		return d
	}
	return b.view.Deletion(uid)
}

// remaining counts the units that u's deployment still has, in all environments
// and in u's own: there are two in one while a class is exchanged.
func (b *unitBatch) remaining(u *pmpb.Unit) (total, sameEnv int) {
	for _, other := range b.view.UnitsByDeployment(u.GetDeploymentUid()) {
		if b.unit(other.GetId()) == nil {
			continue
		}
		total++
		if other.GetEnv() == u.GetEnv() {
			sameEnv++
		}
	}
	return total, sameEnv
}

func (b *unitBatch) timeOr(t *timestamppb.Timestamp) *timestamppb.Timestamp {
	if t == nil {
		return b.now()
	}
	return t
}
