package fsm_test

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
)

func atFailoverLevel(t testing.TB, envs ...string) *replica {
	t.Helper()
	r := newReplica(t)
	r.must(&pmpb.Found{ClusterId: "control-plane"})
	r.must(&pmpb.RaiseFeatureLevel{Level: fsm.FailoverFrom})
	for _, env := range envs {
		r.healthIs(env, pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY)
	}
	return r
}

func (r *replica) healthIs(env string, health pmpb.ClusterHealth) {
	r.must(&pmpb.PutCluster{Cluster: &pmpb.Cluster{Name: env, Health: health}})
}

func (r *replica) running(key, env, content string) {
	id := unitID(key, env)
	r.update(acked(r.about(id), content))
	r.update(runs(r.about(id), content, oaaspb.DeploymentCondition_RUNNING))
}

// leavingFor is a commit whose deployment leaves an environment for another one.
func leavingFor(t testing.TB, key, content, env, by string, envs ...string) *pmpb.CommitDeployment {
	op := commit(t, key, content, envs...)
	op.Move = &pmpb.Move{
		Leaving: []*pmpb.Leaving{{Env: env, Replacement: by, Reason: pmpb.MoveReason_MOVE_REASON_DRAIN, Since: timestamppb.New(epoch)}},
		Joining: []string{by}, Started: timestamppb.New(epoch),
	}
	return op
}

func TestMovesNeedTheirLevel(t *testing.T) {
	r := atRolloutLevel(t)
	r.must(commit(t, "d", "c1", "e1"))
	for name, op := range map[string]any{
		"a move": leavingFor(t, "d", "c1", "e1", "e2", "e2"), "a step": &pmpb.StepMove{Key: "d"},
		"a drain":            &pmpb.PutCluster{Cluster: &pmpb.Cluster{Name: "e1", Policy: &pmpb.ClusterPolicy{Draining: true}}},
		"a suspected health": &pmpb.PutCluster{Cluster: &pmpb.Cluster{Name: "e1", Health: pmpb.ClusterHealth_CLUSTER_HEALTH_FAILOVER_ELIGIBLE}},
	} {
		if err := r.refused(op); !errors.Is(err, fsm.ErrFeatureLevel) {
			t.Errorf("%s at the level before gives %v", name, err)
		}
	}
}

