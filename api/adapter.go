package api

import (
	"context"
	"errors"
	"io"
	"math"
	"strings"
	"time"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/raftstore"
	"oaas.io/control-plane/registry"
)

// NodeInspection looks into a node of package raftstore.
type NodeInspection struct{ Node *raftstore.Node }

// Raft gives the numbers of the log.
func (n NodeInspection) Raft() RaftView {
	s := n.Node.Stats()
	return RaftView{
		State: s.State, Term: s.Term, Ready: s.Ready, LastLogIndex: s.LastLogIndex, CommitIndex: s.CommitIndex,
		AppliedIndex: s.AppliedIndex, SnapshotIndex: s.SnapshotIndex, LastContact: known(s.LastContact),
	}
}

// known is 0 for what never was.
func known(d time.Duration) Duration {
	if d == math.MaxInt64 {
		return -1
	}
	return Duration(d)
}

// Disk gives what is known of the disk.
func (n NodeInspection) Disk() DiskView {
	d := n.Node.Disk()
	return DiskView{
		Path: d.Path, Free: d.Free, Total: d.Total, Low: d.Low, WriteP50: Duration(d.WriteP50), WriteP99: Duration(d.WriteP99), LogFileBytes: d.LogFileBytes,
	}
}

// Snapshots lists the snapshots that the node keeps for itself.
func (n NodeInspection) Snapshots() ([]SnapshotView, error) {
	list, err := n.Node.Snapshots()
	out := make([]SnapshotView, 0, len(list))
	for _, s := range list {
		view := SnapshotView{ID: s.ID, Index: s.Index, Term: s.Term, Size: s.Size}
		if !s.Time.IsZero() {
			view.Time = &s.Time
		}
		out = append(out, view)
	}
	return out, err
}

// Tuning gives what is in force.
func (n NodeInspection) Tuning() Tuning {
	t := n.Node.Tuning()
	return Tuning{
		SnapshotInterval: Duration(t.SnapshotInterval), SnapshotThreshold: t.SnapshotThreshold, TrailingLogs: t.TrailingLogs,
		HeartbeatTimeout: Duration(t.Heartbeat), ElectionTimeout: Duration(t.Election),
	}
}

// Tune changes what is not zero.
func (n NodeInspection) Tune(t Tuning) error {
	err := n.Node.Tune(raftstore.Tuning{
		SnapshotInterval: time.Duration(t.SnapshotInterval), SnapshotThreshold: t.SnapshotThreshold, TrailingLogs: t.TrailingLogs,
		Heartbeat: time.Duration(t.HeartbeatTimeout), Election: time.Duration(t.ElectionTimeout),
	})
	var refused *raftstore.TuningError
	if errors.As(err, &refused) {
		return fail(registry.InvalidArgument, "%s", strings.ToUpper(refused.Reason[:1])+refused.Reason[1:])
	}
	return err
}

// LogEntries yields entries of the node's log.
func (n NodeInspection) LogEntries(ctx context.Context, from, to uint64, yield func(LogEntry) bool) error {
	return n.Node.LogEntries(ctx, from, to, func(e raftstore.LogEntry) bool {
		return yield(LogEntry{
			Index: e.Index, Term: e.Term, Type: e.Type, AppendedAt: e.AppendedAt, Size: e.Size, Command: e.Command, Text: e.Text,
		})
	})
}

var _ Inspection = NodeInspection{}

// ChainReport compares the histories of all servers.
func (n NodeInspection) ChainReport(ctx context.Context) (*ChainView, error) {
	r, err := n.Node.ChainReport(ctx)
	if err != nil {
		return nil, err
	}
	out := &ChainView{Index: r.Index, Agree: r.Agree, Servers: []ChainServer{}}
	for _, s := range r.Servers {
		server := ChainServer{ServerID: s.ID, Index: s.Index, Hash: s.Hash}
		if s.Err != nil {
			server.Error = s.Err.Error()
		}
		out.Servers = append(out.Servers, server)
	}
	return out, nil
}

// FeatureLevels gives the levels as the node knows them.
func (n NodeInspection) FeatureLevels() FeatureView {
	l := n.Node.FeatureLevels()
	return FeatureView{Level: l.Cluster, Own: l.Own, Possible: l.Possible, Behind: append([]string{}, l.Behind...)}
}

// NodeSnapshots takes the state out of a node of package raftstore and puts it back.
type NodeSnapshots struct{ Node *raftstore.Node }

var _ Snapshots = NodeSnapshots{}

// SaveSnapshot writes a linearizable snapshot.
func (n NodeSnapshots) SaveSnapshot(ctx context.Context, w io.Writer) (*Saved, error) {
	info, err := n.Node.SaveSnapshot(ctx, w)
	if err != nil {
		return nil, err
	}
	return &Saved{Index: info.Index, Epoch: info.Epoch, Format: info.Format}, nil
}

// RestoreSnapshot replaces the state; leader only.
func (n NodeSnapshots) RestoreSnapshot(ctx context.Context, r io.Reader, size int64, o RestoreOptions) (*Restored, error) {
	done, err := n.Node.RestoreSnapshot(ctx, r, size, raftstore.RestoreOptions{ConfirmClusterID: o.ConfirmClusterID, RequestID: o.RequestID})
	if err != nil {
		return nil, err
	}
	return &Restored{
		Epoch: done.Epoch, Index: done.Index, Packages: done.Packages, Deployments: done.Deployments, Units: done.Units,
		Removed: done.Removed, SafetyCopy: done.SafetyCopy,
	}, nil
}

// operatorProblem gives the errors of the node their codes.
func operatorProblem(err error) error {
	var own *problem
	var op *registry.Error
	var guard *fsm.GuardError
	var invalid *fsm.InvalidCommandError
	var unknown *raftstore.UnknownServerError
	var setting *raftstore.ConfigError
	wrap := func(code registry.Code, detail string) error { return &problem{code: code, detail: detail, cause: err} }
	switch {
	case errors.As(err, &own), errors.As(err, &op):
		return err
	case errors.Is(err, raftstore.ErrNotLeader), errors.Is(err, raftstore.ErrNoLeader):
		return errNoLeader()
	case errors.Is(err, raftstore.ErrOutcomeUnknown):
		return wrap(registry.OutcomeUnknown, "The change was proposed and may or may not take effect; look before trying again")
	case errors.As(err, &unknown):
		return wrap(registry.NotFound, "Node not found: "+unknown.ID)
	case errors.As(err, &setting):
		return wrap(registry.InvalidArgument, setting.Field+": "+setting.Reason)
	case errors.Is(err, raftstore.ErrNotConfirmed), errors.Is(err, raftstore.ErrRestoreRunning):
		return wrap(registry.FailedPrecondition, err.Error())
	case errors.Is(err, fsm.ErrCorruptSnapshot):
		return wrap(registry.Unprocessable, err.Error())
	case errors.As(err, &invalid):
		return wrap(registry.FailedPrecondition, err.Error())
	case errors.Is(err, raftstore.ErrTooLarge):
		return wrap(registry.TooLarge, err.Error())
	case errors.Is(err, raftstore.ErrShutdown):
		return wrap(registry.Unavailable, "This node is stopping")
	case errors.Is(err, fsm.ErrFeatureLevel):
		return wrap(registry.FailedPrecondition, err.Error())
	case errors.As(err, &guard):
		return wrap(registry.PreconditionFailed, "The settings were changed meanwhile; read them again")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return err
	default:
		return wrap(registry.Internal, err.Error())
	}
}
