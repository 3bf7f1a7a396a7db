package dispatch_test

import (
	"context"
	"fmt"
	"math"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"oaas.io/control-plane/discovery"
	"oaas.io/control-plane/dispatch"
	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
)

// hostile is a manager that does something else than the real one in place of what
// is set. The rest it does faithfully.
type hostile struct {
	*manager
	watch  func(stream grpc.ServerStreamingServer[oaaspb.RuntimeEvent]) error
	deploy func(ctx context.Context, req *oaaspb.DeployRequest) (*oaaspb.DeployResponse, error)
	info   func(ctx context.Context) (*oaaspb.ClusterInfo, error)
	remove func(ctx context.Context, req *oaaspb.DeleteDeploymentRequest) (*oaaspb.DeleteDeploymentResponse, error)
}

func (h *hostile) WatchRuntimes(req *oaaspb.WatchRuntimesRequest, stream grpc.ServerStreamingServer[oaaspb.RuntimeEvent]) error {
	if h.watch != nil {
		return h.watch(stream)
	}
	return h.manager.WatchRuntimes(req, stream)
}

func (h *hostile) Deploy(ctx context.Context, req *oaaspb.DeployRequest) (*oaaspb.DeployResponse, error) {
	if h.deploy != nil {
		return h.deploy(ctx, req)
	}
	return h.manager.Deploy(ctx, req)
}

func (h *hostile) DeleteDeployment(ctx context.Context, req *oaaspb.DeleteDeploymentRequest) (*oaaspb.DeleteDeploymentResponse, error) {
	if h.remove != nil {
		return h.remove(ctx, req)
	}
	return h.manager.DeleteDeployment(ctx, req)
}

func (h *hostile) GetClusterInfo(ctx context.Context, req *oaaspb.GetClusterInfoRequest) (*oaaspb.ClusterInfo, error) {
	if h.info != nil {
		return h.info(ctx)
	}
	return h.manager.GetClusterInfo(ctx, req)
}

func (h *hostile) server() *grpc.Server {
	s := grpc.NewServer()
	oaaspb.RegisterDeploymentServiceServer(s, h)
	oaaspb.RegisterCrmInfoServiceServer(s, h)
	oaaspb.RegisterAgentServiceServer(s, h)
	return s
}

func upserted(s *oaaspb.ClassRuntimeSummary) *oaaspb.RuntimeEvent {
	return &oaaspb.RuntimeEvent{Event: &oaaspb.RuntimeEvent_Upserted{Upserted: s}}
}

func removed(id string) *oaaspb.RuntimeEvent {
	return &oaaspb.RuntimeEvent{Event: &oaaspb.RuntimeEvent_Removed{Removed: &oaaspb.RuntimeRemoved{DeploymentUnitId: id}}}
}

func complete(count int) *oaaspb.RuntimeEvent {
	return &oaaspb.RuntimeEvent{Event: &oaaspb.RuntimeEvent_InventoryComplete{InventoryComplete: &oaaspb.InventoryComplete{Count: uint32(count)}}}
}

func heartbeat(ready bool) *oaaspb.RuntimeEvent {
	return &oaaspb.RuntimeEvent{Event: &oaaspb.RuntimeEvent_Heartbeat{Heartbeat: &oaaspb.Heartbeat{ApiServerReady: ready}}}
}

// says makes a runtime with a condition and the delivery that the manager has stored.
func (m *manager) says(id string, c oaaspb.DeploymentCondition) *oaaspb.ClassRuntimeSummary {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &oaaspb.ClassRuntimeSummary{Id: id, DeploymentUnitId: id, Delivery: m.objects[id].GetDelivery(), Status: &oaaspb.ClassRuntimeStatus{Condition: c}}
}

// neighbourhood is a world with a hostile manager as oaas-1 and a faithful one as
// oaas-2, and counts what is written about the clusters.
type neighbourhood struct {
	*world
	bad     *hostile
	good    *manager
	address string
	metrics *prometheus.Registry
	// rows counts the writes of the hostile cluster's row, updates those of its units.
	rows, updates atomic.Int64
	began         time.Time
}

