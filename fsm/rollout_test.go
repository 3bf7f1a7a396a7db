package fsm_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
)

func atRolloutLevel(t testing.TB) *replica {
	t.Helper()
	r := newReplica(t)
	r.must(&pmpb.Found{ClusterId: "control-plane"})
	r.must(&pmpb.RaiseFeatureLevel{Level: fsm.RolloutFrom})
	return r
}

// revision is a commit that makes another revision.
func revision(t testing.TB, key, content, summary string, envs ...string) *pmpb.CommitDeployment {
	op := commit(t, key, content, envs...)
	doc := deploymentDoc(key)
	doc.EnvTemplates = map[string]string{"e1": content}
	op.Document = []byte(jsonOf(t, doc))
	op.Revised = &pmpb.Revised{Summary: summary}
	return op
}

// staged is a commit of another revision that changes no unit yet: content is what they
// have.
func staged(t testing.TB, key, content string, number uint64, envs ...string) *pmpb.CommitDeployment {
	op := revision(t, key, content, fmt.Sprintf("to %d", number), envs...)
	op.Rollout = &pmpb.Rollout{
		Revision: number, Stable: number - 1, Phase: pmpb.RolloutPhase_ROLLOUT_PHASE_PROGRESSING, Canary: 1, MaxUnavailable: 1,
		MinHealthyTime: durationpb.New(time.Minute), ProgressDeadline: durationpb.New(time.Hour),
		StableClass: []byte(`{"old":1}`), Class: []byte(`{"new":1}`),
	}
	for i, env := range envs {
		op.Rollout.Envs = append(op.Rollout.Envs, &pmpb.RolloutEnv{Env: env, Wave: uint32(i), Revision: number - 1})
	}
	return op
}

// onwards is a step of the present rollout that edit changes.
func (r *replica) onwards(key string, edit func(*pmpb.Rollout), units ...*pmpb.PlannedUnit) *pmpb.StepRollout {
	next := proto.CloneOf(r.snap().Rollout(key))
	next.StableDocument, next.StableClass, next.Class = nil, nil, nil
	edit(next)
	return &pmpb.StepRollout{Rollout: next, Units: units}
}

func planned1(key, env, content string) *pmpb.PlannedUnit {
	id := unitID(key, env)
	return &pmpb.PlannedUnit{Id: id, Env: env, ContentHash: hashOf(content), Desired: &oaaspb.DeploymentUnit{Id: id, SelectedTemplate: ptr(content)}}
}

// What rollouts need must not get into a state that older servers share.
func TestRolloutsNeedTheirLevel(t *testing.T) {
	r := newReplica(t)
	r.must(&pmpb.RaiseFeatureLevel{Level: fsm.RolloutFrom - 1})
	r.must(commit(t, "d", "c1", "e1"))
	late := commit(t, "d", "c1", "e1")
	late.Rollout = &pmpb.Rollout{}
	for name, op := range map[string]any{
		"another revision": revision(t, "d", "c1", "s", "e1"), "a rollout": late, "a step": &pmpb.StepRollout{},
	} {
		if err := r.refused(op); !errors.Is(err, fsm.ErrFeatureLevel) {
			t.Errorf("%s at the level before gives %v", name, err)
		}
	}
	guarded := func(c *pmpb.Command) { c.Guards = []*pmpb.Guard{{Table: pmpb.Guard_TABLE_ROLLOUT, Key: "d"}} }
	if err := r.refused(commit(t, "d", "c1", "e1"), guarded); !errors.Is(err, fsm.ErrFeatureLevel) {
		t.Errorf("a guard at the level before gives %v", err)
	}
	r.update(acked(r.about("d-e1"), "c1"))
	if u, s := r.snap().Unit("d-e1"), r.snap(); u.GetConditionSince() != nil || len(s.Timeline("d")) != 0 || s.Deployment("d").Revision != nil {
		t.Errorf("kept before all servers know it: %v, %v", u, s.Timeline("d"))
	}
	sameAfterRestart(t, r)
}

