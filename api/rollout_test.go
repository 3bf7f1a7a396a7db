package api

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
)

// cartWith is the deployment of the shop with an image, in waves.
func cartWith(image, strategy string) string {
	return `{"key":"shop.Cart","package_name":"shop","class_key":"Cart","target_envs":["oaas-1","oaas-2"],"rollout":` + strategy +
		`,"functions":[{"function_key":"Cart.add","provision_config":{"container_image":"` + image + `"}}]}`
}

const byHand = `{"canary":1,"min_healthy_time":"0s","on_failure":"rollback"}`

func (h *harness) raise(level uint32) {
	h.t.Helper()
	raise := &pmpb.Command{Op: &pmpb.Command_RaiseFeatureLevel{RaiseFeatureLevel: &pmpb.RaiseFeatureLevel{Level: level}}}
	if res, err := h.store.Apply(context.Background(), raise); err != nil || res.Err != nil {
		h.t.Fatal(err, res.Err)
	}
}

// advance lets the leader take all steps that can be taken now.
func (h *harness) advance() {
	h.t.Helper()
	for {
		got, err := h.reg.AdvanceRollout(context.Background(), 3, "shop.Cart", time.Time{})
		if err != nil {
			h.t.Fatal(err)
		}
		if !got.Stepped {
			return
		}
	}
}

// rolling is a shop whose cart is on its way from one image to another: the canary has it.
func rolling(t testing.TB) *harness {
	t.Helper()
	h := newHarness(t)
	h.raise(fsm.RolloutFrom)
	h.cluster("oaas-1", pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY)
	h.cluster("oaas-2", pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY)
	h.must(http.StatusCreated, http.MethodPost, "/api/v1/packages", shopPackage)
	h.must(http.StatusOK, http.MethodPost, "/api/v1/deployments", cartWith("cart:1", byHand), "User-Agent: test/1")
	for _, env := range []string{"oaas-1", "oaas-2"} {
		h.report("shop.Cart", env, oaaspb.DeploymentCondition_RUNNING, "ready")
	}
	h.must(http.StatusOK, http.MethodPost, "/api/v1/deployments", cartWith("cart:2", byHand), "User-Agent: test/2")
	h.advance()
	return h
}

const cartPath = "/api/v1/deployments/shop.Cart"

func TestRolloutRoutes(t *testing.T) {
	h := rolling(t)
	golden(t, "rollout-progressing", h.must(http.StatusOK, http.MethodGet, cartPath+"/rollout", ""))
	h.must(http.StatusOK, http.MethodPost, cartPath+"/rollout/pause", "")
	if got := h.must(http.StatusOK, http.MethodPost, cartPath+"/rollout/pause", "").Body.String(); !strings.Contains(got, `"phase":"Paused"`) {
		t.Errorf("paused twice: %s", got)
	}
	golden(t, "rollout-paused", h.must(http.StatusOK, http.MethodGet, cartPath+"/rollout", ""))
	h.must(http.StatusOK, http.MethodPost, cartPath+"/rollout/resume", "")
	h.report("shop.Cart", "oaas-1", oaaspb.DeploymentCondition_RUNNING, "ready")
	h.advance()
	h.report("shop.Cart", "oaas-2", oaaspb.DeploymentCondition_RUNNING, "ready")
	h.advance()
	golden(t, "rollout-complete", h.must(http.StatusOK, http.MethodGet, cartPath+"/rollout", ""))
	if p := h.problem(h.do(http.MethodPost, cartPath+"/rollout/abort", "")); p.Status != http.StatusConflict || p.Code != registry.FailedPrecondition {
		t.Errorf("aborted when it is complete: %+v", p)
	}
	back := h.must(http.StatusOK, http.MethodPost, cartPath+"/rollback", `{"revision":1}`)
	if got, want := back.Body.String(), `{"id":"shop.Cart","phase":"Progressing","revision":3,"message":"Deployment goes back"}`; got != want {
		t.Errorf("rollback answers %s, want %s", got, want)
	}
	h.advance()
	h.must(http.StatusOK, http.MethodPost, cartPath+"/rollout/abort", "")
	h.advance()
	h.report("shop.Cart", "oaas-1", oaaspb.DeploymentCondition_RUNNING, "ready")
	h.advance()
	golden(t, "revisions", h.must(http.StatusOK, http.MethodGet, cartPath+"/revisions", ""))
	golden(t, "events", h.must(http.StatusOK, http.MethodGet, cartPath+"/events", ""))
	golden(t, "rollout-rolled-back", h.must(http.StatusOK, http.MethodGet, cartPath+"/rollout", ""))

	var audit []auditEntry
	if err := json.Unmarshal(h.must(http.StatusOK, http.MethodGet, "/api/v1/operator/audit?object=shop.Cart", "").Body.Bytes(), &audit); err != nil {
		t.Fatal(err)
	}
	var actions []string
	for _, e := range audit {
		actions = append(actions, e.Action+" "+e.Detail)
	}
	want := "rollout.abort revision 3|deployment.rollback from revision 2 to 1|rollout.resume revision 2|rollout.pause revision 2|" +
		"deployment.update envs: oaas-1 oaas-2|deployment.create envs: oaas-1 oaas-2"
	if got := strings.Join(actions, "|"); got != want {
		t.Errorf("audit has %s, want %s", got, want)
	}
}

