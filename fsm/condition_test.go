package fsm_test

import (
	"testing"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
)

func TestUnitCondition(t *testing.T) {
	type edit = func(*pmpb.Unit)
	with := func(edits ...edit) *pmpb.Unit {
		u := &pmpb.Unit{Id: "u", Epoch: 2, Fence: 9, ContentHash: "new"}
		for _, e := range edits {
			e(u)
		}
		return u
	}
	ack := func(epoch, fence uint64, hash string) edit {
		return func(u *pmpb.Unit) { u.Ack = &pmpb.Ack{Epoch: epoch, Fence: fence, ContentHash: hash} }
	}
	says := func(c oaaspb.DeploymentCondition, d *oaaspb.Delivery) edit {
		return func(u *pmpb.Unit) {
			u.Runtime = &oaaspb.ClassRuntimeSummary{Status: &oaaspb.ClassRuntimeStatus{Condition: c}, Delivery: d}
		}
	}
	current, now := ack(2, 9, "new"), &oaaspb.Delivery{Epoch: 2, Fence: 9, ContentHash: "new"}
	running := oaaspb.DeploymentCondition_RUNNING
	tests := []struct {
		name string
		unit *pmpb.Unit
		want model.DeploymentCondition
	}{
		{"new", with(), model.ConditionPending},
		{"waits for its cluster", with(func(u *pmpb.Unit) { u.Waiting = &pmpb.Waiting{} }), model.ConditionPending},
		{"refused", with(func(u *pmpb.Unit) { u.Waiting = &pmpb.Waiting{Permanent: true} }), model.ConditionDown},
		{"older content was acknowledged", with(ack(2, 8, "old"), says(running, &oaaspb.Delivery{Epoch: 2, Fence: 8, ContentHash: "old"})), model.ConditionDeploying},
		{"older epoch was acknowledged", with(ack(1, 9, "new"), says(running, now)), model.ConditionDeploying},
		{"other content was acknowledged", with(ack(2, 9, "old"), says(running, now)), model.ConditionDeploying},
		{"older content is acknowledged, new refused", with(ack(2, 8, "old"), func(u *pmpb.Unit) { u.Waiting = &pmpb.Waiting{Permanent: true} }), model.ConditionDeploying},
		{"acknowledged", with(current), model.ConditionDeploying},
		{"report of an older fence", with(current, says(running, &oaaspb.Delivery{Epoch: 2, Fence: 8, ContentHash: "new"})), model.ConditionDeploying},
		{"report of an older epoch", with(current, says(running, &oaaspb.Delivery{Epoch: 1, Fence: 9, ContentHash: "new"})), model.ConditionDeploying},
		{"report of other content", with(current, says(running, &oaaspb.Delivery{Epoch: 2, Fence: 9, ContentHash: "old"})), model.ConditionDeploying},
		{"runs", with(current, says(running, now)), model.ConditionRunning},
		{"runs, manager without fences", with(current, says(running, nil)), model.ConditionRunning},
		{"not acknowledged, manager without fences", with(says(running, nil)), model.ConditionPending},
		{"pending", with(current, says(oaaspb.DeploymentCondition_PENDING, now)), model.ConditionPending},
		{"deploying", with(current, says(oaaspb.DeploymentCondition_DEPLOYING, now)), model.ConditionDeploying},
		{"down", with(current, says(oaaspb.DeploymentCondition_DOWN, now)), model.ConditionDown},
		{"deleted", with(current, says(oaaspb.DeploymentCondition_DELETED, now)), model.ConditionDeleted},
		{"unknown", with(current, says(oaaspb.DeploymentCondition_DEPLOYMENT_CONDITION_UNKNOWN, now)), model.ConditionDeploying},
		{"is being deleted behind our back", with(current, says(running, now), func(u *pmpb.Unit) { u.Runtime.Deleting = true }), model.ConditionDown},
		{"tombstone", with(current, says(running, now), func(u *pmpb.Unit) { u.Tombstone = true }), model.ConditionDeleted},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			equal(t, "condition", fsm.UnitCondition(tt.unit), tt.want)
			if tt.want == model.ConditionRunning && (!fsm.Acknowledged(tt.unit) || !fsm.Current(tt.unit)) {
				t.Error("a unit runs that is not acknowledged or not current")
			}
		})
	}
}

