package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/raftstore"
)

// ErrNotConfirmed says that the caller did not repeat the cluster's id.
var ErrNotConfirmed = errors.New("recovery: not confirmed with the id of the cluster")

// Options of a recovery.
type Options struct {
	// DataDir is that of the stopped node. FromSnapshot makes it, or takes an
	// empty one.
	DataDir string
	// ConfirmClusterID must be the cluster's id; a dry run does without.
	ConfirmClusterID string
	// Servers are all servers of the cluster afterwards, each of whose directories
	// has to be recovered with the same servers and the same RecoveryID. Empty:
	// the server of DataDir alone.
	Servers []Server
	// Address, when set, is where the server of DataDir will be reached; without
	// it the address stays as it was.
	Address string
	// DryRun tells what would be done and changes nothing.
	DryRun bool
	// RecoveryID names the recovery. Default: a new one.
	RecoveryID string
	// Reason and Operator are recorded.
	Reason   string
	Operator string
	// Now is the time that is recorded. Default: time.Now.
	Now    func() time.Time
	Logger hclog.Logger
}

func (o Options) withDefaults() Options {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.RecoveryID == "" {
		o.RecoveryID = uuid.NewString()
	}
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	if o.Reason == "" {
		o.Reason = "recovered after the loss of a quorum"
	}
	return o
}

// Result is what a recovery did, or would do. It is also what is recorded.
type Result struct {
	DryRun     bool      `json:"dry_run"`
	Time       time.Time `json:"time"`
	RecoveryID string    `json:"recovery_id"`
	Operator   string    `json:"operator"`
	Reason     string    `json:"reason"`
	ClusterID  string    `json:"cluster_id"`
	ServerID   string    `json:"server_id"`
	// Servers are the cluster afterwards, Lost those that no longer belong to it.
	Servers []Server `json:"servers"`
	Lost    []Server `json:"lost"`
	// Index and Term are where the log ends, or the snapshot.
	Index uint64 `json:"index"`
	Term  uint64 `json:"term"`
	// Next is the index after which the log goes on, see raftstore.RecoveryLeap.
	Next uint64 `json:"goes_on_after"`
	// Unproven is the number of entries that count as committed by the recovery
	// and of which nothing here proves that they were.
	Unproven uint64 `json:"unproven_entries"`
	// Consequences say it in words.
	Consequences []string `json:"consequences"`
	// Copy is where the raft directory from before is, Audit the record; both are
	// empty for a dry run.
	Copy  string `json:"copy,omitempty"`
	Audit string `json:"audit,omitempty"`
	// Before is the directory as it was; nil when there was none.
	Before *Report `json:"before,omitempty"`
}

// Recover makes the servers that are left the whole cluster; see the package's
// description for what that means. Run it dry first.
func Recover(ctx context.Context, o Options) (*Result, error) {
	o = o.withDefaults()
	report, err := Inspect(ctx, o.DataDir)
	if err != nil {
		return nil, err
	}
	res, err := plan(report, o)
	if err != nil || o.DryRun {
		return res, err
	}
	if o.ConfirmClusterID != report.ClusterID || report.ClusterID == "" {
		return nil, fmt.Errorf("%w: the directory belongs to %q, confirmed was %q", ErrNotConfirmed, report.ClusterID, o.ConfirmClusterID)
	}
	dir, err := raftstore.OpenOffline(o.DataDir, o.Logger)
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }() // everything durable was synced before
	stamp := res.Time.Format("20060102T150405Z")
	res.Copy = filepath.Join(o.DataDir, "raft-before-"+stamp)
	if err := copyDir(ctx, filepath.Join(o.DataDir, raftDir), res.Copy); err != nil {
		return nil, fmt.Errorf("recovery: nothing was changed, because the copy failed: %w", err)
	}
	// The record comes first and is completed by the copy: a recovery that was
	// interrupted is known as well.
	if res.Audit, err = record(o.DataDir, stamp, res); err != nil {
		return nil, fmt.Errorf("recovery: nothing was changed, because it cannot be recorded: %w", err)
	}
	if err := dir.Mark(raftstore.Recovery{ID: res.RecoveryID, Reason: res.Reason, ClusterID: res.ClusterID, Time: res.Time}); err != nil {
		return nil, fmt.Errorf("recovery: nothing was changed: %w", err)
	}
	if err := dir.Recover(raftServers(res.Servers)); err != nil {
		return nil, fmt.Errorf("recovery: the log from before is in %s: %w", res.Copy, err)
	}
	o.Logger.Warn("recovered", "data_dir", o.DataDir, "recovery_id", res.RecoveryID, "servers", len(res.Servers), "index", res.Index)
	return res, nil
}

