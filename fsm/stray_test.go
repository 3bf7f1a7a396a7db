package fsm_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

// withDeletion has a deployment in three clusters that is deleted, and of which e1 has confirmed.
func withDeletion(t *testing.T) *replica {
	t.Helper()
	r := newReplica(t)
	r.must(&pmpb.RaiseFeatureLevel{Level: fsm.FailoverFrom})
	for _, env := range []string{"e1", "e2", "e3"} {
		r.must(&pmpb.PutCluster{Cluster: &pmpb.Cluster{Name: env}})
	}
	r.must(commit(t, "d", "c", "e1", "e2", "e3"))
	r.must(&pmpb.DeleteDeployment{Key: "d"})
	r.update(gone(r.about("d-e1")))
	return r
}

func (r *replica) strays(env string) []string {
	var out []string
	for _, s := range r.snap().Cluster(env).GetStrays() {
		out = append(out, fmt.Sprintf("%s of %s, orphaned %v", s.GetUnitId(), s.GetDeploymentKey(), s.GetOrphaned()))
	}
	return out
}

func (r *replica) show(env string, strays ...*pmpb.Stray) {
	row := proto.CloneOf(r.snap().Cluster(env))
	row.Strays = strays
	r.must(&pmpb.PutCluster{Cluster: row})
}

// What is given up is remembered, is found again, and then removed like anything else.
func TestOrphansAreRemovedInTheEnd(t *testing.T) {
	r := withDeletion(t)
	r.must(&pmpb.OrphanUnits{DeploymentUid: "u-d", Envs: []string{"e2"}})
	equal(t, "tombstone", r.snap().Unit("d-e2"), (*pmpb.Unit)(nil))
	equal(t, "orphaned", r.snap().Deletion("u-d").GetOrphanedEnvs(), []string{"e2"})
	equal(t, "confirmed", r.snap().Deletion("u-d").GetConfirmedEnvs(), []string{"e1"})
	equal(t, "strays", r.strays("e2"), []string{"d-e2 of d, orphaned true"})

	r.update(gone(r.about("d-e3")))
	equal(t, "deletions", len(r.snap().Deletions()), 0)
	equal(t, "strays after the deletion", r.strays("e2"), []string{"d-e2 of d, orphaned true"})
	r.reload()

	// The key has another incarnation by then, which is not touched.
	again := commit(t, "d", "c", "e2")
	again.Uid, again.Units[0].Id = "u-d2", "d2-e2"
	r.must(again)

	at := r.must(&pmpb.BuryStrays{Env: "e2", UnitIds: []string{"d-e2", "not there"}})
	u := r.snap().Unit("d-e2")
	if !u.GetTombstone() || u.GetFence() != at || u.GetEnv() != "e2" || u.GetDeploymentUid() != "u-d" {
		t.Errorf("tombstone %v", u)
	}
	equal(t, "strays that are buried", len(r.strays("e2")), 0)
	equal(t, "envs", r.snap().Deletion("u-d").GetEnvs(), []string{"e2"})
	equal(t, "the other incarnation", r.snap().Unit("d2-e2").GetTombstone(), false)
	r.reload()
	r.update(gone(r.about("d-e2")))
	equal(t, "deletions", len(r.snap().Deletions()), 0)
	equal(t, "units", len(r.snap().Units()), 1)
}

func TestOrphanThatComesBackDuringItsDeletion(t *testing.T) {
	r := withDeletion(t)
	r.must(&pmpb.OrphanUnits{DeploymentUid: "u-d", Envs: []string{"e2"}})
	r.must(&pmpb.BuryStrays{Env: "e2", UnitIds: []string{"d-e2"}})
	d := r.snap().Deletion("u-d")
	equal(t, "envs", d.GetEnvs(), []string{"e1", "e2", "e3"})
	equal(t, "orphaned", len(d.GetOrphanedEnvs()), 0)
	r.update(gone(r.about("d-e2")))
	equal(t, "confirmed", r.snap().Deletion("u-d").GetConfirmedEnvs(), []string{"e1", "e2"})
}

