package raftstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// This file is the only place where the node opens or accepts connections.

const (
	// preamble opens every connection to the log's port. Two texts follow, each
	// after one byte of length: the dialler's cluster id, empty before it has one,
	// and the id of the server that it wants to talk to.
	preamble = "oaas-raft/1\n"
	// maxConnections bounds accepted connections; each peer holds at most a
	// handful.
	maxConnections = 128
	// handshakeTimeout is how long an accepted connection may take to say which
	// cluster it belongs to.
	handshakeTimeout = 5 * time.Second
	// poolSize is the number of idle connections kept per peer.
	poolSize = 3
	// maxMessage bounds one gRPC message between nodes, in bytes.
	maxMessage = 16 << 20
)

// peerTransport corrects two things in the library's transport, which it embeds
// for all else (pre-vote and closing included).
//
// Heartbeats go through Raft's main loop: the shortcut that the library would
// install runs in the connection's goroutine and changes term and role while the
// main loop does, which can elect two leaders in one term.
//
// Messages go to a server, not to whoever is at its address: the library never
// says whom it means. A server that came back with an empty disk and a new id
// would store entries and cast votes in the name of the one it was before. So
// the id travels with the address to Dial, which puts it into the greeting.
//
// And messages are looked at before the library gets them, which panics on some
// that it cannot decode; see checkMessage.
type peerTransport struct {
	*raft.NetworkTransport
	checked chan raft.RPC
	refuse  func(command any, err error)
	// contacts is told who answers, fresh what a leader says.
	contacts *contacts
	fresh    *freshness
	closing  sync.Once
	closed   chan struct{}
	wg       sync.WaitGroup
}

// Consumer gives the messages that passed.
func (t *peerTransport) Consumer() <-chan raft.RPC { return t.checked }

func (t *peerTransport) check() {
	defer t.wg.Done()
	for {
		select {
		case <-t.closed:
			return
		case rpc := <-t.NetworkTransport.Consumer():
			if err := checkMessage(rpc.Command); err != nil {
				t.refuse(rpc.Command, err)
				rpc.Respond(nil, fmt.Errorf("raftstore: the message was refused: %w", err))
				continue
			}
			if a, ok := rpc.Command.(*raft.AppendEntriesRequest); ok {
				t.fresh.heard(a, time.Now())
			}
			select {
			case t.checked <- rpc:
			case <-t.closed:
				return
			}
		}
	}
}

// Close ends the transport and its goroutine.
func (t *peerTransport) Close() error {
	t.closing.Do(func() { close(t.closed) })
	err := t.NetworkTransport.Close()
	t.wg.Wait()
	return err
}

// SetHeartbeatHandler does nothing.
func (*peerTransport) SetHeartbeatHandler(func(raft.RPC)) {}

func (t *peerTransport) AppendEntriesPipeline(id raft.ServerID, a raft.ServerAddress) (raft.AppendPipeline, error) {
	inner, err := t.NetworkTransport.AppendEntriesPipeline(id, target(id, a))
	if err != nil {
		return nil, err
	}
	return newDrainedPipeline(inner), nil
}

func (t *peerTransport) AppendEntries(id raft.ServerID, a raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	err := t.NetworkTransport.AppendEntries(id, target(id, a), args, resp)
	if err == nil {
		t.contacts.note(id)
	}
	return err
}

func (t *peerTransport) RequestVote(id raft.ServerID, a raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return t.NetworkTransport.RequestVote(id, target(id, a), args, resp)
}

func (t *peerTransport) RequestPreVote(id raft.ServerID, a raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return t.NetworkTransport.RequestPreVote(id, target(id, a), args, resp)
}

func (t *peerTransport) InstallSnapshot(id raft.ServerID, a raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	return t.NetworkTransport.InstallSnapshot(id, target(id, a), args, resp, data)
}

func (t *peerTransport) TimeoutNow(id raft.ServerID, a raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return t.NetworkTransport.TimeoutNow(id, target(id, a), args, resp)
}

// target is what Dial gets: id@host:port. The library also pools connections by
// it, so those to a former server of an address are not used for the next one.
func target(id raft.ServerID, a raft.ServerAddress) raft.ServerAddress {
	return raft.ServerAddress(id) + "@" + a
}

