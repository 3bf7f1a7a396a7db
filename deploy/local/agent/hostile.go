package agent

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"oaas.io/control-plane/proto/oaaspb"
)

// Behaviour is a way in which a manager can depart from what it should do.
type Behaviour string

const (
	// Faithful is none.
	Faithful Behaviour = ""
	// Mute accepts connections and never says anything, not even that it speaks the protocol.
	Mute Behaviour = "mute"
	// Hanging never answers Deploy and DeleteDeployment; all else is well.
	Hanging Behaviour = "hanging"
	// Garbling answers with changes that were never made, texts without measure and units of nobody.
	Garbling Behaviour = "garbling"
	// Flooding reports changes of its units without a pause.
	Flooding Behaviour = "flooding"
	// Endless sends an inventory that does not end, of units that nobody knows.
	Endless Behaviour = "endless"
	// Dropping ends every watch soon after its inventory, and every second call.
	Dropping Behaviour = "dropping"
	// Vanishing says at every watch that it has nothing, and takes back what it has confirmed.
	Vanishing Behaviour = "vanishing"
	// Doubling says twice that its inventory is complete, with numbers that are wrong.
	Doubling Behaviour = "doubling"
)

// Misbehaviours are all but Faithful.
func Misbehaviours() []Behaviour {
	return []Behaviour{Mute, Hanging, Garbling, Flooding, Endless, Dropping, Vanishing, Doubling}
}

// Behave ends all connections and serves anew with another behaviour. The agent keeps what it has.
func (a *Agent) Behave(b Behaviour) error {
	if a.serving != nil && a.options.Behaviour == b {
		return nil
	}
	if err := a.Unplug(); err != nil {
		return err
	}
	a.options.Behaviour = b
	return a.Plug()
}

// services is what an agent of its behaviour serves, nil for nothing at all.
func (a *Agent) services() services {
	switch a.options.Behaviour {
	case Faithful:
		return a
	case Mute:
		return nil
	default:
		return &hostile{Agent: a, behaviour: a.options.Behaviour}
	}
}

// hostile departs from the agent by its behaviour. It has a behaviour of its own: calls may outlive the one that the agent had.
type hostile struct {
	*Agent
	behaviour Behaviour
	calls     atomic.Uint64
}

func (h *hostile) is(b Behaviour) bool { return h.behaviour == b }

// Deploy implements oaaspb.DeploymentServiceServer.
func (h *hostile) Deploy(ctx context.Context, req *oaaspb.DeployRequest) (*oaaspb.DeployResponse, error) {
	n := h.calls.Add(1)
	switch {
	case h.is(Hanging):
		<-ctx.Done()
		return nil, status.FromContextError(ctx.Err()).Err()
	case h.is(Garbling) && n%3 == 0:
		return nil, status.Error(codes.Code(uint32(n%40)), strings.Repeat("\xff garbage ", 1000))
	case h.is(Garbling) && n%3 == 1:
		return &oaaspb.DeployResponse{DeploymentId: "other", Applied: &oaaspb.Delivery{
			Epoch: math.MaxUint64, Fence: n, ContentHash: strings.Repeat("f", 1<<20),
		}}, nil
	case h.is(Dropping) && n%2 == 0:
		return nil, status.Error(codes.Unavailable, fmt.Sprintf("dropped call %d", n))
	}
	resp, err := h.Agent.Deploy(ctx, req)
	if h.is(Vanishing) {
		h.lose(req.GetDeploymentUnit().GetId())
	}
	return resp, err
}

// lose forgets a unit without a delete.
func (h *hostile) lose(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.objects, id)
	h.publishLocked(id)
}

// DeleteDeployment implements oaaspb.DeploymentServiceServer.
func (h *hostile) DeleteDeployment(ctx context.Context, req *oaaspb.DeleteDeploymentRequest) (*oaaspb.DeleteDeploymentResponse, error) {
	switch {
	case h.is(Hanging):
		<-ctx.Done()
		return nil, status.FromContextError(ctx.Err()).Err()
	case h.is(Garbling):
		return &oaaspb.DeleteDeploymentResponse{}, nil // accepted, each time, and never done
	}
	return h.Agent.DeleteDeployment(ctx, req)
}

// GetClusterInfo implements oaaspb.AgentServiceServer.
func (h *hostile) GetClusterInfo(ctx context.Context, req *oaaspb.GetClusterInfoRequest) (*oaaspb.ClusterInfo, error) {
	info, err := h.Agent.GetClusterInfo(ctx, req)
	if h.is(Garbling) {
		n := h.calls.Add(1)
		info.NodeCount, info.Zone, info.Labels = uint32(n%1000), strings.Repeat("z", 100<<10), map[string]string{}
		for i := range 1000 {
			info.Labels[fmt.Sprintf("label-%d-%d", n, i)] = strings.Repeat("x", 1000)
		}
	}
	return info, err
}

