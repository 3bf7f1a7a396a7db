package dispatch_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"oaas.io/control-plane/discovery"
	"oaas.io/control-plane/dispatch"
	"oaas.io/control-plane/dispatch/liveness"
	"oaas.io/control-plane/dispatch/networktest"
	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
)

// followers are nodes that have the leader's state and wires of their own.
type followers struct {
	list  []dispatch.Observer
	wires map[string]*networktest.Wire
	conns map[string]*grpc.ClientConn
	// down are those that do not answer.
	mu   sync.Mutex
	down map[string]bool
}

func (f *followers) Observers() []dispatch.Observer { return f.list }

func (f *followers) ServerConn(_ context.Context, id string) (*grpc.ClientConn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down[id] {
		return nil, errors.New("it is down")
	}
	return f.conns[id], nil
}

func (f *followers) serve(t *testing.T, state *fsm.State, ids ...string) {
	t.Helper()
	f.wires, f.conns, f.down = map[string]*networktest.Wire{}, map[string]*grpc.ClientConn{}, map[string]bool{}
	for _, id := range ids {
		f.wires[id] = &networktest.Wire{}
		s := grpc.NewServer()
		dispatch.NewProber(state, f.wires[id].Dial, id).Register(s)
		address, _ := serveGRPC(t, "127.0.0.1:0", s)
		conn, err := (&networktest.Wire{}).Dial("", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		f.conns[id] = conn
		f.list = append(f.list, dispatch.Observer{ID: id, Name: "pm-of-" + id})
	}
}

// recorder has the health that was stored, one after the other.
type recorder struct {
	dispatch.Registry
	mu     sync.Mutex
	stored []string
}

func (r *recorder) PutCluster(ctx context.Context, term uint64, name string, change func(row *pmpb.Cluster) error) error {
	return r.Registry.PutCluster(ctx, term, name, func(row *pmpb.Cluster) error {
		before := row.GetHealth()
		err := change(row)
		if after := row.GetHealth(); err == nil && after != before {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.stored = append(r.stored, fsm.ClusterState(after))
		}
		return err
	})
}

func (r *recorder) states() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.stored, " ")
}

// unhurried are deadlines that leave the others time to answer on a busy machine: a word
// counts for as long as it takes to be unreachable.
var unhurried = liveness.Limits{
	Renewal: 10 * time.Millisecond, Suspect: 30 * time.Millisecond, Unreachable: 500 * time.Millisecond, Eligible: 800 * time.Millisecond,
	Return: 20 * time.Millisecond, Skew: 10 * time.Millisecond,
}

// plane is a world with followers and one cluster.
type plane struct {
	*world
	*recorder
	followers *followers
	leader    *networktest.Wire
	metrics   *prometheus.Registry
	cluster   *manager
	address   string
	kill      func()
}

func newPlane(t *testing.T, level uint32, followerIDs []string, edit ...func(*dispatch.Options)) *plane {
	t.Helper()
	p := &plane{leader: &networktest.Wire{}, followers: &followers{}, metrics: prometheus.NewRegistry(), cluster: newManager("oaas-1")}
	p.world = newWorld(t, func(o *dispatch.Options) {
		p.recorder = &recorder{Registry: o.Registry}
		o.Registry, o.Dial, o.Metrics, o.Node = p.recorder, p.leader.Dial, p.metrics, "pm-1"
		o.Health = unhurried
		if followerIDs != nil {
			o.Observers = p.followers
		}
		for _, e := range edit {
			e(o)
		}
	})
	p.raise(level)
	p.followers.serve(t, p.store.State(), followerIDs...)
	p.address, p.kill = p.cluster.serve(t, "127.0.0.1:0", false)
	p.found.set(discovery.Candidate{Name: "oaas-1", Address: p.address, Source: discovery.SourceStatic})
	p.awaitHealthy("oaas-1")
	p.await("observed", func(s *fsm.Snapshot) bool {
		return level < fsm.PlannerFrom || s.Cluster("oaas-1").GetObservedSince() != nil
	})
	return p
}

func (p *plane) raise(level uint32) {
	p.t.Helper()
	if _, err := p.store.Apply(context.Background(), &pmpb.Command{Op: &pmpb.Command_RaiseFeatureLevel{RaiseFeatureLevel: &pmpb.RaiseFeatureLevel{Level: level}}}); err != nil {
		p.t.Fatal(err)
	}
}

func (p *plane) row() *pmpb.Cluster { return p.store.State().Snapshot().Cluster("oaas-1") }

func (p *plane) awaitState(state string) {
	p.t.Helper()
	p.await(state, func(s *fsm.Snapshot) bool { return fsm.ClusterState(s.Cluster("oaas-1").GetHealth()) == state })
}

