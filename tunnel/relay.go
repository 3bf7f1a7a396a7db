package tunnel

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"oaas.io/control-plane/proto/pmpb"
)

const (
	// peersInterval is between two looks at which nodes there are.
	peersInterval = time.Second
	// peerPause is before a node is asked again; one of a release without agents is not
	// asked for longer.
	peerPause, peerPauseUnknown = 500 * time.Millisecond, 10 * time.Second
	// coalesce is for how long changes are gathered before another node is told.
	coalesce = 10 * time.Millisecond
)

// uncounted: the bytes of relayed connections are counted where the agent is.
var uncounted = traffic{}

// errSilentPeer: a node does not even say that it is there.
var errSilentPeer = errors.New("the node says nothing any more")

// relayService answers the other nodes.
type relayService struct {
	pmpb.UnimplementedAgentRelayServiceServer
	hub *Hub
}

// meant refuses what is for another node: an address may meanwhile be that of this one.
func (s *relayService) meant(server string) error {
	if own := s.hub.opts.ServerID; server != own {
		return status.Errorf(codes.FailedPrecondition, "server %q was meant, this is %s", server, own)
	}
	return nil
}

// WatchAgents implements pmpb.AgentRelayServiceServer.
func (s *relayService) WatchAgents(req *pmpb.WatchAgentsRequest, stream grpc.ServerStreamingServer[pmpb.WatchAgentsResponse]) error {
	if err := s.meant(req.GetServerId()); err != nil {
		return err
	}
	h := s.hub
	told := map[uint64]bool{}
	beat := time.NewTicker(h.opts.PeerSilence / 3)
	defer beat.Stop()
	for first := true; ; first = false {
		now, changed := h.table.local()
		m := &pmpb.WatchAgentsResponse{}
		for id := range told {
			if now[id] == nil {
				m.Removed = append(m.Removed, id)
				delete(told, id)
			}
		}
		for id, c := range now {
			if !told[id] {
				m.Added = append(m.Added, c)
				told[id] = true
			}
		}
		if first || len(m.GetAdded())+len(m.GetRemoved()) > 0 {
			if err := stream.Send(m); err != nil {
				return err
			}
		}
		select {
		case <-changed:
			if !pause(stream.Context(), coalesce) {
				return status.FromContextError(stream.Context().Err()).Err()
			}
		case <-beat.C:
			if err := stream.Send(&pmpb.WatchAgentsResponse{}); err != nil {
				return err
			}
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		case <-h.life.Done():
			return status.Error(codes.Unavailable, "this node stops")
		}
	}
}

// OpenAgent implements pmpb.AgentRelayServiceServer. See agentsService.Connect for how
// what it starts ends.
func (s *relayService) OpenAgent(stream grpc.BidiStreamingServer[pmpb.OpenAgentRequest, pmpb.OpenAgentResponse]) error {
	h := s.hub
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	open := first.GetOpen()
	if open == nil {
		return status.Error(codes.InvalidArgument, "the first message must say what to open")
	}
	if err := s.meant(open.GetServerId()); err != nil {
		return err
	}
	near, err := s.take(stream.Context(), open)
	if err != nil {
		return status.Error(codes.Unavailable, err.Error())
	}
	if err := stream.Send(&pmpb.OpenAgentResponse{Message: &pmpb.OpenAgentResponse_Opened{Opened: &pmpb.AgentOpened{}}}); err != nil {
		_ = near.Close() // nobody wants it
		return err
	}
	put := func(data []byte) error {
		return stream.Send(&pmpb.OpenAgentResponse{Message: &pmpb.OpenAgentResponse_Data{Data: data}})
	}
	get := func() ([]byte, error) {
		m, err := stream.Recv()
		return m.GetData(), err
	}
	return ending(splice(near, carrier{ctx: stream.Context(), put: put, get: get, linger: h.opts.linger, stop: h.life.Done()}, uncounted, &h.crew))
}

// take opens a connection to an agent of this node. It waits a moment for one that has
// just been given another connection.
func (s *relayService) take(ctx context.Context, open *pmpb.OpenAgent) (*end, error) {
	h := s.hub
	to := Cluster{open.GetCluster(), open.GetClusterUid()}
	timer := time.NewTimer(h.opts.OpenTimeout)
	defer timer.Stop()
	for {
		_, changed := h.table.routes(to) // of this cluster only: many may wait, and each for another
		near, far := pipe(h.opts.Node, to.Name)
		err := h.table.take(open.GetId(), to, far)
		if err == nil {
			return near, nil
		}
		if !errors.Is(err, errBusy) {
			return nil, err
		}
		select {
		case <-changed:
		case <-timer.C:
			return nil, err
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-h.life.Done():
			return nil, errStopped
		}
	}
}

// followPeers keeps watching what agents the other nodes have, until ctx ends.
func (h *Hub) followPeers(ctx context.Context) {
	following := map[string]context.CancelFunc{}
	var watches sync.WaitGroup
	defer watches.Wait()
	tick := time.NewTicker(peersInterval)
	defer tick.Stop()
	for ctx.Err() == nil {
		there := map[string]bool{}
		for _, p := range h.opts.Peers() {
			there[p.ID] = p.ID != h.opts.ServerID
		}
		for id, stop := range following {
			if !there[id] {
				stop()
				delete(following, id)
			}
		}
		for id, other := range there {
			if !other || following[id] != nil {
				continue
			}
			watch, stop := context.WithCancel(ctx)
			following[id] = stop
			watches.Go(func() { h.followPeer(watch, id) })
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	for _, stop := range following {
		stop()
	}
}

// followPeer watches what agents a node has, until ctx ends.
func (h *Hub) followPeer(ctx context.Context, id string) {
	for {
		err := h.watchPeer(ctx, id)
		h.table.forget(id)
		h.signal()
		if errors.Is(err, errSilentPeer) {
			h.closeThrough(id)
		}
		wait := peerPause
		if status.Code(err) == codes.Unimplemented {
			wait = peerPauseUnknown
		}
		if ctx.Err() == nil {
			h.log.Debug("the agents of a node are not known", "server", id, "error", err)
		}
		if !pause(ctx, wait) {
			return
		}
	}
}

func (h *Hub) watchPeer(ctx context.Context, id string) error {
	conn, err := h.opts.PeerConn(ctx, id)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(h.opts.PeerSilence, func() { cancel(errSilentPeer) })
	defer silence.Stop()
	stream, err := pmpb.NewAgentRelayServiceClient(conn).WatchAgents(ctx, &pmpb.WatchAgentsRequest{ServerId: id})
	if err != nil {
		return err
	}
	for {
		m, err := stream.Recv()
		if err != nil && errors.Is(context.Cause(ctx), errSilentPeer) {
			return errSilentPeer
		}
		if err != nil {
			return err
		}
		silence.Reset(h.opts.PeerSilence)
		if len(m.GetAdded())+len(m.GetRemoved()) > 0 {
			h.table.learn(id, m.GetAdded(), m.GetRemoved())
			h.signal()
		}
	}
}

// pause waits for d, or returns false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