func newNeighbourhood(t *testing.T, bad *hostile, edit ...func(*dispatch.Options)) *neighbourhood {
	t.Helper()
	n := &neighbourhood{bad: bad, good: newManager("oaas-2"), metrics: prometheus.NewRegistry(), began: time.Now()}
	bad.manager = newManager("oaas-1")
	n.world = newWorld(t, append(edit, func(o *dispatch.Options) { o.Metrics = n.metrics })...)
	n.stop()
	n.store.BeforeApply = func(cmd *pmpb.Command) error {
		if cmd.GetPutCluster().GetCluster().GetName() == "oaas-1" {
			n.rows.Add(1)
		}
		snap := n.store.State().Snapshot()
		for _, u := range cmd.GetUpdateUnits().GetUpdates() {
			if snap.Unit(u.GetId()).GetEnv() == "oaas-1" {
				n.updates.Add(1)
			}
		}
		return nil
	}
	n.lead(n.store.NextTerm())
	n.address, _ = serveGRPC(t, "127.0.0.1:0", bad.server())
	addr, _ := n.good.serve(t, "127.0.0.1:0", false)
	n.found.set(
		discovery.Candidate{Name: "oaas-1", Address: n.address, Source: discovery.SourceStatic},
		discovery.Candidate{Name: "oaas-2", Address: addr, Source: discovery.SourceStatic},
	)
	n.awaitHealthy("oaas-2")
	return n
}

// neighbourIsServed deploys to the faithful cluster and waits for its confirmation
// and its report.
func (n *neighbourhood) neighbourIsServed() {
	n.t.Helper()
	for _, id := range n.deployAs("shop.Neighbour", 5, "oaas-2") {
		n.await(id+" is acknowledged", func(s *fsm.Snapshot) bool { return fsm.Acknowledged(s.Unit(id)) })
		n.good.say(id, "ready")
		n.await(id+" runs", running(id))
	}
}

// metric adds up a metric over all labels but the given values, which must be there.
func metric(t *testing.T, reg *prometheus.Registry, name string, labels ...string) (sum float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			have := map[string]bool{}
			for _, l := range m.GetLabel() {
				have[l.GetValue()] = true
			}
			matches := f.GetName() == name
			for _, l := range labels {
				matches = matches && have[l]
			}
			if matches {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// TestManagerThatNeverAnswers: after some calls only probes are sent, and when the
// cluster shows a sign of life everything goes out at once. The pause between probes
// is longer than the test.
func TestManagerThatNeverAnswers(t *testing.T) {
	bad := &hostile{}
	n := newNeighbourhood(t, bad, func(o *dispatch.Options) {
		o.CallTimeout, o.ProbeMin, o.ProbeMax, o.SilenceLimit = 100*time.Millisecond, time.Hour, time.Hour, time.Hour
	})
	n.awaitHealthy("oaas-1")
	bad.set(func() { bad.hang = true })
	ids := n.deployMany(40, "oaas-1")
	waitFor(t, "the breaker is open", func() bool { return metric(t, n.metrics, "oaas_pm_dispatch_breaker_state", "oaas-1") == 2 })
	n.await("every unit says why it waits", func(s *fsm.Snapshot) bool {
		for _, id := range ids {
			if s.Unit(id).GetWaiting().GetCode() != dispatch.WaitTimeout {
				return false
			}
		}
		return true
	})
	n.neighbourIsServed()
	// Those that were under way when it opened, and one that filled up their number.
	if deploys, _ := bad.counts(); deploys > 8+5 {
		t.Errorf("%d calls to a cluster that answers none", deploys)
	}
	bad.set(func() { bad.hang = false })
	n.digested(bad.manager)
	n.await("all are served", allAcked)
	if metric(t, n.metrics, "oaas_pm_dispatch_breaker_state", "oaas-1") != 0 || metric(t, n.metrics, "oaas_pm_dispatch_breaker_opened_total", "oaas-1") != 1 {
		t.Error("the breaker did not close")
	}
}

// TestTextThatIsNoText: what an answer's header says can be any bytes. They must not
// keep the reports of all clusters from being stored.
func TestTextThatIsNoText(t *testing.T) {
	bad := &hostile{}
	n := newNeighbourhood(t, bad)
	inner := bad.server()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	front := &http.Server{Protocols: new(http.Protocols), ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/Deploy") {
			inner.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", "3")
		w.Header().Set(http.TrailerPrefix+"Grpc-Message", "no %FF%FE text")
	})}
	front.Protocols.SetUnencryptedHTTP2(true)
	var done sync.WaitGroup
	done.Go(func() { _ = front.Serve(ln) })
	t.Cleanup(func() { _ = front.Close(); inner.Stop(); done.Wait() })
	n.found.set(discovery.Candidate{Name: "oaas-1", Address: ln.Addr().String(), Source: discovery.SourceStatic})
	n.await("moved", func(s *fsm.Snapshot) bool {
		c := s.Cluster("oaas-1")
		return c.GetAddress() == ln.Addr().String() && c.GetHealth() == pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY
	})
	out := n.deploy("cart:1", "oaas-1")
	n.await("the refusal is shown", func(s *fsm.Snapshot) bool {
		w := s.Unit(out.UnitID).GetWaiting()
		return w.GetCode() == dispatch.WaitRefused && strings.HasPrefix(w.GetMessage(), "no ")
	})
	n.neighbourIsServed()
}

