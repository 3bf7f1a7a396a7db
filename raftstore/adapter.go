package raftstore

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"oaas.io/control-plane/fsm"
)

// adapter gives Raft the state machine. It is the only code here that knows
// how package fsm applies, saves and loads.
//
// It takes batches, so that one wake-up of the waiters serves a whole group of
// commands, and configurations, without which Raft cannot take a snapshot of a
// quiet cluster whose last entry is a membership change.
type adapter struct {
	state   *fsm.State
	applied *appliedIndex
	log     hclog.Logger
	m       *metrics
	// level is the highest feature level that this node may apply.
	level uint32
	// fail ends the node.
	fail func(error)
	// written gets a value when a snapshot was written.
	written chan struct{}
	// stopping is closed when the node stops.
	stopping <-chan struct{}
	// chain remembers the hashes of the latest commands.
	chain chainRing
	// started is set once the library runs. A snapshot that cannot be restored
	// before that is startError: the library would go back to an older one, whose
	// successors are gone, or which is of a time before what it did not know.
	started    atomic.Bool
	startError error
	// tooOld is set once the log has what this program does not know. From then on
	// the state is not that of the others: nothing more is applied, and no snapshot
	// of it is written. Only the library's goroutine of the state machine uses it.
	tooOld error
}

var (
	_ raft.BatchingFSM        = (*adapter)(nil)
	_ raft.ConfigurationStore = (*adapter)(nil)
)

// Apply applies one entry.
func (a *adapter) Apply(l *raft.Log) any { return a.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch applies committed entries in order. The answer has one element per
// entry: a fsm.Result for a command, nil for a configuration.
func (a *adapter) ApplyBatch(logs []*raft.Log) []any {
	out := make([]any, len(logs))
	entries := make([]fsm.Entry, 0, len(logs))
	places := make([]int, 0, len(logs))
	for i, l := range logs {
		switch l.Type {
		case raft.LogCommand:
			entries = append(entries, fsm.Entry{Index: l.Index, Term: l.Term, Data: l.Data})
			places = append(places, i)
		case raft.LogConfiguration:
			a.StoreConfiguration(l.Index, raft.DecodeConfiguration(l.Data))
		default: // the library's own entries are none of the state machine's business
		}
	}
	if len(entries) == 0 {
		return out
	}
	if a.tooOld != nil {
		for _, place := range places {
			out[place] = fsm.Result{Err: a.tooOld}
		}
		return out
	}
	points := make([]chainPoint, 0, len(entries))
	for i, res := range a.state.ApplyBatch(entries) {
		out[places[i]] = res
		if errors.Is(res.Err, fsm.ErrUnknownCommand) && a.tooOld == nil {
			a.tooOld = fmt.Errorf("%w: entry %d of the log: %w; start the newer program again", ErrTooOld, entries[i].Index, res.Err)
		}
		if len(res.Chain) > 0 {
			points = append(points, chainPoint{index: res.Index, hash: res.Chain})
		}
	}
	if a.tooOld == nil {
		a.tooOld = a.checkLevel()
	}
	if a.tooOld != nil {
		a.fail(a.tooOld)
		return out
	}
	a.chain.add(points...)
	a.publish(entries[len(entries)-1].Index)
	return out
}

// StoreConfiguration is told each committed configuration. The library keeps
// them; that this method exists is what lets the snapshot index move past them.
func (a *adapter) StoreConfiguration(index uint64, c raft.Configuration) {
	a.log.Info("configuration committed", "index", index, "servers", len(c.Servers))
}

// Snapshot captures the state without copying it.
func (a *adapter) Snapshot() (raft.FSMSnapshot, error) {
	if a.tooOld != nil {
		return nil, a.tooOld
	}
	return &savedState{snap: a.state.Snapshot(), m: a.m, written: a.written, stopping: a.stopping}, nil
}

// Restore replaces the state by a snapshot and publishes its index.
func (a *adapter) Restore(r io.ReadCloser) error {
	defer func() { _ = r.Close() }() // only read
	if a.startError != nil {
		return a.startError
	}
	if err := a.restore(r); err != nil {
		if !a.started.Load() {
			a.startError = err
		}
		return err
	}
	meta := a.state.Snapshot().Meta()
	a.chain.reset(chainPoint{index: meta.GetAppliedIndex(), hash: meta.GetChainHash()})
	a.publish(a.state.Snapshot().Index())
	a.log.Info("state restored from a snapshot", "index", a.applied.get())
	return nil
}

func (a *adapter) restore(r io.Reader) error {
	if err := a.state.Restore(r); err != nil {
		return fmt.Errorf("raftstore: restoring a snapshot: %w", err)
	}
	return a.checkLevel()
}

// checkLevel finds out that the cluster has gone beyond this program. Going on
// would make this state another one than that of the others.
func (a *adapter) checkLevel() error {
	snap := a.state.Snapshot()
	a.m.featureLevel.Set(float64(snap.FeatureLevel()))
	if have := snap.FeatureLevel(); have > a.level {
		return fmt.Errorf("%w: feature level %d, known is %d; start the newer program again", ErrTooOld, have, a.level)
	}
	return nil
}

func (a *adapter) publish(index uint64) {
	a.applied.set(index)
	a.m.appliedIndex.Set(float64(index))
}

// savedState writes one immutable view of the state.
type savedState struct {
	snap     *fsm.Snapshot
	m        *metrics
	written  chan<- struct{}
	stopping <-chan struct{}
}

// Persist writes the snapshot, or cancels it.
func (s *savedState) Persist(sink raft.SnapshotSink) error {
	counted := &countingWriter{w: sink}
	if err := s.snap.Write(newPacedWriter(counted, s.stopping)); err != nil {
		_ = sink.Cancel()
		return fmt.Errorf("raftstore: writing a snapshot: %w", err)
	}
	if err := sink.Close(); err != nil {
		return fmt.Errorf("raftstore: closing a snapshot: %w", err)
	}
	s.m.snapshotBytes.Set(float64(counted.n))
	select {
	case s.written <- struct{}{}:
	default: // it will be looked at together with the one before
	}
	return nil
}

// Release does nothing: the view is garbage when nobody holds it.
func (s *savedState) Release() {}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
