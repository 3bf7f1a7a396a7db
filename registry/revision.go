package registry

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/pmpb"
)

// The reasons that people give for the end of a rollout.
const (
	reasonAborted = "Aborted"
	reasonUndone  = "Undone"
)

// maxRolloutMessage bounds what a rollout says of itself, in bytes.
const maxRolloutMessage = 2000

func clipMessage(s string) string {
	if len(s) <= maxRolloutMessage {
		return s
	}
	return strings.ToValidUTF8(s[:maxRolloutMessage], "") + "…"
}

func rollbackSummary(to uint64, why string) string {
	if why == "" {
		return fmt.Sprintf("back to revision %d", to)
	}
	return fmt.Sprintf("back to revision %d (%s)", to, why)
}

// RolloutOutcome is the effect of what is done to a rollout.
type RolloutOutcome struct {
	Key      string
	Phase    pmpb.RolloutPhase
	Revision uint64
}

func outcomeOfRow(row *pmpb.Rollout) *RolloutOutcome {
	return &RolloutOutcome{Key: row.GetDeploymentKey(), Phase: row.GetPhase(), Revision: row.GetRevision()}
}

// PauseRollout lets no further environment have its turn until the rollout is resumed. What
// is on its way arrives. Deadlines stand still.
func (r *Registry) PauseRollout(ctx context.Context, ri RequestInfo, key string) (*RolloutOutcome, uint64, error) {
	return r.changeRollout(ctx, ri, "rollout.pause", key, func(_ *fsm.Snapshot, _ *fsm.Deployment, row *pmpb.Rollout) (*pmpb.Command, error) {
		switch row.GetPhase() {
		case pmpb.RolloutPhase_ROLLOUT_PHASE_PAUSED:
			return nil, nil
		case pmpb.RolloutPhase_ROLLOUT_PHASE_PROGRESSING:
			row.Phase, row.Paused = pmpb.RolloutPhase_ROLLOUT_PHASE_PAUSED, timestamppb.New(r.now())
			return stepCommand(row, nil), nil
		default:
			return nil, errorf(FailedPrecondition, "The rollout of %s is %s; only one that progresses can be paused", key, PhaseName(row.GetPhase()))
		}
	})
}

// ResumeRollout lets a rollout that was paused go on where it was, and one that has failed
// try once more.
func (r *Registry) ResumeRollout(ctx context.Context, ri RequestInfo, key string) (*RolloutOutcome, uint64, error) {
	return r.changeRollout(ctx, ri, "rollout.resume", key, func(_ *fsm.Snapshot, _ *fsm.Deployment, row *pmpb.Rollout) (*pmpb.Command, error) {
		now := r.now()
		switch row.GetPhase() {
		case pmpb.RolloutPhase_ROLLOUT_PHASE_PROGRESSING, pmpb.RolloutPhase_ROLLOUT_PHASE_ROLLING_BACK:
			return nil, nil
		case pmpb.RolloutPhase_ROLLOUT_PHASE_PAUSED:
			if row.GetDeadline() != nil {
				row.Deadline = timestamppb.New(row.GetDeadline().AsTime().Add(now.Sub(row.GetPaused().AsTime())))
			}
			row.Phase, row.Paused = pmpb.RolloutPhase_ROLLOUT_PHASE_PROGRESSING, nil
		case pmpb.RolloutPhase_ROLLOUT_PHASE_FAILED:
			row.Phase = pmpb.RolloutPhase_ROLLOUT_PHASE_PROGRESSING
			if goesBack(row) {
				row.Phase = pmpb.RolloutPhase_ROLLOUT_PHASE_ROLLING_BACK
			}
			row.Reason, row.Message, row.Ended, row.WaveStarted = "", "", nil, timestamppb.New(now)
			r.renew(row)
		default:
			return nil, errorf(FailedPrecondition, "The rollout of %s is %s; there is nothing to resume", key, PhaseName(row.GetPhase()))
		}
		return stepCommand(row, nil), nil
	})
}

