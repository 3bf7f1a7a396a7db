package raftstore

import (
	"errors"
	"fmt"
)

var (
	// ErrNotLeader says that this node cannot do what only the leader does. A
	// command that failed with it was not proposed and has no effect.
	ErrNotLeader = errors.New("raftstore: this node is not the leader")
	// ErrNoLeader says that no leader was known, or reachable, in time.
	ErrNoLeader = errors.New("raftstore: no leader is known")
	// ErrOutcomeUnknown says that a command was proposed and may or may not
	// take effect, now or later.
	ErrOutcomeUnknown = errors.New("raftstore: the outcome of the write is unknown")
	// ErrTooLarge says that an encoded command exceeds MaxCommandSize.
	ErrTooLarge = errors.New("raftstore: the command is too large")
	// ErrShutdown says that the node is stopping or has stopped.
	ErrShutdown = errors.New("raftstore: the node is shut down")
	// ErrIsLeader is returned by LeaderConn on the leader itself.
	ErrIsLeader = errors.New("raftstore: this node is the leader")

	// ErrLocked says that another process uses the data directory.
	ErrLocked = errors.New("raftstore: the data directory is in use by another process")
	// ErrServerIDMismatch says that the server id of the data directory does not
	// belong to the log in it.
	ErrServerIDMismatch = errors.New("raftstore: the server id does not belong to the log in the data directory")
	// ErrClusterMismatch says that the data directory is that of another cluster
	// than the log in it, or than the peers.
	ErrClusterMismatch = errors.New("raftstore: the data directory belongs to another cluster")
	// ErrNoVote says that leadership was not handed over, because the server has no
	// vote.
	ErrNoVote = errors.New("raftstore: the server has no vote, and cannot lead")
	// ErrNotCaughtUp says that leadership was not handed over, because nobody has
	// the log that the leader has.
	ErrNotCaughtUp = errors.New("raftstore: no other voter is caught up")
	// ErrRemoved says that this server was removed from the cluster.
	ErrRemoved = errors.New("raftstore: this server was removed from the cluster")
	// ErrCopied says that another process runs on a copy of this data directory, or
	// this one on a copy of its.
	ErrCopied = errors.New("raftstore: this server runs elsewhere already")
	// ErrTooOld says that the cluster uses a feature level that this program does
	// not know: it cannot apply the log as the others do.
	ErrTooOld = errors.New("raftstore: this program is older than what the cluster uses")
	// ErrConflictingLog says that the log departs from that of the cluster before
	// the end of a snapshot that the leader sent. The log was removed; the node has
	// to start again, as the same server, from the snapshot.
	ErrConflictingLog = errors.New("raftstore: the log conflicts with a snapshot of the leader and was removed; start the node again")
	// ErrStuckTransfer says that a leadership transfer never ended, so that the
	// library refuses all writes although the node leads.
	ErrStuckTransfer = errors.New("raftstore: a leadership transfer is stuck")
)

// StorageError is reported on Fatal when the log or the node's vote could not
// be written or read.
type StorageError struct {
	// Op is the storage operation that failed.
	Op string
	// Path is the log's file, empty when nothing is kept on disk.
	Path string
	// Remedy is what to do about it.
	Remedy string
	Err    error
}

func (e *StorageError) Error() string {
	text := fmt.Sprintf("raftstore: storage failed in %s", e.Op)
	if e.Path != "" {
		text += " of " + e.Path
	}
	text += ": " + e.Err.Error()
	if e.Remedy != "" {
		text += "; " + e.Remedy
	}
	return text
}

func (e *StorageError) Unwrap() error { return e.Err }
