package raftstore

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"
)

// A node that was away while the log was cut off comes back by a snapshot, and
// has the same state as the others, byte for byte.
func TestSnapshotTruncationAndRejoin(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	for _, n := range c.nodes {
		n.configure = func(o *Options) {
			o.Timing.SnapshotInterval = 20 * time.Millisecond
			o.Timing.SnapshotThreshold = 50
			o.Timing.TrailingLogs = 10
		}
	}
	c.start()
	c.write("k0", "v")
	c.expectEverywhere("k0", "v")
	away := c.others(c.leader())[0]
	last := away.raft.LastIndex()
	away.kill()
	for i := range 200 {
		c.write(fmt.Sprintf("k%d", i%20), fmt.Sprintf("v%d", i))
	}
	eventually(t, "the log is cut off", func() error {
		for _, n := range c.others(away) {
			first, err := n.store.FirstIndex()
			if err != nil {
				return fmt.Errorf("%s: %w", n.name, err)
			}
			if first <= last+1 {
				return fmt.Errorf("%s: first index %d", n.name, first)
			}
		}
		return nil
	})
	away.start()
	eventually(t, "the state is the same everywhere", func() error { return c.sameState() })
	if away.snapshotIndex() <= last {
		t.Errorf("the node caught up without a snapshot: %d", away.snapshotIndex())
	}

	// All start again from their snapshots.
	for _, n := range c.nodes {
		n.kill()
	}
	c.start()
	c.write("k", "after")
	c.expectEverywhere("k", "after")
	eventually(t, "the state is the same everywhere", func() error { return c.sameState() })
}

// sameState compares the chain hash over all commands and the whole state.
func (c *testCluster) sameState() error {
	var first []byte
	for _, n := range c.nodes {
		var buf bytes.Buffer
		if err := n.State().Snapshot().Write(&buf); err != nil {
			return err
		}
		if n.State().Snapshot().Index() != n.AppliedIndex() {
			return fmt.Errorf("%s: state at %d, published %d", n.name, n.State().Snapshot().Index(), n.AppliedIndex())
		}
		if first == nil {
			first = buf.Bytes()
		} else if !bytes.Equal(first, buf.Bytes()) {
			return errors.New("states differ")
		}
	}
	return nil
}
