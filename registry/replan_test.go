package registry_test

import (
	"context"
	"slices"
	"testing"

	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
)

// A deployment is planned anew from what its user asked for: what the planner put into
// it does not bind it, and what need not move stays.
func TestReplan(t *testing.T) {
	ctx := context.Background()
	r, store := withShop(t, "oaas-1", "oaas-2", "oaas-3", "oaas-4")
	raised(t, store)
	cost := func(name string, cost float64, cordoned bool) {
		t.Helper()
		if _, err := r.PutClusterPolicy(ctx, registry.RequestInfo{}, name, &pmpb.ClusterPolicy{Cost: &cost, Cordoned: cordoned}, false); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"oaas-1", "oaas-2", "oaas-3", "oaas-4"} {
		cost(name, 100, false)
	}
	if _, _, err := r.Deploy(ctx, registry.RequestInfo{}, decodeDeployment(t,
		`{"key":"shop.Cart","package_name":"shop","class_key":"Cart","nfr_requirements":{"availability":0.999},"odgm":{"collections":["shop.Cart"],"shard_type":"raft"}}`)); err != nil {
		t.Fatal(err)
	}
	envs := func() []string { return store.State().Snapshot().Deployment("shop.Cart").Doc.TargetEnvs }
	replan := func(rebalance bool) *registry.Preview {
		t.Helper()
		snap := store.State().Snapshot()
		told, err := r.PreviewReplan(snap, "shop.Cart", rebalance, registry.Precondition{})
		if err != nil {
			t.Fatal(err)
		}
		out, index, err := r.Replan(ctx, registry.RequestInfo{}, "shop.Cart", rebalance)
		if err != nil {
			t.Fatal(err)
		}
		if told.Change != out.Change || !slices.Equal(told.Plan.Clusters, out.Plan.Clusters) {
			t.Errorf("the preview told %s %v, it became %s %v", told.Change, told.Plan.Clusters, out.Change, out.Plan.Clusters)
		}
		if wrote := index != snap.Index(); wrote != (out.Change != registry.ChangeNone) {
			t.Errorf("change %s, written %t", out.Change, wrote)
		}
		return out
	}
	first := envs()
	if out := replan(false); out.Change != registry.ChangeNone {
		t.Errorf("planned anew, it is %s", out.Change)
	}

	// A much cheaper one is taken when it is asked for, and only then.
	left := "oaas-1 oaas-2 oaas-3 oaas-4"
	spare := ""
	for _, name := range []string{"oaas-1", "oaas-2", "oaas-3", "oaas-4"} {
		if !slices.Contains(first, name) {
			spare = name
		}
	}
	if spare == "" {
		t.Fatalf("%v of %s", first, left)
	}
	cost(spare, 1, false)
	cost(first[0], 300, false)
	if out := replan(false); out.Change != registry.ChangeNone || out.Plan.Alternative == nil {
		t.Errorf("planned anew, it is %s", out.Change)
	}
	if out := replan(true); out.Change != registry.ChangeUpdate || !slices.Contains(envs(), spare) || slices.Contains(envs(), first[0]) {
		t.Errorf("rebalanced, it is %s and runs in %v", out.Change, envs())
	}
	doc := store.State().Snapshot().Deployment("shop.Cart").Doc
	if doc.Placement != nil || len(doc.ODGM.EnvNodeIDs) != 3 || *doc.ODGM.ReplicaCount != 3 || doc.ODGM.EnvNodeIDs[spare] == nil {
		t.Errorf("the deployment became %+v", doc.ODGM)
	}

	if _, _, err := r.Replan(ctx, registry.RequestInfo{}, "gone", false); registry.CodeOf(err) != registry.NotFound {
		t.Errorf("%v", err)
	}
	old := uint64(1)
	if _, _, err := r.Replan(ctx, registry.RequestInfo{Precondition: registry.Precondition{ModifyIndex: &old}}, "shop.Cart", false); registry.CodeOf(err) != registry.PreconditionFailed {
		t.Errorf("%v", err)
	}
}
