package fsm_test

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
)

func isInvalid(t *testing.T, err error, about string) {
	t.Helper()
	var invalid *fsm.InvalidCommandError
	if !errors.As(err, &invalid) {
		t.Fatalf("error is %v, want an InvalidCommandError", err)
	}
	if !strings.Contains(err.Error(), about) {
		t.Fatalf("error %q does not speak of %q", err, about)
	}
}

func isNotFound(t *testing.T, err error, table, key string) {
	t.Helper()
	var notFound *fsm.NotFoundError
	if !errors.As(err, &notFound) {
		t.Fatalf("error is %v, want a NotFoundError", err)
	}
	equal(t, "error", *notFound, fsm.NotFoundError{Table: table, Key: key})
}

func TestPackages(t *testing.T) {
	r := newReplica(t)
	isInvalid(t, r.refused(&pmpb.PutPackage{Document: []byte("{")}), "package document")
	isInvalid(t, r.refused(&pmpb.PutPackage{Document: []byte(`{"name":""}`)}), "package name is empty")
	isInvalid(t, r.refused(putPackage(t, strings.Repeat("n", 1025))), "1025 bytes")
	isInvalid(t, r.refused(putPackage(t, "a\x00b")), "NUL")
	created := r.must(putPackage(t, "base"))
	r.must(putPackage(t, "app", "base"))
	updated := r.must(putPackage(t, "base"))
	equal(t, "package", r.snap().Package("base"), &fsm.Package{Doc: packageDoc("base"), CreateIndex: created, ModifyIndex: updated})
	if got := r.snap().Packages(); len(got) != 2 || got[0].Doc.Name != "app" || got[1].Doc.Name != "base" {
		t.Errorf("packages are not in the order of their names: %v", got)
	}
	isNotFound(t, r.refused(&pmpb.DeletePackage{Name: "none"}), fsm.TablePackages, "none")
	var inUse *fsm.InUseError
	if err := r.refused(&pmpb.DeletePackage{Name: "base"}); !errors.As(err, &inUse) || inUse.By != "app" {
		t.Fatalf("error is %v, want that app uses the package", err)
	}
	r.must(&pmpb.DeletePackage{Name: "app"})
	r.must(&pmpb.DeletePackage{Name: "base"})
	equal(t, "packages", len(r.snap().Packages()), 0)
}

func TestCommitCreatesDeploymentPlanAndUnits(t *testing.T) {
	r := newReplica(t)
	op := commit(t, "d", "c1", "e2", "e1")
	at := r.must(op)
	when := timeOf(at)
	doc := deploymentDoc("d")
	doc.CreatedAt, doc.UpdatedAt = &when, &when
	equal(t, "deployment", r.snap().Deployment("d"), &fsm.Deployment{Doc: doc, UID: "u-d", Generation: 1, CreateIndex: at, ModifyIndex: at})
	equal(t, "deployment by uid", r.snap().DeploymentByUID("u-d"), r.snap().Deployment("d"))
	equal(t, "by package", r.snap().DeploymentsByPackage("pkg"), r.snap().Deployments())
	equal(t, "plan", r.snap().Plan("d"), &fsm.Plan{DeploymentKey: "d", DeploymentUID: "u-d", Generation: 1, Document: op.GetPlan(), ModifyIndex: at})
	equal(t, "unit", r.snap().Unit("d-e1"), &pmpb.Unit{
		Id: "d-e1", DeploymentUid: "u-d", DeploymentKey: "d", Env: "e1", ContentHash: "hash-c1",
		Desired:    r.snap().Unit("d-e1").GetDesired(),
		Generation: 1, Fence: at, Epoch: fsm.FirstEpoch, CreatedAt: timestamppb.New(when), CreateIndex: at, ModifyIndex: at,
	})
	// Neither created_at nor delivery are stored with the content.
	equal(t, "content", desired(t, r.snap().Unit("d-e1")),
		&oaaspb.DeploymentUnit{Id: "d-e1", PackageName: "pkg", ClassKey: "cls", TargetEnv: "e1", SelectedTemplate: ptr("c1")})
	byEnv := r.snap().UnitsByDeployment("u-d")
	if len(byEnv) != 2 || byEnv[0].GetEnv() != "e1" || byEnv[1].GetEnv() != "e2" {
		t.Errorf("units are not in the order of their environments: %v", byEnv)
	}
}

