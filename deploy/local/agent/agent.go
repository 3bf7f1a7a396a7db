package agent

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"oaas.io/control-plane/proto/oaaspb"
)

// Options describe the cluster that an agent pretends to manage.
type Options struct {
	// Name of the cluster, which is also the name of the environment.
	Name string
	// Address to listen on; empty means a free port on loopback.
	Address string
	// Listen opens Address, on a host of its own for instance; nil means the network of this process.
	Listen func(address string) (net.Listener, error)
	// Heartbeat is the longest silence of a watch; 0 means two seconds.
	Heartbeat time.Duration
	// Received, if set, is told of every call of Deploy before it is carried out. It is called from many goroutines.
	Received func(unit *oaaspb.DeploymentUnit)
	// Stored, if set, is told of every delivery that was stored, in their order.
	Stored func(unit string, delivery *oaaspb.Delivery)
	// Behaviour is how it departs from what a manager should do.
	Behaviour Behaviour
}

// Agent is a running manager. Stop ends it.
type Agent struct {
	oaaspb.UnimplementedDeploymentServiceServer
	oaaspb.UnimplementedAgentServiceServer
	oaaspb.UnimplementedCrmInfoServiceServer
	oaaspb.UnimplementedHealthServiceServer

	options Options
	address string
	// serving is nil while the agent is unplugged.
	serving *endpoint

	mu         sync.Mutex
	objects    map[string]*oaaspb.ClassRuntimeSummary
	tombstones map[string]order
	watchers   map[*watcher]bool
	// What was called, and the inventories that were sent to their end.
	deploys, deletes, inventories uint64
}

// order is the place of a change among all changes of one unit.
type order struct{ epoch, fence uint64 }

func orderOf(d *oaaspb.Delivery) order { return order{d.GetEpoch(), d.GetFence()} }

func (o order) compare(p order) int {
	return cmp.Or(cmp.Compare(o.epoch, p.epoch), cmp.Compare(o.fence, p.fence))
}

// Start serves an empty cluster.
func Start(options Options) (*Agent, error) {
	if options.Name == "" {
		return nil, fmt.Errorf("start agent: a name is needed")
	}
	if options.Address == "" {
		options.Address = "127.0.0.1:0"
	}
	if options.Listen == nil {
		options.Listen = func(address string) (net.Listener, error) { return net.Listen("tcp", address) }
	}
	if options.Heartbeat == 0 {
		options.Heartbeat = 2 * time.Second
	}
	a := &Agent{
		options: options, address: options.Address,
		objects: map[string]*oaaspb.ClassRuntimeSummary{}, tombstones: map[string]order{}, watchers: map[*watcher]bool{},
	}
	return a, a.Plug()
}

// Address is the host:port at which the manager listens.
func (a *Agent) Address() string { return a.address }

// Name of the cluster.
func (a *Agent) Name() string { return a.options.Name }

// Plug serves at the agent's address, with all that it has. An agent that was started is plugged in.
func (a *Agent) Plug() error {
	l, err := a.options.Listen(a.address)
	if err != nil {
		return fmt.Errorf("agent %s: %w", a.options.Name, err)
	}
	p := serve(l, a.services())
	a.serving, a.address = p, p.listener.Addr().String()
	return nil
}

// Unplug cuts all connections and refuses new ones, until the agent is plugged in again. It keeps what it has.
func (a *Agent) Unplug() error {
	p := a.serving
	if p == nil {
		return nil
	}
	a.serving = nil
	if err := p.close(); err != nil {
		return fmt.Errorf("agent %s: %w", a.options.Name, err)
	}
	return nil
}

// Stop ends all calls and the server.
func (a *Agent) Stop() error { return a.Unplug() }

// Wipe forgets everything, as a cluster that was made anew. The agent must be unplugged.
func (a *Agent) Wipe() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.objects)
	clear(a.tombstones)
}

// Objects counts what is stored.
func (a *Agent) Objects() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.objects)
}

// Deploys counts the calls of Deploy.
func (a *Agent) Deploys() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.deploys
}

// Deletes counts the calls of DeleteDeployment.
func (a *Agent) Deletes() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.deletes
}

// Deliveries gives what the stored units carry, by unit id.
func (a *Agent) Deliveries() map[string]*oaaspb.Delivery {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make(map[string]*oaaspb.Delivery, len(a.objects))
	for id, s := range a.objects {
		out[id] = s.GetDelivery()
	}
	return out
}

