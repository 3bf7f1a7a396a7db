package tunnel

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

var edge = Cluster{Name: "edge-1", UID: "uid-1"}

func TestEveryNodeReachesTheAgent(t *testing.T) {
	p := newPlane(t, 3)
	p.attach(edge, "i-1", []string{p.node("pm-1").agents})
	for _, id := range []string{"pm-0", "pm-1", "pm-2"} {
		conn, _ := p.node(id).dial(edge)
		exchange(t, conn, 1<<20)
	}
	// Several at a time, each for itself.
	var conns []net.Conn
	for range 5 {
		conn, _ := p.node("pm-2").dial(edge)
		conns = append(conns, conn)
	}
	for _, conn := range conns {
		exchange(t, conn, 1000)
	}
	want := []Connection{{Cluster: edge, ServerID: "pm-1", Node: "node-pm-1", Instance: "i-1", Version: "test"}}
	for _, id := range []string{"pm-0", "pm-1"} {
		got := p.node(id).hub.Connections(edge)
		for i := range got {
			got[i].Since, got[i].RemoteAddress = time.Time{}, ""
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", id, diff)
		}
	}
}

// A connection ends on both sides when one side closes it.
func TestEndsArePassedOn(t *testing.T) {
	p := newPlane(t, 2)
	e := p.attach(edge, "i-1", []string{p.node("pm-0").agents})
	for _, id := range []string{"pm-0", "pm-1"} {
		conn, _ := p.node(id).dial(edge)
		exchange(t, conn, 10)
		_ = conn.Close()
		if _, err := conn.Write([]byte("x")); err == nil {
			t.Error("a closed connection takes bytes")
		}
	}
	eventually(t, "the agent's streams are done", func() bool { return testutil.ToFloat64(e.metrics.active) == 0 })
	conn, _ := p.node("pm-1").dial(edge)
	e.stop()
	if _, err := io.Copy(io.Discard, conn); err != nil {
		t.Errorf("the end of the agent is %v", err)
	}
	eventually(t, "nobody is attached", func() bool {
		return len(p.node("pm-0").hub.Attached()) == 0 && len(p.node("pm-1").hub.Attached()) == 0
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := p.node("pm-1").hub.Dial(ctx, edge); err == nil || !strings.Contains(err.Error(), "no agent of the cluster is connected") {
		t.Errorf("dial without an agent: %v", err)
	}
}

// The library that the control plane uses works over it, with its own ideas of
// deadlines and ends.
func TestGRPCThroughTheTunnel(t *testing.T) {
	p := newPlane(t, 2)
	agent, err := NewAgent(AgentOptions{Cluster: edge.Name, Addresses: []string{p.node("pm-0").agents}, DialOptions: plaintext})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, health.NewServer())
	done := make(chan struct{}, 2)
	go func() { _ = server.Serve(agent); done <- struct{}{} }()
	go func() {
		agent.Run(ctx, func(context.Context) (string, error) { return edge.UID, nil })
		done <- struct{}{}
	}()
	for _, id := range []string{"pm-0", "pm-1"} {
		conn, err := grpc.NewClient("passthrough:///x", append(ClientOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return p.node(id).hub.Dial(ctx, edge) }))...)
		if err != nil {
			t.Fatal(err)
		}
		call, end := context.WithTimeout(t.Context(), patience)
		for range 3 {
			if _, err := healthpb.NewHealthClient(conn).Check(call, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true)); err != nil {
				t.Errorf("%s: %v", id, err)
			}
		}
		watch, err := healthpb.NewHealthClient(conn).Watch(call, &healthpb.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := watch.Recv(); err != nil {
			t.Errorf("%s: watch: %v", id, err)
		}
		end()
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
	server.GracefulStop()
	cancel()
	<-done
	<-done
}

func TestAgentGoesToAnotherNode(t *testing.T) {
	p := newPlane(t, 3)
	e := p.attach(edge, "i-1", []string{p.node("pm-0").agents, p.node("pm-1").agents})
	conn, _ := p.node("pm-2").dial(edge)
	at := p.node("pm-2").hub.Connections(edge)[0].ServerID
	p.node(at).down()
	if _, err := io.Copy(io.Discard, conn); err != nil {
		t.Errorf("the connection through the lost node ends with %v", err)
	}
	eventually(t, "it is at the other node", func() bool {
		now := p.node("pm-2").hub.Connections(edge)
		return len(now) == 1 && now[0].ServerID != at
	})
	conn, _ = p.node("pm-2").dial(edge)
	exchange(t, conn, 1000)
	if got := testutil.ToFloat64(e.metrics.connects.WithLabelValues(outcomeConnected)); got < 2 {
		t.Errorf("%v connects", got)
	}
}

