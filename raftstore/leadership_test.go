package raftstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"
	"go.uber.org/goleak"

	"oaas.io/control-plane/fsm"
)

// Leadership flaps many times while leader-only work runs on every node. The
// work never overlaps itself on a node, sees rising terms, ends with its term,
// and nothing is left running (goleak).
func TestRunWhileLeaderUnderFlapping(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) }) // after the nodes are stopped
	c := startCluster(t, 3)
	c.write("k", "v")
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var runs atomic.Int64
	defer wg.Wait()
	defer stop()
	for _, n := range c.nodes {
		wg.Add(1)
		go func(n *Node, name string) {
			defer wg.Done()
			var active atomic.Int32
			var last uint64
			err := n.RunWhileLeader(ctx, func(ctx context.Context, term uint64) error {
				if active.Add(1) != 1 {
					t.Errorf("%s: entered twice", name)
				}
				defer active.Add(-1)
				if term <= last {
					t.Errorf("%s: term %d after %d", name, term, last)
				}
				last = term
				runs.Add(1)
				cmd := put("by-"+name, fmt.Sprint(term))
				cmd.ExpectedTerm = term
				if res, err := n.Apply(ctx, cmd); err == nil && res.Err != nil && !errors.Is(res.Err, fsm.ErrTermMismatch) {
					t.Errorf("%s: %v", name, res.Err)
				}
				<-ctx.Done()
				return nil
			})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%s: RunWhileLeader = %v", name, err)
			}
		}(n.Node, n.name)
	}
	const flaps = 100
	for range flaps {
		leader := c.leader()
		eventually(t, "work runs on the leader", func() error {
			if leader.IsLeader() && get(leader, "by-"+leader.name) != fmt.Sprint(leader.Term()) {
				return errors.New("not yet")
			}
			return nil
		})
		if err := leader.TransferLeadership(within(t, patience)); err != nil {
			t.Logf("transfer: %v", err)
		}
	}
	if got := runs.Load(); got < flaps/2 {
		t.Errorf("only %d leaderships in %d transfers", got, flaps)
	}
	c.write("k", "w")
	c.expectEverywhere("k", "w")
}

func TestRunWhileLeaderReturnsTheError(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	n := c.leader()
	boom := errors.New("boom")
	err := n.RunWhileLeader(t.Context(), func(context.Context, uint64) error { return boom })
	if !errors.Is(err, boom) {
		t.Errorf("err = %v", err)
	}
	// Work that is done stays done for the rest of the term.
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan struct{}, 2)
	done := make(chan error, 1)
	go func() {
		done <- n.RunWhileLeader(ctx, func(context.Context, uint64) error { ran <- struct{}{}; return nil })
	}()
	<-ran
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) || len(ran) != 0 {
		t.Errorf("err = %v, %d more runs", err, len(ran))
	}
	done2 := make(chan error, 1)
	node := n.Node // the test's node forgets it when it is stopped
	go func() {
		done2 <- node.RunWhileLeader(context.Background(), func(ctx context.Context, _ uint64) error { <-ctx.Done(); return ctx.Err() })
	}()
	n.shutdownNow()
	if err := <-done2; !errors.Is(err, ErrShutdown) {
		t.Errorf("RunWhileLeader of a node that stops = %v", err)
	}
}

