package api

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
)

// TestPackageShape pins the stored form of the smallest useful package.
func TestPackageShape(t *testing.T) {
	h := newHarness(t)
	w := h.must(http.StatusCreated, http.MethodPost, "/api/v1/packages", shopPackage)
	if got, want := w.Body.String(), `{"id":"shop","status":"created","message":"Package created successfully"}`; got != want {
		t.Errorf("created:\n got %s\nwant %s", got, want)
	}
	want := `{"name":"shop","version":null,"metadata":{"author":null,"description":null,"tags":[]},` +
		`"classes":[{"key":"Cart","description":null,"state_spec":null,"function_bindings":[{"name":"add","function_key":"Cart.add","access_modifier":"PUBLIC","stateless":false,"parameters":[]}]}],` +
		`"functions":[{"key":"Cart.add","function_type":"CUSTOM","description":null,"provision_config":{"container_image":"registry.local/cart:1","port":8080,"max_concurrency":0,"need_http2":false,"cpu_request":null,"memory_request":null,"cpu_limit":null,"memory_limit":null,"min_scale":null,"max_scale":null},"config":{}}],` +
		`"dependencies":[],"deployments":[]}`
	w = h.must(http.StatusOK, http.MethodGet, "/api/v1/packages/shop", "")
	if diff := cmp.Diff(want, w.Body.String()); diff != "" {
		t.Error(diff)
	}
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type is %q", got)
	}
	for _, method := range []string{http.MethodPost, http.MethodPut} {
		w = h.must(http.StatusOK, method, "/api/v1/packages/shop", shopPackage)
		if got, want := w.Body.String(), `{"id":"shop","status":"updated","message":"Package updated successfully"}`; got != want {
			t.Errorf("%s:\n got %s\nwant %s", method, got, want)
		}
	}
	w = h.must(http.StatusNoContent, http.MethodDelete, "/api/v1/packages/shop", "")
	if w.Body.Len() != 0 {
		t.Errorf("204 has a body: %s", w.Body)
	}
}

// TestDeploymentShape pins the answer to a deployment and its enriched form.
func TestDeploymentShape(t *testing.T) {
	h := shop(t)
	w := h.must(http.StatusOK, http.MethodPost, "/api/v1/deployments", shopCart)
	want := `{"id":"` + h.unit("shop.Cart", "oaas-1").GetId() + `","status":"created","message":"Deployment created successfully"}`
	if got := w.Body.String(); got != want {
		t.Errorf("deployed:\n got %s\nwant %s", got, want)
	}
	var doc map[string]json.RawMessage
	w = h.must(http.StatusOK, http.MethodGet, "/api/v1/deployments/shop.Cart", "")
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"key": `"shop.Cart"`, "package_name": `"shop"`, "class_key": `"Cart"`, "target_envs": `["oaas-1","oaas-2"]`,
		"nfr_requirements": `{"min_throughput_rps":null,"availability":null,"cpu_utilization_target":null}`,
		"condition":        `"PENDING"`,
	} {
		if got := string(doc[key]); got != want {
			t.Errorf("%s = %s, want %s", key, got, want)
		}
	}
	var odgm struct {
		Collections  []string            `json:"collections"`
		ReplicaCount int                 `json:"replica_count"`
		EnvNodeIDs   map[string][]uint64 `json:"env_node_ids"`
		Log          string              `json:"log"`
	}
	if err := json.Unmarshal(doc["odgm"], &odgm); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(odgm.Collections, []string{"shop.Cart"}) || odgm.ReplicaCount != 2 || len(odgm.EnvNodeIDs) != 2 || odgm.Log != "info" {
		t.Errorf("odgm = %s", doc["odgm"])
	}
	if !strings.HasPrefix(string(doc["status"]), `{"replication_factor":2,"selected_envs":["oaas-1","oaas-2"],"achieved_quorum_availability":0.98`) {
		t.Errorf("status = %s", doc["status"])
	}
	w = h.must(http.StatusOK, http.MethodDelete, "/api/v1/deployments/shop.Cart", "")
	if got, want := w.Body.String(), `{"message":"Deployment deleted across environments","id":"shop.Cart","deleted_envs":["oaas-1","oaas-2"]}`; got != want {
		t.Errorf("deleted:\n got %s\nwant %s", got, want)
	}
}