// awaitObservations waits until others were asked so many times more.
func (p *plane) awaitObservations(outcome string, more float64) {
	p.t.Helper()
	read := func() float64 { return metric(p.t, p.metrics, "oaas_pm_dispatch_observations_total", outcome) }
	from := read()
	waitFor(p.t, "others are asked", func() bool { return read() >= from+more })
}

// enough observations, one each Renewal, are more than the time to be eligible.
var enough = 3 * float64(unhurried.Eligible/unhurried.Renewal)

func (p *plane) expectStates(want ...string) {
	p.t.Helper()
	if got := p.states(); got != strings.Join(want, " ") {
		p.t.Errorf("stored %s, want %s", got, want)
	}
}

func TestClusterIsGivenUpWithASecondObserver(t *testing.T) {
	p := newPlane(t, fsm.Level, []string{"s2", "s3"})
	lost := time.Now()
	p.kill()
	p.awaitState("FailoverEligible")
	p.expectStates("Unknown", "Healthy", "Suspect", "Unreachable", "FailoverEligible")
	row := p.row()
	if since := row.GetDisconnectedSince().AsTime(); since.Before(lost.Add(-time.Second)) || time.Since(since) < unhurried.Eligible {
		t.Errorf("disconnected since %s, lost at %s", since, lost)
	}
	if m := row.GetHealthMessage(); !strings.Contains(m, "does not answer") || !strings.Contains(m, "; not reached by pm-of-s") {
		t.Errorf("message %q", m)
	}
	if len(row.GetObservations()) == 0 || row.GetObservations()[0].GetReachable() || row.GetObservations()[0].GetMessage() == "" {
		t.Errorf("observations %v", row.GetObservations())
	}
	if len(row.GetOutages()) != 1 {
		t.Errorf("outages %v", row.GetOutages())
	}
	if metric(t, p.metrics, "oaas_pm_dispatch_cluster_state", "oaas-1", "FailoverEligible") != 1 {
		t.Error("the metrics do not show the state")
	}
	p.cluster.serve(t, p.address, false)
	p.awaitHealthy("oaas-1")
	row = p.row()
	if row.GetDisconnectedSince() != nil || len(row.GetObservations()) != 0 || row.GetOutages()[0].GetEnd() == nil {
		t.Errorf("after the return: %v", row)
	}
	if metric(t, p.metrics, "oaas_pm_dispatch_cluster_state", "oaas-1", "FailoverEligible") != 0 {
		t.Error("the metrics show the state before as well")
	}
}

// A cluster that a follower reaches is never given up, and its outage is none.
func TestLinkOfTheLeaderIsNoOutageOfTheCluster(t *testing.T) {
	p := newPlane(t, fsm.Level, []string{"s2", "s3"})
	p.leader.Cut(true)
	p.awaitState("Unreachable")
	p.awaitObservations("reached", enough)
	p.expectStates("Unknown", "Healthy", "Suspect", "Unreachable")
	row := p.row()
	if m := row.GetHealthMessage(); !strings.HasPrefix(m, "not reached by the leader pm-1 (") || !strings.HasSuffix(m, "it: the network between is at fault") || !strings.Contains(m, "pm-of-s") {
		t.Errorf("message %q", m)
	}
	if len(row.GetOutages()) != 0 || !row.GetApiServerReady() {
		t.Errorf("outages %v, API server %v", row.GetOutages(), row.ApiServerReady)
	}
	// Now it is away for everybody.
	p.kill()
	p.awaitState("FailoverEligible")
	if o := p.row().GetOutages(); len(o) != 1 || o[0].GetStart().AsTime().Before(p.row().GetDisconnectedSince().AsTime()) {
		t.Errorf("outages %v of a cluster that is away since %v", o, p.row().GetDisconnectedSince())
	}
	// And again only for the leader.
	p.cluster.serve(t, p.address, false)
	p.await("not given up any more", func(s *fsm.Snapshot) bool {
		c := s.Cluster("oaas-1")
		return fsm.ClusterState(c.GetHealth()) == "Unreachable" && strings.Contains(c.GetHealthMessage(), "at fault") && len(c.GetOutages()) == 1 && c.GetOutages()[0].GetEnd() != nil
	})
	p.leader.Cut(false)
	p.awaitHealthy("oaas-1")
}

