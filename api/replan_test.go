package api

import (
	"encoding/json"
	"net/http"
	"testing"

	"oaas.io/control-plane/proto/pmpb"
)

func TestReplan(t *testing.T) {
	h := newHarness(t)
	h.cluster("oaas-1", pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY)
	h.must(http.StatusCreated, http.MethodPost, "/api/v1/packages", shopPackage)
	h.must(http.StatusOK, http.MethodPost, "/api/v1/deployments", `{"key":"a","package_name":"shop","class_key":"Cart"}`)
	replan := func(query, body string) (out struct {
		ID, Change, Summary string
		DryRun              bool `json:"dry_run"`
		Environments        []struct{ Env, Change string }
	}) {
		t.Helper()
		w := h.must(http.StatusOK, http.MethodPost, "/api/v1/deployments/a/replan"+query, body)
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	if got := replan("", ""); got.ID != "a" || got.Change != "none" || len(got.Environments) != 1 || got.Summary == "" {
		t.Errorf("%+v", got)
	}
	if got := replan("?dry_run", `{"rebalance":true}`); !got.DryRun || got.Change != "none" {
		t.Errorf("%+v", got)
	}
	// It has its way only while nobody insists on something else.
	h.must(http.StatusOK, http.MethodPost, "/api/v1/deployments", `{"key":"a","package_name":"shop","class_key":"Cart","nfr_requirements":{"availability":0.999}}`)
	h.cluster("oaas-2", pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY)
	if got := replan("", ""); got.Change != "update" || len(got.Environments) != 2 {
		t.Errorf("%+v", got)
	}
	if w := h.do(http.MethodPost, "/api/v1/deployments/b/replan", ""); w.Code != http.StatusNotFound {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := h.do(http.MethodPost, "/api/v1/deployments/a/replan", `{"soon":true}`); w.Code != http.StatusUnprocessableEntity {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := h.do(http.MethodPost, "/api/v1/deployments/a/replan", "", `If-Match: "x-1"`); w.Code != http.StatusPreconditionFailed {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
