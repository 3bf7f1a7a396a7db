package api

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
)

// relayed is a handler that a test reaches through a relay, at both placements.
func relayed(handle endpoint) func(*harness) {
	m := methods{http.MethodGet: handle, http.MethodPost: handle}
	return func(h *harness) {
		h.opts.moreRoutes = []route{
			{path: "/api/v1/operator/test", at: onNode, stream: true, methods: m},
			{path: "/api/v1/operator/test-leader", at: onTheLeader, stream: true, methods: m},
		}
	}
}

// echo answers with what it got, and says in a trailer who it is.
func echo(h *harness) {
	relayed(func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Set("X-Length", r.Header.Get("Content-Length"))
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		_, _ = w.Write(body)
		w.Header().Set(http.TrailerPrefix+"Pm-By", h.node.id)
		return nil
	})(h)
}

func (h *harness) named(id, name string) {
	h.t.Helper()
	res, err := h.store.Apply(context.Background(), &pmpb.Command{Op: &pmpb.Command_PutMember{
		PutMember: &pmpb.PutMember{Member: &pmpb.Member{ServerId: id, Name: name}},
	}})
	if err = errors.Join(err, res.Err); err != nil {
		h.t.Fatal(err)
	}
}

// TestRelayStreamsBothWays: bodies of any length pass in both directions, with
// status, headers and trailers, whatever the node is called.
func TestRelayStreamsBothWays(t *testing.T) {
	p := newPeers(t, nil, echo)
	p.leader.named("pm-0", "zero")
	base, c := serve(t, p.follower), client(t)
	body := make([]byte, 5<<20+7)
	_, _ = rand.Read(body)
	for _, target := range []string{"test?node=pm-0", "test?node=zero", "test?node=leader", "test-leader", "test-leader?node=leader"} {
		for _, chunked := range []bool{false, true} {
			var in io.Reader = bytes.NewReader(body)
			if chunked {
				in = io.MultiReader(in) // net/http cannot know its length
			}
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/api/v1/operator/"+target, in)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := c.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			out, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || resp.StatusCode != http.StatusOK || !bytes.Equal(out, body) {
				t.Errorf("%s: status %d, %d bytes, error %v", target, resp.StatusCode, len(out), err)
			}
			if by, served := resp.Trailer.Get("PM-By"), resp.Header.Get("PM-Served-By"); by != "pm-0" || served != "pm-0" {
				t.Errorf("%s: answered by %q, served by %q", target, by, served)
			}
			if want := map[bool]string{false: "5242887", true: "-1"}[chunked]; resp.Header.Get("X-Length") != want {
				t.Errorf("%s: length %q, want %s", target, resp.Header.Get("X-Length"), want)
			}
		}
	}
	// Without ?node, or with its own name, a node answers itself.
	for _, target := range []string{"test", "test?node=pm-1"} {
		w := p.follower.must(http.StatusOK, http.MethodPost, "/api/v1/operator/"+target, "x")
		if got := w.Header().Get("PM-Served-By"); got != "pm-1" || w.Body.String() != "x" {
			t.Errorf("%s: served by %s: %s", target, got, w.Body)
		}
	}
}

