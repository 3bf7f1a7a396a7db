package raftstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

// slowToNotice makes a node go on believing that it leads long after the others
// have replaced it, as a paused process or a slow clock does.
func slowToNotice(o *Options) { o.Timing.Heartbeat = 8 * time.Second }

// startWithDeludedLeader gives three nodes of which the first leads and will not
// notice that it no longer does.
func startWithDeludedLeader(t *testing.T, configure ...func(*Options)) (*testCluster, *testNode) {
	t.Helper()
	c := newCluster(t, 3)
	// Not the founder, which would be as slow to stand for the first election.
	deluded := c.nodes[0]
	for _, n := range c.nodes {
		if n.grpcAddr > deluded.grpcAddr {
			deluded = n
		}
	}
	deluded.configure = func(o *Options) {
		for _, f := range append(configure, slowToNotice) {
			f(o)
		}
	}
	c.start()
	for {
		leader := c.leader()
		if leader == deluded {
			break
		}
		_ = leader.TransferLeadership(within(t, patience))
	}
	c.write("k", "old")
	c.expectEverywhere("k", "old")
	return c, deluded
}

// newLeader waits for a ready leader other than old.
func (c *testCluster) newLeader(old *testNode) *testNode {
	c.t.Helper()
	var leader *testNode
	eventually(c.t, "a new leader", func() error {
		for _, n := range c.others(old) {
			if n.IsLeader() {
				leader = n
				return nil
			}
		}
		return errors.New("none")
	})
	return leader
}

func mustApply(t *testing.T, n *testNode, cmd *pmpb.Command) {
	t.Helper()
	res, err := n.Apply(within(t, patience), cmd)
	if err = errors.Join(err, res.Err); err != nil {
		t.Fatalf("apply on %s: %v", n.name, err)
	}
}

// A leader that was replaced but does not know it must not serve a read, with
// its peers out of reach or, worse, in reach.
func TestReadBarrierRefusesOnDeposedLeader(t *testing.T) {
	t.Parallel()
	for name, logOnly := range map[string]bool{"peers out of reach": false, "peers in reach": true} {
		t.Run(name, func(t *testing.T) {
			c, old := startWithDeludedLeader(t)
			c.net.isolate(old.name, names(c.others(old)), logOnly)
			leader := c.newLeader(old)
			mustApply(t, leader, put("k", "new"))

			if !old.IsLeader() || get(old, "k") != "old" {
				t.Fatalf("the fault is not in place: leader=%v k=%q", old.IsLeader(), get(old, "k"))
			}
			_, _, err := old.leaderBarrier(within(t, time.Second))
			if err == nil {
				t.Fatal("a deposed leader confirmed a read of its stale state")
			}
			if logOnly && !errors.Is(err, ErrNotLeader) {
				t.Errorf("error is %v, want one that says that a later term has begun", err)
			}
			for _, n := range c.others(old) {
				if _, err := n.ReadBarrier(within(t, patience)); err != nil || get(n, "k") != "new" {
					t.Errorf("%s reads %q, %v", n.name, get(n, "k"), err)
				}
			}
			c.net.heal()
			if _, err := old.ReadBarrier(within(t, patience)); err != nil || get(old, "k") != "new" {
				t.Errorf("after the partition the old leader reads %q, %v", get(old, "k"), err)
			}
		})
	}
}

// A leader whose internal port alone is cut off stays the leader, as the log goes on.
// Then its reads must go on too, for nobody else would answer any.
func TestReadBarrierWithoutInternalPorts(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	c.write("k", "old")
	leader := c.leader()
	c.net.isolateInternal(leader.name, names(c.others(leader)))
	mustApply(t, leader, put("k", "new"))
	if _, err := leader.ReadBarrier(within(t, patience)); err != nil || get(leader, "k") != "new" {
		t.Errorf("the leader reads %q, %v", get(leader, "k"), err)
	}
	if !leader.IsLeader() {
		t.Error("the leader no longer leads")
	}
}

