package server

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"oaas.io/control-plane/proto/oaaspb"
)

// Health words of CrmEnvHealth.status. A package manager plans only with
// clusters that say Healthy.
const (
	statusHealthy   = "Healthy"
	statusUnhealthy = "Unhealthy"
)

// healthService implements oaas.health.HealthService.
type healthService struct {
	oaaspb.UnimplementedHealthServiceServer
	*Server
}

// Check implements oaaspb.HealthServiceServer for any service name.
func (s healthService) Check(context.Context, *oaaspb.HealthCheckRequest) (*oaaspb.HealthCheckResponse, error) {
	return s.check(), nil
}

func (s healthService) check() *oaaspb.HealthCheckResponse {
	serving := oaaspb.HealthCheckResponse_SERVING
	if s.ready() != nil {
		serving = oaaspb.HealthCheckResponse_NOT_SERVING
	}
	return &oaaspb.HealthCheckResponse{Status: serving}
}

// Watch implements oaaspb.HealthServiceServer: the state now and whenever it
// changes, looked at once per heartbeat interval.
func (s healthService) Watch(_ *oaaspb.HealthCheckRequest, stream grpc.ServerStreamingServer[oaaspb.HealthCheckResponse]) error {
	ticker := time.NewTicker(s.opts.HeartbeatInterval)
	defer ticker.Stop()
	var last *oaaspb.HealthCheckResponse
	for {
		if now := s.check(); !proto.Equal(now, last) {
			if err := stream.Send(now); err != nil {
				return err
			}
			last = now
		}
		select {
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		case <-s.closing:
			return status.Error(codes.Unavailable, "the class runtime manager is shutting down")
		case <-ticker.C:
		}
	}
}

// infoService implements oaas.health.CrmInfoService.
type infoService struct {
	oaaspb.UnimplementedCrmInfoServiceServer
	*Server
}

// GetEnvHealth implements oaaspb.CrmInfoServiceServer. Both node counts are
// present when nodes can be read; availability is present when one was declared.
// An oaas-rs package manager refuses to plan with a cluster that has neither.
func (s infoService) GetEnvHealth(ctx context.Context, request *oaaspb.CrmEnvRequest) (*oaaspb.CrmEnvHealth, error) {
	name := request.GetEnv()
	if name == "" {
		name = s.opts.ClusterName
	}
	probe := s.opts.API.Observe()
	answer := &oaaspb.CrmEnvHealth{
		EnvName:      name,
		Status:       statusHealthy,
		CrmVersion:   proto.String(s.opts.Version),
		LastSeen:     timestamp(s.opts.Clock()),
		Availability: s.opts.Availability,
	}
	if s.ready() != nil {
		answer.Status = statusUnhealthy
		answer.LastSeen = timestamp(probe.LastContact)
	}
	if nodes, err := s.countNodes(ctx); err == nil && nodes.total > 0 {
		answer.NodeCount, answer.ReadyNodes = proto.Uint32(nodes.total), proto.Uint32(nodes.ready)
		if nodes.ready == 0 {
			answer.Status = statusUnhealthy
		}
	}
	return answer, nil
}

// timestamp is nil for the zero time, which means "never".
func timestamp(t time.Time) *oaaspb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return &oaaspb.Timestamp{Seconds: t.Unix(), Nanos: int32(t.Nanosecond())}
}
