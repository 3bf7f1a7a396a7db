package registry

import (
	"context"
	"errors"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/scheduler"
	"oaas.io/control-plane/scheduler/move"
)

// MoveProgress is what AdvanceMove or Relocate came to.
type MoveProgress struct {
	// Stepped says that something other than why it is held was written, so that there may be
	// more to do.
	Stepped bool
	// Begun, Replaced and Held say what happened: the reason for which it has begun to leave
	// environments, that one was left, and the code for which it does not go on.
	Begun    pmpb.MoveReason
	Replaced bool
	Held     string
	// Took is the time from the beginning of the move, when an environment was left.
	Took time.Duration
}

// heldAfter is how long a move waits for what it has just sent before that is told.
const heldAfter = 30 * time.Second

// AdvanceMove takes the move of a deployment one step further if it is time for that.
// Everything that decides about it is in the state, so that it does not matter who asks, or
// how often. term is the term of the loop that asks: the command is refused when another
// leader has taken over.
func (r *Registry) AdvanceMove(ctx context.Context, term uint64, key string) (*MoveProgress, error) {
	return r.stepping(ctx, term, key, func(snap *fsm.Snapshot, dep *fsm.Deployment) (*pmpb.Command, *MoveProgress, error) {
		if !Moving(dep.Move) {
			return nil, &MoveProgress{}, nil
		}
		fleet, err := r.fleetOf(snap)
		if err != nil {
			return nil, nil, err
		}
		kind, target := ruleOf(snap.Plan(key))
		state := stateOfMove(snap, fleet, dep.UID, dep.Move, kind, target)
		step := move.Next(state)
		if row := snap.Rollout(key); row != nil && fsm.RolloutMoves(row.GetPhase()) && !aboutLost(state, step) {
			step = move.Step{Env: step.Env, Code: codeRollout, Message: "waits until the rollout has ended"}
		}
		cmd, out, err := r.carryOutMove(snap, dep, step)
		if cmd != nil && step.Kind != move.Wait {
			cmd.Guards = append(cmd.Guards, witnesses(snap, dep.UID, state)...)
		}
		return cmd, out, err
	})
}

// witnesses guards what a step rests on: units that were available when it was decided, and
// the clusters that they run in.
func witnesses(snap *fsm.Snapshot, uid string, s move.State) []*pmpb.Guard {
	var out []*pmpb.Guard
	for _, u := range snap.UnitsByDeployment(uid) {
		if u.GetTombstone() || !slices.ContainsFunc(s.Members, func(m move.Member) bool { return m.Name == u.GetEnv() && m.Serves }) {
			continue
		}
		out = append(out, guard(pmpb.Guard_TABLE_UNIT, u.GetId(), u.GetModifyIndex()),
			guard(pmpb.Guard_TABLE_CLUSTER, u.GetEnv(), snap.Cluster(u.GetEnv()).GetModifyIndex()))
	}
	return out
}

// codeRollout is why a move waits that could go on otherwise.
const codeRollout = "RolloutInProgress"

// aboutLost reports that a step is about an environment that is lost: a rollout may wait for
// nothing else, and what is lost takes no part in it.
func aboutLost(s move.State, step move.Step) bool {
	for _, m := range s.Members {
		if m.Leaving && m.Lost && (m.Name == step.Env || step.Kind == move.Promote && m.Replacement == step.Env) {
			return true
		}
	}
	return false
}

