package raftstore

import (
	"context"
	"fmt"
	"slices"

	"github.com/hashicorp/raft"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

// FeatureLevels says which commands the cluster may use.
type FeatureLevels struct {
	// Cluster is the level that was raised; commands above it are not proposed.
	Cluster uint32
	// Own is the highest level that this node's program knows.
	Own uint32
	// Possible is the level that all servers know, as far as they said; the leader
	// raises Cluster to it by itself.
	Possible uint32
	// Behind are the servers that hold Possible below Own.
	Behind []string
}

// FeatureLevels gives the levels as this node knows them.
func (n *Node) FeatureLevels() FeatureLevels {
	snap := n.state.Snapshot()
	out := FeatureLevels{Cluster: snap.FeatureLevel(), Own: n.opts.featureLevel, Possible: n.opts.featureLevel}
	for _, s := range n.servers() {
		// A server that has not said anything yet may be of any release.
		level := max(n.peers.lookup(string(s.ID)).GetFeatureLevel(), 1)
		if level < out.Own {
			out.Behind = append(out.Behind, string(s.ID))
		}
		out.Possible = min(out.Possible, level)
	}
	return out
}

// raiseFeatureLevel lets the cluster use what all of its servers say that they know,
// which takes an answer of each. It is the leader's business; every server counts,
// because one without a vote applies the same log.
func (n *Node) raiseFeatureLevel(ctx context.Context, number uint64) {
	levels := n.FeatureLevels()
	if levels.Possible <= levels.Cluster {
		return
	}
	if silent := n.unconfirmed(ctx, levels.Possible); len(silent) > 0 {
		n.log.Debug("the feature level is not raised before all servers answer", "level", levels.Possible, "silent", silent)
		return
	}
	n.log.Info("all servers know a higher feature level", "from", levels.Cluster, "to", levels.Possible)
	n.submitLogged(ctx, "feature level not raised", &pmpb.Command{
		ExpectedTerm: number,
		Note:         operatorNote(ctx, "leader", "feature.raise", "", fmt.Sprintf("level %d", levels.Possible)),
		Op:           &pmpb.Command_RaiseFeatureLevel{RaiseFeatureLevel: &pmpb.RaiseFeatureLevel{Level: levels.Possible}},
	})
}

// unconfirmed gives the servers that do not say now that they know level. What a
// row says was true once: while a server is silent, its disk may be given to an
// older program, which could not apply the log any more.
func (n *Node) unconfirmed(ctx context.Context, level uint32) []string {
	ctx, cancel := context.WithTimeout(ctx, n.timing.Heartbeat)
	defer cancel()
	others := slices.DeleteFunc(slices.Clone(n.servers()), func(s raft.Server) bool { return string(s.ID) == n.serverID })
	var out []string
	for i, a := range n.identifyServers(ctx, others) {
		if max(a.GetFeatureLevel(), 1) < level {
			out = append(out, string(others[i].ID))
		}
	}
	return out
}

// checkLevel refuses a command that some server of the cluster may not know, and one
// that this one does not: it would end all that are no newer.
func (n *Node) checkLevel(cmd *pmpb.Command) error {
	if err := n.state.Knows(cmd); err != nil {
		return err
	}
	have := n.state.Snapshot().FeatureLevel()
	if need := n.state.LevelOf(cmd); need > have {
		return fmt.Errorf("%w: it needs %d, the cluster is at %d until all of its servers are upgraded", fsm.ErrFeatureLevel, need, have)
	}
	return nil
}
