package dispatch_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"oaas.io/control-plane/dispatch/liveness"
	"oaas.io/control-plane/proto/oaaspb"
)

// manager is a cluster's manager with the semantics of the real one towards
// deliveries, kept in memory. It can be told to fail, and counts what it is sent.
type manager struct {
	oaaspb.UnimplementedDeploymentServiceServer
	oaaspb.UnimplementedAgentServiceServer
	oaaspb.UnimplementedCrmInfoServiceServer

	name, uid string

	mu         sync.Mutex
	objects    map[string]*oaaspb.ClassRuntimeSummary
	tombstones map[string]uint64
	watchers   map[chan *oaaspb.RuntimeEvent]bool
	deploys    int
	deletes    int
	fail       error
	// linger keeps a deleted object until it is released, as a finalizer does.
	linger bool
	// partial withholds all runtimes from the inventory, but not their number; watches
	// counts the inventories that were begun.
	partial bool
	watches int
	// keeps makes Deploy answer OK to a unit that is there, and change nothing, as oaas-rs does.
	keeps bool
	// hang makes Deploy wait for its deadline.
	hang bool
	// unready is what the heartbeats say of the API server.
	unready bool
	// answer, when set, runs before a stored unit is confirmed and may change the
	// confirmation; listed runs before a list that was made is given.
	answer func(ctx context.Context, resp *oaaspb.DeployResponse)
	listed func(ctx context.Context)
}

// quick are deadlines for tests.
var quick = liveness.Limits{
	Renewal: 10 * time.Millisecond, Suspect: 25 * time.Millisecond, Unreachable: 50 * time.Millisecond, Eligible: 100 * time.Millisecond,
	Return: 20 * time.Millisecond, Skew: 10 * time.Millisecond,
}

func newManager(name string) *manager {
	return &manager{name: name, uid: "uid-of-" + name, objects: map[string]*oaaspb.ClassRuntimeSummary{}, tombstones: map[string]uint64{}, watchers: map[chan *oaaspb.RuntimeEvent]bool{}}
}

// serve starts the manager on a free port, or on addr, and gives its address
// and how to stop it.
func (m *manager) serve(t *testing.T, addr string, legacy bool) (string, func()) {
	t.Helper()
	s := grpc.NewServer()
	oaaspb.RegisterDeploymentServiceServer(s, m)
	oaaspb.RegisterCrmInfoServiceServer(s, m)
	if !legacy {
		oaaspb.RegisterAgentServiceServer(s, m)
	}
	return serveGRPC(t, addr, s)
}

func serveGRPC(t *testing.T, addr string, s *grpc.Server) (string, func()) {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() { _ = s.Serve(ln) })
	stop := sync.OnceFunc(func() { s.Stop(); done.Wait() })
	t.Cleanup(stop)
	return ln.Addr().String(), stop
}

func (m *manager) set(edit func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	edit()
}

func (m *manager) counts() (deploys, deletes int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.deploys, m.deletes
}

func (m *manager) publish(e *oaaspb.RuntimeEvent) {
	for w := range m.watchers {
		w <- e
	}
}

func (m *manager) Deploy(ctx context.Context, req *oaaspb.DeployRequest) (*oaaspb.DeployResponse, error) {
	resp, err := m.store(ctx, req)
	m.mu.Lock()
	answer := m.answer
	m.mu.Unlock()
	if err == nil && answer != nil {
		answer(ctx, resp)
	}
	return resp, err
}

func (m *manager) store(ctx context.Context, req *oaaspb.DeployRequest) (*oaaspb.DeployResponse, error) {
	m.mu.Lock()
	hang := m.hang
	m.deploys++
	m.mu.Unlock()
	if hang {
		<-ctx.Done()
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return nil, m.fail
	}
	unit := req.GetDeploymentUnit()
	d := unit.GetDelivery()
	if m.keeps && m.objects[unit.GetId()] != nil {
		return &oaaspb.DeployResponse{DeploymentId: unit.GetId()}, nil
	}
	if have := m.objects[unit.GetId()]; d.GetFence() < have.GetDelivery().GetFence() || d.GetFence() <= m.tombstones[unit.GetId()] {
		return nil, status.Error(codes.FailedPrecondition, "stale fence")
	}
	summary := &oaaspb.ClassRuntimeSummary{
		Id: unit.GetId(), DeploymentUnitId: unit.GetId(), Delivery: d,
		Status: &oaaspb.ClassRuntimeStatus{Condition: oaaspb.DeploymentCondition_DEPLOYING},
	}
	m.objects[unit.GetId()] = summary
	m.publish(&oaaspb.RuntimeEvent{Event: &oaaspb.RuntimeEvent_Upserted{Upserted: summary}})
	if m.keeps {
		d = nil // it knows no deliveries
	}
	return &oaaspb.DeployResponse{DeploymentId: unit.GetId(), Applied: d}, nil
}