func TestLastOrphanEndsTheDeletion(t *testing.T) {
	r := withDeletion(t)
	r.must(&pmpb.OrphanUnits{DeploymentUid: "u-d", Envs: []string{"e2", "e3", "elsewhere"}})
	equal(t, "deletions", len(r.snap().Deletions()), 0)
	events := r.snap().Timeline("d")
	equal(t, "last event", events[len(events)-1].GetType(), fsm.EventDeletionAbandoned)
	equal(t, "strays", len(r.strays("e2"))+len(r.strays("e3")), 2)
	isNotFound(t, r.refused(&pmpb.OrphanUnits{DeploymentUid: "u-d", Envs: []string{"e2"}}), fsm.TableDeletions, "u-d")
}

// Nothing that is wanted can be given up.
func TestOrphanNeedsATombstone(t *testing.T) {
	r := withDeletion(t)
	again := commit(t, "d", "c", "e2")
	again.Uid, again.Units[0].Id = "u-d2", "d2-e2"
	r.must(again)
	isNotFound(t, r.refused(&pmpb.OrphanUnits{DeploymentUid: "u-d2", Envs: []string{"e2"}}), fsm.TableDeletions, "u-d2")
	isNotFound(t, r.refused(&pmpb.OrphanUnits{DeploymentUid: "u-d", Envs: []string{"e1"}}), fsm.TableDeletions, "u-d")
}

// An environment that the control plane has forgotten has nothing to remember it with.
func TestOrphanOfAForgottenCluster(t *testing.T) {
	r := newReplica(t)
	r.must(&pmpb.RaiseFeatureLevel{Level: fsm.FailoverFrom})
	r.must(commit(t, "d", "c", "e1"))
	r.must(&pmpb.DeleteDeployment{Key: "d"})
	r.must(&pmpb.OrphanUnits{DeploymentUid: "u-d", Envs: []string{"e1"}})
	equal(t, "rows", len(r.snap().Units())+len(r.snap().Deletions())+len(r.snap().Clusters()), 0)
}

// A stray belongs to the deployment that is there, whatever key the cluster names.
func TestStrayOfADeploymentThatStands(t *testing.T) {
	r := newReplica(t)
	r.must(&pmpb.RaiseFeatureLevel{Level: fsm.FailoverFrom})
	r.must(&pmpb.PutCluster{Cluster: &pmpb.Cluster{Name: "e2"}})
	r.must(commit(t, "d", "c", "e1"))
	r.show("e2", &pmpb.Stray{UnitId: "d-e2", DeploymentUid: "u-d", DeploymentKey: "other"})
	r.must(&pmpb.BuryStrays{Env: "e2", UnitIds: []string{"d-e2"}})
	equal(t, "key", r.snap().Unit("d-e2").GetDeploymentKey(), "d")
	equal(t, "deletions", len(r.snap().Deletions()), 0)
	r.reload()
	// It is wanted again before it is gone.
	r.must(commit(t, "d", "c", "e1", "e2"))
	equal(t, "tombstone", r.snap().Unit("d-e2").GetTombstone(), false)
	// And what is wanted is no stray, whatever was seen before.
	r.show("e2", &pmpb.Stray{UnitId: "d-e2", DeploymentUid: "u-d", DeploymentKey: "d"})
	r.must(&pmpb.BuryStrays{Env: "e2", UnitIds: []string{"d-e2"}})
	equal(t, "tombstone", r.snap().Unit("d-e2").GetTombstone(), false)
	equal(t, "strays", len(r.strays("e2")), 0)
}

