package api

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
)

// withLost has a deployment in two environments, one of which is lost.
func withLost(t *testing.T) *harness {
	t.Helper()
	h := shop(t)
	h.raise(fsm.FailoverFrom)
	h.updateUnit(h.unit("shop.Cart", "oaas-2"), &pmpb.UnitUpdate{Update: &pmpb.UnitUpdate_Waiting{Waiting: &pmpb.Waiting{
		Code: "CLUSTER_UNREACHABLE", Message: "cluster oaas-2 does not answer",
	}}})
	h.cluster("oaas-2", pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE)
	return h
}

// confirm has an environment say that it has removed its unit.
func (h *harness) confirm(uid, env string) {
	for _, u := range h.store.State().Snapshot().UnitsByDeployment(uid) {
		if u.GetEnv() == env {
			h.updateUnit(u, &pmpb.UnitUpdate{Update: &pmpb.UnitUpdate_Gone{Gone: &pmpb.Gone{}}})
		}
	}
}

// TestDeletionGolden walks through a deletion that one environment does not confirm.
func TestDeletionGolden(t *testing.T) {
	h := withLost(t)
	uid := h.store.State().Snapshot().Deployment("shop.Cart").UID
	h.must(http.StatusOK, http.MethodDelete, "/api/v1/deployments/shop.Cart", "")
	h.confirm(uid, "oaas-1")
	h.updateUnit(h.store.State().Snapshot().UnitsByDeployment(uid)[0], &pmpb.UnitUpdate{Update: &pmpb.UnitUpdate_Waiting{Waiting: &pmpb.Waiting{
		Code: "CLUSTER_UNREACHABLE", Message: "cluster oaas-2 does not answer",
	}}})
	golden(t, "deletion-waiting", h.do(http.MethodGet, "/api/v1/deletions/"+uid, ""))
	golden(t, "deletion-orphaned", h.do(http.MethodDelete, "/api/v1/deletions/"+uid+"?force=true&orphan=true", ""))
	golden(t, "deletion-gone", h.do(http.MethodGet, "/api/v1/deletions/"+uid, ""))
	golden(t, "envs-strays", h.do(http.MethodGet, "/api/v1/envs", ""))
}

// TestProgressInOneLine: the line names what there is, and nothing else.
func TestProgressInOneLine(t *testing.T) {
	h := withLost(t)
	uid := h.store.State().Snapshot().Deployment("shop.Cart").UID
	h.must(http.StatusOK, http.MethodDelete, "/api/v1/deployments/shop.Cart", "")
	progress := func(want string) {
		t.Helper()
		var list []deletion
		if err := json.Unmarshal(h.must(http.StatusOK, http.MethodGet, "/api/v1/deletions?key=shop.Cart", "").Body.Bytes(), &list); err != nil {
			t.Fatal(err)
		}
		if len(list) != 1 || list[0].Progress != want {
			t.Errorf("%v, want %q", list, want)
		}
	}
	progress("0 of 2 confirmed, 1 waiting, 1 unreachable since 2026-03-05T19:36:16Z")
	h.must(http.StatusOK, http.MethodDelete, "/api/v1/deletions/"+uid+"?force&orphan&env=oaas-2", "")
	progress("0 of 2 confirmed, 1 orphaned, 1 waiting")
	if w := h.must(http.StatusOK, http.MethodGet, "/api/v1/deletions?key=other", ""); strings.TrimSpace(w.Body.String()) != "[]" {
		t.Errorf("of another key: %s", w.Body)
	}
}

// TestForceTakesBothWords: one word, or neither where nothing else makes sense, changes nothing.
func TestForceTakesBothWords(t *testing.T) {
	h := withLost(t)
	before := h.store.State().Snapshot().Index()
	for _, target := range []string{
		"/api/v1/deployments/shop.Cart?force=true", "/api/v1/deployments/shop.Cart?orphan=true", "/api/v1/deployments/shop.Cart?env=oaas-2",
		"/api/v1/deployments/shop.Cart?force=true&orphan=false", "/api/v1/deployments/shop.Cart?force=perhaps&orphan=true",
		"/api/v1/deletions/u", "/api/v1/deletions/u?force=true", "/api/v1/deletions/u?orphan=true&env=oaas-2",
	} {
		w := h.do(http.MethodDelete, target, "")
		if p := h.problem(w); w.Code != http.StatusBadRequest || p.Code != registry.InvalidArgument {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
	}
	for target, want := range map[string]int{
		"/api/v1/deletions/none?force&orphan": http.StatusNotFound, "/api/v1/deployments/none?force&orphan": http.StatusNotFound,
		"/api/v1/deployments/shop.Cart?force&orphan&env=oaas-1": http.StatusConflict,
		"/api/v1/deployments/shop.Cart?force&orphan&dry_run":    http.StatusBadRequest,
	} {
		if w := h.do(http.MethodDelete, target, ""); w.Code != want {
			t.Errorf("%s: %d %s, want %d", target, w.Code, w.Body, want)
		}
	}
	if after := h.store.State().Snapshot().Index(); after != before {
		t.Errorf("refused requests had an effect: index %d, was %d", after, before)
	}
}

// TestForceDelete: the deployment is deleted, and the lost environment is not waited for.
func TestForceDelete(t *testing.T) {
	h := withLost(t)
	uid, left := h.store.State().Snapshot().Deployment("shop.Cart").UID, h.unit("shop.Cart", "oaas-2").GetId()
	w := h.must(http.StatusOK, http.MethodDelete, "/api/v1/deployments/shop.Cart?force=true&orphan=true", "")
	var got abandoned
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := abandoned{
		deleted:       deleted{Message: got.Message, ID: "shop.Cart", DeletedEnvs: []string{"oaas-1", "oaas-2"}},
		DeploymentUID: uid, Orphaned: []orphaned{{Env: "oaas-2", UnitID: left}}, PendingEnvs: []string{"oaas-1"},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(abandoned{})); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
	if !strings.Contains(got.Message, "left behind") {
		t.Errorf("no warning in %q", got.Message)
	}
	h.must(http.StatusNotFound, http.MethodGet, "/api/v1/deployments/shop.Cart", "")
}
