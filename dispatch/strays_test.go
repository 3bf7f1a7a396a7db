package dispatch_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"oaas.io/control-plane/dispatch"
	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
)

// withStrays is a world at the level that knows strays, with a short patience.
func withStrays(t *testing.T, grace time.Duration) *world {
	w := newWorld(t, func(o *dispatch.Options) { o.StrayPatience, o.StrayGrace = 20*time.Millisecond, grace })
	raise := &pmpb.Command{Op: &pmpb.Command_RaiseFeatureLevel{RaiseFeatureLevel: &pmpb.RaiseFeatureLevel{Level: fsm.FailoverFrom}}}
	if res, err := w.store.Apply(context.Background(), raise); err != nil || res.Err != nil {
		t.Fatal(err, res.Err)
	}
	return w
}

// put gives a cluster a runtime that nobody has just sent.
func (m *manager) put(id string, d *oaaspb.Delivery) {
	m.set(func() {
		s := &oaaspb.ClassRuntimeSummary{Id: id, DeploymentUnitId: id, Delivery: d, Status: &oaaspb.ClassRuntimeStatus{Condition: oaaspb.DeploymentCondition_RUNNING}}
		m.objects[id] = s
		m.publish(&oaaspb.RuntimeEvent{Event: &oaaspb.RuntimeEvent_Upserted{Upserted: s}})
	})
}

func (m *manager) has(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.objects[id] != nil
}

func strayIDs(s *fsm.Snapshot, env string) []string {
	var out []string
	for _, s := range s.Cluster(env).GetStrays() {
		out = append(out, s.GetUnitId())
	}
	return out
}

func (w *world) remove(key string) {
	w.t.Helper()
	if _, _, err := w.registry.DeleteDeployment(context.Background(), registry.RequestInfo{}, key); err != nil {
		w.t.Fatal(err)
	}
}

// What came back with a backup of a cluster is removed after the grace; what is somebody
// else's, or cannot have been sent to this cluster, stays.
func TestStraysAreRemovedAfterAGrace(t *testing.T) {
	w := withStrays(t, 300*time.Millisecond)
	m := newManager("oaas-1")
	ours := registry.UnitID("gone", "oaas-1", "Cart")
	mine := &oaaspb.Delivery{Epoch: 1, Fence: 1, DeploymentUid: "gone", DeploymentKey: "shop.Gone", ControlPlaneId: "test-cluster"}
	m.put(ours, mine)
	left := map[string]*oaaspb.Delivery{
		registry.UnitID("other", "oaas-1", "Cart"):     {Fence: 1, DeploymentUid: "other", DeploymentKey: "k", ControlPlaneId: "another-control-plane"},
		registry.UnitID("nobodys", "oaas-1", "Cart"):   {Fence: 1, DeploymentUid: "nobodys", DeploymentKey: "k"},
		registry.UnitID("elsewhere", "oaas-2", "Cart"): {Fence: 1, DeploymentUid: "elsewhere", DeploymentKey: "k", ControlPlaneId: "test-cluster"},
		registry.UnitID("later", "oaas-1", "Cart"):     {Epoch: 9, Fence: 1, DeploymentUid: "later", DeploymentKey: "k", ControlPlaneId: "test-cluster"},
		"by-hand": nil,
	}
	for id, d := range left {
		m.put(id, d)
	}
	addr, _ := m.serve(t, "127.0.0.1:0", false)
	w.found.set(gossiped("oaas-1", addr))
	w.await("the stray is remembered", func(s *fsm.Snapshot) bool { return slices.Equal(strayIDs(s, "oaas-1"), []string{ours}) })
	seen := w.store.State().Snapshot().Cluster("oaas-1").GetStrays()[0].GetFirstSeen().AsTime()
	w.await("it is to be removed", func(s *fsm.Snapshot) bool { return s.Unit(ours).GetTombstone() })
	if waited := time.Since(seen); waited < 300*time.Millisecond {
		t.Errorf("removed after %v", waited)
	}
	w.await("it is gone for good", func(s *fsm.Snapshot) bool {
		return len(s.Units()) == 0 && len(s.Deletions()) == 0 && len(strayIDs(s, "oaas-1")) == 0
	})
	if m.has(ours) {
		t.Error("the cluster has it still")
	}
	for id := range left {
		if !m.has(id) {
			t.Errorf("%s was removed", id)
		}
	}
}

// A new leader goes on with the grace where the one before it was.
func TestStrayGraceOutlivesALeader(t *testing.T) {
	w := withStrays(t, time.Hour)
	m := newManager("oaas-1")
	id := registry.UnitID("gone", "oaas-1", "Cart")
	m.put(id, &oaaspb.Delivery{Fence: 1, DeploymentUid: "gone", DeploymentKey: "k", ControlPlaneId: "test-cluster"})
	addr, _ := m.serve(t, "127.0.0.1:0", false)
	w.found.set(gossiped("oaas-1", addr))
	w.await("remembered", func(s *fsm.Snapshot) bool { return len(strayIDs(s, "oaas-1")) == 1 })
	before := w.store.State().Snapshot().Cluster("oaas-1").GetStrays()[0].GetFirstSeen().AsTime()
	w.stop()
	w.lead(w.store.NextTerm())
	w.awaitHealthy("oaas-1")
	// One that goes by itself is forgotten, which shows that the new leader has looked.
	other := registry.UnitID("gone", "oaas-1", "Other")
	m.put(other, &oaaspb.Delivery{Fence: 1, DeploymentUid: "gone", DeploymentKey: "k", ControlPlaneId: "test-cluster"})
	w.await("the second is remembered", func(s *fsm.Snapshot) bool { return len(strayIDs(s, "oaas-1")) == 2 })
	m.set(func() { m.removeLocked(other) })
	w.await("the second is forgotten", func(s *fsm.Snapshot) bool { return slices.Equal(strayIDs(s, "oaas-1"), []string{id}) })
	if after := w.store.State().Snapshot().Cluster("oaas-1").GetStrays()[0].GetFirstSeen().AsTime(); !after.Equal(before) {
		t.Errorf("first seen %v, was %v", after, before)
	}
}

