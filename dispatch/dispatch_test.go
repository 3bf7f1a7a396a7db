package dispatch_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"oaas.io/control-plane/discovery"
	"oaas.io/control-plane/dispatch"
	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
	"oaas.io/control-plane/registry/registrytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// candidates is a list that tests change.
type candidates struct {
	mu      sync.Mutex
	list    []discovery.Candidate
	changed chan struct{}
}

func (c *candidates) Candidates() []discovery.Candidate {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.list
}

func (c *candidates) Changed() <-chan struct{} { return c.changed }

func (c *candidates) set(list ...discovery.Candidate) {
	c.mu.Lock()
	c.list = list
	c.mu.Unlock()
	c.changed <- struct{}{}
}

func gossiped(name, address string) discovery.Candidate {
	return discovery.Candidate{Name: name, Address: address, Source: discovery.SourceGossip}
}

// world is a control plane without Raft, and its clusters.
type world struct {
	t        *testing.T
	store    *registrytest.Store
	registry *registry.Registry
	found    *candidates
	manager  *dispatch.Manager
	stop     func()
	// ahead is by how much the clock of the registry is.
	ahead *atomic.Int64
}

func newWorld(t *testing.T, edit ...func(*dispatch.Options)) *world {
	t.Helper()
	store, err := registrytest.New()
	if err != nil {
		t.Fatal(err)
	}
	uids, ahead := 0, &atomic.Int64{}
	reg, err := registry.New(registry.Options{
		Store: store, NewUID: func() string { uids++; return fmt.Sprintf("uid-%d", uids) },
		Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) },
	})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, store: store, registry: reg, found: &candidates{changed: make(chan struct{}, 64)}, ahead: ahead}
	opts := dispatch.Options{
		Registry: reg, Candidates: w.found,
		Dial: func(_, address string) (*grpc.ClientConn, error) {
			return grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		},
		RetryMin: 5 * time.Millisecond, RetryMax: 50 * time.Millisecond, PollInterval: 20 * time.Millisecond,
		Health: quick, CallTimeout: 500 * time.Millisecond, BatchWindow: time.Millisecond,
	}
	for _, e := range edit {
		e(&opts)
	}
	if w.manager, err = dispatch.New(opts); err != nil {
		t.Fatal(err)
	}
	w.lead(1)
	t.Cleanup(func() { w.stop() })
	pkg, err := model.DecodePackage([]byte(`{"name":"shop","classes":[{"key":"Cart","function_bindings":[{"name":"add","function_key":"Cart.add","access_modifier":"PUBLIC"}]}],
		"functions":[{"key":"Cart.add","provision_config":{"container_image":"registry.local/cart:1"}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := reg.CreatePackage(context.Background(), registry.RequestInfo{}, pkg); err != nil {
		t.Fatal(err)
	}
	return w
}

// lead runs the loops for a term.
func (w *world) lead(term uint64) {
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := w.manager.Run(ctx, term); err != nil {
			w.t.Error(err)
		}
	})
	w.stop = func() { cancel(); done.Wait() }
}

func (w *world) deploy(image string, envs ...string) *registry.DeployOutcome {
	w.t.Helper()
	out, _, err := w.registry.Deploy(context.Background(), registry.RequestInfo{}, &model.OClassDeployment{
		Key: "shop.Cart", PackageName: "shop", ClassKey: "Cart", TargetEnvs: envs,
		Functions: []model.FunctionDeploymentSpec{{FunctionKey: "Cart.add", ProvisionConfig: &model.ProvisionConfig{ContainerImage: &image}}},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// await waits until the state satisfies ok.
func (w *world) await(what string, ok func(*fsm.Snapshot) bool) {
	w.t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	for {
		snap := w.store.State().Snapshot()
		changed := snap.WatchAll()
		if ok(snap) {
			return
		}
		select {
		case <-changed:
		case <-deadline.C:
			w.t.Fatalf("never: %s; units %v, clusters %v", what, snap.Units(), snap.Clusters())
		}
	}
}

func (w *world) awaitHealthy(names ...string) {
	w.t.Helper()
	for _, name := range names {
		w.await(name+" is healthy", func(s *fsm.Snapshot) bool {
			return s.Cluster(name).GetHealth() == pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY
		})
	}
}

func allAcked(s *fsm.Snapshot) bool {
	for _, u := range s.Units() {
		if !fsm.Acknowledged(u) {
			return false
		}
	}
	return len(s.Units()) > 0
}

func TestDeploymentReachesEveryClusterAndReportsBack(t *testing.T) {
	w := newWorld(t)
	one, two := newManager("oaas-1"), newManager("oaas-2")
	addr1, _ := one.serve(t, "127.0.0.1:0", false)
	addr2, _ := two.serve(t, "127.0.0.1:0", false)
	w.found.set(gossiped("oaas-1", addr1), gossiped("oaas-2", addr2))
	w.awaitHealthy("oaas-1", "oaas-2")
	out := w.deploy("cart:1", "oaas-1", "oaas-2")
	w.await("both acknowledged", allAcked)
	for i, m := range []*manager{one, two} {
		m.report(registry.UnitID(out.UID, fmt.Sprintf("oaas-%d", i+1), "Cart"), oaaspb.DeploymentCondition_RUNNING)
	}
	w.await("running", func(s *fsm.Snapshot) bool {
		return fsm.DeploymentCondition(s.UnitsByDeployment(out.UID)) == model.ConditionRunning
	})
	for _, m := range []*manager{one, two} {
		if deploys, _ := m.counts(); deploys != 1 {
			t.Errorf("%s was sent %d deploys, want 1", m.name, deploys)
		}
	}
	if c := w.store.State().Snapshot().Cluster("oaas-1"); c.GetUid() != "uid-of-oaas-1" || c.GetNodeCount() != 3 {
		t.Errorf("cluster row %v", c)
	}
}

// TestNewLeaderSendsNothing guards I6: after a change of leader nothing is sent
// to a cluster whose inventory equals the wish.
func TestNewLeaderSendsNothing(t *testing.T) {
	w := newWorld(t)
	m := newManager("oaas-1")
	addr, _ := m.serve(t, "127.0.0.1:0", false)
	w.found.set(gossiped("oaas-1", addr))
	w.awaitHealthy("oaas-1")
	w.deploy("cart:1", "oaas-1")
	w.await("acknowledged", allAcked)
	w.stop()
	// What the old leader sent last is stored by the cluster, its acknowledgement is not.
	out := w.deploy("cart:2", "oaas-1")
	u := w.store.State().Snapshot().UnitsByDeployment(out.UID)[0]
	m.set(func() {
		m.objects[u.GetId()] = &oaaspb.ClassRuntimeSummary{Id: u.GetId(), DeploymentUnitId: u.GetId(), Delivery: &oaaspb.Delivery{
			Epoch: u.GetEpoch(), Fence: u.GetFence(), ContentHash: u.GetContentHash(),
		}}
	})
	before, _ := m.counts()
	w.lead(w.store.NextTerm())
	w.await("acknowledged from the inventory", allAcked)
	w.awaitHealthy("oaas-1")
	if after, _ := m.counts(); after != before {
		t.Errorf("the new leader sent %d deploys", after-before)
	}
}

func TestClusterThatIsDownIsExplainedAndServedLater(t *testing.T) {
	w := newWorld(t)
	m := newManager("oaas-1")
	addr, stop := m.serve(t, "127.0.0.1:0", false)
	other := newManager("oaas-2")
	addr2, _ := other.serve(t, "127.0.0.1:0", false)
	w.found.set(gossiped("oaas-1", addr), gossiped("oaas-2", addr2))
	w.awaitHealthy("oaas-1", "oaas-2")
	stop()
	w.await("unreachable", func(s *fsm.Snapshot) bool {
		return s.Cluster("oaas-1").GetHealth() == pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE
	})
	out := w.deploy("cart:1", "oaas-1", "oaas-2")
	first, second := registry.UnitID(out.UID, "oaas-1", "Cart"), registry.UnitID(out.UID, "oaas-2", "Cart")
	w.await("the other cluster is served", func(s *fsm.Snapshot) bool { return fsm.Acknowledged(s.Unit(second)) })
	w.await("the reason is shown", func(s *fsm.Snapshot) bool {
		return s.Unit(first).GetWaiting().GetCode() == dispatch.WaitUnreachable
	})
	m.serve(t, addr, false)
	w.await("served when it is back", allAcked)
	if waiting := w.store.State().Snapshot().Unit(first).GetWaiting(); waiting != nil {
		t.Errorf("still waiting: %v", waiting)
	}
}

// TestTombstoneWaitsForConfirmation guards I7 on this side: a row is forgotten
// only after the cluster said that the unit does not exist.
func TestTombstoneWaitsForConfirmation(t *testing.T) {
	w := newWorld(t)
	m := newManager("oaas-1")
	addr, stop := m.serve(t, "127.0.0.1:0", false)
	w.found.set(gossiped("oaas-1", addr))
	w.awaitHealthy("oaas-1")
	out := w.deploy("cart:1", "oaas-1")
	w.await("acknowledged", allAcked)
	m.set(func() { m.linger = true })
	if _, _, err := w.registry.DeleteDeployment(context.Background(), registry.RequestInfo{}, "shop.Cart"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the deletion arrives", func() bool { _, deletes := m.counts(); return deletes > 0 })
	if len(w.store.State().Snapshot().Deletions()) != 1 {
		t.Error("the deletion is complete although the runtime is still there")
	}
	stop()
	waitFor(t, "the lane notices", func() bool {
		return w.store.State().Snapshot().Cluster("oaas-1").GetHealth() == pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE
	})
	if len(w.store.State().Snapshot().Deletions()) != 1 {
		t.Error("the deletion is complete although the cluster was away")
	}
	m.set(func() { m.linger = false })
	m.serve(t, addr, false)
	w.await("gone", func(s *fsm.Snapshot) bool { return len(s.Units()) == 0 && len(s.Deletions()) == 0 })
	unit := registry.UnitID(out.UID, "oaas-1", "Cart")
	if m.tombstones[unit] == 0 {
		t.Error("the cluster has recorded no tombstone")
	}
}

func TestLostRuntimeIsSentAgain(t *testing.T) {
	w := newWorld(t)
	m := newManager("oaas-1")
	addr, _ := m.serve(t, "127.0.0.1:0", false)
	w.found.set(gossiped("oaas-1", addr))
	w.awaitHealthy("oaas-1")
	out := w.deploy("cart:1", "oaas-1")
	w.await("acknowledged", allAcked)
	m.set(func() { m.removeLocked(out.UnitID) })
	waitFor(t, "it is sent again", func() bool { deploys, _ := m.counts(); return deploys == 2 })
	w.await("acknowledged again", allAcked)
}

func TestRefusalIsShownAndNotRepeated(t *testing.T) {
	w := newWorld(t)
	m := newManager("oaas-1")
	m.fail = status.Error(codes.InvalidArgument, "functions[0].provision_config.cpu_request: not a quantity")
	addr, _ := m.serve(t, "127.0.0.1:0", false)
	w.found.set(gossiped("oaas-1", addr))
	w.awaitHealthy("oaas-1")
	out := w.deploy("cart:1", "oaas-1")
	w.await("refusal is shown", func(s *fsm.Snapshot) bool {
		waiting := s.Unit(out.UnitID).GetWaiting()
		return waiting.GetCode() == dispatch.WaitRefused && waiting.GetPermanent()
	})
	m.set(func() { m.fail = nil })
	w.deploy("cart:2", "oaas-1")
	w.await("a new wish is sent at once", allAcked)
	if deploys, _ := m.counts(); deploys != 2 {
		t.Errorf("%d deploys, want the refused one and the new one", deploys)
	}
}

// TestNoClusterDelaysAnother hangs one cluster's calls until their deadline.
func TestNoClusterDelaysAnother(t *testing.T) {
	w := newWorld(t)
	slow, quick := newManager("oaas-1"), newManager("oaas-2")
	slow.hang = true
	addr1, _ := slow.serve(t, "127.0.0.1:0", false)
	addr2, _ := quick.serve(t, "127.0.0.1:0", false)
	w.found.set(gossiped("oaas-1", addr1), gossiped("oaas-2", addr2))
	w.awaitHealthy("oaas-1", "oaas-2")
	out := w.deploy("cart:1", "oaas-1", "oaas-2")
	first, second := registry.UnitID(out.UID, "oaas-1", "Cart"), registry.UnitID(out.UID, "oaas-2", "Cart")
	w.await("the quick one is served while the slow one hangs", func(s *fsm.Snapshot) bool {
		return fsm.Acknowledged(s.Unit(second)) && s.Unit(first).GetAck() == nil
	})
	w.await("the timeout is shown", func(s *fsm.Snapshot) bool { return s.Unit(first).GetWaiting().GetCode() == dispatch.WaitTimeout })
	slow.set(func() { slow.hang = false })
	w.await("served after all", allAcked)
}

// TestAPIServerThatIsBackIsServedAtOnce makes the backoff longer than the test:
// only the news that the API server is back can make the lane try again.
func TestAPIServerThatIsBackIsServedAtOnce(t *testing.T) {
	w := newWorld(t, func(o *dispatch.Options) { o.RetryMin, o.RetryMax = time.Hour, time.Hour })
	m := newManager("oaas-1")
	m.fail = status.Error(codes.Unavailable, "the API server cannot be reached")
	addr, _ := m.serve(t, "127.0.0.1:0", false)
	w.found.set(gossiped("oaas-1", addr))
	w.awaitHealthy("oaas-1")
	m.heartbeat(false)
	w.await("degraded", func(s *fsm.Snapshot) bool {
		return s.Cluster("oaas-1").GetHealth() == pmpb.ClusterHealth_CLUSTER_HEALTH_DEGRADED
	})
	out := w.deploy("cart:1", "oaas-1")
	w.await("the reason is shown", func(s *fsm.Snapshot) bool {
		return s.Unit(out.UnitID).GetWaiting().GetCode() == dispatch.WaitUnavailable
	})
	m.set(func() { m.fail = nil })
	m.heartbeat(true)
	w.await("served", allAcked)
}

func TestManagerWithoutStreamIsPolled(t *testing.T) {
	w := newWorld(t)
	m := newManager("oaas-1")
	addr, _ := m.serve(t, "127.0.0.1:0", true)
	w.found.set(discovery.Candidate{Name: "oaas-1", Address: addr, Source: discovery.SourceStatic})
	w.awaitHealthy("oaas-1")
	out := w.deploy("cart:1", "oaas-1")
	w.await("acknowledged", allAcked)
	m.report(out.UnitID, oaaspb.DeploymentCondition_RUNNING)
	w.await("running", func(s *fsm.Snapshot) bool {
		return fsm.DeploymentCondition(s.UnitsByDeployment(out.UID)) == model.ConditionRunning
	})
	if _, _, err := w.registry.DeleteDeployment(context.Background(), registry.RequestInfo{}, "shop.Cart"); err != nil {
		t.Fatal(err)
	}
	w.await("gone", func(s *fsm.Snapshot) bool { return len(s.Units()) == 0 })
}

// The manager of oaas-rs answers OK to a change of a unit that it has, and keeps what it has.
func TestManagerThatKeepsOldContentGetsTheNewOne(t *testing.T) {
	w := newWorld(t)
	m := newManager("oaas-1")
	m.keeps = true
	addr, _ := m.serve(t, "127.0.0.1:0", true)
	w.found.set(discovery.Candidate{Name: "oaas-1", Address: addr, Source: discovery.SourceStatic})
	w.awaitHealthy("oaas-1")
	fence := func(id string) uint64 {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.objects[id].GetDelivery().GetFence()
	}
	for i := range 4 {
		out := w.deploy(fmt.Sprintf("cart:%d", i), "oaas-1")
		w.await("acknowledged", allAcked)
		if u := w.store.State().Snapshot().Unit(out.UnitID); fence(out.UnitID) != u.GetFence() {
			t.Fatalf("change %d: the cluster has the content of fence %d, wanted is %d", i, fence(out.UnitID), u.GetFence())
		}
	}
	deploys, deletes := m.counts()
	if deploys != 4 || deletes < 3 {
		t.Errorf("%d deploys and %d deletes for 4 wishes", deploys, deletes)
	}
	// What takes its time to go is waited for, and not sent into.
	m.set(func() { m.linger = true })
	out := w.deploy("cart:9", "oaas-1")
	w.await("the reason is shown", func(s *fsm.Snapshot) bool { return s.Unit(out.UnitID).GetWaiting().GetCode() == dispatch.WaitDeleting })
	m.set(func() { m.linger = false; m.removeLocked(out.UnitID) })
	w.await("acknowledged", allAcked)
	if u := w.store.State().Snapshot().Unit(out.UnitID); fence(out.UnitID) != u.GetFence() {
		t.Errorf("the cluster has the content of fence %d, wanted is %d", fence(out.UnitID), u.GetFence())
	}
}

func TestImpostorIsNotRegistered(t *testing.T) {
	metrics := prometheus.NewRegistry()
	w := newWorld(t, func(o *dispatch.Options) { o.Metrics = metrics })
	m := newManager("oaas-1")
	addr, _ := m.serve(t, "127.0.0.1:0", false)
	w.found.set(gossiped("oaas-1", addr))
	w.awaitHealthy("oaas-1")
	other := newManager("oaas-1")
	other.uid = "uid-of-another-cluster"
	addr2, _ := other.serve(t, "127.0.0.1:0", false)
	liar := newManager("oaas-9")
	addr3, _ := liar.serve(t, "127.0.0.1:0", false)
	third := newManager("oaas-3")
	addr4, _ := third.serve(t, "127.0.0.1:0", false)
	w.found.set(gossiped("oaas-1", addr2), gossiped("oaas-2", addr3), gossiped("oaas-3", addr4))
	w.awaitHealthy("oaas-3")
	waitFor(t, "both are rejected", func() bool {
		return metric(t, metrics, "oaas_pm_dispatch_candidates_rejected_total", "identity") >= 2
	})
	snap := w.store.State().Snapshot()
	if got := snap.Cluster("oaas-1").GetAddress(); got != addr {
		t.Errorf("oaas-1 moved to an impostor at %s", got)
	}
	if snap.Cluster("oaas-2") != nil {
		t.Error("a manager that says it is oaas-9 was registered as oaas-2")
	}
}

// TestStrangerAtAKnownAddressGetsNothing lets another cluster's manager answer
// at the address of a configured one, as after an address was reused.
func TestStrangerAtAKnownAddressGetsNothing(t *testing.T) {
	w := newWorld(t)
	m := newManager("oaas-1")
	addr, stop := m.serve(t, "127.0.0.1:0", false)
	w.found.set(discovery.Candidate{Name: "oaas-1", Address: addr, Source: discovery.SourceStatic})
	w.awaitHealthy("oaas-1")
	w.await("identified", func(s *fsm.Snapshot) bool { return s.Cluster("oaas-1").GetUid() != "" })
	stop()
	stranger := newManager("oaas-1")
	stranger.uid = "uid-of-another-cluster"
	stranger.serve(t, addr, false)
	w.await("refused, with the reason", func(s *fsm.Snapshot) bool {
		c := s.Cluster("oaas-1")
		return c.GetHealth() == pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE && strings.Contains(c.GetHealthMessage(), "another cluster")
	})
	out := w.deploy("cart:1", "oaas-1")
	w.await("the unit waits", func(s *fsm.Snapshot) bool {
		return s.Unit(out.UnitID).GetWaiting().GetCode() == dispatch.WaitUnreachable
	})
	if deploys, _ := stranger.counts(); deploys != 0 {
		t.Errorf("the stranger was sent %d deploys", deploys)
	}
}

func TestManagerThatMovedIsTheSameCluster(t *testing.T) {
	w := newWorld(t)
	m := newManager("oaas-1")
	addr, stop := m.serve(t, "127.0.0.1:0", false)
	w.found.set(gossiped("oaas-1", addr))
	w.awaitHealthy("oaas-1")
	w.deploy("cart:1", "oaas-1")
	w.await("acknowledged", allAcked)
	stop()
	moved, _ := m.serve(t, "127.0.0.1:0", false)
	w.found.set(gossiped("oaas-1", moved), gossiped("oaas-1", addr))
	w.await("registered at the new address", func(s *fsm.Snapshot) bool {
		c := s.Cluster("oaas-1")
		return c.GetAddress() == moved && c.GetHealth() == pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY
	})
	if deploys, _ := m.counts(); deploys != 1 {
		t.Errorf("%d deploys, want 1", deploys)
	}
}

// waitFor waits until ok, which looks at things that cannot be watched.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("never: %s", what)
		}
	}
}
