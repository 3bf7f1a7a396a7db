package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

func TestPolicyOfAnEnvironment(t *testing.T) {
	h := newHarness(t)
	h.cluster("oaas-1", pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY)
	const path = "/api/v1/envs/oaas-1/policy"
	const wish = `{"labels":{"tier":"gold"},"taints":[{"key":"gpu","value":"true","effect":"NoSelect"}],"cordoned":true,"cordon_reason":"new disks","cost":0,"availability":0.9995}`

	if w := h.do(http.MethodPut, path, wish); w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), "feature level 4") {
		t.Errorf("with servers that know no policies: %d %s", w.Code, w.Body)
	}
	raise := &pmpb.Command{Op: &pmpb.Command_RaiseFeatureLevel{RaiseFeatureLevel: &pmpb.RaiseFeatureLevel{Level: fsm.PlannerFrom}}}
	if _, err := h.store.Apply(context.Background(), raise); err != nil {
		t.Fatal(err)
	}
	empty := h.must(http.StatusOK, http.MethodGet, path, "")
	if strings.TrimSpace(empty.Body.String()) != "{}" || empty.Header().Get("ETag") == "" {
		t.Errorf("nothing said: %s", empty.Body)
	}
	written := h.must(http.StatusOK, http.MethodPut, path, wish, "If-Match: "+empty.Header().Get("ETag"))
	read := h.must(http.StatusOK, http.MethodGet, path, "")
	if got := strings.TrimSpace(read.Body.String()); got != wish || strings.TrimSpace(written.Body.String()) != wish {
		t.Errorf("read %s\nwritten %s", read.Body, written.Body)
	}
	if tag := read.Header().Get("ETag"); tag == empty.Header().Get("ETag") || tag != written.Header().Get("ETag") {
		t.Errorf("tags: %s, %s, %s", empty.Header().Get("ETag"), written.Header().Get("ETag"), tag)
	}
	list := h.must(http.StatusOK, http.MethodGet, "/api/v1/envs", "").Body.String()
	for _, part := range []string{`"policy":` + wish, `"availability":{"used":0.9995,"source":"declared","declared":0.9995,"reported":0.99}`} {
		if !strings.Contains(list, part) {
			t.Errorf("%s is missing in %s", part, list)
		}
	}
	for body, status := range map[string]int{
		`{}`:                       http.StatusPreconditionFailed, // with the old tag
		``:                         http.StatusUnprocessableEntity,
		`{"color":"red"}`:          http.StatusUnprocessableEntity,
		`{"availability":2}`:       http.StatusUnprocessableEntity,
		`{"taints":[{"key":"a"}]}`: http.StatusUnprocessableEntity,
		`{`:                        http.StatusBadRequest,
	} {
		if w := h.do(http.MethodPut, path, body, "If-Match: "+empty.Header().Get("ETag")); w.Code != status {
			t.Errorf("%q: %d %s", body, w.Code, w.Body)
		}
	}
	if w := h.do(http.MethodGet, "/api/v1/envs/mars/policy", ""); w.Code != http.StatusNotFound {
		t.Errorf("of an unknown environment: %d", w.Code)
	}
}

// A client that knows of no drains changes a policy without ending one.
func TestDrainOutlivesOldClients(t *testing.T) {
	h := newHarness(t)
	h.cluster("oaas-1", pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY)
	raise := &pmpb.Command{Op: &pmpb.Command_RaiseFeatureLevel{RaiseFeatureLevel: &pmpb.RaiseFeatureLevel{Level: fsm.FailoverFrom}}}
	if _, err := h.store.Apply(context.Background(), raise); err != nil {
		t.Fatal(err)
	}
	const path = "/api/v1/envs/oaas-1/policy"
	for _, tt := range []struct{ body, want string }{
		{`{"draining":true,"drain_reason":"disks"}`, `{"draining":true,"drain_reason":"disks","drain_since":"`},
		{`{"cordoned":true,"cordon_reason":"old"}`, `{"cordoned":true,"cordon_reason":"old","draining":true,"drain_reason":"disks","drain_since":"`},
		{`{}`, `{"draining":true,"drain_reason":"disks","drain_since":"`},
		{`{"draining":false,"cordoned":true}`, `{"cordoned":true}`},
		{`{"cordoned":true}`, `{"cordoned":true}`},
		{`{"draining":true}`, `{"draining":true,"drain_since":"`},
		{`{"drain_since":"2026-03-05T19:00:00Z"}`, `{}`}, // it has read that, and leaves out the rest
	} {
		written := h.must(http.StatusOK, http.MethodPut, path, tt.body)
		read := h.must(http.StatusOK, http.MethodGet, path, "")
		if got := strings.TrimSpace(read.Body.String()); !strings.HasPrefix(got, tt.want) || strings.TrimSpace(written.Body.String()) != got {
			t.Errorf("after %s: %s, answered %s", tt.body, got, written.Body)
		}
	}
}

// Earlier plans can be read again.
func TestPastPlans(t *testing.T) {
	h := newHarness(t)
	raise := &pmpb.Command{Op: &pmpb.Command_RaiseFeatureLevel{RaiseFeatureLevel: &pmpb.RaiseFeatureLevel{Level: fsm.PlannerFrom}}}
	if _, err := h.store.Apply(context.Background(), raise); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"oaas-1", "oaas-2"} {
		h.cluster(name, pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY)
	}
	h.must(http.StatusCreated, http.MethodPost, "/api/v1/packages", `{"name":"p","classes":[{"key":"C"}]}`)
	for _, env := range []string{"oaas-1", "oaas-2"} {
		h.must(http.StatusOK, http.MethodPost, "/api/v1/deployments", `{"key":"p.C","package_name":"p","class_key":"C","target_envs":["`+env+`"]}`)
	}
	var list []planEntry
	if err := json.Unmarshal(h.must(http.StatusOK, http.MethodGet, "/api/v1/deployments/p.C/plans", "").Body.Bytes(), &list); err != nil {
		t.Fatal(err)
	}
	if len(list) != 2 || !list[0].Present || list[1].Present || list[0].Clusters[0] != "oaas-2" || list[1].Clusters[0] != "oaas-1" || list[1].Summary == "" {
		t.Fatalf("%+v", list)
	}
	past := h.must(http.StatusOK, http.MethodGet, fmt.Sprint("/api/v1/deployments/p.C/plans/", list[1].Index), "")
	if !strings.Contains(past.Body.String(), `"clusters":["oaas-1"]`) {
		t.Errorf("%s", past.Body)
	}
	for path, status := range map[string]int{"/plans/1": http.StatusNotFound, "/plans/last": http.StatusBadRequest} {
		if w := h.do(http.MethodGet, "/api/v1/deployments/p.C"+path, ""); w.Code != status {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}
