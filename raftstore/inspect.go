package raftstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

// Tuning is what can be changed while a node runs. It is this node's own and
// lasts until the process ends.
type Tuning struct {
	// SnapshotInterval takes effect once the interval that is under way is over.
	SnapshotInterval  time.Duration
	SnapshotThreshold uint64
	TrailingLogs      uint64
	// Heartbeat may not be shorter than the node was started with: the leader's
	// lease stays what it was.
	Heartbeat time.Duration
	// Election is at least Heartbeat.
	Election time.Duration
}

// TuningError says which value was refused and why.
type TuningError struct{ Reason string }

func (e *TuningError) Error() string { return "raftstore: the tuning was refused: " + e.Reason }

// Bounds of a tuning. Fewer trailing entries send snapshots to every follower
// that was away for a moment; a longer heartbeat leaves the cluster without a
// leader for minutes.
const (
	minSnapshotInterval = 10 * time.Millisecond
	maxHeartbeat        = time.Minute
)

// Tuning gives what is in force.
func (n *Node) Tuning() Tuning {
	c := n.raft.ReloadableConfig()
	return Tuning{
		SnapshotInterval: c.SnapshotInterval, SnapshotThreshold: c.SnapshotThreshold, TrailingLogs: c.TrailingLogs,
		Heartbeat: c.HeartbeatTimeout, Election: c.ElectionTimeout,
	}
}

// Tune changes what is in force; zero fields stay as they are. Its error is a
// *TuningError when a value is refused, and nothing has changed then.
func (n *Node) Tune(t Tuning) error {
	n.tuning.Lock()
	defer n.tuning.Unlock()
	have := n.Tuning()
	merged := Timing{
		SnapshotInterval: t.SnapshotInterval, SnapshotThreshold: t.SnapshotThreshold, TrailingLogs: t.TrailingLogs,
		Heartbeat: t.Heartbeat, Election: t.Election,
	}
	if merged.Election == 0 {
		merged.Election = max(have.Election, t.Heartbeat)
	}
	merged = merged.or(Timing{
		SnapshotInterval: have.SnapshotInterval, SnapshotThreshold: have.SnapshotThreshold, TrailingLogs: have.TrailingLogs,
		Heartbeat: have.Heartbeat,
	})
	refuse := func(format string, args ...any) error { return &TuningError{fmt.Sprintf(format, args...)} }
	switch {
	case merged.SnapshotInterval < minSnapshotInterval:
		return refuse("a snapshot interval of %v is below %v", merged.SnapshotInterval, minSnapshotInterval)
	case merged.Heartbeat < n.timing.Heartbeat:
		return refuse("a heartbeat timeout of %v is below %v, with which the node was started", merged.Heartbeat, n.timing.Heartbeat)
	case merged.Heartbeat > maxHeartbeat:
		return refuse("a heartbeat timeout of %v is above %v", merged.Heartbeat, maxHeartbeat)
	case merged.Election < merged.Heartbeat:
		return refuse("an election timeout of %v is below the heartbeat timeout of %v", merged.Election, merged.Heartbeat)
	case merged.Election > maxHeartbeat:
		return refuse("an election timeout of %v is above %v", merged.Election, maxHeartbeat)
	}
	err := n.raft.ReloadConfig(raft.ReloadableConfig{
		SnapshotInterval: merged.SnapshotInterval, SnapshotThreshold: merged.SnapshotThreshold, TrailingLogs: merged.TrailingLogs,
		HeartbeatTimeout: merged.Heartbeat, ElectionTimeout: merged.Election,
	})
	if err != nil {
		return refuse("%v", err)
	}
	n.log.Info("tuning changed", "tuning", n.Tuning())
	return nil
}

// LogEntry is one entry of a node's log.
type LogEntry struct {
	Index uint64
	Term  uint64
	// Type is command, configuration, barrier, noop or the library's number.
	Type string
	// AppendedAt is when the leader appended it, by its clock.
	AppendedAt time.Time
	// Size is that of the entry's data in bytes.
	Size int
	// Command is nil for entries that are none, or cannot be decoded.
	Command *pmpb.Command
	// Text tells what else there is to say: a configuration, or what is wrong.
	Text string
}

