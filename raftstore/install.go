package raftstore

import (
	"fmt"
	"sync"

	"github.com/hashicorp/raft"
)

// A server that was the leader may hold entries that nobody else has. When the
// others have meanwhile cut off their logs behind a snapshot that ends among
// those entries, the library takes over the snapshot, keeps the entries, finds
// that they conflict with whatever the leader sends next, and is sent the same
// snapshot again, thousands of times a minute, without ever getting further.
//
// Such entries are in no committed log: an entry in the place of the snapshot's
// last one, but of another term, was never committed, and nor was what follows.
// So the log is removed. What the library remembers of it is read anew only at a
// start, therefore the node ends, and comes back as the same server.

// stuckInstalls is the number of times that a snapshot of the same end is taken
// over, with nothing applied in between, before that is told of.
const stuckInstalls = 3

// watchedSnapshots remembers where the latest snapshot ends.
type watchedSnapshots struct {
	raft.SnapshotStore

	mu          sync.Mutex
	index, term uint64
}

// Create is called for own snapshots and for those of the leader.
func (s *watchedSnapshots) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, ci uint64, t raft.Transport) (raft.SnapshotSink, error) {
	s.mu.Lock()
	s.index, s.term = index, term
	s.mu.Unlock()
	return s.SnapshotStore.Create(v, index, term, c, ci, t)
}

func (s *watchedSnapshots) latest() (index, term uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.index, s.term
}

// installCount is how often a snapshot of the same end came without progress.
// Only the library's main loop uses it.
type installCount struct {
	index, applied uint64
	times          int
}

// snapshotInstalled is called by the library's main loop when it has taken over
// a snapshot of the leader, before it looks at its log.
func (n *Node) snapshotInstalled() {
	n.m.installs.Inc()
	index, term := n.created.latest()
	applied := n.applied.get()
	if c := &n.installCount; index == c.index && applied == c.applied {
		if c.times++; c.times%stuckInstalls == 0 {
			n.m.stuck.Inc()
			n.log.Error("the leader sends the same snapshot again and again; if that goes on, stop this node, empty its data directory and start it as a new server",
				"snapshot_index", index, "times", c.times)
		}
	} else {
		*c = installCount{index: index, applied: applied, times: 1}
	}
	var have raft.Log
	if err := n.store.peek(index, &have); err != nil || have.Term == term {
		return
	}
	first, err := n.store.FirstIndex()
	if err != nil {
		return // has ended the node
	}
	last, err := n.store.LastIndex()
	if err != nil {
		return
	}
	if err := n.store.DeleteRange(first, last); err != nil {
		return
	}
	n.fail(fmt.Errorf("%w: its entry %d was of term %d, the cluster's is of term %d; entries %d to %d are gone, none of which was committed",
		ErrConflictingLog, index, have.Term, term, first, last))
}