// A command that carries the term of a past leadership has no effect.
func TestExpectedTermFences(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	c.write("k", "v")
	c.expectEverywhere("k", "v")
	old := c.leader().Term()
	if err := c.leader().TransferLeadership(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	var res fsm.Result
	eventually(t, "a later leader", func() (err error) {
		leader := c.leader()
		if leader.Term() == old {
			return errors.New("same term")
		}
		cmd := put("k", "late")
		cmd.ExpectedTerm = old
		res, err = leader.Apply(within(t, patience), cmd)
		return err
	})
	if !errors.Is(res.Err, fsm.ErrTermMismatch) {
		t.Errorf("result = %v", res.Err)
	}
	if got := get(c.leader(), "k"); got != "v" {
		t.Errorf("k = %q", got)
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	c.write("k", "v")
	leader := c.leader()
	if _, err := leader.LeaderConn(t.Context()); !errors.Is(err, ErrIsLeader) {
		t.Errorf("LeaderConn on the leader = %v", err)
	}
	if d := leader.LastContact(); d != 0 {
		t.Errorf("LastContact on the leader = %v", d)
	}
	for _, n := range c.nodes {
		info, err := n.WaitLeader(within(t, patience))
		if err != nil {
			t.Fatal(err)
		}
		want := LeaderInfo{ServerID: leader.ServerID(), GRPCAddress: leader.grpcAddr, HTTPAddress: "http-" + leader.name + ":8080", Term: leader.Term()}
		if d := cmp.Diff(want, info); d != "" {
			t.Errorf("leader on %s (-want +got):\n%s", n.name, d)
		}
		eventually(t, "numbers of "+n.name, func() error {
			s := n.Stats()
			if len(s.Servers) != 3 || s.AppliedIndex != n.AppliedIndex() || s.Ready != (n == leader) || s.LastContact > patience {
				return fmt.Errorf("%+v", s)
			}
			return nil
		})
	}
	// A follower's connection leads to the leader, also after it has changed.
	old := leader
	old.kill()
	leader = c.leader()
	for _, f := range c.others(leader) {
		eventually(t, "connection to the new leader", func() error {
			conn, err := f.LeaderConn(t.Context())
			if err != nil {
				return err
			}
			if got := conn.Target(); got != "passthrough:///"+leader.grpcAddr {
				return fmt.Errorf("leads to %s", got)
			}
			return nil
		})
	}
}

// The library can be left refusing writes for good by transfers to a server that
// hangs, even in a later leadership. Such a node must not stay the leader.
func TestStuckTransferEndsTheNode(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	c.write("k", "v")
	c.expectEverywhere("k", "v")
	stuck := c.leader()
	hung, other := c.others(stuck)[0], c.others(stuck)[1]
	t.Cleanup(c.net.thaw)
	c.net.freeze(stuck.name, hung.name)
	c.write("k", "w")
	eventually(t, "transfers to the hanging server leave the library stuck", func() error {
		f := stuck.raft.LeadershipTransferToServer(raft.ServerID(hung.ServerID()), raft.ServerAddress(hung.raftAddr))
		if f.Error() == nil {
			t.Fatal("leadership went to a server that hangs")
		}
		for range 10 { // not only until the last one is cleaned up
			if err := stuck.raft.Barrier(0).Error(); !errors.Is(err, raft.ErrLeadershipTransferInProgress) {
				return fmt.Errorf("barrier: %w", err)
			}
			pause(t.Context(), 10*time.Millisecond)
		}
		return nil
	})
	if _, err := stuck.Apply(t.Context(), put("k", "x")); !errors.Is(err, ErrNotLeader) {
		t.Errorf("apply = %v, want a definite refusal", err)
	}

	// It loses its leadership and gets it back.
	c.net.isolate(stuck.name, []string{other.name}, false)
	c.newLeader(stuck)
	c.net.heal()
	eventually(t, "the stuck node is elected again", func() error {
		select {
		case err := <-stuck.Fatal():
			if !errors.Is(err, ErrStuckTransfer) {
				t.Fatalf("fatal error = %v", err)
			}
			return nil
		default:
		}
		for _, n := range c.others(stuck) {
			if n.IsLeader() {
				_ = n.raft.LeadershipTransferToServer(raft.ServerID(stuck.ServerID()), raft.ServerAddress(stuck.raftAddr)).Error()
			}
		}
		return errors.New("no fatal error yet")
	})
	c.newLeader(stuck)
	c.write("k", "y")
}

// Whoever reads who leads in which term must not find two leaders in one.
func TestLeaderAndTermBelongTogether(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	c.expectHealthy(3)
	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	var mu sync.Mutex
	leaders := map[uint64]string{}
	for _, n := range c.nodes {
		readers.Go(func() {
			for ctx.Err() == nil {
				info, known := n.Leader()
				if !known {
					continue
				}
				mu.Lock()
				if first := leaders[info.Term]; first == "" {
					leaders[info.Term] = info.ServerID
				} else if first != info.ServerID {
					t.Errorf("%s says that %s leads in term %d, where %s led", n.name, info.ServerID, info.Term, first)
				}
				mu.Unlock()
			}
		})
	}
	for range 20 {
		leader := c.leader()
		to := c.others(leader)[0]
		// Refusals, as while the other one catches up, are part of it.
		_ = leader.raft.LeadershipTransferToServer(raft.ServerID(to.ServerID()), raft.ServerAddress(to.raftAddr)).Error()
	}
	cancel()
	readers.Wait()
	if len(leaders) < 5 {
		t.Errorf("saw %d terms", len(leaders))
	}
}
