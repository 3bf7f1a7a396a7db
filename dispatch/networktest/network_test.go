package networktest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"oaas.io/control-plane/discovery"
	"oaas.io/control-plane/dispatch"
	"oaas.io/control-plane/dispatch/liveness"
	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/raftstore"
	"oaas.io/control-plane/registry"
)

const (
	patience = 30 * time.Second
	name     = "oaas-1"
)

var limits = liveness.Limits{
	Renewal: 40 * time.Millisecond, Suspect: 100 * time.Millisecond, Unreachable: 400 * time.Millisecond, Eligible: 800 * time.Millisecond,
	Return: 80 * time.Millisecond, Skew: 20 * time.Millisecond,
}

// cluster is the manager of an empty cluster. It counts who asks it who it is.
type cluster struct {
	oaaspb.UnimplementedAgentServiceServer
	asked atomic.Int64
}

func (c *cluster) GetClusterInfo(context.Context, *oaaspb.GetClusterInfoRequest) (*oaaspb.ClusterInfo, error) {
	c.asked.Add(1)
	return &oaaspb.ClusterInfo{Name: name, Uid: "uid-of-" + name, ApiServerReady: true}, nil
}

func (c *cluster) WatchRuntimes(_ *oaaspb.WatchRuntimesRequest, stream grpc.ServerStreamingServer[oaaspb.RuntimeEvent]) error {
	complete := &oaaspb.RuntimeEvent{Event: &oaaspb.RuntimeEvent_InventoryComplete{InventoryComplete: &oaaspb.InventoryComplete{}}}
	if err := stream.Send(complete); err != nil {
		return err
	}
	tick := time.NewTicker(limits.Renewal)
	defer tick.Stop()
	for {
		select {
		case <-stream.Context().Done():
			return nil
		case <-tick.C:
			if err := stream.Send(&oaaspb.RuntimeEvent{Event: &oaaspb.RuntimeEvent_Heartbeat{Heartbeat: &oaaspb.Heartbeat{ApiServerReady: true}}}); err != nil {
				return err
			}
		}
	}
}

func (c *cluster) serve(t *testing.T, address string) (string, func()) {
	t.Helper()
	s := grpc.NewServer()
	oaaspb.RegisterAgentServiceServer(s, c)
	return serve(t, s, listen(t, address))
}

func serve(t *testing.T, s *grpc.Server, ln net.Listener) (string, func()) {
	var done sync.WaitGroup
	done.Go(func() { _ = s.Serve(ln) })
	stop := sync.OnceFunc(func() { s.Stop(); done.Wait() })
	t.Cleanup(stop)
	return ln.Addr().String(), stop
}

func listen(t *testing.T, address string) (ln net.Listener) {
	t.Helper()
	eventually(t, "listen on "+address, func() (err error) {
		ln, err = net.Listen("tcp", address)
		return err
	})
	return ln
}

// configured are candidates that never change.
type configured []discovery.Candidate

func (c configured) Candidates() []discovery.Candidate { return c }
func (c configured) Changed() <-chan struct{}          { return nil }

// node is one of the control plane.
type node struct {
	*raftstore.Node
	name    string
	wire    *Wire
	metrics *prometheus.Registry
	// states are those that it has seen of the cluster, in order.
	states func() string
}

// Observers implements dispatch.Observers.
func (n *node) Observers() []dispatch.Observer {
	var out []dispatch.Observer
	for _, s := range n.Servers() {
		if s.Voter && s.ID != n.ServerID() {
			out = append(out, dispatch.Observer{ID: s.ID, Name: s.Name})
		}
	}
	return out
}