func TestCommitAgain(t *testing.T) {
	r := newReplica(t)
	first := r.must(commit(t, "d", "c1", "e1", "e2"))
	r.update(acked(r.about("d-e1"), "c1"), runs(r.about("d-e1"), "c1", oaaspb.DeploymentCondition_RUNNING), waiting(r.about("d-e2"), "X", true))
	e1, e2 := r.snap().Unit("d-e1"), r.snap().Unit("d-e2")

	same := r.must(commit(t, "d", "c1", "e1", "e2"))
	equal(t, "generation of an unchanged wish", r.snap().Deployment("d").Generation, uint64(1))
	equal(t, "modify index", r.snap().Deployment("d").ModifyIndex, same)
	equal(t, "created_at", *r.snap().Deployment("d").Doc.CreatedAt, timeOf(first))
	equal(t, "updated_at", *r.snap().Deployment("d").Doc.UpdatedAt, timeOf(same))
	equal(t, "unchanged unit", r.snap().Unit("d-e1"), e1)

	// One unit changes its content, the other stays.
	op := commit(t, "d", "c1", "e1", "e2")
	op.Units[1].ContentHash = hashOf("c2")
	changed := r.must(op)
	equal(t, "generation", r.snap().Deployment("d").Generation, uint64(2))
	equal(t, "plan's generation", r.snap().Plan("d").Generation, uint64(2))
	equal(t, "unchanged unit", r.snap().Unit("d-e1"), e1)
	u := r.snap().Unit("d-e2")
	if u.GetFence() != changed || u.GetGeneration() != 2 || u.GetContentHash() != hashOf("c2") || u.GetCreateIndex() != e2.GetCreateIndex() || u.GetWaiting() != nil {
		t.Errorf("changed unit is %v", u)
	}

	// A unit with new content keeps on record what the cluster said of the old.
	changed = r.must(commit(t, "d", "c3", "e1", "e2"))
	u = r.snap().Unit("d-e1")
	equal(t, "ack", u.GetAck(), e1.GetAck())
	equal(t, "runtime", u.GetRuntime(), e1.GetRuntime())
	equal(t, "created_at", u.GetCreatedAt(), e1.GetCreatedAt())
	if fsm.Acknowledged(u) || u.GetFence() != changed {
		t.Errorf("changed unit is %v", u)
	}

	// Content that comes back gets a new fence all the same.
	changed = r.must(commit(t, "d", "c1", "e1", "e2"))
	if u := r.snap().Unit("d-e1"); fsm.Acknowledged(u) || u.GetFence() != changed {
		t.Errorf("unit with its old content again is %v", u)
	}
}

func TestGenerationRisesWithTheWishAlone(t *testing.T) {
	r := newReplica(t)
	r.must(commit(t, "d", "c", "e1"))
	generation := func(edit func(*model.OClassDeployment)) uint64 {
		t.Helper()
		op := commit(t, "d", "c", "e1")
		doc := deploymentDoc("d")
		edit(doc)
		op.Document = []byte(jsonOf(t, doc))
		r.must(op)
		return r.snap().Deployment("d").Generation
	}
	equal(t, "after a new status", generation(func(d *model.OClassDeployment) {
		d.Status = &model.DeploymentStatusSummary{ReplicationFactor: 3}
		d.Condition = model.ConditionRunning
	}), uint64(1))
	equal(t, "after a new wish", generation(func(d *model.OClassDeployment) { d.NFRRequirements.Availability = ptr(0.5) }), uint64(2))
	equal(t, "after the old wish again", generation(func(*model.OClassDeployment) {}), uint64(3))
}

func TestUnitsThatAreNotNamedBecomeTombstones(t *testing.T) {
	r := newReplica(t)
	r.must(commit(t, "d", "c", "e1", "e2"))
	r.must(commit(t, "other", "c", "e2"))
	r.update(acked(r.about("d-e2"), "c"), runs(r.about("d-e2"), "c", oaaspb.DeploymentCondition_RUNNING))
	before := r.snap().Unit("d-e2")

	buried := r.must(commit(t, "d", "c", "e1"))
	equal(t, "generation", r.snap().Deployment("d").Generation, uint64(2))
	u := r.snap().Unit("d-e2")
	if !u.GetTombstone() || u.GetFence() != buried || u.GetGeneration() != 2 || u.GetModifyIndex() != buried {
		t.Fatalf("unit that is not named is %v", u)
	}
	equal(t, "content of the tombstone", u.GetDesired(), before.GetDesired())
	equal(t, "runtime of the tombstone", u.GetRuntime(), before.GetRuntime())
	if r.snap().Unit("other-e2").GetTombstone() {
		t.Fatal("a unit of another deployment was buried")
	}
	if len(r.snap().Deletions()) != 0 {
		t.Fatal("a deletion appeared though the deployment exists")
	}

	// Committing again leaves the tombstone and its fence alone.
	r.must(commit(t, "d", "c2", "e1"))
	equal(t, "tombstone", r.snap().Unit("d-e2"), u)

	// Wished again it lives, under a new fence even with the same content.
	alive := r.must(commit(t, "d", "c", "e1", "e2"))
	if got := r.snap().Unit("d-e2"); got.GetTombstone() || got.GetFence() != alive || fsm.Acknowledged(got) || got.GetCreateIndex() != u.GetCreateIndex() {
		t.Fatalf("unit that is wished again is %v", got)
	}
	// The confirmation of the old tombstone comes too late.
	late := &pmpb.UnitUpdate{Id: "d-e2", Fence: u.GetFence(), Epoch: u.GetEpoch()}
	r.update(gone(late))
	if r.snap().Unit("d-e2") == nil {
		t.Fatal("the confirmation of an old tombstone removed a live unit")
	}
}