// stepping decides about a deployment on the freshest state and proposes the command, anew
// when the deployment was changed meanwhile.
func (r *Registry) stepping(
	ctx context.Context, term uint64, key string, decide func(*fsm.Snapshot, *fsm.Deployment) (*pmpb.Command, *MoveProgress, error),
) (*MoveProgress, error) {
	var last error
	for range r.maxAttempts {
		snap := r.store.State().Snapshot()
		dep := snap.Deployment(key)
		if dep == nil || snap.FeatureLevel() < fsm.FailoverFrom {
			return &MoveProgress{}, nil
		}
		cmd, out, err := decide(snap, dep)
		if err != nil || cmd == nil {
			return out, err
		}
		cmd.ExpectedTerm = term
		cmd.Guards = append(cmd.Guards, guard(pmpb.Guard_TABLE_DEPLOYMENT, key, dep.ModifyIndex))
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

// carryOutMove makes the command of a step; nil when there is nothing to write.
func (r *Registry) carryOutMove(snap *fsm.Snapshot, dep *fsm.Deployment, step move.Step) (*pmpb.Command, *MoveProgress, error) {
	next, out := proto.CloneOf(dep.Move), &MoveProgress{Stepped: true}
	op := &pmpb.StepMove{Key: dep.Doc.Key, Uid: dep.UID}
	switch step.Kind {
	case move.Wait:
		return r.hold(dep, step)
	case move.Withdraw:
		op.Withdraw, op.Replacement = step.Env, step.Replacement
		next.Leaving = slices.DeleteFunc(next.Leaving, func(l *pmpb.Leaving) bool { return l.GetEnv() == step.Env })
		next.Voters = slices.DeleteFunc(next.Voters, func(v string) bool { return v == step.Env })
		out.Replaced, out.Took = true, r.now().Sub(next.GetStarted().AsTime())
	case move.Promote:
		next.Voters = slices.Sorted(slices.Values(slices.Concat(next.Voters, []string{step.Env}, step.With)))
	case move.Demote:
		next.Voters = slices.DeleteFunc(next.Voters, func(v string) bool { return v == step.Env || slices.Contains(step.With, v) })
	case move.Exchange:
		next.Voters[slices.Index(next.Voters, step.Env)] = step.Replacement
		slices.Sort(next.Voters)
	default:
		return nil, &MoveProgress{}, nil
	}
	next.Held = nil
	if !moves(next, sortedKeys(liveUnits(snap, dep.UID))) {
		next = settled(next)
	}
	op.Move = next
	var err error
	if len(dep.Move.GetVoters()) > 0 {
		op.Units, err = relaid(snap, dep, next)
	}
	return &pmpb.Command{Op: &pmpb.Command_StepMove{StepMove: op}}, out, err
}

// relaid gives the units that stay with another layout of the data grid.
func relaid(snap *fsm.Snapshot, dep *fsm.Deployment, next *pmpb.Move) ([]*pmpb.PlannedUnit, error) {
	grid, err := layoutOf(snap, dep.UID, dep.Doc, next)
	if err != nil {
		return nil, err
	}
	live := liveUnits(snap, dep.UID)
	var out []*pmpb.PlannedUnit
	for _, env := range sortedKeys(live) {
		content, err := fsm.Desired(live[env])
		if err != nil {
			return nil, fromStore(err)
		}
		planned, err := newPlanned(grid.apply(content))
		if err != nil {
			return nil, err
		}
		out = append(out, planned)
	}
	return out, nil
}

// hold notes why a move does not go on. What it has just sent is given some time before.
func (r *Registry) hold(dep *fsm.Deployment, step move.Step) (*pmpb.Command, *MoveProgress, error) {
	young := r.now().Sub(dep.Move.GetStarted().AsTime()) < heldAfter
	if young && (step.Code == move.CodeReplacement || step.Code == move.CodeUnsettled) {
		return nil, &MoveProgress{}, nil
	}
	reason := pmpb.MoveReason_MOVE_REASON_UNSPECIFIED
	for _, l := range dep.Move.GetLeaving() {
		if l.GetEnv() == step.Env || reason == 0 {
			reason = l.GetReason()
		}
	}
	return r.heldBecause(dep, step.Env, reason, step.Code, step.Message)
}

// heldBecause notes why a deployment does not leave an environment, unless that is noted
// already.
func (r *Registry) heldBecause(dep *fsm.Deployment, env string, reason pmpb.MoveReason, code, message string) (*pmpb.Command, *MoveProgress, error) {
	out := &MoveProgress{Held: code}
	message = clipMessage(message)
	have := dep.Move.GetHeld()
	if have.GetCode() == code && have.GetEnv() == env && have.GetMessage() == message {
		return nil, out, nil
	}
	next := &pmpb.Move{}
	if dep.Move != nil {
		next = proto.CloneOf(dep.Move)
	}
	since := timestamppb.New(r.now())
	if have.GetCode() == code && have.GetEnv() == env {
		since = have.GetSince()
	}
	next.Held = &pmpb.Held{Code: code, Message: message, Env: env, Reason: reason, Since: since}
	return &pmpb.Command{Op: &pmpb.Command_StepMove{StepMove: &pmpb.StepMove{Key: dep.Doc.Key, Uid: dep.UID, Move: next}}}, out, nil
}

// released takes back why a deployment was held.
func released(dep *fsm.Deployment) *pmpb.Command {
	next := proto.CloneOf(dep.Move)
	if next.Held = nil; !Moving(next) {
		next = settled(next)
	}
	return &pmpb.Command{Op: &pmpb.Command_StepMove{StepMove: &pmpb.StepMove{Key: dep.Doc.Key, Uid: dep.UID, Move: next}}}
}

// lossNow is the probability that a deployment is not available where it runs now, as far as
// that serves.
func lossNow(snap *fsm.Snapshot, fleet *scheduler.Fleet, dep *fsm.Deployment, kind scheduler.Kind, target float64) float64 {
	state := stateOfMove(snap, fleet, dep.UID, dep.Move, kind, target)
	var serves []string
	members := 0
	for _, m := range state.Members {
		if m.Voter || kind != scheduler.Quorum {
			members++
			if m.Serves {
				serves = append(serves, m.Name)
			}
		}
	}
	return state.Loss(serves, members)
}
