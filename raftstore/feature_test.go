package raftstore

import (
	"errors"
	"fmt"
	"testing"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

func olderRelease(o *Options) { o.featureLevel = 1 }

// startOlder gives a cluster of three servers of an older release that has "k".
func startOlder(t *testing.T) *testCluster {
	t.Helper()
	c := newCluster(t, 3)
	for _, n := range c.nodes {
		n.configure = olderRelease
	}
	c.start()
	c.write("k", "v")
	return c
}

func (n *testNode) expectLevel(want uint32) {
	n.t.Helper()
	eventually(n.t, fmt.Sprintf("%s is at feature level %d", n.name, want), func() error {
		if have := n.State().Snapshot().FeatureLevel(); have != want {
			return fmt.Errorf("level %d, %+v", have, n.FeatureLevels())
		}
		return nil
	})
}

func autopilotSettings() *pmpb.Command {
	return &pmpb.Command{Op: &pmpb.Command_PutAutopilot{PutAutopilot: &pmpb.PutAutopilot{Autopilot: &pmpb.Autopilot{DesiredVoters: 3}}}}
}

// A cluster of two releases uses only what the older one knows, and what the
// newer one knows once the last server is upgraded: a rolling upgrade.
func TestFeatureLevelFollowsTheOldestServer(t *testing.T) {
	t.Parallel()
	c := startOlder(t)
	for i, n := range c.nodes {
		n.stopGracefully()
		n.configure = nil
		n.start()
		c.write("upgraded", n.name)
		if i < len(c.nodes)-1 {
			leader := c.leader()
			if _, err := leader.Apply(within(t, patience), autopilotSettings()); !errors.Is(err, fsm.ErrFeatureLevel) {
				t.Fatalf("with servers of an older release a command of level 2 gives %v", err)
			}
		}
	}
	for _, n := range c.nodes {
		n.expectLevel(fsm.Level)
	}
	mustApply(t, c.leader(), autopilotSettings())
	c.expectEverywhere("k", "v")
}

// What cannot apply the log as the others do must not try.
func TestOlderReleaseIsKeptOut(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	for _, n := range c.nodes {
		n.expectLevel(fsm.Level)
	}
	// A new server of an older release is not let in.
	n4 := c.add("n4")
	n4.configure = olderRelease
	n4.start()
	err := n4.joinThrough(within(t, patience), c.peers, "")
	if err == nil || len(n4.servers()) != 0 {
		t.Fatalf("a server of an older release joined: %v", err)
	}
	n4.kill()
	// Neither does one that was a member go on with an older program.
	old := c.others(c.leader())[0]
	old.kill()
	old.configure = olderRelease
	old.start()
	select {
	case err := <-old.Fatal():
		if !errors.Is(err, ErrTooOld) {
			t.Fatalf("the node ended with %v", err)
		}
	case <-within(t, patience).Done():
		t.Fatal("a downgraded server went on")
	}
	old.kill()
	old.configure = nil
	old.start()
	c.write("k", "v")
	c.expectEverywhere("k", "v")
}

// What a server's row says was true once: its disk may since have been given to an
// older program. The level follows what all servers say now.
func TestFeatureLevelIsNotRaisedOnAnOldRow(t *testing.T) {
	t.Parallel()
	c := startOlder(t)
	silent := c.nodes[2]
	c.expectHealthy(3)
	// The row of the server that is about to fall silent promises level 2.
	var row *pmpb.Member
	eventually(t, "the server has a row", func() error {
		if row = proto.CloneOf(c.leader().State().Snapshot().Member(silent.ServerID())); row == nil {
			return errors.New("it has none yet")
		}
		return nil
	})
	silent.kill()
	for _, n := range c.nodes[:2] {
		n.kill()
		n.configure = nil
		n.start()
	}
	leader := c.leader()
	row.FeatureLevel = fsm.Level
	mustApply(t, leader, &pmpb.Command{Op: &pmpb.Command_PutMember{PutMember: &pmpb.PutMember{Member: row}}})
	leader.peers.hear(row)
	eventually(t, "the others are known to have been upgraded", func() error {
		if levels := leader.FeatureLevels(); levels.Possible != fsm.Level {
			return fmt.Errorf("%+v", levels)
		}
		return nil
	})
	leader.raiseFeatureLevel(t.Context(), leader.Term())
	if have := leader.State().Snapshot().FeatureLevel(); have != 1 {
		t.Fatalf("the level was raised to %d, while %s is silent", have, silent.name)
	}
	silent.configure = nil
	silent.start()
	for _, n := range c.nodes {
		n.expectLevel(fsm.Level)
	}
}

// ofTheFuture is a command that a newer program may write into the log once all
// servers know it.
func ofTheFuture(t *testing.T) []byte {
	t.Helper()
	data, err := fsm.EncodeCommand(&pmpb.Command{Version: fsm.Version, RequestId: "r", Op: put("k", "v").Op})
	if err != nil {
		t.Fatal(err)
	}
	return protowire.AppendVarint(protowire.AppendTag(data, 900, protowire.VarintType), 1)
}

// A program that is too old for the log stops at the entry that it does not know:
// leaving it out would make another state of the same log. What it has made of it is
// not kept.
func TestEntryOfANewerProgramEndsTheNode(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	n := c.leader()
	c.write("k", "before")
	_ = n.raft.Apply(ofTheFuture(t), 0).Error() // the node may end before it is answered
	select {
	case err := <-n.Fatal():
		if !errors.Is(err, ErrTooOld) || !errors.Is(err, fsm.ErrUnknownCommand) {
			t.Fatalf("the node ended with %v", err)
		}
	case <-within(t, patience).Done():
		t.Fatal("the node goes on")
	}
	if err := n.raft.Snapshot().Error(); err == nil {
		t.Error("a state that leaves an entry out was kept")
	}
	n.kill()
	dir, err := OpenOffline(n.dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dir.Close() }()
	if err := dir.Recover([]raft.Server{{ID: raft.ServerID(dir.ServerID()), Address: "127.0.0.1:1"}}); !errors.Is(err, ErrTooOld) {
		t.Errorf("a recovery by a program that is too old: %v", err)
	}
}

// Nothing that this program does not know gets into the log through it.
func TestUnknownCommandsAreNotProposed(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	n := c.leader()
	for name, cmd := range map[string]*pmpb.Command{
		"a level":      {Op: &pmpb.Command_RaiseFeatureLevel{RaiseFeatureLevel: &pmpb.RaiseFeatureLevel{Level: fsm.Level + 1}}},
		"no operation": {},
	} {
		if _, err := n.Apply(within(t, patience), cmd); !errors.Is(err, fsm.ErrUnknownCommand) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c.write("k", "goes on")
	select {
	case err := <-n.Fatal():
		t.Errorf("the node ended: %v", err)
	default:
	}
}
