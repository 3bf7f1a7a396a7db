package cluster

import (
	"context"
	"net/http"

	"oaas.io/control-plane/api/client"
)

// Cluster is a running control plane. Its methods may be called from several goroutines.
type Cluster struct{}

// Start runs a cluster and returns when it can be used (WaitReady). The context limits the start only.
func Start(ctx context.Context, options Options) (*Cluster, error) { return nil, errNotYet }

// Nodes are the pmd that are there, running or not, in the order in which they came.
func (c *Cluster) Nodes() []*Node { return nil }

// Node is the node of that name, or nil.
func (c *Cluster) Node(name string) *Node { return nil }

// Managers are the crm processes.
func (c *Cluster) Managers() []*Manager { return nil }

// Agents are the managers in this process.
func (c *Cluster) Agents() []*Agent { return nil }

// Network is what lies between all of them.
func (c *Cluster) Network() Network { return nil }

// Faults says for each kind of fault why it cannot be made here (ErrUnavailable), or nil.
func (c *Cluster) Faults() map[Fault]error { return nil }

// Dir has a directory per process.
func (c *Cluster) Dir() string { return "" }

// Client asks one node, from the host ClientHost, and makes one attempt for each call. Its connections are shared with all
// other clients of the cluster.
func (c *Cluster) Client(node string) *client.Client { return nil }

// HTTP sends requests from the host ClientHost to the URL of a node.
func (c *Cluster) HTTP() *http.Client { return nil }

// Leader asks all running nodes and gives the one that leads in the highest term. It does not wait.
func (c *Cluster) Leader(ctx context.Context) (name string, term uint64, err error) {
	return "", 0, errNotYet
}

// WaitReady waits until all nodes run and are ready, all agree on one leader, and it has found all managers and agents
// healthy.
func (c *Cluster) WaitReady(ctx context.Context) error { return errNotYet }

// Add starts one more node, with the next name, and returns when it is ready. It becomes a voter some seconds later.
func (c *Cluster) Add(ctx context.Context) (*Node, error) { return nil, errNotYet }

// Remove takes a node out of the cluster, by the API, then stops it. Its directory stays.
func (c *Cluster) Remove(ctx context.Context, name string) error { return errNotYet }

// Stop ends everything. It keeps Options.Dir, and removes a temporary one.
func (c *Cluster) Stop(ctx context.Context) error { return errNotYet }
