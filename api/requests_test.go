package api

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/raftstore"
	"oaas.io/control-plane/registry"
)

// TestBadInput: each fault has its status and a text that says what to change,
// and nothing is stored.
func TestBadInput(t *testing.T) {
	h := newHarness(t, func(h *harness) { h.opts.MaxBodyBytes = 1 << 20 })
	h.cluster("oaas-1", pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY)
	h.must(http.StatusCreated, http.MethodPost, "/api/v1/packages", shopPackage)
	before := h.store.State().Snapshot().Index()
	long := strings.Repeat("x", 64)
	const pkgs, deps, simulate = "/api/v1/packages", "/api/v1/deployments", "/api/v1/plan/simulate"
	tests := []struct {
		name, target, body, contentType string
		status                          int
		code                            registry.Code
		text                            string
	}{
		{"no content type", pkgs, `{"name":"a"}`, "-", 415, codeMediaType, "application/json"},
		{"text", pkgs, `{"name":"a"}`, "text/plain", 415, codeMediaType, "text/plain"},
		{"charset", pkgs, `{"name":"a"}`, "application/json; charset=latin1", 415, codeMediaType, "latin1"},
		{"form", deps, `a=b`, "application/x-www-form-urlencoded", 415, codeMediaType, "form"},
		{"empty", pkgs, " ", "", 400, codeMalformed, "Malformed JSON"},
		{"syntax", pkgs, "{\n  \"name\": \"a\",\n  \"classes\": [}\n}", "", 400, codeMalformed, "line 3"},
		{"trailing", pkgs, `{"name":"a"} {}`, "", 400, codeMalformed, "column 14"},
		{"deep", pkgs, strings.Repeat("[", 1000), "", 400, codeMalformed, "nested"},
		{"missing name", pkgs, `{}`, "", 422, codeSchema, "name"},
		{"null", pkgs, `{"name":null}`, "", 422, codeSchema, "name"},
		{"enum", pkgs, `{"name":"a","functions":[{"key":"f","function_type":"custom"}]}`, "", 422, codeSchema, "functions[0].function_type"},
		{"port", pkgs, `{"name":"a","functions":[{"key":"f","provision_config":{"port":70000}}]}`, "", 422, codeSchema, "port"},
		{"duplicate member", pkgs, `{"name":"a","name":"b"}`, "", 422, codeSchema, "name"},
		{"empty name", pkgs, `{"name":""}`, "", 422, registry.Unprocessable, "name"},
		{"duplicate class", pkgs, `{"name":"a","classes":[{"key":"C"},{"key":"C"}]}`, "", 422, registry.Unprocessable, "C"},
		{"unknown binding", pkgs, `{"name":"a","classes":[{"key":"C","function_bindings":[{"name":"f","function_key":"gone","access_modifier":"PUBLIC"}]}]}`, "", 422, registry.Unprocessable, "gone"},
		{"missing dependency", pkgs, `{"name":"a","dependencies":["gone"]}`, "", 409, registry.FailedPrecondition, "Dependency not found: gone"},
		{"path and body differ", pkgs + "/other", shopPackage, "", 400, registry.InvalidArgument, "shop"},
		{"unknown package", pkgs + "/gone", `{"name":"gone"}`, "", 404, registry.NotFound, "Package not found: gone"},
		{"body over the limit", pkgs, `{"name":"` + strings.Repeat("a", 1<<20) + `"}`, "", 413, registry.TooLarge, "1048576"},
		{"document over the limit", pkgs, `{"name":"a","metadata":{"description":"` + strings.Repeat("a", 600<<10) + `"}}`, "", 413, registry.TooLarge, "524288"},
		{"unknown class", deps, `{"key":"a","package_name":"shop","class_key":"Gone"}`, "", 400, registry.InvalidArgument, "Cart"},
		{"unknown function", deps, `{"key":"a","package_name":"shop","class_key":"Cart","functions":[{"function_key":"gone"}]}`, "", 400, registry.InvalidArgument, "gone"},
		{"unknown environment", deps, `{"key":"a","package_name":"shop","class_key":"Cart","target_envs":["mars"]}`, "", 400, registry.InvalidArgument, "oaas-1"},
		{"availability over 1", deps, `{"key":"a","package_name":"shop","class_key":"Cart","nfr_requirements":{"availability":1.5}}`, "", 422, registry.Unprocessable, "availability"},
		{"wait that is none", deps + "?wait=soon", shopCart, "", 400, registry.InvalidArgument, "wait"},
		{"wait too long", deps + "?wait=24h", shopCart, "", 400, registry.InvalidArgument, "10m"},
		{"dry run that is none", deps + "?dry_run=maybe", shopCart, "", 400, registry.InvalidArgument, "dry_run"},
		{"dry run of a package", pkgs + "?dry_run", shopPackage, "", 400, registry.InvalidArgument, "dry_run"},
		{"dry run in an unknown environment", deps + "?dry_run", `{"key":"a","package_name":"shop","class_key":"Cart","target_envs":["mars"]}`, "", 400, registry.InvalidArgument, "oaas-1"},
		{"empty scenario", simulate, `{}`, "", 400, registry.InvalidArgument, "empty"},
		{"unknown member of a scenario", simulate, `{"loose":["region=eu"]}`, "", 422, codeSchema, "loose"},
		{"selector that is none", simulate, `{"lose":["eu"]}`, "", 400, registry.InvalidArgument, "region=NAME"},
		{"nothing to lose", simulate, `{"lose":["region=mars"]}`, "", 400, registry.InvalidArgument, "mars"},
		{"target over 1", simulate, `{"target":1.5}`, "", 422, registry.Unprocessable, "1.5"},
		{"no room", simulate, `{"target":0.9,"limit":0}`, "", 400, registry.InvalidArgument, "limit"},
		{"unknown deployment", simulate, `{"deployments":["gone"]}`, "", 404, registry.NotFound, "gone"},
		{"name over 63", pkgs, `{"name":"a","classes":[{"key":"` + long + `"}]}`, "", 422, registry.Unprocessable, "63"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var headers []string
			if tt.contentType != "" {
				headers = append(headers, "Content-Type: "+strings.Trim(tt.contentType, "-"))
			}
			w := h.do(http.MethodPost, tt.target, tt.body, headers...)
			p := h.problem(w)
			if w.Code != tt.status || p.Code != tt.code || !strings.Contains(p.Error, tt.text) {
				t.Errorf("got %d %s %q, want %d %s with %q", w.Code, p.Code, p.Error, tt.status, tt.code, tt.text)
			}
		})
	}
	if after := h.store.State().Snapshot().Index(); after != before {
		t.Errorf("bad input reached the log: index %d, was %d", after, before)
	}
}

