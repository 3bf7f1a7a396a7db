package api

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"oaas.io/control-plane/proto/pmpb"
)

// What is only asked for is told, and leaves no trace.
func TestPreviewAndSimulation(t *testing.T) {
	h := newHarness(t)
	h.cluster("oaas-1", pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY)
	h.cluster("oaas-2", pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY)
	h.must(http.StatusCreated, http.MethodPost, "/api/v1/packages", shopPackage)
	type change struct{ Env, Change string }
	preview := func(doc string, headers ...string) (out struct {
		DryRun       bool `json:"dry_run"`
		Change       string
		Environments []change
		Plan         struct{ Clusters []string }
	}) {
		t.Helper()
		before := h.store.State().Snapshot().Index()
		w := h.do(http.MethodPost, "/api/v1/deployments?dry_run", doc, headers...)
		if w.Code != http.StatusOK {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || !out.DryRun {
			t.Fatalf("%v: %s", err, w.Body)
		}
		if after := h.store.State().Snapshot().Index(); after != before {
			t.Errorf("the dry run wrote: index %d, was %d", after, before)
		}
		return out
	}
	const first = `{"key":"a","package_name":"shop","class_key":"Cart","target_envs":["oaas-1"]}`
	const second = `{"key":"a","package_name":"shop","class_key":"Cart","target_envs":["oaas-2"]}`
	got := preview(first, "If-None-Match: *")
	if got.Change != "create" || !cmp.Equal(got.Environments, []change{{"oaas-1", "create"}}) {
		t.Errorf("%+v", got)
	}
	h.must(http.StatusOK, http.MethodPost, "/api/v1/deployments", first)
	if got = preview(first); got.Change != "none" || !cmp.Equal(got.Environments, []change{{"oaas-1", "none"}}) {
		t.Errorf("%+v", got)
	}
	if got = preview(second); got.Change != "update" || !cmp.Equal(got.Environments, []change{{"oaas-2", "create"}, {"oaas-1", "remove"}}) {
		t.Errorf("%+v", got)
	}
	if w := h.do(http.MethodPost, "/api/v1/deployments?dry_run", first, "If-None-Match: *"); w.Code != http.StatusPreconditionFailed {
		t.Errorf("%d %s", w.Code, w.Body)
	}

	h.must(http.StatusOK, http.MethodPost, "/api/v1/deployments", `{"key":"b","package_name":"shop","class_key":"Cart"}`)
	w := h.do(http.MethodPost, "/api/v1/plan/simulate", `{"lose":["env=oaas-1"],"deployments":["a","b"]}`)
	var sim struct {
		Lost                              []string
		Affected, Changed, Missed, Failed int
		Deployments                       []struct {
			Key, Error string
			Plan       *struct{ Clusters []string }
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &sim); err != nil || w.Code != http.StatusOK {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	if sim.Affected != 2 || sim.Failed != 1 || len(sim.Deployments) != 2 || sim.Deployments[0].Error == "" || sim.Deployments[0].Plan != nil {
		t.Fatalf("%s", w.Body)
	}
	if diff := cmp.Diff([]string{"oaas-2"}, sim.Deployments[1].Plan.Clusters); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