// AbortRollout ends a rollout as if it had failed: what becomes of the environments that
// were changed is as its strategy says.
func (r *Registry) AbortRollout(ctx context.Context, ri RequestInfo, key string) (*RolloutOutcome, uint64, error) {
	return r.changeRollout(ctx, ri, "rollout.abort", key, func(snap *fsm.Snapshot, dep *fsm.Deployment, row *pmpb.Rollout) (*pmpb.Command, error) {
		switch row.GetPhase() {
		case pmpb.RolloutPhase_ROLLOUT_PHASE_PROGRESSING, pmpb.RolloutPhase_ROLLOUT_PHASE_PAUSED:
		default:
			return nil, errorf(FailedPrecondition, "The rollout of %s is %s; there is nothing to abort", key, PhaseName(row.GetPhase()))
		}
		if row.GetRollbackOnFailure() {
			cmd, err := r.takeBack(snap, dep, row, reasonAborted, "")
			row.Phase, row.Revision = pmpb.RolloutPhase_ROLLOUT_PHASE_ROLLING_BACK, dep.RevisionNumber()+1
			return cmd, err
		}
		r.fail(row, reasonAborted, "")
		return stepCommand(row, nil), nil
	})
}

// changeRollout commits what change makes of the present rollout of a deployment; nil is
// nothing. The row is change's own.
func (r *Registry) changeRollout(
	ctx context.Context, ri RequestInfo, action, key string,
	change func(snap *fsm.Snapshot, dep *fsm.Deployment, row *pmpb.Rollout) (*pmpb.Command, error),
) (*RolloutOutcome, uint64, error) {
	out, index, err := r.commit(ctx, ri, func(snap *fsm.Snapshot) (*decision, error) {
		dep := snap.Deployment(key)
		if dep == nil {
			return nil, errorf(NotFound, "Deployment not found: %s", key)
		}
		if err := ri.Precondition.check("Deployment "+key, dep.ModifyIndex); err != nil {
			return nil, err
		}
		have := snap.Rollout(key)
		if have == nil {
			return nil, errorf(FailedPrecondition, "Deployment %s has no rollout: its changes go to all environments at once. Post it with a rollout", key)
		}
		row := proto.CloneOf(have)
		cmd, err := change(snap, dep, row)
		if err != nil {
			return nil, err
		}
		d := &decision{cmd: cmd, outcome: outcomeOfRow(row)}
		if cmd != nil {
			cmd.Guards = []*pmpb.Guard{
				guard(pmpb.Guard_TABLE_DEPLOYMENT, key, dep.ModifyIndex), guard(pmpb.Guard_TABLE_ROLLOUT, key, have.GetModifyIndex()),
			}
			d.note = fsm.NewNote(action, key, fmt.Sprintf("revision %d", have.GetRevision()))
		}
		return d, nil
	})
	if err != nil {
		return nil, 0, err
	}
	return out.(*RolloutOutcome), index, nil
}

// Rollback gives a deployment the release of one of its kept revisions again, as a revision
// of its own; 0 is the last that worked. It goes out as any other change does, unless it is
// the one from which the present rollout comes: then that is taken back.
func (r *Registry) Rollback(ctx context.Context, ri RequestInfo, key string, revision uint64) (*RolloutOutcome, uint64, error) {
	out, index, err := r.commit(ctx, ri, func(snap *fsm.Snapshot) (*decision, error) {
		dep := snap.Deployment(key)
		if dep == nil {
			return nil, errorf(NotFound, "Deployment not found: %s", key)
		}
		if err := ri.Precondition.check("Deployment "+key, dep.ModifyIndex); err != nil {
			return nil, err
		}
		if level := snap.FeatureLevel(); level < fsm.RolloutFrom {
			return nil, errorf(FailedPrecondition, "Revisions need feature level %d, the cluster is at %d: upgrade all servers first", fsm.RolloutFrom, level)
		}
		row := snap.Rollout(key)
		if underWay(row) && !goesBack(row) && (revision == 0 || revision == row.GetStable()) {
			return r.undo(snap, dep, row)
		}
		return r.goTo(snap, dep, revision)
	})
	if err != nil {
		return nil, 0, err
	}
	return out.(*RolloutOutcome), index, nil
}

