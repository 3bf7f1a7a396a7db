package registry_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
	"oaas.io/control-plane/registry/registrytest"
)

// leastPods gives the min_scale of a function by environment, as the clusters are sent
// it; 0 where there is none.
func leastPods(t *testing.T, store *registrytest.Store, function string) map[string]uint32 {
	t.Helper()
	snap, out := store.State().Snapshot(), map[string]uint32{}
	for _, u := range snap.UnitsByDeployment(snap.Deployment("shop.Cart").UID) {
		if u.GetTombstone() {
			continue
		}
		unit, err := fsm.Desired(u)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range unit.GetFunctions() {
			if f.GetFunctionKey() == function {
				out[u.GetEnv()] = f.GetProvisionConfig().GetMinScale()
			}
		}
	}
	return out
}

// Pods that a deployment wants in all are divided over its clusters, and reach them as
// the least of each; what it wants in every cluster is never lowered.
func TestDividedPodsReachTheClusters(t *testing.T) {
	ctx := context.Background()
	r, store := withShop(t, "oaas-1", "oaas-2", "oaas-3")
	raised(t, store)
	deploy := func(divide string) error {
		_, _, err := r.Deploy(ctx, registry.RequestInfo{}, decodeDeployment(t,
			`{"key":"shop.Cart","package_name":"shop","class_key":"Cart","target_envs":["oaas-1","oaas-2","oaas-3"],"placement":{"divide":`+divide+`}}`))
		return err
	}
	check := func(function string, want map[string]uint32) {
		t.Helper()
		if diff := cmp.Diff(want, leastPods(t, store, function)); diff != "" {
			t.Errorf("%s: -want +got:\n%s", function, diff)
		}
	}
	if err := deploy(`[{"function":"Cart.total","pods":7},{"function":"Cart.add","pods":4}]`); err != nil {
		t.Fatal(err)
	}
	check("Cart.total", map[string]uint32{"oaas-1": 3, "oaas-2": 2, "oaas-3": 2})
	check("Cart.add", map[string]uint32{"oaas-1": 2, "oaas-2": 2, "oaas-3": 2})
	if err := deploy(`[{"function":"Cart.total","pods":8,"survive":1}]`); err != nil {
		t.Fatal(err)
	}
	check("Cart.total", map[string]uint32{"oaas-1": 4, "oaas-2": 4, "oaas-3": 4})
	if err := deploy(`[]`); err != nil {
		t.Fatal(err)
	}
	check("Cart.total", map[string]uint32{"oaas-1": 0, "oaas-2": 0, "oaas-3": 0})

	for divide, want := range map[string]string{
		`[{"function":"Cart.bare","pods":1}]`:              `placement.divide[0].function: no function "Cart.bare" of the deployment has pods`,
		`[{"function":"Cart.total","pods":1,"survive":3}]`: "1 pods are to be left when 3 environments are lost",
	} {
		if err := deploy(divide); registry.CodeOf(err) != registry.Unprocessable || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", divide, err)
		}
	}
}

// What the planner put into a deployment does not bind it when it is planned anew.
func TestSimulationPlansFromTheWish(t *testing.T) {
	ctx := context.Background()
	r, store := withShop(t, "oaas-1", "oaas-2", "oaas-3", "oaas-4")
	if _, _, err := r.Deploy(ctx, registry.RequestInfo{}, decodeDeployment(t,
		`{"key":"shop.Cart","package_name":"shop","class_key":"Cart","nfr_requirements":{"availability":0.999},"odgm":{"collections":["shop.Cart"],"shard_type":"raft"}}`)); err != nil {
		t.Fatal(err)
	}
	envs := store.State().Snapshot().Deployment("shop.Cart").Doc.TargetEnvs
	if len(envs) != 3 {
		t.Fatalf("runs in %v", envs)
	}
	out, err := r.Simulate(store.State().Snapshot(), registry.Scenario{Lose: []string{"env=" + envs[0]}, Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	p := out.Deployments[0].Plan
	if len(p.Clusters) != 3 || p.Voters != 3 || !p.TargetMet || p.Achieved < 0.9997 {
		t.Errorf("%d clusters, %d voters, met %t, %v: %v", len(p.Clusters), p.Voters, p.TargetMet, p.Achieved, p.Explanation.Warnings)
	}
	for _, a := range p.Assignments {
		if len(a.NodeIDs) != 1 || a.Replicas != 1 {
			t.Errorf("%+v", a)
		}
	}
}

// The location that functions of a deployment name reaches the planner.
func TestAvailableLocation(t *testing.T) {
	ctx := context.Background()
	r, store := withShop(t, "oaas-1", "oaas-2", "oaas-3")
	for _, at := range []string{"oaas-3", "oaas-2", "oaas-1"} {
		if _, _, err := r.Deploy(ctx, registry.RequestInfo{}, decodeDeployment(t, `{"key":"shop.`+at+`","package_name":"shop","class_key":"Cart",
			"functions":[{"function_key":"Cart.total","available_location":"`+at+`","provision_config":{"container_image":"a:1"}}]}`)); err != nil {
			t.Fatal(err)
		}
		if got := store.State().Snapshot().Deployment("shop." + at).Doc.TargetEnvs; len(got) != 1 || got[0] != at {
			t.Errorf("runs in %v, is to be available in %s", got, at)
		}
	}
}

func TestQuotaPerPackage(t *testing.T) {
	ctx := context.Background()
	r, store := withShop(t, "oaas-1", "oaas-2")
	raised(t, store)
	if _, err := r.PutClusterPolicy(ctx, registry.RequestInfo{}, "oaas-1", &pmpb.ClusterPolicy{MaxUnitsPerPackage: 1}, false); err != nil {
		t.Fatal(err)
	}
	var first int
	for i := range 6 {
		key := fmt.Sprintf("shop.C%d", i)
		if _, _, err := r.Deploy(ctx, registry.RequestInfo{}, decodeDeployment(t, `{"key":"`+key+`","package_name":"shop","class_key":"Cart"}`)); err != nil {
			t.Fatal(err)
		}
		if store.State().Snapshot().Deployment(key).Doc.TargetEnvs[0] == "oaas-1" {
			first++
		}
	}
	if first > 1 {
		t.Errorf("oaas-1 was given %d units of the package", first)
	}
}
