package raftstore

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

const (
	snapshotDir = "snapshots"
	// damagedDir keeps snapshots that could not be read, for analysis.
	damagedDir = "damaged-snapshots"
	// tmpSnapshot is how the library marks those that it has not finished.
	tmpSnapshot = ".tmp"
)

// syncedSnapshots sees to it that a snapshot which the log was cut off for is there
// after a power cut. The library syncs the files of a snapshot and the name of its
// directory, but neither the names of the files nor that of the directory of all
// snapshots, and a file without a name is lost however well it is synced.
type syncedSnapshots struct {
	*raft.FileSnapshotStore
	root string
}

func openSnapshots(d *dataDir, log hclog.Logger) (*syncedSnapshots, error) {
	store, err := raft.NewFileSnapshotStoreWithLogger(d.raftPath(), retainSnapshots, log)
	if err == nil {
		err = syncDir(d.raftPath())
	}
	if err != nil {
		return nil, fmt.Errorf("raftstore: the snapshot directory is not usable: %w", err)
	}
	return &syncedSnapshots{FileSnapshotStore: store, root: filepath.Join(d.raftPath(), snapshotDir)}, nil
}

// Create begins a snapshot; the library makes all its files at once.
func (s *syncedSnapshots) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, ci uint64, t raft.Transport) (raft.SnapshotSink, error) {
	sink, err := s.FileSnapshotStore.Create(v, index, term, c, ci, t)
	if err != nil {
		return nil, err
	}
	if err := syncDir(filepath.Join(s.root, sink.ID()+tmpSnapshot)); err != nil {
		return nil, errors.Join(fmt.Errorf("raftstore: a new snapshot: %w", err), sink.Cancel())
	}
	return sink, nil
}

// prepareSnapshots looks whether the newest snapshot can be read. The library
// would fall back to an older one without asking whether the log reaches from
// there to where the newest one ended; a server that has forgotten entries which
// it had confirmed could elect a leader that does not have them. So a damaged
// snapshot is set aside when the log makes up for it, and ends the start with a
// *CorruptError otherwise.
func prepareSnapshots(dir string, store *raft.FileSnapshotStore, s *logSummary, log hclog.Logger) error {
	root := filepath.Join(dir, raftDir, snapshotDir)
	ids, err := listSnapshots(root, log)
	if err != nil {
		return fmt.Errorf("raftstore: the snapshots in %s cannot be listed: %w", root, err)
	}
	var bad []string
	var newest, good uint64
	for _, name := range ids {
		id, _ := parseSnapshotID(name)
		newest = max(newest, id.index)
		err := readSnapshot(store, name)
		if err == nil {
			good = id.index
			break
		}
		bad = append(bad, name)
		log.Error("a snapshot is damaged", "path", filepath.Join(root, name), "error", err)
	}
	if len(bad) == 0 {
		if !s.holds(good, max(good, s.last)) {
			return corruptFile(dir, filepath.Join(dir, raftDir, logFile), nil,
				"it holds entries %d to %d with gaps %v, the newest snapshot ends at %d", s.first, s.last, s.gaps, good)
		}
		return nil
	}
	path := filepath.Join(root, bad[0])
	if !s.holds(good, max(newest, s.last)) {
		return corruptFile(dir, path, nil, "the snapshot cannot be read, and the log, which holds entries %d to %d, does not make up for it: the next older snapshot ends at %d",
			s.first, s.last, good)
	}
	for _, name := range bad {
		if err := setAside(filepath.Join(root, name), filepath.Join(dir, raftDir, damagedDir)); err != nil {
			return fmt.Errorf("raftstore: the damaged snapshot %s cannot be set aside: %w", path, err)
		}
		log.Warn("a damaged snapshot was set aside, the log makes up for it", "snapshot", name, "to", filepath.Join(dir, raftDir, damagedDir))
	}
	return syncDir(root)
}

// listSnapshots gives the names of finished snapshots, the newest first, and
// removes what a crash left of others.
func listSnapshots(root string, log hclog.Logger) ([]string, error) {
	found, err := os.ReadDir(root)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, f := range found {
		name := f.Name()
		if _, ok := parseSnapshotID(strings.TrimSuffix(name, tmpSnapshot)); !ok || !f.IsDir() {
			continue
		}
		if strings.HasSuffix(name, tmpSnapshot) {
			log.Info("a snapshot that was not finished is removed", "name", name)
			if err := os.RemoveAll(filepath.Join(root, name)); err != nil {
				return nil, err
			}
			continue
		}
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		x, _ := parseSnapshotID(a)
		y, _ := parseSnapshotID(b)
		return -cmp.Or(cmp.Compare(x.term, y.term), cmp.Compare(x.index, y.index), x.time.Compare(y.time))
	})
	return names, nil
}

// readSnapshot opens a snapshot, which compares its checksum.
func readSnapshot(store *raft.FileSnapshotStore, name string) error {
	_, r, err := store.Open(name)
	if err != nil {
		return err
	}
	return r.Close()
}

// verifySnapshots reads each snapshot back that was written, while the log that
// it replaces is still there, until the node stops.
func (n *Node) verifySnapshots() {
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-n.fsm.written:
			n.verifyNewest()
		}
	}
}

func (n *Node) verifyNewest() {
	list, err := n.snapshots.List()
	if err != nil || len(list) == 0 {
		return
	}
	_, r, err := n.snapshots.Open(list[0].ID) // compares the checksum
	if err == nil {
		err = r.Close()
	}
	n.m.snapshotBad.Set(boolFloat(err != nil))
	if err != nil {
		n.log.Error("the newest snapshot cannot be read back; look after the disk, and take another one", "id", list[0].ID, "error", err)
	}
}

// setAside moves path into the directory to, which keeps nothing else.
func setAside(path, to string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	return os.Rename(path, filepath.Join(to, filepath.Base(path)))
}