func (m *manager) DeleteDeployment(_ context.Context, req *oaaspb.DeleteDeploymentRequest) (*oaaspb.DeleteDeploymentResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.deletes++
	if m.fail != nil {
		return nil, m.fail
	}
	id := req.GetDeploymentId()
	if !m.keeps {
		m.tombstones[id] = max(m.tombstones[id], req.GetDelivery().GetFence())
	}
	if m.objects[id] == nil {
		return nil, status.Error(codes.NotFound, "no such unit")
	}
	if !m.linger {
		m.removeLocked(id)
	}
	return &oaaspb.DeleteDeploymentResponse{}, nil
}

func (m *manager) heartbeat(ready bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unready = !ready
	m.publish(&oaaspb.RuntimeEvent{Event: &oaaspb.RuntimeEvent_Heartbeat{Heartbeat: &oaaspb.Heartbeat{ApiServerReady: ready}}})
}

func (m *manager) removeLocked(id string) {
	delete(m.objects, id)
	m.publish(&oaaspb.RuntimeEvent{Event: &oaaspb.RuntimeEvent_Removed{Removed: &oaaspb.RuntimeRemoved{DeploymentUnitId: id}}})
}

// report makes the runtime of a unit say that it is in the given condition.
func (m *manager) report(id string, c oaaspb.DeploymentCondition) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.objects[id]
	s := &oaaspb.ClassRuntimeSummary{Id: id, DeploymentUnitId: id, Delivery: old.GetDelivery(), Status: &oaaspb.ClassRuntimeStatus{Condition: c}}
	m.objects[id] = s
	m.publish(&oaaspb.RuntimeEvent{Event: &oaaspb.RuntimeEvent_Upserted{Upserted: s}})
}

func (m *manager) GetClusterInfo(context.Context, *oaaspb.GetClusterInfoRequest) (*oaaspb.ClusterInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &oaaspb.ClusterInfo{Name: m.name, Uid: m.uid, ApiServerReady: !m.unready, NodeCount: 3, ReadyNodes: 3, Zone: m.name + "-a"}, nil
}

func (m *manager) GetEnvHealth(context.Context, *oaaspb.CrmEnvRequest) (*oaaspb.CrmEnvHealth, error) {
	nodes := uint32(3)
	return &oaaspb.CrmEnvHealth{EnvName: m.name, Status: "Healthy", NodeCount: &nodes, ReadyNodes: &nodes}, nil
}

func (m *manager) ListClassRuntimes(ctx context.Context, _ *oaaspb.ListClassRuntimesRequest) (*oaaspb.ListClassRuntimesResponse, error) {
	m.mu.Lock()
	resp := &oaaspb.ListClassRuntimesResponse{}
	for _, s := range m.objects {
		resp.Items = append(resp.Items, &oaaspb.ClassRuntimeSummary{Id: s.GetId(), DeploymentUnitId: s.GetId(), Status: s.GetStatus()})
	}
	listed := m.listed
	m.mu.Unlock()
	if listed != nil {
		listed(ctx)
	}
	return resp, nil
}

func (m *manager) WatchRuntimes(_ *oaaspb.WatchRuntimesRequest, stream grpc.ServerStreamingServer[oaaspb.RuntimeEvent]) error {
	events := make(chan *oaaspb.RuntimeEvent, 1024)
	m.mu.Lock()
	m.watches++
	for _, s := range m.objects {
		if !m.partial {
			events <- &oaaspb.RuntimeEvent{Event: &oaaspb.RuntimeEvent_Upserted{Upserted: s}}
		}
	}
	events <- &oaaspb.RuntimeEvent{Event: &oaaspb.RuntimeEvent_InventoryComplete{InventoryComplete: &oaaspb.InventoryComplete{Count: uint32(len(m.objects))}}}
	m.watchers[events] = true
	m.mu.Unlock()
	defer m.set(func() { delete(m.watchers, events) })
	renewal := time.NewTicker(quick.Renewal)
	defer renewal.Stop()
	for {
		select {
		case <-renewal.C:
			m.mu.Lock()
			ready := !m.unready
			m.mu.Unlock()
			if err := stream.Send(&oaaspb.RuntimeEvent{Event: &oaaspb.RuntimeEvent_Heartbeat{Heartbeat: &oaaspb.Heartbeat{ApiServerReady: ready}}}); err != nil {
				return err
			}
		case e := <-events:
			if err := stream.Send(e); err != nil {
				return err
			}
		case <-stream.Context().Done():
			return nil
		}
	}
}
