package registry

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/scheduler"
	"oaas.io/control-plane/scheduler/rollout"
)

// agentLeader is who does what nobody asked for at the moment.
const agentLeader = "leader"

// RolloutProgress is what AdvanceRollout came to.
type RolloutProgress struct {
	// Stepped says that something was written, so that there may be more to do at once.
	Stepped bool
	// Next is when to ask again if nothing changes before; zero: not at all.
	Next time.Time
	// Phase of the rollout now. Turned says that it was another one before.
	Phase  pmpb.RolloutPhase
	Turned bool
	// WaveTook is how long the wave took that has ended with the step; zero when none has.
	WaveTook time.Duration
}

// AdvanceRollout takes the rollout of a deployment one step further if it is time for that.
// Everything that decides about it is in the state, so that it does not matter who asks, or
// how often. term is the term of the loop that asks: the command is refused when another
// leader has taken over. Before patience no deadline ends, and nothing more is given what
// others had to prove first: who has just begun to lead has not heard yet what the clusters
// have done meanwhile.
func (r *Registry) AdvanceRollout(ctx context.Context, term uint64, key string, patience time.Time) (*RolloutProgress, error) {
	var last error
	for range r.maxAttempts {
		snap := r.store.State().Snapshot()
		row, dep := snap.Rollout(key), snap.Deployment(key)
		if row == nil || dep == nil || !fsm.RolloutMoves(row.GetPhase()) {
			return &RolloutProgress{Phase: row.GetPhase()}, nil
		}
		state := r.stateOf(snap, row)
		if !state.Until.IsZero() && state.Until.Before(patience) {
			state.Until = patience
		}
		step := rollout.Next(state, r.now())
		if r.now().Before(patience) && restsOnEvidence(row, step) {
			return &RolloutProgress{Next: patience, Phase: row.GetPhase()}, nil
		}
		if step.Outcome == rollout.Wait {
			return &RolloutProgress{Next: step.Next, Phase: row.GetPhase()}, nil
		}
		cmd, out, err := r.carryOut(snap, dep, row, step)
		if err != nil {
			return nil, err
		}
		cmd.ExpectedTerm = term
		cmd.Guards = []*pmpb.Guard{
			guard(pmpb.Guard_TABLE_DEPLOYMENT, key, dep.ModifyIndex), guard(pmpb.Guard_TABLE_ROLLOUT, key, row.GetModifyIndex()),
		}
		if step.Outcome == rollout.Advance || step.Outcome == rollout.Complete {
			cmd.Guards = append(cmd.Guards, evidence(snap, dep.UID, state)...)
		}
		res, err := r.store.Apply(ctx, cmd)
		if err != nil {
			return nil, fromStore(err)
		}
		var moved *fsm.GuardError
		if errors.As(res.Err, &moved) {
			last = res.Err
			continue
		}
		return out, fromStore(res.Err)
	}
	return nil, fromStore(last)
}

// evidence guards what a step rests on: environments that were available when it was decided.
// What others say meanwhile changes nothing about it.
func evidence(snap *fsm.Snapshot, uid string, s rollout.State) []*pmpb.Guard {
	var out []*pmpb.Guard
	live := liveUnits(snap, uid)
	for _, e := range s.Envs {
		if u := live[e.Name]; e.Available && u != nil {
			out = append(out, guard(pmpb.Guard_TABLE_UNIT, u.GetId(), u.GetModifyIndex()))
		}
	}
	return out
}

// restsOnEvidence reports that a step is taken because environments that were changed are
// well. On the way back nothing is, nor when the first ones are changed.
func restsOnEvidence(row *pmpb.Rollout, step rollout.Step) bool {
	if step.Outcome != rollout.Advance && step.Outcome != rollout.Complete || goesBack(row) {
		return false
	}
	return slices.ContainsFunc(row.GetEnvs(), func(e *pmpb.RolloutEnv) bool { return e.GetUpdated() != nil })
}

// carryOut makes the command of a step.
func (r *Registry) carryOut(snap *fsm.Snapshot, dep *fsm.Deployment, row *pmpb.Rollout, step rollout.Step) (*pmpb.Command, *RolloutProgress, error) {
	next, now := proto.CloneOf(row), r.now()
	out := &RolloutProgress{Stepped: true}
	var units []*pmpb.PlannedUnit
	var err error
	switch step.Outcome {
	case rollout.RollBack:
		cmd, err := r.takeBack(snap, dep, row, step.Reason, step.Message)
		if err != nil {
			return nil, nil, err
		}
		out.Phase, out.Turned = pmpb.RolloutPhase_ROLLOUT_PHASE_ROLLING_BACK, true
		cmd.Note = rollbackNote(dep, row.GetStable())
		cmd.Note.Agent = agentLeader
		return cmd, out, nil
	case rollout.Advance:
		if wave := uint32(step.Wave); wave != row.GetWave() {
			out.WaveTook = now.Sub(row.GetWaveStarted().AsTime())
			next.Wave, next.WaveStarted = wave, nil
		}
		if next.GetWaveStarted() == nil {
			next.WaveStarted = timestamppb.New(now)
		}
		r.renew(next)
		units, err = r.update(snap, dep, next, step.Update)
	case rollout.Complete:
		out.WaveTook = now.Sub(row.GetWaveStarted().AsTime())
		next.Phase, next.Deadline, next.Ended = pmpb.RolloutPhase_ROLLOUT_PHASE_COMPLETE, nil, timestamppb.New(now)
		if goesBack(row) {
			next.Phase = pmpb.RolloutPhase_ROLLOUT_PHASE_ROLLED_BACK
		}
	default:
		r.fail(next, step.Reason, step.Message)
	}
	out.Phase, out.Turned = next.GetPhase(), next.GetPhase() != row.GetPhase()
	return stepCommand(next, units), out, err
}