func TestProblemLocatesTheFault(t *testing.T) {
	h := newHarness(t)
	p := h.problem(h.do(http.MethodPost, "/api/v1/packages", "{\n  \"name\": 7}"))
	if p.Path != "name" || p.Line != 2 || p.Column == 0 {
		t.Errorf("got path %q line %d column %d", p.Path, p.Line, p.Column)
	}
	p = h.problem(h.do(http.MethodPost, "/api/v1/packages", `{"name":"","classes":[{"key":""}]}`))
	if len(p.Problems) < 2 {
		t.Errorf("not all findings are listed: %+v", p.Problems)
	}
}

func TestWhiteSpaceDoesNotCount(t *testing.T) {
	h := newHarness(t)
	h.must(http.StatusCreated, http.MethodPost, "/api/v1/packages", `{"name":`+strings.Repeat(" ", 1<<20)+`"a"}`)
}

func TestBadQueries(t *testing.T) {
	h := newHarness(t)
	for _, target := range []string{
		"packages?limit=-1", "packages?limit=x", "packages?offset=1.5", "packages?disabled=maybe", "packages?a=%zz",
		"packages?consistency=eventual", "packages?max_staleness=5s", "packages?consistency=stale&max_staleness=-5s",
		"packages?at_index=-1", "packages?at_index=1&consistency=stale", "class-runtimes?limit=x", "deployments?offset=x", "topology?a=%zz",
		"packages/%00", "packages/%ff", "packages/" + strings.Repeat("a", 2000),
	} {
		w := h.do(http.MethodGet, "/api/v1/"+target, "")
		if p := h.problem(w); w.Code != http.StatusBadRequest || p.Code != registry.InvalidArgument {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
	}
}

func TestConsistency(t *testing.T) {
	h := shop(t)
	index := h.store.State().Snapshot().Index()
	barriers := 0
	h.store.barrier = func() error { barriers++; return nil }
	tests := []struct {
		query    string
		barriers int
		name     string
	}{
		{"", 1, "linearizable"},
		{"?consistency=linearizable", 1, "linearizable"},
		{"?consistency=stale", 0, "stale"},
		{"?consistency=stale&max_staleness=5s", 0, "stale"},
		{"?consistency=stale&max_staleness=5", 0, "stale"},
		{fmt.Sprintf("?at_index=%d", index), 0, "at-index"},
	}
	for _, tt := range tests {
		barriers = 0
		w := h.must(http.StatusOK, http.MethodGet, "/api/v1/packages"+tt.query, "")
		if barriers != tt.barriers || w.Header().Get("PM-Consistency") != tt.name || w.Header().Get("PM-Index") != formatIndex(index) {
			t.Errorf("%q: %d barriers, %v", tt.query, barriers, w.Header())
		}
	}
	h.store.staleness = 10 * time.Second
	w := h.do(http.MethodGet, "/api/v1/packages?consistency=stale&max_staleness=5s", "")
	if p := h.problem(w); p.Code != registry.Unavailable || !p.Retryable {
		t.Errorf("too stale: %s", w.Body)
	}
}

// TestAtIndexWaits: a read at an index that is still to come waits for it, and
// gives up when its time is over.
func TestAtIndexWaits(t *testing.T) {
	h := newHarness(t, func(h *harness) { h.opts.RequestTimeout = 20 * time.Millisecond })
	w := h.do(http.MethodGet, "/api/v1/packages?at_index=99", "")
	if p := h.problem(w); p.Code != registry.DeadlineExceeded || !p.Retryable || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestAtIndexFromBeforeARecovery: the write that an index belongs to may be one
// that the recovery lost. A log that is far beyond it does not hold it therefore.
func TestAtIndexFromBeforeARecovery(t *testing.T) {
	h := shop(t)
	before := h.store.State().Snapshot().Index()
	h.store.index += raftstore.RecoveryLeap
	after := h.must(http.StatusCreated, http.MethodPost, "/api/v1/packages", `{"name":"later"}`).Header().Get("PM-Index")
	h.must(http.StatusOK, http.MethodGet, "/api/v1/packages?at_index="+after, "")
	for _, lost := range []uint64{before, before + 1, raftstore.RecoveryLeap - 1} {
		w := h.do(http.MethodGet, fmt.Sprintf("/api/v1/packages?at_index=%d", lost), "")
		if p := h.problem(w); w.Code != http.StatusConflict || p.Code != registry.FailedPrecondition || p.Retryable {
			t.Errorf("at_index=%d after a recovery: %d %s", lost, w.Code, w.Body)
		}
	}
}

func TestPreconditions(t *testing.T) {
	h := shop(t)
	const pkg, dep, deps = "/api/v1/packages/shop", "/api/v1/deployments/shop.Cart", "/api/v1/deployments"
	tag := h.must(200, http.MethodGet, pkg, "").Header().Get("ETag")
	if want := etag("13", 13); tag != want {
		t.Fatalf("ETag %s, want %s", tag, want)
	}
	written := h.must(200, http.MethodPut, pkg, shopPackage, "If-Match: "+tag).Header().Get("ETag")
	if now := h.must(200, http.MethodGet, pkg, "").Header().Get("ETag"); now != written || now == tag {
		t.Errorf("ETag after the write: answer %s, read %s, before %s", written, now, tag)
	}
	for _, match := range []string{tag, `"13.999"`, `"nonsense"`, `13.14`, `W/"13.14"`, `"13.0"`, `""`} {
		w := h.do(http.MethodPut, pkg, shopPackage, "If-Match: "+match)
		if p := h.problem(w); w.Code != http.StatusPreconditionFailed || p.Code != registry.PreconditionFailed {
			t.Errorf("If-Match %s: %d %s", match, w.Code, w.Body)
		}
	}
	h.must(http.StatusBadRequest, http.MethodPut, pkg, shopPackage, "If-Match: *")
	h.must(http.StatusBadRequest, http.MethodPut, pkg, shopPackage, `If-None-Match: "13.14"`)
	h.must(http.StatusPreconditionFailed, http.MethodPost, "/api/v1/packages", shopPackage, "If-None-Match: *")
	h.must(http.StatusPreconditionFailed, http.MethodPost, deps, shopCart, "If-None-Match: *")

	depTag := h.must(200, http.MethodGet, dep, "").Header().Get("ETag")
	h.must(http.StatusOK, http.MethodPost, deps, strings.Replace(shopCart, `,"oaas-2"`, "", 1), "If-Match: "+depTag)
	h.must(http.StatusPreconditionFailed, http.MethodDelete, dep, "", "If-Match: "+depTag)
	depTag = h.must(200, http.MethodGet, dep, "").Header().Get("ETag")
	h.must(http.StatusOK, http.MethodDelete, dep, "", "If-Match: "+depTag)
	h.must(http.StatusPreconditionFailed, http.MethodDelete, pkg, "", "If-Match: "+tag)
	h.must(http.StatusNoContent, http.MethodDelete, pkg, "", "If-Match: "+written)
}

// TestIdempotency guards I11: one effect and one answer per key.
func TestIdempotency(t *testing.T) {
	h := shop(t)
	key := "Idempotency-Key: k1"
	first := h.must(http.StatusOK, http.MethodPost, "/api/v1/deployments", shopCart, key)
	index := h.store.State().Snapshot().Index()
	// White space is not part of the request's identity.
	again := h.must(http.StatusOK, http.MethodPost, "/api/v1/deployments", strings.ReplaceAll(shopCart, ",", ", \n"), key)
	if again.Body.String() != first.Body.String() || again.Header().Get("Idempotency-Replayed") != "true" {
		t.Errorf("replay: %v %s, want %s", again.Header(), again.Body, first.Body)
	}
	if now := h.store.State().Snapshot().Index(); now != index {
		t.Errorf("the replay had an effect: index %d, was %d", now, index)
	}
	w := h.do(http.MethodPost, "/api/v1/deployments", strings.Replace(shopCart, "shop.Cart", "other", 1), key)
	if p := h.problem(w); w.Code != http.StatusUnprocessableEntity || p.Code != registry.IdempotencyMismatch {
		t.Errorf("other body: %d %s", w.Code, w.Body)
	}
	w = h.do(http.MethodPost, "/api/v1/deployments", shopCart, "Idempotency-Key: "+strings.Repeat("x", 256))
	if h.problem(w); w.Code != http.StatusBadRequest {
		t.Errorf("long key: %d", w.Code)
	}
	// A deletion is answered the same when it is retried, although nothing is there any more.
	del := h.must(http.StatusOK, http.MethodDelete, "/api/v1/deployments/shop.Cart", "", "Idempotency-Key: k2")
	del2 := h.must(http.StatusOK, http.MethodDelete, "/api/v1/deployments/shop.Cart", "", "Idempotency-Key: k2")
	if del.Body.String() != del2.Body.String() {
		t.Errorf("deletion: %s, then %s", del.Body, del2.Body)
	}
	h.must(http.StatusNoContent, http.MethodDelete, "/api/v1/packages/shop", "", "Idempotency-Key: k3")
	w = h.must(http.StatusNoContent, http.MethodDelete, "/api/v1/packages/shop", "", "Idempotency-Key: k3")
	if w.Body.Len() != 0 {
		t.Errorf("204 has a body: %s", w.Body)
	}
}

func TestOutcomeUnknown(t *testing.T) {
	h := shop(t)
	h.store.apply = func(*pmpb.Command) error { return raftstore.ErrOutcomeUnknown }
	w := h.do(http.MethodPost, "/api/v1/deployments", shopCart)
	if p := h.problem(w); w.Code != http.StatusServiceUnavailable || p.Code != registry.OutcomeUnknown || p.Retryable {
		t.Errorf("without a key: %d %s", w.Code, w.Body)
	}
	w = h.do(http.MethodPost, "/api/v1/deployments", shopCart, "Idempotency-Key: k")
	if p := h.problem(w); p.Code != registry.OutcomeUnknown || !p.Retryable {
		t.Errorf("with a key: %d %s", w.Code, w.Body)
	}
	// Within the hold a request with a key is tried again.
	failures := 2
	h.store.apply = func(*pmpb.Command) error {
		if failures--; failures >= 0 {
			return raftstore.ErrOutcomeUnknown
		}
		return nil
	}
	h.must(http.StatusOK, http.MethodPost, "/api/v1/deployments", shopCart, "Idempotency-Key: k")
}

func TestNoLeader(t *testing.T) {
	h := shop(t)
	h.node.follower = true
	w := h.do(http.MethodPost, "/api/v1/deployments", shopCart)
	if p := h.problem(w); w.Code != http.StatusServiceUnavailable || p.Code != registry.NoLeader || !p.Retryable || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	h.store.barrier = func() error { return raftstore.ErrNoLeader }
	w = h.do(http.MethodGet, "/api/v1/packages", "")
	if p := h.problem(w); p.Code != registry.NoLeader || !p.Retryable {
		t.Errorf("read: %d %s", w.Code, w.Body)
	}
	h.must(http.StatusOK, http.MethodGet, "/api/v1/packages?consistency=stale", "")
	h.must(http.StatusServiceUnavailable, http.MethodGet, "/readyz", "")
	h.must(http.StatusOK, http.MethodGet, "/livez", "")
	golden(t, "health-no-leader", h.do(http.MethodGet, "/health", ""))
}

// TestHeldUntilLeader: a request that finds no leader is held, and succeeds when
// one is elected within the hold.
func TestHeldUntilLeader(t *testing.T) {
	h := shop(t, func(h *harness) { h.opts.HoldForLeader = 30 * time.Second })
	asked := make(chan struct{}, 100)
	h.node.follower = true
	go func() {
		<-asked
		h.node.lead()
	}()
	h.store.apply = nil
	h.node.conn = nil
	h.server.opts.Cluster = &askedNode{node: h.node, asked: asked}
	h.must(http.StatusOK, http.MethodPost, "/api/v1/deployments", shopCart)
}

type askedNode struct {
	*node
	asked chan struct{}
}

func (n *askedNode) IsLeader() bool {
	leads := n.node.IsLeader()
	select {
	case n.asked <- struct{}{}:
	default:
	}
	return leads
}

func TestRequestID(t *testing.T) {
	h := newHarness(t)
	for _, tt := range []struct{ sent, want string }{
		{"abc-123", "abc-123"}, {"with space", ""}, {"new\nline", ""}, {strings.Repeat("x", 129), ""}, {"", ""},
	} {
		w := h.do(http.MethodGet, "/api/v1/packages", "", "X-Request-Id: "+tt.sent)
		got := w.Header().Get("X-Request-Id")
		if tt.want != "" && got != tt.want || tt.want == "" && !strings.HasPrefix(got, "req-") {
			t.Errorf("sent %q: got %q", tt.sent, got)
		}
	}
}

func TestPanicIsAnswered(t *testing.T) {
	var log bytes.Buffer
	h := newHarness(t, func(h *harness) { h.opts.Logger = hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Info}) })
	h.store.barrier = func() error { panic("boom") }
	w := h.do(http.MethodGet, "/api/v1/packages", "")
	if p := h.problem(w); w.Code != http.StatusInternalServerError || strings.Contains(p.Detail, "boom") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for _, want := range []string{"boom", "req-1", "requests_test.go"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q: %s", want, log.String())
		}
	}
}

