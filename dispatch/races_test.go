package dispatch_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"oaas.io/control-plane/discovery"
	"oaas.io/control-plane/dispatch"
	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
)

// digested returns once the lane of a healthy cluster has taken all that its
// manager has reported, and everything that was committed before: it shows in
// the cluster's health.
func (w *world) digested(m *manager) {
	m.heartbeat(false)
	w.await(m.name+" is degraded", func(s *fsm.Snapshot) bool {
		return s.Cluster(m.name).GetHealth() == pmpb.ClusterHealth_CLUSTER_HEALTH_DEGRADED
	})
	m.heartbeat(true)
	w.awaitHealthy(m.name)
}

// TestRemovalBeforeTheConfirmation removes a unit after it was stored and before
// the call that stored it was answered. The late answer must not make the lane
// believe that the unit is there.
func TestRemovalBeforeTheConfirmation(t *testing.T) {
	// No new session may bring the truth to light.
	w := newWorld(t, func(o *dispatch.Options) { o.SilenceLimit = time.Hour })
	m := newManager("oaas-1")
	addr, _ := m.serve(t, "127.0.0.1:0", false)
	w.found.set(gossiped("oaas-1", addr))
	w.awaitHealthy("oaas-1")
	var once sync.Once
	m.set(func() {
		m.answer = func(_ context.Context, resp *oaaspb.DeployResponse) {
			once.Do(func() {
				m.set(func() { m.removeLocked(resp.GetDeploymentId()) })
				w.digested(m)
			})
		}
	})
	w.deploy("cart:1", "oaas-1")
	waitFor(t, "it is sent again", func() bool { deploys, _ := m.counts(); return deploys == 2 })
	w.await("acknowledged", allAcked)
}

// TestOneCallPerUnit holds the answer to a call back while the wish changes: the
// next call about the unit waits for the first, because a manager without fences
// keeps what arrives last.
func TestOneCallPerUnit(t *testing.T) {
	w := newWorld(t, func(o *dispatch.Options) { o.CallTimeout = time.Minute })
	m := newManager("oaas-1")
	addr, _ := m.serve(t, "127.0.0.1:0", false)
	w.found.set(gossiped("oaas-1", addr))
	w.awaitHealthy("oaas-1")
	var once sync.Once
	arrived, release := make(chan struct{}), make(chan struct{})
	m.set(func() {
		m.answer = func(context.Context, *oaaspb.DeployResponse) { once.Do(func() { close(arrived); <-release }) }
	})
	w.deploy("cart:1", "oaas-1")
	<-arrived
	w.deploy("cart:2", "oaas-1")
	w.digested(m)
	if deploys, _ := m.counts(); deploys != 1 {
		t.Errorf("%d calls about one unit at a time", deploys)
	}
	close(release)
	w.await("the later wish is acknowledged", allAcked)
	if deploys, _ := m.counts(); deploys != 2 {
		t.Errorf("%d deploys, want 2", deploys)
	}
}

// TestListThatWasMadeBeforeTheDeploy holds back the list of a manager that is
// polled, while a unit is stored: that the list lacks it says nothing.
func TestListThatWasMadeBeforeTheDeploy(t *testing.T) {
	w := newWorld(t)
	m := newManager("oaas-1")
	addr, _ := m.serve(t, "127.0.0.1:0", true)
	w.found.set(discovery.Candidate{Name: "oaas-1", Address: addr, Source: discovery.SourceStatic})
	w.awaitHealthy("oaas-1")
	var lists atomic.Int32
	made := make(chan struct{})
	m.set(func() {
		m.listed = func(ctx context.Context) {
			if lists.Add(1) != 1 {
				return
			}
			close(made)
			for {
				snap := w.store.State().Snapshot()
				changed := snap.WatchAll()
				if allAcked(snap) {
					return
				}
				select {
				case <-changed:
				case <-ctx.Done():
					return
				}
			}
		}
	})
	<-made
	w.deploy("cart:1", "oaas-1")
	waitFor(t, "later lists", func() bool { return lists.Load() > 3 })
	if deploys, _ := m.counts(); deploys != 1 {
		t.Errorf("%d deploys, want 1", deploys)
	}
	if !allAcked(w.store.State().Snapshot()) {
		t.Error("not acknowledged")
	}
}

// TestReasonsAfterAnOutage: when the cluster is back, nothing says any more that
// it is away.
func TestReasonsAfterAnOutage(t *testing.T) {
	w := newWorld(t)
	m := newManager("oaas-1")
	addr, stop := m.serve(t, "127.0.0.1:0", false)
	w.found.set(gossiped("oaas-1", addr))
	w.awaitHealthy("oaas-1")
	ids := w.deployMany(1, "oaas-1")
	w.await("acknowledged", allAcked)
	m.set(func() { m.fail = status.Error(codes.InvalidArgument, "no such template") })
	refused := w.deploy("cart:1", "oaas-1")
	w.await("refused", func(s *fsm.Snapshot) bool {
		return s.Unit(refused.UnitID).GetWaiting().GetCode() == dispatch.WaitRefused
	})
	stop()
	if _, _, err := w.registry.DeleteDeployment(context.Background(), registry.RequestInfo{}, "shop.Cart-0"); err != nil {
		t.Fatal(err)
	}
	w.await("the removal waits", func(s *fsm.Snapshot) bool { return s.Unit(ids[0]).GetWaiting().GetCode() == dispatch.WaitUnreachable })
	m.set(func() { m.fail, m.linger = nil, true })
	m.serve(t, addr, false)
	w.await("the removal is under way", func(s *fsm.Snapshot) bool { return s.Unit(ids[0]).GetWaiting().GetCode() == dispatch.WaitDeleting })
	if waiting := w.store.State().Snapshot().Unit(refused.UnitID).GetWaiting(); waiting.GetCode() != dispatch.WaitRefused {
		t.Errorf("the refused unit says %v", waiting)
	}
}
