package tunnel

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/types/known/durationpb"

	"oaas.io/control-plane/proto/tunnelpb"
)

// missedPings is how many pings may go unanswered.
const missedPings = 3

// agentsService answers agents.
type agentsService struct {
	tunnelpb.UnimplementedTunnelServiceServer
	hub *Hub
}

type agentStream = grpc.BidiStreamingServer[tunnelpb.ConnectRequest, tunnelpb.ConnectResponse]

// Connect implements tunnelpb.TunnelServiceServer. Whatever it has started that uses the
// stream ends when it returns, which it therefore does without waiting for that.
func (s *agentsService) Connect(stream agentStream) error {
	h := s.hub
	hello, err := h.admit(stream)
	if err == nil {
		err = h.serve(stream, hello)
	}
	var refused *RefusedError
	if errors.As(err, &refused) {
		h.Refused(remoteAddress(stream.Context()), hello.GetCluster(), refused)
	}
	return err
}

// Refused counts and tells of an agent that is not let in.
func (h *Hub) Refused(from, cluster string, err *RefusedError) {
	h.metrics.refused.WithLabelValues(err.reason).Inc()
	h.refusals.tell(from, err.reason, cluster, err)
}

// admit finds out who is there and whether he may be.
func (h *Hub) admit(stream agentStream) (*tunnelpb.Hello, error) {
	hello, err := h.greeting(stream)
	if err != nil {
		return nil, err
	}
	if err := checkHello(hello); err != nil {
		return hello, Refuse(reasonMalformed, "hello: %v", err)
	}
	select {
	case <-h.draining:
		// Another stream of a connection that stands is let in, to be told to go elsewhere
		// and to wait here until it has: the manager could not know when it offered it.
		if h.table.find(hello) == nil {
			return hello, Refuse(reasonStopping, "this node is about to stop")
		}
	default:
	}
	if err := h.opts.Authenticate(stream.Context(), hello.GetCluster()); err != nil {
		return hello, err
	}
	if err := h.allow(hello.GetCluster(), remoteAddress(stream.Context())); err != nil {
		return hello, err
	}
	if !h.hasContact() {
		return hello, Refuse(reasonNoLeader, "this node does not hear from a leader")
	}
	return hello, h.checkIdentity(Cluster{hello.GetCluster(), hello.GetClusterUid()})
}

// greeting waits for the first message.
func (h *Hub) greeting(stream agentStream) (*tunnelpb.Hello, error) {
	type result struct {
		m   *tunnelpb.ConnectRequest
		err error
	}
	first := make(chan result, 1)
	if !h.crew.start(func() {
		m, err := stream.Recv()
		first <- result{m, err}
	}) {
		return nil, Refuse(reasonStopping, "this node is about to stop")
	}
	timer := time.NewTimer(h.opts.HelloTimeout)
	defer timer.Stop()
	select {
	case r := <-first:
		if r.err != nil {
			return nil, r.err
		}
		if r.m.GetHello() == nil {
			return nil, Refuse(reasonMalformed, "the first message must be a hello")
		}
		return r.m.GetHello(), nil
	case <-timer.C:
		return nil, Refuse(reasonSilent, "no hello within %s", h.opts.HelloTimeout)
	case <-h.life.Done():
		return nil, Refuse(reasonStopping, "this node stops")
	}
}

// serve keeps a stream until it ends.
func (h *Hub) serve(stream agentStream, hello *tunnelpb.Hello) error {
	remote := remoteAddress(stream.Context())
	entitled := func() error {
		err := h.opts.Authenticate(stream.Context(), hello.GetCluster())
		var refused *RefusedError
		if errors.As(err, &refused) {
			return refused.later()
		}
		return err
	}
	o, first, err := h.table.add(hello, remote, entitled)
	if err != nil {
		return err
	}
	log := h.log.With("cluster", hello.GetCluster(), "instance", hello.GetInstance(), "connection", hello.GetConnection(), "remote", remote)
	if first {
		h.metrics.connects.Inc()
		log.Info("agent connected", "uid", hello.GetClusterUid(), "version", printable(hello.GetVersion()))
		h.signal()
	}
	defer func() {
		if h.table.remove(o) {
			log.Info("agent disconnected", "reason", err)
			h.signal()
		}
	}()
	welcome := &tunnelpb.Welcome{Node: h.opts.Node, ServerId: h.opts.ServerID, Silence: durationpb.New((missedPings + 1) * h.opts.PingInterval)}
	if err = stream.Send(&tunnelpb.ConnectResponse{Message: &tunnelpb.ConnectResponse_Welcome{Welcome: welcome}}); err != nil {
		return err
	}
	err = h.attend(stream, o)
	return err
}