// TestBreachesOfTheProtocol: from what does not keep to the protocol nothing is
// concluded, least of all that units are gone.
func TestBreachesOfTheProtocol(t *testing.T) {
	for name, events := range map[string]func(mine *oaaspb.ClassRuntimeSummary) []*oaaspb.RuntimeEvent{
		"ends twice": func(mine *oaaspb.ClassRuntimeSummary) []*oaaspb.RuntimeEvent {
			return []*oaaspb.RuntimeEvent{upserted(mine), complete(1), complete(0)}
		},
		"a part is missing": func(*oaaspb.ClassRuntimeSummary) []*oaaspb.RuntimeEvent {
			return []*oaaspb.RuntimeEvent{complete(1)}
		},
		"a part is too much": func(mine *oaaspb.ClassRuntimeSummary) []*oaaspb.RuntimeEvent {
			return []*oaaspb.RuntimeEvent{upserted(mine), upserted(mine), complete(1)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bad := &hostile{}
			n := newNeighbourhood(t, bad)
			n.awaitHealthy("oaas-1")
			out := n.deploy("cart:1", "oaas-1")
			n.await("acknowledged", allAcked)
			n.stop()
			bad.watch = func(stream grpc.ServerStreamingServer[oaaspb.RuntimeEvent]) error {
				for _, e := range events(bad.says(out.UnitID, oaaspb.DeploymentCondition_RUNNING)) {
					if err := stream.Send(e); err != nil {
						return err
					}
				}
				<-stream.Context().Done()
				return nil
			}
			n.lead(n.store.NextTerm())
			waitFor(t, "some sessions end for it", func() bool {
				return metric(t, n.metrics, "oaas_pm_dispatch_sessions_ended_total", "oaas-1", "protocol") > 3
			})
			n.neighbourIsServed()
			if deploys, _ := bad.counts(); deploys != 1 {
				t.Errorf("%d deploys, want 1", deploys)
			}
		})
	}
}

// TestInventoryThatNeverEnds: the cluster is not taken for healthy, however alive it
// is, and the reason is shown.
func TestInventoryThatNeverEnds(t *testing.T) {
	bad := &hostile{}
	bad.watch = func(stream grpc.ServerStreamingServer[oaaspb.RuntimeEvent]) error {
		for i := 0; ; i++ {
			s := &oaaspb.ClassRuntimeSummary{DeploymentUnitId: fmt.Sprintf("unknown-%d", i), CreatedAt: strings.Repeat("x", 1000)}
			for _, e := range []*oaaspb.RuntimeEvent{upserted(s), heartbeat(true)} {
				if err := stream.Send(e); err != nil {
					return err
				}
			}
		}
	}
	n := newNeighbourhood(t, bad, func(o *dispatch.Options) { o.InventoryLimit = 200 * time.Millisecond })
	n.await("unreachable, with the reason", func(s *fsm.Snapshot) bool {
		c := s.Cluster("oaas-1")
		return c.GetHealth() == pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE && strings.Contains(c.GetHealthMessage(), "does not end")
	})
	n.neighbourIsServed()
}

