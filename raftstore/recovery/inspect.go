package recovery

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/raftstore"
	"oaas.io/control-plane/raftstore/replay"
)

const (
	raftDir = "raft"
	logFile = "log.db"
	// tailEntries is how many of the last entries a report shows.
	tailEntries = 10
	// lockTimeout bounds the wait for a process that has the log open.
	lockTimeout = 2 * time.Second
)

// Report is what the data directory of a stopped node holds.
type Report struct {
	DataDir   string `json:"data_dir"`
	ServerID  string `json:"server_id"`
	ClusterID string `json:"cluster_id"`
	// Term is the latest that the server has seen. VotedFor is the address that
	// got its vote in VotedTerm.
	Term      uint64 `json:"term"`
	VotedTerm uint64 `json:"voted_term"`
	VotedFor  string `json:"voted_for"`
	// FirstIndex and LastIndex are those of the log, 0 when it is empty.
	FirstIndex uint64 `json:"first_index"`
	LastIndex  uint64 `json:"last_index"`
	// EndTerm and EndIndex are where log and snapshots end, whichever is later.
	EndTerm  uint64 `json:"end_term"`
	EndIndex uint64 `json:"end_index"`
	// CommittedAtLeast is known to be committed, because a snapshot holds it. The
	// log does not tell which later entries are.
	CommittedAtLeast uint64     `json:"committed_at_least"`
	Snapshots        []Snapshot `json:"snapshots"`
	// Servers are the latest configuration, noted at ConfigurationIndex.
	Servers            []Server `json:"servers"`
	ConfigurationIndex uint64   `json:"configuration_index"`
	// Applied is the state when all entries are applied.
	Applied State `json:"applied"`
	// Tail are the last entries.
	Tail []Entry `json:"tail"`
	// Pending is a recovery whose epoch was not raised yet.
	Pending *raftstore.Recovery `json:"pending_recovery,omitempty"`
	// Problems are what an operator should know before using the directory.
	Problems []string `json:"problems"`
}

// Snapshot is a snapshot in a data directory.
type Snapshot struct {
	ID    string `json:"id"`
	Index uint64 `json:"index"`
	Term  uint64 `json:"term"`
	Size  int64  `json:"size_bytes"`
}

// Server is one server of a configuration.
type Server struct {
	ID      string `json:"id"`
	Address string `json:"address"`
	Voter   bool   `json:"voter"`
}

// State is what applying everything came to.
type State struct {
	Index        uint64 `json:"index"`
	ChainHash    string `json:"chain_hash"`
	Epoch        uint64 `json:"epoch"`
	FeatureLevel uint32 `json:"feature_level"`
	Packages     int    `json:"packages"`
	Deployments  int    `json:"deployments"`
	Units        int    `json:"units"`
}

// Entry is one entry of the log.
type Entry struct {
	Index      uint64    `json:"index"`
	Term       uint64    `json:"term"`
	AppendedAt time.Time `json:"appended_at"`
	Type       string    `json:"type"`
	// Operation, Principal and RequestID are those of a command.
	Operation string `json:"operation,omitempty"`
	Principal string `json:"principal,omitempty"`
	RequestID string `json:"request_id,omitempty"`
}

// Inspect reads a data directory and changes nothing. The error matches
// replay.ErrInUse when a node runs on it.
func Inspect(ctx context.Context, dir string) (*Report, error) {
	played, err := replay.Run(ctx, replay.Options{DataDir: dir})
	if err != nil {
		return nil, err
	}
	r := &Report{DataDir: dir, ServerID: played.ServerID, ClusterID: played.ClusterID, Problems: []string{}, Tail: []Entry{}, Snapshots: []Snapshot{}}
	for _, damaged := range played.Damaged {
		r.Problems = append(r.Problems, "a snapshot cannot be read: "+damaged)
	}
	r.describe(played.State.Snapshot())
	logs, err := openLog(filepath.Join(dir, raftDir, logFile))
	if err != nil {
		return nil, err
	}
	defer func() { _ = logs.Close() }() // only read
	if err := errors.Join(r.readSnapshots(), r.readLog(logs), r.readVote(logs)); err != nil {
		return nil, err
	}
	r.readMarks()
	return r, nil
}

func openLog(path string) (*raftboltdb.BoltStore, error) {
	store, err := raftboltdb.New(raftboltdb.Options{
		Path: path, BoltOptions: &bbolt.Options{ReadOnly: true, Timeout: lockTimeout}, MsgpackUseNewTimeFormat: true,
	})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("%w (%s)", replay.ErrInUse, path)
	}
	if err != nil {
		return nil, fmt.Errorf("recovery: the log cannot be opened: %w", err)
	}
	return store, nil
}

