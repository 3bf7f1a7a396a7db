package raftstore

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// expectHealthy waits until the leader's autopilot finds all servers healthy.
func (c *testCluster) expectHealthy(servers int) {
	c.t.Helper()
	eventually(c.t, "all are healthy", func() error {
		state, err := c.leader().Autopilot()
		if err == nil && (!state.Healthy || len(state.Servers) != servers) {
			err = fmt.Errorf("%+v", state)
		}
		return err
	})
}

// The same options serve the first start, a restart, a cluster that grows from
// three to five and one that shrinks to three again.
func TestSameOptionsForTheWholeLife(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	clusterID := c.leader().ClusterID()
	c.write("k", "founded")
	c.expectEverywhere("k", "founded")
	for _, n := range c.nodes {
		n.kill()
	}
	c.start()
	c.write("k", "restarted")
	more := []*testNode{c.add("n4"), c.add("n5")}
	for _, n := range more {
		n.start()
	}
	c.expectVoters(c.nodes...)
	c.expectEverywhere("k", "restarted")
	for _, n := range more {
		c.expectHealthy(len(c.leader().Servers()))
		eventually(t, n.name+" is removed", func() error {
			_, err := c.leader().RemoveServer(within(t, patience), n.ServerID(), RemoveOptions{})
			return err
		})
		expectRemoved(t, n)
		n.kill()
	}
	c.expectVoters(c.nodes[:3]...)
	for _, n := range c.nodes[:3] {
		n.kill()
	}
	for _, n := range c.nodes[:3] {
		n.start()
	}
	c.write("k", "three again")
	c.expectEverywhere("k", "three again")
	if got := c.leader().ClusterID(); got != clusterID {
		t.Errorf("cluster id %q, want %q", got, clusterID)
	}
}

// Whatever the order in which all nodes are stopped and started, nothing that
// was acknowledged is lost.
func TestStopAndStartInAnyOrder(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	c.write("k", "v")
	c.expectEverywhere("k", "v")
	for i, order := range [][2][]int{{{0, 1, 2}, {0, 1, 2}}, {{0, 1, 2}, {2, 1, 0}}, {{1, 0, 2}, {2, 0, 1}}} {
		before := fmt.Sprint("before ", i)
		c.write("k", before)
		for _, at := range order[0] {
			if at == order[0][1] {
				c.nodes[at].stopGracefully()
			} else {
				c.nodes[at].kill()
			}
		}
		for n, at := range order[1] {
			c.nodes[at].start()
			if n == 1 { // two make a quorum
				eventually(t, "what was acknowledged is there", func() error {
					leader := c.leader()
					if _, err := leader.ReadBarrier(within(t, patience)); err != nil {
						return err
					}
					if got := get(leader, "k"); got != before {
						return fmt.Errorf("k=%q", got)
					}
					return nil
				})
				c.write("k", fmt.Sprint("after ", i))
			}
		}
		c.expectEverywhere("k", fmt.Sprint("after ", i))
	}
}

func TestTransferTo(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	c.write("k", "v")
	c.expectHealthy(3)
	leader := c.leader()
	to := c.others(leader)[1]
	var unknown *UnknownServerError
	if _, err := leader.TransferTo(within(t, patience), "nobody"); !errors.As(err, &unknown) {
		t.Errorf("to an unknown server: %v", err)
	}
	if _, err := leader.TransferTo(within(t, patience), leader.ServerID()); !errors.Is(err, ErrIsLeader) {
		t.Errorf("to itself: %v", err)
	}
	if _, err := to.TransferTo(within(t, patience), ""); !errors.Is(err, ErrNotLeader) {
		t.Errorf("by a follower: %v", err)
	}
	done, err := leader.TransferTo(within(t, patience), to.ServerID())
	if err != nil || done.From != leader.ServerID() || done.To != to.ServerID() || done.Took <= 0 || done.Took > patience {
		t.Fatalf("%+v, %v", done, err)
	}
	if now := c.newLeader(leader); now != to {
		t.Errorf("%s leads", now.name)
	}
}

// Leadership is not given to a server that has to catch up first.
func TestTransferNeedsAWholeLog(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	c.write("k", "v")
	c.expectHealthy(3)
	leader := c.leader()
	late := c.others(leader)[0]
	c.net.isolate(late.name, names(c.others(late)), true)
	for i := range closeEnough + 1 {
		mustApply(t, leader, put("k", fmt.Sprint(i)))
	}
	if _, err := leader.TransferTo(within(t, patience), late.ServerID()); !errors.Is(err, ErrNotCaughtUp) {
		t.Errorf("transfer = %v", err)
	}
	if !leader.IsLeader() {
		t.Error("leadership was given up")
	}
	c.net.heal()
	c.expectEverywhere("k", fmt.Sprint(closeEnough))
}

// A leader that is to be removed hands over, and its successor removes it.
func TestLeaderIsRemovedByItsSuccessor(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	c.write("k", "v")
	c.expectHealthy(3)
	old := c.leader()
	if _, err := old.RemoveServer(within(t, patience), old.ServerID(), RemoveOptions{Force: true}); !errors.Is(err, ErrNotLeader) {
		t.Fatalf("removal = %v", err)
	}
	now := c.newLeader(old)
	c.expectHealthy(3)
	if _, err := now.RemoveServer(within(t, patience), old.ServerID(), RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	expectRemoved(t, old)
	c.expectVoters(slices.DeleteFunc(slices.Clone(c.nodes), func(n *testNode) bool { return n == old })...)
}

// A leader that nobody follows any more cannot tell a server that it was removed:
// the removal may never take effect, and the server would be wiped.
func TestUnconfirmedRemovalIsNotTold(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	for _, n := range c.nodes {
		n.configure = func(o *Options) { o.Timing.Heartbeat, o.Timing.Election = time.Second, time.Second }
	}
	c.start()
	c.write("k", "v")
	c.expectEverywhere("k", "v")
	leader := c.leader()
	out := c.others(leader)[0]
	c.net.isolate(leader.name, names(c.others(leader)), true)
	future := leader.raft.RemoveServer(raft.ServerID(out.ServerID()), 0, 0)
	eventually(t, "the leader's configuration lacks the server", func() error {
		if got := len(leader.servers()); got != 2 {
			return fmt.Errorf("%d servers", got)
		}
		return nil
	})
	if err := out.join(within(t, patience), leader.grpcAddr, leader.ClusterID()); err == nil || errors.Is(err, ErrRemoved) {
		t.Errorf("the announcement = %v", err)
	}
	c.net.heal()
	_ = future.Error()
}
