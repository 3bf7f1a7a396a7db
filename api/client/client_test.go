package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"oaas.io/control-plane/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recorder is a server that notes what it is asked.
type recorder struct {
	*httptest.Server
	mu   sync.Mutex
	reqs []string // "METHOD path?query"
	keys []string
	body []string
}

func serve(t *testing.T, h func(n int, w http.ResponseWriter, r *http.Request)) *recorder {
	t.Helper()
	rec := &recorder{}
	rec.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		rec.mu.Lock()
		rec.reqs = append(rec.reqs, r.Method+" "+r.RequestURI)
		rec.keys = append(rec.keys, r.Header.Get("Idempotency-Key"))
		rec.body = append(rec.body, string(body))
		n := len(rec.reqs)
		rec.mu.Unlock()
		h(n, w, r)
	}))
	t.Cleanup(rec.Close)
	return rec
}

func newClient(t *testing.T, o Options) *Client {
	t.Helper()
	o.BackoffMin, o.BackoffMax = time.Millisecond, 2*time.Millisecond
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdle)
	return c
}

func reply(w http.ResponseWriter, status int, body string) {
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

// hangUp ends the connection without an answer.
func hangUp(w http.ResponseWriter) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = conn.Close()
	}
}

// gone is the URL of a server that is not there any more.
func gone() string {
	s := httptest.NewServer(nil)
	defer s.Close()
	return s.URL
}

func TestCalls(t *testing.T) {
	ctx := context.Background()
	pkg := &model.OPackage{Name: "a<b>"}
	for _, tc := range []struct {
		name, answer, want string
		call               func(*Client) (any, error)
		value              any
	}{
		{"escaped name", `{"name":"x"}`, "GET /api/v1/packages/a%2Fb%20c", func(c *Client) (any, error) { return c.Package(ctx, "a/b c") }, &model.OPackage{Name: "x"}},
		{"update", `{"id":"a","status":"updated","message":null}`, "POST /api/v1/packages/a%3Cb%3E", func(c *Client) (any, error) { return c.UpdatePackage(ctx, pkg) }, &Response{ID: "a", Status: "updated"}},
		{"filter", `[]`, "GET /api/v1/deployments?class_key=C&package_name=p", func(c *Client) (any, error) {
			return c.Deployments(ctx, DeploymentFilter{PackageName: "p", ClassKey: "C"})
		}, []model.OClassDeployment{}},
		{"units", `[{"id":"u","env":"e","phase":"Pending","waiting":{"code":"C","message":"m"}}]`, "GET /api/v1/deployments/k/units", func(c *Client) (any, error) { return c.Units(ctx, "k") },
			[]Unit{{ID: "u", Env: "e", Phase: PhasePending, Waiting: &Waiting{Code: "C", Message: "m"}}}},
		{"plan", `{"x": 1}`, "GET /api/v1/deployments/k/plan", func(c *Client) (any, error) { return c.Plan(ctx, "k") }, json.RawMessage(`{"x": 1}`)},
		{"delete", `{"id":"k","message":"m","deleted_envs":["e"]}`, "DELETE /api/v1/deployments/k", func(c *Client) (any, error) { return c.DeleteDeployment(ctx, "k") }, &DeleteResponse{ID: "k", Message: "m", DeletedEnvs: []string{"e"}}},
		{"delete without body", ``, "DELETE /api/v1/packages/p", func(c *Client) (any, error) { return nil, c.DeletePackage(ctx, "p") }, nil},
		{"runtimes", `[]`, "GET /api/v1/class-runtimes?cluster=e&limit=3", func(c *Client) (any, error) { return c.ClassRuntimes(ctx, RuntimeFilter{Env: "e", Limit: 3}) }, []ClassRuntime{}},
		{"env health", `{"cluster_name":"e","status":"Healthy"}`, "GET /api/v1/envs/e/health", func(c *Client) (any, error) { return c.EnvHealth(ctx, "e") }, &EnvHealth{ClusterName: "e", Status: "Healthy"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := serve(t, func(_ int, w http.ResponseWriter, _ *http.Request) { reply(w, 200, tc.answer) })
			got, err := tc.call(newClient(t, Options{Servers: []string{srv.URL + "/"}}))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.value, got); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
			if !slices.Equal(srv.reqs, []string{tc.want}) {
				t.Errorf("requests %v, want %s", srv.reqs, tc.want)
			}
			if isWrite := !strings.HasPrefix(tc.want, "GET"); isWrite != (srv.keys[0] != "") {
				t.Errorf("Idempotency-Key %q of %s", srv.keys[0], tc.want)
			}
			if tc.name == "update" && !strings.HasPrefix(srv.body[0], `{"name":"a<b>",`) {
				t.Errorf("body %s, want the canonical form", srv.body[0])
			}
		})
	}
}

