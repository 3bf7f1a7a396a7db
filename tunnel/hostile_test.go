package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/proto/tunnelpb"
)

// raw is an agent that says what a test wants.
type raw struct {
	t      *testing.T
	client tunnelpb.TunnelServiceClient
}

func newRaw(t *testing.T, n *node) *raw {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+n.agents, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithStaticStreamWindowSize(64<<10))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &raw{t: t, client: tunnelpb.NewTunnelServiceClient(conn)}
}

func hello(of Cluster, instance string) *tunnelpb.ConnectRequest {
	return &tunnelpb.ConnectRequest{Message: &tunnelpb.ConnectRequest_Hello{Hello: &tunnelpb.Hello{
		Cluster: of.Name, ClusterUid: of.UID, Instance: instance, Connection: 1,
	}}}
}

func dataOf(n int) *tunnelpb.ConnectRequest {
	return &tunnelpb.ConnectRequest{Message: &tunnelpb.ConnectRequest_Data{Data: make([]byte, n)}}
}

// connect opens a stream and says the messages.
func (r *raw) connect(messages ...*tunnelpb.ConnectRequest) nodeStream {
	r.t.Helper()
	s, _ := r.stream(messages...)
	return s
}

// stream is connect with what cuts the stream.
func (r *raw) stream(messages ...*tunnelpb.ConnectRequest) (nodeStream, context.CancelFunc) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience) // what a test waits for does not come from this
	r.t.Cleanup(cancel)
	s, err := r.client.Connect(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, m := range messages {
		if err := s.Send(m); err != nil && !errors.Is(err, io.EOF) {
			r.t.Fatal(err)
		}
	}
	return s, cancel
}

// welcomed is connect with the answer to it.
func (r *raw) welcomed(of Cluster, instance string) nodeStream {
	r.t.Helper()
	s := r.connect(hello(of, instance))
	if m, err := s.Recv(); err != nil || m.GetWelcome() == nil {
		r.t.Fatalf("no welcome: %v, %v", m, err)
	}
	return s
}

// outcome reads to the end of a stream.
func outcome(s nodeStream) error {
	for {
		if _, err := s.Recv(); err != nil {
			return err
		}
	}
}

func TestRefusedAgents(t *testing.T) {
	p := newPlane(t, 1, func(o *HubOptions) {
		o.HelloTimeout = 50 * time.Millisecond
		o.Authenticate = func(_ context.Context, cluster string) error {
			if cluster == "foreign" {
				return Refuse(ReasonCertificate, "the certificate is not for cluster %s", cluster)
			}
			return nil
		}
	})
	n := p.node("pm-0")
	p.register("taken", "uid-9")
	r := newRaw(t, n)
	tests := map[string]struct {
		say    []*tunnelpb.ConnectRequest
		code   codes.Code
		reason string
	}{
		"says nothing":        {nil, codes.DeadlineExceeded, reasonSilent},
		"begins with bytes":   {[]*tunnelpb.ConnectRequest{dataOf(1)}, codes.InvalidArgument, reasonMalformed},
		"begins with nothing": {[]*tunnelpb.ConnectRequest{{}}, codes.InvalidArgument, reasonMalformed},
		"no name":             {[]*tunnelpb.ConnectRequest{hello(Cluster{"", "u"}, "i")}, codes.InvalidArgument, reasonMalformed},
		"no uid":              {[]*tunnelpb.ConnectRequest{hello(Cluster{"edge", ""}, "i")}, codes.InvalidArgument, reasonMalformed},
		"no instance":         {[]*tunnelpb.ConnectRequest{hello(edge, "")}, codes.InvalidArgument, reasonMalformed},
		"a long name":         {[]*tunnelpb.ConnectRequest{hello(Cluster{strings.Repeat("a", 64), "u"}, "i")}, codes.InvalidArgument, reasonMalformed},
		"a name with a line":  {[]*tunnelpb.ConnectRequest{hello(Cluster{"a\nb", "u"}, "i")}, codes.InvalidArgument, reasonMalformed},
		"not entitled":        {[]*tunnelpb.ConnectRequest{hello(Cluster{"foreign", "u"}, "i")}, codes.PermissionDenied, ReasonCertificate},
		"another's name":      {[]*tunnelpb.ConnectRequest{hello(Cluster{"taken", "u"}, "i")}, codes.FailedPrecondition, reasonIdentity},
		"hello twice":         {[]*tunnelpb.ConnectRequest{hello(edge, "a"), hello(edge, "a")}, codes.InvalidArgument, reasonMalformed},
		"bytes too early":     {[]*tunnelpb.ConnectRequest{hello(edge, "b"), dataOf(1)}, codes.InvalidArgument, reasonMalformed},
		"a huge message":      {[]*tunnelpb.ConnectRequest{hello(edge, "c"), dataOf(1 << 20)}, codes.ResourceExhausted, ""},
	}
	for what, tc := range tests {
		t.Run(what, func(t *testing.T) {
			var before float64
			if tc.reason != "" {
				before = testutil.ToFloat64(n.hub.metrics.refused.WithLabelValues(tc.reason))
			}
			if err := outcome(r.connect(tc.say...)); status.Code(err) != tc.code {
				t.Errorf("it ends with %v, want %v", err, tc.code)
			}
			if tc.reason != "" {
				eventually(t, "the refusal is counted", func() bool {
					return testutil.ToFloat64(n.hub.metrics.refused.WithLabelValues(tc.reason)) > before
				})
			}
		})
	}
	if strings.Contains(n.log.String(), "a\nb") {
		t.Error("an agent put a line into the log")
	}
}

