package registry

import (
	"context"
	"errors"

	"google.golang.org/protobuf/proto"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

// PutCluster lets change edit the row of a cluster and stores it if it differs.
// change gets a copy of the stored row, or a row with only the name when the
// cluster is new, and may be called several times; returning an error leaves
// the state as it is. term is the term of the loop that asks: the command is
// refused when another leader has taken over.
func (r *Registry) PutCluster(ctx context.Context, term uint64, name string, change func(row *pmpb.Cluster) error) error {
	for range r.maxAttempts {
		snap := r.store.State().Snapshot()
		have := snap.Cluster(name)
		row := &pmpb.Cluster{Name: name}
		if have != nil {
			row = proto.CloneOf(have)
		}
		if err := change(row); err != nil {
			return err
		}
		if have != nil && proto.Equal(have, row) {
			return nil
		}
		res, err := r.store.Apply(ctx, &pmpb.Command{
			ExpectedTerm: term,
			Guards:       []*pmpb.Guard{guard(pmpb.Guard_TABLE_CLUSTER, name, have.GetModifyIndex())},
			Op:           &pmpb.Command_PutCluster{PutCluster: &pmpb.PutCluster{Cluster: row}},
		})
		if err != nil {
			return fromStore(err)
		}
		var moved *fsm.GuardError
		if errors.As(res.Err, &moved) {
			continue
		}
		return fromStore(res.Err)
	}
	return errorf(Conflict, "Cluster %s kept changing; try again", name)
}

// RemoveCluster forgets a cluster that has no units left.
func (r *Registry) RemoveCluster(ctx context.Context, ri RequestInfo, name string) (uint64, error) {
	_, index, err := r.commit(ctx, ri, func(snap *fsm.Snapshot) (*decision, error) {
		have := snap.Cluster(name)
		if have == nil {
			return nil, errorf(NotFound, "Cluster not found: %s", name)
		}
		if units := snap.UnitsByEnv(name); len(units) > 0 {
			return nil, errorf(FailedPrecondition, "Cluster %s still has %d units; move or delete their deployments first", name, len(units))
		}
		note := fsm.NewNote("cluster.remove", name, "")
		note.Operator = true
		return &decision{note: note, cmd: &pmpb.Command{
			Guards: []*pmpb.Guard{guard(pmpb.Guard_TABLE_CLUSTER, name, have.GetModifyIndex())},
			Op:     &pmpb.Command_RemoveCluster{RemoveCluster: &pmpb.RemoveCluster{Name: name}},
		}}, nil
	})
	return index, err
}

// UpdateUnits commits what clusters said about their units, as one command.
// Updates about an older fence than the unit's have no effect.
func (r *Registry) UpdateUnits(ctx context.Context, term uint64, updates []*pmpb.UnitUpdate) error {
	if len(updates) == 0 {
		return nil
	}
	res, err := r.store.Apply(ctx, &pmpb.Command{
		ExpectedTerm: term,
		Op:           &pmpb.Command_UpdateUnits{UpdateUnits: &pmpb.UpdateUnits{Updates: updates}},
	})
	if err != nil {
		return fromStore(err)
	}
	return fromStore(res.Err)
}