// WatchRuntimes implements oaaspb.AgentServiceServer.
func (h *hostile) WatchRuntimes(req *oaaspb.WatchRuntimesRequest, stream grpc.ServerStreamingServer[oaaspb.RuntimeEvent]) error {
	switch h.behaviour {
	case Endless:
		for n := 0; ; n++ {
			if err := stream.Send(upserted(stranger(n))); err != nil {
				return err
			}
		}
	case Doubling:
		return h.send(stream, complete(0), complete(1000))
	case Vanishing, Garbling, Flooding:
		return h.follow(stream)
	case Dropping:
		ctx, cancel := context.WithTimeout(stream.Context(), 200*time.Millisecond)
		defer cancel()
		return h.Agent.WatchRuntimes(req, &shortStream{stream, ctx})
	default:
		return h.Agent.WatchRuntimes(req, stream)
	}
}

// shortStream ends before its time.
type shortStream struct {
	grpc.ServerStreamingServer[oaaspb.RuntimeEvent]
	ctx context.Context
}

func (s *shortStream) Context() context.Context { return s.ctx }

func stranger(n int) *oaaspb.ClassRuntimeSummary {
	id := fmt.Sprintf("stranger-%d", n)
	return &oaaspb.ClassRuntimeSummary{Id: id, DeploymentUnitId: id, CreatedAt: strings.Repeat("x", 1000)}
}

func complete(count int) *oaaspb.RuntimeEvent {
	return &oaaspb.RuntimeEvent{Event: &oaaspb.RuntimeEvent_InventoryComplete{InventoryComplete: &oaaspb.InventoryComplete{Count: uint32(count)}}} //nolint:gosec // no machine holds more
}

func (h *hostile) send(stream grpc.ServerStreamingServer[oaaspb.RuntimeEvent], events ...*oaaspb.RuntimeEvent) error {
	for _, e := range events {
		if err := stream.Send(e); err != nil {
			return err
		}
	}
	return nil
}

// follow sends an inventory that is well formed, and then what the behaviour makes of the changes.
func (h *hostile) follow(stream grpc.ServerStreamingServer[oaaspb.RuntimeEvent]) error {
	w := &watcher{changed: map[string]bool{}, wake: make(chan struct{}, 1)}
	all := h.inventory(w)
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.watchers, w)
	}()
	if h.is(Vanishing) {
		all = nil
	}
	for _, s := range all {
		if err := stream.Send(upserted(s)); err != nil {
			return err
		}
	}
	if err := stream.Send(complete(len(all))); err != nil {
		return err
	}
	for n := 0; ; n++ {
		events := h.drain(w)
		pause := 10 * time.Millisecond
		switch h.behaviour {
		case Flooding:
			events, pause = append(events, h.flips(n)...), 0
		case Garbling:
			events = append(events, h.garbage(n)...)
		case Vanishing:
			if n == 100 {
				return status.Error(codes.Aborted, "a new inventory is due")
			}
		default: // those tell of changes as they are
		}
		events = append(events, &oaaspb.RuntimeEvent{Event: &oaaspb.RuntimeEvent_Heartbeat{Heartbeat: &oaaspb.Heartbeat{ApiServerReady: n%2 == 0}}})
		if err := h.send(stream, events...); err != nil {
			return err
		}
		select {
		case <-stream.Context().Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// flips says of every unit that its condition has changed.
func (h *hostile) flips(n int) (events []*oaaspb.RuntimeEvent) {
	for _, s := range h.inventory(nil) {
		s = proto.CloneOf(s)
		s.Status = &oaaspb.ClassRuntimeStatus{Condition: oaaspb.DeploymentCondition(1 + n%4), Message: proto.String(fmt.Sprint(n))} //nolint:gosec // below 5
		events = append(events, upserted(s))
	}
	return events
}

// garbage says nonsense of every unit, and of some that it does not have.
func (h *hostile) garbage(n int) []*oaaspb.RuntimeEvent {
	events := []*oaaspb.RuntimeEvent{{}, upserted(stranger(n)), upserted(&oaaspb.ClassRuntimeSummary{})}
	for i, s := range h.inventory(nil) {
		s = proto.CloneOf(s)
		switch (n + i) % 3 {
		case 0:
			s.Delivery.Fence = math.MaxUint64
		case 1:
			s.Status = &oaaspb.ClassRuntimeStatus{Condition: oaaspb.DeploymentCondition(n), Message: proto.String(strings.Repeat("m", 100<<10))} //nolint:gosec // any number will do
		default:
			s.Delivery = &oaaspb.Delivery{ContentHash: strings.Repeat("h", 100<<10)}
		}
		events = append(events, upserted(s), upserted(s))
	}
	return events
}