// With two connections the loss of a node is not even noticed by who dials.
func TestConnectionsAreToDifferentNodes(t *testing.T) {
	p := newPlane(t, 3)
	p.attach(edge, "i-1", []string{p.node("pm-0").agents, p.node("pm-1").agents}, func(o *AgentOptions) { o.Connections = 2 })
	eventually(t, "it is at both nodes", func() bool {
		at := map[string]bool{}
		for _, c := range p.node("pm-2").hub.Connections(edge) {
			at[c.ServerID] = true
		}
		return len(at) == 2
	})
}

func TestDrainMovesAgents(t *testing.T) {
	p := newPlane(t, 3)
	e := p.attach(edge, "i-1", []string{p.node("pm-0").agents, p.node("pm-1").agents})
	conn, _ := p.node("pm-2").dial(edge)
	at := p.node("pm-2").hub.Connections(edge)[0].ServerID
	p.node(at).hub.Drain()
	eventually(t, "it waits at the other node only", func() bool {
		_, waiting, _ := p.node(at).hub.table.counts()
		now := p.node("pm-2").hub.Connections(edge)
		return waiting == 0 && len(now) > 0 && now[0].ServerID != at
	})
	// What stands goes on until the node stops.
	exchange(t, conn, 1000)
	next, _ := p.node("pm-2").dial(edge)
	exchange(t, next, 1000)
	if strings.Contains(e.log.String(), "no connection to the control plane") {
		t.Errorf("there was a moment without a connection:\n%s", e.log)
	}
	// A node that is about to stop takes nobody in.
	late := p.attach(Cluster{"edge-2", "uid-2"}, "i-1", []string{p.node(at).agents})
	eventually(t, "the refusal", func() bool { return strings.Contains(late.log.String(), "this node is about to stop") })
}

// A manager whose stream was taken offers the next one on the same connection. That the
// node has begun to stop meanwhile is no reason to break the connection: it is told to go
// elsewhere, and waits here until it has.
func TestDrainTellsWhoOffersAnotherStream(t *testing.T) {
	p := newPlane(t, 1)
	n := p.node("pm-0")
	r := newRaw(t, n)
	r.welcomed(edge, "i-1")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := n.hub.Dial(ctx, edge)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // a pipe
	n.hub.Drain()
	next := r.welcomed(edge, "i-1")
	if m, err := next.Recv(); err != nil || m.GetDrain() == nil {
		t.Fatalf("not told to go: %v, %v", m, err)
	}
	if err := outcome(r.connect(hello(edge, "i-2"))); status.Code(err) != codes.Unavailable {
		t.Errorf("another manager is answered with %v", err)
	}
}

func TestNewestInstanceIsUsed(t *testing.T) {
	p := newPlane(t, 2)
	p.attach(edge, "i-1", []string{p.node("pm-0").agents})
	conn, who := p.node("pm-0").dial(edge)
	if who != "i-1" {
		t.Fatalf("%s answers", who)
	}
	second := p.attach(edge, "i-2", []string{p.node("pm-1").agents})
	// The connection that stands is moved, as a whole.
	if _, err := io.Copy(io.Discard, conn); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("it ends with %v", err)
	}
	for _, id := range []string{"pm-0", "pm-1"} {
		eventually(t, "both are known", func() bool { return len(p.node(id).hub.Connections(edge)) == 2 })
		if _, who := p.node(id).dial(edge); who != "i-2" {
			t.Errorf("%s is answered by %s", id, who)
		}
	}
	if got := p.node("pm-0").hub.Attached(); len(got) != 1 || got[0].Instance != "i-2" {
		t.Errorf("attached: %v", got)
	}
	// Further ones that are older change nothing, and serve when the newest is gone.
	second.stop()
	eventually(t, "the newest is gone", func() bool { return len(p.node("pm-0").hub.Connections(edge)) == 1 })
	if _, who := p.node("pm-0").dial(edge); who != "i-1" {
		t.Errorf("%s answers", who)
	}
	if got := testutil.ToFloat64(p.node("pm-0").hub.metrics.moved); got != 1 {
		t.Errorf("%v connections were moved, want 1", got)
	}
}

