package api

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
)

const movable = `{"key":"shop.Cart","package_name":"shop","class_key":"Cart","placement":{"allow":["oaas-1","oaas-2"],"stability":"keep"},` +
	`"functions":[{"function_key":"Cart.add","provision_config":{"container_image":"cart:1"}}]}`

// relocate does what the leader would.
func (h *harness) relocate() {
	h.t.Helper()
	for _, one := range h.reg.Relocations(h.store.State().Snapshot()) {
		if _, err := h.reg.Relocate(context.Background(), 3, one.Key); err != nil {
			h.t.Fatal(err)
		}
	}
	if _, err := h.reg.AdvanceMove(context.Background(), 3, "shop.Cart"); err != nil {
		h.t.Fatal(err)
	}
}

func TestDrainRoutes(t *testing.T) {
	h := newHarness(t)
	h.cluster("oaas-1", pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY)
	const policy, drain = "/api/v1/envs/oaas-1/policy", "/api/v1/envs/oaas-1/drain"
	h.raise(fsm.FailoverFrom - 1)
	if w := h.do(http.MethodPut, policy, `{"draining":true}`); w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), "feature level 7") {
		t.Errorf("with servers that know no drains: %d %s", w.Code, w.Body)
	}
	h.raise(fsm.FailoverFrom)
	h.must(http.StatusCreated, http.MethodPost, "/api/v1/packages", shopPackage)
	h.must(http.StatusOK, http.MethodPost, "/api/v1/deployments", movable)
	h.report("shop.Cart", "oaas-1", oaaspb.DeploymentCondition_RUNNING, "ready")
	golden(t, "move-none", h.must(http.StatusOK, http.MethodGet, cartPath+"/move", ""))
	for path, code := range map[string]int{drain: http.StatusNotFound, "/api/v1/envs/mars/drain": http.StatusNotFound, "/api/v1/deployments/mars/move": http.StatusNotFound} {
		if w := h.do(http.MethodGet, path, ""); w.Code != code {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	if w := h.do(http.MethodPut, policy, `{"drain_reason":"disks"}`); w.Code != http.StatusUnprocessableEntity {
		t.Errorf("a reason for nothing: %d %s", w.Code, w.Body)
	}

	h.must(http.StatusOK, http.MethodPut, policy, `{"draining":true,"drain_reason":"disks"}`)
	h.relocate()
	golden(t, "move-held", h.must(http.StatusOK, http.MethodGet, cartPath+"/move", ""))
	golden(t, "drain-held", h.must(http.StatusOK, http.MethodGet, drain, ""))
	if got := h.must(http.StatusOK, http.MethodGet, cartPath, "").Body.String(); !strings.Contains(got, `not moved: oaas-1: `) || !strings.Contains(got, "(NoPlace)") {
		t.Errorf("the deployment says %s", got)
	}
	h.cluster("oaas-2", pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY)
	h.relocate()
	golden(t, "move-moving", h.must(http.StatusOK, http.MethodGet, cartPath+"/move", ""))
	if got := h.must(http.StatusOK, http.MethodGet, "/api/v1/envs", "").Body.String(); !strings.Contains(got, `"drain":{"reason":"disks","since":"`) || !strings.Contains(got, `"moving":1,"done":false`) {
		t.Errorf("the environments are %s", got)
	}
	h.report("shop.Cart", "oaas-2", oaaspb.DeploymentCondition_RUNNING, "ready")
	h.relocate()
	golden(t, "drain-done", h.must(http.StatusOK, http.MethodGet, drain, ""))
	if got := h.must(http.StatusOK, http.MethodGet, cartPath+"/events", "").Body.String(); !strings.Contains(got, `"type":"Replaced","env":"oaas-1"`) {
		t.Errorf("the timeline is %s", got)
	}
}

func TestFleetRoute(t *testing.T) {
	h := newHarness(t)
	h.raise(fsm.FailoverFrom)
	for _, name := range []string{"oaas-1", "oaas-2", "oaas-3"} {
		h.cluster(name, pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY)
	}
	golden(t, "fleet-whole", h.must(http.StatusOK, http.MethodGet, "/api/v1/fleet", ""))
	h.cluster("oaas-1", pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE)
	h.cluster("oaas-2", pmpb.ClusterHealth_CLUSTER_HEALTH_FAILOVER_ELIGIBLE)
	golden(t, "fleet-suspected", h.must(http.StatusOK, http.MethodGet, "/api/v1/fleet", ""))
	if got := h.server.checkFleet(h.store.State().Snapshot()); got.Status != checkWarn || !strings.Contains(got.Value, "FleetPartitionSuspected") {
		t.Errorf("the doctor says %+v", got)
	}
}
