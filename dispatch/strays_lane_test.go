package dispatch

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
	"oaas.io/control-plane/registry/registrytest"
)

// What a cluster says must cost no memory, and one row that the state refuses must not keep
// the others from being stored.
func TestStraysHaveNamesThatTheStateTakes(t *testing.T) {
	uid := strings.Repeat("u", 3<<20)
	id := registry.UnitID(uid, "oaas-1", "Cart")
	s := strays{}
	s.see("oaas-1", "cp", 0, &oaaspb.ClassRuntimeSummary{DeploymentUnitId: id, Delivery: &oaaspb.Delivery{DeploymentUid: uid, DeploymentKey: "k", ControlPlaneId: "cp"}}, time.Now())
	if len(s) != 0 {
		t.Errorf("a uid of %d bytes is kept, which the state refuses (at most 1024)", len(s[id].uid))
	}
	s = strays{}
	s.see("oaas-1", "cp", 0, &oaaspb.ClassRuntimeSummary{DeploymentUnitId: registry.UnitID("u", "oaas-1", "Cart"), Delivery: &oaaspb.Delivery{DeploymentUid: "u", DeploymentKey: "k\x00", ControlPlaneId: "cp"}}, time.Now())
	if len(s) != 0 {
		t.Error("a key that the state refuses is kept")
	}
}

// A tombstone is given up while the inventory of its returning cluster arrives, after the
// runtime was listed: it must be a stray when the inventory is complete.
func TestOrphanWhileAnInventoryArrives(t *testing.T) {
	store, err := registrytest.New()
	if err != nil {
		t.Fatal(err)
	}
	reg, err := registry.New(registry.Options{Store: store, NewUID: func() string { return "x" }, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	if _, err := store.Apply(ctx, &pmpb.Command{Op: &pmpb.Command_RaiseFeatureLevel{RaiseFeatureLevel: &pmpb.RaiseFeatureLevel{Level: fsm.FailoverFrom}}}); err != nil {
		t.Fatal(err)
	}
	row := &pmpb.Stray{UnitId: "u-1", DeploymentUid: "uid", DeploymentKey: "k", Orphaned: true, FirstSeen: timestamppb.Now()}
	if err := reg.PutCluster(ctx, 0, "oaas-1", func(c *pmpb.Cluster) error {
		c.Address, c.Source, c.Strays = "a:1", pmpb.ClusterSource_CLUSTER_SOURCE_GOSSIP, []*pmpb.Stray{row}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	l := &lane{name: "oaas-1", opts: &Options{Now: time.Now}, work: newWorklist(), leaving: map[string]bool{}, noted: map[string]note{}}
	l.work.units["u-1"] = &pmpb.Unit{Id: "u-1", DeploymentUid: "uid", Env: "oaas-1", Tombstone: true}
	l.arriving = &arrival{inventory: inventory{"u-1": holding{}}, strays: strays{}} // it was listed
	l.syncOrphans(store.State().Snapshot())
	l.work.have = l.arriving.inventory // as completed does
	l.straysArrived()
	p := l.strays.plan([]*pmpb.Stray{row}, 0, time.Now(), time.Second, time.Hour)
	if len(p.bury) == 0 {
		t.Errorf("what was given up is forgotten although the cluster has it: %+v", p)
	}
}
