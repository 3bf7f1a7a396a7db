package server

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

const (
	correlationHeader = "x-correlation-id"
	maxCorrelationID  = 128
)

// errBudget is why a call ended whose caller had set no deadline.
var errBudget = errors.New("the Kubernetes API server did not answer in time")

type serverMetrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	streams  prometheus.Gauge
	deploys  *prometheus.CounterVec
	// handshakes counts on a port with TLS only.
	handshakes *prometheus.CounterVec
}

func newServerMetrics(registerer prometheus.Registerer) (*serverMetrics, error) {
	m := &serverMetrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "oaas_crm_grpc_requests_total", Help: "Finished gRPC calls by method and code.",
		}, []string{"method", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "oaas_crm_grpc_request_duration_seconds", Help: "Duration of unary gRPC calls by method.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2.5, 10),
		}, []string{"method"}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "oaas_crm_watch_streams", Help: "Open streams of runtime changes.",
		}),
		deploys: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "oaas_crm_deliveries_total", Help: "Deliveries of units by outcome: created, updated, restored (it had been changed by hand), unchanged, refused.",
		}, []string{"outcome"}),
		handshakes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "oaas_crm_tls_handshakes_total", Help: "Connections to a port with TLS by outcome: ok, refused, plain (came without TLS).",
		}, []string{"outcome"}),
	}
	if registerer == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.requests, m.seconds, m.streams, m.deploys, m.handshakes} {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of the crm server: %w", err)
		}
	}
	return m, nil
}

// correlationID is the caller's id for this call, cut and cleaned so that it can
// be logged and stored.
func correlationID(ctx context.Context) string {
	values := metadata.ValueFromIncomingContext(ctx, correlationHeader)
	if len(values) == 0 {
		return ""
	}
	clean := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, values[0])
	return clean[:min(len(clean), maxCorrelationID)]
}

func peerAddress(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok && p.Addr != nil {
		return p.Addr.String()
	}
	return ""
}

// observeUnary echoes the correlation id, counts the call and logs what failed.
func (s *Server) observeUnary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	correlation := correlationID(ctx)
	if correlation != "" {
		// A failure here only means that the transport is gone already.
		_ = grpc.SetHeader(ctx, metadata.Pairs(correlationHeader, correlation))
	}
	start := time.Now()
	response, err := handler(ctx, request)
	s.finish(ctx, info.FullMethod, correlation, err)
	s.metrics.seconds.WithLabelValues(info.FullMethod).Observe(time.Since(start).Seconds())
	return response, err
}

func (s *Server) observeStream(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	correlation := correlationID(stream.Context())
	if correlation != "" {
		_ = stream.SetHeader(metadata.Pairs(correlationHeader, correlation))
	}
	err := handler(service, stream)
	s.finish(stream.Context(), info.FullMethod, correlation, err)
	return err
}

func (s *Server) finish(ctx context.Context, method, correlation string, err error) {
	code := status.Code(err)
	s.metrics.requests.WithLabelValues(method, code.String()).Inc()
	switch code {
	case codes.OK, codes.Canceled, codes.NotFound:
		return
	default:
	}
	if reasonOf(err) == ReasonRight {
		s.opts.Denied(err)
	}
	s.log.Warn("call failed", "method", method, "code", code.String(), "error", status.Convert(err).Message(),
		"correlation_id", correlation, "peer", peerAddress(ctx), "client", clientName(ctx))
}

// recoverUnary turns a panic into INTERNAL: one bad request must not take down
// the manager of a whole cluster.
func (s *Server) recoverUnary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (response any, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = s.panicked(info.FullMethod, cause)
		}
	}()
	return handler(ctx, request)
}

func (s *Server) recoverStream(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = s.panicked(info.FullMethod, cause)
		}
	}()
	return handler(service, stream)
}

func (s *Server) panicked(method string, cause any) error {
	s.log.Error("call panicked", "method", method, "cause", fmt.Sprint(cause), "stack", string(debug.Stack()))
	return status.Error(codes.Internal, "internal error; the manager's log has the details")
}

// budgetUnary gives calls without a deadline one of their own, so that an API
// server that hangs cannot pile up calls. A deadline of the caller stays as it
// is.
func (s *Server) budgetUnary(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if _, set := ctx.Deadline(); set {
		return handler(ctx, request)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.opts.CallBudget, errBudget)
	defer cancel()
	return handler(ctx, request)
}