func TestRevisionsAreKept(t *testing.T) {
	r := newReplica(t)
	r.must(commit(t, "d", "c1", "e1")) // from before there were revisions
	r.must(&pmpb.RaiseFeatureLevel{Level: fsm.RolloutFrom})
	equal(t, "number", r.snap().Deployment("d").RevisionNumber(), uint64(1))
	by := func(c *pmpb.Command) {
		c.Principal, c.Note = "ann", &pmpb.AuditNote{Action: "deployment.update", Agent: "pmctl"}
	}
	op := revision(t, "d", "c2", "image: 1 → 2", "e1")
	op.Revised.Outcome = fsm.OutcomeComplete
	at := r.must(op, by)
	equal(t, "note", r.snap().Deployment("d").Revision, &pmpb.RevisionNote{
		Number: 2, Time: timestamppb.New(timeOf(at)), Principal: "ann", Agent: "pmctl", RequestId: "r", Summary: "image: 1 → 2",
	})
	past := r.snap().Revisions("d")
	if len(past) != 1 || past[0].GetNote().GetNumber() != 1 || past[0].GetOutcome() != fsm.OutcomeComplete || past[0].GetModifyIndex() != at {
		t.Fatalf("past revisions are %v", past)
	}
	r.must(commit(t, "d", "c3", "e1", "e2")) // more of the same revision
	equal(t, "number of an unrevised deployment", r.snap().Deployment("d").RevisionNumber(), uint64(2))
	for n := range 30 {
		r.must(revision(t, "d", fmt.Sprint("c", n), fmt.Sprint("s", n), "e1"))
	}
	past = r.snap().Revisions("d")
	if len(past) != fsm.MaxRevisions-1 || r.snap().Deployment("d").RevisionNumber() != 32 {
		t.Fatalf("%d past revisions before %d", len(past), r.snap().Deployment("d").RevisionNumber())
	}
	for i, p := range past {
		if want := uint64(31 - i); p.GetNote().GetNumber() != want || !strings.Contains(string(p.GetDocument()), fmt.Sprintf(`"e1":"c%d"`, want-3)) {
			t.Errorf("past revision %d is %v, want number %d", i, p, want)
		}
	}
	sameAfterRestart(t, r)
	r.must(&pmpb.DeleteDeployment{Key: "d"})
	equal(t, "revisions of a deployment that is gone", len(r.snap().Revisions("d")), 0)
	r.must(revision(t, "d2", "c", "s", "e1"))
	equal(t, "number of a new one", r.snap().Deployment("d2").RevisionNumber(), uint64(1))
	sameAfterRestart(t, r)
}

func TestRevisionsAreBounded(t *testing.T) {
	r := atRolloutLevel(t)
	isInvalid(t, r.refused(revision(t, "d", "c", strings.Repeat("x", 1025), "e1")), "1025 bytes")
	big := func(key, content string, size int) *pmpb.CommitDeployment {
		op := revision(t, key, content, "s", "e1")
		doc := deploymentDoc(key)
		doc.EnvTemplates = map[string]string{content: strings.Repeat("x", size)}
		op.Document = []byte(jsonOf(t, doc))
		return op
	}
	r.must(big("d", "c1", fsm.MaxRevisionDocument))
	r.must(big("d", "c2", 10))
	equal(t, "revisions that are too large", len(r.snap().Revisions("d")), 0)
	deployments := fsm.MaxRevisionBytes/fsm.MaxRevisionDocument/5 + 1
	for n := range 8 {
		for d := range deployments {
			r.must(big(fmt.Sprint("d", d), fmt.Sprint("c", n), fsm.MaxRevisionDocument-1000))
		}
	}
	size := 0
	for d := range deployments {
		for _, p := range r.snap().Revisions(fmt.Sprint("d", d)) {
			size += len(p.GetDocument())
		}
	}
	if size > fsm.MaxRevisionBytes || size < fsm.MaxRevisionBytes*9/10 {
		t.Errorf("%d bytes of %d", size, fsm.MaxRevisionBytes)
	}
	if past := r.snap().Revisions("d0"); len(past) == 0 || past[0].GetNote().GetNumber() != 7 {
		t.Errorf("the newest past revision is gone: %d", len(past))
	}
	sameAfterRestart(t, r)
}