// attend looks after a stream: it pings while the stream waits, and joins it with the
// connection that takes it.
func (h *Hub) attend(stream agentStream, o *offer) error {
	heard := make(chan error, 1)
	pongs := make(chan struct{}, 1)
	opened := make(chan *end, 1)
	bytes := h.metrics.traffic()
	if !h.crew.start(func() { heard <- hear(stream, pongs, opened, bytes) }) {
		return Refuse(reasonStopping, "this node stops")
	}
	ping := time.NewTicker(h.opts.PingInterval)
	defer ping.Stop()
	draining, missed := h.draining, 0
	for {
		select {
		case err := <-heard:
			return err
		case err := <-o.evicted:
			return err
		case <-h.life.Done():
			return Refuse(reasonStopping, "this node stops")
		case <-pongs:
			missed = 0
		case <-ping.C:
			if missed++; missed > missedPings {
				return Refuse(reasonSilent, "%d pings were not answered", missedPings)
			}
			if err := stream.Send(&tunnelpb.ConnectResponse{Message: &tunnelpb.ConnectResponse_Ping{Ping: &tunnelpb.Ping{}}}); err != nil {
				return err
			}
		case <-draining:
			draining = nil
			drain := &tunnelpb.Drain{Reason: "this node is about to stop"}
			if err := stream.Send(&tunnelpb.ConnectResponse{Message: &tunnelpb.ConnectResponse_Drain{Drain: drain}}); err != nil {
				return err
			}
		case far := <-o.taken:
			opened <- far // before the agent is told, so that no byte of its comes first
			return h.carry(stream, carried{conn: far, received: heard, evicted: o.evicted}, bytes)
		}
	}
}

// carry joins a stream, which is heard already, with the connection that has taken it.
func (h *Hub) carry(stream agentStream, c carried, bytes traffic) error {
	if err := stream.Send(&tunnelpb.ConnectResponse{Message: &tunnelpb.ConnectResponse_Open{Open: &tunnelpb.Open{}}}); err != nil {
		_ = c.conn.Close() // a pipe that nothing was joined with
		return err
	}
	c.carrier = carrier{
		ctx: stream.Context(), linger: h.opts.linger, stop: h.life.Done(),
		put: func(data []byte) error {
			return stream.Send(&tunnelpb.ConnectResponse{Message: &tunnelpb.ConnectResponse_Data{Data: data}})
		},
	}
	return ending(c.run(bytes, &h.crew))
}

// ending is what the end of a connection means for the stream that carried it: nothing
// is wrong when one side has closed it.
func ending(err error) error {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrClosedPipe):
		return nil
	case errors.Is(err, errTooLong):
		return Refuse(reasonMalformed, "%v", err)
	case errors.Is(err, errUnread):
		return Refuse(reasonSilent, "%v", err)
	case errors.Is(err, errStopped):
		return Refuse(reasonStopping, "this node stops")
	default:
		return err
	}
}

// hear reads what an agent says: pongs, and bytes once the stream was opened.
func hear(stream agentStream, pongs chan<- struct{}, opened <-chan *end, bytes traffic) error {
	var conn *end
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		switch m := m.GetMessage().(type) {
		case *tunnelpb.ConnectRequest_Pong:
			select {
			case pongs <- struct{}{}:
			default:
			}
		case *tunnelpb.ConnectRequest_Data:
			if conn == nil {
				select {
				case conn = <-opened:
				default:
					return Refuse(reasonMalformed, "bytes came before the stream was opened")
				}
			}
			if err := deliver(conn, m.Data, bytes.received); err != nil {
				return err
			}
		default:
			return Refuse(reasonMalformed, "a message that is neither a pong nor bytes")
		}
	}
}

// remoteAddress is where a call comes from.
func remoteAddress(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok && p.Addr != nil {
		return p.Addr.String()
	}
	return "unknown"
}