// plan says what a recovery of the directory would do.
func plan(r *Report, o Options) (*Result, error) {
	res := &Result{
		DryRun: o.DryRun, Time: o.Now().UTC(), RecoveryID: o.RecoveryID, Operator: o.Operator, Reason: o.Reason,
		ClusterID: r.ClusterID, ServerID: r.ServerID, Servers: o.Servers,
		Index: r.EndIndex, Term: r.EndTerm, Next: r.EndIndex + raftstore.RecoveryLeap, Unproven: r.EndIndex - r.CommittedAtLeast, Before: r, Lost: []Server{},
	}
	if len(r.Problems) > 0 {
		return nil, fmt.Errorf("recovery: %s: %s", r.DataDir, strings.Join(r.Problems, "; "))
	}
	if r.EndIndex == 0 {
		return nil, fmt.Errorf("recovery: %s holds no state", r.DataDir)
	}
	if len(res.Servers) == 0 {
		res.Servers = []Server{{ID: r.ServerID, Address: addressOf(r), Voter: true}}
	}
	at := slices.IndexFunc(res.Servers, func(s Server) bool { return s.ID == r.ServerID })
	if at < 0 {
		return nil, fmt.Errorf("recovery: the server %s of %s is not among those that are to be the cluster", r.ServerID, r.DataDir)
	}
	if o.Address != "" {
		if err := checkAddress(o.Address); err != nil {
			return nil, err
		}
		res.Servers[at].Address = o.Address
	}
	for _, s := range res.Servers {
		if s.Address == "" {
			return nil, fmt.Errorf("recovery: the address of server %s is not known, name it", s.ID)
		}
	}
	for _, s := range r.Servers {
		if !slices.ContainsFunc(res.Servers, func(k Server) bool { return k.ID == s.ID }) {
			res.Lost = append(res.Lost, s)
		}
	}
	res.explain()
	return res, nil
}

// checkAddress refuses what nobody could be reached at. It would stand in the
// cluster's configuration.
func checkAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if n, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || n == 0 || host == "" {
		return fmt.Errorf("recovery: the address %q is not host:port", address)
	}
	return nil
}

func addressOf(r *Report) string {
	for _, s := range r.Servers {
		if s.ID == r.ServerID {
			return s.Address
		}
	}
	return ""
}

func (res *Result) explain() {
	say := func(format string, args ...any) {
		res.Consequences = append(res.Consequences, fmt.Sprintf(format, args...))
	}
	say("all entries up to %d count as committed; of the last %d nothing here proves that they were", res.Index, res.Unproven)
	say("what was acknowledged and is in none of these entries is lost; what was deployed by it stays in its cluster until it is removed by hand")
	say("the log goes on after index %d, so that no number that a lost write had is given out twice", res.Next)
	for _, s := range res.Lost {
		say("server %s at %s no longer belongs to the cluster; it must never start on its old data directory again", s.ID, s.Address)
	}
	say("the epoch rises and every unit is sent to its cluster again")
}

