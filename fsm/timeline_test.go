package fsm_test

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
)

// timeline gives the events of a deployment in short.
func timeline(s *fsm.Snapshot, key string) []string {
	var out []string
	for _, e := range s.Timeline(key) {
		text := e.GetType()
		for _, part := range []string{e.GetEnv(), e.GetReason(), e.GetMessage()} {
			if part != "" {
				text += " | " + part
			}
		}
		out = append(out, text)
	}
	return out
}

// The life of a deployment, as it is told.
func TestTimeline(t *testing.T) {
	r := atRolloutLevel(t)
	by := noted("deployment.create", "d")
	r.must(revision(t, "d", "c1", "created", "e1", "e2"), by)
	r.update(acked(r.about("d-e1"), "c1"), waiting(r.about("d-e2"), "CLUSTER_UNREACHABLE", false))
	r.update(waiting(r.about("d-e2"), "CLUSTER_UNREACHABLE", false), runs(r.about("d-e1"), "c1", oaaspb.DeploymentCondition_RUNNING))
	r.update(acked(r.about("d-e2"), "c1"), runs(r.about("d-e2"), "c1", oaaspb.DeploymentCondition_RUNNING))
	again := revision(t, "d", "c1", "", "e1", "e2")
	again.Revised = nil
	r.must(again)
	r.must(staged(t, "d", "c1", 2, "e1", "e2"), noted("deployment.update", "d"))
	r.must(r.onwards("d", func(n *pmpb.Rollout) {
		n.WaveStarted = timestamppb.New(epoch)
		n.Envs[0].Revision = 2
	}, planned1("d", "e1", "c2")))
	r.update(waiting(r.about("d-e1"), "REFUSED", true))
	r.must(r.onwards("d", func(n *pmpb.Rollout) { n.Phase = pmpb.RolloutPhase_ROLLOUT_PHASE_PAUSED }))
	r.must(r.onwards("d", func(n *pmpb.Rollout) { n.Phase = pmpb.RolloutPhase_ROLLOUT_PHASE_PROGRESSING }))
	r.must(r.onwards("d", func(n *pmpb.Rollout) {
		n.Phase, n.Reason, n.Message = pmpb.RolloutPhase_ROLLOUT_PHASE_FAILED, "Refused", "e1 refused it"
	}))
	back := staged(t, "d", "c1", 3, "e1", "e2")
	back.Units[0].ContentHash = hashOf("c2")
	back.Rollout.Stable, back.Rollout.Phase, back.Rollout.Reason = 3, pmpb.RolloutPhase_ROLLOUT_PHASE_ROLLING_BACK, "Refused"
	r.must(back)
	r.must(r.onwards("d", func(n *pmpb.Rollout) { n.WaveStarted = timestamppb.New(epoch) }, planned1("d", "e1", "c1")))
	r.update(acked(r.about("d-e1"), "c1"), lost(r.about("d-e2")))
	r.must(r.onwards("d", func(n *pmpb.Rollout) { n.Phase = pmpb.RolloutPhase_ROLLOUT_PHASE_ROLLED_BACK }))
	r.update(runs(r.about("d-e1"), "c1", oaaspb.DeploymentCondition_RUNNING))
	r.update(runs(r.about("d-e1"), "c1", oaaspb.DeploymentCondition_DOWN))
	r.update(runs(r.about("d-e1"), "c1", oaaspb.DeploymentCondition_DEPLOYING))
	r.must(commit(t, "d", "c1", "e1"))
	r.must(&pmpb.DeleteDeployment{Key: "d"})
	r.update(gone(r.about("d-e1")))
	r.update(gone(r.about("d-e2")))
	equal(t, "timeline", timeline(r.snap(), "d"), []string{
		"Accepted | deployment.create | created", "Planned | e1, e2", "Queued | to be sent to e1, e2",
		"Acknowledged | e1", "Waiting | e2 | CLUSTER_UNREACHABLE | m-CLUSTER_UNREACHABLE",
		"Available | e1",
		"Acknowledged | e2", "Available | e2",
		"Accepted | deployment.update | to 2", "RolloutStarted | from revision 1 to 2 in 2 waves",
		"WaveStarted | wave 1 of 2: e1", "Queued | to be sent to e1",
		"Refused | e1 | REFUSED | m-REFUSED",
		"RolloutPaused", "RolloutResumed", "RolloutFailed | Refused | e1 refused it",
		"Accepted | to 3", "RollbackStarted | Refused",
		"Queued | to be sent to e1",
		"Acknowledged | e1", "Waiting | e2 | LOST | lost it",
		"RolledBack | all environments have revision 3",
		"Available | e1", "Degraded | e1", "Progressing | e1",
		"Accepted | the wish has changed", "Planned | e1", "Withdrawn | to be removed from e2",
		"DeletionRequested | to be removed from e1, e2",
		"Removed | e1", "Removed | e2", "DeletionConfirmed",
	})
	sameAfterRestart(t, r)
	r.must(revision(t, "d", "c1", "created again", "e1"))
	if got := timeline(r.snap(), "d"); got[len(got)-3] != "Accepted | created" && !strings.HasPrefix(got[len(got)-3], "Accepted") {
		t.Errorf("the key's next life is not told: %q", got)
	}
}