// An answer from an address counts only when it is the server's own: two
// servers must not be counted as three.
func TestReadBarrierIgnoresAnswersOfOthers(t *testing.T) {
	t.Parallel()
	c, old := startWithDeludedLeader(t)
	peers := c.others(old)
	c.net.isolate(old.name, names(peers), false)
	// Both peers' addresses now lead to the old leader itself.
	for _, p := range peers {
		m := memberOf(p.identity())
		m.GrpcAddress = old.grpcAddr
		old.peers.hear(m)
	}
	if _, _, err := old.leaderBarrier(within(t, time.Second)); err == nil {
		t.Fatal("the barrier counted its own answer as that of other voters")
	}
}

func TestApplyOutcomeUnknown(t *testing.T) {
	t.Parallel()
	t.Run("context ends", func(t *testing.T) {
		c, old := startWithDeludedLeader(t)
		c.net.isolate(old.name, names(c.others(old)), false)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := old.Apply(ctx, put("k", "maybe"))
		if !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("err = %v, want an unknown outcome because of the deadline", err)
		}
	})
	t.Run("leadership lost", func(t *testing.T) {
		c := startCluster(t, 3)
		old := c.leader()
		c.net.isolate(old.name, names(c.others(old)), false)
		_, err := old.Apply(within(t, patience), put("k", "maybe"))
		if !errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("err = %v, want an unknown outcome", err)
		}
		leader := c.newLeader(old)
		mustApply(t, leader, put("k", "sure"))
		c.net.heal()
		c.expectEverywhere("k", "sure")
	})
	t.Run("shutdown", func(t *testing.T) {
		c, old := startWithDeludedLeader(t)
		c.net.isolate(old.name, names(c.others(old)), false)
		got := make(chan error, 1)
		last := old.raft.LastIndex()
		go func() {
			_, err := old.Apply(context.Background(), put("k", "maybe"))
			got <- err
		}()
		eventually(t, "the entry in the log", func() error {
			if old.raft.LastIndex() == last {
				return errors.New("not yet")
			}
			return nil
		})
		old.kill()
		if err := <-got; !errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("err = %v, want an unknown outcome", err)
		}
	})
}

func TestApplyRefusals(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	n := c.leader()
	eventually(t, "the node's own row", func() error {
		if n.State().Snapshot().Member(n.ServerID()) == nil {
			return errors.New("not yet")
		}
		return nil
	})
	c.atLevel(2)
	before := n.raft.LastIndex()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.Apply(canceled, put("k", "v")); !errors.Is(err, context.Canceled) || errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("apply with an ended context = %v", err)
	}
	if _, err := n.Apply(t.Context(), put("k", string(make([]byte, MaxCommandSize)))); !errors.Is(err, ErrTooLarge) {
		t.Errorf("apply of an oversized command = %v", err)
	}
	if got := n.raft.LastIndex(); got != before {
		t.Errorf("refused commands were logged: %d entries more", got-before)
	}
	mustApply(t, n, put("k", string(make([]byte, MaxCommandSize-1024))))
}

// faultyStore fails or hangs on demand.
type faultyStore struct {
	logStore
	failLogs  atomic.Bool
	failTerms atomic.Bool
	panics    atomic.Bool
	hang      atomic.Pointer[chan struct{}]
}

var errNoSpace = &os.PathError{Op: "write", Path: logFile, Err: syscall.ENOSPC}

func (s *faultyStore) StoreLogs(logs []*raft.Log) error {
	if c := s.hang.Load(); c != nil {
		<-*c
	}
	if s.failLogs.Load() {
		return errNoSpace
	}
	if s.panics.Load() {
		panic("assertion failed: page 7 already freed")
	}
	return s.logStore.StoreLogs(logs)
}

func (s *faultyStore) SetUint64(key []byte, val uint64) error {
	if s.failTerms.Load() {
		return errNoSpace
	}
	return s.logStore.SetUint64(key, val)
}

