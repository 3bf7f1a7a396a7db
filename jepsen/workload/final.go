package workload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"oaas.io/control-plane/api/client"
	"oaas.io/control-plane/jepsen/history"
)

// auditPage is the most that one request for the audit log gives.
const auditPage = 1000

// Observe tells the state at the end of a run, as every node tells it. The cluster should be
// healed and at rest. What is in the clusters is for the caller to add.
func Observe(ctx context.Context, env *Env) (history.Final, error) {
	final := history.Final{Nodes: map[string]history.NodeState{}}
	nodes := env.Nodes()
	for _, node := range nodes {
		state, err := observeNode(ctx, env, node)
		if err != nil {
			state.Error = err.Error()
		}
		final.Nodes[node] = state
	}
	var failed []error
	for _, node := range nodes {
		c, err := env.Client(node)
		if err == nil {
			final.Effects, err = audit(ctx, c)
		}
		if err == nil {
			return final, nil
		}
		failed = append(failed, fmt.Errorf("workload: audit log of %s: %w", node, err))
	}
	return final, errors.Join(failed...)
}

// observeNode reads all rows of one node, linearizably.
func observeNode(ctx context.Context, env *Env, node string) (history.NodeState, error) {
	state := history.NodeState{Packages: []history.Object{}, Deployments: []history.Object{}, Units: []history.Unit{}}
	c, err := env.Client(node)
	if err != nil {
		return state, err
	}
	var bad error
	topics := []string{"packages", "deployments", "units", "deletions"}
	err = c.Watch(ctx, client.WatchQuery{From: client.FromSnapshot, Topics: topics}, func(m *client.Message) bool {
		if m.Type != history.Snapshot {
			return false
		}
		state.Index = m.Index
		for i := range m.Events {
			if bad = add(&state, &m.Events[i]); bad != nil {
				return false
			}
		}
		return true
	}, func(error) {
		// The snapshot begins anew.
		state = history.NodeState{Packages: []history.Object{}, Deployments: []history.Object{}, Units: []history.Unit{}}
	})
	if err := errors.Join(err, bad); err != nil {
		return state, fmt.Errorf("workload: state of %s: %w", node, err)
	}
	return state, env.hash(ctx, c, &state)
}

// hash asks a node for its hash at an index that all nodes remember. Nodes that are alike
// answer with different indexes while commands are being applied, therefore again.
func (e *Env) hash(ctx context.Context, c *client.Client, state *history.NodeState) error {
	ctx, cancel := context.WithTimeout(ctx, e.options.Timeout)
	defer cancel()
	for {
		chain, err := c.Chain(ctx, "")
		if err != nil {
			return fmt.Errorf("workload: chain: %w", err)
		}
		// The first is the node that was asked.
		if len(chain.Servers) > 0 && chain.Servers[0].Hash != "" {
			state.Hash, state.HashIndex = chain.Servers[0].Hash, chain.Servers[0].Index
		}
		for _, s := range chain.Servers {
			if s.Hash == "" {
				state.Peers = nil
				break
			}
			if state.Peers == nil {
				state.Peers = map[string]string{}
			}
			state.Peers[s.ServerID] = s.Hash
		}
		if state.Peers != nil || !pause(ctx, 50*time.Millisecond) {
			return nil
		}
	}
}

func add(state *history.NodeState, e *client.Event) error {
	var err error
	var value string
	switch e.Topic {
	case "packages":
		value, err = packageValue(e.Object)
		state.Packages = append(state.Packages, history.Object{Key: e.Key, Value: value})
	case "deployments":
		value, err = deploymentValue(e.Object)
		state.Deployments = append(state.Deployments, history.Object{Key: e.Key, Value: value, UID: e.UID})
	case "units":
		var u client.Unit
		err = json.Unmarshal(e.Object, &u)
		state.Units = append(state.Units, history.Unit{
			ID: u.ID, Cluster: u.Env, Deployment: e.Name, DeploymentUID: e.UID, Fence: u.Fence, Hash: u.ContentHash,
			Phase: u.Phase, Acknowledged: u.Acknowledged, Tombstone: u.Tombstone,
		})
	case "deletions":
		state.Deletions = append(state.Deletions, e.Name)
	}
	if err != nil {
		return fmt.Errorf("row %s of %s: %w", e.Key, e.Topic, err)
	}
	return nil
}

// audit reads the whole audit log, the oldest entry first.
func audit(ctx context.Context, c *client.Client) ([]history.Effect, error) {
	var out []history.Effect
	for before := uint64(0); ; {
		page, err := c.Audit(ctx, client.AuditQuery{Limit: auditPage, Before: before})
		if err != nil {
			return nil, err
		}
		for i := range page {
			out = append(out, history.Effect{Index: page[i].Index, Action: page[i].Action, Object: page[i].Object})
		}
		if len(page) < auditPage {
			slices.Reverse(out)
			return out, nil
		}
		before = page[len(page)-1].Index
	}
}
