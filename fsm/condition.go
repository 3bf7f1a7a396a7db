package fsm

import (
	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
)

// Acknowledged reports that the cluster confirmed to have stored exactly what is
// wished now. A tombstone is never acknowledged: its confirmation removes it.
func Acknowledged(u *pmpb.Unit) bool {
	ack := u.GetAck()
	return !u.GetTombstone() && ack != nil &&
		ack.GetEpoch() == u.GetEpoch() && ack.GetFence() == u.GetFence() && ack.GetContentHash() == u.GetContentHash()
}

// UnitCondition says in one word how a unit is, as far as its cluster told. It
// does not know whether the cluster can be reached now; that is for the caller.
//
//	tombstone                                                DELETED
//	not acknowledged, none of its content ever was:
//	    refused by the cluster (waiting is permanent)        DOWN
//	    else                                                 PENDING
//	not acknowledged, older content was                      DEPLOYING
//	acknowledged, no report yet                              DEPLOYING
//	acknowledged, the report is about older content          DEPLOYING
//	acknowledged, its runtime is being deleted               DOWN
//	acknowledged, the runtime's condition is
//	    PENDING, DEPLOYING, RUNNING, DOWN, DELETED           the same
//	    unknown                                              DEPLOYING
//
// A report without a delivery comes from a manager that knows no fences and is
// taken to be about the acknowledged content.
func UnitCondition(u *pmpb.Unit) model.DeploymentCondition {
	switch {
	case u.GetTombstone():
		return model.ConditionDeleted
	case !Acknowledged(u) && u.GetAck() == nil:
		if u.GetWaiting().GetPermanent() {
			return model.ConditionDown
		}
		return model.ConditionPending
	case !Acknowledged(u), !Current(u):
		return model.ConditionDeploying
	case u.GetRuntime().GetDeleting():
		return model.ConditionDown
	}
	switch u.GetRuntime().GetStatus().GetCondition() {
	case oaaspb.DeploymentCondition_PENDING:
		return model.ConditionPending
	case oaaspb.DeploymentCondition_RUNNING:
		return model.ConditionRunning
	case oaaspb.DeploymentCondition_DOWN:
		return model.ConditionDown
	case oaaspb.DeploymentCondition_DELETED:
		return model.ConditionDeleted
	default:
		return model.ConditionDeploying
	}
}

// The phases of a unit on its way.
const (
	PhasePending     = "Pending"
	PhaseWaiting     = "Waiting"
	PhaseRefused     = "Refused"
	PhaseProgressing = "Progressing"
	PhaseAvailable   = "Available"
	PhaseDegraded    = "Degraded"
	PhaseDeleting    = "Deleting"
)

// UnitPhase says in one word where a unit is on its way.
func UnitPhase(u *pmpb.Unit) string {
	switch {
	case u.GetTombstone():
		return PhaseDeleting
	case Acknowledged(u):
		switch UnitCondition(u) {
		case model.ConditionRunning:
			return PhaseAvailable
		case model.ConditionDown, model.ConditionDeleted:
			return PhaseDegraded
		default:
			return PhaseProgressing
		}
	case u.GetWaiting().GetPermanent():
		return PhaseRefused
	case u.GetWaiting() != nil:
		return PhaseWaiting
	default:
		return PhasePending
	}
}

// conditionReady is the condition of a runtime that says that all of what is wished runs.
const conditionReady = "Ready"

// UnitComplete reports that the unit runs, and all of it with the content that is wished
// now. One that only runs may be served by what was there before. A manager that knows no
// such condition is believed.
func UnitComplete(u *pmpb.Unit) bool {
	if UnitCondition(u) != model.ConditionRunning {
		return false
	}
	for _, c := range u.GetRuntime().GetConditions() {
		if c.GetType() == conditionReady {
			return c.GetStatus() == "True"
		}
	}
	return true
}

// Current reports that the cluster's last report is about what is wished now.
func Current(u *pmpb.Unit) bool {
	if u.GetRuntime() == nil || u.GetTombstone() {
		return false
	}
	d := u.GetRuntime().GetDelivery()
	return d == nil || (d.GetEpoch() == u.GetEpoch() && d.GetFence() == u.GetFence() && d.GetContentHash() == u.GetContentHash())
}

// DeploymentCondition is the worst condition among a deployment's units: DOWN and
// DELETED before DEPLOYING before PENDING before RUNNING, and of equals the first.
// Tombstones do not count beside live units. Without any unit it is PENDING, with
// tombstones alone DELETED.
func DeploymentCondition(units []*pmpb.Unit) model.DeploymentCondition {
	worst := model.DeploymentCondition("")
	tombstones := 0
	for _, u := range units {
		if u.GetTombstone() {
			tombstones++
			continue
		}
		if c := UnitCondition(u); severity(c) > severity(worst) {
			worst = c
		}
	}
	switch {
	case worst != "":
		return worst
	case tombstones > 0:
		return model.ConditionDeleted
	default:
		return model.ConditionPending
	}
}

func severity(c model.DeploymentCondition) int {
	switch c {
	case model.ConditionDown, model.ConditionDeleted:
		return 4
	case model.ConditionDeploying:
		return 3
	case model.ConditionPending:
		return 2
	case model.ConditionRunning:
		return 1
	default:
		return 0
	}
}
