package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
)

// This file is the one place where a request is answered by another node than
// the one that it reached, with bodies of any length (writes to the replicated
// state take forward.go, which knows their outcome). A relayed request is for a
// server, not for whoever has its address now, and is never relayed again.

// placement says which node answers a route.
type placement int

const (
	// anywhere: the node that was asked.
	anywhere placement = iota
	// onNode: the node that ?node names, else the one that was asked.
	onNode
	// onTheLeader: the leader.
	onTheLeader
)

const (
	// relayPiece bounds one message of a relayed body, in bytes.
	relayPiece = 64 << 10
	// relayTarget is the metadata key of the server id that a relay is for.
	relayTarget = "oaas-relay-target"
	// relayTrailer begins the metadata keys of HTTP trailers.
	relayTrailer = "oaas-trailer-"
	// leaderName stands for whoever leads.
	leaderName = "leader"
	// streamStall is how long either side of a streamed body may make no progress.
	streamStall = time.Minute
)

// relayedHeaders are the request headers that a relayed request keeps.
var relayedHeaders = append([]string{"Accept", headerContentLength, headerLastEventID}, forwardedHeaders...)

// place relays the request when another node than this one has to answer it. It
// reports false when this node has to.
func (s *Server) place(w http.ResponseWriter, r *http.Request, at placement) (relayed bool, err error) {
	if at == anywhere {
		return false, nil
	}
	want := parseQuery(r.URL.RawQuery).text("node")
	if at == onTheLeader {
		if want != "" && want != leaderName {
			return false, fail(registry.InvalidArgument, "Only the leader answers this; leave ?node out")
		}
		want = leaderName
	}
	hold := s.newHold()
	for {
		id, err := s.resolveNode(want)
		switch {
		case err == nil && id == s.opts.Cluster.ServerID():
			return false, nil
		case callOf(r.Context()).hop != nil:
			// Whoever relayed it saw another cluster than this node does.
			return false, fail(registry.Unavailable, "The request was relayed to this node, which is not %q for itself; try again", want)
		case err == nil:
			return true, s.relay(w, r, id)
		case codeOf(err) != registry.NoLeader || !hold.wait(r.Context()):
			return false, err
		}
	}
}

// resolveNode gives the server id that a server id, a node's name or "leader"
// stands for. Empty is this node.
func (s *Server) resolveNode(want string) (string, error) {
	switch want {
	case "":
		return s.opts.Cluster.ServerID(), nil
	case leaderName:
		if s.opts.Cluster.IsLeader() {
			return s.opts.Cluster.ServerID(), nil
		}
		leader, known := s.opts.Cluster.Leader()
		if !known || leader.ServerID == s.opts.Cluster.ServerID() { // elected, not ready
			return "", errNoLeader()
		}
		return leader.ServerID, nil
	}
	if want == s.opts.Cluster.ServerID() {
		return want, nil
	}
	snap := s.opts.Registry.State().Snapshot()
	var named []string
	for _, server := range s.opts.Cluster.Servers() {
		if server.ID == want {
			return want, nil
		}
		if snap.Member(server.ID).GetName() == want {
			named = append(named, server.ID)
		}
	}
	switch len(named) {
	case 0:
		return "", fail(registry.NotFound, "Node not found: %s", want)
	case 1:
		return named[0], nil
	default:
		return "", fail(registry.InvalidArgument, "Several nodes have the name %s; use a server id: %s", want, strings.Join(named, ", "))
	}
}