// A rollout from its beginning to its end: units change one after the other, and each
// alone gets a new fence.
func TestRolloutStepByStep(t *testing.T) {
	r := atRolloutLevel(t)
	r.must(revision(t, "d", "c1", "created", "e1", "e2"))
	before := r.snap()
	began := r.must(staged(t, "d", "c1", 2, "e1", "e2"))
	s := r.snap()
	equal(t, "units", s.Units(), before.Units())
	equal(t, "generation", s.Deployment("d").Generation, uint64(2))
	row := s.Rollout("d")
	if row.GetDeploymentUid() != "u-d" || row.GetCreateIndex() != began || string(row.GetStableDocument()) == "" || string(row.GetStableClass()) != `{"old":1}` {
		t.Fatalf("rollout is %v", row)
	}
	if !bytes.Contains(row.GetStableDocument(), []byte(`"e1":"c1"`)) {
		t.Errorf("stable document is %s", row.GetStableDocument())
	}
	sameAfterRestart(t, r)

	stepped := r.must(r.onwards("d", func(n *pmpb.Rollout) {
		n.WaveStarted, n.Deadline = timestamppb.New(epoch), timestamppb.New(epoch.Add(time.Hour))
		n.Envs[0].Revision = 2
	}, planned1("d", "e1", "c2")))
	s = r.snap()
	if u := s.Unit("d-e1"); u.GetFence() != stepped || u.GetGeneration() != 2 || u.GetContentHash() != hashOf("c2") || !u.GetConditionSince().AsTime().Equal(timeOf(stepped-2)) && u.GetConditionSince() == nil {
		t.Errorf("the unit whose turn it was is %v", u)
	}
	equal(t, "the unit of a later wave", s.Unit("d-e2"), before.Unit("d-e2"))
	equal(t, "deployment", s.Deployment("d").ModifyIndex, began)
	next := s.Rollout("d")
	if next.GetModifyIndex() != stepped || next.GetCreateIndex() != began || !bytes.Equal(next.GetStableDocument(), row.GetStableDocument()) ||
		string(next.GetClass()) != `{"new":1}` || string(next.GetStableClass()) != `{"old":1}` {
		t.Fatalf("rollout is %v", next)
	}
	sameAfterRestart(t, r)

	r.must(r.onwards("d", func(n *pmpb.Rollout) { n.Phase = pmpb.RolloutPhase_ROLLOUT_PHASE_COMPLETE }, planned1("d", "e2", "c2")))
	if done := r.snap().Rollout("d"); len(done.GetStableDocument())+len(done.GetStableClass())+len(done.GetClass()) != 0 {
		t.Errorf("a rollout that is complete still has documents: %v", done)
	}
	sameAfterRestart(t, r)
	r.must(commit(t, "d", "c2", "e1", "e2")) // says nothing of a rollout
	if got := r.snap().Rollout("d"); got != nil {
		t.Errorf("left: %v", got)
	}
}