func newTransport(layer *streamLayer, timing Timing, log hclog.Logger) raft.Transport {
	t := &peerTransport{
		NetworkTransport: raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
			Stream:                  layer,
			MaxPool:                 poolSize,
			MaxRPCsInFlight:         2,
			Timeout:                 timing.RPC,
			Logger:                  log,
			MsgpackUseNewTimeFormat: true,
		}),
		contacts: &layer.contacts,
		fresh:    &layer.fresh,
		checked:  make(chan raft.RPC),
		closed:   make(chan struct{}),
		refuse: func(command any, err error) {
			layer.m.refusedCalls.WithLabelValues("malformed").Inc()
			layer.refusals.tell("a message on the log's port", sender(command), "malformed", fmt.Errorf("%T: %w", command, err))
		},
	}
	t.wg.Add(1)
	go t.check()
	return t
}

// sender gives the address that a message says it is from. The library does not tell
// the connection that it came by.
func sender(command any) string {
	if m, ok := command.(raft.WithRPCHeader); ok && len(m.GetRPCHeader().Addr) > 0 {
		return fmt.Sprintf("%.128s", m.GetRPCHeader().Addr)
	}
	return "unknown"
}

// textAddr is a net.Addr that is advertised exactly as it was configured.
type textAddr string

func (textAddr) Network() string  { return "tcp" }
func (a textAddr) String() string { return string(a) }

// streamLayer carries Raft's connections. It refuses those of another cluster
// and whatever does not speak the protocol before the library decodes a byte.
type streamLayer struct {
	listener  net.Listener
	address   textAddr
	serverID  string
	dial      DialFunc
	clusterID func() string
	// whereabouts gives the address that a server told last, empty when none is
	// known. It may be nil, and is set before the first Dial.
	whereabouts func(id string) string
	log         hclog.Logger
	refusals    *refusalLog
	contacts    contacts
	fresh       freshness
	m           *metrics

	accepted chan net.Conn
	// lost gets a value when an accepted connection has ended.
	lost   chan struct{}
	slots  chan struct{}
	closed chan struct{}
	wg     sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	done  bool
}

var _ raft.StreamLayer = (*streamLayer)(nil)

func newStreamLayer(l net.Listener, address, serverID string, dial DialFunc, clusterID func() string, log hclog.Logger, m *metrics) *streamLayer {
	s := &streamLayer{
		listener: l, address: textAddr(address), serverID: serverID, dial: dial, clusterID: clusterID, log: log, m: m,
		refusals: newRefusalLog(log),
		accepted: make(chan net.Conn),
		lost:     make(chan struct{}, 1),
		slots:    make(chan struct{}, maxConnections),
		closed:   make(chan struct{}),
		conns:    make(map[net.Conn]struct{}),
	}
	s.wg.Add(1)
	go s.acceptLoop()
	return s
}

// Addr gives the advertised address, which the library uses as this node's.
func (s *streamLayer) Addr() net.Addr { return s.address }