func TestCommitIsRefused(t *testing.T) {
	r := newReplica(t)
	r.must(commit(t, "d", "c", "e1"))
	r.must(commit(t, "gone", "c", "e1"))
	r.must(&pmpb.DeleteDeployment{Key: "gone"})
	edited := func(edit func(*pmpb.CommitDeployment)) *pmpb.CommitDeployment {
		op := commit(t, "new", "c", "e1", "e2")
		edit(op)
		return op
	}
	tests := []struct {
		name, about string
		op          *pmpb.CommitDeployment
	}{
		{"no document", "deployment document", edited(func(op *pmpb.CommitDeployment) { op.Document = nil })},
		{"no uid", "uid is empty", edited(func(op *pmpb.CommitDeployment) { op.Uid = "" })},
		{"no package", "package name", edited(func(op *pmpb.CommitDeployment) {
			op.Document = []byte(`{"key":"new","package_name":"","class_key":"c"}`)
		})},
		{"no key", "deployment key", edited(func(op *pmpb.CommitDeployment) {
			op.Document = []byte(`{"key":"","package_name":"p","class_key":"c"}`)
		})},
		{"plan is no JSON", "plan", edited(func(op *pmpb.CommitDeployment) { op.Plan = []byte("{") })},
		{"unit without id", "unit id", edited(func(op *pmpb.CommitDeployment) { op.Units[0].Id = "" })},
		{"unit without environment", "environment", edited(func(op *pmpb.CommitDeployment) { op.Units[0].Env = "" })},
		{"unit without content", "no content", edited(func(op *pmpb.CommitDeployment) { op.Units[0].Desired = nil })},
		{"unit without hash", "no content hash", edited(func(op *pmpb.CommitDeployment) { op.Units[0].ContentHash = "" })},
		{"unit twice", "named twice", edited(func(op *pmpb.CommitDeployment) { op.Units[0].Id = op.Units[1].Id })},
		{"environment twice", "two units", edited(func(op *pmpb.CommitDeployment) { op.Units[0].Env = op.Units[1].Env })},
		{"unit of another deployment", "belongs to deployment", edited(func(op *pmpb.CommitDeployment) { op.Units[0].Id = "d-e1" })},
		{"tombstone of another deployment", "belongs to deployment", edited(func(op *pmpb.CommitDeployment) { op.Units[0].Id = "gone-e1" })},
		{"uid of another deployment", `belongs to deployment "d"`, edited(func(op *pmpb.CommitDeployment) { op.Uid = "u-d" })},
		{"uid of a deletion", "is being deleted", edited(func(op *pmpb.CommitDeployment) { op.Uid = "u-gone" })},
		{"another uid for the key", `has the uid "u-d"`, func() *pmpb.CommitDeployment {
			op := commit(t, "d", "c", "e1")
			op.Uid = "u-new"
			return op
		}()},
		{"unit moves to another environment", "belongs to deployment", func() *pmpb.CommitDeployment {
			op := commit(t, "d", "c", "e9")
			op.Units[0].Id = "d-e1"
			return op
		}()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { isInvalid(t, r.refused(tt.op), tt.about) })
	}
}

