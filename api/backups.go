package api

import (
	"context"
	"io"

	"oaas.io/control-plane/raftstore"
	"oaas.io/control-plane/raftstore/backup"
)

// StoredBackups are the backups that a manager of package backup makes.
type StoredBackups struct {
	Manager *backup.Manager
	// Leads reports whether this node leads: only the leader makes backups, so that
	// there is one at a time.
	Leads func() bool
}

var _ Backups = StoredBackups{}

// List gives the stored backups, the newest first.
func (b StoredBackups) List(ctx context.Context) ([]BackupView, error) {
	list, err := b.Manager.List(ctx)
	out := make([]BackupView, 0, len(list))
	for i := range list {
		out = append(out, b.view(&list[i]))
	}
	return out, err
}

// Run makes one now.
func (b StoredBackups) Run(ctx context.Context) (*BackupView, error) {
	if !b.Leads() {
		return nil, raftstore.ErrNotLeader
	}
	made, err := b.Manager.Run(ctx)
	if err != nil {
		return nil, err
	}
	out := b.view(made)
	return &out, nil
}

// Fetch writes a stored backup to w.
func (b StoredBackups) Fetch(ctx context.Context, name string, w io.Writer) (*BackupView, error) {
	got, err := b.Manager.Fetch(ctx, name, w)
	if err != nil {
		return nil, err
	}
	out := b.view(got)
	return &out, nil
}

// view describes a backup. Each one was read back after it was made.
func (b StoredBackups) view(stored *backup.Backup) BackupView {
	at := stored.Time.UTC()
	return BackupView{
		Name: stored.Name, Location: b.Manager.Target(), Time: &at, Size: stored.Size, Index: stored.Index, Digest: stored.Digest,
	}
}
