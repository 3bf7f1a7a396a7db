package raftstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// The log's file is looked through before anything is done with it. The library
// below answers damage with panics, in goroutines of its own too, and damage
// that it does not meet is met later, by a leader that has nobody to send a
// snapshot to. What is found out on the way also tells whether the file should
// be made smaller: it never shrinks by itself.

// The buckets of the log's file.
var (
	bucketLogs = []byte("logs")
	bucketConf = []byte("conf")
)

// compactSuffix marks a copy that was not finished.
const compactSuffix = ".compacting"

// CorruptError says that a file in the data directory is damaged, and what to do.
type CorruptError struct {
	// Path is the file or directory.
	Path string
	// Problem is what is wrong with it.
	Problem string
	// Remedy is what to do.
	Remedy string
	cause  error
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("raftstore: %s is damaged: %s; %s", e.Path, e.Problem, e.Remedy)
}

// Unwrap gives the error of whoever found the damage, if there was one.
func (e *CorruptError) Unwrap() error { return e.cause }

func corruptFile(dir, path string, cause error, format string, args ...any) *CorruptError {
	return &CorruptError{Path: path, Problem: fmt.Sprintf(format, args...), Remedy: remedy(dir), cause: cause}
}

// remedy is what to do about a server whose state cannot be used.
func remedy(dir string) string {
	return fmt.Sprintf("keep a copy of %s; if a majority of the other servers is up, empty it and start the node again, which comes back as a new server with their state; "+
		"otherwise put the file back, or recover the cluster offline from the server whose log reaches furthest, or from a snapshot that was saved", dir)
}

// logSummary is what the log's file holds.
type logSummary struct {
	exists bool
	// first and last are the indexes of entries, 0 when there are none.
	first, last uint64
	entries     int
	// gaps are ranges of indexes, both included, that are missing in between.
	gaps [][2]uint64
	// bytes is the file's size, used what of it is in use.
	bytes, used int64
}

// holds reports whether all entries from after+1 to to are there.
func (s *logSummary) holds(after, to uint64) bool {
	if to <= after {
		return true
	}
	if s.entries == 0 || s.first > after+1 || s.last < to {
		return false
	}
	for _, g := range s.gaps {
		if g[0] <= to && g[1] > after {
			return false
		}
	}
	return true
}

// CheckLogFile looks through the log's file of a data directory whose node does
// not run, and changes nothing. The error matches *CorruptError when the file is
// damaged, ErrLocked when a node runs.
func CheckLogFile(dir string) error {
	_, err := readLogFile(dir, filepath.Join(dir, raftDir, logFile))
	return err
}

func boltOptions() *bbolt.Options {
	return &bbolt.Options{
		Timeout: 5 * time.Second, FreelistType: bbolt.FreelistMapType,
		// Written with each commit, the list of free pages makes every write pay for
		// the largest the log has ever been.
		NoFreelistSync: true,
	}
}

// readLogFile looks through the log's file. Its error is a *CorruptError when
// the file is damaged. A file that does not exist, or is empty, is a new one.
func readLogFile(dir, path string) (s *logSummary, err error) {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && info.Size() == 0 {
		return &logSummary{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("raftstore: the log %s cannot be read: %w", path, err)
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			s, err = nil, corruptFile(dir, path, nil, "reading it fails: %v", p)
		}
	}()
	opts := boltOptions()
	opts.ReadOnly = true
	db, err := bbolt.Open(path, 0o600, opts)
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("%w: %s", ErrLocked, path)
	case errors.Is(err, os.ErrPermission):
		return nil, fmt.Errorf("raftstore: the log %s cannot be read: %w", path, err)
	case err != nil:
		return nil, corruptFile(dir, path, err, "it cannot be opened: %v", err)
	}
	s = &logSummary{exists: true, bytes: info.Size()}
	err = db.View(func(tx *bbolt.Tx) error {
		if tx.Size() > info.Size() {
			return fmt.Errorf("it is cut off: it has %d bytes of %d", info.Size(), tx.Size())
		}
		// First in this goroutine, where a fault does no harm.
		if err := s.walk(tx); err != nil {
			return err
		}
		for err := range tx.Check() {
			return err
		}
		s.used = tx.Size() - int64(db.Stats().FreePageN)*int64(db.Info().PageSize)
		return nil
	})
	if err != nil {
		_ = db.Close() // only read
		return nil, corruptFile(dir, path, err, "%v", err)
	}
	if err := db.Close(); err != nil {
		return nil, fmt.Errorf("raftstore: the log %s: %w", path, err)
	}
	if err := s.decode(path); err != nil {
		return nil, corruptFile(dir, path, err, "%v", err)
	}
	return s, nil
}