// Another change in the middle goes back to what all environments had, not to what some got.
func TestRolloutThatIsSupersededKeepsTheWayBack(t *testing.T) {
	r := atRolloutLevel(t)
	r.must(revision(t, "d", "c1", "created", "e1", "e2"))
	r.must(staged(t, "d", "c1", 2, "e1", "e2"))
	stable := r.snap().Rollout("d").GetStableDocument()
	again := staged(t, "d", "c1", 3, "e1", "e2")
	again.Rollout.Stable, again.Rollout.StableClass = 1, nil
	at := r.must(again)
	row := r.snap().Rollout("d")
	if !bytes.Equal(row.GetStableDocument(), stable) || string(row.GetStableClass()) != `{"old":1}` || row.GetCreateIndex() != at {
		t.Fatalf("rollout is %v", row)
	}
	back := staged(t, "d", "c1", 4, "e1", "e2")
	back.Rollout.Stable, back.Rollout.Phase = 4, pmpb.RolloutPhase_ROLLOUT_PHASE_ROLLING_BACK
	r.must(back)
	if row := r.snap().Rollout("d"); len(row.GetStableDocument()) != 0 || len(row.GetClass()) == 0 {
		t.Fatalf("rollback is %v", row)
	}
	sameAfterRestart(t, r)
	r.must(&pmpb.DeleteDeployment{Key: "d"})
	if got := r.snap().Rollout("d"); got != nil {
		t.Errorf("left by a deployment that is gone: %v", got)
	}
	sameAfterRestart(t, r)
}

func TestRolloutsThatMakeNoSense(t *testing.T) {
	r := atRolloutLevel(t)
	fresh := staged(t, "new", "c1", 1, "e1")
	fresh.Rollout.Stable = 1
	isInvalid(t, r.refused(fresh), "nothing to roll out")
	r.must(revision(t, "d", "c1", "created", "e1", "e2"))
	for name, edit := range map[string]func(*pmpb.Rollout){
		"deployment \"d\" has revision 2":    func(n *pmpb.Rollout) { n.Revision = 7 },
		"is not at hand":                     func(n *pmpb.Rollout) { n.Stable = 0 },
		"no phase":                           func(n *pmpb.Rollout) { n.Phase = 0 },
		"no phase that is known":             func(n *pmpb.Rollout) { n.Phase = 99 },
		"no environment to be unavailable":   func(n *pmpb.Rollout) { n.MaxUnavailable = 0 },
		"named twice":                        func(n *pmpb.Rollout) { n.Envs[1].Env = "e1" },
		"no unit in environment \"e9\"":      func(n *pmpb.Rollout) { n.Envs[1].Env = "e9" },
		"revision 3 of 2":                    func(n *pmpb.Rollout) { n.Envs[1].Revision = 3 },
		"revision 0 of 2":                    func(n *pmpb.Rollout) { n.Envs[1].Revision = 0 },
		"text of more than 2048":             func(n *pmpb.Rollout) { n.Message = strings.Repeat("x", 2049) },
		"no JSON":                            func(n *pmpb.Rollout) { n.Class = []byte("{") },
		"time that is out of range":          func(n *pmpb.Rollout) { n.Deadline = &timestamppb.Timestamp{Nanos: -1} },
		"has a time that is out of range":    func(n *pmpb.Rollout) { n.Envs[0].Updated = &timestamppb.Timestamp{Nanos: -1} },
		"duration that is out of range":      func(n *pmpb.Rollout) { n.MinHealthyTime = durationpb.New(-1) },
		"a duration that is out of range":    func(n *pmpb.Rollout) { n.ProgressDeadline = &durationpb.Duration{Nanos: -1, Seconds: 1} },
		"revision 3 of deployment \"d\", to": func(n *pmpb.Rollout) { n.Stable = 3 },
	} {
		op := staged(t, "d", "c1", 2, "e1", "e2")
		edit(op.Rollout)
		isInvalid(t, r.refused(op), name)
	}
	isNotFound(t, r.refused(&pmpb.StepRollout{Rollout: &pmpb.Rollout{DeploymentKey: "d", DeploymentUid: "u-d"}}), fsm.TableRollouts, "d")
	r.must(staged(t, "d", "c1", 2, "e1", "e2"))
	same := func(*pmpb.Rollout) {}
	isNotFound(t, r.refused(r.onwards("d", func(n *pmpb.Rollout) { n.DeploymentUid = "u-x" })), fsm.TableRollouts, "d")
	isInvalid(t, r.refused(r.onwards("d", func(n *pmpb.Rollout) { n.Revision = 1 })), "not to 1")
	isInvalid(t, r.refused(r.onwards("d", same, planned1("x", "e1", "c2"))), "no unit of deployment")
	isInvalid(t, r.refused(r.onwards("d", same, planned1("d", "e1", "c2"), planned1("d", "e1", "c3"))), "named twice")
	r.must(commit(t, "d", "c1", "e1")) // without a rollout, and out of e2
	r.must(staged(t, "d", "c1", 3, "e1"))
	isInvalid(t, r.refused(r.onwards("d", same, planned1("d", "e2", "c2"))), "no unit of deployment")
}