// TestFlood lets a manager report without a pause that its units change. What it makes
// the log take is bounded by time, not by how fast it speaks.
func TestFlood(t *testing.T) {
	bad := &hostile{}
	n := newNeighbourhood(t, bad)
	n.awaitHealthy("oaas-1")
	ids := n.deployMany(20, "oaas-1")
	n.await("acknowledged", allAcked)
	n.stop()
	var sent atomic.Int64
	bad.watch = func(stream grpc.ServerStreamingServer[oaaspb.RuntimeEvent]) error {
		for _, id := range ids {
			if err := stream.Send(upserted(bad.says(id, oaaspb.DeploymentCondition_RUNNING))); err != nil {
				return err
			}
		}
		if err := stream.Send(complete(len(ids))); err != nil {
			return err
		}
		for i := 0; ; i++ {
			s := bad.says(ids[i%len(ids)], oaaspb.DeploymentCondition(1+i/len(ids)%4))
			// Long ones count as many, so that a slow machine is flooded too.
			s.Status.Message = proto.String(fmt.Sprint(i) + strings.Repeat(".", 8<<10))
			for _, e := range []*oaaspb.RuntimeEvent{upserted(s), heartbeat(i%2 == 0)} {
				if err := stream.Send(e); err != nil {
					return err
				}
				sent.Add(1)
			}
		}
	}
	began := time.Now()
	n.updates.Store(0)
	n.rows.Store(0)
	n.lead(n.store.NextTerm())
	n.await("one is reported", func(s *fsm.Snapshot) bool { return s.Unit(ids[0]).GetRuntime() != nil })
	n.neighbourIsServed()
	waitFor(t, "the cluster is not listened to for a while", func() bool { return metric(t, n.metrics, "oaas_pm_dispatch_throttled_total", "oaas-1") > 0 })
	seconds := time.Since(began).Seconds()
	// 500 and two for each unit, and 20.4 a second; each wish brings four.
	if got, most := float64(n.updates.Load()), 500+2*20+20.4*seconds+4*20+64; got > most {
		t.Errorf("%v updates of a flood of %d events within %.1f s, at most %v are allowed", got, sent.Load(), seconds, most)
	}
	if got, most := float64(n.rows.Load()), 10+seconds/2+2; got > most {
		t.Errorf("its row was written %v times within %.1f s, at most %v are allowed", got, seconds, most)
	}
}

// TestContradictions: a cluster that takes back what it has just confirmed is sent the
// unit again, but not as fast as it lies.
func TestContradictions(t *testing.T) {
	lies := map[string]func(h *hostile, id string){
		"it says that the unit is gone": func(h *hostile, id string) {
			h.set(func() { h.publish(removed(id)) })
		},
		"it says that the unit has a change that was never made": func(h *hostile, id string) {
			s := h.says(id, oaaspb.DeploymentCondition_RUNNING)
			s.Delivery = proto.CloneOf(s.GetDelivery())
			s.Delivery.Fence = math.MaxUint64
			h.set(func() { h.publish(upserted(s)) })
		},
		"it says that everything has vanished": func(h *hostile, _ string) {
			h.set(func() {
				for w := range h.watchers {
					close(w)
				}
				clear(h.watchers)
			})
		},
	}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			bad := &hostile{}
			bad.watch = func(stream grpc.ServerStreamingServer[oaaspb.RuntimeEvent]) error {
				events := make(chan *oaaspb.RuntimeEvent, 1024)
				bad.set(func() { bad.watchers[events] = true })
				if err := stream.Send(complete(0)); err != nil {
					return err
				}
				for {
					select {
					case e, ok := <-events:
						if !ok {
							return nil
						}
						if err := stream.Send(e); err != nil {
							return err
						}
					case <-stream.Context().Done():
						bad.set(func() { delete(bad.watchers, events) })
						return nil
					}
				}
			}
			n := newNeighbourhood(t, bad)
			n.awaitHealthy("oaas-1")
			var first atomic.Pointer[time.Time]
			bad.set(func() {
				bad.answer = func(_ context.Context, resp *oaaspb.DeployResponse) {
					now := time.Now()
					first.CompareAndSwap(nil, &now)
					lie(bad, resp.GetDeploymentId())
				}
			})
			n.deploy("cart:1", "oaas-1")
			waitFor(t, "it is sent again and again", func() bool { deploys, _ := bad.counts(); return deploys >= 8 })
			n.neighbourIsServed()
			deploys, _ := bad.counts()
			// Two at once, and then with pauses of half of 5 ms at least, that double.
			most := 4 + math.Log2(1+float64(time.Since(*first.Load()))/float64(5*time.Millisecond/2))
			if float64(deploys) > most {
				t.Errorf("%d deploys, at most %.0f are allowed after %s", deploys, most, time.Since(*first.Load()))
			}
		})
	}
}

