// Package backup keeps snapshots of the state away from the nodes: in a
// directory or in a bucket of an S3-compatible store.
//
// # Flow
//
// Manager.Schedule runs on the leader. When a backup is due and something has
// changed since the last one, it saves a linearizable snapshot to a temporary
// file, puts that under a name of its own, reads it back and compares its digest,
// and only then counts it and lets older ones go. Manager.Run does the same at
// once. A snapshot from before a restore is kept in the same way.
//
// # Names
//
//	oaas-pm_<cluster id>_<UTC time>_<index, 20 digits>_<first 16 digits of the SHA-256>.snapshot
//
// sort by time within a cluster. The digest in the name tells a truncated or
// changed file without any other.
//
// # Invariants
//
//   - A backup that was not read back with the right digest is not counted and
//     replaces nothing; its remains are deleted.
//   - Retention touches only names of this form and of this cluster, runs only
//     after a verified backup, and never deletes the newest one.
//   - Secrets come from the environment or a file and appear in no log, error or
//     metric.
package backup