// Accept gives the next connection that passed the handshake.
func (s *streamLayer) Accept() (net.Conn, error) {
	select {
	case c := <-s.accepted:
		return c, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

// Dial connects to the server that to names as id@host:port, resolving the name
// now.
func (s *streamLayer) Dial(to raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	id, address, ok := strings.Cut(string(to), "@")
	if !ok {
		return nil, fmt.Errorf("raftstore: %q does not say which server is meant", to)
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	conn, err := s.reach(ctx, id, address)
	if err != nil {
		return nil, err
	}
	_ = conn.SetWriteDeadline(time.Now().Add(timeout))
	if _, err := conn.Write(greeting{cluster: s.clusterID(), target: id}.encode()); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("raftstore: greeting %s: %w", to, err)
	}
	_ = conn.SetWriteDeadline(time.Time{})
	tracked, ok := s.track(conn, nil)
	if !ok {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	return tracked, nil
}

// reach connects to a server: where it said that it is, if that is known and not
// what the configuration says, else or after that at the configuration's address.
// Only a leader can change the configuration, and when a majority has moved there
// is none until its nodes have found each other. The greeting names the server, so
// whoever else is there now refuses.
func (s *streamLayer) reach(ctx context.Context, id, address string) (net.Conn, error) {
	moved := ""
	if s.whereabouts != nil {
		moved = s.whereabouts(id)
	}
	if parked(raft.ServerAddress(address)) {
		if address = moved; moved == "" {
			return nil, fmt.Errorf("raftstore: server %s has moved and has not said where to", id)
		}
	}
	if moved == "" || moved == address {
		return s.dial(ctx, address)
	}
	deadline, _ := ctx.Deadline()
	half, cancel := context.WithTimeout(ctx, time.Until(deadline)/2)
	defer cancel()
	conn, err := s.dial(half, moved)
	if err == nil {
		return conn, nil
	}
	if conn, atOld := s.dial(ctx, address); atOld == nil {
		return conn, nil
	}
	return nil, err
}

// Close ends the listener and every connection, and waits for the layer's own
// goroutines.
func (s *streamLayer) Close() error {
	s.mu.Lock()
	if s.done {
		s.mu.Unlock()
		return nil
	}
	s.done = true
	close(s.closed)
	open := make([]net.Conn, 0, len(s.conns))
	for c := range s.conns {
		open = append(open, c)
	}
	s.mu.Unlock()
	err := s.listener.Close()
	for _, c := range open {
		_ = c.Close()
	}
	s.wg.Wait()
	return err
}

func (s *streamLayer) acceptLoop() {
	defer s.wg.Done()
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			s.log.Warn("accepting a connection failed", "error", err)
			select {
			case <-s.closed:
				return
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		select {
		case s.slots <- struct{}{}:
		default:
			s.refuse(conn, "too many connections", nil)
			continue
		}
		tracked, ok := s.track(conn, s.slots)
		if !ok {
			_ = conn.Close()
			return
		}
		s.wg.Add(1)
		go s.greet(tracked)
	}
}

// greet reads the preamble and hands the connection to the library.
func (s *streamLayer) greet(conn net.Conn) {
	defer s.wg.Done()
	_ = conn.SetReadDeadline(time.Now().Add(handshakeTimeout))
	g, err := readGreeting(conn)
	if err != nil {
		s.refuse(conn, "no valid greeting", err)
		return
	}
	if own := s.clusterID(); g.cluster != "" && own != "" && g.cluster != own {
		s.refuse(conn, "another cluster", fmt.Errorf("it says %q, this is %q", g.cluster, own))
		return
	}
	if g.target != s.serverID {
		s.refuse(conn, "another server meant", fmt.Errorf("it wants %q, this is %q", g.target, s.serverID))
		return
	}
	_ = conn.SetReadDeadline(time.Time{})
	select {
	case s.accepted <- conn:
	case <-s.closed:
		_ = conn.Close()
	}
}

func (s *streamLayer) refuse(conn net.Conn, reason string, err error) {
	s.m.refused.WithLabelValues(reason).Inc()
	s.refusals.tell("a connection to the log's port", conn.RemoteAddr().String(), reason, err)
	_ = conn.Close()
}

// greeting is what a dialler says first.
type greeting struct {
	cluster string
	target  string
}

func (g greeting) encode() []byte {
	out := append([]byte(preamble), byte(len(g.cluster)))
	out = append(out, g.cluster...)
	out = append(out, byte(len(g.target)))
	return append(out, g.target...)
}

// readGreeting reads exactly one greeting, at most 523 bytes.
func readGreeting(r io.Reader) (greeting, error) {
	var head [len(preamble)]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return greeting{}, err
	}
	if string(head[:]) != preamble {
		return greeting{}, errors.New("not this protocol")
	}
	var g greeting
	for _, text := range []*string{&g.cluster, &g.target} {
		var size [1]byte
		if _, err := io.ReadFull(r, size[:]); err != nil {
			return greeting{}, err
		}
		buf := make([]byte, size[0])
		if _, err := io.ReadFull(r, buf); err != nil {
			return greeting{}, err
		}
		*text = string(buf)
	}
	return g, nil
}

// track remembers conn until it is closed; then slot, if any, is given back.
func (s *streamLayer) track(conn net.Conn, slot <-chan struct{}) (net.Conn, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		return nil, false
	}
	t := &trackedConn{Conn: conn, layer: s, slot: slot}
	s.conns[t] = struct{}{}
	return t, true
}

type trackedConn struct {
	net.Conn
	layer *streamLayer
	slot  <-chan struct{}
	once  sync.Once
}

func (c *trackedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		c.layer.mu.Lock()
		delete(c.layer.conns, c)
		c.layer.mu.Unlock()
		if c.slot != nil {
			<-c.slot
			select {
			case c.layer.lost <- struct{}{}:
			default: // whoever reads it looks at the leader, not at the connection
			}
		}
	})
	return err
}

func dialTCP(ctx context.Context, address string) (net.Conn, error) {
	d := net.Dialer{KeepAlive: 15 * time.Second}
	return d.DialContext(ctx, "tcp", address)
}

// dialGRPC makes a connection to a peer's internal port that connects lazily,
// notices a dead peer by itself and comes back quickly.
func dialGRPC(address string, dial DialFunc) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, a string) (net.Conn, error) { return dial(ctx, a) }),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 2 * time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 15 * time.Second, Timeout: 5 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
	)
}

// ServerOptions are what the internal gRPC server should be made with: the
// limits and keepalives that fit what nodes send each other.
func (n *Node) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.StatsHandler(&callStats{n}),
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	}
}
