package dispatch

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
)

// note names an update that was handed to the reporter.
type note struct {
	kind        string
	modifyIndex uint64
}

// note hands an update about a unit on, once per row and kind, and reports whether it did.
func (l *lane) note(u *pmpb.Unit, kind string, update *pmpb.UnitUpdate) bool {
	n := note{kind: kind, modifyIndex: u.GetModifyIndex()}
	if l.noted[u.GetId()] == n {
		return false
	}
	l.noted[u.GetId()] = n
	update.Id, update.Fence, update.Epoch = u.GetId(), u.GetFence(), u.GetEpoch()
	l.backlog.add(update)
	return true
}

// noteAck reports that the cluster has the wish of the row. A newer wish is
// acknowledged by its own call.
func (l *lane) noteAck(u *pmpb.Unit) {
	present := l.work.units[u.GetId()]
	if present == nil || present.GetFence() != u.GetFence() || present.GetEpoch() != u.GetEpoch() || fsm.Acknowledged(present) {
		return
	}
	l.note(u, "ack", &pmpb.UnitUpdate{Update: &pmpb.UnitUpdate_Acked{Acked: &pmpb.Ack{
		Epoch: u.GetEpoch(), Fence: u.GetFence(), ContentHash: u.GetContentHash(), Time: timestamppb.New(l.opts.Now()),
	}}})
}

// noteRuntime reports a runtime if it differs from what the state has. What is said
// of another change than the present wish would be refused, and is not reported.
func (l *lane) noteRuntime(snap *fsm.Snapshot, summary *oaaspb.ClassRuntimeSummary) {
	u := snap.Unit(summary.GetDeploymentUnitId())
	if u == nil || u.GetEnv() != l.name {
		return
	}
	if d := summary.GetDelivery(); d != nil && (d.GetFence() != u.GetFence() || d.GetEpoch() != u.GetEpoch()) {
		return
	}
	allowed := reportsBase + reportsPerUnit*len(l.work.units) - l.work.reported + proto.Size(u.GetRuntime())
	summary = bounded(summary, min(maxReport, allowed))
	if sameRuntime(u.GetRuntime(), summary) {
		return
	}
	l.backlog.add(&pmpb.UnitUpdate{Id: u.GetId(), Fence: u.GetFence(), Epoch: u.GetEpoch(), Update: &pmpb.UnitUpdate_Runtime{Runtime: summary}})
}

// wait reports why a unit is not acknowledged, when that is news.
func (l *lane) wait(u *pmpb.Unit, w *pmpb.Waiting) {
	if old := u.GetWaiting(); old.GetCode() == w.GetCode() && old.GetMessage() == w.GetMessage() {
		return
	}
	// The caller may tell the same of other units.
	w = &pmpb.Waiting{Code: w.GetCode(), Message: w.GetMessage(), Permanent: w.GetPermanent(), Since: timestamppb.New(l.opts.Now())}
	l.note(u, fmt.Sprintf("wait %s %s", w.GetCode(), w.GetMessage()), &pmpb.UnitUpdate{Update: &pmpb.UnitUpdate_Waiting{Waiting: w}})
}

// explain says of an unconfirmed unit why it is not even tried: the cluster cannot
// be reached, or its breaker is open.
func (l *lane) explain(u *pmpb.Unit) {
	away := l.work.have == nil && l.health.cause != nil
	// A refusal stands until the wish changes, and is what somebody has to act on.
	if !away && l.troubled == nil || !unconfirmed(u) || u.GetWaiting().GetPermanent() {
		return
	}
	if !away {
		l.wait(u, &pmpb.Waiting{Code: l.troubled.GetCode(), Message: clip(fmt.Sprintf("cluster %s does not answer calls (%s); units are tried one at a time until it does", l.name, l.troubled.GetMessage()))})
		return
	}
	if why, untrusted := untrustedBecause(l.health.cause); untrusted {
		l.wait(u, &pmpb.Waiting{Code: WaitUnreachable, Message: clip(fmt.Sprintf("cluster %s at %s: %s; the unit is sent when that is mended", l.name, l.address, why))})
		return
	}
	if noAgent(l.health.cause) {
		l.wait(u, &pmpb.Waiting{Code: WaitUnreachable, Message: ErrNoAgent.Error() + "; the unit is sent when one is"})
		return
	}
	l.wait(u, &pmpb.Waiting{Code: WaitUnreachable, Message: fmt.Sprintf("cluster %s at %s does not answer; the unit is sent when it does", l.name, l.address)})
}
