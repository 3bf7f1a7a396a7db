package registry

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

// Orphan is a runtime that is no longer waited for.
type Orphan struct {
	Env    string
	UnitID string
}

// OrphanOutcome is what Orphan came to.
type OrphanOutcome struct {
	UID, Key string
	Orphans  []Orphan
	// Pending are the environments that are still waited for.
	Pending []string
}

// Orphan gives up waiting for environments to confirm that they have removed a deployment.
// uid is that of the deletion, or of a deployment that has left environments. Without envs
// all are given up that are unreachable. A named one may also be one of which it is not known
// how it is, but none that is within reach: that confirms by itself, or would show the
// runtime again at once. What is given up is removed when its cluster comes back.
func (r *Registry) Orphan(ctx context.Context, ri RequestInfo, uid string, envs []string) (*OrphanOutcome, uint64, error) {
	out, index, err := r.commit(ctx, ri, func(snap *fsm.Snapshot) (*decision, error) {
		if err := checkOrphanLevel(snap); err != nil {
			return nil, err
		}
		return orphan(snap, uid, envs)
	})
	if err != nil {
		return nil, 0, err
	}
	return out.(*OrphanOutcome), index, nil
}

// ForceDelete deletes the deployment of that key, if there is one, and gives up waiting for
// environments as Orphan does; without a deployment it is about the last deletion of the key.
// Nothing is deleted when nothing can be given up.
func (r *Registry) ForceDelete(ctx context.Context, ri RequestInfo, key string, envs []string) (*OrphanOutcome, uint64, error) {
	if _, err := r.store.ReadBarrier(ctx); err != nil {
		return nil, 0, fromStore(err)
	}
	snap := r.store.State().Snapshot()
	if err := r.replay(snap, ri.Idempotency); err != nil {
		return nil, 0, err
	}
	if have := snap.Deployment(key); have != nil {
		if err := checkOrphanLevel(snap); err != nil {
			return nil, 0, err
		}
		if _, err := givenUp(snap, unconfirmed(snap.UnitsByDeployment(have.UID), true), envs); err != nil {
			return nil, 0, err
		}
		first := ri
		first.Idempotency = ri.Idempotency.part("delete")
		out, _, err := r.DeleteDeployment(ctx, first, key)
		var before *Replayed
		switch {
		case err == nil:
			ri.Precondition = Precondition{}
			return r.Orphan(ctx, ri, out.UID, envs)
		case !errors.As(err, &before):
			return nil, 0, err
		}
		// An earlier attempt at this very request has deleted it, and what has the key now is
		// another one.
		snap = r.store.State().Snapshot()
	}
	ri.Precondition = Precondition{}
	var last *pmpb.Deletion
	for _, d := range snap.Deletions() {
		if d.GetDeploymentKey() == key && d.GetCreateIndex() >= last.GetCreateIndex() {
			last = d
		}
	}
	if last == nil {
		return nil, 0, errorf(NotFound, "Deployment not found: %s", key)
	}
	return r.Orphan(ctx, ri, last.GetDeploymentUid(), envs)
}

// part is the idempotency of one step of a request that takes several. No client can give
// a key with a space.
func (i *Idempotency) part(name string) *Idempotency {
	if i == nil {
		return nil
	}
	return &Idempotency{
		Key: i.Key + " " + name, Ephemeral: i.Ephemeral, RequestHash: i.RequestHash,
		Reply: func(any) (int, []byte) { return http.StatusOK, nil },
	}
}

func checkOrphanLevel(snap *fsm.Snapshot) error {
	if level := snap.FeatureLevel(); level < fsm.FailoverFrom {
		return errorf(FailedPrecondition, "Giving up a deletion needs feature level %d, the cluster is at %d: upgrade all servers first", fsm.FailoverFrom, level)
	}
	return nil
}

