package raftstore

import (
	"context"
	"fmt"

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

// raiseFeatureLevel lets the cluster use what all of its servers know. It is the
// leader's business; every server counts, because one without a vote applies the
// same log.
func (n *Node) raiseFeatureLevel(ctx context.Context, number uint64) {
	levels := n.FeatureLevels()
	if levels.Possible <= levels.Cluster {
		return
	}
	n.log.Info("all servers know a higher feature level", "from", levels.Cluster, "to", levels.Possible)
	n.submitLogged(ctx, "feature level not raised", &pmpb.Command{
		ExpectedTerm: number,
		Op:           &pmpb.Command_RaiseFeatureLevel{RaiseFeatureLevel: &pmpb.RaiseFeatureLevel{Level: levels.Possible}},
	})
}

// checkLevel refuses a command that some server of the cluster may not know.
func (n *Node) checkLevel(cmd *pmpb.Command) error {
	have := n.state.Snapshot().FeatureLevel()
	if need := n.state.LevelOf(cmd); need > have {
		return fmt.Errorf("%w: it needs %d, the cluster is at %d until all of its servers are upgraded", fsm.ErrFeatureLevel, need, have)
	}
	return nil
}