func (r *Report) describe(s *fsm.Snapshot) {
	meta := s.Meta()
	r.Applied = State{
		Index: meta.GetAppliedIndex(), ChainHash: hex.EncodeToString(meta.GetChainHash()), Epoch: meta.GetEpoch(), FeatureLevel: s.FeatureLevel(),
		Packages: len(s.Packages()), Deployments: len(s.Deployments()), Units: len(s.Units()),
	}
	switch id := meta.GetClusterId(); {
	case r.ClusterID == "":
		r.ClusterID = id
	case id != "" && id != r.ClusterID:
		r.Problems = append(r.Problems, fmt.Sprintf("the state is that of cluster %s, the cluster-id file says %s", id, r.ClusterID))
	}
}

func (r *Report) readSnapshots() error {
	root := filepath.Join(r.DataDir, raftDir, "snapshots")
	entries, err := os.ReadDir(root)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("recovery: %w", err)
	}
	for _, e := range entries {
		var meta raft.SnapshotMeta
		raw, err := os.ReadFile(filepath.Join(root, e.Name(), "meta.json"))
		if err != nil || json.Unmarshal(raw, &meta) != nil || filepath.Ext(e.Name()) == ".tmp" {
			continue // unfinished, or named among the problems
		}
		r.Snapshots = append(r.Snapshots, Snapshot{ID: e.Name(), Index: meta.Index, Term: meta.Term, Size: meta.Size})
		r.CommittedAtLeast = max(r.CommittedAtLeast, meta.Index)
		if meta.Index >= r.EndIndex {
			r.EndIndex, r.EndTerm = meta.Index, meta.Term
		}
		if meta.ConfigurationIndex >= r.ConfigurationIndex {
			r.setServers(meta.Configuration, meta.ConfigurationIndex)
		}
	}
	slices.SortFunc(r.Snapshots, func(a, b Snapshot) int { return cmp.Compare(b.Index, a.Index) })
	return nil
}

func (r *Report) setServers(c raft.Configuration, index uint64) {
	r.Servers, r.ConfigurationIndex = nil, index
	for _, s := range c.Servers {
		r.Servers = append(r.Servers, Server{ID: string(s.ID), Address: string(s.Address), Voter: s.Suffrage == raft.Voter})
	}
}

func (r *Report) readLog(logs raft.LogStore) (err error) {
	if r.FirstIndex, err = logs.FirstIndex(); err == nil {
		r.LastIndex, err = logs.LastIndex()
	}
	if err != nil {
		return fmt.Errorf("recovery: the log cannot be read: %w", err)
	}
	if r.LastIndex == 0 {
		return nil
	}
	for i := r.FirstIndex; i <= r.LastIndex; i++ {
		var l raft.Log
		if err := logs.GetLog(i, &l); err != nil {
			return fmt.Errorf("recovery: entry %d cannot be read: %w", i, err)
		}
		if l.Type == raft.LogConfiguration && i >= r.ConfigurationIndex {
			r.setServers(raft.DecodeConfiguration(l.Data), i)
		}
		if i == r.LastIndex && i >= r.EndIndex {
			r.EndIndex, r.EndTerm = i, l.Term
		}
		if r.LastIndex-i < tailEntries {
			r.Tail = append(r.Tail, describeEntry(&l))
		}
	}
	return nil
}

func describeEntry(l *raft.Log) Entry {
	e := Entry{Index: l.Index, Term: l.Term, AppendedAt: l.AppendedAt, Type: l.Type.String()}
	if l.Type != raft.LogCommand {
		return e
	}
	cmd, err := fsm.DecodeCommand(l.Data)
	if err != nil {
		e.Operation = err.Error()
		return e
	}
	m := cmd.ProtoReflect()
	if fd := m.WhichOneof(m.Descriptor().Oneofs().ByName("op")); fd != nil {
		e.Operation = string(fd.Name())
	}
	e.Principal, e.RequestID = cmd.GetPrincipal(), cmd.GetRequestId()
	return e
}

// readVote reads what the library keeps beside the log.
func (r *Report) readVote(stable raft.StableStore) error {
	number := func(key string) (uint64, error) {
		v, err := stable.GetUint64([]byte(key))
		if errors.Is(err, raftboltdb.ErrKeyNotFound) {
			return 0, nil
		}
		return v, err
	}
	var err error
	if r.Term, err = number("CurrentTerm"); err != nil {
		return fmt.Errorf("recovery: the term cannot be read: %w", err)
	}
	if r.VotedTerm, err = number("LastVoteTerm"); err != nil {
		return fmt.Errorf("recovery: the vote cannot be read: %w", err)
	}
	candidate, err := stable.Get([]byte("LastVoteCand"))
	if err != nil && !errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return fmt.Errorf("recovery: the vote cannot be read: %w", err)
	}
	r.VotedFor = string(candidate)
	return nil
}

func (r *Report) readMarks() {
	var err error
	if r.Pending, err = raftstore.ReadRecovery(r.DataDir); err != nil {
		r.Problems = append(r.Problems, err.Error())
	}
	if _, err := os.Stat(filepath.Join(r.DataDir, "quarantined")); err == nil {
		r.Problems = append(r.Problems, "this server was taken out of the cluster because its state differed from that of the majority; do not use it")
	}
}