func TestRelayRefusals(t *testing.T) {
	p := newPeers(t, nil, echo)
	p.leader.named("pm-0", "twin")
	p.leader.named("pm-1", "twin")
	unknown := dial(t, "127.0.0.1:1")
	t.Cleanup(func() { _ = unknown.Close() })
	// pm-2 is what the follower takes for another server, although pm-0 answers.
	p.follower.node.servers["pm-2"] = p.follower.node.servers["pm-0"]
	p.follower.node.extra = []string{"pm-2", "pm-3", "pm-4"}
	p.follower.node.servers["pm-3"] = unknown
	tests := []struct {
		target string
		code   registry.Code
	}{
		{"test?node=mars", registry.NotFound},
		{"test?node=twin", registry.InvalidArgument},
		{"test?node=pm-2", registry.Unavailable},
		{"test?node=pm-3", registry.Unavailable},
		{"test?node=pm-4", registry.Unavailable},
		{"test-leader?node=pm-1", registry.InvalidArgument},
	}
	for _, tt := range tests {
		w := p.follower.do(http.MethodPost, "/api/v1/operator/"+tt.target, "x")
		if got := p.follower.problem(w); got.Code != tt.code {
			t.Errorf("%s: %d %s, want %s", tt.target, w.Code, w.Body, tt.code)
		}
	}
	// The node that a request was relayed to does not pass it on.
	p.leader.node.mu.Lock()
	p.leader.node.follower, p.leader.node.leader = true, "pm-1"
	p.leader.node.mu.Unlock()
	for _, target := range []string{"test-leader", "test?node=leader"} {
		w := p.follower.do(http.MethodPost, "/api/v1/operator/"+target, "x")
		if got := p.follower.problem(w); got.Code != registry.Unavailable || !got.Retryable {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
	}
	// Without a leader the request waits for one, then says so.
	p.follower.node.mu.Lock()
	p.follower.node.leader = ""
	p.follower.node.mu.Unlock()
	w := p.follower.do(http.MethodGet, "/api/v1/operator/test-leader", "")
	if got := p.follower.problem(w); got.Code != registry.NoLeader {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestRelayIsNotRouting: whoever calls the peer service directly gets no further
// than to the API of the server that it names.
func TestRelayIsNotRouting(t *testing.T) {
	p := newPeers(t, nil, echo)
	client := pmpb.NewForwardServiceClient(p.follower.node.servers["pm-0"])
	for name, first := range map[string]*pmpb.RelayMessage{
		"no head":  {Message: &pmpb.RelayMessage_Body{Body: []byte("x")}},
		"no API":   {Message: &pmpb.RelayMessage_Request{Request: &pmpb.ForwardRequest{Method: "GET", Uri: "/metrics"}}},
		"no URI":   {Message: &pmpb.RelayMessage_Request{Request: &pmpb.ForwardRequest{Method: "GET"}}},
		"bad verb": {Message: &pmpb.RelayMessage_Request{Request: &pmpb.ForwardRequest{Method: "G T", Uri: "/api/v1/packages"}}},
		"no name":  {Message: &pmpb.RelayMessage_Request{Request: &pmpb.ForwardRequest{Method: "GET", Uri: "/api/v1/packages"}}},
	} {
		stream, err := client.Relay(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(first); err != nil {
			t.Fatal(err)
		}
		if m, err := stream.Recv(); err == nil {
			t.Errorf("%s: answered %v", name, m)
		}
	}
}

// TestRelayIsCancelled: a client that goes away ends the handler at the other node.
func TestRelayIsCancelled(t *testing.T) {
	begun, ended := make(chan struct{}), make(chan struct{})
	p := newPeers(t, nil, relayed(func(w http.ResponseWriter, r *http.Request) error {
		defer close(ended)
		_, _ = io.WriteString(w, "x")
		close(begun)
		<-r.Context().Done()
		return nil
	}))
	base, c := serve(t, p.follower), client(t)
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/api/v1/operator/test?node=leader", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	<-begun
	cancel()
	_ = resp.Body.Close()
	<-ended
}

// TestRelayTellsBrokenBodies: half a body never looks whole, in either direction.
func TestRelayTellsBrokenBodies(t *testing.T) {
	t.Run("answer", func(t *testing.T) {
		p := newPeers(t, nil, relayed(func(w http.ResponseWriter, r *http.Request) error {
			_, _ = io.WriteString(w, "half")
			callOf(r.Context()).cut = true
			return nil
		}))
		base, c := serve(t, p.follower), client(t)
		for _, target := range []string{"?node=leader", ""} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/api/v1/operator/test"+target, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := c.Do(r)
			if err == nil { // without a relay the cut may come before the first byte
				_, err = io.ReadAll(resp.Body)
				_ = resp.Body.Close()
			}
			if err == nil {
				t.Errorf("%q: half an answer looks whole", target)
			}
		}
	})
	t.Run("request", func(t *testing.T) {
		got, begun := make(chan error, 1), make(chan struct{})
		p := newPeers(t, nil, relayed(func(_ http.ResponseWriter, r *http.Request) error {
			close(begun)
			_, err := io.ReadAll(r.Body)
			got <- err
			return fail(registry.InvalidArgument, "no")
		}))
		base, c := serve(t, p.follower), client(t)
		in, out := io.Pipe()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/api/v1/operator/test?node=leader", in)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			_, _ = out.Write([]byte("half"))
			<-begun
			_ = out.CloseWithError(errors.New("gone"))
		}()
		if resp, err := c.Do(r); err == nil {
			_ = resp.Body.Close()
			t.Errorf("status %d", resp.StatusCode)
		}
		if err := <-got; err == nil {
			t.Error("half a request looks whole")
		}
	})
}

// TestRelayAnswersBeforeTheBodyEnds: a refusal does not wait for the upload.
func TestRelayAnswersBeforeTheBodyEnds(t *testing.T) {
	p := newPeers(t, nil, relayed(func(http.ResponseWriter, *http.Request) error { return fail(registry.InvalidArgument, "no") }))
	base, c := serve(t, p.follower), client(t)
	in, out := io.Pipe()
	defer func() { _ = out.Close() }()
	go func() { _, _ = out.Write([]byte("x")) }()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/api/v1/operator/test?node=leader", in)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("status %d", resp.StatusCode)
	}
}

// deaf takes a request and hangs up without an answer.
type deaf struct {
	pmpb.UnimplementedForwardServiceServer
}

func (deaf) Relay(stream pmpb.ForwardService_RelayServer) error {
	_, _ = stream.Recv()
	return errors.New("hung up")
}

// TestRelayOutcome: of a lost answer to a write nothing is claimed; a read may be
// repeated.
func TestRelayOutcome(t *testing.T) {
	p := newPeers(t, func(*harness) pmpb.ForwardServiceServer { return deaf{} }, echo)
	for method, want := range map[string]registry.Code{http.MethodPost: registry.OutcomeUnknown, http.MethodGet: registry.Unavailable} {
		w := p.follower.do(method, "/api/v1/operator/test?node=leader", strings.Repeat("x", map[string]int{http.MethodPost: 3}[method]))
		if got := p.follower.problem(w); got.Code != want || got.Retryable != (want == registry.Unavailable) {
			t.Errorf("%s: %s", method, w.Body)
		}
	}
}
