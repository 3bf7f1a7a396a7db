package raftstore

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
)

// interruptedStore is a log whose removals are counted, and fail after some.
type interruptedStore struct {
	logStore
	removals, allowed int
	// between runs after each removal.
	between func()
}

var errInterrupted = errors.New("the disk is gone")

func (s *interruptedStore) DeleteRange(first, last uint64) error {
	if s.removals == s.allowed {
		return errInterrupted
	}
	s.removals++
	err := s.logStore.DeleteRange(first, last)
	if s.between != nil {
		s.between()
	}
	return err
}

// openFilled opens a log on disk with so many entries.
func openFilled(t testing.TB, entries uint64) logStore {
	t.Helper()
	store, err := openBolt(filepath.Join(t.TempDir(), "log.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	var logs []*raft.Log
	for i := range entries {
		logs = append(logs, entry(i+1))
	}
	if err := store.StoreLogs(logs); err != nil {
		t.Fatal(err)
	}
	return store
}

func entry(index uint64) *raft.Log {
	return &raft.Log{Index: index, Term: 1, Data: make([]byte, 1000)}
}

func guardOf(t testing.TB, next logStore) *guardedStore {
	t.Helper()
	m, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return &guardedStore{next: next, fail: func(error) {}, m: m, base: time.Now()}
}

// checkContiguous fails unless the log has exactly the entries from first to last.
func checkContiguous(t *testing.T, s logStore, first, last uint64) {
	t.Helper()
	haveFirst, err1 := s.FirstIndex()
	haveLast, err2 := s.LastIndex()
	if err := errors.Join(err1, err2); err != nil || haveFirst != first || haveLast != last {
		t.Fatalf("the log is from %d to %d, %v, want %d to %d", haveFirst, haveLast, err, first, last)
	}
	for i := first; i <= last; i++ {
		var log raft.Log
		if err := s.GetLog(i, &log); err != nil || log.Index != i {
			t.Fatalf("entry %d of %d to %d: %v", i, first, last, err)
		}
	}
}

// However far the removal of old entries comes, the log has no gap, and entries can
// be written after every piece of it.
func TestCompactionInPieces(t *testing.T) {
	const entries, removed = 4*compactPiece + 100, 3*compactPiece + 7
	for allowed := range 5 {
		t.Run(fmt.Sprint(allowed), func(t *testing.T) {
			last := uint64(entries)
			store := &interruptedStore{logStore: openFilled(t, entries), allowed: allowed}
			g := guardOf(t, store)
			store.between = func() {
				last++
				if err := g.StoreLog(entry(last)); err != nil {
					t.Error(err)
				}
			}
			err := g.DeleteRange(1, removed)
			first := uint64(allowed*compactPiece) + 1
			if allowed == 4 {
				first = removed + 1
			}
			if (allowed == 4) != (err == nil) || err != nil && !errors.Is(err, errInterrupted) {
				t.Errorf("after %d pieces: %v", allowed, err)
			}
			checkContiguous(t, store.logStore, first, last)
		})
	}
}

// What a follower has to forget goes at once: half of it must not stay.
func TestTruncationIsOneStep(t *testing.T) {
	const entries = 3 * compactPiece
	for name, first := range map[string]uint64{"the end": compactPiece / 2, "everything": 1} {
		t.Run(name, func(t *testing.T) {
			store := &interruptedStore{logStore: openFilled(t, entries), allowed: 1}
			if err := guardOf(t, store).DeleteRange(first, entries); err != nil {
				t.Fatal(err)
			}
			if last, err := store.LastIndex(); err != nil || last != first-1 {
				t.Errorf("the last entry is %d, %v", last, err)
			}
		})
	}
}

// BenchmarkAppendDuringCompaction writes entries while 8192 old ones are removed,
// and reports the median of the longest write of each run; whole removes them in one transaction.
func BenchmarkAppendDuringCompaction(b *testing.B) {
	const removed, kept = 8192, 1024
	for _, how := range []string{"pieces", "whole"} {
		b.Run(how, func(b *testing.B) {
			var waits, compactions []time.Duration
			for b.Loop() {
				var longest time.Duration
				b.StopTimer()
				store := openFilled(b, removed+kept)
				g := guardOf(b, store)
				remove := g.DeleteRange
				if how == "whole" {
					remove = store.DeleteRange
				}
				var done atomic.Bool
				began := time.Now()
				finished := make(chan error, 1)
				b.StartTimer()
				go func() {
					err := remove(1, removed)
					done.Store(true)
					finished <- err
				}()
				for next := uint64(removed + kept + 1); !done.Load(); next++ {
					at := time.Now()
					if err := g.StoreLog(entry(next)); err != nil {
						b.Fatal(err)
					}
					longest = max(longest, time.Since(at))
				}
				if err := <-finished; err != nil {
					b.Fatal(err)
				}
				waits, compactions = append(waits, longest), append(compactions, time.Since(began))
			}
			slices.Sort(waits)
			slices.Sort(compactions)
			b.ReportMetric(float64(waits[len(waits)/2].Microseconds())/1000, "ms/longest-append")
			b.ReportMetric(float64(compactions[len(compactions)/2].Microseconds())/1000, "ms/compaction")
		})
	}
}
