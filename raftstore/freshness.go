package raftstore

import (
	"errors"
	"math"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// freshness knows how old this node's state can be. That the leader was heard from says
// little of it: a node that was away hears heartbeats long before it has caught up. But
// the leader's messages also tell how far the log is committed, several times per
// heartbeat timeout, and whoever has applied that has all that was committed by then, as
// far as the leader knew.
type freshness struct {
	mu   sync.Mutex
	term uint64
	// marks are what is not applied yet, as far as was looked: rising in both.
	marks []mark
	// fresh is when the state was last known to have all.
	fresh time.Time
}

// mark says that the log was committed up to an index at a time.
type mark struct {
	index uint64
	at    time.Time
}

// maxMarks bounds what is remembered of a node that lags. What comes later replaces the
// newest, so that the state counts as older than it is and never as younger.
const maxMarks = 256

// heard notes what a leader says. Heartbeats do not say how far the log is committed.
func (f *freshness) heard(a *raft.AppendEntriesRequest, now time.Time) {
	if a.LeaderCommitIndex == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if a.Term < f.term {
		return // it has been deposed
	}
	f.term = a.Term
	m := mark{index: a.LeaderCommitIndex, at: now}
	last := len(f.marks) - 1
	if last >= 0 {
		// A new leader may know less at first.
		m.index = max(m.index, f.marks[last].index)
	}
	if last >= 0 && (f.marks[last].index == m.index || len(f.marks) == maxMarks) {
		f.marks[last] = m
		return
	}
	f.marks = append(f.marks, m)
}

// asOf gives the latest time by which all that was committed is applied, the zero time
// when there is none. applied tells whether the state has all commands up to an index.
func (f *freshness) asOf(applied func(index uint64) bool) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for n < len(f.marks) && applied(f.marks[n].index) {
		f.fresh = f.marks[n].at
		n++
	}
	f.marks = append(f.marks[:0], f.marks[n:]...)
	return f.fresh
}

// led notes that this node led a moment ago, so that its state was fresh.
func (f *freshness) led(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fresh, f.marks = now, f.marks[:0]
}

// Staleness tells how old the state can be at most: it has all that the leader knew to be
// committed that long ago. 0 on the leader, the largest duration when nothing is known.
// A leader that was cut off and has not noticed yet knows less than there is.
func (n *Node) Staleness() time.Duration {
	now := time.Now()
	if n.IsLeader() {
		if n.layer != nil {
			n.layer.fresh.led(now)
		}
		return 0
	}
	if n.layer == nil {
		return math.MaxInt64
	}
	as := n.layer.fresh.asOf(n.hasCommandsUpTo)
	if as.IsZero() {
		return math.MaxInt64
	}
	return max(now.Sub(as), 0)
}

// hasCommandsUpTo reports whether the state has every command up to an index that is
// committed. The library's own entries come to no state machine, so whether those after
// the last command that was applied are such has to be looked up in the log.
func (n *Node) hasCommandsUpTo(index uint64) bool {
	applied := n.applied.get()
	if applied >= index {
		return true
	}
	if n.raft.CommitIndex() < index {
		return false // what the log has there may not be what was committed
	}
	for at := applied + 1; at <= index; at++ {
		var entry raft.Log
		switch err := n.logs.GetLog(at, &entry); {
		case errors.Is(err, raft.ErrLogNotFound) && n.compacted(at):
		case err != nil || entry.Type == raft.LogCommand:
			return false
		}
	}
	return true
}

// compacted reports that an entry is not in the log any more, because a snapshot of this
// state, or the one that it was restored from, has what it did.
func (n *Node) compacted(index uint64) bool {
	first, err := n.logs.FirstIndex()
	return err == nil && (first == 0 || index < first)
}