// walk reads everything there is.
func (s *logSummary) walk(tx *bbolt.Tx) error {
	if b := tx.Bucket(bucketConf); b != nil {
		if err := b.ForEach(func(_, _ []byte) error { return nil }); err != nil {
			return err
		}
	}
	b := tx.Bucket(bucketLogs)
	if b == nil {
		return nil
	}
	return b.ForEach(func(k, _ []byte) error {
		if len(k) != 8 {
			return fmt.Errorf("an entry has the key %x", k)
		}
		index := binary.BigEndian.Uint64(k)
		if s.entries == 0 {
			s.first = index
		} else if index != s.last+1 {
			s.gaps = append(s.gaps, [2]uint64{s.last + 1, index - 1})
		}
		s.last = index
		s.entries++
		return nil
	})
}

// decode decodes all entries, as the library will.
func (s *logSummary) decode(path string) error {
	opts := boltOptions()
	opts.ReadOnly = true
	store, err := raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: opts})
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }() // only read
	gaps := s.gaps
	for i := s.first; i <= s.last && s.entries > 0; i++ {
		if len(gaps) > 0 && i == gaps[0][0] {
			i, gaps = gaps[0][1], gaps[1:]
			continue
		}
		if err := checkEntry(store, i); err != nil {
			return fmt.Errorf("entry %d cannot be used: %w", i, err)
		}
	}
	return nil
}

func checkEntry(store *raftboltdb.BoltStore, index uint64) error {
	var l raft.Log
	if err := store.GetLog(index, &l); err != nil {
		return err
	}
	if l.Index != index {
		return fmt.Errorf("it says that it is entry %d", l.Index)
	}
	if l.Type == raft.LogConfiguration {
		_, err := decodeConfiguration(l.Data)
		return err
	}
	return nil
}

// Compaction says when the log's file is copied to a smaller one, which is only
// at a start.
type Compaction struct {
	// MinBytes is the size below which a file stays as it is. Default 64 MiB;
	// negative: no file is ever compacted.
	MinBytes int64
	// FreePercent is the part of the file that must be unused. Default 50.
	FreePercent int64
}

func (c Compaction) withDefaults() Compaction {
	if c.MinBytes == 0 {
		c.MinBytes = 64 << 20
	}
	if c.FreePercent == 0 {
		c.FreePercent = 50
	}
	return c
}

// Validate reports a part of a file that it cannot have.
func (c Compaction) Validate() error {
	if p := c.withDefaults().FreePercent; p < 1 || p > 99 {
		return fmt.Errorf("raftstore: %d %% of the log's file are asked to be unused before it is compacted, 1 to 99 can be", p)
	}
	return nil
}

func (c Compaction) wanted(s *logSummary) bool {
	return s.exists && c.MinBytes > 0 && s.bytes >= c.MinBytes && s.bytes-s.used > s.bytes/100*c.FreePercent
}

// compactLogFile copies the log's file, whose content is s, to a smaller one and
// puts that in its place. Whenever it is interrupted, the file is the old or the
// new one, complete; the copy that was not finished is removed at the next start.
// at is called before each step.
func compactLogFile(path string, s *logSummary, log hclog.Logger, at func(step string) error) error {
	began := time.Now()
	tmp := path + compactSuffix
	if err := copyLogFile(tmp, path, at); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	copied, err := readLogFile(filepath.Dir(path), tmp)
	if err == nil && (copied.entries != s.entries || copied.first != s.first || copied.last != s.last) {
		err = fmt.Errorf("the copy holds %d entries from %d to %d instead of %d from %d to %d",
			copied.entries, copied.first, copied.last, s.entries, s.first, s.last)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	if err := at("rename"); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	if err := at("sync directory"); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return err
	}
	log.Info("the log's file was compacted", "path", path, "bytes_before", s.bytes, "bytes_after", copied.bytes, "took", time.Since(began))
	return nil
}

func copyLogFile(to, from string, at func(step string) error) (err error) {
	if err := at("copy"); err != nil {
		return err
	}
	opts := boltOptions()
	opts.ReadOnly = true
	src, err := bbolt.Open(from, 0o600, opts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	opts = boltOptions()
	opts.NoSync = true
	dst, err := bbolt.Open(to, 0o600, opts)
	if err != nil {
		return err
	}
	if err = bbolt.Compact(dst, src, 16<<20); err == nil {
		if err = at("sync"); err == nil {
			err = dst.Sync()
		}
	}
	return errors.Join(err, dst.Close())
}

// prepareLogFile checks the log's file and compacts it when that is worth it.
func prepareLogFile(dir, path string, c Compaction, log hclog.Logger, at func(step string) error) (*logSummary, error) {
	if err := os.Remove(path + compactSuffix); err == nil {
		log.Info("a copy of the log's file that was not finished is removed", "path", path+compactSuffix)
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("raftstore: the data directory %s is not writable: %w", dir, err)
	}
	s, err := readLogFile(dir, path)
	if err != nil || !c.wanted(s) {
		return s, err
	}
	if at == nil {
		at = func(string) error { return nil }
	}
	if err := compactLogFile(path, s, log, at); err != nil {
		if errors.Is(err, errKilled) {
			return nil, err
		}
		// The old file is as good as it was.
		log.Warn("the log's file was not compacted", "path", path, "bytes", s.bytes, "used", s.used, "error", err)
	}
	return s, nil
}

// errKilled is what tests let a step fail with to end the start there.
var errKilled = errors.New("killed")