// TestGolden walks through the life of a deployment and pins every answer.
func TestGolden(t *testing.T) {
	h := shop(t)
	get := func(name, target string) {
		t.Helper()
		golden(t, name, h.do(http.MethodGet, target, ""))
	}
	get("packages", "/api/v1/packages")
	get("package", "/api/v1/packages/shop")
	get("classes", "/api/v1/classes")
	get("functions", "/api/v1/functions")
	get("deployment-pending", "/api/v1/deployments/shop.Cart")
	get("class-runtimes-none", "/api/v1/class-runtimes")
	get("status-pending", "/api/v1/deployment-status/"+h.unit("shop.Cart", "oaas-1").GetId())

	h.report("shop.Cart", "oaas-1", oaaspb.DeploymentCondition_RUNNING, "Available")
	h.updateUnit(h.unit("shop.Cart", "oaas-2"), &pmpb.UnitUpdate{Update: &pmpb.UnitUpdate_Waiting{Waiting: &pmpb.Waiting{
		Code: "CLUSTER_UNREACHABLE", Message: "cluster oaas-2 does not answer",
	}}})
	h.cluster("oaas-2", pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE)
	get("deployments-waiting", "/api/v1/deployments")
	get("units-waiting", "/api/v1/deployments/shop.Cart/units")
	get("env-mappings", "/api/v1/deployments/shop.Cart/env-mappings")
	get("cluster-mappings", "/api/v1/deployments/shop.Cart/cluster-mappings")
	get("envs", "/api/v1/envs")
	get("envs-health", "/api/v1/envs/health")
	get("env-health", "/api/v1/envs/oaas-2/health")

	h.cluster("oaas-2", pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY)
	h.report("shop.Cart", "oaas-2", oaaspb.DeploymentCondition_DOWN, "Degraded (ImagePullBackOff)")
	get("deployment-degraded", "/api/v1/deployments/shop.Cart")
	get("class-runtimes", "/api/v1/class-runtimes")
	get("class-runtime", "/api/v1/class-runtimes/"+h.unit("shop.Cart", "oaas-2").GetId())
	get("status-running", "/api/v1/deployment-status/"+h.unit("shop.Cart", "oaas-1").GetId())
	get("topology", "/api/v1/topology?source=deployments")
	get("members", "/api/v1/members")
	get("health", "/health")
	get("livez", "/livez")
	get("readyz", "/readyz")

	h.must(http.StatusOK, http.MethodDelete, "/api/v1/deployments/shop.Cart", "")
	get("deletions", "/api/v1/deletions")
	get("deployment-gone", "/api/v1/deployments/shop.Cart")
}

// TestTexts pins the texts that clients show or compare.
func TestTexts(t *testing.T) {
	h := shop(t)
	unit := h.unit("shop.Cart", "oaas-1").GetId()
	tests := []struct {
		method, target, body string
		status               int
		code                 registry.Code
		text                 string
	}{
		{"GET", "/api/v1/packages/none", "", 404, registry.NotFound, "Package not found: none"},
		{"DELETE", "/api/v1/packages/none", "", 404, registry.NotFound, "Package not found: none"},
		{"POST", "/api/v1/packages", shopPackage, 409, registry.AlreadyExists, "Package already exists: shop"},
		{"GET", "/api/v1/deployments/a%2Fb", "", 404, registry.NotFound, "Deployment not found: a/b"},
		{"DELETE", "/api/v1/deployments/none", "", 404, registry.NotFound, "Deployment not found: none"},
		{"GET", "/api/v1/deployments/none/units", "", 404, registry.NotFound, "Deployment not found: none"},
		{"GET", "/api/v1/deployments/none/plan", "", 404, registry.NotFound, "Deployment not found: none"},
		{"POST", "/api/v1/deployments", `{"key":"a","package_name":"none","class_key":"C"}`, 404, registry.NotFound, "Package not found: none"},
		{"GET", "/api/v1/class-runtimes/none", "", 404, registry.NotFound, "Class runtime not found"},
		{"GET", "/api/v1/class-runtimes/" + unit, "", 404, registry.NotFound, "Class runtime not found"},
		{"GET", "/api/v1/class-runtimes/x?env=mars", "", 400, registry.InvalidArgument, "Invalid env: mars"},
		{"GET", "/api/v1/deployment-status/none", "", 404, registry.NotFound, "Deployment status not found"},
		{"GET", "/api/v1/deployment-status/" + unit + "?cluster=oaas-2", "", 404, registry.NotFound, "Deployment status not found"},
		{"GET", "/api/v1/envs/mars/health", "", 404, registry.NotFound, "Cluster not found: mars"},
		{"GET", "/api/v1/artifacts", "", 503, codeNotConfigured, "Script service not configured"},
		{"GET", "/api/v1/artifacts/x", "", 503, codeNotConfigured, "Artifact store not configured"},
		{"POST", "/api/v1/scripts/build", `{}`, 503, codeNotConfigured, "Script service not configured"},
		{"GET", "/api/v1/scripts/a/b", "", 503, codeNotConfigured, "Script service not configured"},
		{"GET", "/api/gateway/api/class/a/0/objects", "", 503, codeNotConfigured, "Gateway proxy not configured. Set GATEWAY_URL environment variable."},
	}
	for _, tt := range tests {
		t.Run(tt.method+" "+tt.target, func(t *testing.T) {
			w := h.do(tt.method, tt.target, tt.body)
			p := h.problem(w)
			if w.Code != tt.status || p.Code != tt.code || p.Error != tt.text {
				t.Errorf("got %d %s %q, want %d %s %q", w.Code, p.Code, p.Error, tt.status, tt.code, tt.text)
			}
		})
	}
}