// undo takes the present rollout back.
func (r *Registry) undo(snap *fsm.Snapshot, dep *fsm.Deployment, row *pmpb.Rollout) (*decision, error) {
	cmd, err := r.takeBack(snap, dep, row, reasonUndone, "")
	if err != nil {
		return nil, err
	}
	cmd.Guards = []*pmpb.Guard{
		guard(pmpb.Guard_TABLE_DEPLOYMENT, dep.Doc.Key, dep.ModifyIndex), guard(pmpb.Guard_TABLE_ROLLOUT, dep.Doc.Key, row.GetModifyIndex()),
	}
	return &decision{
		cmd: cmd, note: rollbackNote(dep, row.GetStable()),
		outcome: &RolloutOutcome{Key: dep.Doc.Key, Phase: pmpb.RolloutPhase_ROLLOUT_PHASE_ROLLING_BACK, Revision: dep.RevisionNumber() + 1},
	}, nil
}

func rollbackNote(dep *fsm.Deployment, to uint64) *pmpb.AuditNote {
	return fsm.NewNote("deployment.rollback", dep.Doc.Key, fmt.Sprintf("from revision %d to %d", dep.RevisionNumber(), to))
}

// goTo decides about a deployment with the release of a past revision.
func (r *Registry) goTo(snap *fsm.Snapshot, dep *fsm.Deployment, revision uint64) (*decision, error) {
	past, err := pastRevision(snap, dep, revision)
	if err != nil {
		return nil, err
	}
	earlier, err := model.DecodeDeployment(past.GetDocument())
	if err != nil {
		return nil, fromStore(err)
	}
	doc := dep.Doc.Clone()
	unsettle(doc, dep.UID, named(snap, dep.Doc.Key))
	w, err := r.decideDeployment(snap, withRelease(doc, earlier), dep.UID, intent{})
	if err != nil {
		return nil, err
	}
	if err := r.stage(snap, dep, w); err != nil {
		return nil, err
	}
	number := past.GetNote().GetNumber()
	if w.revised == nil {
		return nil, errorf(FailedPrecondition, "Deployment %s runs what revision %d had already", dep.Doc.Key, number)
	}
	w.revised.Summary, w.revised.RollbackOf = rollbackSummary(number, ""), number
	w.guards = append(w.guards, guard(pmpb.Guard_TABLE_DEPLOYMENT, dep.Doc.Key, dep.ModifyIndex))
	d, err := w.command()
	if err != nil {
		return nil, fromStore(err)
	}
	d.note = rollbackNote(dep, number)
	d.outcome = &RolloutOutcome{Key: dep.Doc.Key, Phase: w.rollout.GetPhase(), Revision: dep.RevisionNumber() + 1}
	return d, nil
}

// pastRevision finds a kept revision by its number, or with 0 the last before the present
// one that did not fail.
func pastRevision(snap *fsm.Snapshot, dep *fsm.Deployment, number uint64) (*pmpb.Revision, error) {
	key := dep.Doc.Key
	if number == dep.RevisionNumber() {
		return nil, errorf(FailedPrecondition, "Deployment %s has revision %d already", key, number)
	}
	for _, past := range snap.Revisions(key) {
		bad := past.GetOutcome() == fsm.OutcomeFailed || past.GetOutcome() == fsm.OutcomeSuperseded
		if past.GetNote().GetNumber() == number || number == 0 && !bad {
			return past, nil
		}
	}
	if number == 0 {
		return nil, errorf(FailedPrecondition, "Deployment %s has no earlier revision that worked", key)
	}
	return nil, errorf(NotFound, "Revision not found: %s has none of the number %d among its last %d", key, number, fsm.MaxRevisions)
}

// PhaseName is the name of a phase for people; None where there is no rollout.
func PhaseName(p pmpb.RolloutPhase) string {
	switch p {
	case pmpb.RolloutPhase_ROLLOUT_PHASE_PROGRESSING:
		return "Progressing"
	case pmpb.RolloutPhase_ROLLOUT_PHASE_PAUSED:
		return "Paused"
	case pmpb.RolloutPhase_ROLLOUT_PHASE_ROLLING_BACK:
		return "RollingBack"
	case pmpb.RolloutPhase_ROLLOUT_PHASE_COMPLETE:
		return "Complete"
	case pmpb.RolloutPhase_ROLLOUT_PHASE_FAILED:
		return "Failed"
	case pmpb.RolloutPhase_ROLLOUT_PHASE_ROLLED_BACK:
		return "RolledBack"
	default:
		return "None"
	}
}