// What entitles an agent may be taken back: it is sent away with the reason, and what its
// connections carry ends, whether it was dialled from its own node or another.
func TestWhoIsNotEntitledAnyMoreIsSentAway(t *testing.T) {
	var revoked atomic.Bool
	p := newPlane(t, 2, func(o *HubOptions) {
		o.Authenticate = func(_ context.Context, cluster string) error {
			if cluster == edge.Name && revoked.Load() {
				return Refuse(ReasonToken, "the token is none of %s", cluster)
			}
			return nil
		}
	})
	n, other := p.node("pm-0"), Cluster{"edge-2", "uid-2"}
	e := p.attach(edge, "i-1", []string{n.agents})
	p.attach(other, "i-1", []string{n.agents})
	standing, _ := p.node("pm-1").dial(other)
	var conns []net.Conn
	for _, id := range []string{"pm-0", "pm-1"} {
		conn, _ := p.node(id).dial(edge)
		conns = append(conns, conn)
	}
	revoked.Store(true)
	for _, conn := range conns {
		if _, err := io.Copy(io.Discard, conn); err != nil {
			t.Errorf("it ends with %v", err)
		}
	}
	eventually(t, "it is told why", func() bool {
		return strings.Contains(e.log.String(), "the token is none of edge-1")
	})
	eventually(t, "nobody knows it", func() bool {
		return len(n.hub.Connections(edge)) == 0 && len(p.node("pm-1").hub.Connections(edge)) == 0
	})
	if testutil.ToFloat64(n.hub.metrics.refused.WithLabelValues(ReasonToken)) == 0 {
		t.Error("it is not counted")
	}
	exchange(t, standing, 1000)
	revoked.Store(false)
	conn, _ := p.node("pm-1").dial(edge)
	exchange(t, conn, 1000)
}

func TestAgentThatDoesNotAnswerPings(t *testing.T) {
	p := newPlane(t, 1, func(o *HubOptions) { o.PingInterval = 10 * time.Millisecond })
	s := newRaw(t, p.node("pm-0")).welcomed(edge, "i")
	if err := outcome(s); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("it ends with %v", err)
	}
	eventually(t, "it is gone", func() bool { return len(p.node("pm-0").hub.Attached()) == 0 })
}

