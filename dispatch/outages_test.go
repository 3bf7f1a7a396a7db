package dispatch_test

import (
	"context"
	"testing"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

// Outages are kept from the moment on in which all servers know them, also those of a
// cluster that was healthy before.
func TestOutagesAreKept(t *testing.T) {
	w := newWorld(t)
	m := newManager("oaas-1")
	addr, stop := m.serve(t, "127.0.0.1:0", false)
	w.found.set(gossiped("oaas-1", addr))
	w.awaitHealthy("oaas-1")
	if row := w.store.State().Snapshot().Cluster("oaas-1"); row.GetObservedSince() != nil {
		t.Fatalf("kept before all servers know it: %v", row)
	}
	raise := &pmpb.Command{Op: &pmpb.Command_RaiseFeatureLevel{RaiseFeatureLevel: &pmpb.RaiseFeatureLevel{Level: fsm.PlannerFrom}}}
	if _, err := w.store.Apply(context.Background(), raise); err != nil {
		t.Fatal(err)
	}
	w.await("observed", func(s *fsm.Snapshot) bool { return s.Cluster("oaas-1").GetObservedSince() != nil })
	stop()
	w.await("the outage has begun", func(s *fsm.Snapshot) bool {
		c := s.Cluster("oaas-1")
		return c.GetHealth() == pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE && len(c.GetOutages()) == 1 && c.GetOutages()[0].GetEnd() == nil
	})
	m.serve(t, addr, false)
	w.awaitHealthy("oaas-1")
	o := w.store.State().Snapshot().Cluster("oaas-1").GetOutages()
	if len(o) != 1 || o[0].GetEnd() == nil || !o[0].GetEnd().AsTime().After(o[0].GetStart().AsTime()) || o[0].GetPlanned() {
		t.Errorf("outages: %v", o)
	}
}