func TestRolloutThatFails(t *testing.T) {
	h := rolling(t)
	u := h.unit("shop.Cart", "oaas-1")
	h.updateUnit(u, &pmpb.UnitUpdate{Update: &pmpb.UnitUpdate_Waiting{Waiting: &pmpb.Waiting{
		Code: "REFUSED", Message: "no such template", Permanent: true, Since: timestamppb.New(epoch),
	}}})
	h.advance()
	golden(t, "rollout-rolling-back", h.must(http.StatusOK, http.MethodGet, cartPath+"/rollout", ""))
	body := h.must(http.StatusOK, http.MethodGet, cartPath, "").Body.String()
	if !strings.Contains(body, `"last_error":"a rollout is being taken back: oaas-1 refused it: REFUSED: no such template"`) || !strings.Contains(body, `"container_image":"cart:1"`) {
		t.Errorf("the deployment is %s", body)
	}
}

// Without a rollout the environments are told all the same.
func TestRolloutOfADeploymentWithoutOne(t *testing.T) {
	h := shop(t)
	h.report("shop.Cart", "oaas-1", oaaspb.DeploymentCondition_RUNNING, "ready")
	golden(t, "rollout-none", h.must(http.StatusOK, http.MethodGet, cartPath+"/rollout", ""))
	if got := h.must(http.StatusOK, http.MethodGet, cartPath+"/revisions", "").Body.String(); !strings.HasPrefix(got, `[{"revision":1,"present":true,"time":null,`) {
		t.Errorf("revisions are %s", got)
	}
	if got := h.must(http.StatusOK, http.MethodGet, cartPath+"/events", "").Body.String(); got != "[]" {
		t.Errorf("events are %s", got)
	}
	for path, status := range map[string]int{
		"/rollout/pause": http.StatusConflict, "/rollout/resume": http.StatusConflict, "/rollout/abort": http.StatusConflict, "/rollback": http.StatusConflict,
	} {
		h.problem(h.must(status, http.MethodPost, cartPath+path, ""))
	}
}

func TestRolloutRequestsThatMakeNoSense(t *testing.T) {
	h := rolling(t)
	before := h.store.State().Snapshot().Index()
	const none = "/api/v1/deployments/none"
	for _, tt := range []struct {
		method, target, body string
		status               int
	}{
		{"GET", none + "/rollout", "", 404}, {"GET", none + "/revisions", "", 404}, {"GET", none + "/events", "", 404},
		{"POST", none + "/rollout/pause", "", 404}, {"POST", none + "/rollout/resume", "", 404}, {"POST", none + "/rollout/abort", "", 404},
		{"POST", none + "/rollback", "", 404}, {"POST", cartPath + "/rollback", `{"revision":99}`, 404},
		{"POST", cartPath + "/rollback", `{"revision":2}`, 409}, {"POST", cartPath + "/rollback", `{"revision":-1}`, 422},
		{"POST", cartPath + "/rollback", `{"revison":1}`, 422}, {"POST", cartPath + "/rollback", `{`, 400},
		{"POST", cartPath + "/rollback?dry_run", `{}`, 400}, {"POST", cartPath + "/rollout/pause?dry_run", "", 400},
		{"PUT", cartPath + "/rollout", "", 405}, {"GET", cartPath + "/rollback", "", 405},
		{"GET", cartPath + "/events?limit=0", "", 400}, {"GET", cartPath + "/events?limit=1001", "", 400}, {"GET", cartPath + "/events?limit=x", "", 400},
		{"POST", "/api/v1/deployments", cartWith("cart:3", `{"canary":"1000%"}`), 422},
		{"POST", "/api/v1/deployments", cartWith("cart:3", `{"canary":1,"canaries":2}`), 422},
		{"POST", "/api/v1/deployments", cartWith("cart:3", `{"progress_deadline":"1s"}`), 422},
	} {
		w := h.do(tt.method, tt.target, tt.body)
		h.problem(w)
		if w.Code != tt.status {
			t.Errorf("%s %s %s: %d, want %d: %s", tt.method, tt.target, tt.body, w.Code, tt.status, w.Body)
		}
	}
	if after := h.store.State().Snapshot().Index(); after != before {
		t.Errorf("they have taken %d commands", after-before)
	}
}