// relay has the server with that id answer the request. An error means that
// nothing was written to w yet.
func (s *Server) relay(w http.ResponseWriter, r *http.Request, id string) error {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	conn, err := s.opts.Cluster.ServerConn(ctx, id)
	if err != nil {
		s.metrics.relays.WithLabelValues("not-sent").Inc()
		return &problem{code: registry.Unavailable, detail: "Node " + id + " cannot be reached: its address is not known", cause: err}
	}
	stream, err := pmpb.NewForwardServiceClient(conn).Relay(metadata.AppendToOutgoingContext(ctx, relayTarget, id))
	if err != nil {
		s.metrics.relays.WithLabelValues("not-sent").Inc()
		return unreachable(id, err)
	}
	head := s.requestHead(r, relayedHeaders, nil)
	if err := stream.Send(&pmpb.RelayMessage{Message: &pmpb.RelayMessage_Request{Request: head}}); err != nil && !errors.Is(err, io.EOF) {
		s.metrics.relays.WithLabelValues("not-sent").Inc()
		return unreachable(id, err)
	}
	answered, drained := upload(w, r, stream, cancel)
	defer drained()
	first, err := stream.Recv()
	answered()
	if err != nil {
		return s.relayProblem(r, id, err)
	}
	answer := first.GetResponse()
	if st := answer.GetStatus(); st < http.StatusOK || st > 599 {
		return fail(registry.Internal, "The answer of node %s has no valid status: %d", id, st)
	}
	s.metrics.relays.WithLabelValues("answered").Inc()
	for _, h := range answer.GetHeaders() {
		if http.CanonicalHeaderKey(h.GetName()) == "Connection" {
			continue // is about another connection
		}
		w.Header()[http.CanonicalHeaderKey(h.GetName())] = h.GetValues()
	}
	w.WriteHeader(int(answer.GetStatus()))
	if err := s.download(w, stream); err != nil {
		// The status is out: only a cut connection can say that the body is not whole.
		s.log.Warn("a relayed answer broke off", "request_id", callOf(r.Context()).id, "node", id, "error", err)
		callOf(r.Context()).cut = true
	}
	return nil
}

func unreachable(id string, err error) error {
	return &problem{code: registry.Unavailable, detail: "Node " + id + " cannot be reached; nothing was done: " + status.Convert(err).Message(), cause: err}
}

// relayProblem tells what a relay without an answer means.
func (s *Server) relayProblem(r *http.Request, id string, err error) error {
	code := status.Code(err)
	read := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch {
	case r.Context().Err() != nil:
		s.metrics.relays.WithLabelValues("unknown").Inc()
		return r.Context().Err()
	case read, code == codes.FailedPrecondition, code == codes.Unimplemented:
		s.metrics.relays.WithLabelValues("refused").Inc()
		return unreachable(id, err)
	default:
		s.metrics.relays.WithLabelValues("unknown").Inc()
		return &problem{code: registry.OutcomeUnknown, cause: err,
			detail: "The request was sent to node " + id + " but no answer came; it may or may not have taken effect. Look before trying again"}
	}
}

// upload sends the request's body in a goroutine. A body that breaks off ends the
// relay: half of it must not look whole. answered is to be called when the answer
// is there: what is left of the body is not wanted then. drained waits for the
// goroutine; a client that still sends has a moment to read the answer, because a
// connection that is closed on unread bytes may lose it.
func upload(w http.ResponseWriter, r *http.Request, stream pmpb.ForwardService_RelayClient, cancel func()) (answered, drained func()) {
	if r.ContentLength == 0 || r.Body == nil || r.Body == http.NoBody {
		_ = stream.CloseSend() // Recv has the error
		return func() {}, func() {}
	}
	control := http.NewResponseController(w)
	_ = control.EnableFullDuplex() // HTTP/2 and recorders need no leave
	enough, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		err := sendBody(stream, r.Body)
		select {
		case <-enough:
			if err == nil {
				_, _ = io.Copy(io.Discard, r.Body) // until its end, or out of time
			}
		default:
			if err != nil {
				cancel()
			}
		}
	}()
	answered = func() {
		close(enough)
		select {
		case <-done:
		default:
			w.Header().Set("Connection", "close")
		}
	}
	return answered, func() {
		if body, ok := r.Body.(*steadyBody); ok {
			body.end(time.Now().Add(unreadBodyTimeout))
		}
		<-done
	}
}