// What the manager says of its API server is a signal of its own, whoever it says it to.
func TestAPIServerIsASignalOfItsOwn(t *testing.T) {
	p := newPlane(t, fsm.Level, []string{"s2"})
	told := func(ready bool) func(*fsm.Snapshot) bool {
		return func(s *fsm.Snapshot) bool {
			c := s.Cluster("oaas-1")
			return c.ApiServerReady != nil && c.GetApiServerReady() == ready
		}
	}
	p.await("ready", told(true))
	p.cluster.heartbeat(false)
	p.await("not ready", told(false))
	p.awaitState("Degraded")
	p.cluster.heartbeat(true)
	p.awaitHealthy("oaas-1")
	p.await("ready again", told(true))
	p.leader.Cut(true)
	p.await("ready, another node says", func(s *fsm.Snapshot) bool {
		return told(true)(s) && len(s.Cluster("oaas-1").GetObservations()) > 0
	})
	p.cluster.heartbeat(false)
	p.await("not ready, another node says", func(s *fsm.Snapshot) bool {
		return told(false)(s) && s.Cluster("oaas-1").GetDisconnectedSince() != nil
	})
	// That is an outage of the cluster, although it is reached.
	p.await("an outage", func(s *fsm.Snapshot) bool {
		o := s.Cluster("oaas-1").GetOutages()
		return len(o) == 2 && o[1].GetEnd() == nil
	})
}

// One of the two followers is cut off together with the leader: the other one's word counts.
func TestOneFollowerThatReachesItIsEnough(t *testing.T) {
	p := newPlane(t, fsm.Level, []string{"s2", "s3"})
	p.followers.wires["s2"].Cut(true)
	p.leader.Cut(true)
	p.awaitState("Unreachable")
	p.awaitObservations("reached", enough/2)
	if strings.Contains(p.states(), "FailoverEligible") {
		t.Errorf("stored %s", p.states())
	}
}

func TestNobodyElseToAsk(t *testing.T) {
	t.Run("one node", func(t *testing.T) {
		p := newPlane(t, fsm.Level, nil)
		p.kill()
		p.awaitState("Unreachable")
		waitFor(t, "much later", func() bool { return time.Since(p.row().GetDisconnectedSince().AsTime()) > 3*unhurried.Eligible })
		p.expectStates("Unknown", "Healthy", "Suspect", "Unreachable")
	})
	t.Run("the others are down", func(t *testing.T) {
		p := newPlane(t, fsm.Level, []string{"s2", "s3"})
		p.followers.mu.Lock()
		p.followers.down["s2"], p.followers.down["s3"] = true, true
		p.followers.mu.Unlock()
		p.kill()
		p.awaitState("Unreachable")
		p.awaitObservations("failed", enough)
		p.expectStates("Unknown", "Healthy", "Suspect", "Unreachable")
	})
	t.Run("one of the others is down", func(t *testing.T) {
		p := newPlane(t, fsm.Level, []string{"s2", "s3"})
		p.followers.mu.Lock()
		p.followers.down["s2"] = true
		p.followers.mu.Unlock()
		p.kill()
		p.awaitState("FailoverEligible")
	})
	t.Run("it need not be confirmed", func(t *testing.T) {
		p := newPlane(t, fsm.Level, nil, func(o *dispatch.Options) { o.Health.Unconfirmed = true })
		p.kill()
		p.awaitState("FailoverEligible")
	})
}

// A new leader goes on counting from the stored beginning, but makes nothing worse before
// it has missed the cluster itself, and gives it up on evidence of its own only.
func TestNewLeaderGoesOnCounting(t *testing.T) {
	p := newPlane(t, fsm.Level, []string{"s2"})
	p.kill()
	p.awaitState("FailoverEligible")
	since := p.row().GetDisconnectedSince()
	p.stop()
	p.lead(p.store.NextTerm())
	p.awaitState("Unreachable")
	p.awaitState("FailoverEligible")
	p.expectStates("Unknown", "Healthy", "Suspect", "Unreachable", "FailoverEligible", "Unreachable", "FailoverEligible")
	if got := p.row().GetDisconnectedSince(); got.AsTime() != since.AsTime() {
		t.Errorf("disconnected since %s, before %s", got.AsTime(), since.AsTime())
	}
}

// A leader whose clock is not that of its predecessor counts by its own, and by the clock
// that all share.
func TestClockOfANewLeader(t *testing.T) {
	ahead := time.Duration(0)
	p := newPlane(t, fsm.Level, []string{"s2"}, func(o *dispatch.Options) {
		o.Now = func() time.Time { return time.Now().Add(ahead) }
		o.Clock = time.Now
		o.Health.Eligible = time.Hour
	})
	p.kill()
	p.awaitState("Unreachable")
	since := p.row().GetDisconnectedSince()
	p.stop()
	ahead = 2 * time.Hour
	p.lead(p.store.NextTerm())
	p.awaitObservations("missed", enough)
	p.expectStates("Unknown", "Healthy", "Suspect", "Unreachable")
	if got := p.row().GetDisconnectedSince(); got.AsTime() != since.AsTime() {
		t.Errorf("disconnected since %s, before %s", got.AsTime(), since.AsTime())
	}
}

