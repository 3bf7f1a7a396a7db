package registry

import (
	"context"
	"strings"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

// Replan plans a deployment anew, from what its user asked for and the environments as
// they are now, and commits what has changed. What runs is kept as far as it does; to
// rebalance is to move to something better where that is worth while. Nothing is written
// when everything stays as it is.
func (r *Registry) Replan(ctx context.Context, ri RequestInfo, key string, rebalance bool) (*Preview, uint64, error) {
	out, index, err := r.commit(ctx, ri, func(snap *fsm.Snapshot) (*decision, error) {
		w, outcome, have, err := r.decideAgain(snap, key, rebalance, ri.Precondition)
		if err != nil {
			return nil, err
		}
		if outcome.Change == ChangeNone {
			return &decision{outcome: outcome}, nil
		}
		w.guards = append(w.guards, guard(pmpb.Guard_TABLE_DEPLOYMENT, key, have.ModifyIndex))
		d, err := w.command()
		if err != nil {
			return nil, fromStore(err)
		}
		d.note = fsm.NewNote("deployment.replan", key, "envs: "+strings.Join(w.plan.Clusters, " "))
		d.outcome = outcome
		return d, nil
	})
	if err != nil {
		return nil, 0, err
	}
	return out.(*Preview), index, nil
}

// PreviewReplan decides like Replan on a snapshot, and changes nothing.
func (r *Registry) PreviewReplan(snap *fsm.Snapshot, key string, rebalance bool, pre Precondition) (*Preview, error) {
	_, outcome, _, err := r.decideAgain(snap, key, rebalance, pre)
	return outcome, err
}

// decideAgain decides about a deployment as it is, and tells what that would change. While a
// rollout is under way its release stays: what is to come in later waves is no change of the
// plan.
func (r *Registry) decideAgain(snap *fsm.Snapshot, key string, rebalance bool, pre Precondition) (*wish, *Preview, *fsm.Deployment, error) {
	have := snap.Deployment(key)
	if have == nil {
		return nil, nil, nil, errorf(NotFound, "Deployment not found: %s", key)
	}
	if err := pre.check("Deployment "+key, have.ModifyIndex); err != nil {
		return nil, nil, nil, err
	}
	want := intent{rebalance: rebalance, reason: pmpb.MoveReason_MOVE_REASON_REPLAN}
	if now := snap.Rollout(key); underWay(now) {
		var err error
		if want.cls, err = decodeClass(now.GetClass()); err != nil {
			return nil, nil, nil, fromStore(err)
		}
	}
	doc := have.Doc.Clone()
	unsettle(doc, have.UID, named(snap, key))
	w, err := r.decideDeployment(snap, doc, have.UID, want)
	if err != nil {
		return nil, nil, nil, err
	}
	outcome := w.preview(snap, false)
	if err := r.stage(snap, have, w); err != nil {
		return nil, nil, nil, err
	}
	if w.revised == nil {
		outcome = w.preview(snap, false)
	}
	return w, outcome, have, nil
}
