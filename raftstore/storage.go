package raftstore

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	bolterrors "go.etcd.io/bbolt/errors"
)

// logStore is what a node keeps its log and its vote in.
type logStore interface {
	raft.LogStore
	raft.StableStore
}

// openBolt opens the log file.
func openBolt(path string) (*raftboltdb.BoltStore, error) {
	store, err := raftboltdb.New(raftboltdb.Options{
		Path:                    path,
		BoltOptions:             boltOptions(),
		MsgpackUseNewTimeFormat: true,
	})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("%w: %s", ErrLocked, path)
	case err != nil:
		return nil, fmt.Errorf("raftstore: opening the log %s: %w", path, err)
	}
	return store, nil
}

// compactPiece is how many entries are removed from the front of the log at a time.
const compactPiece = 512

// guardedStore watches the disk below Raft. The library survives some failed
// writes with a wrong idea of its own log and panics on others, and a leader
// whose disk hangs keeps its followers quiet forever. Therefore the first
// failure and the first stall end the node.
type guardedStore struct {
	next logStore
	// fail ends the node; it is safe to call from any goroutine and repeatedly.
	fail func(error)
	m    *metrics
	// installed is called when the library has taken over a snapshot.
	installed func()
	// dir is the data directory and path the log's file, for messages.
	dir, path string
	// base is when the store was opened. What is measured is measured from there,
	// as the wall clock may be set while a write is going on.
	base time.Time

	// writeSince is when the write in progress began, after base and never 0; 0
	// when there is none. Raft writes from its main loop and, when it removes
	// old entries, from its snapshot loop: the latter is not watched.
	writeSince atomic.Int64
	latency    latencies
	failed     atomic.Bool
	// lost is set when an operation broke off half way.
	lost atomic.Bool
	// started is set once Raft runs on goroutines of its own.
	started atomic.Bool
}

func (s *guardedStore) FirstIndex() (i uint64, err error) {
	err = s.read("FirstIndex", func() (err error) { i, err = s.next.FirstIndex(); return err })
	return i, err
}

func (s *guardedStore) LastIndex() (i uint64, err error) {
	err = s.read("LastIndex", func() (err error) { i, err = s.next.LastIndex(); return err })
	return i, err
}

func (s *guardedStore) GetLog(index uint64, log *raft.Log) error {
	err := s.read("GetLog", func() error { return s.next.GetLog(index, log) })
	if err == nil || errors.Is(err, raft.ErrLogNotFound) {
		return err
	}
	return s.unwind(fmt.Errorf("entry %d: %w", index, err))
}

// IsMonotonic says that the log may have gaps. The library asks exactly when it
// has taken over a snapshot of the leader, and before it uses the log again.
func (s *guardedStore) IsMonotonic() bool {
	s.installed()
	return false
}

var _ raft.MonotonicLogStore = (*guardedStore)(nil)

// peek reads an entry for somebody who is curious: a failure is theirs only, as
// long as the library has not met it.
func (s *guardedStore) peek(index uint64, log *raft.Log) error {
	if s.lost.Load() {
		return errStorageGone
	}
	err := s.attempt(func() error { return s.next.GetLog(index, log) })
	if s.lost.Load() {
		return s.check("GetLog", err)
	}
	return err
}

func (s *guardedStore) StoreLog(log *raft.Log) error { return s.StoreLogs([]*raft.Log{log}) }

func (s *guardedStore) StoreLogs(logs []*raft.Log) error {
	return s.write("StoreLogs", func() error { return s.next.StoreLogs(logs) })
}

// DeleteRange removes entries. The end of the log goes in one transaction: half of
// what a follower has to forget must not stay. What a snapshot has made superfluous
// at the front goes in pieces from the oldest on, so that the log has no gap however
// far this comes: the file has one writer at a time, and entries that are to be
// written would wait for the whole. Between two pieces they get their turn, as a
// mutex that was waited for longer than 1 ms is handed over.
func (s *guardedStore) DeleteRange(first, last uint64) error {
	end, err := s.LastIndex()
	if err != nil {
		return err
	}
	for last < end && last-first >= compactPiece {
		if err := s.deletePiece(first, first+compactPiece-1); err != nil {
			return err
		}
		first += compactPiece
	}
	return s.deletePiece(first, last)
}