func TestAccessLogAndMetrics(t *testing.T) {
	var log bytes.Buffer
	h := shop(t, func(h *harness) { h.opts.Logger = hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Info}) })
	h.do(http.MethodGet, "/api/v1/deployments/shop.Cart", "", "X-Request-Id: mine")
	h.do("BREW", "/api/v1/packages", "")
	h.do(http.MethodGet, "/nothing/here", "")
	for _, want := range []string{"method=GET", "route=/api/v1/deployments/{key}", "status=200", "request_id=mine", "deployment=shop.Cart", "duration="} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q: %s", want, log.String())
		}
	}
	text := h.must(http.StatusOK, http.MethodGet, "/metrics", "").Body.String()
	for _, want := range []string{
		`oaas_pm_http_requests_total{method="GET",route="/api/v1/deployments/{key}",status="200"} 1`,
		`oaas_pm_http_requests_total{method="other",route="/api/v1/packages",status="405"} 1`,
		`oaas_pm_http_requests_total{method="GET",route="unmatched",status="404"} 1`,
		`oaas_pm_http_request_duration_seconds_count{method="GET",route="/api/v1/deployments/{key}"} 1`,
		`oaas_pm_http_requests_in_flight 1`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	if strings.Contains(log.String(), "/metrics") {
		t.Error("a scrape is logged at info level")
	}
}

