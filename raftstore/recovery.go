package raftstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"

	"oaas.io/control-plane/proto/pmpb"
)

// recoveryFile marks a data directory that was recovered offline, until its node
// has led once and has raised the epoch.
const recoveryFile = "recovery.json"

// RecoveryLeap is how far a recovery moves the log on. The indexes of writes that
// are lost were acknowledged: clients hold them as ETags and as tokens of reads,
// clusters as fences. So they are not given out again, however far behind the node
// was from which the cluster was recovered. And since a log never comes that far by
// itself, an index tells whether it is from before a recovery.
const RecoveryLeap = 1_000_000_000_000

// IndexGeneration is the number of recoveries that came before index was given out.
func IndexGeneration(index uint64) uint64 { return index / RecoveryLeap }

// Recovery is what an offline recovery leaves in the data directory.
type Recovery struct {
	// ID names the recovery. Directories that are recovered together share it.
	ID string `json:"recovery_id"`
	// Reason is recorded in the log.
	Reason string `json:"reason"`
	// ClusterID is that of the recovered cluster.
	ClusterID string    `json:"cluster_id"`
	Time      time.Time `json:"time"`
}

// ReadRecovery gives the mark of a data directory, nil when it has none.
func ReadRecovery(dir string) (*Recovery, error) {
	path := filepath.Join(dir, recoveryFile)
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("raftstore: %w", err)
	}
	r := &Recovery{}
	if err := json.Unmarshal(raw, r); err != nil || r.ID == "" {
		return nil, fmt.Errorf("raftstore: %s is damaged; repeat the recovery", path)
	}
	return r, nil
}

// settleRecovery raises the epoch in the first term after a recovery, before the
// node serves anything: clusters may have seen writes that the recovered log does
// not have, under fences that it will give out again. It reports false when the
// leadership ended before that was done.
func (n *Node) settleRecovery(ctx context.Context, number uint64) bool {
	if n.dir == nil {
		return true
	}
	mark, err := ReadRecovery(n.dir.path)
	if err != nil {
		n.fail(err)
		return false
	}
	if mark == nil {
		return true
	}
	for n.state.Snapshot().Meta().GetRecoveryId() != mark.ID {
		raise := &pmpb.Command{ExpectedTerm: number, RequestId: mark.ID,
			Op: &pmpb.Command_RaiseEpoch{RaiseEpoch: &pmpb.RaiseEpoch{RecoveryId: mark.ID, Reason: mark.Reason}}}
		n.raiseToSettle(ctx, number, n.state.LevelOf(raise))
		raise.Note = operatorNote(ctx, "pmctl recover", "cluster.recover", mark.ID, mark.Reason)
		n.submitLogged(ctx, "the epoch was not raised after a recovery", raise)
		if n.state.Snapshot().Meta().GetRecoveryId() == mark.ID {
			break
		}
		if !pause(ctx, n.timing.Heartbeat/10) || n.raft.State() != raft.Leader {
			return false
		}
	}
	if err := os.Remove(filepath.Join(n.dir.path, recoveryFile)); err != nil {
		n.log.Warn("the mark of a recovery could not be removed; the epoch is raised already", "error", err)
	}
	n.log.Warn("this cluster was recovered; all units are sent again under a new epoch", "recovery_id", mark.ID, "epoch", n.state.Snapshot().Meta().GetEpoch())
	return true
}

// raiseToSettle lets the cluster use the command that settles a recovery, without an
// answer of every server: nothing is served before that command, so a server that
// stays silent could not even be removed. All servers of the new configuration were
// recovered by a program that knows the command; one that was not, and is of the
// first release, ends itself when it sees the level.
func (n *Node) raiseToSettle(ctx context.Context, number uint64, level uint32) {
	if n.state.Snapshot().FeatureLevel() >= level {
		return
	}
	n.log.Info("the feature level is raised for the command that settles a recovery", "level", level)
	n.submitLogged(ctx, "feature level not raised", &pmpb.Command{
		ExpectedTerm: number,
		Op:           &pmpb.Command_RaiseFeatureLevel{RaiseFeatureLevel: &pmpb.RaiseFeatureLevel{Level: level}},
	})
}