// fail stops a rollout where it is.
func (r *Registry) fail(row *pmpb.Rollout, reason, message string) {
	row.Phase, row.Reason, row.Message = pmpb.RolloutPhase_ROLLOUT_PHASE_FAILED, reason, clipMessage(message)
	row.Deadline, row.Paused, row.Ended = nil, nil, timestamppb.New(r.now())
}

// stepCommand leaves out of the row what the state keeps by itself.
func stepCommand(row *pmpb.Rollout, units []*pmpb.PlannedUnit) *pmpb.Command {
	row.StableDocument, row.StableClass, row.Class = nil, nil, nil
	return &pmpb.Command{Op: &pmpb.Command_StepRollout{StepRollout: &pmpb.StepRollout{Rollout: row, Units: units}}}
}

// update gives environments the revision of the rollout, in the row, and their units.
func (r *Registry) update(snap *fsm.Snapshot, dep *fsm.Deployment, row *pmpb.Rollout, envs []string) ([]*pmpb.PlannedUnit, error) {
	cls, err := decodeClass(row.GetClass())
	if err != nil {
		return nil, fromStore(err)
	}
	wanted := map[string]bool{}
	for _, env := range envs {
		wanted[env] = true
	}
	grid, err := layoutOf(snap, dep.UID, dep.Doc, dep.Move)
	if err != nil {
		return nil, err
	}
	shares := planOf(snap.Plan(dep.Doc.Key))
	var units []*pmpb.PlannedUnit
	for _, e := range row.GetEnvs() {
		if !wanted[e.GetEnv()] {
			continue
		}
		share := shares[e.GetEnv()]
		if share == nil {
			share = &scheduler.Assignment{Cluster: e.GetEnv()}
		}
		planned, err := newPlanned(grid.apply(buildUnit(dep.UID, share, dep.Doc, cls)))
		if err != nil {
			return nil, err
		}
		units = append(units, planned)
		e.Revision, e.Updated = row.GetRevision(), timestamppb.New(r.now())
	}
	return units, nil
}

// takeBack makes the command with which a rollout turns round: the deployment has the
// release of its stable revision again, as a revision of its own, and the environments that
// have another one go back to it. It needs no plan and no package, so that it is always
// possible; no unit is changed by it yet.
func (r *Registry) takeBack(snap *fsm.Snapshot, dep *fsm.Deployment, row *pmpb.Rollout, reason, message string) (*pmpb.Command, error) {
	from, err := storedStable(row)
	if err != nil {
		return nil, err
	}
	doc, err := json.Marshal(withRelease(dep.Doc, from.doc))
	if err != nil {
		return nil, fromStore(err)
	}
	next := proto.CloneOf(row)
	next.Revision, next.Stable = dep.RevisionNumber()+1, dep.RevisionNumber()+1
	next.Phase, next.Reason, next.Message = pmpb.RolloutPhase_ROLLOUT_PHASE_ROLLING_BACK, reason, clipMessage(message)
	next.Class, next.StableClass, next.StableDocument = row.GetStableClass(), nil, nil
	next.Wave, next.WaveStarted, next.Deadline, next.Paused, next.Ended = 0, nil, nil, nil, nil
	for _, e := range next.GetEnvs() {
		e.Wave, e.Updated = 0, nil
		if e.GetRevision() == from.number {
			e.Revision = next.GetRevision()
		}
	}
	live := liveUnits(snap, dep.UID)
	var units []*pmpb.PlannedUnit
	for _, env := range sortedKeys(live) {
		content, err := fsm.Desired(live[env])
		if err != nil {
			return nil, fromStore(err)
		}
		units = append(units, &pmpb.PlannedUnit{Id: live[env].GetId(), Env: env, Desired: content, ContentHash: live[env].GetContentHash()})
	}
	op := &pmpb.CommitDeployment{
		Uid: dep.UID, Document: doc, Units: units, Rollout: next, Move: proto.CloneOf(dep.Move),
		Revised: &pmpb.Revised{Summary: rollbackSummary(from.number, reason), RollbackOf: from.number, Outcome: fsm.OutcomeFailed},
	}
	if plan := snap.Plan(dep.Doc.Key); plan != nil {
		op.Plan = plan.Document
	}
	return &pmpb.Command{Op: &pmpb.Command_CommitDeployment{CommitDeployment: op}}, nil
}