// LogEntries yields the entries that this node's log holds from one index to
// another, both included, until yield returns false or ctx ends; to 0 is the
// last one. What was cut off behind a snapshot is left out. Entries at the end
// may not be committed.
func (n *Node) LogEntries(ctx context.Context, from, to uint64, yield func(LogEntry) bool) error {
	first, err := n.store.FirstIndex()
	if err != nil {
		return fmt.Errorf("raftstore: reading the log: %w", err)
	}
	last, err := n.store.LastIndex()
	if err != nil {
		return fmt.Errorf("raftstore: reading the log: %w", err)
	}
	if to == 0 || to > last {
		to = last
	}
	for i := max(from, first, 1); i <= to; i++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		if n.ctx.Err() != nil {
			return ErrShutdown
		}
		var l raft.Log
		switch err := n.store.peek(i, &l); {
		case errors.Is(err, raft.ErrLogNotFound): // cut off meanwhile
		case err != nil:
			return fmt.Errorf("raftstore: reading entry %d: %w", i, err)
		case !yield(describe(&l)):
			return nil
		}
	}
	return nil
}

func describe(l *raft.Log) LogEntry {
	e := LogEntry{Index: l.Index, Term: l.Term, AppendedAt: l.AppendedAt, Size: len(l.Data)}
	switch l.Type {
	case raft.LogCommand:
		e.Type = "command"
		var err error
		if e.Command, err = fsm.DecodeCommand(l.Data); err != nil {
			e.Command, e.Text = nil, err.Error()
		}
	case raft.LogConfiguration:
		e.Type, e.Text = "configuration", describeConfiguration(l.Data)
	case raft.LogBarrier:
		e.Type = "barrier"
	case raft.LogNoop:
		e.Type = "noop"
	default:
		e.Type = strconv.Itoa(int(l.Type))
	}
	return e
}

func describeConfiguration(data []byte) string {
	c, err := decodeConfiguration(data)
	if err != nil {
		return err.Error()
	}
	texts := make([]string, len(c.Servers))
	for i, s := range c.Servers {
		texts[i] = fmt.Sprintf("%s %s at %s", s.Suffrage, s.ID, s.Address)
	}
	return strings.Join(texts, ", ")
}

// decodeConfiguration is the library's decoder without its panic.
func decodeConfiguration(data []byte) (c raft.Configuration, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the configuration cannot be decoded: %v", p)
		}
	}()
	return raft.DecodeConfiguration(data), nil
}

// SnapshotMeta is a snapshot that a node keeps for itself.
type SnapshotMeta struct {
	ID    string
	Index uint64
	Term  uint64
	// Size is in bytes.
	Size int64
	// Time is when it was begun.
	Time time.Time
}

// Snapshots lists the snapshots of this node, the newest first.
func (n *Node) Snapshots() ([]SnapshotMeta, error) {
	list, err := n.snapshots.List()
	if err != nil {
		return nil, fmt.Errorf("raftstore: listing the snapshots: %w", err)
	}
	out := make([]SnapshotMeta, len(list))
	for i, s := range list {
		out[i] = SnapshotMeta{ID: s.ID, Index: s.Index, Term: s.Term, Size: s.Size}
		if id, ok := parseSnapshotID(s.ID); ok {
			out[i].Time = id.time
		}
	}
	return out, nil
}

// snapshotID is what the name of a snapshot's directory says.
type snapshotID struct {
	term, index uint64
	time        time.Time
}

func parseSnapshotID(name string) (snapshotID, bool) {
	parts := strings.Split(name, "-")
	if len(parts) != 3 {
		return snapshotID{}, false
	}
	term, terr := strconv.ParseUint(parts[0], 10, 64)
	index, ierr := strconv.ParseUint(parts[1], 10, 64)
	millis, merr := strconv.ParseInt(parts[2], 10, 64)
	return snapshotID{term: term, index: index, time: time.UnixMilli(millis)}, errors.Join(terr, ierr, merr) == nil
}