// What clusters say has no more room than there is.
func TestTimelineIsBounded(t *testing.T) {
	r := atRolloutLevel(t)
	r.must(commit(t, "d", "c1", "e1"))
	r.must(commit(t, "e", "c1", "e1"))
	r.update(acked(r.about("d-e1"), "c1"))
	for i := range 3 * fsm.MaxTimelineOfOne {
		condition := oaaspb.DeploymentCondition_RUNNING
		if i%2 == 1 {
			condition = oaaspb.DeploymentCondition_DOWN
		}
		u := runs(r.about("d-e1"), "c1", condition)
		u.GetRuntime().Status.Message = ptr(strings.Repeat("é", 1000) + fmt.Sprint(i))
		r.update(u)
	}
	s := r.snap()
	events := s.Timeline("d")
	if len(events) != fsm.MaxTimelineOfOne || len(s.Timeline("e")) != 3 {
		t.Fatalf("%d and %d events", len(events), len(s.Timeline("e")))
	}
	if last := events[len(events)-1]; last.GetIndex() != s.Index() || last.GetType() != fsm.PhaseDegraded || len(last.GetMessage()) > 512 {
		t.Errorf("the newest is %v", last)
	}
	// More in one command than is kept of one deployment.
	var flips []*pmpb.UnitUpdate
	for i := range 2 * fsm.MaxTimelineOfOne {
		condition := oaaspb.DeploymentCondition_RUNNING
		if i%2 == 1 {
			condition = oaaspb.DeploymentCondition_DOWN
		}
		flips = append(flips, runs(r.about("d-e1"), "c1", condition))
	}
	at := r.update(flips...)
	events = r.snap().Timeline("d")
	if len(events) != fsm.MaxTimelineOfOne || events[0].GetIndex() != at || events[0].GetSequence() != fsm.MaxTimelineOfOne {
		t.Errorf("%d events, the first is %v", len(events), events[0])
	}
	sameAfterRestart(t, r)
}

// Many deployments have no more room than there is, and the oldest events go.
func TestTimelineOfAllIsBounded(t *testing.T) {
	r := atRolloutLevel(t)
	for i := range fsm.MaxTimeline/3 + 1000 {
		r.must(commit(t, fmt.Sprintf("d%06d", i), "c1", "e1"))
	}
	s := r.snap()
	if n := len(s.Timeline("d000000")); n != 0 {
		t.Errorf("the oldest deployment has %d events", n)
	}
	if n := len(s.Timeline(fmt.Sprintf("d%06d", fsm.MaxTimeline/3+999))); n != 3 {
		t.Errorf("the newest deployment has %d events", n)
	}
	sameAfterRestart(t, r)
}

// incomplete is what a cluster says whose old pods serve while the new ones do not start.
func incomplete(u *pmpb.UnitUpdate, content, reason string) *pmpb.UnitUpdate {
	u = runs(u, content, oaaspb.DeploymentCondition_RUNNING)
	u.GetRuntime().Status.Message = ptr("Available, but degraded")
	u.GetRuntime().Conditions = []*oaaspb.RuntimeCondition{
		{Type: "Available", Status: "True"}, {Type: "Ready", Status: "False", Reason: reason},
		{Type: "Degraded", Status: "True", Reason: reason, Message: "because of " + reason},
	}
	return u
}

// What runs with a part that does not is told as Degraded, with the reason, once for each;
// servers of before write as they did.
func TestTimelineOfWhatRunsInPart(t *testing.T) {
	for level, want := range map[uint32][]string{
		fsm.FailoverFrom: {
			"Degraded | e1 | ImagePullFailed | because of ImagePullFailed", "Degraded | e1 | CrashLoop | because of CrashLoop", "Available | e1",
			"Degraded | e1 | CrashLoop | because of CrashLoop",
		},
		fsm.RolloutFrom: {"Available | e1"},
	} {
		r := newReplica(t)
		r.must(&pmpb.Found{ClusterId: "control-plane"})
		r.must(&pmpb.RaiseFeatureLevel{Level: level})
		r.must(commit(t, "d", "c1", "e1"))
		r.update(acked(r.about("d-e1"), "c1"))
		before := len(timeline(r.snap(), "d"))
		r.update(incomplete(r.about("d-e1"), "c1", "ImagePullFailed"))
		for range 3 { // a report that repeats itself but for its time
			again := incomplete(r.about("d-e1"), "c1", "CrashLoop")
			again.GetRuntime().UpdatedAt = fmt.Sprint(r.snap().Index())
			r.update(again)
		}
		r.update(runs(r.about("d-e1"), "c1", oaaspb.DeploymentCondition_RUNNING))
		r.update(incomplete(r.about("d-e1"), "c1", "CrashLoop"))
		equal(t, fmt.Sprintf("timeline at level %d", level), timeline(r.snap(), "d")[before:], want)
	}
}