func TestStraysAreBounded(t *testing.T) {
	r := withDeletion(t)
	full := make([]*pmpb.Stray, fsm.MaxStrays)
	for i := range full {
		full[i] = &pmpb.Stray{UnitId: fmt.Sprintf("s-%03d", i), DeploymentUid: "u", DeploymentKey: "k"}
	}
	r.show("e2", full...)
	isInvalid(t, r.refused(&pmpb.OrphanUnits{DeploymentUid: "u-d", Envs: []string{"e2"}}), "256 strays")
	for _, tt := range []struct {
		about  string
		strays []*pmpb.Stray
	}{
		{"257 strays", append(slices.Clone(full), &pmpb.Stray{UnitId: "t", DeploymentUid: "u", DeploymentKey: "k"})},
		{"is not after", []*pmpb.Stray{full[1], full[0]}},
		{"is not after", []*pmpb.Stray{full[1], full[1]}},
		{"stray", []*pmpb.Stray{{UnitId: "t", DeploymentUid: "u"}}},
	} {
		isInvalid(t, r.refused(&pmpb.PutCluster{Cluster: &pmpb.Cluster{Name: "e2", Strays: tt.strays}}), tt.about)
	}
}

func TestStraysNeedTheirLevel(t *testing.T) {
	r := newReplica(t)
	r.must(&pmpb.RaiseFeatureLevel{Level: fsm.FailoverFrom - 1})
	for _, op := range []proto.Message{
		&pmpb.PutCluster{Cluster: &pmpb.Cluster{Name: "e1", Strays: []*pmpb.Stray{{UnitId: "t", DeploymentUid: "u", DeploymentKey: "k"}}}},
		&pmpb.OrphanUnits{DeploymentUid: "u"}, &pmpb.BuryStrays{Env: "e1"},
	} {
		if err := r.refused(op); !errors.Is(err, fsm.ErrFeatureLevel) {
			t.Errorf("%T: %v", op, err)
		}
	}
}

// A cluster that names ever new runtimes and confirms no removal does not fill the state.
func TestBuriedStraysAreBounded(t *testing.T) {
	r := withDeletion(t)
	for round := range 3 {
		var show []*pmpb.Stray
		var ids []string
		for i := range fsm.MaxStrays {
			id := fmt.Sprintf("s-%d-%03d", round, i)
			show, ids = append(show, &pmpb.Stray{UnitId: id, DeploymentUid: "u-" + id, DeploymentKey: "d"}), append(ids, id)
		}
		r.show("e2", show...)
		r.must(&pmpb.BuryStrays{Env: "e2", UnitIds: ids})
	}
	equal(t, "units of the cluster", len(r.snap().UnitsByEnv("e2")), 1+fsm.MaxStrays)
	equal(t, "strays that wait", len(r.strays("e2")), fsm.MaxStrays)
	r.reload()
	r.update(gone(r.about("s-0-000")))
	r.must(&pmpb.BuryStrays{Env: "e2", UnitIds: []string{"s-2-000", "s-2-001"}})
	equal(t, "units when there is room", len(r.snap().UnitsByEnv("e2")), 1+fsm.MaxStrays)
	equal(t, "strays that wait for room", len(r.strays("e2")), fsm.MaxStrays-1)
	for _, e := range r.snap().Timeline("d") {
		if e.GetDeploymentUid() != "u-d" {
			t.Fatalf("by hearsay: %v", e)
		}
	}
}

// What becomes of what was given up is told, since the state knows whose it was.
func TestOrphansAreTold(t *testing.T) {
	r := withDeletion(t)
	r.must(&pmpb.OrphanUnits{DeploymentUid: "u-d", Envs: []string{"e2", "e3"}})
	r.must(&pmpb.BuryStrays{Env: "e2", UnitIds: []string{"d-e2"}})
	r.update(gone(r.about("d-e2")))
	var told []string
	for _, e := range r.snap().Timeline("d") {
		if e.GetEnv() == "e2" {
			told = append(told, e.GetType())
		}
	}
	equal(t, "events", told, []string{fsm.EventOrphaned, fsm.EventStrayBuried, fsm.EventRemoved})
}
