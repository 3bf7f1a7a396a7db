package dispatch_test

import (
	"context"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"oaas.io/control-plane/dispatch"
	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/registry"
)

// Who answers after a session has ended need not be the one that it was with: that he has no
// such unit does not confirm that it was removed.
func TestRemovalIsConfirmedInASession(t *testing.T) {
	bad := &hostile{}
	n := newNeighbourhood(t, bad)
	n.awaitHealthy("oaas-1")
	id := n.deployMany(1, "oaas-1")[0]
	n.await("acknowledged", allAcked)
	n.stop()

	var away atomic.Bool
	var asked atomic.Int64
	cut := make(chan struct{})
	bad.watch = func(stream grpc.ServerStreamingServer[oaaspb.RuntimeEvent]) error {
		if away.Load() {
			return status.Error(codes.Unavailable, "nobody is here")
		}
		if asked.Load() > 0 {
			return bad.manager.WatchRuntimes(nil, stream)
		}
		if err := stream.Send(upserted(bad.says(id, oaaspb.DeploymentCondition_RUNNING))); err != nil {
			return err
		}
		if err := stream.Send(complete(1)); err != nil {
			return err
		}
		select {
		case <-cut:
		case <-stream.Context().Done():
		}
		return status.Error(codes.Unavailable, "the line is cut")
	}
	bad.remove = func(ctx context.Context, req *oaaspb.DeleteDeploymentRequest) (*oaaspb.DeleteDeploymentResponse, error) {
		if asked.Add(1) > 1 {
			return bad.manager.DeleteDeployment(ctx, req)
		}
		away.Store(true)
		close(cut)
		for {
			snap := n.store.State().Snapshot()
			if snap.Unit(id).GetWaiting().GetCode() == dispatch.WaitUnreachable {
				return nil, status.Error(codes.NotFound, "a stranger has no such unit")
			}
			select {
			case <-snap.WatchAll():
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	}
	n.lead(n.store.NextTerm())
	n.awaitHealthy("oaas-1")
	if _, _, err := n.registry.DeleteDeployment(context.Background(), registry.RequestInfo{}, "shop.Cart-0"); err != nil {
		t.Fatal(err)
	}
	n.await("the session has ended", func(s *fsm.Snapshot) bool {
		u := s.Unit(id)
		return u == nil || u.GetWaiting().GetCode() == dispatch.WaitUnreachable
	})
	waitFor(t, "the answer has come", func() bool { return metric(t, n.metrics, "oaas_pm_dispatch_calls_in_flight") == 0 })
	away.Store(false)
	n.await("it is gone", func(s *fsm.Snapshot) bool { return s.Unit(id) == nil })
	if has := bad.has(id); has || asked.Load() < 2 {
		t.Errorf("it was asked %d times, and has the unit: %t", asked.Load(), has)
	}
}