func startNode(t *testing.T, number int, raftLn, internalLn net.Listener, peers []string, address string) *node {
	t.Helper()
	n := &node{name: fmt.Sprintf("pm-%d", number), wire: &Wire{}, metrics: prometheus.NewRegistry()}
	var err error
	n.Node, err = raftstore.Open(t.Context(), raftstore.Options{
		DataDir: t.TempDir(), RaftListener: raftLn, GRPCAddress: internalLn.Addr().String(), HTTPAddress: "http", Peers: peers,
		Name: n.name, Version: "test", Registerer: prometheus.NewRegistry(),
		Timing: raftstore.Timing{
			Heartbeat: 300 * time.Millisecond, Commit: 5 * time.Millisecond, RPC: 3 * time.Second, Hold: 10 * time.Second, Probe: 40 * time.Millisecond,
			Stabilization: 200 * time.Millisecond, SnapshotInterval: time.Hour,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	reg, err := registry.New(registry.Options{Store: n.Node, NewUID: uuid.NewString})
	if err != nil {
		t.Fatal(err)
	}
	loops, err := dispatch.New(dispatch.Options{
		Registry: reg, Candidates: configured{{Name: name, Address: address, Source: discovery.SourceStatic}}, Dial: n.wire.Dial,
		Metrics: n.metrics, Clock: n.Now, Node: n.name, Observers: n, Health: limits,
		RetryMin: 5 * time.Millisecond, RetryMax: 50 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	internal := grpc.NewServer(n.ServerOptions()...)
	n.RegisterServices(internal)
	dispatch.NewProber(n.State(), n.wire.Dial, n.ServerID()).Register(internal)
	_, stop := serve(t, internal, internalLn)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := n.RunWhileLeader(ctx, loops.Run); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, raftstore.ErrShutdown) {
			t.Error(err)
		}
	})
	n.states = follow(ctx, &running, n.State())
	t.Cleanup(func() {
		cancel()
		running.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := n.Shutdown(ctx); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		stop()
	})
	return n
}

// follow gathers the states of the cluster that a node gets to see.
func follow(ctx context.Context, running *sync.WaitGroup, state *fsm.State) func() string {
	var mu sync.Mutex
	var seen []string
	running.Go(func() {
		for {
			snap := state.Snapshot()
			changed := snap.WatchClusters()
			if c := snap.Cluster(name); c != nil {
				mu.Lock()
				if s := fsm.ClusterState(c.GetHealth()); len(seen) == 0 || seen[len(seen)-1] != s {
					seen = append(seen, s)
				}
				mu.Unlock()
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	})
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		return strings.Join(seen, " ")
	}
}

type plane []*node

func startPlane(t *testing.T, address string) plane {
	t.Helper()
	var rafts, internals []net.Listener
	var peers []string
	for range 3 {
		rafts, internals = append(rafts, listen(t, "127.0.0.1:0")), append(internals, listen(t, "127.0.0.1:0"))
		peers = append(peers, internals[len(internals)-1].Addr().String())
	}
	var p plane
	for i := range 3 {
		p = append(p, startNode(t, i+1, rafts[i], internals[i], peers, address))
	}
	eventually(t, "the feature level is the newest", func() error {
		if l := p.leader(); l == nil || l.State().Snapshot().FeatureLevel() != fsm.Level || len(l.Observers()) != 2 {
			return errors.New("not yet")
		}
		return nil
	})
	return p
}

func (p plane) leader() *node {
	for _, n := range p {
		if n.IsLeader() {
			return n
		}
	}
	return nil
}

func (p plane) await(t *testing.T, what string, ok func(*pmpb.Cluster) bool) {
	t.Helper()
	eventually(t, what, func() error {
		row := p[0].State().Snapshot().Cluster(name)
		if !ok(row) {
			return fmt.Errorf("cluster %v, states %s", row, p[0].states())
		}
		return nil
	})
}

func (p plane) awaitState(t *testing.T, state string) {
	t.Helper()
	p.await(t, state, func(c *pmpb.Cluster) bool { return fsm.ClusterState(c.GetHealth()) == state })
}

func eventually(t *testing.T, what string, do func() error) {
	t.Helper()
	deadline, tick := time.NewTimer(patience), time.NewTicker(2*time.Millisecond)
	defer deadline.Stop()
	defer tick.Stop()
	for {
		err := do()
		if err == nil {
			return
		}
		select {
		case <-deadline.C:
			t.Fatalf("%s: not in %v: %v", what, patience, err)
		case <-tick.C:
		}
	}
}

// The leader is cut off from the cluster and its followers are not: the cluster is not given
// up, and a follower that comes to lead finds it well. When it is away for all of them, it is.
func TestLeaderIsCutOffAndFollowersAreNot(t *testing.T) {
	c := &cluster{}
	address, kill := c.serve(t, "127.0.0.1:0")
	p := startPlane(t, address)
	p.awaitState(t, "Healthy")
	leader := p.leader()
	leader.wire.Cut(true)
	p.await(t, "the followers reach it", func(row *pmpb.Cluster) bool {
		m := row.GetHealthMessage()
		return fsm.ClusterState(row.GetHealth()) == "Unreachable" && strings.Contains(m, "not reached by the leader "+leader.name) && strings.HasSuffix(m, "the network between is at fault")
	})
	from := c.asked.Load()
	eventually(t, "it was asked for for longer than it takes to be given up", func() error {
		if c.asked.Load() < from+3*int64(limits.Eligible/limits.Renewal) {
			return errors.New("not yet")
		}
		return nil
	})
	if got := p[0].states(); strings.Contains(got, "FailoverEligible") {
		t.Fatalf("a cluster that followers reach went through %s", got)
	}
	if row := p[0].State().Snapshot().Cluster(name); len(row.GetOutages()) != 0 {
		t.Errorf("outages %v", row.GetOutages())
	}
	if err := leader.TransferLeadership(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.awaitState(t, "Healthy")
	kill()
	p.await(t, "given up", func(row *pmpb.Cluster) bool {
		return fsm.ClusterState(row.GetHealth()) == "FailoverEligible" && len(row.GetObservations()) > 0 && !row.GetObservations()[0].GetReachable()
	})
	since := p[0].State().Snapshot().Cluster(name).GetDisconnectedSince().AsTime()
	if err := p.leader().TransferLeadership(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new leader gives it up on its own evidence", func() error {
		if got := p[0].states(); !strings.HasSuffix(got, "FailoverEligible Unreachable FailoverEligible") {
			return errors.New(got)
		}
		return nil
	})
	if got := p[0].State().Snapshot().Cluster(name).GetDisconnectedSince().AsTime(); !got.Equal(since) {
		t.Errorf("disconnected since %s, before the change of leader %s", got, since)
	}
	c.serve(t, address)
	leader.wire.Cut(false)
	p.awaitState(t, "Healthy")
}