func TestErrors(t *testing.T) {
	for _, tc := range []struct {
		name, body string
		status     int
		want       Error
	}{
		{"problem", `{"title":"t","detail":"d","code":"schema-mismatch","request_id":"r","retryable":false,"path":"a.b","line":2,"column":3,"problems":[{"path":"p","message":"m"}]}`, 422,
			Error{Status: 422, Code: "schema-mismatch", Message: "d", RequestID: "r", Path: "a.b", Line: 2, Column: 3, Problems: []model.Problem{{Path: "p", Message: "m"}}}},
		{"older server", `{"error":"Package not found: x"}`, 404, Error{Status: 404, Code: CodeNotFound, Message: "Package not found: x"}},
		{"text", "Failed to parse", 400, Error{Status: 400, Code: "bad-request", Message: "Failed to parse"}},
		{"nothing", "", 500, Error{Status: 500, Code: "internal-server-error", Message: "Internal Server Error"}},
		{"redirect", "", 302, Error{Status: 302, Code: "found", Message: "Found"}},
		{"unknown outcome is not retried", `{"detail":"d","code":"outcome-unknown","retryable":false}`, 503, Error{Status: 503, Code: "outcome-unknown", Message: "d"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := serve(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "/elsewhere")
				reply(w, tc.status, tc.body)
			})
			_, err := newClient(t, Options{Servers: []string{srv.URL}}).Envs(context.Background())
			var got *Error
			if !errors.As(err, &got) {
				t.Fatalf("error %v, want *Error", err)
			}
			tc.want.Server = srv.URL
			if diff := cmp.Diff(&tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if len(srv.reqs) != 1 {
				t.Errorf("%d requests, want one", len(srv.reqs))
			}
		})
	}
}

// TestTheServerThatAnsweredIsBelieved: a node that is down must not hide what the
// others say, whichever was asked last.
func TestTheServerThatAnsweredIsBelieved(t *testing.T) {
	srv := serve(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		reply(w, 503, `{"code":"unavailable","detail":"the bucket is away","retryable":true}`)
	})
	down := httptest.NewServer(http.NotFoundHandler())
	down.Close()
	for _, servers := range [][]string{{srv.URL, down.URL}, {down.URL, srv.URL}} {
		_, err := newClient(t, Options{Servers: servers, RetryFor: time.Millisecond}).Backups(t.Context())
		var answered *Error
		if !errors.As(err, &answered) || answered.Message != "the bucket is away" {
			t.Errorf("%v", err)
		}
	}
}

func TestRetriesCarryOneKey(t *testing.T) {
	srv := serve(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		switch n {
		case 1:
			reply(w, 503, `{"code":"no-leader","detail":"none","retryable":true}`)
		case 2:
			hangUp(w)
		default:
			reply(w, 200, `{"id":"u","status":"created","message":null}`)
		}
	})
	got, err := newClient(t, Options{Servers: []string{srv.URL}}).Deploy(context.Background(), &model.OClassDeployment{Key: "k", PackageName: "p", ClassKey: "c"})
	if err != nil || got.ID != "u" {
		t.Fatalf("got %+v, %v", got, err)
	}
	if len(srv.keys) != 3 || srv.keys[0] == "" || srv.keys[1] != srv.keys[0] || srv.keys[2] != srv.keys[0] {
		t.Errorf("Idempotency-Keys %q, want the same three times", srv.keys)
	}
	if srv.body[0] != srv.body[2] || srv.body[0] == "" {
		t.Errorf("bodies differ: %q", srv.body)
	}
}

