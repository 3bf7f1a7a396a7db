package api

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/raftstore"
	"oaas.io/control-plane/registry"
)

// peers are two nodes over one state: what the leader applied is at the follower
// at once. The follower reaches the leader over real gRPC.
type peers struct {
	leader, follower *harness
	address          string
	grpc             *grpc.Server
}

func newPeers(t *testing.T, service func(*harness) pmpb.ForwardServiceServer, with ...func(*harness)) *peers {
	t.Helper()
	p := &peers{leader: shop(t, with...)}
	p.follower = newHarness(t, append(with, func(h *harness) {
		h.store = p.leader.store
		h.node = &node{id: "pm-1", follower: true, leader: "pm-0", contact: 7 * time.Millisecond}
		h.opts.HoldForLeader = 100 * time.Millisecond
	})...)
	if service == nil {
		service = func(h *harness) pmpb.ForwardServiceServer { return NewForwardServer(h.server) }
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.address = ln.Addr().String()
	p.grpc = grpc.NewServer()
	pmpb.RegisterForwardServiceServer(p.grpc, service(p.leader))
	served := make(chan error, 1)
	go func() { served <- p.grpc.Serve(ln) }()
	conn := dial(t, p.address)
	p.follower.node.conn = func() (*grpc.ClientConn, error) { return conn, nil }
	p.follower.node.servers = map[string]*grpc.ClientConn{"pm-0": conn}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		p.grpc.Stop()
		// A test may have stopped it before it served.
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	})
	return p
}

