package api

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
)

const change = `{"key":"shop.Cart","package_name":"shop","class_key":"Cart","target_envs":["oaas-1","oaas-2"],"odgm":{"log":"debug"}}`

// whenDeployed runs f once the change is in the state.
func whenDeployed(h *harness, generation uint64, f func()) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			snap := h.store.State().Snapshot()
			if dep := snap.Deployment("shop.Cart"); dep != nil && dep.Generation >= generation {
				f()
				return
			}
			<-snap.WatchAll()
		}
	}()
	return done
}

func runEverywhere(h *harness) {
	h.report("shop.Cart", "oaas-1", oaaspb.DeploymentCondition_RUNNING, "Available")
	h.report("shop.Cart", "oaas-2", oaaspb.DeploymentCondition_RUNNING, "Available")
}

// TestWait: the answer comes when the deployment is available, not before, and
// through a follower as well, which waits itself.
func TestWait(t *testing.T) {
	p := newPeers(t, nil)
	for i, h := range []*harness{p.leader, p.follower} {
		runEverywhere(h)
		body := strings.Replace(change, "debug", []string{"debug", "trace"}[i], 1)
		done := whenDeployed(h, uint64(i+2), func() { runEverywhere(h) })
		w := h.must(http.StatusOK, http.MethodPost, "/api/v1/deployments?wait=60s", body)
		<-done
		want := `{"id":"` + h.unit("shop.Cart", "oaas-1").GetId() + `","status":"available","message":"Deployment is available in all its environments"}`
		if got := w.Body.String(); got != want {
			t.Errorf("%s:\n got %s\nwant %s", h.node.id, got, want)
		}
	}
}

func TestWaitEnds(t *testing.T) {
	h := shop(t)
	h.report("shop.Cart", "oaas-1", oaaspb.DeploymentCondition_RUNNING, "Available")
	h.updateUnit(h.unit("shop.Cart", "oaas-2"), &pmpb.UnitUpdate{Update: &pmpb.UnitUpdate_Waiting{Waiting: &pmpb.Waiting{
		Code: "CLUSTER_UNREACHABLE", Message: "no answer from oaas-2",
	}}})
	w := h.must(http.StatusAccepted, http.MethodPost, "/api/v1/deployments?wait=20ms", shopCart)
	for _, want := range []string{`"status":"created"`, "not available within 20ms", "PENDING", "no answer from oaas-2"} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("lacks %q: %s", want, w.Body)
		}
	}
	if got := w.Result().ContentLength; got != int64(w.Body.Len()) {
		t.Errorf("Content-Length %d, body %d", got, w.Body.Len())
	}
}

// A cluster that cannot be reached has said that all is well, but not now.
func TestWaitForWhatCannotBeReached(t *testing.T) {
	h := shop(t)
	runEverywhere(h)
	h.cluster("oaas-2", pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE)
	w := h.must(http.StatusAccepted, http.MethodPost, "/api/v1/deployments?wait=20ms", shopCart)
	if !strings.Contains(w.Body.String(), "oaas-2: the cluster cannot be reached") {
		t.Errorf("%s", w.Body)
	}
	done := whenDeployed(h, 1, func() { h.cluster("oaas-2", pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY) })
	h.must(http.StatusOK, http.MethodPost, "/api/v1/deployments?wait=60s", shopCart)
	<-done
}

func TestWaitEndsWithTheDeployment(t *testing.T) {
	h := shop(t)
	done := whenDeployed(h, 2, func() { h.must(http.StatusOK, http.MethodDelete, "/api/v1/deployments/shop.Cart", "") })
	w := h.must(http.StatusAccepted, http.MethodPost, "/api/v1/deployments?wait=60s", change)
	<-done
	if !strings.Contains(w.Body.String(), "deleted meanwhile") {
		t.Errorf("%s", w.Body)
	}
}

func TestWaitEndsWithTheServer(t *testing.T) {
	h := shop(t)
	done := whenDeployed(h, 2, h.server.stop)
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "/api/v1/deployments?wait=60s", strings.NewReader(change))
	r.Header.Set("Content-Type", "application/json")
	h.server.Handler().ServeHTTP(w, r)
	<-done
	if w.Code != http.StatusAccepted || !strings.Contains(w.Body.String(), "stopping") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	h.must(http.StatusServiceUnavailable, http.MethodGet, "/readyz", "")
}

// inPart lets a cluster say that old pods serve while what is wished now does not start.
func inPart(h *harness, env, reason string, stalled bool) {
	h.t.Helper()
	h.report("shop.Cart", env, oaaspb.DeploymentCondition_RUNNING, "Available, but degraded")
	u := h.unit("shop.Cart", env)
	rt := proto.CloneOf(u.GetRuntime())
	rt.Conditions = []*oaaspb.RuntimeCondition{
		{Type: "Available", Status: "True"}, {Type: "Ready", Status: "False", Reason: reason},
		{Type: "Degraded", Status: "True", Reason: reason, Message: "no such image"},
	}
	if stalled {
		rt.Conditions = append(rt.Conditions, &oaaspb.RuntimeCondition{Type: "Stalled", Status: "True", Reason: reason})
	}
	h.updateUnit(u, &pmpb.UnitUpdate{Update: &pmpb.UnitUpdate_Runtime{Runtime: rt}})
}