// What leaves stays as it is, until what takes its place runs.
func TestUnitsLeaveWhenOthersRun(t *testing.T) {
	r := atFailoverLevel(t, "e1", "e2", "e3")
	r.must(commit(t, "d", "c1", "e1", "e2"))
	r.running("d", "e1", "c1")
	r.running("d", "e2", "c1")
	before := r.snap().Unit("d-e2")
	r.must(leavingFor(t, "d", "c2", "e2", "e3", "e1", "e3"))
	equal(t, "what leaves", r.snap().Unit("d-e2"), before)
	sameAfterRestart(t, r)

	step := func() *pmpb.StepMove {
		return &pmpb.StepMove{Key: "d", Uid: "u-d", Withdraw: "e2", Replacement: "e3"}
	}
	for name, edit := range map[string]func(*pmpb.StepMove){
		"before the other one runs":      func(*pmpb.StepMove) {},
		"without another one":            func(op *pmpb.StepMove) { op.Replacement = "" },
		"for itself":                     func(op *pmpb.StepMove) { op.Replacement = "e2" },
		"of what does not leave":         func(op *pmpb.StepMove) { op.Withdraw = "e1" },
		"and leaves it all the same":     func(op *pmpb.StepMove) { op.Move = proto.CloneOf(r.snap().Deployment("d").Move) },
		"and forgets what leaves":        func(op *pmpb.StepMove) { op.Withdraw, op.Replacement = "", "" },
		"and changes what leaves":        func(op *pmpb.StepMove) { op.Units = []*pmpb.PlannedUnit{planned1("d", "e2", "c9")} },
		"of another one that leaves":     func(op *pmpb.StepMove) { op.Move = &pmpb.Move{Leaving: []*pmpb.Leaving{{Env: "e1", Reason: 1}}} },
		"for a reason that is not known": func(op *pmpb.StepMove) { op.Move = &pmpb.Move{Held: &pmpb.Held{Env: "e1"}} },
	} {
		op := step()
		edit(op)
		if err := r.refused(op); err == nil || errors.Is(err, fsm.ErrFeatureLevel) {
			t.Errorf("a step %s gives %v", name, err)
		}
	}
	held := step()
	held.Withdraw, held.Replacement, held.Move = "", "", proto.CloneOf(r.snap().Deployment("d").Move)
	held.Move.Held = &pmpb.Held{Code: "ReplacementNotAvailable", Message: "waits for e3", Env: "e2", Since: timestamppb.New(epoch)}
	at := r.must(held)
	if d := r.snap().Deployment("d"); d.ModifyIndex != at || d.Move.GetHeld().GetCode() == "" || !d.Leaves("e2") || d.Leaves("e1") {
		t.Errorf("the deployment is %+v", d)
	}

	r.running("d", "e3", "c2")
	r.healthIs("e3", pmpb.ClusterHealth_CLUSTER_HEALTH_SUSPECT)
	if err := r.refused(step()); err == nil {
		t.Error("it is withdrawn for what is suspected")
	}
	r.healthIs("e3", pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY)
	at = r.must(step())
	if u := r.snap().Unit("d-e2"); !u.GetTombstone() || u.GetFence() != at || r.snap().Deployment("d").Move != nil {
		t.Errorf("it became %v", u)
	}
	sameAfterRestart(t, r)
	var told []string
	for _, e := range r.snap().Timeline("d") {
		switch e.GetType() {
		case fsm.EventMoveStarted, fsm.EventMoveHeld, fsm.EventReplaced, fsm.EventWithdrawn, fsm.EventMoveComplete:
			told = append(told, strings.Join([]string{e.GetType(), e.GetEnv(), e.GetReason(), e.GetMessage()}, "|"))
		}
	}
	equal(t, "timeline", told, []string{
		"MoveStarted||Drain|leaves e2 for e3", "MoveHeld|e2|ReplacementNotAvailable|waits for e3",
		"Replaced|e2||e3 is available and takes the place of e2", "Withdrawn|||to be removed from e2", "MoveComplete|||",
	})
}

// A commit without a move ends it, a deletion takes all, and a restore brings it back.
func TestMovesEndAndComeBack(t *testing.T) {
	r := atFailoverLevel(t, "e1", "e2")
	r.must(commit(t, "d", "c1", "e1"))
	for name, edit := range map[string]func(*pmpb.CommitDeployment){
		"what is planned": func(op *pmpb.CommitDeployment) { op.Move.Leaving[0].Env = "e2" },
		"what is nowhere": func(op *pmpb.CommitDeployment) { op.Move.Leaving[0].Env = "e9" },
		"for no reason":   func(op *pmpb.CommitDeployment) { op.Move.Leaving[0].Reason = 0 },
		"it twice":        func(op *pmpb.CommitDeployment) { op.Move.Leaving = append(op.Move.Leaving, op.Move.Leaving[0]) },
	} {
		op := leavingFor(t, "d", "c1", "e1", "e2", "e2")
		edit(op)
		var invalid *fsm.InvalidCommandError
		if err := r.refused(op); !errors.As(err, &invalid) {
			t.Errorf("leaving %s gives %v", name, err)
		}
	}
	r.must(leavingFor(t, "d", "c1", "e1", "e2", "e2"))
	saved := dump(t, r.snap())
	r.must(commit(t, "d", "c1", "e2"))
	if u := r.snap().Unit("d-e1"); !u.GetTombstone() || r.snap().Deployment("d").Move != nil {
		t.Errorf("%v stays", u)
	}
	r.restore(saved)
	if u, d := r.snap().Unit("d-e1"), r.snap().Deployment("d"); u.GetTombstone() || !d.Leaves("e1") {
		t.Errorf("restored: %v, %v", u, d.Move)
	}
	r.must(&pmpb.DeleteDeployment{Key: "d"})
	if u := r.snap().Unit("d-e1"); !u.GetTombstone() {
		t.Errorf("%v stays", u)
	}
	if err := r.refused(&pmpb.StepMove{Key: "d", Uid: "u-d"}); err == nil {
		t.Error("a step of what is gone took effect")
	}
}