func TestGuardOnARollout(t *testing.T) {
	r := atRolloutLevel(t)
	r.must(revision(t, "d", "c1", "created", "e1"))
	at := r.must(staged(t, "d", "c1", 2, "e1"))
	guarded := func(index uint64) func(*pmpb.Command) {
		return func(c *pmpb.Command) {
			c.Guards = []*pmpb.Guard{{Table: pmpb.Guard_TABLE_ROLLOUT, Key: "d", ModifyIndex: index}}
		}
	}
	var moved *fsm.GuardError
	if err := r.refused(r.onwards("d", func(*pmpb.Rollout) {}), guarded(at-1)); !errors.As(err, &moved) || moved.Have != at {
		t.Fatalf("error is %v, want that the row has moved", err)
	}
	r.must(r.onwards("d", func(*pmpb.Rollout) {}), guarded(at))
}

// Since when a unit is as it is must survive what does not change that.
func TestConditionSince(t *testing.T) {
	r := atRolloutLevel(t)
	made := r.must(commit(t, "d", "c1", "e1"))
	since := func(what string, index uint64) {
		t.Helper()
		if got := r.snap().Unit("d-e1").GetConditionSince().AsTime(); !got.Equal(timeOf(index)) {
			t.Fatalf("%s: since %s, want %s", what, got, timeOf(index))
		}
	}
	since("new", made)
	r.update(waiting(r.about("d-e1"), "X", false))
	since("waiting", made)
	acknowledged := r.update(acked(r.about("d-e1"), "c1"))
	since("deploying", acknowledged)
	running := r.update(runs(r.about("d-e1"), "c1", oaaspb.DeploymentCondition_RUNNING))
	since("running", running)
	r.update(runs(r.about("d-e1"), "c1", oaaspb.DeploymentCondition_RUNNING))
	since("running as before", running)
	incomplete := runs(r.about("d-e1"), "c1", oaaspb.DeploymentCondition_RUNNING)
	incomplete.GetRuntime().Conditions = []*oaaspb.RuntimeCondition{{Type: "Ready", Status: "False"}}
	half := r.update(incomplete)
	since("running, but not all of it", half)
	if fsm.UnitComplete(r.snap().Unit("d-e1")) {
		t.Error("what is not ready is complete")
	}
	down := r.update(runs(r.about("d-e1"), "c1", oaaspb.DeploymentCondition_DOWN))
	since("down", down)
	changed := r.must(commit(t, "d", "c2", "e1"))
	since("with new content", changed)
	r.reload()
	since("after a restart", changed)
	buried := r.must(&pmpb.DeleteDeployment{Key: "d"})
	since("withdrawn", buried)
}