// TestPlan: the plan is passed on as the scheduler wrote it.
func TestPlan(t *testing.T) {
	h := shop(t)
	w := h.must(http.StatusOK, http.MethodGet, "/api/v1/deployments/shop.Cart/plan", "")
	plan := h.store.State().Snapshot().Plan("shop.Cart")
	if w.Body.String() != string(plan.Document) {
		t.Errorf("got %s\nwant %s", w.Body, plan.Document)
	}
	if got, want := w.Header().Get("ETag"), etag(plan.DeploymentUID, plan.ModifyIndex); got != want {
		t.Errorf("ETag %s, want %s", got, want)
	}
}

func TestFilters(t *testing.T) {
	h := shop(t)
	h.must(http.StatusCreated, http.MethodPost, "/api/v1/packages",
		`{"name":"blog","metadata":{"tags":["web","demo"]},"classes":[{"key":"Post"}],"functions":[{"key":"Post.render"}]}`)
	h.must(http.StatusOK, http.MethodPost, "/api/v1/deployments", `{"key":"second","package_name":"shop","class_key":"Cart","target_envs":["oaas-1"]}`)
	h.report("shop.Cart", "oaas-1", oaaspb.DeploymentCondition_RUNNING, "Available")
	h.report("shop.Cart", "oaas-2", oaaspb.DeploymentCondition_DOWN, "Degraded")
	h.report("second", "oaas-1", oaaspb.DeploymentCondition_RUNNING, "Available")
	tests := []struct {
		target string
		want   int
	}{
		{"packages", 2}, {"packages?name_pattern=lo", 1}, {"packages?tags=web", 1}, {"packages?tags=web,demo", 1},
		{"packages?tags=web&tags=other", 0}, {"packages?disabled=true", 2}, {"packages?limit=1", 1}, {"packages?offset=1&limit=5", 1},
		{"packages?offset=9", 0}, {"packages?limit=0", 0}, {"packages?unknown=1", 2},
		{"classes", 2}, {"classes?filter=shop.", 1}, {"functions?filter=render", 1}, {"functions?filter=nothing", 0},
		{"deployments", 2}, {"deployments?package_name=shop", 2}, {"deployments?package_name=blog", 0}, {"deployments?class_key=Cart", 2},
		{"deployments?target_env=oaas-2", 1}, {"deployments?target_cluster=oaas-2", 1}, {"deployments?limit=1&offset=1", 1},
		{"class-runtimes", 3}, {"class-runtimes?cluster=oaas-1", 2}, {"class-runtimes?env=oaas-2", 1}, {"class-runtimes?cluster=mars", 0},
		{"class-runtimes?status=Available", 2}, {"class-runtimes?status=down", 1}, {"class-runtimes?status=RUNNING", 2},
		{"class-runtimes?class_key=Cart", 3}, {"class-runtimes?class_key=shop.Cart", 3}, {"class-runtimes?class_key=art", 0},
		{"class-runtimes?package_name=shop", 3}, {"class-runtimes?package_name=blog", 0}, {"class-runtimes?environment=oaas-1", 2},
		{"class-runtimes?environment=default", 3}, {"class-runtimes?limit=2", 2}, {"class-runtimes?limit=2&offset=2", 1},
	}
	for _, tt := range tests {
		t.Run(tt.target, func(t *testing.T) {
			var list []json.RawMessage
			w := h.must(http.StatusOK, http.MethodGet, "/api/v1/"+tt.target, "")
			if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil {
				t.Fatal(err)
			}
			if len(list) != tt.want {
				t.Errorf("%d entries, want %d: %s", len(list), tt.want, w.Body)
			}
		})
	}
}