func startWithFaultyDisks(t *testing.T, configure func(*Options)) (*testCluster, map[*testNode]*faultyStore) {
	t.Helper()
	c := newCluster(t, 3)
	disks := make(map[*testNode]*faultyStore)
	for _, n := range c.nodes {
		disks[n] = &faultyStore{}
		n.configure = func(o *Options) {
			o.wrapStore = func(s logStore) logStore {
				disks[n].logStore = s
				return disks[n]
			}
			if configure != nil {
				configure(o)
			}
		}
	}
	c.start()
	c.write("k", "v")
	c.expectEverywhere("k", "v")
	c.atLevel(fsm.Level) // the last that a leader writes by itself
	return c, disks
}

func expectFatal(t *testing.T, n *testNode, op string) *StorageError {
	t.Helper()
	select {
	case err := <-n.Fatal():
		var se *StorageError
		if !errors.As(err, &se) || op != "" && se.Op != op {
			t.Fatalf("fatal error = %v, want a failed %s", err, op)
		}
		return se
	case <-time.After(patience):
		t.Fatal("no fatal error")
		return nil
	}
}

func TestStorageErrorEndsTheNode(t *testing.T) {
	t.Run("leader", func(t *testing.T) {
		c, disks := startWithFaultyDisks(t, nil)
		old := c.leader()
		disks[old].failLogs.Store(true)
		if _, err := old.Apply(within(t, patience), put("k", "lost")); !errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("apply = %v, want an unknown outcome", err)
		}
		err := expectFatal(t, old, "StoreLogs")
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("fatal error = %v, does not tell the cause", err)
		}
		for _, want := range []string{old.dir, "no space left", "free some space"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("the message %q does not say %q", err, want)
			}
		}
		if old.IsLeader() {
			t.Error("it still leads")
		}
		mustApply(t, c.newLeader(old), put("k", "w"))
	})
	t.Run("follower", func(t *testing.T) {
		c, disks := startWithFaultyDisks(t, nil)
		f := c.others(c.leader())[0]
		disks[f].failLogs.Store(true)
		c.write("k", "w")
		_ = expectFatal(t, f, "StoreLogs")
		// The disk works again, but the process has to end first.
		disks[f].failLogs.Store(false)
		eventually(t, "the node has stopped", func() error {
			if f.raft.State() != raft.Shutdown {
				return fmt.Errorf("state %v", f.raft.State())
			}
			return nil
		})
		f.kill()
		f.start()
		c.expectEverywhere("k", "w")
	})
	t.Run("panic", func(t *testing.T) {
		c, disks := startWithFaultyDisks(t, nil)
		old := c.leader()
		disks[old].panics.Store(true)
		if _, err := old.Apply(within(t, patience), put("k", "lost")); !errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("apply = %v, want an unknown outcome", err)
		}
		err := expectFatal(t, old, "StoreLogs")
		if !strings.Contains(err.Error(), "page 7") || !strings.Contains(err.Error(), "empty it") {
			t.Errorf("message %q", err)
		}
		mustApply(t, c.newLeader(old), put("k", "w"))
	})
	t.Run("term", func(t *testing.T) {
		c, disks := startWithFaultyDisks(t, nil)
		old := c.leader()
		f := c.others(old)[0]
		disks[f].failTerms.Store(true)
		old.kill()
		_ = expectFatal(t, f, "SetUint64")
	})
}

// A leader whose disk hangs must give way, although its heartbeats would go on.
func TestStorageStallEndsTheNode(t *testing.T) {
	c, disks := startWithFaultyDisks(t, func(o *Options) { o.Timing.StorageStall = 300 * time.Millisecond })
	old := c.leader()
	release := make(chan struct{})
	disks[old].hang.Store(&release)
	began := time.Now()
	t.Cleanup(func() { close(release) })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := old.Apply(ctx, put("k", "hanging")); !errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("apply = %v", err)
	}
	err := expectFatal(t, old, "write")
	// The watchdog looks eight times per stall; the rest is for a busy machine.
	if took := time.Since(began); took < 300*time.Millisecond || took > 3*time.Second {
		t.Errorf("the node gave up after %v", took)
	}
	if !strings.Contains(err.Error(), old.dir) || !strings.Contains(err.Error(), "hangs") {
		t.Errorf("message %q", err)
	}
	if d := old.Disk(); d.WriteP99 < 300*time.Millisecond {
		t.Errorf("the write that hangs is not told of: %+v", d)
	}
	eventually(t, "it leads no more", func() error {
		if old.IsLeader() {
			return errors.New("it does")
		}
		return nil
	})
	mustApply(t, c.newLeader(old), put("k", "w"))
	if _, err := old.ReadBarrier(within(t, 100*time.Millisecond)); err == nil {
		t.Error("a node that has given up confirms reads")
	}
}