// One that does stays, for as long as nobody wants a connection.
func TestAgentThatAnswersPings(t *testing.T) {
	p := newPlane(t, 1, func(o *HubOptions) { o.PingInterval = time.Second })
	s := newRaw(t, p.node("pm-0")).welcomed(edge, "i")
	for range missedPings + 3 {
		m, err := s.Recv()
		if err != nil || m.GetPing() == nil {
			t.Fatalf("no ping: %v, %v", m, err)
		}
		if err := s.Send(&tunnelpb.ConnectRequest{Message: &tunnelpb.ConnectRequest_Pong{Pong: &tunnelpb.Pong{}}}); err != nil {
			t.Fatal(err)
		}
	}
}

// Agents that send as much as they can and read nothing are bounded, and cost others
// nothing.
func TestStalledAgentHarmsOnlyItself(t *testing.T) {
	p := newPlane(t, 2)
	bad, good := Cluster{"bad", "uid-b"}, Cluster{"good", "uid-g"}
	stalled, end := newRaw(t, p.node("pm-0")).stream(hello(bad, "i"))
	if m, err := stalled.Recv(); err != nil || m.GetWelcome() == nil {
		t.Fatalf("no welcome: %v, %v", m, err)
	}
	p.attach(good, "i-1", []string{p.node("pm-0").agents})
	eventually(t, "it is known", func() bool { return len(p.node("pm-1").hub.Connections(bad)) == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := p.node("pm-1").hub.Dial(ctx, bad)
	if err != nil {
		t.Fatal(err)
	}
	// Nobody reads what it sends, and it reads nothing of what it is sent.
	_ = conn.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
	written, err := io.Copy(conn, endless{})
	if err == nil {
		t.Error("an agent that reads nothing takes everything")
	}
	if most := int64(4 << 20); written > most {
		t.Errorf("%d bytes wait for an agent that reads nothing", written)
	}
	sent := make(chan int64, 1)
	go func() {
		var n int64
		for stalled.Send(dataOf(maxData)) == nil {
			n += maxData
		}
		sent <- n
	}()
	healthy, _ := p.node("pm-1").dial(good)
	exchange(t, healthy, 1<<20)
	_ = conn.Close()
	eventually(t, "the node is done with it", func() bool {
		_, waiting, active := p.node("pm-0").hub.table.counts()
		return waiting == 1 && active == 1 // those of the other one
	})
	end() // its own end of the stream stays until it goes
	if n := <-sent; n > 8<<20 {
		t.Errorf("%d bytes of an agent were taken in that nobody reads", n)
	}
	exchange(t, healthy, 1<<20)
}

// endless is a reader without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestStreamsAreBounded(t *testing.T) {
	p := newPlane(t, 1)
	n := p.node("pm-0")
	r := newRaw(t, n)
	for range maxWaiting {
		r.welcomed(edge, "i")
	}
	if err := outcome(r.connect(hello(edge, "i"))); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one more stream ends with %v", err)
	}
	// Connections of a cluster, whatever their instance.
	var last error
	for i := range maxConnectionsOfCluster {
		s := r.connect(hello(edge, "i-"+strings.Repeat("x", i+1)))
		if m, err := s.Recv(); err != nil {
			last = err
		} else if m.GetWelcome() == nil {
			t.Fatalf("no welcome: %v", m)
		}
	}
	if status.Code(last) != codes.ResourceExhausted {
		t.Errorf("one more connection ends with %v", last)
	}
	if got, _, _ := n.hub.table.counts(); got != maxConnectionsOfCluster {
		t.Errorf("%d connections", got)
	}
	// TCP connections, however few streams each has.
	others := Cluster{"edge-4", "uid-4"}
	for range maxTCPOfCluster {
		newRaw(t, n).connect(hello(others, "i"), &tunnelpb.ConnectRequest{})
	}
	eventually(t, "one TCP connection more is refused", func() bool {
		return status.Code(outcome(newRaw(t, n).connect(hello(others, "i"), &tunnelpb.ConnectRequest{}))) == codes.ResourceExhausted
	})
	// Another cluster is not concerned.
	r2 := newRaw(t, n)
	r2.welcomed(Cluster{"edge-2", "uid-2"}, "i")
	// Nor can one that offers streams without a pause keep the node busy.
	for range helloBurst + helloRate*10 {
		if err := outcome(r2.connect(hello(Cluster{"edge-3", "uid-3"}, "i"), &tunnelpb.ConnectRequest{})); status.Code(err) == codes.ResourceExhausted {
			return
		}
	}
	t.Error("the rate of streams has no bound")
}

