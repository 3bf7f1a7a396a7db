package api

import (
	"context"
	"time"

	"google.golang.org/grpc"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/raftstore"
	"oaas.io/control-plane/registry"
)

// Registry is what the API needs of the operations on the state. The writes work
// on the leader only and say so with the code registry.NoLeader.
type Registry interface {
	// State gives the local replica, for answers that need no freshness.
	State() *fsm.State
	Read(ctx context.Context, c registry.Consistency) (*fsm.Snapshot, error)
	CreatePackage(ctx context.Context, ri registry.RequestInfo, pkg *model.OPackage) (*registry.PackageOutcome, uint64, error)
	UpdatePackage(ctx context.Context, ri registry.RequestInfo, pkg *model.OPackage) (*registry.PackageOutcome, uint64, error)
	DeletePackage(ctx context.Context, ri registry.RequestInfo, name string) (uint64, error)
	Deploy(ctx context.Context, ri registry.RequestInfo, dep *model.OClassDeployment) (*registry.DeployOutcome, uint64, error)
	DeleteDeployment(ctx context.Context, ri registry.RequestInfo, key string) (*registry.DeleteOutcome, uint64, error)
	// Preview and Simulate work on what was read, on every node.
	Preview(snap *fsm.Snapshot, dep *model.OClassDeployment, pre registry.Precondition) (*registry.Preview, error)
	Replan(ctx context.Context, ri registry.RequestInfo, key string, rebalance bool) (*registry.Preview, uint64, error)
	PreviewReplan(snap *fsm.Snapshot, key string, rebalance bool, pre registry.Precondition) (*registry.Preview, error)
	PauseRollout(ctx context.Context, ri registry.RequestInfo, key string) (*registry.RolloutOutcome, uint64, error)
	ResumeRollout(ctx context.Context, ri registry.RequestInfo, key string) (*registry.RolloutOutcome, uint64, error)
	AbortRollout(ctx context.Context, ri registry.RequestInfo, key string) (*registry.RolloutOutcome, uint64, error)
	Rollback(ctx context.Context, ri registry.RequestInfo, key string, revision uint64) (*registry.RolloutOutcome, uint64, error)
	RolloutStatusOf(snap *fsm.Snapshot, dep *fsm.Deployment) *registry.RolloutStatus
	Simulate(snap *fsm.Snapshot, s registry.Scenario) (*registry.Simulation, error)
	PutClusterPolicy(ctx context.Context, ri registry.RequestInfo, name string, policy *pmpb.ClusterPolicy) (uint64, error)
	ForceDelete(ctx context.Context, ri registry.RequestInfo, key string, envs []string) (*registry.OrphanOutcome, uint64, error)
	Orphan(ctx context.Context, ri registry.RequestInfo, uid string, envs []string) (*registry.OrphanOutcome, uint64, error)
	RemoveCluster(ctx context.Context, ri registry.RequestInfo, name string) (uint64, error)
}

// Cluster is what the API needs of the node's place among its peers.
type Cluster interface {
	ServerID() string
	// IsLeader is true once this node leads and has applied all earlier writes.
	IsLeader() bool
	// Leader names the leader as far as this node knows, and the term in which it leads.
	// While none is known, Term is that of this node.
	Leader() (raftstore.LeaderInfo, bool)
	// LeaderConn gives a pooled connection to the leader's internal port. An
	// error means that nothing was sent.
	LeaderConn(ctx context.Context) (*grpc.ClientConn, error)
	// ServerConn gives a pooled connection to the internal port of a server. An
	// error means that its address is not known.
	ServerConn(ctx context.Context, id string) (*grpc.ClientConn, error)
	// LastContact is the age of the last message from the leader, 0 on the leader.
	LastContact() time.Duration
	// Staleness is how old this node's state can be at most, 0 on the leader.
	Staleness() time.Duration
	// Servers gives the members as far as this node knows.
	Servers() []raftstore.Server
}

var (
	_ Registry = (*registry.Registry)(nil)
	_ Cluster  = (*raftstore.Node)(nil)
)
