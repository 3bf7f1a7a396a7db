package raftstore

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// startPatient gives a leader and two followers that would not notice its silence
// for minutes, so that an election in these tests has one cause only.
func startPatient(t *testing.T, configure ...func(n *testNode, o *Options)) (*testCluster, *testNode) {
	t.Helper()
	c := startCluster(t, 3)
	c.write("k", "v")
	c.expectEverywhere("k", "v")
	leader := c.leader()
	for _, n := range c.others(leader) {
		n.kill()
		n.configure = func(o *Options) {
			o.Timing.Heartbeat = 2 * time.Minute
			for _, f := range configure {
				f(n, o)
			}
		}
		n.start()
		eventually(t, n.name+" follows", func() error {
			if info, ok := n.Leader(); !ok || info.ServerID != leader.ServerID() {
				return errors.New("no leader known")
			}
			return nil
		})
	}
	c.write("k", "again")
	c.expectEverywhere("k", "again")
	return c, leader
}

func TestFollowersSucceedADeadLeaderAtOnce(t *testing.T) {
	c, leader := startPatient(t)
	others := c.others(leader)
	leader.kill()
	next := c.newLeader(leader)
	mustApply(t, next, put("k", "after"))
	for _, n := range others {
		eventually(t, n.name+" has the write", func() error {
			if get(n, "k") != "after" {
				return errors.New(get(n, "k"))
			}
			return nil
		})
	}
}

// A partition looks different from a death: no answer is no proof.
func TestPartitionIsNoDeath(t *testing.T) {
	c, leader := startPatient(t)
	term := leader.Term()
	follower := c.others(leader)[0]
	c.net.isolate(follower.name, []string{leader.name}, false)
	follower.considerSuccession(t.Context())
	if follower.Term() != term {
		t.Fatalf("term %d became %d", term, follower.Term())
	}
}

// A follower that is refused by a leader that others see alive must not depose it.
func TestRefusalOfOneIsNoDeath(t *testing.T) {
	var refusing atomic.Pointer[string] // the address that one follower finds dead
	var victim *testNode
	c, leader := startPatient(t, func(n *testNode, o *Options) {
		if victim != nil {
			return
		}
		victim = n
		dial := o.Dial
		o.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			if dead := refusing.Load(); dead != nil && *dead == address {
				return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
			}
			return dial(ctx, address)
		}
	})
	refusing.Store(&leader.raftAddr)
	if !victim.isGone(t.Context(), leader.ServerID()) {
		t.Fatal("the fault is not in place")
	}
	if rank, err := victim.rank(t.Context(), leader.ServerID()); err == nil {
		t.Fatalf("a majority found a living leader gone, rank %d", rank)
	}
	term := leader.Term()
	victim.considerSuccession(t.Context())
	c.write("k", "still here")
	if leader.Term() != term || !leader.IsLeader() {
		t.Fatalf("term %d became %d", term, leader.Term())
	}
}