// A restore brings rollouts back, and their waves have all of their time again.
func TestRestoreOfRollouts(t *testing.T) {
	r := atRolloutLevel(t)
	r.must(revision(t, "d", "c1", "created", "e1", "e2"))
	r.must(staged(t, "d", "c1", 2, "e1", "e2"))
	r.must(r.onwards("d", func(n *pmpb.Rollout) {
		n.WaveStarted, n.Deadline = timestamppb.New(epoch), timestamppb.New(epoch.Add(time.Hour))
	}))
	saved := dump(t, r.snap())
	want := r.snap()
	r.must(r.onwards("d", func(n *pmpb.Rollout) { n.Phase = pmpb.RolloutPhase_ROLLOUT_PHASE_FAILED }))
	r.must(revision(t, "d", "c9", "later", "e1"))
	events := len(r.snap().Timeline("d"))
	done := r.restore(saved)
	s := r.snap()
	row := s.Rollout("d")
	if row.GetPhase() != pmpb.RolloutPhase_ROLLOUT_PHASE_PROGRESSING || row.GetModifyIndex() != done.Index ||
		!row.GetDeadline().AsTime().Equal(timeOf(done.Index).Add(time.Hour)) || !row.GetWaveStarted().AsTime().Equal(timeOf(done.Index)) ||
		!bytes.Equal(row.GetStableDocument(), want.Rollout("d").GetStableDocument()) {
		t.Errorf("rollout is %v", row)
	}
	equal(t, "revision", s.Deployment("d").Revision, want.Deployment("d").Revision)
	if past := s.Revisions("d"); len(past) != 1 || past[0].GetModifyIndex() != done.Index || past[0].GetNote().GetNumber() != 1 {
		t.Errorf("past revisions are %v", past)
	}
	if got := len(s.Timeline("d")); got < events {
		t.Errorf("%d events, there were %d", got, events)
	}
	sameAfterRestart(t, r)
	r.must(&pmpb.RaiseEpoch{RecoveryId: "x", Reason: "y"})
	sameAfterRestart(t, r)
}

func TestCorruptRolloutRecords(t *testing.T) {
	r := fullReplica5(t)
	records := recordsOf(t, frameOf(t, dump(t, r.snap())))
	for name, edit := range map[string]func(*pmpb.SnapshotRecord) bool{
		"which is said to be past": func(rec *pmpb.SnapshotRecord) bool {
			if rec.GetRevision() != nil {
				rec.GetRevision().Note.Number = 99
			}
			return rec.GetRevision() != nil
		},
		"no deployment with the uid": func(rec *pmpb.SnapshotRecord) bool {
			if rec.GetRevision() != nil {
				rec.GetRevision().DeploymentUid = "nobody"
			}
			return rec.GetRevision() != nil
		},
		"no number": func(rec *pmpb.SnapshotRecord) bool {
			if rec.GetRevision() != nil {
				rec.GetRevision().Note = nil
			}
			return rec.GetRevision() != nil
		},
		"its rollout goes to": func(rec *pmpb.SnapshotRecord) bool {
			if rec.GetRollout() != nil {
				rec.GetRollout().Revision++
			}
			return rec.GetRollout() != nil
		},
		"no phase": func(rec *pmpb.SnapshotRecord) bool {
			if rec.GetRollout() != nil {
				rec.GetRollout().Phase = 0
			}
			return rec.GetRollout() != nil
		},
		"no type": func(rec *pmpb.SnapshotRecord) bool {
			if rec.GetTimelineEvent() != nil {
				rec.GetTimelineEvent().Type = ""
			}
			return rec.GetTimelineEvent() != nil
		},
		"text of more than 512": func(rec *pmpb.SnapshotRecord) bool {
			if rec.GetTimelineEvent() != nil {
				rec.GetTimelineEvent().Message = strings.Repeat("x", 513)
			}
			return rec.GetTimelineEvent() != nil
		},
		"the state is at": func(rec *pmpb.SnapshotRecord) bool {
			last := proto.Equal(rec, records[len(records)-1])
			if last {
				rec.GetTimelineEvent().Index += 1000
			}
			return last
		},
	} {
		var bad []*pmpb.SnapshotRecord
		found := false
		for _, rec := range records {
			rec = proto.CloneOf(rec)
			if !found {
				found = edit(rec)
			}
			bad = append(bad, rec)
		}
		_, err := fsm.ReadSnapshot(bytes.NewReader(repack5(t, bad)))
		if !found || !errors.Is(err, fsm.ErrCorruptSnapshot) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: found %v, error %v", name, found, err)
		}
	}
	if _, err := fsm.ReadSnapshot(bytes.NewReader(repack5(t, records))); err != nil {
		t.Errorf("the snapshot that the others are made of is refused: %v", err)
	}
}