func dial(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// TestForwarded: every write reaches the leader through a follower, and its
// answer comes back as the leader gave it.
func TestForwarded(t *testing.T) {
	p := newPeers(t, nil)
	w := p.follower.must(http.StatusCreated, http.MethodPost, "/api/v1/packages", `{"name": "blog"}`, "X-Request-Id: mine")
	if got, want := w.Body.String(), `{"id":"blog","status":"created","message":"Package created successfully"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for name, want := range map[string]string{
		"PM-Served-By": "pm-0", "PM-Leader": "pm-0", "PM-Last-Contact-Ms": "0", "X-Request-Id": "mine", "Content-Type": "application/json",
		"ETag": etag("15", 15), "PM-Index": "15", "Access-Control-Allow-Origin": "*",
	} {
		if got := w.Header().Values(name); len(got) != 1 || got[0] != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	p.follower.must(http.StatusOK, http.MethodPut, "/api/v1/packages/blog", `{"name":"blog"}`)
	p.follower.must(http.StatusPreconditionFailed, http.MethodPut, "/api/v1/packages/blog", `{"name":"blog"}`, "If-Match: "+etag("15", 15))
	p.follower.must(http.StatusNoContent, http.MethodDelete, "/api/v1/packages/blog", "")
	w = p.follower.do(http.MethodDelete, "/api/v1/packages/blog", "")
	if problem := p.follower.problem(w); w.Code != http.StatusNotFound || problem.Error != "Package not found: blog" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	p.follower.must(http.StatusOK, http.MethodPost, "/api/v1/deployments", shopCart)
	p.follower.must(http.StatusOK, http.MethodDelete, "/api/v1/deployments/shop.Cart", "")
	// A key given at one node is known at the other.
	first := p.follower.must(http.StatusOK, http.MethodPost, "/api/v1/deployments", shopCart, "Idempotency-Key: k")
	again := p.leader.must(http.StatusOK, http.MethodPost, "/api/v1/deployments", shopCart, "Idempotency-Key: k")
	if first.Body.String() != again.Body.String() || again.Header().Get("Idempotency-Replayed") != "true" {
		t.Errorf("replay at the leader: %v %s", again.Header(), again.Body)
	}
	// Reads are the follower's own.
	w = p.follower.must(http.StatusOK, http.MethodGet, "/api/v1/packages", "")
	if w.Header().Get("PM-Served-By") != "pm-1" || w.Header().Get("PM-Last-Contact-Ms") != "7" {
		t.Errorf("read: %v", w.Header())
	}
}

// TestBadInputIsNotForwarded: what is wrong is refused where it arrived.
func TestBadInputIsNotForwarded(t *testing.T) {
	p := newPeers(t, nil)
	p.follower.node.conn = func() (*grpc.ClientConn, error) { t.Error("forwarded"); return nil, errors.New("no") }
	p.follower.must(http.StatusUnsupportedMediaType, http.MethodPost, "/api/v1/packages", shopPackage, "Content-Type: text/plain")
	p.follower.must(http.StatusBadRequest, http.MethodPost, "/api/v1/packages", "{")
	p.follower.must(http.StatusUnprocessableEntity, http.MethodPost, "/api/v1/packages", "{}")
}

// forwardFunc is a leader that does something else than to answer.
type forwardFunc struct {
	pmpb.UnimplementedForwardServiceServer
	f func(context.Context, *pmpb.ForwardRequest) (*pmpb.ForwardResponse, error)
}

func (s forwardFunc) Forward(ctx context.Context, req *pmpb.ForwardRequest) (*pmpb.ForwardResponse, error) {
	return s.f(ctx, req)
}

// TestOneHop: a node that was asked by a peer and does not lead refuses, instead
// of asking a third one; the first node tries again until its hold is over.
func TestOneHop(t *testing.T) {
	calls := 0
	p := newPeers(t, func(h *harness) pmpb.ForwardServiceServer {
		real := NewForwardServer(h.server)
		return forwardFunc{f: func(ctx context.Context, req *pmpb.ForwardRequest) (*pmpb.ForwardResponse, error) {
			calls++
			return real.Forward(ctx, req)
		}}
	})
	p.leader.node.follower = true
	p.leader.node.conn = func() (*grpc.ClientConn, error) { t.Error("second hop"); return nil, errors.New("no") }
	w := p.follower.do(http.MethodDelete, "/api/v1/packages/shop", "")
	if problem := p.follower.problem(w); w.Code != http.StatusServiceUnavailable || problem.Code != registry.NoLeader || !problem.Retryable {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if calls < 2 {
		t.Errorf("%d attempts within the hold", calls)
	}
	if p.leader.store.State().Snapshot().Package("shop") == nil {
		t.Error("a node that does not lead deleted something")
	}
}

// TestElectionDuringForward: the refusing node becomes leader within the hold.
func TestElectionDuringForward(t *testing.T) {
	var leader *node
	p := newPeers(t, func(h *harness) pmpb.ForwardServiceServer {
		real := NewForwardServer(h.server)
		leader = h.node
		return forwardFunc{f: func(ctx context.Context, req *pmpb.ForwardRequest) (*pmpb.ForwardResponse, error) {
			resp, err := real.Forward(ctx, req)
			leader.lead() // for the next attempt
			return resp, err
		}}
	})
	leader.follower = true
	p.follower.server.opts.HoldForLeader = 30 * time.Second
	p.follower.must(http.StatusNoContent, http.MethodDelete, "/api/v1/packages/shop", "")
}

// TestLeaderGoneBeforeSending: nothing was sent, so "nothing was done" is true.
func TestLeaderGoneBeforeSending(t *testing.T) {
	p := newPeers(t, nil)
	p.grpc.Stop()
	w := p.follower.do(http.MethodDelete, "/api/v1/packages/shop", "")
	if problem := p.follower.problem(w); problem.Code != registry.NoLeader || !problem.Retryable || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	p.follower.node.conn = nil
	w = p.follower.do(http.MethodDelete, "/api/v1/packages/shop", "")
	if problem := p.follower.problem(w); problem.Code != registry.NoLeader {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestLeaderDeposedWhileWriting: a leader that lost its office on the way says so,
// and the node that took the request tries again at the next one.
func TestLeaderDeposedWhileWriting(t *testing.T) {
	p := newPeers(t, nil)
	raise := &pmpb.Command{Op: &pmpb.Command_RaiseFeatureLevel{RaiseFeatureLevel: &pmpb.RaiseFeatureLevel{Level: 2}}}
	if res, err := p.leader.store.Apply(t.Context(), raise); err != nil || res.Err != nil {
		t.Fatal(err, res.Err)
	}
	lost := true
	p.leader.store.apply = func(*pmpb.Command) error {
		if lost {
			lost = false
			return raftstore.ErrOutcomeUnknown
		}
		return nil
	}
	p.follower.must(http.StatusOK, http.MethodPost, "/api/v1/deployments", `{"key":"e","package_name":"shop","class_key":"Cart"}`)
	if lost {
		t.Fatal("the fault was not met")
	}
}

// TestLeaderGoneAfterSending: the leader may have done it. The answer says so,
// and with an idempotency key the request is tried again instead.
func TestLeaderGoneAfterSending(t *testing.T) {
	var stop func()
	calls := 0
	p := newPeers(t, func(h *harness) pmpb.ForwardServiceServer {
		real := NewForwardServer(h.server)
		return forwardFunc{f: func(ctx context.Context, req *pmpb.ForwardRequest) (*pmpb.ForwardResponse, error) {
			if calls++; calls > 1 {
				return real.Forward(ctx, req)
			}
			if _, err := real.Forward(ctx, req); err != nil {
				return nil, err
			}
			if stop != nil {
				stop()
			}
			return nil, status.Error(codes.Unavailable, "the connection broke after the write")
		}}
	})
	w := p.follower.do(http.MethodPost, "/api/v1/deployments", `{"key":"a","package_name":"shop","class_key":"Cart"}`)
	if problem := p.follower.problem(w); w.Code != http.StatusServiceUnavailable || problem.Code != registry.OutcomeUnknown || problem.Retryable {
		t.Errorf("without a key: %d %s", w.Code, w.Body)
	}
	calls = 0
	w = p.follower.must(http.StatusOK, http.MethodPost, "/api/v1/deployments", `{"key":"b","package_name":"shop","class_key":"Cart"}`, "Idempotency-Key: k")
	if calls != 2 || w.Header().Get("Idempotency-Replayed") != "true" {
		t.Errorf("with a key: %d calls, %v", calls, w.Header())
	}
	// Once all servers know the nodes' own keys, a client need not give one.
	raise := &pmpb.Command{Op: &pmpb.Command_RaiseFeatureLevel{RaiseFeatureLevel: &pmpb.RaiseFeatureLevel{Level: 2}}}
	if res, err := p.leader.store.Apply(t.Context(), raise); err != nil || res.Err != nil {
		t.Fatal(err, res.Err)
	}
	calls = 0
	w = p.follower.must(http.StatusOK, http.MethodPost, "/api/v1/deployments", `{"key":"d","package_name":"shop","class_key":"Cart"}`, "Pm-Retry-Key: the client's, which means nothing")
	if calls != 2 || w.Header().Get("Idempotency-Replayed") != "" {
		t.Errorf("without a key at level 2: %d calls, %v", calls, w.Header())
	}
	// The client need not know: the answer is that of a write that went well at once.
	read := p.leader.must(http.StatusOK, http.MethodGet, "/api/v1/deployments/d", "")
	if tag := w.Header().Get("ETag"); tag == "" || tag != read.Header().Get("ETag") {
		t.Errorf("the ETag of the retried write is %q, that of the deployment %q", tag, read.Header().Get("ETag"))
	}
	if dep := p.leader.store.State().Snapshot().Deployment("d"); dep.Generation != 1 {
		t.Errorf("the deployment has generation %d: the retry had an effect of its own", dep.Generation)
	}
	if p.leader.store.State().Snapshot().Reply("the client's, which means nothing") != nil {
		t.Error("a client's retry key was taken")
	}
	// The same with a connection that really breaks.
	calls = 0
	stop = func() { go p.grpc.Stop() }
	w = p.follower.do(http.MethodPost, "/api/v1/deployments", `{"key":"c","package_name":"shop","class_key":"Cart"}`)
	if problem := p.follower.problem(w); problem.Code != registry.OutcomeUnknown {
		t.Errorf("broken connection: %d %s", w.Code, w.Body)
	}
}

// TestUnknownStaysUnknown: after an attempt whose outcome is unknown, a later one
// that gets nowhere must not be reported as "nothing was done".
func TestUnknownStaysUnknown(t *testing.T) {
	const dep = `{"key":"b","package_name":"shop","class_key":"Cart"}`
	check := func(t *testing.T, h *harness) {
		t.Helper()
		w := h.do(http.MethodPost, "/api/v1/deployments", dep, "Idempotency-Key: k")
		if problem := h.problem(w); w.Code != http.StatusServiceUnavailable || problem.Code != registry.OutcomeUnknown || !problem.Retryable {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
	// first answers the first attempt after it took effect, and later the others.
	first := func(later func(*harness) (*pmpb.ForwardResponse, error)) func(*harness) pmpb.ForwardServiceServer {
		calls := 0
		return func(h *harness) pmpb.ForwardServiceServer {
			real := NewForwardServer(h.server)
			return forwardFunc{f: func(ctx context.Context, req *pmpb.ForwardRequest) (*pmpb.ForwardResponse, error) {
				if calls++; calls > 1 {
					return later(h)
				}
				if _, err := real.Forward(ctx, req); err != nil {
					return nil, err
				}
				return nil, status.Error(codes.Unavailable, "the connection broke after the write")
			}}
		}
	}
	t.Run("no leader afterwards", func(t *testing.T) {
		p := newPeers(t, first(func(*harness) (*pmpb.ForwardResponse, error) {
			return nil, status.Error(codes.FailedPrecondition, "this node is not the leader")
		}))
		check(t, p.follower)
	})
	t.Run("a leader that cannot decide afterwards", func(t *testing.T) {
		p := newPeers(t, first(func(h *harness) (*pmpb.ForwardResponse, error) {
			w := httptest.NewRecorder()
			h.server.writeProblem(w, httptest.NewRequest(http.MethodPost, "/api/v1/deployments", nil), context.DeadlineExceeded)
			return &pmpb.ForwardResponse{Status: uint32(w.Code), Body: w.Body.Bytes()}, nil
		}))
		check(t, p.follower)
	})
	for _, later := range []error{raftstore.ErrNotLeader, raftstore.ErrShutdown, context.DeadlineExceeded} {
		t.Run("on the leader itself: "+later.Error(), func(t *testing.T) {
			h := shop(t)
			calls := 0
			h.store.apply = func(*pmpb.Command) error {
				if calls++; calls > 1 {
					return later
				}
				return raftstore.ErrOutcomeUnknown
			}
			check(t, h)
		})
	}
}

// TestForwardKeepsTheDeadline: the leader works for no longer than the client's
// node waits.
func TestForwardKeepsTheDeadline(t *testing.T) {
	p := newPeers(t, func(*harness) pmpb.ForwardServiceServer {
		return forwardFunc{f: func(ctx context.Context, _ *pmpb.ForwardRequest) (*pmpb.ForwardResponse, error) {
			if _, bounded := ctx.Deadline(); !bounded {
				t.Error("no deadline arrived")
			}
			<-ctx.Done()
			return nil, ctx.Err()
		}}
	})
	p.follower.server.opts.RequestTimeout = 30 * time.Millisecond
	w := p.follower.do(http.MethodDelete, "/api/v1/packages/shop", "")
	if problem := p.follower.problem(w); problem.Code != registry.OutcomeUnknown {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestForwardServerRefusesOtherRequests(t *testing.T) {
	h := newHarness(t)
	server := NewForwardServer(h.server)
	for _, req := range []*pmpb.ForwardRequest{
		{}, {Method: "GET", Uri: "/api/v1/packages"}, {Method: "POST", Uri: "/api/gateway/x"}, {Method: "POST", Uri: "http://other/api/v1/packages"},
		{Method: "DELETE", Uri: "/metrics"}, {Method: "POST", Uri: "/api/v1/%zz"}, {Method: "CONNECT", Uri: "/api/v1/packages"},
	} {
		if _, err := server.Forward(context.Background(), req); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%v: %v", req, err)
		}
	}
	h.store.barrier = func() error { panic("boom") }
	resp, err := server.Forward(context.Background(), &pmpb.ForwardRequest{Method: "DELETE", Uri: "/api/v1/packages/a", RequestId: "r"})
	if err != nil || resp.GetStatus() != http.StatusInternalServerError {
		t.Errorf("panic: %v %v", resp, err)
	}
}

// TestClientCannotPretendToBePeer: the hop is not taken from anything that a
// client can send.
func TestClientCannotPretendToBePeer(t *testing.T) {
	p := newPeers(t, nil)
	r := httptest.NewRequest(http.MethodDelete, "/api/v1/packages/shop", nil)
	r.Header.Set("Forwarded-By", "pm-0")
	r.Header.Set("X-Forwarded-By", "pm-0")
	w := httptest.NewRecorder()
	p.follower.server.Handler().ServeHTTP(w, r)
	if w.Code != http.StatusNoContent {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// What a client calls itself, or writes into a URL, need not be UTF-8, which the
// messages between nodes have to be.
func TestForwardedTextNeedNotBeUTF8(t *testing.T) {
	p := newPeers(t, nil, operated, func(h *harness) {
		if h.node.id == "pm-0" && h.store.index < 20 {
			noting(h)
		}
	})
	odd := []string{"User-Agent: caf\xe9", headerForwardedFor + ": \xff", "Traceparent: \xfe"}
	if w := p.follower.do(http.MethodPost, "/api/v1/packages?note=\xff", `{"name":"late"}`, odd...); w.Code != http.StatusCreated {
		t.Errorf("forwarded: %d %s", w.Code, w.Body)
	}
	if w := p.follower.do(http.MethodGet, "/api/v1/operator/node?node=pm-0&note=\xff", "", odd...); w.Code != http.StatusOK {
		t.Errorf("relayed: %d %s", w.Code, w.Body)
	}
	for e := range p.leader.store.state.Snapshot().Audit(0) {
		if n := e.GetNote(); n.GetAgent() != "caf\uFFFD" || n.GetAddress() != "\uFFFD via 192.0.2.1:1234" {
			t.Errorf("note %v", n)
		}
		return
	}
	t.Error("nothing was noted")
}