func TestDeploymentCondition(t *testing.T) {
	unit := func(c oaaspb.DeploymentCondition) *pmpb.Unit {
		return &pmpb.Unit{Fence: 1, Ack: &pmpb.Ack{Fence: 1}, Runtime: &oaaspb.ClassRuntimeSummary{Status: &oaaspb.ClassRuntimeStatus{Condition: c}}}
	}
	running, pending := unit(oaaspb.DeploymentCondition_RUNNING), unit(oaaspb.DeploymentCondition_PENDING)
	deploying, down := unit(oaaspb.DeploymentCondition_DEPLOYING), unit(oaaspb.DeploymentCondition_DOWN)
	deleted, tombstone := unit(oaaspb.DeploymentCondition_DELETED), &pmpb.Unit{Tombstone: true}
	for _, tt := range []struct {
		name  string
		units []*pmpb.Unit
		want  model.DeploymentCondition
	}{
		{"none", nil, model.ConditionPending},
		{"tombstones alone", []*pmpb.Unit{tombstone, tombstone}, model.ConditionDeleted},
		{"tombstone beside a live unit", []*pmpb.Unit{tombstone, running}, model.ConditionRunning},
		{"all run", []*pmpb.Unit{running, running}, model.ConditionRunning},
		{"pending is worse than running", []*pmpb.Unit{running, pending}, model.ConditionPending},
		{"deploying is worse than pending", []*pmpb.Unit{pending, deploying, running}, model.ConditionDeploying},
		{"down is worse than deploying", []*pmpb.Unit{deploying, down, pending}, model.ConditionDown},
		{"first of the equally severe", []*pmpb.Unit{deleted, down}, model.ConditionDeleted},
		{"first of the equally severe, other order", []*pmpb.Unit{down, deleted}, model.ConditionDown},
	} {
		t.Run(tt.name, func(t *testing.T) { equal(t, "condition", fsm.DeploymentCondition(tt.units), tt.want) })
	}
	if fsm.Acknowledged(&pmpb.Unit{}) || fsm.Acknowledged(nil) {
		t.Error("what nobody acknowledged is acknowledged")
	}
}

func TestUnitPhaseAndFault(t *testing.T) {
	condition := func(kind, status, reason string) *oaaspb.RuntimeCondition {
		return &oaaspb.RuntimeCondition{Type: kind, Status: status, Reason: reason, Message: "because of " + reason}
	}
	notReady, degraded := condition("Ready", "False", "ImagePullFailed"), condition("Degraded", "True", "ImagePullFailed")
	healthy := []*oaaspb.RuntimeCondition{condition("Ready", "True", "Ready"), condition("Degraded", "False", "Healthy"), condition("Stalled", "False", "Healthy")}
	running, down := oaaspb.DeploymentCondition_RUNNING, oaaspb.DeploymentCondition_DOWN
	for _, tt := range []struct {
		name       string
		says       oaaspb.DeploymentCondition
		conditions []*oaaspb.RuntimeCondition
		phase      string
		fault      *fsm.Fault
	}{
		{"a manager without conditions", running, nil, fsm.PhaseAvailable, nil},
		{"runs completely", running, healthy, fsm.PhaseAvailable, nil},
		{"runs in part", running, []*oaaspb.RuntimeCondition{notReady, degraded}, fsm.PhaseDegraded, &fsm.Fault{Reason: "ImagePullFailed", Message: "because of ImagePullFailed"}},
		{"runs in part, no reason yet", running, []*oaaspb.RuntimeCondition{condition("Ready", "False", "NotReady")}, fsm.PhaseDegraded, &fsm.Fault{Reason: "NotReady", Message: "because of NotReady"}},
		{"runs, but needs a person", running, []*oaaspb.RuntimeCondition{notReady, condition("Degraded", "True", "InvalidSpec"), condition("Stalled", "True", "InvalidSpec")}, fsm.PhaseDegraded, &fsm.Fault{Reason: "InvalidSpec", Message: "because of InvalidSpec", Final: true}},
		{"runs, time is up", running, []*oaaspb.RuntimeCondition{notReady, condition("Degraded", "True", "ProgressDeadlineExceeded")}, fsm.PhaseDegraded, &fsm.Fault{Reason: "ProgressDeadlineExceeded", Message: "because of ProgressDeadlineExceeded", Final: true}},
		{"down", down, []*oaaspb.RuntimeCondition{notReady, degraded}, fsm.PhaseDegraded, &fsm.Fault{Reason: "ImagePullFailed", Message: "because of ImagePullFailed"}},
		{"down, no conditions", down, nil, fsm.PhaseDegraded, &fsm.Fault{Message: "the status"}},
		{"on its way", oaaspb.DeploymentCondition_DEPLOYING, []*oaaspb.RuntimeCondition{notReady, degraded}, fsm.PhaseProgressing, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := &pmpb.Unit{Fence: 1, Ack: &pmpb.Ack{Fence: 1}, Runtime: &oaaspb.ClassRuntimeSummary{
				Status: &oaaspb.ClassRuntimeStatus{Condition: tt.says, Message: ptr("the status")}, Conditions: tt.conditions,
			}}
			equal(t, "phase", fsm.UnitPhase(u), tt.phase)
			equal(t, "fault", fsm.UnitFault(u), tt.fault)
			u.ContentHash = "of something newer"
			equal(t, "fault of older content", fsm.UnitFault(u), (*fsm.Fault)(nil))
		})
	}
}