func (s *guardedStore) deletePiece(first, last uint64) error {
	if s.failed.Load() {
		return errStorageGone
	}
	return s.check("DeleteRange", s.attempt(func() error { return s.next.DeleteRange(first, last) }))
}

func (s *guardedStore) Set(key, val []byte) error {
	return s.write("Set", func() error { return s.next.Set(key, val) })
}

func (s *guardedStore) Get(key []byte) (v []byte, err error) {
	err = s.readOptional(func() (err error) { v, err = s.next.Get(key); return err })
	return v, err
}

// SetUint64 keeps the term. The library panics when that fails.
func (s *guardedStore) SetUint64(key []byte, val uint64) error {
	return s.unwind(s.write("SetUint64", func() error { return s.next.SetUint64(key, val) }))
}

func (s *guardedStore) GetUint64(key []byte) (v uint64, err error) {
	err = s.readOptional(func() (err error) { v, err = s.next.GetUint64(key); return err })
	return v, err
}

// read runs an operation whose failure ends the node, unless all that is wrong
// is that the entry is not there.
func (s *guardedStore) read(op string, do func() error) error {
	if s.lost.Load() {
		return errStorageGone
	}
	err := s.attempt(do)
	if errors.Is(err, raft.ErrLogNotFound) {
		return err
	}
	return s.check(op, err)
}

// readOptional runs an operation that fails when there is no such key, which the
// library knows by the error's text.
func (s *guardedStore) readOptional(do func() error) error {
	if s.lost.Load() {
		return errStorageGone
	}
	err := s.attempt(do)
	if s.lost.Load() {
		return s.check("Get", err)
	}
	return err
}

var errStorageGone = errors.New("storage failed before")

func (s *guardedStore) write(op string, do func() error) error {
	if s.failed.Load() {
		return errStorageGone
	}
	began := max(time.Since(s.base), 1)
	s.writeSince.Store(int64(began))
	err := s.attempt(do)
	s.writeSince.Store(0)
	took := time.Since(s.base) - began
	s.latency.add(took)
	s.m.storageWrite.WithLabelValues(op).Observe(took.Seconds())
	return s.check(op, err)
}

func (s *guardedStore) check(op string, err error) error {
	if err == nil {
		return nil
	}
	s.failed.Store(true)
	s.m.storageErrors.WithLabelValues(op).Inc()
	s.fail(&StorageError{Op: op, Path: s.path, Remedy: s.remedy(err), Err: err})
	return err
}

// remedy is what to do about err.
func (s *guardedStore) remedy(err error) string {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "free some space or make the file system larger, then start the node again"
	case errors.Is(err, syscall.EIO), errors.Is(err, syscall.EROFS):
		return "the disk or its file system is broken; replace it, then start the node again, with an empty data directory if that is lost"
	case s.lost.Load():
		return remedy(s.dir)
	default:
		return "start the node again; it looks through its files and says more if they are damaged"
	}
}

// unwind ends the calling goroutine, running its deferred calls, when err is
// not nil. It is for the calls whose failure the library answers with a panic:
// the goroutine is the library's own and must not go on, but the process has to
// live long enough to say what happened. Open turns the same panic into an error
// while the calling goroutine is still ours; see started.
func (s *guardedStore) unwind(err error) error {
	if err != nil && s.started.Load() {
		runtime.Goexit()
	}
	return err
}

// stalled gives how long the write in progress has taken.
func (s *guardedStore) stalled() time.Duration {
	since := s.writeSince.Load()
	if since == 0 {
		return 0
	}
	return time.Since(s.base) - time.Duration(since)
}

// attempt runs one operation of the store below. That answers a damaged file
// with a panic, or with a fault where the file is shorter than it was: both are
// errors here. What it had locked stays locked, so nothing else may be asked of
// it, and closing it could wait forever; see lost.
func (s *guardedStore) attempt(do func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			s.failed.Store(true)
			s.lost.Store(true)
			err = fmt.Errorf("the file is damaged: %v", p)
		}
	}()
	return do()
}
