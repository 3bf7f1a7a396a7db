package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"oaas.io/control-plane/api/client"
	"oaas.io/control-plane/deploy/local/process"
	"oaas.io/control-plane/deploy/local/system"
)

// healthy is what the nodes say of a cluster that they reach.
const healthy = "Healthy"

// ErrNoLeader says that no node that could be asked leads.
var ErrNoLeader = errors.New("no node leads")

// view is what a node says of itself.
type view struct {
	node  *Node
	state *client.Node
	err   error
}

func (v *view) leads() bool {
	return v.err == nil && v.state.Raft.State == "Leader" && v.state.Raft.Ready
}

// views asks all running nodes about themselves.
func (c *Cluster) views(ctx context.Context) []view {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var views []view
	for _, n := range c.Nodes() {
		if n.Running() && !n.Paused() {
			views = append(views, view{node: n})
		}
	}
	var group sync.WaitGroup
	for i := range views {
		group.Go(func() { views[i].state, views[i].err = c.Client(views[i].node.name).Node(ctx, "") })
	}
	group.Wait()
	return views
}

// Leader asks all running nodes and gives the one that leads in the highest term, with its writes ready. It does not wait.
func (c *Cluster) Leader(ctx context.Context) (name string, term uint64, err error) {
	v, err := newest(c.views(ctx))
	if err != nil {
		return "", 0, err
	}
	return v.node.name, v.state.Raft.Term, nil
}

// newest is the leader of the highest term.
func newest(views []view) (*view, error) {
	var found *view
	var last error
	for i := range views {
		v := &views[i]
		if v.err != nil {
			last = fmt.Errorf("%s: %w", v.node.name, v.err)
		}
		if v.leads() && (found == nil || v.state.Raft.Term > found.state.Raft.Term) {
			found = v
		}
	}
	if found == nil {
		return nil, errors.Join(ErrNoLeader, last)
	}
	return found, nil
}

// WaitLeader waits until a node leads, and gives it with its term. With except, it waits for another one.
func (c *Cluster) WaitLeader(ctx context.Context, except ...string) (name string, term uint64, err error) {
	err = system.Poll(ctx, fmt.Sprintf("a node leads (other than %v)", except), func(ctx context.Context) (bool, error) {
		var views []view
		for _, v := range c.views(ctx) {
			if !slices.Contains(except, v.node.name) {
				views = append(views, v)
			}
		}
		v, err := newest(views)
		if err != nil {
			return false, err
		}
		name, term = v.node.name, v.state.Raft.Term
		return true, nil
	})
	return name, term, err
}

// WaitReady waits until all nodes run and are ready, all agree on one leader, and it has found all managers and agents
// healthy that run.
func (c *Cluster) WaitReady(ctx context.Context) error {
	for _, n := range c.Nodes() {
		if err := n.WaitReady(ctx); err != nil {
			return err
		}
	}
	for _, m := range c.managers {
		if err := m.WaitReady(ctx); err != nil {
			return err
		}
	}
	return system.Poll(ctx, "all agree on a leader that has found all clusters", func(ctx context.Context) (bool, error) {
		for _, n := range c.Nodes() {
			if !n.Running() {
				return false, system.Fatal(errors.Join(fmt.Errorf("%s: %w", n.name, process.ErrNotRunning), n.Err()))
			}
		}
		leader, err := agreed(c.views(ctx))
		if err != nil {
			return false, err
		}
		if err := c.clustersHealthy(ctx, leader.node.name); err != nil {
			return false, err
		}
		return true, nil
	})
}

// agreed gives the leader if all nodes name the same one, and are in the same term.
func agreed(views []view) (*view, error) {
	leader, err := newest(views)
	if err != nil {
		return nil, err
	}
	for _, v := range views {
		switch {
		case v.err != nil:
			return nil, fmt.Errorf("%s: %w", v.node.name, v.err)
		case v.state.LeaderID != leader.state.ServerID || v.state.Raft.Term != leader.state.Raft.Term:
			return nil, fmt.Errorf("%s follows %q in term %d, %s leads in term %d", v.node.name, v.state.LeaderID, v.state.Raft.Term, leader.node.name, leader.state.Raft.Term)
		}
	}
	return leader, nil
}

func (c *Cluster) clustersHealthy(ctx context.Context, leader string) error {
	if len(c.managers)+len(c.agents) == 0 {
		return nil
	}
	envs, err := c.Client(leader).Envs(ctx)
	if err != nil {
		return err
	}
	health := map[string]string{}
	for _, env := range envs {
		health[env.Name] = env.Health.Status
	}
	var want []string
	for _, m := range c.managers {
		want = append(want, m.name)
	}
	for _, a := range c.agents {
		if a.Plugged() && a.faithful {
			want = append(want, a.Name())
		}
	}
	for _, name := range want {
		if health[name] != healthy {
			return fmt.Errorf("cluster %s is %q for %s", name, health[name], leader)
		}
	}
	return nil
}

// Add starts one more node, with the next name, and returns when it is ready. It becomes a voter some seconds later.
func (c *Cluster) Add(ctx context.Context) (*Node, error) {
	c.mu.Lock()
	c.numbered++
	name := nodeName(c.numbered)
	c.mu.Unlock()
	p, err := c.nodePlace(name)
	if err != nil {
		return nil, fmt.Errorf("add %s: %w", name, err)
	}
	n, err := c.addNode(name, p)
	if err != nil {
		p.remove()
		return nil, fmt.Errorf("add %s: %w", name, err)
	}
	if err := n.Start(ctx); err != nil {
		return n, fmt.Errorf("add %s: %w", name, err)
	}
	return n, n.WaitReady(ctx)
}

// Remove takes a node out of the cluster, by the API of the leader, then stops it and takes its host off the network. Its
// directory stays. A leader that refuses to let it go leaves all as it is.
func (c *Cluster) Remove(ctx context.Context, name string) error {
	n := c.Node(name)
	if n == nil {
		return fmt.Errorf("remove %s: there is no such node", name)
	}
	leader, _, err := c.WaitLeader(ctx)
	if err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	// One that never joined, or was taken out before, is no member.
	if _, err := c.Client(leader).RemoveMember(ctx, name, false, false); err != nil && !client.IsNotFound(err) {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	_ = n.Stop(ctx) // it goes either way
	c.mu.Lock()
	c.nodes = slices.DeleteFunc(slices.Clone(c.nodes), func(o *Node) bool { return o == n })
	c.mu.Unlock()
	n.place.remove()
	if err := n.disk.Close(); err != nil {
		return fmt.Errorf("remove %s: disk: %w", name, err)
	}
	return nil
}