func TestClassify(t *testing.T) {
	for _, tc := range []struct{ in, want error }{
		{raft.ErrNotLeader, ErrNotLeader},
		{raft.ErrLeadershipTransferInProgress, ErrNotLeader},
		{raft.ErrLeadershipLost, ErrOutcomeUnknown},
		{raft.ErrRaftShutdown, ErrOutcomeUnknown},
		{raft.ErrAbortedByRestore, ErrOutcomeUnknown},
		{errNoSpace, ErrOutcomeUnknown},
		{raft.ErrEnqueueTimeout, context.DeadlineExceeded},
	} {
		got := classify(tc.in)
		if !errors.Is(got, tc.want) {
			t.Errorf("classify(%v) = %v, want %v", tc.in, got, tc.want)
		}
		if errors.Is(got, ErrOutcomeUnknown) && errors.Is(got, ErrNotLeader) {
			t.Errorf("classify(%v) = %v says both refused and unknown", tc.in, got)
		}
	}
}

func TestPeerServiceRefusesOtherClusters(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	n := c.leader()
	conn, err := n.peers.conn(n.grpcAddr)
	if err != nil {
		t.Fatal(err)
	}
	client := pmpb.NewPeerServiceClient(conn)
	ctx := within(t, patience)
	const other = "7e0f4f3e-7f9a-4b8e-9a53-000000000000"
	_, termErr := client.CurrentTerm(ctx, &pmpb.CurrentTermRequest{ClusterId: other})
	_, readErr := client.ReadIndex(ctx, &pmpb.ReadIndexRequest{ClusterId: other})
	_, joinErr := client.Join(ctx, &pmpb.JoinRequest{ClusterId: other, ServerId: newUUID(), RaftAddress: "h:1", GrpcAddress: "h:2"})
	for what, err := range map[string]error{"CurrentTerm": termErr, "ReadIndex": readErr, "Join": joinErr} {
		if status.Code(err) != codes.FailedPrecondition {
			t.Errorf("%s from another cluster = %v", what, err)
		}
	}
	for name, r := range map[string]*pmpb.JoinRequest{
		"no id":         {RaftAddress: "h:1", GrpcAddress: "h:2"},
		"no raft":       {ServerId: newUUID(), GrpcAddress: "h:2"},
		"wildcard raft": {ServerId: newUUID(), RaftAddress: "0.0.0.0:1", GrpcAddress: "h:2"},
		"no port":       {ServerId: newUUID(), RaftAddress: "h:1", GrpcAddress: "h"},
		"long name":     {ServerId: newUUID(), RaftAddress: string(make([]byte, 300)) + ":1", GrpcAddress: "h:2"},
		"huge http":     {ServerId: newUUID(), RaftAddress: "h:1", GrpcAddress: "h:2", HttpAddress: string(make([]byte, 300))},
		"the leader":    {ServerId: n.ServerID(), RaftAddress: n.raftAddr, GrpcAddress: n.grpcAddr},
	} {
		if _, err := client.Join(ctx, r); status.Code(err) != codes.InvalidArgument {
			t.Errorf("Join, %s = %v", name, err)
		}
	}
	// Nobody answers there, or somebody else does.
	for _, grpcAddr := range []string{freeAddress(t), n.grpcAddr} {
		r := &pmpb.JoinRequest{ServerId: newUUID(), RaftAddress: "127.0.0.1:1", GrpcAddress: grpcAddr}
		if _, err := client.Join(ctx, r); status.Code(err) != codes.FailedPrecondition {
			t.Errorf("Join of a server that is not at %s = %v", grpcAddr, err)
		}
	}
	if got := len(n.Servers()); got != 1 {
		t.Errorf("%d servers after refused joins", got)
	}
}
