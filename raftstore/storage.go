package raftstore

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// logStore is what a node keeps its log and its vote in.
type logStore interface {
	raft.LogStore
	raft.StableStore
}

// openBolt opens the log file. The free list is a map that is rebuilt when the
// file is opened: written with each commit it makes every write pay for the
// largest the log has ever been.
func openBolt(path string) (*raftboltdb.BoltStore, error) {
	store, err := raftboltdb.New(raftboltdb.Options{
		Path: path,
		BoltOptions: &bbolt.Options{
			Timeout:        5 * time.Second,
			FreelistType:   bbolt.FreelistMapType,
			NoFreelistSync: true,
		},
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

// guardedStore watches the disk below Raft. The library survives some failed
// writes with a wrong idea of its own log and panics on others, and a leader
// whose disk hangs keeps its followers quiet forever. Therefore the first
// failure and the first stall end the node.
type guardedStore struct {
	next logStore
	// fail ends the node; it is safe to call from any goroutine and repeatedly.
	fail func(error)
	now  func() time.Time
	m    *metrics

	// writeSince is when the write in progress began, in Unix nanoseconds; 0
	// when there is none. Raft writes from its main loop and, when it removes
	// old entries, from its snapshot loop: the latter is not watched.
	writeSince atomic.Int64
	failed     atomic.Bool
	// started is set once Raft runs on goroutines of its own.
	started atomic.Bool
}

func (s *guardedStore) FirstIndex() (uint64, error) {
	i, err := s.next.FirstIndex()
	return i, s.check("FirstIndex", err)
}

func (s *guardedStore) LastIndex() (uint64, error) {
	i, err := s.next.LastIndex()
	return i, s.check("LastIndex", err)
}

func (s *guardedStore) GetLog(index uint64, log *raft.Log) error {
	err := s.next.GetLog(index, log)
	if err == nil || errors.Is(err, raft.ErrLogNotFound) {
		return err
	}
	return s.unwind(s.check("GetLog", err))
}

func (s *guardedStore) StoreLog(log *raft.Log) error { return s.StoreLogs([]*raft.Log{log}) }

func (s *guardedStore) StoreLogs(logs []*raft.Log) error {
	return s.write("StoreLogs", func() error { return s.next.StoreLogs(logs) })
}

func (s *guardedStore) DeleteRange(first, last uint64) error {
	if s.failed.Load() {
		return errStorageGone
	}
	return s.check("DeleteRange", s.next.DeleteRange(first, last))
}

func (s *guardedStore) Set(key, val []byte) error {
	return s.write("Set", func() error { return s.next.Set(key, val) })
}

func (s *guardedStore) Get(key []byte) ([]byte, error) { return s.next.Get(key) }

// SetUint64 keeps the term. The library panics when that fails.
func (s *guardedStore) SetUint64(key []byte, val uint64) error {
	return s.unwind(s.write("SetUint64", func() error { return s.next.SetUint64(key, val) }))
}

func (s *guardedStore) GetUint64(key []byte) (uint64, error) { return s.next.GetUint64(key) }

var errStorageGone = errors.New("storage failed before")

func (s *guardedStore) write(op string, do func() error) error {
	if s.failed.Load() {
		return errStorageGone
	}
	began := s.now()
	s.writeSince.Store(began.UnixNano())
	err := do()
	s.writeSince.Store(0)
	s.m.storageWrite.WithLabelValues(op).Observe(s.now().Sub(began).Seconds())
	return s.check(op, err)
}

func (s *guardedStore) check(op string, err error) error {
	if err == nil {
		return nil
	}
	s.failed.Store(true)
	s.m.storageErrors.WithLabelValues(op).Inc()
	s.fail(&StorageError{Op: op, Err: err})
	return err
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
	return s.now().Sub(time.Unix(0, since))
}
