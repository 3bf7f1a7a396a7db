package api

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
)

// forwardedHeaders are the request headers that mean something to the leader.
var forwardedHeaders = []string{
	headerContentType, headerIdempotencyKey, headerRetryKey, "If-Match", "If-None-Match", "User-Agent", "Traceparent", "Tracestate", headerForwardedFor,
}

// maxForwardedAnswer bounds the answer to a forwarded write, in bytes.
const maxForwardedAnswer = 4 << 20

// forward has the leader answer a write. The error's code is NoLeader only if
// nothing was done, and OutcomeUnknown if the leader may have done it.
func (s *Server) forward(r *http.Request, body []byte) (*answer, error) {
	ctx := r.Context()
	conn, err := s.opts.Cluster.LeaderConn(ctx)
	if err != nil {
		s.metrics.forwards.WithLabelValues("not-sent").Inc()
		p := fail(registry.NoLeader, "No leader can be reached; nothing was done, try again")
		p.cause = err
		return nil, p
	}
	req := s.requestHead(r, forwardedHeaders, body)
	var reached peer.Peer
	resp, err := pmpb.NewForwardServiceClient(conn).Forward(ctx, req, grpc.Peer(&reached), grpc.MaxCallRecvMsgSize(maxForwardedAnswer+smallBody))
	if err != nil {
		return nil, s.forwardProblem(err, &reached)
	}
	s.metrics.forwards.WithLabelValues("answered").Inc()
	ans := &answer{status: int(resp.GetStatus()), body: resp.GetBody(), header: http.Header{}}
	if ans.status < http.StatusOK || ans.status > 599 {
		return nil, fail(registry.Internal, "The leader's answer has no valid status: %d", resp.GetStatus())
	}
	for _, h := range resp.GetHeaders() {
		ans.header[http.CanonicalHeaderKey(h.GetName())] = h.GetValues()
	}
	return ans, nil
}

// forwardProblem tells what a failed call means for the request.
func (s *Server) forwardProblem(err error, reached *peer.Peer) error {
	p := &problem{cause: err}
	switch code := status.Code(err); {
	case code == codes.FailedPrecondition, code == codes.Unimplemented:
		// The handler's own word, or there is none yet: nothing was done.
		s.metrics.forwards.WithLabelValues("refused").Inc()
		p.code, p.detail = registry.NoLeader, "The leader is changing; nothing was done, try again"
	case code == codes.Unavailable && reached.Addr == nil:
		// grpc-go knows the peer as soon as a stream was opened on a connection:
		// without one, nothing has left this node.
		s.metrics.forwards.WithLabelValues("not-sent").Inc()
		p.code, p.detail = registry.NoLeader, "The leader cannot be reached; nothing was done, try again"
	default:
		s.metrics.forwards.WithLabelValues("unknown").Inc()
		p.code = registry.OutcomeUnknown
		p.detail = "The request was sent to the leader, which did not say what became of it; it may or may not have taken effect. Retry with the same Idempotency-Key, or read the state before retrying"
	}
	return p
}

// ForwardServer answers requests that a peer forwarded because this node leads.
type ForwardServer struct {
	pmpb.UnimplementedForwardServiceServer
	server *Server
}

// NewForwardServer makes the peer service of s.
func NewForwardServer(s *Server) *ForwardServer { return &ForwardServer{server: s} }

// Forward runs the request through the same handler as a client's. The status
// FailedPrecondition means that this node does not lead and did nothing.
func (f *ForwardServer) Forward(ctx context.Context, req *pmpb.ForwardRequest) (*pmpb.ForwardResponse, error) {
	switch req.GetMethod() {
	case http.MethodPost, http.MethodPut, http.MethodDelete:
	default:
		return nil, status.Errorf(codes.InvalidArgument, "method %q is not forwarded", req.GetMethod())
	}
	if !strings.HasPrefix(req.GetUri(), apiPrefix) {
		return nil, status.Error(codes.InvalidArgument, "only requests to the API are forwarded")
	}
	h := &hop{by: req.GetForwardedBy()}
	r, err := peerRequest(context.WithValue(ctx, hopKey{}, h), req, bytes.NewReader(req.GetBody()))
	if err != nil {
		return nil, err
	}
	rec := &recorder{header: http.Header{}}
	f.server.handler.ServeHTTP(rec, r)
	switch {
	case h.refused:
		return nil, status.Error(codes.FailedPrecondition, "this node is not the leader")
	case h.unknown:
		return nil, status.Error(codes.Aborted, "the outcome is unknown")
	case h.broken, rec.tooLarge:
		return nil, status.Error(codes.Internal, "the answer could not be completed")
	}
	return rec.response(), nil
}

// recorder keeps an answer in memory.
type recorder struct {
	header   http.Header
	status   int
	body     bytes.Buffer
	tooLarge bool
}

var errAnswerTooLarge = errors.New("api: the answer to a forwarded request is too large")

func (r *recorder) Header() http.Header { return r.header }

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
}

func (r *recorder) Write(b []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	if r.body.Len()+len(b) > maxForwardedAnswer {
		r.tooLarge = true
		return 0, errAnswerTooLarge
	}
	return r.body.Write(b)
}

func (r *recorder) response() *pmpb.ForwardResponse {
	r.WriteHeader(http.StatusOK)
	out := &pmpb.ForwardResponse{Status: uint32(r.status), Body: r.body.Bytes()} //nolint:gosec // a three-digit number
	for name, values := range r.header {
		out.Headers = append(out.Headers, &pmpb.Header{Name: name, Values: values})
	}
	return out
}