// A control plane that has servers which do not know the new states stores the old ones.
func TestOldStatesBelowTheFeatureLevel(t *testing.T) {
	p := newPlane(t, fsm.FailoverFrom-1, []string{"s2"})
	p.kill()
	p.awaitState("Unreachable")
	if row := p.row(); row.GetDisconnectedSince() != nil || len(row.GetObservations()) != 0 || len(row.GetOutages()) != 1 {
		t.Errorf("stored %v", row)
	}
	p.cluster.serve(t, p.address, false)
	p.awaitHealthy("oaas-1")
	p.expectStates("Unknown", "Healthy", "Unreachable", "Healthy")
	p.leader.Cut(true)
	p.awaitState("Unreachable")
	p.raise(fsm.FailoverFrom)
	p.await("the beginning of the silence is kept", func(s *fsm.Snapshot) bool { return s.Cluster("oaas-1").GetDisconnectedSince() != nil })
}

// hung is a manager that takes calls and answers none.
type hung struct {
	oaaspb.UnimplementedAgentServiceServer
}

func (hung) GetClusterInfo(ctx context.Context, _ *oaaspb.GetClusterInfoRequest) (*oaaspb.ClusterInfo, error) {
	<-ctx.Done()
	return nil, status.FromContextError(ctx.Err()).Err()
}

func TestProber(t *testing.T) {
	p := newPlane(t, fsm.Level, []string{"s2"})
	stranger := newManager("oaas-1")
	stranger.uid = "uid-of-another"
	old := newManager("old")
	oldAddress, _ := old.serve(t, "127.0.0.1:0", true)
	strange, _ := stranger.serve(t, "127.0.0.1:0", false)
	hanging := grpc.NewServer()
	oaaspb.RegisterAgentServiceServer(hanging, hung{})
	hangs, _ := serveGRPC(t, "127.0.0.1:0", hanging)
	gone, stop := newManager("gone").serve(t, "127.0.0.1:0", false)
	stop()
	p.stop() // no lane is to disturb
	for name, row := range map[string]*pmpb.Cluster{
		"old":      {Address: oldAddress},
		"stranger": {Address: strange, Uid: "uid-of-oaas-1"},
		"hung":     {Address: hangs},
		"gone":     {Address: gone},
	} {
		row.Name = name
		if _, err := p.store.Apply(t.Context(), &pmpb.Command{Op: &pmpb.Command_PutCluster{PutCluster: &pmpb.PutCluster{Cluster: row}}}); err != nil {
			t.Fatal(err)
		}
	}
	client := pmpb.NewProbeServiceClient(p.followers.conns["s2"])
	ask := func(name, address string) (*pmpb.ProbeClusterResponse, error) {
		return client.ProbeCluster(t.Context(), &pmpb.ProbeClusterRequest{ClusterId: "test-cluster", ServerId: "s2", Name: name, Address: address})
	}
	for name, c := range map[string]struct {
		cluster, address string
		reachable, ready bool
		message          string
	}{
		"well":                     {cluster: "oaas-1", address: p.address, reachable: true, ready: true},
		"without the service":      {cluster: "old", address: oldAddress, reachable: true, ready: true},
		"another cluster is there": {cluster: "stranger", address: strange, message: "another cluster"},
		"answers nothing":          {cluster: "hung", address: hangs, reachable: true, message: "deadline"},
		"nobody is there":          {cluster: "gone", address: gone, message: "refused"},
	} {
		got, err := ask(c.cluster, c.address)
		if err != nil || got.GetReachable() != c.reachable || got.GetReady() != c.ready || !strings.Contains(got.GetError(), c.message) || (got.GetError() == "") != (c.message == "") {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	p.cluster.heartbeat(false)
	if got, err := ask("oaas-1", p.address); err != nil || !got.GetReachable() || got.GetReady() {
		t.Errorf("API server away: %v, %v", got, err)
	}
	for name, req := range map[string]*pmpb.ProbeClusterRequest{
		"an address that is not registered": {ClusterId: "test-cluster", ServerId: "s2", Name: "oaas-1", Address: strange},
		"a cluster that is not registered":  {ClusterId: "test-cluster", ServerId: "s2", Name: "oaas-9", Address: p.address},
		"another server":                    {ClusterId: "test-cluster", ServerId: "s3", Name: "oaas-1", Address: p.address},
		"another control plane":             {ClusterId: "other", ServerId: "s2", Name: "oaas-1", Address: p.address},
		"nothing":                           {},
	} {
		if got, err := client.ProbeCluster(t.Context(), req); status.Code(err) != codes.FailedPrecondition {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}
