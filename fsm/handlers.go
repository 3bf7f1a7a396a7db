package fsm

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"

	"oaas.io/control-plane/proto/pmpb"
)

// Level is the highest feature level that this build knows. A command of a level
// is only proposed when every server of the cluster knows that level: a build
// refuses what it does not know, and states would differ if another one did not.
const Level = 7

// handler is one operation on the state.
type handler struct {
	run func(*call, *pmpb.Command) error
	// level is the feature level that the operation belongs to.
	level uint32
	// grows says that the operation takes in something new, which waits while an
	// alarm is raised.
	grows bool
}

// handlers is the table of operations, by their field number in pmpb.Command.
type handlers map[protoreflect.FieldNumber]handler

func newHandlers() handlers {
	return handlers{
		20: {run: on((*pmpb.Command).GetFound, found), level: 1},
		21: {run: on((*pmpb.Command).GetPutPackage, putPackage), level: 1, grows: true},
		22: {run: on((*pmpb.Command).GetDeletePackage, deletePackage), level: 1},
		23: {run: on((*pmpb.Command).GetCommitDeployment, commitDeployment), level: 1, grows: true},
		24: {run: on((*pmpb.Command).GetDeleteDeployment, deleteDeployment), level: 1},
		25: {run: on((*pmpb.Command).GetUpdateUnits, updateUnits), level: 1},
		26: {run: on((*pmpb.Command).GetPutCluster, putCluster), level: 1},
		27: {run: on((*pmpb.Command).GetRemoveCluster, removeCluster), level: 1},
		28: {run: on((*pmpb.Command).GetPutMember, putMember), level: 1},
		29: {run: on((*pmpb.Command).GetRemoveMember, removeMember), level: 1},

		30: {run: on((*pmpb.Command).GetPutAutopilot, putAutopilot), level: 2},
		31: {run: on((*pmpb.Command).GetUpdateAlarms, updateAlarms), level: 2},
		// The way to a level cannot itself need that level. It is proposed only when
		// every server knows it.
		32: {run: on((*pmpb.Command).GetRaiseFeatureLevel, raiseFeatureLevel), level: 1},
		33: {run: on((*pmpb.Command).GetStageRestore, stageRestore), level: 2, grows: true},
		34: {run: commitRestore, level: 2},
		35: {run: on((*pmpb.Command).GetAbortRestore, abortRestore), level: 2},
		36: {run: on((*pmpb.Command).GetRaiseEpoch, raiseEpoch), level: 2},

		37: {run: remark, level: 3},

		38: {run: on((*pmpb.Command).GetStepRollout, stepRollout), level: RolloutFrom},

		45: {run: on((*pmpb.Command).GetStepMove, stepMove), level: FailoverFrom},
		55: {run: on((*pmpb.Command).GetOrphanUnits, orphanUnits), level: FailoverFrom},
		56: {run: on((*pmpb.Command).GetBuryStrays, buryStrays), level: FailoverFrom},
	}
}

func on[Op any](op func(*pmpb.Command) Op, handle func(*call, Op) error) func(*call, *pmpb.Command) error {
	return func(c *call, cmd *pmpb.Command) error { return handle(c, op(cmd)) }
}

func (h handlers) run(c *call, cmd *pmpb.Command) error {
	_, number := operation(cmd)
	op, ok := h[number]
	if !ok {
		return fmt.Errorf("%w: operation %d", ErrUnknownCommand, number)
	}
	if op.grows {
		if alarms := c.view.Alarms(); len(alarms) > 0 {
			return &ReadOnlyError{Alarms: alarms}
		}
	}
	return op.run(c, cmd)
}

// Knows refuses a command that this build cannot apply, with an ErrUnknownCommand.
func (s *State) Knows(cmd *pmpb.Command) error {
	if err := checkKnown(cmd); err != nil {
		return err
	}
	if _, number := operation(cmd); s.handlers[number].run == nil {
		return fmt.Errorf("%w: operation %d", ErrUnknownCommand, number)
	}
	return knownLevel(cmd.GetRaiseFeatureLevel().GetLevel())
}

