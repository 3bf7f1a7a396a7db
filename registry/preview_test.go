package registry_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
)

// A preview tells what the write would do, and leaves no trace.
func TestPreview(t *testing.T) {
	r, store := withShop(t, "oaas-1", "oaas-2", "oaas-3")
	const other = `{"key":"shop.Cart","package_name":"shop","class_key":"Cart","target_envs":["oaas-2","oaas-3"]}`
	preview := func(doc string) map[string]registry.Change {
		t.Helper()
		before := store.State().Snapshot().Index()
		p, err := r.Preview(store.State().Snapshot(), decodeDeployment(t, doc), registry.Precondition{})
		if err != nil {
			t.Fatal(err)
		}
		if after := store.State().Snapshot().Index(); after != before {
			t.Errorf("the preview wrote: index %d, was %d", after, before)
		}
		out := map[string]registry.Change{"": p.Change}
		for _, e := range p.Envs {
			out[e.Env] = e.Change
		}
		return out
	}
	check := func(doc string, want map[string]registry.Change) {
		t.Helper()
		if diff := cmp.Diff(want, preview(doc)); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
	check(cart, map[string]registry.Change{"": registry.ChangeCreate, "oaas-1": registry.ChangeCreate, "oaas-2": registry.ChangeCreate})
	if _, _, err := r.Deploy(context.Background(), registry.RequestInfo{}, decodeDeployment(t, cart)); err != nil {
		t.Fatal(err)
	}
	check(cart, map[string]registry.Change{"": registry.ChangeNone, "oaas-1": registry.ChangeNone, "oaas-2": registry.ChangeNone})
	check(other, map[string]registry.Change{"": registry.ChangeUpdate,
		"oaas-1": registry.ChangeRemove, "oaas-2": registry.ChangeUpdate, "oaas-3": registry.ChangeCreate})

	// What the write would refuse, the preview refuses.
	_, err := r.Preview(store.State().Snapshot(), decodeDeployment(t, `{"key":"a","package_name":"gone","class_key":"Cart"}`), registry.Precondition{})
	if registry.CodeOf(err) != registry.NotFound {
		t.Errorf("got %v", err)
	}
}

// A scenario plans what it concerns, with what is left.
func TestSimulate(t *testing.T) {
	r, store := withShop(t, "oaas-1", "oaas-2", "oaas-3")
	for name, region := range map[string]string{"oaas-1": "eu", "oaas-2": "eu", "oaas-3": "us"} {
		if err := r.PutCluster(context.Background(), 0, name, func(row *pmpb.Cluster) error { row.Region = region; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	for _, doc := range []string{
		cart, // insists on two in eu
		`{"key":"free","package_name":"shop","class_key":"Cart"}`,
		`{"key":"us","package_name":"shop","class_key":"Cart","target_envs":["oaas-3"]}`,
		`{"key":"both","package_name":"shop","class_key":"Cart","target_envs":["oaas-3"],"available_envs":["oaas-1"]}`,
		`{"key":"eu","package_name":"shop","class_key":"Cart","available_envs":["oaas-1","oaas-2"]}`,
	} {
		if _, _, err := r.Deploy(context.Background(), registry.RequestInfo{}, decodeDeployment(t, doc)); err != nil {
			t.Fatal(err)
		}
	}
	snap := store.State().Snapshot()
	simulate := func(s registry.Scenario) map[string]string {
		t.Helper()
		s.Limit = 100
		got, err := r.Simulate(snap, s)
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for _, d := range got.Deployments {
			if d.Err != nil {
				out[d.Key] = string(registry.CodeOf(d.Err))
				continue
			}
			out[d.Key] = strings.Join(d.Plan.Clusters, " ")
		}
		return out
	}
	for _, tt := range []struct {
		name string
		in   registry.Scenario
		want map[string]string
	}{
		{"one environment", registry.Scenario{Lose: []string{"env=oaas-3"}, Keys: []string{"us"}}, map[string]string{"us": string(registry.InvalidArgument)}},
		{"a region", registry.Scenario{Lose: []string{"region=eu"}, Keys: []string{"free", "eu", "us", "shop.Cart"}},
			map[string]string{"free": "oaas-3", "us": "oaas-3", "eu": string(registry.InvalidArgument), "shop.Cart": string(registry.InvalidArgument)}},
		{"half of what was named", registry.Scenario{Lose: []string{"env=oaas-1"}, Keys: []string{"shop.Cart"}}, map[string]string{"shop.Cart": "oaas-2"}},
		{"what was available is lost, what was named is not", registry.Scenario{Lose: []string{"region=eu"}, Keys: []string{"both"}}, map[string]string{"both": "oaas-3"}},
		{"drained", registry.Scenario{Drain: []string{"region=eu"}, Keys: []string{"free", "shop.Cart"}}, map[string]string{"free": "oaas-3", "shop.Cart": string(registry.InvalidArgument)}},
		{"drained where it runs", registry.Scenario{Drain: []string{"env=oaas-1"}, Keys: []string{"shop.Cart"}}, map[string]string{"shop.Cart": "oaas-2"}},
		{"one lost and one drained", registry.Scenario{Lose: []string{"env=oaas-1"}, Drain: []string{"env=oaas-2"}, Keys: []string{"free"}}, map[string]string{"free": "oaas-3"}},
		{"nothing", registry.Scenario{}, map[string]string{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, simulate(tt.in)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}

	got, err := r.Simulate(snap, registry.Scenario{Lose: []string{"region=eu"}, Limit: 1})
	if err != nil || got.Affected < 2 || len(got.Deployments) != 1 {
		t.Errorf("affected %+v, %v", got, err)
	}
	half, none := 0.5, 2.0
	if got, err = r.Simulate(snap, registry.Scenario{Target: &half, Limit: 100}); err != nil || got.Affected != 5 {
		t.Errorf("a target concerns all deployments: %+v, %v", got, err)
	}
	for _, tt := range []struct {
		in   registry.Scenario
		want registry.Code
	}{
		{registry.Scenario{Lose: []string{"region"}}, registry.InvalidArgument},
		{registry.Scenario{Lose: []string{"region=mars"}}, registry.InvalidArgument},
		{registry.Scenario{Lose: []string{"tier="}}, registry.InvalidArgument},
		{registry.Scenario{Drain: []string{"tier=gold"}}, registry.InvalidArgument},
		{registry.Scenario{Keys: []string{"gone"}}, registry.NotFound},
		{registry.Scenario{Target: &none}, registry.Unprocessable},
	} {
		if _, err := r.Simulate(snap, tt.in); registry.CodeOf(err) != tt.want {
			t.Errorf("%+v: got %v, want %s", tt.in, err, tt.want)
		}
	}
	if after := store.State().Snapshot().Index(); after != snap.Index() {
		t.Errorf("a simulation wrote: index %d, was %d", after, snap.Index())
	}
}