func TestMovesOnToAServerThatAnswersAndStaysThere(t *testing.T) {
	good := serve(t, func(_ int, w http.ResponseWriter, _ *http.Request) { reply(w, 200, `[]`) })
	busy := serve(t, func(_ int, w http.ResponseWriter, _ *http.Request) { reply(w, 503, ``) })
	c := newClient(t, Options{Servers: []string{gone(), busy.URL, good.URL}})
	for range 3 {
		if _, err := c.Members(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if len(busy.reqs) != 1 || len(good.reqs) != 3 {
		t.Errorf("busy server got %d requests, good one %d; want 1 and 3", len(busy.reqs), len(good.reqs))
	}
}

func TestHangingServerLeavesTimeForTheOthers(t *testing.T) {
	release := make(chan struct{})
	hangs := serve(t, func(_ int, _ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	defer close(release)
	good := serve(t, func(_ int, w http.ResponseWriter, _ *http.Request) { reply(w, 200, `[]`) })
	c := newClient(t, Options{Servers: []string{hangs.URL, good.URL}, AttemptTimeout: 50 * time.Millisecond})
	if _, err := c.Envs(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func TestGivesUp(t *testing.T) {
	t.Run("nobody there", func(t *testing.T) {
		c := newClient(t, Options{Servers: []string{gone(), gone()}, RetryFor: 20 * time.Millisecond})
		_, err := c.Envs(context.Background())
		var u *UnreachableError
		if !errors.As(err, &u) || len(u.Servers) != 2 || u.Sent || !IsUnavailable(err) {
			t.Errorf("error %#v, want *UnreachableError for two servers, nothing sent", err)
		}
	})
	t.Run("write with lost answers", func(t *testing.T) {
		srv := serve(t, func(_ int, w http.ResponseWriter, _ *http.Request) { hangUp(w) })
		c := newClient(t, Options{Servers: []string{srv.URL}, RetryFor: -1})
		err := c.DeletePackage(context.Background(), "p")
		var u *UnreachableError
		if !errors.As(err, &u) || !u.Sent || !strings.Contains(err.Error(), "may have taken effect") {
			t.Errorf("error %v, want one that says that the write may have taken effect", err)
		}
	})
	t.Run("busy for too long", func(t *testing.T) {
		srv := serve(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
			reply(w, 503, `{"detail":"busy","retryable":true}`)
		})
		_, err := newClient(t, Options{Servers: []string{srv.URL}, RetryFor: 10 * time.Millisecond}).Envs(context.Background())
		var e *Error
		if !errors.As(err, &e) || e.Message != "busy" || !IsUnavailable(err) {
			t.Errorf("error %v, want the server's last answer", err)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		srv := serve(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
			cancel()
			reply(w, 503, `{"detail":"busy"}`)
		})
		_, err := newClient(t, Options{Servers: []string{srv.URL}}).Envs(ctx)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want context.Canceled", err)
		}
	})
	t.Run("answer too large", func(t *testing.T) {
		srv := serve(t, func(_ int, w http.ResponseWriter, _ *http.Request) { reply(w, 200, `["0123456789"]`) })
		_, err := newClient(t, Options{Servers: []string{srv.URL}, MaxResponseBytes: 10}).Envs(context.Background())
		if err == nil || !strings.Contains(err.Error(), "larger than 10 bytes") {
			t.Errorf("error %v", err)
		}
	})
}

// TestOnceAround: who has another way to go on does not wait for a server that may
// come back.
func TestOnceAround(t *testing.T) {
	noLeader := func(_ int, w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `{"code":"no-leader","detail":"no leader","retryable":true}`)
	}
	one, two := serve(t, noLeader), serve(t, noLeader)
	c := newClient(t, Options{Servers: []string{one.URL, two.URL}, RetryFor: time.Minute})
	if _, err := c.Alarms(OnceAround(t.Context())); !IsUnavailable(err) {
		t.Errorf("%v", err)
	}
	if len(one.reqs) != 1 || len(two.reqs) != 1 {
		t.Errorf("asked %d and %d times", len(one.reqs), len(two.reqs))
	}
}

func TestServerURLs(t *testing.T) {
	for in, want := range map[string]string{
		"localhost:8080": "http://localhost:8080", "https://pm.example/": "https://pm.example", "http://h/base/": "http://h/base",
		"": "", "ftp://h": "", "http://": "", "http://h?x=1": "", "http://[": "",
	} {
		got, err := baseURL(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("baseURL(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	if _, err := New(Options{}); err == nil {
		t.Error("no servers must be refused")
	}
}
