package tunnel

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"oaas.io/control-plane/proto/tunnelpb"
)

const (
	// connectTimeout bounds an attempt, from the first packet to the welcome.
	connectTimeout = 10 * time.Second
	// minSilence and maxSilence bound what a node may ask an agent to believe.
	minSilence, maxSilence = 100 * time.Millisecond, 5 * time.Minute
)

// link is one connection of an agent to a node.
type link struct {
	agent   *Agent
	address string
	number  uint64
	uid     string

	// stood says that the node has welcomed the agent, and node who it is.
	stood bool
	node  string
	// relieve is called when the connection stands: another one is not needed any more.
	relieve func()
	// drained is closed when the node asks the agent to go.
	drained chan struct{}
	drain   sync.Once
	// active are the streams that carry something.
	active sync.WaitGroup
}

type nodeStream = grpc.BidiStreamingClient[tunnelpb.ConnectRequest, tunnelpb.ConnectResponse]

// run connects and keeps one stream waiting until that cannot be done any more, or ctx
// ends. Streams that carry something go on until life ends; the connection is closed
// after the last one.
func (l *link) run(ctx, life context.Context) error {
	conn, err := l.dial()
	if err != nil {
		return err
	}
	defer func() {
		closing := func() { _ = conn.Close() } // nothing is left on it
		if !l.agent.crew.start(func() { l.active.Wait(); closing() }) {
			closing()
		}
	}()
	client := tunnelpb.NewTunnelServiceClient(conn)
	for {
		opened, err := l.offer(ctx, life, client)
		if err != nil {
			return err
		}
		l.carry(life, opened)
	}
}

func (l *link) dial() (*grpc.ClientConn, error) {
	options, err := l.agent.opts.DialOptions()
	if err != nil {
		return nil, err
	}
	return grpc.NewClient("dns:///"+l.address, append([]grpc.DialOption{
		// Behind a name with several addresses each connection may go to another node.
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"pick_first":{"shuffleAddressList":true}}]}`),
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		grpc.WithStaticStreamWindowSize(windowSize), grpc.WithStaticConnWindowSize(8 * windowSize),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second, PermitWithoutStream: true}),
	}, options...)...)
}

// stream is one that waits or carries something.
type stream struct {
	nodeStream
	end context.CancelFunc
}

// offer keeps a stream waiting until it is opened.
func (l *link) offer(ctx, life context.Context, client tunnelpb.TunnelServiceClient) (*stream, error) {
	life, end := context.WithCancelCause(life)
	unlink := context.AfterFunc(ctx, func() { end(ctx.Err()) }) // the stream outlives ctx only once it carries something
	watchdog := time.AfterFunc(connectTimeout, func() { end(errSilentNode) })
	defer watchdog.Stop()
	opened, err := l.await(life, client, func(silence time.Duration) { watchdog.Reset(silence) })
	if !unlink() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		if cause := context.Cause(life); cause != nil {
			err = cause
		}
		end(nil)
		if ctx.Err() != nil {
			return nil, err
		}
		return nil, l.explain(err)
	}
	return &stream{nodeStream: opened, end: func() { end(nil) }}, nil
}

var errSilentNode = errors.New("the node says nothing")

// await says hello, and answers pings until the node opens the stream.
func (l *link) await(ctx context.Context, client tunnelpb.TunnelServiceClient, heard func(silence time.Duration)) (nodeStream, error) {
	s, err := client.Connect(ctx)
	if err != nil {
		return nil, err
	}
	hello := &tunnelpb.Hello{
		Cluster: l.agent.opts.Cluster, ClusterUid: l.uid, Instance: l.agent.instance, Connection: l.number, Version: l.agent.opts.Version,
	}
	first, err := firstOf(s, s.Send(&tunnelpb.ConnectRequest{Message: &tunnelpb.ConnectRequest_Hello{Hello: hello}}))
	if err != nil {
		return nil, err
	}
	welcome := first.GetWelcome()
	if welcome == nil {
		return nil, errors.New("it does not answer a hello: is this the agents' port of a pmd?")
	}
	silence := min(max(welcome.GetSilence().AsDuration(), minSilence), maxSilence)
	heard(silence)
	l.welcomed(welcome)
	for {
		m, err := s.Recv()
		if err != nil {
			return nil, err
		}
		switch m.GetMessage().(type) {
		case *tunnelpb.ConnectResponse_Ping:
			heard(silence)
			if err := s.Send(&tunnelpb.ConnectRequest{Message: &tunnelpb.ConnectRequest_Pong{Pong: &tunnelpb.Pong{}}}); err != nil {
				return nil, err
			}
		case *tunnelpb.ConnectResponse_Open:
			return s, nil
		case *tunnelpb.ConnectResponse_Drain:
			l.drain.Do(func() { close(l.drained) })
		default:
			return nil, errors.New("the node sent bytes on a stream that it has not opened")
		}
	}
}

// welcomed notes that the connection stands.
func (l *link) welcomed(w *tunnelpb.Welcome) {
	if l.stood {
		return
	}
	l.stood, l.node = true, printable(w.GetNode())
	l.agent.metrics.connects.WithLabelValues(outcomeConnected).Inc()
	l.agent.log.Info("connected to the control plane", "address", l.address, "node", l.node, "connection", l.number)
	l.relieve()
}

// explain counts a failure and says what it means.
func (l *link) explain(err error) error {
	s := status.Convert(err)
	outcome := outcomeFailed
	switch s.Code() {
	case codes.PermissionDenied, codes.FailedPrecondition, codes.InvalidArgument, codes.ResourceExhausted:
		outcome = outcomeRefused
		err = fmt.Errorf("the node refuses this agent: %s", s.Message())
	case codes.Unknown:
	default:
		err = errors.New(s.Message())
	}
	if !l.stood {
		l.agent.metrics.connects.WithLabelValues(outcome).Inc()
	}
	return err
}

// carry joins an open stream with a connection and hands that over.
func (l *link) carry(life context.Context, s *stream) {
	a := l.agent
	near, far := pipe(a.Addr().String(), l.node+" at "+l.address)
	put := func(data []byte) error {
		return s.Send(&tunnelpb.ConnectRequest{Message: &tunnelpb.ConnectRequest_Data{Data: data}})
	}
	get := func() ([]byte, error) {
		m, err := s.Recv()
		if _, data := m.GetMessage().(*tunnelpb.ConnectResponse_Data); err == nil && !data {
			err = errors.New("a message without bytes on an open stream")
		}
		return m.GetData(), err
	}
	l.active.Add(1)
	carrying := func() {
		defer l.active.Done()
		defer s.end()
		a.metrics.active.Inc()
		defer a.metrics.active.Dec()
		if err := a.handOver(life, near); err != nil {
			_ = far.Close() // nobody listens any more
			return
		}
		over := carrier{ctx: s.Context(), put: put, get: get, finish: s.CloseSend, linger: a.opts.linger, stop: life.Done()}
		_ = splice(far, over, a.metrics.traffic(), &a.crew) // what is wrong shows at the other end of the pipe
	}
	if !a.crew.start(carrying) {
		l.active.Done()
		s.end()
	}
}
