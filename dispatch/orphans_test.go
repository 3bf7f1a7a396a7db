package dispatch_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"oaas.io/control-plane/discovery"
	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
)

func lostHealth(s *fsm.Snapshot) bool {
	return s.Cluster("oaas-1").GetHealth() == pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE
}

// withOrphan has a cluster that has gone away with a unit that was given up since. It gives
// the id of that.
func withOrphan(t *testing.T, legacy bool) (w *world, m *manager, addr, id string) {
	t.Helper()
	w, m = withStrays(t, time.Hour), newManager("oaas-1")
	addr, stop := m.serve(t, "127.0.0.1:0", legacy)
	// A manager without deliveries does not say who it is either, so that it has to be configured.
	w.found.set(discovery.Candidate{Name: "oaas-1", Address: addr, Source: discovery.SourceStatic})
	w.awaitHealthy("oaas-1")
	out := w.deploy("cart:1", "oaas-1")
	w.await("acknowledged", allAcked)
	stop()
	w.await("unreachable", lostHealth)
	if _, _, err := w.registry.ForceDelete(context.Background(), registry.RequestInfo{}, "shop.Cart", nil); err != nil {
		t.Fatal(err)
	}
	return w, m, addr, out.UnitID
}

// A list that is not all of it does not show that something is gone: what was given up is
// not forgotten for it.
func TestPartialInventoryForgetsNoOrphan(t *testing.T) {
	w, m, addr, id := withOrphan(t, false)
	m.set(func() { m.partial, m.watches = true, 0 })
	m.serve(t, addr, false)
	waitFor(t, "three broken inventories", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.watches >= 3
	})
	if ids := strayIDs(w.store.State().Snapshot(), "oaas-1"); !slices.Equal(ids, []string{id}) {
		t.Errorf("remembered are %v", ids)
	}
	if _, deletes := m.counts(); deletes != 0 {
		t.Errorf("%d deletes without an inventory", deletes)
	}
	m.set(func() { m.partial = false })
	w.await("removed after all", func(s *fsm.Snapshot) bool { return len(strayIDs(s, "oaas-1"))+len(s.Units()) == 0 })
	if m.has(id) {
		t.Error("the cluster has it still")
	}
}

// A manager that tells of no deliveries gets rid of what was given up all the same.
func TestOrphanOfAManagerWithoutDeliveries(t *testing.T) {
	w, m, addr, id := withOrphan(t, true)
	m.serve(t, addr, true)
	w.await("removed", func(s *fsm.Snapshot) bool { return len(strayIDs(s, "oaas-1"))+len(s.Units()) == 0 })
	if m.has(id) {
		t.Error("it was forgotten and not removed")
	}
}

// A cluster that comes back with nothing is sent everything again, and that is told; nothing
// is removed for it.
func TestEmptyInventoryAfterARestart(t *testing.T) {
	w := withStrays(t, time.Millisecond)
	m := newManager("oaas-1")
	addr, stop := m.serve(t, "127.0.0.1:0", false)
	w.found.set(gossiped("oaas-1", addr))
	w.awaitHealthy("oaas-1")
	out := w.deploy("cart:1", "oaas-1")
	w.await("acknowledged", allAcked)
	stop()
	w.await("unreachable", lostHealth)
	m.set(func() { clear(m.objects) })
	m.serve(t, addr, false)
	waitFor(t, "sent again", func() bool { return m.has(out.UnitID) })
	w.await("acknowledged again", allAcked)
	if _, deletes := m.counts(); deletes != 0 {
		t.Errorf("%d deletes", deletes)
	}
	if !slices.ContainsFunc(w.store.State().Snapshot().Timeline("shop.Cart"), func(e *pmpb.TimelineEvent) bool {
		return e.GetReason() == fsm.WaitingLost && e.GetEnv() == "oaas-1"
	}) {
		t.Error("the timeline does not tell that the unit was lost")
	}
}

// A key is free while an unreachable cluster has its old unit still: the old tombstone never
// hits the new unit, which comes to the cluster together with it.
func TestKeyIsUsedAgainWhileItsDeletionWaits(t *testing.T) {
	w := withStrays(t, time.Hour)
	one, two := newManager("oaas-1"), newManager("oaas-2")
	addr, stop := one.serve(t, "127.0.0.1:0", false)
	addr2, _ := two.serve(t, "127.0.0.1:0", false)
	w.found.set(gossiped("oaas-1", addr), gossiped("oaas-2", addr2))
	w.awaitHealthy("oaas-1", "oaas-2")
	before := w.deploy("cart:1", "oaas-1", "oaas-2")
	w.await("acknowledged", allAcked)
	stop()
	w.await("unreachable", lostHealth)
	w.remove("shop.Cart")
	after := w.deploy("cart:2", "oaas-1", "oaas-2")
	unit := func(uid, env string) string { return registry.UnitID(uid, env, "Cart") }
	if after.UID == before.UID {
		t.Fatal("the key has its old uid again")
	}
	w.await("the other cluster is done", func(s *fsm.Snapshot) bool {
		return fsm.Acknowledged(s.Unit(unit(after.UID, "oaas-2"))) && s.Unit(unit(before.UID, "oaas-2")) == nil
	})
	if d := w.store.State().Snapshot().Deletion(before.UID); !slices.Equal(d.GetConfirmedEnvs(), []string{"oaas-2"}) {
		t.Errorf("deletion %v", d)
	}
	one.serve(t, addr, false)
	w.await("all is done", func(s *fsm.Snapshot) bool { return len(s.Deletions()) == 0 && len(s.Units()) == 2 && allAcked(s) })
	for env, m := range map[string]*manager{"oaas-1": one, "oaas-2": two} {
		if m.has(unit(before.UID, env)) || !m.has(unit(after.UID, env)) {
			t.Errorf("%s has the old unit, or not the new one", env)
		}
		if m.tombstones[unit(after.UID, env)] != 0 {
			t.Errorf("%s was told to remove the new unit", env)
		}
	}
}