func TestConnectionsAreBounded(t *testing.T) {
	p := newPlane(t, 1, func(o *HubOptions) { o.MaxConnections = 2 })
	r := newRaw(t, p.node("pm-0"))
	r.welcomed(Cluster{"a", "a"}, "i")
	r.welcomed(Cluster{"b", "b"}, "i")
	if err := outcome(r.connect(hello(Cluster{"c", "c"}, "i"))); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one agent more ends with %v", err)
	}
}

// Connections that say nothing keep nobody away: the oldest of them makes room. Those of
// agents do not, and what is too much beside them is refused.
func TestPortIsBounded(t *testing.T) {
	const room = 1 + spareConnections
	p := newPlane(t, 1, func(o *HubOptions) { o.MaxConnections = 1 })
	n := p.node("pm-0")
	root, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := n.hub.Limit(root).(*port)
	defer l.Close() //nolint:errcheck // the test is over
	dial := func() net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp", root.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	var outside, inside []net.Conn
	connect := func() {
		t.Helper()
		outside = append(outside, dial())
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		inside = append(inside, conn)
	}
	closed := func(conn net.Conn) bool {
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		_, err := conn.Read(make([]byte, 1))
		return err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
	}
	claim := func(i int) {
		t.Helper()
		if !l.claim(inside[i].RemoteAddr().String(), fmt.Sprint("edge-", i)) {
			t.Fatal("an agent is refused")
		}
	}
	for range room {
		connect()
	}
	claim(0)
	connect()
	if !closed(outside[1]) {
		t.Error("the oldest stranger does not make room")
	}
	_ = inside[1].Close() // gives its place once
	for i := 2; i <= room; i++ {
		claim(i)
	}
	refused := dial()
	accepted := make(chan net.Conn, 1)
	go func() {
		conn, _ := l.Accept()
		accepted <- conn
	}()
	if !closed(refused) {
		t.Error("one connection more is not closed")
	}
	_ = inside[0].Close()
	_ = inside[0].Close() // gives one place, not two
	dial()
	if conn := <-accepted; conn == nil {
		t.Error("the free place is not given")
	}
	if l.strangers.Len() != 1 || len(l.conns) != room || len(l.slots) != room {
		t.Errorf("%d strangers among %d connections with %d places", l.strangers.Len(), len(l.conns), len(l.slots))
	}
}

// Noise on the agents' port is no agent.
func TestNoise(t *testing.T) {
	p := newPlane(t, 1)
	n := p.node("pm-0")
	for _, noise := range []string{
		"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00" + strings.Repeat("\x00", 64), strings.Repeat("\xff", 1<<16),
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + strings.Repeat("\xff", 64),
	} {
		conn, err := net.Dial("tcp", n.agents)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write([]byte(noise))
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		_, _ = io.Copy(io.Discard, conn) // until the node hangs up
		_ = conn.Close()
	}
	p.attach(edge, "i-1", []string{n.agents})
	conn, _ := n.dial(edge)
	exchange(t, conn, 1000)
}