// A newer instance that has just been given a connection is waited for, not passed over;
// one that never offers another stream is.
func TestBusyInstanceIsWaitedFor(t *testing.T) {
	p := newPlane(t, 1, func(o *HubOptions) { o.OpenTimeout = 100 * time.Millisecond })
	n := p.node("pm-0")
	p.attach(edge, "i-1", []string{n.agents})
	n.dial(edge)
	newer := newRaw(t, n)
	newer.welcomed(edge, "i-2")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	first, err := n.hub.Dial(ctx, edge)
	if err != nil {
		t.Fatal(err)
	}
	if got := first.(*dialled).instance; got != "i-2" {
		t.Fatalf("%s was taken", got)
	}
	newer.welcomed(edge, "i-2")
	second, err := n.hub.Dial(ctx, edge)
	if err != nil {
		t.Fatal(err)
	}
	if got := second.(*dialled).instance; got != "i-2" {
		t.Errorf("%s was taken although the newer one has a stream", got)
	}
	if _, who := n.dial(edge); who != "i-1" {
		t.Errorf("%s answers although the newer one has no stream", who)
	}
}

// Of two clusters with one name, the registered one is served and the other is sent
// away with the reason.
func TestTwoClustersOfOneName(t *testing.T) {
	p := newPlane(t, 2)
	other := Cluster{Name: edge.Name, UID: "uid-2"}
	p.attach(edge, "i-1", []string{p.node("pm-0").agents})
	stranger := p.attach(other, "i-2", []string{p.node("pm-0").agents, p.node("pm-1").agents})
	// Nobody is registered yet: both are there, and told apart.
	eventually(t, "both are attached", func() bool { return len(p.node("pm-1").hub.Attached()) == 2 })
	for c, want := range map[Cluster]string{edge: "i-1", other: "i-2"} {
		if _, who := p.node("pm-1").dial(c); who != want {
			t.Errorf("%s is answered by %s", c, who)
		}
	}
	eventually(t, "the conflict is counted", func() bool {
		n := 0.0
		for _, id := range []string{"pm-0", "pm-1"} {
			n += testutil.ToFloat64(p.node(id).hub.metrics.conflicts.WithLabelValues("identity"))
		}
		return n > 0
	})
	p.register(edge.Name, edge.UID)
	eventually(t, "the other one is sent away", func() bool {
		got := p.node("pm-1").hub.Attached()
		return len(got) == 1 && got[0].Cluster == edge
	})
	eventually(t, "it is told why", func() bool {
		return strings.Contains(stranger.log.String(), "the name edge-1 is that of the cluster with uid uid-1, this one has uid-2")
	})
	if _, who := p.node("pm-1").dial(edge); who != "i-1" {
		t.Errorf("%s answers", who)
	}
	refused := testutil.ToFloat64(p.node("pm-0").hub.metrics.refused.WithLabelValues(reasonIdentity)) +
		testutil.ToFloat64(p.node("pm-1").hub.metrics.refused.WithLabelValues(reasonIdentity))
	if refused == 0 {
		t.Error("no refusal is counted")
	}
}

func TestNodeWithoutLeaderKeepsNoAgents(t *testing.T) {
	p := newPlane(t, 2, func(o *HubOptions) { o.NoLeaderLimit = 50 * time.Millisecond })
	e := p.attach(edge, "i-1", []string{p.node("pm-0").agents, p.node("pm-1").agents})
	p.node("pm-0").dial(edge)
	at := p.node("pm-0").hub.Connections(edge)[0].ServerID
	p.node(at).orphan.Store(true)
	eventually(t, "the agent is at the other node", func() bool {
		now := p.node("pm-0").hub.Connections(edge)
		return len(now) == 1 && now[0].ServerID != at
	})
	if !strings.Contains(e.log.String(), "has not heard from the leader") {
		t.Errorf("the agent is not told why:\n%s", e.log)
	}
	// While it is so nobody is let in, and afterwards everybody.
	late := p.attach(Cluster{"edge-2", "uid-2"}, "i-1", []string{p.node(at).agents})
	eventually(t, "the refusal", func() bool { return strings.Contains(late.log.String(), "does not hear from a leader") })
	p.node(at).orphan.Store(false)
	p.node("pm-0").dial(Cluster{"edge-2", "uid-2"})
}

// An agent does not connect before it can say whose it is.
func TestUnknownUID(t *testing.T) {
	p := newPlane(t, 1)
	agent, err := NewAgent(AgentOptions{Cluster: edge.Name, Addresses: []string{p.node("pm-0").agents}, DialOptions: plaintext, RetryMin: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	asked, done := make(chan struct{}, 100), make(chan struct{})
	go func() {
		defer close(done)
		agent.Run(ctx, func(context.Context) (string, error) {
			select {
			case asked <- struct{}{}:
			default:
			}
			return "", io.ErrUnexpectedEOF
		})
	}()
	for range 3 {
		<-asked
	}
	cancel()
	<-done
	if got := p.node("pm-0").hub.Attached(); len(got) != 0 {
		t.Errorf("attached: %v", got)
	}
}