// sendBody sends a body to its end. Its error is about the body only: that of
// the stream comes with the answer.
func sendBody(stream pmpb.ForwardService_RelayClient, body io.Reader) error {
	buf := make([]byte, relayPiece)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			piece := append([]byte(nil), buf[:n]...) // the message outlives the call
			if stream.Send(&pmpb.RelayMessage{Message: &pmpb.RelayMessage_Body{Body: piece}}) != nil {
				return nil //nolint:nilerr // see above
			}
		}
		if errors.Is(err, io.EOF) {
			_ = stream.CloseSend()
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// download writes the answer's body and trailers.
func (s *Server) download(w http.ResponseWriter, stream pmpb.ForwardService_RelayClient) error {
	control := http.NewResponseController(w)
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			for name, values := range stream.Trailer() {
				if name, ok := strings.CutPrefix(name, relayTrailer); ok {
					w.Header()[http.TrailerPrefix+http.CanonicalHeaderKey(name)] = values
				}
			}
			return nil
		}
		if err != nil {
			return err
		}
		if len(m.GetBody()) == 0 {
			continue
		}
		if _, err := w.Write(m.GetBody()); err != nil {
			return err
		}
		if err := control.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return err
		}
	}
}

// requestHead is a request as a peer gets it. Its texts are UTF-8, whatever the
// client sent: else nobody would get it.
func (s *Server) requestHead(r *http.Request, keep []string, body []byte) *pmpb.ForwardRequest {
	req := &pmpb.ForwardRequest{
		Method: r.Method, Uri: asciiURI(r.URL.RequestURI()), Body: body, RequestId: callOf(r.Context()).id,
		ForwardedBy: s.opts.Cluster.ServerID(), RemoteAddress: r.RemoteAddr,
	}
	for _, name := range keep {
		values := r.Header.Values(name)
		if name == headerContentLength {
			values = []string{strconv.FormatInt(r.ContentLength, 10)}
		}
		header := &pmpb.Header{Name: name}
		for _, v := range values {
			header.Values = append(header.Values, strings.ToValidUTF8(v, "\uFFFD"))
		}
		if len(values) > 0 {
			req.Headers = append(req.Headers, header)
		}
	}
	return req
}

// asciiURI percent-encodes what a client should have encoded, which means the same.
func asciiURI(uri string) string {
	if !strings.ContainsFunc(uri, func(r rune) bool { return r >= utf8.RuneSelf }) {
		return uri
	}
	var out strings.Builder
	for i := range len(uri) {
		if uri[i] < utf8.RuneSelf {
			out.WriteByte(uri[i])
		} else {
			fmt.Fprintf(&out, "%%%02X", uri[i])
		}
	}
	return out.String()
}

// Relay answers a request that a peer relayed to this node. FailedPrecondition
// means that another node was meant, and that nothing was done.
func (f *ForwardServer) Relay(stream pmpb.ForwardService_RelayServer) error {
	ctx := stream.Context()
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	req := first.GetRequest()
	if req == nil || !strings.HasPrefix(req.GetUri(), apiPrefix) {
		return status.Error(codes.InvalidArgument, "the first message must be a request to the API")
	}
	own := f.server.opts.Cluster.ServerID()
	if meant := metadata.ValueFromIncomingContext(ctx, relayTarget); len(meant) != 1 || meant[0] != own {
		return status.Errorf(codes.FailedPrecondition, "server %q was meant, this is %s", meant, own)
	}
	h := &hop{by: req.GetForwardedBy()}
	r, err := peerRequest(context.WithValue(ctx, hopKey{}, h), req, &relayBody{stream: stream})
	if err != nil {
		return err
	}
	r.ContentLength = -1
	if n, err := strconv.ParseInt(r.Header.Get(headerContentLength), 10, 64); err == nil && n >= 0 {
		r.ContentLength = n
	}
	w := &relayWriter{stream: stream, header: http.Header{}}
	f.server.handler.ServeHTTP(w, r)
	w.finish()
	if h.broken {
		return status.Error(codes.Internal, "the answer could not be completed")
	}
	return w.err
}

// peerRequest makes the HTTP request that a peer passed on.
func peerRequest(ctx context.Context, req *pmpb.ForwardRequest, body io.Reader) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, req.GetMethod(), req.GetUri(), body)
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "request: %v", err)
	}
	for _, header := range req.GetHeaders() {
		r.Header[http.CanonicalHeaderKey(header.GetName())] = header.GetValues()
	}
	r.Header.Set(headerRequestID, req.GetRequestId())
	r.RequestURI, r.RemoteAddr = req.GetUri(), req.GetRemoteAddress()
	return r, nil
}