// TestOtherPeoplesUnits: what a cluster says of units that are another's, or nobody's,
// has no effect.
func TestOtherPeoplesUnits(t *testing.T) {
	bad := &hostile{}
	n := newNeighbourhood(t, bad)
	n.awaitHealthy("oaas-1")
	victim := n.deploy("cart:1", "oaas-2").UnitID
	n.await("acknowledged", allAcked)
	n.good.say(victim, "ready")
	n.await("runs", running(victim))
	theirs := n.good.says(victim, oaaspb.DeploymentCondition_DOWN)
	bad.set(func() {
		bad.publish(upserted(theirs))
		bad.publish(removed(victim))
		bad.publish(upserted(&oaaspb.ClassRuntimeSummary{DeploymentUnitId: "nobodys", Delivery: theirs.GetDelivery()}))
		bad.publish(removed("nobodys"))
	})
	n.digested(bad.manager)
	mine := n.deploy("cart:2", "oaas-1", "oaas-2")
	n.await("both are served", func(s *fsm.Snapshot) bool {
		return fsm.Acknowledged(s.Unit(mine.UnitID)) && fsm.Acknowledged(s.Unit(victim))
	})
	n.good.say(victim, "ready")
	n.await("the victim runs", running(victim))
	if n.updates.Load() > 3 { // the acknowledgement and the report of its own unit, and one to spare
		t.Errorf("%d updates about the units of oaas-1", n.updates.Load())
	}
	if deploys, _ := n.good.counts(); deploys != 2 {
		t.Errorf("%d deploys to the victim, want one for each wish", deploys)
	}
}

// TestDescriptionWithoutMeasure: what a cluster says of itself is kept in a small size.
func TestDescriptionWithoutMeasure(t *testing.T) {
	bad := &hostile{}
	bad.info = func(context.Context) (*oaaspb.ClusterInfo, error) {
		info := &oaaspb.ClusterInfo{Name: "oaas-1", Uid: "u", Zone: strings.Repeat("z", 100<<10), Labels: map[string]string{}, ApiServerReady: true}
		for i := range 5000 {
			info.Labels[fmt.Sprintf("label-%d", i)] = strings.Repeat("x", 500)
			info.Capabilities = append(info.Capabilities, fmt.Sprintf("c%d", i))
		}
		return info, nil
	}
	// Megabytes take their time where the race detector looks on.
	n := newNeighbourhood(t, bad, func(o *dispatch.Options) { o.CallTimeout = 15 * time.Second })
	n.await("described", func(s *fsm.Snapshot) bool { return len(s.Cluster("oaas-1").GetLabels()) > 0 })
	if size := proto.Size(n.store.State().Snapshot().Cluster("oaas-1")); size > 64<<10 {
		t.Errorf("the row has %d bytes", size)
	}
	n.neighbourIsServed()
}

// TestReportsWithoutMeasure: every unit has as much to tell as one may have. All
// together they are kept in the size that is allowed to the cluster.
func TestReportsWithoutMeasure(t *testing.T) {
	const units = 60
	n := newNeighbourhood(t, &hostile{})
	n.awaitHealthy("oaas-1")
	ids := n.deployMany(units, "oaas-1")
	n.await("acknowledged", allAcked)
	for _, id := range ids {
		n.bad.say(id, strings.Repeat("x", 60<<10))
	}
	for _, id := range ids {
		n.await(id+" runs", running(id))
	}
	n.neighbourIsServed()
	total := 0
	for _, id := range ids {
		total += proto.Size(n.store.State().Snapshot().Unit(id).GetRuntime())
	}
	// What is on its way when the limit is reached comes on top: a backlog, and the batches of
	// the lane and of the reporter.
	if most := 1<<20 + units*(4<<10) + 1<<20 + 384<<10; total > most {
		t.Errorf("the reports of %d units have %d bytes, at most %d are allowed", units, total, most)
	}
}