// A deployment that runs with what there was before is not available with what was posted.
func TestWaitForAllOfIt(t *testing.T) {
	for _, tt := range []struct {
		stalled bool
		wait    string
	}{{false, "50ms"}, {true, "60s"}} {
		h := shop(t)
		done := whenDeployed(h, 2, func() {
			inPart(h, "oaas-2", "ImagePullFailed", tt.stalled)
			h.report("shop.Cart", "oaas-1", oaaspb.DeploymentCondition_RUNNING, "Available")
		})
		w := h.must(http.StatusAccepted, http.MethodPost, "/api/v1/deployments?wait="+tt.wait, change)
		<-done
		if !tt.stalled { // the time may be over before the reports
			w = h.must(http.StatusAccepted, http.MethodPost, "/api/v1/deployments?wait="+tt.wait, change)
		}
		if want := "oaas-2: no such image (ImagePullFailed)"; !strings.Contains(w.Body.String(), want) {
			t.Errorf("lacks %q: %s", want, w.Body)
		}
	}
}

func TestUnitThatRunsInPart(t *testing.T) {
	h := shop(t)
	runEverywhere(h)
	inPart(h, "oaas-2", "ImagePullFailed", false)
	body := h.must(http.StatusOK, http.MethodGet, "/api/v1/deployments/shop.Cart/units", "").Body.String()
	for _, want := range []string{`"phase":"Available"`, `"phase":"Degraded"`, `"fault":{"reason":"ImagePullFailed","message":"no such image","final":false}`} {
		if strings.Count(body, want) != 1 {
			t.Errorf("%q is not there once: %s", want, body)
		}
	}
	doc := h.must(http.StatusOK, http.MethodGet, "/api/v1/deployments/shop.Cart", "").Body.String()
	for _, want := range []string{`"condition":"RUNNING"`, `"degraded":{"oaas-2":"ImagePullFailed"}`, `"last_error":"oaas-2: no such image (ImagePullFailed)"`} {
		if !strings.Contains(doc, want) {
			t.Errorf("lacks %q: %s", want, doc)
		}
	}
}

// A deployment tells the availability of its plan, for what it needs.
func TestAvailabilityIsThePlans(t *testing.T) {
	h := shop(t)
	var plan struct{ Achieved float64 }
	var doc struct {
		Status struct{ Availability float64 }
	}
	for path, into := range map[string]any{"/plan": &plan, "": &doc} {
		if err := json.Unmarshal(h.must(http.StatusOK, http.MethodGet, "/api/v1/deployments/shop.Cart"+path, "").Body.Bytes(), into); err != nil {
			t.Fatal(err)
		}
	}
	if plan.Achieved == 0 || doc.Status.Availability != plan.Achieved {
		t.Errorf("the deployment says %v, its plan %v", doc.Status.Availability, plan.Achieved)
	}
}

// Of what is stored in a cluster that cannot be reached nobody knows how it is; where only the
// API server is away the deployment says that what is told may be old.
func TestUnitsOfAClusterThatIsAway(t *testing.T) {
	h := shop(t)
	runEverywhere(h)
	raise := &pmpb.Command{Op: &pmpb.Command_RaiseFeatureLevel{RaiseFeatureLevel: &pmpb.RaiseFeatureLevel{Level: fsm.FailoverFrom}}}
	if res, err := h.store.Apply(t.Context(), raise); err != nil || res.Err != nil {
		t.Fatal(err, res.Err)
	}
	for health, want := range map[pmpb.ClusterHealth][]string{
		pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE:       {`"phase":"Unknown"`, `"unknown":{"last_phase":"Available","since":`, "oaas-2: the cluster cannot be reached", `"degraded":{"oaas-2":"ClusterUnreachable"}`},
		pmpb.ClusterHealth_CLUSTER_HEALTH_FAILOVER_ELIGIBLE: {`"phase":"Unknown"`, `"degraded":{"oaas-2":"ClusterUnreachable"}`},
		pmpb.ClusterHealth_CLUSTER_HEALTH_DEGRADED:          {`"phase":"Available"`, `when the cluster last told, the unit was RUNNING`},
		pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY:           {`"phase":"Available"`},
	} {
		h.cluster("oaas-2", health)
		got := ""
		for _, path := range []string{"/units", ""} {
			got += h.must(http.StatusOK, http.MethodGet, "/api/v1/deployments/shop.Cart"+path, "").Body.String()
		}
		for _, text := range want {
			if !strings.Contains(got, text) {
				t.Errorf("%s: lacks %q: %s", health, text, got)
			}
		}
		if healthy := health == pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY; healthy == strings.Contains(got, "last_error") || healthy && strings.Contains(got, `"unknown"`) {
			t.Errorf("%s: %s", health, got)
		}
	}
}
