package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"oaas.io/control-plane/api"
	"oaas.io/control-plane/raftstore"
	"oaas.io/control-plane/raftstore/backup"
)

// openBackups makes the manager of the scheduled backups, nil when there is no
// target.
func (n *node) openBackups() (*backup.Manager, error) {
	if n.opts.BackupTarget == "" {
		return nil, nil
	}
	creds, err := backup.LoadCredentials(n.opts.BackupCredentialsFile, os.Getenv)
	if err != nil {
		return nil, fmt.Errorf("--backup-credentials-file: %w", err)
	}
	target, err := backup.Open(n.opts.BackupTarget, creds)
	if err != nil {
		return nil, fmt.Errorf("--backup-target: %w", err)
	}
	return backup.New(backup.Options{
		Source: n.raft, Target: target, Interval: n.opts.BackupInterval,
		Retention: backup.Retention{Last: n.opts.BackupKeep, Days: n.opts.BackupKeepDays},
		TempDir:   n.opts.DataDir, Logger: n.log.Named("backup"), Registerer: n.metrics,
	})
}

// backups tells the API about a manager.
type backups struct {
	manager *backup.Manager
	raft    *raftstore.Node
}

var _ api.Backups = backups{}

// List gives the stored backups, newest first.
func (b backups) List(ctx context.Context) ([]api.BackupView, error) {
	list, err := b.manager.List(ctx)
	out := make([]api.BackupView, 0, len(list))
	for i := range list {
		out = append(out, b.view(&list[i]))
	}
	return out, err
}

// Run makes a backup now. Only the leader does, so that there is one at a time.
func (b backups) Run(ctx context.Context) (*api.BackupView, error) {
	if !b.raft.IsLeader() {
		return nil, raftstore.ErrNotLeader
	}
	made, err := b.manager.Run(ctx)
	if err != nil {
		return nil, err
	}
	v := b.view(made)
	return &v, nil
}

// view describes a backup. Each one was read back after it was made.
func (b backups) view(x *backup.Backup) api.BackupView {
	at := x.Time.Truncate(time.Millisecond)
	return api.BackupView{Name: x.Name, Location: b.manager.Target(), Time: &at, Size: x.Size, Index: x.Index, Digest: x.Digest}
}