// TestCandidatesThatNeverAnswer: whoever is found is registered, whatever else is found.
func TestCandidatesThatNeverAnswer(t *testing.T) {
	w := newWorld(t)
	var found []discovery.Candidate
	for i := range 30 {
		bad := &hostile{manager: newManager(fmt.Sprintf("bad-%d", i))}
		bad.info = func(ctx context.Context) (*oaaspb.ClusterInfo, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		addr, _ := serveGRPC(t, "127.0.0.1:0", bad.server())
		found = append(found, gossiped(bad.name, addr))
	}
	addr, _ := newManager("oaas-1").serve(t, "127.0.0.1:0", false)
	w.found.set(append(found, gossiped("oaas-1", addr))...)
	w.awaitHealthy("oaas-1")
}

// TestPlacesForCalls: clusters that do not answer take up all places that there are
// for calls, and the one that does still is served.
func TestPlacesForCalls(t *testing.T) {
	const others, shared = 4, 3
	w := newWorld(t, func(o *dispatch.Options) { o.CallTimeout, o.MaxInFlightTotal = time.Hour, shared })
	var flying, peak atomic.Int64
	release := make(chan struct{})
	var found []discovery.Candidate
	var names []string
	for i := range others {
		bad := &hostile{manager: newManager(fmt.Sprintf("bad-%d", i))}
		bad.deploy = func(ctx context.Context, req *oaaspb.DeployRequest) (*oaaspb.DeployResponse, error) {
			for now, high := flying.Add(1), peak.Load(); now > high && !peak.CompareAndSwap(high, now); high = peak.Load() {
			}
			defer flying.Add(-1)
			select {
			case <-release:
			case <-ctx.Done():
			}
			return bad.manager.Deploy(ctx, req)
		}
		addr, _ := serveGRPC(t, "127.0.0.1:0", bad.server())
		found, names = append(found, gossiped(bad.name, addr)), append(names, bad.name)
	}
	good := newManager("oaas-2")
	addr, _ := good.serve(t, "127.0.0.1:0", false)
	w.found.set(append(found, gossiped("oaas-2", addr))...)
	w.awaitHealthy(append(names, "oaas-2")...)
	for i, name := range names {
		w.deployAs(fmt.Sprintf("shop.Bad%d", i), 5, name)
	}
	waitFor(t, "all places are taken", func() bool { return flying.Load() == others+shared })
	for _, id := range w.deployAs("shop.Good", 10, "oaas-2") {
		w.await(id+" is acknowledged", func(s *fsm.Snapshot) bool { return fsm.Acknowledged(s.Unit(id)) })
	}
	close(release)
	w.await("all are acknowledged", allAcked)
	if got := peak.Load(); got > others+shared {
		t.Errorf("%d calls at a time, at most %d are allowed", got, others+shared)
	}
}

// TestReportThatCannotBeStored: it is given up, and does not hold up the others' reports.
func TestReportThatCannotBeStored(t *testing.T) {
	n := newNeighbourhood(t, &hostile{})
	n.awaitHealthy("oaas-1")
	poison := n.deployMany(1, "oaas-1")[0]
	n.await("acknowledged", allAcked)
	n.stop()
	n.store.BeforeApply = func(cmd *pmpb.Command) error {
		for _, u := range cmd.GetUpdateUnits().GetUpdates() {
			if u.GetId() == poison {
				return fmt.Errorf("cannot be encoded: %s", u.GetId())
			}
		}
		return nil
	}
	n.bad.say(poison, "ready")
	n.lead(n.store.NextTerm())
	n.neighbourIsServed()
	if registry.CodeOf(n.store.BeforeApply(&pmpb.Command{})) != registry.Internal {
		t.Error("the test's error is not what it is meant to be")
	}
}
