package fsm

import (
	"slices"

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

// UnitPhase says in one word where a unit is on its way. One whose condition is RUNNING is
// Degraded all the same when it has a fault.
func UnitPhase(u *pmpb.Unit) string {
	switch {
	case u.GetTombstone():
		return PhaseDeleting
	case Acknowledged(u):
		switch condition := UnitCondition(u); {
		case UnitFault(u) != nil:
			return PhaseDegraded
		case condition == model.ConditionRunning:
			return PhaseAvailable
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

// The conditions of a runtime that are read here; docs/conditions.md has all.
const (
	// conditionReady says that all of what is wished runs.
	conditionReady = "Ready"
	// conditionDegraded says that something does not work.
	conditionDegraded = "Degraded"
	// conditionStalled says that only a change by a person can help.
	conditionStalled = "Stalled"
)

// finalReasons are those with which a cluster gives up on what is wished although it does
// not say that it has stalled: it is not known to get better by waiting.
var finalReasons = []string{"ProgressDeadlineExceeded", "CapabilityMissing"}

// Fault is why what a cluster has stored does not work, or not all of it.
type Fault struct {
	// Reason is one of those of ClassRuntimes; empty when the manager names none.
	Reason  string
	Message string
	// Final says that waiting is not going to help.
	Final bool
}

// UnitFault gives the fault of a unit whose cluster has stored what is wished now: one that
// is down, or that runs but has a part that does not, as when the pods of before still serve
// because those of now cannot start. It is nil while nothing is wrong, and as long as it is
// not known how the present content does.
func UnitFault(u *pmpb.Unit) *Fault {
	condition := UnitCondition(u)
	if !Acknowledged(u) || condition != model.ConditionRunning && condition != model.ConditionDown && condition != model.ConditionDeleted {
		return nil
	}
	fault := &Fault{Message: u.GetRuntime().GetStatus().GetMessage()}
	degraded, ready := runtimeCondition(u, conditionDegraded), runtimeCondition(u, conditionReady)
	switch {
	case degraded.GetStatus() == conditionTrue:
		fault.Reason, fault.Message = degraded.GetReason(), degraded.GetMessage()
	case condition == model.ConditionRunning && UnitComplete(u):
		return nil
	case condition == model.ConditionRunning:
		fault.Reason, fault.Message = ready.GetReason(), ready.GetMessage()
	}
	fault.Final = runtimeCondition(u, conditionStalled).GetStatus() == conditionTrue || slices.Contains(finalReasons, fault.Reason)
	return fault
}

const conditionTrue = "True"

// runtimeCondition is a condition of the unit's runtime, nil when it has none of the kind.
func runtimeCondition(u *pmpb.Unit, kind string) *oaaspb.RuntimeCondition {
	for _, c := range u.GetRuntime().GetConditions() {
		if c.GetType() == kind {
			return c
		}
	}
	return nil
}

// UnitComplete reports that the unit runs, and all of it with the content that is wished
// now. One that only runs may be served by what was there before. A manager that knows no
// such condition is believed.
func UnitComplete(u *pmpb.Unit) bool {
	if UnitCondition(u) != model.ConditionRunning {
		return false
	}
	ready := runtimeCondition(u, conditionReady)
	return ready == nil || ready.GetStatus() == conditionTrue
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
