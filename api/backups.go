package api

import (
	"context"

	"oaas.io/control-plane/raftstore/backup"
)

// StoredBackups are the backups that a manager of package backup makes.
type StoredBackups struct{ Manager *backup.Manager }

var _ Backups = StoredBackups{}

// List gives the stored backups, the newest first.
func (b StoredBackups) List(ctx context.Context) ([]BackupView, error) {
	list, err := b.Manager.List(ctx)
	out := make([]BackupView, 0, len(list))
	for i := range list {
		out = append(out, b.tell(&list[i]))
	}
	return out, err
}

// Run makes one now; leader only.
func (b StoredBackups) Run(ctx context.Context) (*BackupView, error) {
	made, err := b.Manager.Run(ctx)
	if err != nil {
		return nil, err
	}
	out := b.tell(made)
	return &out, nil
}

func (b StoredBackups) tell(stored *backup.Backup) BackupView {
	return BackupView{
		Name: stored.Name, Location: b.Manager.Target(), Time: &stored.Time, Size: stored.Size, Index: stored.Index, Digest: stored.Digest,
	}
}
