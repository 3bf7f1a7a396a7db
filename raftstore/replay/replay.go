package replay

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/raftstore"
)

// ErrInUse says that a process has the data directory open.
var ErrInUse = errors.New("replay: the data directory is in use; stop the node, or copy the directory first")

// lockTimeout bounds the wait for a process that has the log open.
const lockTimeout = 2 * time.Second

// Options say what to replay.
type Options struct {
	// DataDir is a node's data directory.
	DataDir string
	// Until is the last index to apply; 0 is all that there is.
	Until uint64
}

// Result is what a replay came to.
type Result struct {
	ServerID  string
	ClusterID string
	// SnapshotIndex is that of the snapshot that the replay began with; 0: none.
	SnapshotIndex uint64
	// FirstIndex and LastIndex are what the log holds, 0 when it is empty.
	FirstIndex, LastIndex uint64
	// Commands were applied; of these Refused had no effect, as their own
	// conditions were not met.
	Commands, Refused int
	// Damaged are snapshots that could not be read and were passed over.
	Damaged []string
	State   *fsm.State
}

// Run replays a data directory.
func Run(ctx context.Context, o Options) (*Result, error) {
	if o.Until == 0 {
		o.Until = math.MaxUint64
	}
	res := &Result{ServerID: readID(o.DataDir, "server-id"), ClusterID: readID(o.DataDir, "cluster-id")}
	logs, err := openLog(o.DataDir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = logs.Close() }() // only read
	if err := res.loadSnapshot(filepath.Join(o.DataDir, "raft", "snapshots"), o.Until); err != nil {
		return nil, err
	}
	if err := res.apply(ctx, logs, o.Until); err != nil {
		return nil, err
	}
	if res.ClusterID == "" {
		// A node notes it in a file a moment after the log has it.
		res.ClusterID = res.State.Snapshot().Meta().GetClusterId()
	}
	return res, nil
}

func readID(dir, name string) string {
	raw, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return "" // a node that never got so far
	}
	return strings.TrimSpace(string(raw))
}

func openLog(dir string) (*raftboltdb.BoltStore, error) {
	path := filepath.Join(dir, "raft", "log.db")
	// A missing file would be created, even for reading.
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("replay: this is no data directory of a node: %w", err)
	}
	// The library answers damage with panics, or does not see it.
	if err := raftstore.CheckLogFile(dir); errors.Is(err, raftstore.ErrLocked) {
		return nil, fmt.Errorf("%w (%s)", ErrInUse, path)
	} else if err != nil {
		return nil, err
	}
	store, err := raftboltdb.New(raftboltdb.Options{
		Path: path, BoltOptions: &bbolt.Options{ReadOnly: true, Timeout: lockTimeout}, MsgpackUseNewTimeFormat: true,
	})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("%w (%s)", ErrInUse, path)
	case err != nil:
		return nil, fmt.Errorf("replay: the log cannot be opened: %w", err)
	}
	return store, nil
}

// loadSnapshot begins with the newest usable snapshot, or with an empty state.
func (res *Result) loadSnapshot(dir string, until uint64) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("replay: %w", err)
	}
	var found []raft.SnapshotMeta
	for _, e := range entries {
		if !e.IsDir() || strings.HasSuffix(e.Name(), ".tmp") {
			continue
		}
		var meta raft.SnapshotMeta
		raw, err := os.ReadFile(filepath.Join(dir, e.Name(), "meta.json"))
		if err == nil {
			err = json.Unmarshal(raw, &meta)
		}
		if meta.ID = e.Name(); err != nil {
			res.Damaged = append(res.Damaged, fmt.Sprintf("%s: %v", e.Name(), err))
		} else if meta.Index <= until {
			found = append(found, meta)
		}
	}
	slices.SortFunc(found, func(a, b raft.SnapshotMeta) int { return cmp.Compare(b.Index, a.Index) })
	for _, meta := range found {
		state, err := readState(filepath.Join(dir, meta.ID, "state.bin"))
		if err == nil {
			res.State, res.SnapshotIndex = state, meta.Index
			return nil
		}
		res.Damaged = append(res.Damaged, fmt.Sprintf("%s: %v", meta.ID, err))
	}
	res.State, err = fsm.NewState()
	return err
}

func readState(path string) (*fsm.State, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	return fsm.ReadSnapshot(f)
}

// apply applies what the log has after the snapshot.
func (res *Result) apply(ctx context.Context, logs raft.LogStore, until uint64) error {
	var err error
	if res.FirstIndex, err = logs.FirstIndex(); err == nil {
		res.LastIndex, err = logs.LastIndex()
	}
	if err != nil {
		return fmt.Errorf("replay: the log cannot be read: %w", err)
	}
	next, end := res.SnapshotIndex+1, min(until, res.LastIndex)
	if next <= end && res.FirstIndex > next {
		err := fmt.Errorf("replay: the log begins at index %d, the snapshot ends at %d: what is between them is missing", res.FirstIndex, res.SnapshotIndex)
		if len(res.Damaged) > 0 {
			err = fmt.Errorf("%w; damaged snapshots: %s", err, strings.Join(res.Damaged, "; "))
		}
		return err
	}
	for ; next <= end; next++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		var entry raft.Log
		if err := logs.GetLog(next, &entry); err != nil {
			return fmt.Errorf("replay: entry %d cannot be read: %w", next, err)
		}
		if entry.Type != raft.LogCommand {
			continue
		}
		res.Commands++
		if out := res.State.Apply(entry.Index, entry.Term, entry.Data); out.Err != nil {
			res.Refused++
		}
	}
	return nil
}