// A retried pause has one effect and one answer.
func TestRolloutRequestsAreIdempotent(t *testing.T) {
	h := rolling(t)
	first := h.must(http.StatusOK, http.MethodPost, cartPath+"/rollback", `{}`, "Idempotency-Key: k1")
	again := h.must(http.StatusOK, http.MethodPost, cartPath+"/rollback", `{}`, "Idempotency-Key: k1")
	if again.Header().Get("Idempotency-Replayed") != "true" || again.Body.String() != first.Body.String() {
		t.Errorf("again: %v %s, first %s", again.Header(), again.Body, first.Body)
	}
	h.problem(h.must(http.StatusPreconditionFailed, http.MethodPost, cartPath+"/rollback", `{"revision":2}`, `If-Match: "x-1"`))
}

// Who asks to go back while that is under way is told so.
func TestRollbackTwice(t *testing.T) {
	h := rolling(t)
	h.must(http.StatusOK, http.MethodPost, cartPath+"/rollback", `{}`)
	if p := h.problem(h.do(http.MethodPost, cartPath+"/rollback", `{}`)); p.Code != registry.FailedPrecondition {
		t.Errorf("again: %+v", p)
	}
}

// The outages of clusters are told among the events, from the time of the deployment on.
func TestEventsTellOutages(t *testing.T) {
	h := rolling(t)
	outage := func(start, end time.Duration, planned bool) *pmpb.Outage {
		return &pmpb.Outage{Start: timestamppb.New(epoch.Add(start)), End: timestamppb.New(epoch.Add(end)), Planned: planned}
	}
	err := h.reg.PutCluster(context.Background(), 0, "oaas-2", func(row *pmpb.Cluster) error {
		row.ObservedSince = timestamppb.New(epoch.Add(-time.Hour))
		row.Outages = []*pmpb.Outage{outage(-time.Hour, -time.Minute, false), outage(time.Second, 2*time.Second, true), {Start: timestamppb.New(epoch.Add(3 * time.Second))}}
		row.HealthMessage = "no answer"
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var events []timelineEvent
	raw := h.must(http.StatusOK, http.MethodGet, cartPath+"/events?env=oaas-2&limit=3", "").Body.Bytes()
	if err := json.Unmarshal(raw, &events); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range events {
		got = append(got, e.Type+" "+e.Env+" "+e.Reason+e.Message)
	}
	if want := "ClusterUnhealthy oaas-2 Planned|ClusterHealthy oaas-2 |ClusterUnhealthy oaas-2 no answer"; strings.Join(got, "|") != want {
		t.Errorf("events are %q, want %q", got, want)
	}
	h.must(http.StatusOK, http.MethodDelete, cartPath, "")
	if got := h.must(http.StatusOK, http.MethodGet, cartPath+"/events?limit=9", "").Body.String(); !strings.Contains(got, "DeletionRequested") {
		t.Errorf("the end of the deployment is not told: %s", got)
	}
}

// Who waits for a deployment waits for all of its waves, and not for what is taken back.
func TestWaitForARollout(t *testing.T) {
	h := rolling(t)
	type result struct {
		code int
		body string
	}
	post := func(image string) chan result {
		out := make(chan result, 1)
		go func() {
			w := h.do(http.MethodPost, "/api/v1/deployments?wait=60s", cartWith(image, byHand))
			out <- result{w.Code, w.Body.String()}
		}()
		return out
	}
	arrived := func(revision uint64) {
		t.Helper()
		for {
			snap := h.store.State().Snapshot()
			changed := snap.WatchAll()
			if snap.Deployment("shop.Cart").RevisionNumber() == revision {
				return
			}
			<-changed
		}
	}
	waiting := post("cart:3")
	arrived(3)
	for range 3 {
		h.advance()
		for _, env := range []string{"oaas-1", "oaas-2"} {
			h.report("shop.Cart", env, oaaspb.DeploymentCondition_RUNNING, "ready")
		}
	}
	h.advance()
	if got := <-waiting; got.code != http.StatusOK || !strings.Contains(got.body, `"available"`) {
		t.Errorf("after all waves: %+v", got)
	}
	waiting = post("cart:4")
	arrived(4)
	h.advance()
	h.must(http.StatusOK, http.MethodPost, cartPath+"/rollout/abort", "")
	if got := <-waiting; got.code != http.StatusAccepted || !strings.Contains(got.body, "it was taken back: Aborted") {
		t.Errorf("after it was aborted: %+v", got)
	}
}