// FromSnapshot begins a cluster of one server with the contents of a snapshot of
// a cluster that is lost altogether. It keeps that cluster's identity.
func FromSnapshot(ctx context.Context, snapshot string, o Options) (*Result, error) {
	o = o.withDefaults()
	f, err := os.Open(snapshot)
	if err != nil {
		return nil, fmt.Errorf("recovery: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	info, err := fsm.VerifySnapshot(f)
	if err != nil {
		return nil, err
	}
	if o.Address == "" {
		return nil, errors.New("recovery: name the address at which the server will be reached")
	}
	if err := errors.Join(checkAddress(o.Address), raftstore.CheckVacant(o.DataDir)); err != nil {
		return nil, err
	}
	res := &Result{
		DryRun: o.DryRun, Time: o.Now().UTC(), RecoveryID: o.RecoveryID, Operator: o.Operator, Reason: o.Reason,
		ClusterID: info.ClusterID, Index: info.Index, Term: max(info.Term, 1), Next: info.Index + raftstore.RecoveryLeap, Lost: []Server{},
		Servers: []Server{{Address: o.Address, Voter: true}},
		Consequences: []string{
			fmt.Sprintf("the state is that of index %d; everything later is lost", info.Index),
			fmt.Sprintf("the log goes on after index %d, so that no number that a lost write had is given out twice", info.Index+raftstore.RecoveryLeap),
			"the epoch rises and every unit is sent to its cluster again; what was deployed later stays in its cluster until it is removed by hand",
		},
	}
	if info.ClusterID == "" {
		return nil, errors.New("recovery: the snapshot belongs to no cluster")
	}
	if o.DryRun {
		return res, nil
	}
	if o.ConfirmClusterID != info.ClusterID {
		return nil, fmt.Errorf("%w: the snapshot is that of %q, confirmed was %q", ErrNotConfirmed, info.ClusterID, o.ConfirmClusterID)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("recovery: %w", err)
	}
	return res, seed(f, info, res, o)
}

func seed(f io.Reader, info *fsm.SnapshotInfo, res *Result, o Options) error {
	dir, err := raftstore.CreateOffline(o.DataDir, o.Logger)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }() // everything durable was synced before
	res.ServerID, res.Servers[0].ID = dir.ServerID(), dir.ServerID()
	if res.Audit, err = record(o.DataDir, res.Time.Format("20060102T150405Z"), res); err != nil {
		return fmt.Errorf("recovery: it cannot be recorded: %w", err)
	}
	if err := dir.Mark(raftstore.Recovery{ID: res.RecoveryID, Reason: res.Reason, ClusterID: res.ClusterID, Time: res.Time}); err != nil {
		return fmt.Errorf("recovery: %w", err)
	}
	if err := dir.Seed(f, info, res.Next, raftServers(res.Servers)); err != nil {
		return fmt.Errorf("recovery: empty %s before the next attempt: %w", o.DataDir, err)
	}
	return nil
}

func raftServers(servers []Server) []raft.Server {
	out := make([]raft.Server, len(servers))
	for i, s := range servers {
		out[i] = raft.Server{ID: raft.ServerID(s.ID), Address: raft.ServerAddress(s.Address)}
		if !s.Voter {
			out[i].Suffrage = raft.Nonvoter
		}
	}
	return out
}

// record writes what is done into the data directory.
func record(dir, stamp string, res *Result) (string, error) {
	name := filepath.Join(dir, "recovery-"+stamp+".json")
	res.Audit = name
	text, err := json.MarshalIndent(res, "", "  ")
	if err != nil {
		return "", err
	}
	return name, writeFile(name, strings.NewReader(string(text)+"\n"))
}

// copyDir copies a directory that holds files and directories only.
func copyDir(ctx context.Context, from, to string) error {
	return filepath.WalkDir(from, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if e.IsDir() {
			return os.Mkdir(filepath.Join(to, rel), 0o700)
		}
		src, err := os.Open(path)
		if err != nil {
			return err
		}
		defer func() { _ = src.Close() }() // only read
		return writeFile(filepath.Join(to, rel), src)
	})
}

// writeFile writes a new file through to the disk.
func writeFile(name string, from io.Reader) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	return errors.Join(err, f.Sync(), f.Close())
}
