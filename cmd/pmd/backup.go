package main

import (
	"fmt"
	"os"

	"oaas.io/control-plane/raftstore/backup"
)

// openBackupTarget gives the place of the backups, nil when none is configured. It
// comes before the log is opened: a wrong setting is told at once.
func openBackupTarget(opts *options) (backup.Target, error) {
	if opts.BackupTarget == "" {
		return nil, nil
	}
	creds, err := backup.LoadCredentials(opts.BackupCredentialsFile, os.Getenv)
	if err != nil {
		return nil, fmt.Errorf("--backup-credentials-file: %w", err)
	}
	target, err := backup.Open(opts.BackupTarget, creds)
	if err != nil {
		return nil, fmt.Errorf("--backup-target: %w", err)
	}
	return target, nil
}

// backupManager makes the manager of the scheduled backups.
func (n *node) backupManager(target backup.Target) (*backup.Manager, error) {
	return backup.New(backup.Options{
		Source: n.raft, Target: target, Interval: n.opts.BackupInterval,
		Retention: backup.Retention{Last: n.opts.BackupKeep, Days: n.opts.BackupKeepDays},
		TempDir:   n.opts.DataDir, Logger: n.log.Named("backup"), Registerer: n.metrics,
	})
}