// What other nodes ask is for a node, not for who has its address now.
func TestRelaysAreForTheNodeThatIsMeant(t *testing.T) {
	p := newPlane(t, 2)
	p.attach(edge, "i-1", []string{p.node("pm-0").agents})
	conn, err := p.node("pm-1").conn(t.Context(), "pm-0")
	if err != nil {
		t.Fatal(err)
	}
	client := pmpb.NewAgentRelayServiceClient(conn)
	watch, err := client.WatchAgents(t.Context(), &pmpb.WatchAgentsRequest{ServerId: "pm-1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("watching another node: %v", err)
	}
	for what, tc := range map[string]struct {
		first *pmpb.OpenAgentRequest
		code  codes.Code
	}{
		"bytes first":        {&pmpb.OpenAgentRequest{Message: &pmpb.OpenAgentRequest_Data{}}, codes.InvalidArgument},
		"another node":       {&pmpb.OpenAgentRequest{Message: &pmpb.OpenAgentRequest_Open{Open: &pmpb.OpenAgent{ServerId: "pm-1", Id: 1}}}, codes.FailedPrecondition},
		"another cluster":    {&pmpb.OpenAgentRequest{Message: &pmpb.OpenAgentRequest_Open{Open: &pmpb.OpenAgent{ServerId: "pm-0", Cluster: "edge-2", ClusterUid: "uid-1", Id: 1}}}, codes.Unavailable},
		"another connection": {&pmpb.OpenAgentRequest{Message: &pmpb.OpenAgentRequest_Open{Open: &pmpb.OpenAgent{ServerId: "pm-0", Cluster: "edge-1", ClusterUid: "uid-1", Id: 99}}}, codes.Unavailable},
	} {
		s, err := client.OpenAgent(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Send(tc.first); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Recv(); status.Code(err) != tc.code {
			t.Errorf("%s: %v, want %v", what, err, tc.code)
		}
	}
}

// A node that says nothing any more is not believed to have agents.
func TestSilentNodeIsForgotten(t *testing.T) {
	p := newPlane(t, 1, func(o *HubOptions) { o.PeerSilence = 300 * time.Millisecond })
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	quiet := &mute{release: make(chan struct{})}
	s := grpc.NewServer()
	pmpb.RegisterAgentRelayServiceServer(s, quiet)
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(ln) })
	t.Cleanup(func() { close(quiet.release); s.Stop(); serving.Wait() })
	p.mu.Lock()
	p.nodes["pm-9"] = &node{id: "pm-9", plane: p, peers: ln.Addr().String()}
	p.mu.Unlock()
	hub := p.node("pm-0").hub
	eventually(t, "its agent is known", func() bool { return len(hub.Attached()) == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := hub.Dial(ctx, edge)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "its agent is forgotten", func() bool { return len(hub.Attached()) == 0 })
	// And what goes through it is given up.
	if _, err := io.Copy(io.Discard, conn); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("the connection ends with %v", err)
	}
}

// mute is a node that tells of an agent once.
type mute struct {
	pmpb.UnimplementedAgentRelayServiceServer
	release chan struct{}
}

func (m *mute) WatchAgents(_ *pmpb.WatchAgentsRequest, stream grpc.ServerStreamingServer[pmpb.WatchAgentsResponse]) error {
	err := stream.Send(&pmpb.WatchAgentsResponse{Added: []*pmpb.AgentConnection{{Id: 1, Cluster: edge.Name, ClusterUid: edge.UID, Instance: "i"}}})
	select {
	case <-m.release:
	case <-stream.Context().Done():
	}
	return err
}

func (m *mute) OpenAgent(stream grpc.BidiStreamingServer[pmpb.OpenAgentRequest, pmpb.OpenAgentResponse]) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	err := stream.Send(&pmpb.OpenAgentResponse{Message: &pmpb.OpenAgentResponse_Opened{Opened: &pmpb.AgentOpened{}}})
	select {
	case <-m.release:
	case <-stream.Context().Done():
	}
	return err
}

// Whatever an agent says first is refused or fit to be stored, shown and compared.
func FuzzHello(f *testing.F) {
	for _, m := range []*tunnelpb.ConnectRequest{hello(edge, "i-1"), hello(Cluster{"a\nb", "\xff"}, "i"), dataOf(3), {}} {
		data, err := proto.Marshal(m)
		if err == nil {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m := &tunnelpb.ConnectRequest{}
		if proto.Unmarshal(data, m) != nil {
			return
		}
		h := m.GetHello()
		text := h.GetCluster() + h.GetClusterUid() + h.GetInstance()
		if checkHello(h) == nil && (len(text) > maxName+maxUID+maxInstance || strings.ContainsAny(text, "\x00\n\r\t /\"'<>{}") || h.GetCluster() == "") {
			t.Errorf("%q was accepted", text)
		}
		if strings.ContainsAny(printable(h.GetVersion()), "\x00\n\r\x1b") {
			t.Errorf("%q is printed", h.GetVersion())
		}
	})
}