func knownLevel(level uint32) error {
	if level > Level {
		return fmt.Errorf("%w: feature level %d, this build knows %d", ErrUnknownCommand, level, Level)
	}
	return nil
}

// LevelOf gives the feature level that a command belongs to, 0 when this build
// does not know its operation.
func (s *State) LevelOf(cmd *pmpb.Command) uint32 {
	_, number := operation(cmd)
	level := s.handlers[number].level
	if cmd.GetIdempotency().GetEphemeral() {
		level = max(level, 2)
	}
	if cmd.GetNote() != nil {
		level = max(level, NotesFrom)
	}
	if forPlanner(cmd.GetPutCluster().GetCluster()) {
		level = max(level, PlannerFrom)
	}
	if forRollout(cmd) {
		level = max(level, RolloutFrom)
	}
	if forFailover(cmd.GetPutCluster().GetCluster()) || cmd.GetCommitDeployment().GetMove() != nil {
		level = max(level, FailoverFrom)
	}
	if cmd.GetPutCluster().GetCluster().GetSource() == pmpb.ClusterSource_CLUSTER_SOURCE_AGENT {
		level = max(level, AgentsFrom)
	}
	return level
}

// PlannerFrom is the feature level from which the state keeps what the planner
// goes by: policies, outages and resources of clusters.
const PlannerFrom = 4

// PodsFrom is the feature level from which packages and deployments say what their pods
// have. An older server does not keep that of a document.
const PodsFrom = 5

// RolloutFrom is the feature level from which deployments have revisions, rollouts and a
// timeline.
const RolloutFrom = 6

// forRollout reports that a command speaks of what only servers of that level know.
func forRollout(cmd *pmpb.Command) bool {
	op := cmd.GetCommitDeployment()
	return op.GetRevised() != nil || op.GetRollout() != nil ||
		slices.ContainsFunc(cmd.GetGuards(), func(g *pmpb.Guard) bool { return g.GetTable() == pmpb.Guard_TABLE_ROLLOUT })
}

// AgentsFrom is the feature level from which clusters are reached by connections that
// their own managers have made. An older server that comes to lead could not dial them.
const AgentsFrom = 6

// FailoverFrom is the feature level from which clusters are suspected before they are given
// up, deployments are moved away from clusters that are lost or drained, and runtimes that
// nothing wants are known.
const FailoverFrom = 7

// forFailover reports that a row holds what only servers of that level know.
func forFailover(row *pmpb.Cluster) bool {
	if row == nil {
		return false
	}
	return row.GetHealth() > pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE ||
		row.GetDisconnectedSince() != nil || len(row.GetObservations()) > 0 || row.ApiServerReady != nil || len(row.GetStrays()) > 0 ||
		drains(row.GetPolicy())
}

// forPlanner reports that a row holds what only servers of that level know. An
// older one neither checks nor keeps them up.
func forPlanner(row *pmpb.Cluster) bool {
	return row.GetPolicy() != nil || len(row.GetOutages()) > 0 || row.GetTotals() != nil ||
		row.GetObservedSince() != nil || row.GetResources() != nil
}

// checkLevel refuses a command that servers of the cluster may not know.
func (s *State) checkLevel(c *call, cmd *pmpb.Command) error {
	have := c.view.FeatureLevel()
	if need := s.LevelOf(cmd); need > have {
		return fmt.Errorf("%w: it needs %d, the cluster is at %d", ErrFeatureLevel, need, have)
	}
	return nil
}

// raiseFeatureLevel never goes back: what was written in between needs the level.
func raiseFeatureLevel(c *call, op *pmpb.RaiseFeatureLevel) error {
	if err := knownLevel(op.GetLevel()); err != nil {
		return err
	}
	if op.GetLevel() > c.view.FeatureLevel() {
		c.meta.pb.FeatureLevel = op.GetLevel()
	}
	return nil
}
