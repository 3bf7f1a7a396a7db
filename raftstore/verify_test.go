package raftstore

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// neverPromotes keeps servers that join without a vote.
func neverPromotes(o *Options) { o.Timing.Stabilization = time.Hour }

// The library's VerifyLeader counts the answers of servers without a vote towards
// a quorum of voters. A leader that was replaced, and still hears from such a
// server, is told that it leads, and would serve a read that is stale: this test
// shows it, and that the barrier of this package is not misled.
func TestVerifyLeaderIsNoReadBarrier(t *testing.T) {
	t.Parallel()
	c, old := startWithDeludedLeader(t, neverPromotes)
	voters := c.others(old)
	spectator := c.add("spectator")
	spectator.configure = func(o *Options) { slowToNotice(o); neverPromotes(o) }
	spectator.start()
	eventually(t, "the spectator is in the cluster and caught up", func() error {
		for _, s := range old.Servers() {
			if s.ID == spectator.ServerID() && s.Voter {
				t.Fatal("the spectator got a vote")
			}
		}
		if get(spectator, "k") != "old" {
			return errors.New("it has not the value yet")
		}
		return nil
	})
	// The old leader keeps the spectator and nobody else; the voters go on.
	c.net.isolate(old.name, names(voters), false)
	c.net.isolate(spectator.name, names(voters), false)
	leader := c.newLeader(old)
	mustApply(t, leader, put("k", "new"))

	verify := func() error {
		return old.await(within(t, time.Second), func() raft.Future { return old.raft.VerifyLeader() })
	}
	if err := verify(); err != nil || get(old, "k") != "old" {
		t.Fatalf("the fault is not in place: VerifyLeader = %v, k = %q", err, get(old, "k"))
	}
	if _, _, err := old.leaderBarrier(within(t, time.Second)); err == nil {
		t.Fatal("the barrier let a stale read pass that VerifyLeader let pass")
	}
	if _, err := spectator.ReadBarrier(within(t, time.Second)); err == nil {
		t.Fatal("the barrier let a stale read pass on a server without a vote")
	}
	c.net.heal()
	eventually(t, "all read the new value", func() error {
		for _, n := range c.nodes {
			if _, err := n.ReadBarrier(within(t, time.Second)); err != nil || get(n, "k") != "new" {
				return errors.Join(fmt.Errorf("%s reads %q", n.name, get(n, "k")), err)
			}
		}
		return nil
	})
}