// relayBody reads a request's body from a relay.
type relayBody struct {
	stream pmpb.ForwardService_RelayServer
	left   []byte
	err    error
}

func (b *relayBody) Read(p []byte) (int, error) {
	for len(b.left) == 0 {
		if b.err != nil {
			return 0, b.err
		}
		m, err := b.stream.Recv()
		if b.err = err; err == nil {
			b.left = m.GetBody()
		}
	}
	n := copy(p, b.left)
	b.left = b.left[n:]
	return n, nil
}

// relayWriter sends an answer through a relay, piece by piece.
type relayWriter struct {
	stream pmpb.ForwardService_RelayServer
	header http.Header
	wrote  bool
	err    error
}

func (w *relayWriter) Header() http.Header { return w.header }

func (w *relayWriter) WriteHeader(code int) {
	if w.wrote || code < http.StatusOK {
		return
	}
	w.wrote = true
	head := &pmpb.ForwardResponse{Status: uint32(code)} //nolint:gosec // a three-digit number
	for name, values := range w.header {
		if !strings.HasPrefix(name, http.TrailerPrefix) {
			head.Headers = append(head.Headers, &pmpb.Header{Name: name, Values: values})
		}
	}
	w.err = w.stream.Send(&pmpb.RelayMessage{Message: &pmpb.RelayMessage_Response{Response: head}})
}

func (w *relayWriter) Write(p []byte) (n int, err error) {
	w.WriteHeader(http.StatusOK)
	for len(p) > 0 && w.err == nil {
		piece := append([]byte(nil), p[:min(len(p), relayPiece)]...)
		if w.err = w.stream.Send(&pmpb.RelayMessage{Message: &pmpb.RelayMessage_Body{Body: piece}}); w.err == nil {
			n, p = n+len(piece), p[len(piece):]
		}
	}
	return n, w.err
}

// FlushError has nothing to do: every piece is a message of its own.
func (w *relayWriter) FlushError() error { return w.err }

// finish sends what an empty answer has, and the trailers.
func (w *relayWriter) finish() {
	w.WriteHeader(http.StatusOK)
	trailers := metadata.MD{}
	for name, values := range w.header {
		if name, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			trailers.Set(relayTrailer+name, values...)
		}
	}
	w.stream.SetTrailer(trailers)
}

// unhurried prepares a request whose bodies are streamed: it may take as long as
// both sides make progress, and ends when the server stops.
func (s *Server) unhurried(w http.ResponseWriter, r *http.Request) (http.ResponseWriter, *http.Request, func()) {
	ctx, cancel := context.WithCancel(r.Context())
	release := context.AfterFunc(s.life, cancel) //nolint:contextcheck // the server's end ends the request, too
	control := http.NewResponseController(w)
	r = r.WithContext(ctx)
	if r.Body != nil {
		r.Body = &steadyBody{ReadCloser: r.Body, control: control}
	}
	return &steadyWriter{ResponseWriter: w, control: control}, r, func() { release(); cancel() }
}

// steadyWriter moves the connection's deadline with every write.
type steadyWriter struct {
	http.ResponseWriter
	control *http.ResponseController
}

func (w *steadyWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *steadyWriter) Write(p []byte) (int, error) {
	_ = w.control.SetWriteDeadline(time.Now().Add(streamStall)) // a relayed answer has none
	return w.ResponseWriter.Write(p)
}

// FlushError sends what is buffered.
func (w *steadyWriter) FlushError() error {
	_ = w.control.SetWriteDeadline(time.Now().Add(streamStall))
	return w.control.Flush()
}

// steadyBody moves the connection's deadline with every read.
type steadyBody struct {
	io.ReadCloser
	control *http.ResponseController

	mu    sync.Mutex
	until time.Time // after which nothing is read; zero: no end
}

func (b *steadyBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	limit := time.Now().Add(streamStall)
	if !b.until.IsZero() && b.until.Before(limit) {
		limit = b.until
	}
	_ = b.control.SetReadDeadline(limit)
	b.mu.Unlock()
	return b.ReadCloser.Read(p)
}

// end bounds all reads, also one that is under way.
func (b *steadyBody) end(at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.until = at
	_ = b.control.SetReadDeadline(at)
}