// What was given up while its cluster was away is removed when it comes back, at once, and
// the key had been free all the time.
func TestOrphanIsRemovedWhenItsClusterComesBack(t *testing.T) {
	w := withStrays(t, time.Hour)
	m := newManager("oaas-1")
	addr, stop := m.serve(t, "127.0.0.1:0", false)
	w.found.set(gossiped("oaas-1", addr))
	w.awaitHealthy("oaas-1")
	first := w.deploy("cart:1", "oaas-1")
	w.await("acknowledged", allAcked)
	stop()
	w.await("unreachable", func(s *fsm.Snapshot) bool {
		return s.Cluster("oaas-1").GetHealth() == pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE
	})
	w.remove("shop.Cart")
	out, _, err := w.registry.Orphan(context.Background(), registry.RequestInfo{}, first.UID, nil)
	if err != nil {
		t.Fatal(err)
	}
	id := registry.UnitID(first.UID, "oaas-1", "Cart")
	if want := []registry.Orphan{{Env: "oaas-1", UnitID: id}}; !slices.Equal(out.Orphans, want) || out.Key != "shop.Cart" {
		t.Errorf("outcome %+v", out)
	}
	if s := w.store.State().Snapshot(); len(s.Deletions()) != 0 || len(s.Units()) != 0 {
		t.Errorf("left: %v, %v", s.Deletions(), s.Units())
	}
	second := w.deploy("cart:2", "oaas-1")
	m.serve(t, addr, false)
	w.await("the second runs", func(s *fsm.Snapshot) bool {
		return fsm.Acknowledged(s.Unit(registry.UnitID(second.UID, "oaas-1", "Cart")))
	})
	w.await("the first is gone", func(s *fsm.Snapshot) bool {
		return len(strayIDs(s, "oaas-1")) == 0 && len(s.Units()) == 1 && len(s.Deletions()) == 0
	})
	if m.has(id) || !m.has(registry.UnitID(second.UID, "oaas-1", "Cart")) {
		t.Error("the cluster has the first, or not the second")
	}
}

// An orphan that its cluster does not have when it comes back is forgotten.
func TestOrphanThatIsGoneIsForgotten(t *testing.T) {
	w := withStrays(t, time.Hour)
	m := newManager("oaas-1")
	addr, stop := m.serve(t, "127.0.0.1:0", false)
	w.found.set(gossiped("oaas-1", addr))
	w.awaitHealthy("oaas-1")
	out := w.deploy("cart:1", "oaas-1")
	w.await("acknowledged", allAcked)
	stop()
	w.await("unreachable", func(s *fsm.Snapshot) bool {
		return s.Cluster("oaas-1").GetHealth() == pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE
	})
	w.remove("shop.Cart")
	if _, _, err := w.registry.Orphan(context.Background(), registry.RequestInfo{}, out.UID, []string{"oaas-1"}); err != nil {
		t.Fatal(err)
	}
	m.set(func() { clear(m.objects) })
	m.serve(t, addr, false)
	w.await("forgotten", func(s *fsm.Snapshot) bool { return len(strayIDs(s, "oaas-1")) == 0 })
	if _, deletes := m.counts(); deletes != 0 {
		t.Errorf("%d deletes", deletes)
	}
}

// Nothing is a stray while the deployment of another cluster with the same key runs there.
func TestDeploymentsAreNoStrays(t *testing.T) {
	w := withStrays(t, time.Millisecond)
	m := newManager("oaas-1")
	addr, _ := m.serve(t, "127.0.0.1:0", false)
	w.found.set(gossiped("oaas-1", addr))
	w.awaitHealthy("oaas-1")
	for range 5 {
		w.deploy("cart:1", "oaas-1")
		w.await("acknowledged", allAcked)
		w.remove("shop.Cart")
		w.await("gone", func(s *fsm.Snapshot) bool { return len(s.Deletions()) == 0 })
	}
	out := w.deploy("cart:2", "oaas-1")
	id := registry.UnitID(out.UID, "oaas-1", "Cart")
	w.await("acknowledged", allAcked)
	m.report(id, oaaspb.DeploymentCondition_RUNNING)
	w.await("running", func(s *fsm.Snapshot) bool { return fsm.UnitCondition(s.Unit(id)) == model.ConditionRunning })
	if ids := strayIDs(w.store.State().Snapshot(), "oaas-1"); len(ids) > 0 {
		t.Errorf("strays %v", ids)
	}
}
