package raftstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

// atLevel2 waits until the cluster may use the commands of a restore.
func (c *testCluster) atLevel2() {
	c.t.Helper()
	eventually(c.t, "feature level 2", func() error {
		if have := c.leader().State().Snapshot().FeatureLevel(); have < 2 {
			return fmt.Errorf("at %d", have)
		}
		return nil
	})
}

func TestRestoreReplacesTheStateOnAllNodes(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	c.atLevel2()
	c.write("a", "old")
	leader := c.leader()
	var saved bytes.Buffer
	info, err := c.others(leader)[0].SaveSnapshot(within(t, patience), &saved)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size != int64(saved.Len()) || info.ClusterID != leader.ClusterID() {
		t.Fatalf("saved %+v", info)
	}
	c.write("a", "new")
	last := c.write("b", "new")

	leader = c.leader()
	ctx := within(t, patience)
	restore := func(n *testNode, data []byte, opts RestoreOptions) (*Restored, error) {
		return n.RestoreSnapshot(ctx, bytes.NewReader(data), int64(len(data)), opts)
	}
	confirmed := RestoreOptions{ConfirmClusterID: leader.ClusterID()}
	if _, err := restore(leader, saved.Bytes(), RestoreOptions{ConfirmClusterID: "another"}); !errors.Is(err, ErrNotConfirmed) {
		t.Fatalf("a restore for another cluster gives %v", err)
	}
	if _, err := restore(leader, saved.Bytes()[:saved.Len()-5], confirmed); !errors.Is(err, fsm.ErrCorruptSnapshot) {
		t.Fatalf("a cut file gives %v", err)
	}
	if _, err := restore(c.others(leader)[0], saved.Bytes(), confirmed); !errors.Is(err, ErrNotLeader) {
		t.Fatalf("a follower says %v", err)
	}
	refuse := confirmed
	refuse.SafetyCopy = func(context.Context) (string, error) { return "", errors.New("no room") }
	if _, err := restore(leader, saved.Bytes(), refuse); err == nil || get(leader, "b") != "new" {
		t.Fatalf("without a safety copy: %v", err)
	}

	done, err := restore(leader, saved.Bytes(), confirmed)
	if err != nil {
		t.Fatal(err)
	}
	if done.Epoch != 2 || done.Index <= last {
		t.Fatalf("restored: %+v, the last write was at %d", done, last)
	}
	c.expectEverywhere("a", "old")
	c.expectEverywhere("b", "")
	before, err := os.Open(done.SafetyCopy)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = before.Close() }()
	state, err := fsm.ReadSnapshot(before)
	if err != nil || state.Snapshot().Cluster("b").GetAddress() != "new" {
		t.Fatalf("the copy of the state before is of no use: %v", err)
	}
	if after := c.write("c", "later"); after <= done.Index {
		t.Fatalf("index %d after a restore at %d", after, done.Index)
	}
}

// A leader that dies in the middle of a restore leaves pieces behind, which
// nobody would ever commit.
func TestANewLeaderDropsWhatWasStaged(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	c.atLevel2()
	old := c.leader()
	res, err := old.Apply(within(t, patience), &pmpb.Command{Op: &pmpb.Command_StageRestore{StageRestore: &pmpb.StageRestore{RestoreId: "r", Data: []byte("x")}}})
	if err = errors.Join(err, res.Err); err != nil {
		t.Fatal(err)
	}
	old.kill()
	eventually(t, "nothing staged", func() error {
		if _, n := c.leader().State().Snapshot().StagedRestore(); n != 0 {
			return fmt.Errorf("%d pieces are", n)
		}
		return nil
	})
}

func TestOneRestoreAtATime(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	c.atLevel2()
	n := c.leader()
	var saved bytes.Buffer
	if _, err := n.SaveSnapshot(within(t, patience), &saved); err != nil {
		t.Fatal(err)
	}
	opts := RestoreOptions{ConfirmClusterID: n.ClusterID()}
	var second error
	opts.SafetyCopy = func(ctx context.Context) (string, error) {
		_, second = n.RestoreSnapshot(ctx, bytes.NewReader(saved.Bytes()), -1, RestoreOptions{ConfirmClusterID: n.ClusterID()})
		return "here", nil
	}
	done, err := n.RestoreSnapshot(within(t, patience), bytes.NewReader(saved.Bytes()), -1, opts)
	if err != nil || done.SafetyCopy != "here" {
		t.Fatalf("%+v, %v", done, err)
	}
	if !errors.Is(second, ErrRestoreRunning) {
		t.Fatalf("a second restore gives %v", second)
	}
}

// More than one piece, and a node that was away catches up with a restore.
func TestRestoreOfSeveralPieces(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	c.atLevel2()
	noise := make([]byte, 600<<10)
	for i := range noise {
		noise[i] = byte('!' + (i*i*7919+i>>3)%90)
	}
	for i := range 3 {
		c.write(fmt.Sprint("k", i), string(noise[i*200<<10:(i+1)*200<<10]))
	}
	leader := c.leader()
	var saved bytes.Buffer
	if _, err := leader.SaveSnapshot(within(t, patience), &saved); err != nil {
		t.Fatal(err)
	}
	away := c.others(leader)[0]
	away.kill()
	c.write("later", "x")
	leader = c.leader()
	if _, err := leader.RestoreSnapshot(within(t, time.Minute), &saved, -1, RestoreOptions{ConfirmClusterID: leader.ClusterID()}); err != nil {
		t.Fatal(err)
	}
	away.start()
	c.expectEverywhere("later", "")
	c.expectEverywhere("k1", string(noise[200<<10:400<<10]))
}
