package registry_test

import (
	"context"
	"testing"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
)

func TestPutClusterPolicy(t *testing.T) {
	ctx := context.Background()
	r, store := fixture(t, "oaas-1")
	put := func(pre registry.Precondition, p *pmpb.ClusterPolicy) error {
		_, err := r.PutClusterPolicy(ctx, registry.RequestInfo{Precondition: pre}, "oaas-1", p, false)
		return err
	}
	row := func() *pmpb.Cluster { return store.State().Snapshot().Cluster("oaas-1") }
	if err := put(registry.Precondition{}, &pmpb.ClusterPolicy{}); registry.CodeOf(err) != registry.FailedPrecondition {
		t.Errorf("with servers that do not know policies: %v", err)
	}
	if _, err := store.Apply(ctx, &pmpb.Command{Op: &pmpb.Command_RaiseFeatureLevel{RaiseFeatureLevel: &pmpb.RaiseFeatureLevel{Level: fsm.PlannerFrom}}}); err != nil {
		t.Fatal(err)
	}
	if err := put(registry.Precondition{}, &pmpb.ClusterPolicy{Cordoned: true, CordonReason: "moving"}); err != nil {
		t.Fatal(err)
	}
	if !row().GetPolicy().GetCordoned() {
		t.Fatalf("%v", row())
	}
	// What the cluster reports later leaves it.
	if err := r.PutCluster(ctx, 0, "oaas-1", func(row *pmpb.Cluster) error { row.NodeCount = 99; return nil }); err != nil {
		t.Fatal(err)
	}
	version := registry.PolicyVersion(row().GetPolicy())
	other := version + 1
	if err := put(registry.Precondition{ModifyIndex: &other}, &pmpb.ClusterPolicy{}); registry.CodeOf(err) != registry.PreconditionFailed {
		t.Errorf("an old version: %v", err)
	}
	if err := put(registry.Precondition{ModifyIndex: &version}, &pmpb.ClusterPolicy{}); err != nil || row().GetPolicy() != nil {
		t.Errorf("%v, %v", err, row().GetPolicy())
	}
	if _, err := r.PutClusterPolicy(ctx, registry.RequestInfo{}, "mars", &pmpb.ClusterPolicy{}, false); registry.CodeOf(err) != registry.NotFound {
		t.Errorf("of an unknown cluster: %v", err)
	}
}