func TestDeleteDeployment(t *testing.T) {
	r := newReplica(t)
	isNotFound(t, r.refused(&pmpb.DeleteDeployment{Key: "d"}), fsm.TableDeployments, "d")
	r.must(commit(t, "d", "c", "e1", "e2", "e3"))
	early := r.must(commit(t, "d", "c", "e2", "e3")) // e1 is a tombstone before the deletion
	isNotFound(t, r.refused(&pmpb.DeleteDeployment{Key: "d", Uid: "u-older"}), fsm.TableDeployments, "d")

	at := r.must(&pmpb.DeleteDeployment{Key: "d", Uid: "u-d"})
	if r.snap().Deployment("d") != nil || r.snap().Plan("d") != nil || r.snap().DeploymentByUID("u-d") != nil {
		t.Fatal("deployment or plan is still there")
	}
	for id, fence := range map[string]uint64{"d-e1": early, "d-e2": at, "d-e3": at} {
		if u := r.snap().Unit(id); !u.GetTombstone() || u.GetFence() != fence {
			t.Errorf("%s is %v, want a tombstone with the fence %d", id, u, fence)
		}
	}
	want := &pmpb.Deletion{
		DeploymentUid: "u-d", DeploymentKey: "d", PackageName: "pkg", ClassKey: "cls", Envs: []string{"e1", "e2", "e3"},
		DeletedAt: timestamppb.New(timeOf(at)), CreateIndex: at, ModifyIndex: at,
	}
	equal(t, "deletion", r.snap().Deletion("u-d"), want)

	// The key is free at once, for another incarnation.
	again := commit(t, "d", "c", "e1")
	again.Uid, again.Units[0].Id = "u-d2", "d2-e1"
	r.must(again)

	confirmed := r.update(gone(r.about("d-e3")))
	want.ConfirmedEnvs, want.ModifyIndex = []string{"e3"}, confirmed
	equal(t, "deletion after one confirmation", r.snap().Deletion("u-d"), want)
	confirmed = r.update(gone(r.about("d-e1")))
	want.ConfirmedEnvs, want.ModifyIndex = []string{"e1", "e3"}, confirmed
	equal(t, "deletion after two confirmations", r.snap().Deletion("u-d"), want)
	r.update(gone(r.about("d-e2")))
	equal(t, "deletions", len(r.snap().Deletions()), 0)
	equal(t, "units left", len(r.snap().Units()), 1)
}

func TestDeletionOfADeploymentWithoutUnits(t *testing.T) {
	r := newReplica(t)
	r.must(commit(t, "d", "c"))
	r.must(&pmpb.DeleteDeployment{Key: "d"})
	equal(t, "deletions", len(r.snap().Deletions()), 0)
}

func TestConfirmationsInOneBatch(t *testing.T) {
	r := newReplica(t)
	r.must(commit(t, "d", "c", "e1", "e2", "e3"))
	r.must(&pmpb.DeleteDeployment{Key: "d"})
	e2 := r.about("d-e2")
	r.update(gone(e2), gone(e2), gone(r.about("d-e1")))
	equal(t, "confirmed", r.snap().Deletion("u-d").GetConfirmedEnvs(), []string{"e1", "e2"})
	r.update(waiting(r.about("d-e3"), "X", false), gone(r.about("d-e3")), waiting(r.about("d-e3"), "Y", false))
	equal(t, "rows left", len(r.snap().Units())+len(r.snap().Deletions()), 0)
}

// A deployment that exchanges its class has two units in one environment for a
// while; the environment has confirmed when both are gone.
func TestConfirmationOfTwoUnitsInOneEnvironment(t *testing.T) {
	r := newReplica(t)
	r.must(commit(t, "d", "c", "e1", "e2"))
	op := commit(t, "d", "c", "e1", "e2")
	op.Units[0].Id = "d-e1-renamed"
	r.must(op)
	r.must(&pmpb.DeleteDeployment{Key: "d"})
	equal(t, "envs", r.snap().Deletion("u-d").GetEnvs(), []string{"e1", "e2"})
	r.update(gone(r.about("d-e1")))
	equal(t, "confirmed after one of two", len(r.snap().Deletion("u-d").GetConfirmedEnvs()), 0)
	r.update(gone(r.about("d-e1-renamed")))
	equal(t, "confirmed after both", r.snap().Deletion("u-d").GetConfirmedEnvs(), []string{"e1"})
}

// Rows share what has not changed; what a view shows of a deletion must not move
// when the next environment confirms.
func TestConfirmationsDoNotChangeViews(t *testing.T) {
	r := newReplica(t)
	envs := []string{"e1", "e2", "e3", "e4", "e5", "e6", "e7"}
	r.must(commit(t, "d", "c", envs...))
	r.must(&pmpb.DeleteDeployment{Key: "d"})
	var views []*fsm.Snapshot
	for i := len(envs) - 1; i > 0; i-- {
		r.update(gone(r.about(unitID("d", envs[i]))))
		views = append(views, r.snap())
	}
	for i, v := range views {
		equal(t, "confirmed", v.Deletion("u-d").GetConfirmedEnvs(), envs[len(envs)-1-i:])
	}
}
