package raftstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"oaas.io/control-plane/fsm"
)

// Offline is the data directory of a node that does not run. It is locked until
// Close, so no node can start on it.
type Offline struct {
	dir       *dataDir
	store     *raftboltdb.BoltStore
	snapshots *syncedSnapshots
	serverID  string
	log       hclog.Logger
}

// OpenOffline opens an existing data directory. The error matches ErrLocked when
// a node runs on it.
func OpenOffline(path string, log hclog.Logger) (*Offline, error) {
	if _, err := os.Stat(filepath.Join(path, raftDir, logFile)); err != nil {
		return nil, fmt.Errorf("raftstore: %s is no data directory of a node: %w", path, err)
	}
	return openOffline(path, log)
}

// CreateOffline makes a data directory of a new server in an empty or missing
// directory.
func CreateOffline(path string, log hclog.Logger) (*Offline, error) {
	if err := CheckVacant(path); err != nil {
		return nil, err
	}
	return openOffline(path, log)
}

// CheckVacant refuses a directory that is there and has something in it.
func CheckVacant(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("raftstore: %w", err)
	}
	if len(entries) > 0 {
		return fmt.Errorf("raftstore: %s is not empty", path)
	}
	return nil
}

func openOffline(path string, log hclog.Logger) (*Offline, error) {
	if log == nil {
		log = hclog.NewNullLogger()
	}
	o := &Offline{log: log}
	if err := o.open(path); err != nil {
		return nil, errors.Join(err, o.Close())
	}
	return o, nil
}

func (o *Offline) open(path string) (err error) {
	if o.dir, err = openDataDir(path); err != nil {
		return err
	}
	if o.store, err = openBolt(o.dir.logPath()); err != nil {
		return err
	}
	if o.serverID, err = o.dir.identify(o.store, o.log); err != nil {
		return err
	}
	o.snapshots, err = openSnapshots(o.dir, o.log)
	return err
}

// ServerID gives the identity of the directory's server.
func (o *Offline) ServerID() string { return o.serverID }

// Close releases the directory.
func (o *Offline) Close() error {
	var errs []error
	if o.store != nil {
		errs = append(errs, o.store.Close())
	}
	if o.dir != nil {
		errs = append(errs, o.dir.close())
	}
	return errors.Join(errs...)
}

// Mark has the node raise the epoch when it leads for the first time. It comes
// before the log is changed: a mark without a recovery costs an epoch, a
// recovery without a mark costs the order of what clusters are told.
func (o *Offline) Mark(r Recovery) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return writeDurably(filepath.Join(o.dir.path, recoveryFile), append(text, '\n'))
}

// Recover makes servers the cluster's only ones. Every entry in this log counts
// as committed from then on, also those that never reached a quorum; entries that
// only lost servers had are gone. The log goes on after a leap of RecoveryLeap.
func (o *Offline) Recover(servers []raft.Server) error {
	state, err := fsm.NewState()
	if err != nil {
		return err
	}
	c := raft.DefaultConfig()
	c.LocalID, c.Logger = raft.ServerID(o.serverID), o.log
	_, trans := raft.NewInmemTransport("")
	replayed := &offlineState{state: state}
	err = raft.RecoverCluster(c, replayed, o.store, o.store, leaping{o.snapshots}, trans, raft.Configuration{Servers: servers})
	if replayed.tooOld != nil { // of which the library keeps the text only
		return fmt.Errorf("raftstore: recovering %s: %w", o.dir.path, replayed.tooOld)
	}
	if err != nil {
		return fmt.Errorf("raftstore: recovering %s: %w", o.dir.path, err)
	}
	return nil
}

// leaping moves the snapshot that a recovery ends with, and so the log that begins
// after it, in the one step that makes the recovery take effect. Servers that are
// recovered together leap equally far, so that two logs that differed before do
// not come to the same index.
type leaping struct{ raft.SnapshotStore }

func (l leaping) Create(version raft.SnapshotVersion, index, term uint64, c raft.Configuration, at uint64, trans raft.Transport) (raft.SnapshotSink, error) {
	return l.SnapshotStore.Create(version, index+RecoveryLeap, term, c, at, trans)
}

// Seed makes a snapshot of a lost cluster the beginning of this directory's log,
// with servers as the cluster. The log goes on at index, which is at or above the
// snapshot's own, so that the numbers of what came after the snapshot are not
// given out again.
func (o *Offline) Seed(snapshot io.Reader, info *fsm.SnapshotInfo, index uint64, servers []raft.Server) (err error) {
	_, trans := raft.NewInmemTransport("")
	term := max(info.Term, 1)
	sink, err := o.snapshots.Create(raft.SnapshotVersionMax, index, term, raft.Configuration{Servers: servers}, 1, trans)
	if err != nil {
		return fmt.Errorf("raftstore: %w", err)
	}
	if _, err := io.Copy(sink, snapshot); err != nil {
		return errors.Join(fmt.Errorf("raftstore: copying the snapshot: %w", err), sink.Cancel())
	}
	if err := sink.Close(); err != nil {
		return fmt.Errorf("raftstore: %w", err)
	}
	if err := o.store.SetUint64([]byte("CurrentTerm"), term); err != nil {
		return fmt.Errorf("raftstore: %w", err)
	}
	return o.dir.noteCluster(info.ClusterID)
}

// offlineState lets the library replay a log without a node.
type offlineState struct {
	state *fsm.State
	// tooOld is set when the log has what this program does not know. Then nothing is
	// changed: what it made of the log would not be what the cluster had.
	tooOld error
}

func (s *offlineState) Apply(l *raft.Log) any {
	res := s.state.Apply(l.Index, l.Term, l.Data)
	if errors.Is(res.Err, fsm.ErrUnknownCommand) && s.tooOld == nil {
		s.tooOld = fmt.Errorf("%w: entry %d of the log: %w; use the newer program", ErrTooOld, l.Index, res.Err)
	}
	return res
}

func (s *offlineState) Snapshot() (raft.FSMSnapshot, error) {
	if s.tooOld != nil {
		return nil, s.tooOld
	}
	return &offlineSnapshot{s.state.Snapshot()}, nil
}

func (s *offlineState) Restore(r io.ReadCloser) error { return s.state.Restore(r) }

type offlineSnapshot struct{ view *fsm.Snapshot }

func (s *offlineSnapshot) Persist(sink raft.SnapshotSink) error {
	if err := s.view.Write(sink); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

func (s *offlineSnapshot) Release() {}
