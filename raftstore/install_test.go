package raftstore

import (
	"errors"
	"fmt"
	"testing"

	"oaas.io/control-plane/fsm"
)

// A server whose log departs from that of the cluster before the end of the
// snapshot that it is sent keeps refusing what comes after it, so that it is
// sent the snapshot again and again. It must get out of that by itself.
func TestSnapshotOverAConflictingLog(t *testing.T) {
	t.Parallel()
	for name, more := range map[string]int{"log ends behind the snapshot": 60, "log ends before the snapshot": 5} {
		t.Run(name, func(t *testing.T) {
			c, old := startWithDeludedLeader(t, func(o *Options) { o.Timing.TrailingLogs = 1000 })
			others := c.others(old)
			c.net.isolate(old.name, names(others), false)
			// Entries that nobody else will ever have.
			data, err := fsm.EncodeCommand(old.stamp(t.Context(), put("lost", "yes")))
			if err != nil {
				t.Fatal(err)
			}
			for range more {
				old.raft.Apply(data, 0)
			}
			eventually(t, "the entries in the log", func() error {
				if last, err := old.store.LastIndex(); err != nil || last < uint64(more) {
					return errors.Join(err, fmt.Errorf("last is %d", last))
				}
				return nil
			})
			leader := c.newLeader(old)
			for i := range 30 {
				mustApply(t, leader, put(fmt.Sprint("k", i), "v"))
			}
			for _, n := range others {
				if err := n.Tune(Tuning{TrailingLogs: 1}); err != nil {
					t.Fatal(err)
				}
				if err := n.raft.Snapshot().Error(); err != nil {
					t.Fatal(err)
				}
			}
			c.net.heal()
			mustApply(t, leader, put("after", "v"))
			c.catchUp(old, "k29", "v")
			c.catchUp(old, "after", "v")
			if get(old, "lost") != "" {
				t.Error("an entry that was never committed is in the state")
			}
		})
	}
}

// catchUp waits until n has the value, starting it again when it asks for that.
func (c *testCluster) catchUp(n *testNode, key, value string) {
	c.t.Helper()
	restarts := 0
	eventually(c.t, n.name+" catches up", func() error {
		select {
		case err := <-n.Fatal():
			if !errors.Is(err, ErrConflictingLog) || restarts > 0 {
				c.t.Fatalf("fatal error = %v", err)
			}
			restarts++
			n.kill()
			n.start()
		default:
		}
		if got := get(n, key); got != value {
			return fmt.Errorf("%s is %q", key, got)
		}
		return nil
	})
}