// TestPagesAreComplete guards against pages that overlap or leave gaps.
func TestPagesAreComplete(t *testing.T) {
	h := shop(t)
	h.report("shop.Cart", "oaas-1", oaaspb.DeploymentCondition_RUNNING, "Available")
	h.report("shop.Cart", "oaas-2", oaaspb.DeploymentCondition_RUNNING, "Available")
	seen := map[string]bool{}
	for _, offset := range []string{"0", "1"} {
		var list []classRuntime
		w := h.must(http.StatusOK, http.MethodGet, "/api/v1/class-runtimes?limit=1&offset="+offset, "")
		if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil {
			t.Fatal(err)
		}
		seen[list[0].ID] = true
	}
	if len(seen) != 2 {
		t.Errorf("two pages of one show %d runtimes", len(seen))
	}
}

func TestMethods(t *testing.T) {
	h := newHarness(t)
	for _, rt := range h.server.Routes() {
		target := strings.NewReplacer("{", "", "}", "").Replace(rt.Path)
		w := h.do("PURGE", target, "")
		if p := h.problem(w); w.Code != http.StatusMethodNotAllowed || p.Code != codeMethod {
			t.Errorf("PURGE %s: %d", target, w.Code)
		}
		if got, want := w.Header().Get("Allow"), strings.Join(rt.Methods, ", "); got != want {
			t.Errorf("Allow of %s is %q, want %q", target, got, want)
		}
		w = h.do(http.MethodOptions, target, "")
		if w.Code != http.StatusOK || w.Header().Get("Access-Control-Allow-Methods") != "*" {
			t.Errorf("OPTIONS %s: %d %v", target, w.Code, w.Header())
		}
	}
	for _, target := range []string{"/api/v1/packages", "/health", "/metrics"} {
		if w := h.do(http.MethodHead, target, ""); w.Code != http.StatusOK {
			t.Errorf("HEAD %s: %d", target, w.Code)
		}
	}
	for _, target := range []string{"/api/v1/packages/", "/api/v1/nothing", "/api/v2/packages", "/nothing", "//", "/api/v1//packages"} {
		w := h.do(http.MethodGet, target, "")
		if h.problem(w); w.Code != http.StatusNotFound {
			t.Errorf("GET %s: %d", target, w.Code)
		}
	}
}

func TestTopologyKeepsEqualClassesApart(t *testing.T) {
	h := shop(t)
	h.must(http.StatusCreated, http.MethodPost, "/api/v1/packages", strings.Replace(shopPackage, `"shop"`, `"store"`, 1))
	h.must(http.StatusOK, http.MethodPost, "/api/v1/deployments", `{"key":"x","package_name":"store","class_key":"Cart","target_envs":["oaas-1"]}`)
	h.must(http.StatusOK, http.MethodPost, "/api/v1/deployments", `{"key":"y","package_name":"store","class_key":"Cart","target_envs":["oaas-2"]}`)
	var got topologySnapshot
	w := h.must(http.StatusOK, http.MethodGet, "/api/v1/topology", "")
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	ids := map[string]int{}
	for _, n := range got.Nodes {
		ids[n.ID]++
	}
	want := map[string]int{
		"package::shop": 1, "package::store": 1, "class::shop.Cart": 1, "class::store.Cart": 1,
		"function::shop.Cart::Cart.add": 1, "function::store.Cart::Cart.add": 1, "env::oaas-1": 1, "env::oaas-2": 1,
	}
	if diff := cmp.Diff(want, ids); diff != "" {
		t.Error(diff)
	}
	w = h.do(http.MethodGet, "/api/v1/topology?source=zenoh", "")
	if h.problem(w); w.Code != http.StatusNotImplemented {
		t.Errorf("zenoh: %d", w.Code)
	}
}
