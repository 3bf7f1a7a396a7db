package raftstore

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"oaas.io/control-plane/fsm"
)

// A cluster of the first release is recovered by programs that know the command
// which raises the epoch, so it must not wait for a server that never comes back to
// say so: nobody could remove that server before there is a leader.
func TestRecoveryAtTheFirstLevelIsSettledWithoutASilentServer(t *testing.T) {
	t.Parallel()
	c := startOlder(t)
	c.expectEverywhere("k", "v")
	mark := Recovery{ID: "lost-quorum", Reason: "a rack burnt", ClusterID: c.leader().ClusterID(), Time: time.Now()}
	servers := slices.Clone(c.leader().raft.GetConfiguration().Configuration().Servers)
	for i := range servers {
		servers[i].Suffrage = raft.Voter
	}
	left, silentID := c.nodes[:2], c.nodes[2].ServerID()
	for _, n := range c.nodes {
		n.kill()
	}
	for _, n := range left {
		dir, err := OpenOffline(n.dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(dir.Mark(mark), dir.Recover(servers), dir.Close()); err != nil {
			t.Fatal(err)
		}
		n.configure = nil
		n.start()
	}
	c.write("after", "the recovery")
	meta := c.leader().State().Snapshot().Meta()
	if meta.GetRecoveryId() != mark.ID || meta.GetEpoch() != 2 || meta.GetFeatureLevel() >= fsm.Level {
		t.Errorf("after the recovery: %v", meta)
	}
	// The rest of the levels waits for the server, as ever, or for its removal.
	eventually(t, "the silent server is removed, once the others are known to be healthy", func() error {
		_, err := c.leader().RemoveServer(within(t, patience), silentID, RemoveOptions{})
		return err
	})
	for _, n := range left {
		n.expectLevel(fsm.Level)
	}
}
