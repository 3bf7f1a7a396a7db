package cluster

import (
	"context"
)

// Node is a pmd.
type Node struct {
	Server
}

// DataDir has the node's log, snapshots and identity.
func (n *Node) DataDir() string { return "" }

// URL is the base of the node's REST API, for Cluster.HTTP.
func (n *Node) URL() string { return "" }

// Move stops the node, gives it a new address and starts it again. Others find it by its name, within some seconds (they
// remember addresses for five).
func (n *Node) Move(ctx context.Context) error { return errNotYet }

// Wipe removes all that the node has stored. The node must not run.
func (n *Node) Wipe() error { return errNotYet }

// Metrics reads the node's metrics.
func (n *Node) Metrics(ctx context.Context) (Metrics, error) { return nil, errNotYet }

// Metrics are the samples of a node, by what stands before the value: a name, with labels in braces where there are any.
type Metrics map[string]float64

// Sum adds up all samples of that name, whatever their labels. It reports whether there are any.
func (m Metrics) Sum(name string) (float64, bool) { return 0, false }