// unconfirmed are the ids of what environments have to confirm, by environment: tombstones,
// and what will be one when all is deleted.
func unconfirmed(units []*pmpb.Unit, all bool) map[string][]string {
	out := map[string][]string{}
	for _, u := range units {
		if all || u.GetTombstone() {
			out[u.GetEnv()] = append(out[u.GetEnv()], u.GetId())
		}
	}
	return out
}

func orphan(snap *fsm.Snapshot, uid string, envs []string) (*decision, error) {
	outcome := &OrphanOutcome{UID: uid}
	units := snap.UnitsByDeployment(uid)
	pending := unconfirmed(units, false)
	if len(pending) == 0 {
		return nil, errorf(NotFound, "No environment has to confirm a deletion of uid %s", uid)
	}
	outcome.Key = units[0].GetDeploymentKey()
	chosen, err := givenUp(snap, pending, envs)
	if err != nil {
		return nil, err
	}
	cmd := &pmpb.Command{Op: &pmpb.Command_OrphanUnits{OrphanUnits: &pmpb.OrphanUnits{DeploymentUid: uid, Envs: chosen}}}
	var left []string
	for _, env := range sortedKeys(pending) {
		if !slices.Contains(chosen, env) {
			outcome.Pending = append(outcome.Pending, env)
			continue
		}
		// The decision rests on the cluster being out of reach.
		cmd.Guards = append(cmd.Guards, guard(pmpb.Guard_TABLE_CLUSTER, env, snap.Cluster(env).GetModifyIndex()))
		for _, id := range pending[env] {
			outcome.Orphans = append(outcome.Orphans, Orphan{Env: env, UnitID: id})
			left = append(left, id+" in "+env)
		}
	}
	note := fsm.NewNote("deletion.orphan", outcome.Key, "uid "+uid+", left behind: "+strings.Join(left, ", "))
	note.Operator = true
	return &decision{outcome: outcome, note: note, cmd: cmd}, nil
}

// givenUp says which environments are to be given up.
func givenUp(snap *fsm.Snapshot, pending map[string][]string, named []string) ([]string, error) {
	if len(named) == 0 {
		var out []string
		for _, env := range sortedKeys(pending) {
			if ClusterLost(snap, env) {
				out = append(out, env)
			}
		}
		if len(out) == 0 {
			return nil, errorf(FailedPrecondition, "None of the environments that have to confirm is unreachable (%s): they confirm by themselves",
				strings.Join(sortedKeys(pending), ", "))
		}
		return out, nil
	}
	for _, env := range named {
		if len(pending[env]) == 0 {
			return nil, errorf(FailedPrecondition, "Environment %s has nothing to confirm; waiting are: %s", env, strings.Join(sortedKeys(pending), ", "))
		}
		if h := snap.Cluster(env).GetHealth(); h == pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY || h == pmpb.ClusterHealth_CLUSTER_HEALTH_DEGRADED {
			return nil, errorf(FailedPrecondition, "Environment %s is within reach: it confirms by itself, and would show what is given up again at once", env)
		}
	}
	return dedupe(named), nil
}

// ClusterLost reports that a cluster cannot be asked for anything.
func ClusterLost(snap *fsm.Snapshot, env string) bool {
	c := snap.Cluster(env)
	h := c.GetHealth()
	return c == nil || h == pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE || h == pmpb.ClusterHealth_CLUSTER_HEALTH_FAILOVER_ELIGIBLE
}

// BuryStrays turns strays of a cluster into tombstones. term is the term of the loop that
// asks.
func (r *Registry) BuryStrays(ctx context.Context, term uint64, env string, units []string) error {
	res, err := r.store.Apply(ctx, &pmpb.Command{
		ExpectedTerm: term,
		Op:           &pmpb.Command_BuryStrays{BuryStrays: &pmpb.BuryStrays{Env: env, UnitIds: units}},
	})
	if err != nil {
		return fromStore(err)
	}
	return fromStore(res.Err)
}