func TestProblemTypesAreComplete(t *testing.T) {
	seen := map[registry.Code]bool{}
	for _, p := range ProblemTypes() {
		if seen[p.Code] || p.Title == "" || p.Status < 400 {
			t.Errorf("bad entry %+v", p)
		}
		seen[p.Code] = true
	}
	for _, code := range []registry.Code{
		registry.InvalidArgument, registry.Unprocessable, registry.NotFound, registry.AlreadyExists, registry.FailedPrecondition,
		registry.PreconditionFailed, registry.Conflict, registry.IdempotencyMismatch, registry.TooLarge, registry.NoLeader,
		registry.OutcomeUnknown, registry.DeadlineExceeded, registry.Unavailable, registry.Internal,
	} {
		if !seen[code] {
			t.Errorf("no problem type for %s", code)
		}
	}
}

// TestStoredDocumentsAreNotWrittenTo: rows of the state are shared by all readers.
func TestStoredDocumentsAreNotWrittenTo(t *testing.T) {
	h := shop(t)
	h.updateUnit(h.unit("shop.Cart", "oaas-1"), &pmpb.UnitUpdate{Update: &pmpb.UnitUpdate_Waiting{Waiting: &pmpb.Waiting{Code: "X", Message: "m", Permanent: true}}})
	h.must(http.StatusOK, http.MethodGet, "/api/v1/deployments/shop.Cart", "")
	h.must(http.StatusOK, http.MethodGet, "/api/v1/classes", "")
	snap := h.store.State().Snapshot()
	if dep := snap.Deployment("shop.Cart"); dep.Doc.Condition != model.ConditionPending || dep.Doc.Status.LastError != nil {
		t.Error("a read changed the stored deployment")
	}
	if snap.Package("shop").Doc.Classes[0].Key != "Cart" {
		t.Error("a read changed the stored package")
	}
}