// Inventories counts the inventories that were sent to their end.
func (a *Agent) Inventories() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.inventories
}

// Deploy stores a unit and reports it as running.
func (a *Agent) Deploy(_ context.Context, req *oaaspb.DeployRequest) (*oaaspb.DeployResponse, error) {
	unit := req.GetDeploymentUnit()
	if a.options.Received != nil {
		a.options.Received(unit)
	}
	id, delivery := unit.GetId(), unit.GetDelivery()
	if id == "" {
		return nil, status.Error(codes.InvalidArgument, "deployment_unit.id: is needed")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.deploys++
	if dead, ok := a.tombstones[id]; ok && orderOf(delivery).compare(dead) <= 0 {
		return nil, status.Errorf(codes.FailedPrecondition, "unit %s was deleted by a newer change", id)
	}
	if have := a.objects[id]; have != nil {
		stored := have.GetDelivery()
		switch {
		case stored.GetControlPlaneId() != delivery.GetControlPlaneId() || stored.GetDeploymentUid() != delivery.GetDeploymentUid():
			return nil, status.Errorf(codes.AlreadyExists, "unit %s belongs to deployment %s of control plane %s", id, stored.GetDeploymentUid(), stored.GetControlPlaneId())
		case orderOf(delivery).compare(orderOf(stored)) < 0:
			return nil, status.Errorf(codes.FailedPrecondition, "unit %s carries a newer change", id)
		}
	}
	a.objects[id] = &oaaspb.ClassRuntimeSummary{
		Id: id, DeploymentUnitId: id, Delivery: delivery,
		Status: &oaaspb.ClassRuntimeStatus{Condition: oaaspb.DeploymentCondition_RUNNING},
	}
	if a.options.Stored != nil {
		a.options.Stored(id, delivery)
	}
	a.publishLocked(id)
	return &oaaspb.DeployResponse{DeploymentId: id, Applied: delivery}, nil
}

// DeleteDeployment removes a unit at once. NOT_FOUND confirms that it is gone.
func (a *Agent) DeleteDeployment(_ context.Context, req *oaaspb.DeleteDeploymentRequest) (*oaaspb.DeleteDeploymentResponse, error) {
	id, at := req.GetDeploymentId(), orderOf(req.GetDelivery())
	a.mu.Lock()
	defer a.mu.Unlock()
	a.deletes++
	have := a.objects[id]
	if have != nil && at.compare(orderOf(have.GetDelivery())) < 0 {
		return nil, status.Errorf(codes.FailedPrecondition, "unit %s carries a newer change", id)
	}
	if at.compare(a.tombstones[id]) > 0 {
		a.tombstones[id] = at
	}
	if have == nil {
		return nil, status.Errorf(codes.NotFound, "no unit %s", id)
	}
	delete(a.objects, id)
	a.publishLocked(id)
	return &oaaspb.DeleteDeploymentResponse{}, nil
}

// ListClassRuntimes gives all units, in no order.
func (a *Agent) ListClassRuntimes(context.Context, *oaaspb.ListClassRuntimesRequest) (*oaaspb.ListClassRuntimesResponse, error) {
	return &oaaspb.ListClassRuntimesResponse{Items: a.inventory(nil)}, nil
}

// GetClusterInfo describes the cluster.
func (a *Agent) GetClusterInfo(context.Context, *oaaspb.GetClusterInfoRequest) (*oaaspb.ClusterInfo, error) {
	return &oaaspb.ClusterInfo{
		Name: a.options.Name, Uid: "uid-of-" + a.options.Name, Zone: a.options.Name + "-a",
		ApiServerReady: true, NodeCount: 3, ReadyNodes: 3,
	}, nil
}

// GetEnvHealth says that the cluster is healthy.
func (a *Agent) GetEnvHealth(context.Context, *oaaspb.CrmEnvRequest) (*oaaspb.CrmEnvHealth, error) {
	return &oaaspb.CrmEnvHealth{EnvName: a.options.Name, Status: "Healthy"}, nil
}

// Check says that the manager serves.
func (a *Agent) Check(context.Context, *oaaspb.HealthCheckRequest) (*oaaspb.HealthCheckResponse, error) {
	return &oaaspb.HealthCheckResponse{Status: oaaspb.HealthCheckResponse_SERVING}, nil
}
