package registry

import (
	"context"
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
// all are given up that are out of reach; a named one has to be out of reach, too: any other
// confirms by itself, or would show the runtime again at once. What is given up is removed
// when its cluster comes back.
func (r *Registry) Orphan(ctx context.Context, ri RequestInfo, uid string, envs []string) (*OrphanOutcome, uint64, error) {
	out, index, err := r.commit(ctx, ri, func(snap *fsm.Snapshot) (*decision, error) {
		if level := snap.FeatureLevel(); level < fsm.FailoverFrom {
			return nil, errorf(FailedPrecondition, "Giving up a deletion needs feature level %d, the cluster is at %d: upgrade all servers first", fsm.FailoverFrom, level)
		}
		return orphan(snap, uid, envs)
	})
	if err != nil {
		return nil, 0, err
	}
	return out.(*OrphanOutcome), index, nil
}

func orphan(snap *fsm.Snapshot, uid string, envs []string) (*decision, error) {
	outcome := &OrphanOutcome{UID: uid}
	pending := map[string][]string{}
	for _, u := range snap.UnitsByDeployment(uid) {
		if u.GetTombstone() {
			outcome.Key = u.GetDeploymentKey()
			pending[u.GetEnv()] = append(pending[u.GetEnv()], u.GetId())
		}
	}
	if len(pending) == 0 {
		return nil, errorf(NotFound, "No environment has to confirm a deletion of uid %s", uid)
	}
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
			if lost, _ := outOfReach(snap, env); lost {
				out = append(out, env)
			}
		}
		if len(out) == 0 {
			return nil, errorf(FailedPrecondition, "All environments that have not confirmed are within reach (%s): they confirm by themselves. GET /api/v1/deletions says what they wait for",
				strings.Join(sortedKeys(pending), ", "))
		}
		return out, nil
	}
	for _, env := range named {
		if len(pending[env]) == 0 {
			return nil, errorf(FailedPrecondition, "Environment %s has nothing to confirm; waiting are: %s", env, strings.Join(sortedKeys(pending), ", "))
		}
		if lost, state := outOfReach(snap, env); !lost {
			return nil, errorf(FailedPrecondition, "Environment %s is %s: it confirms by itself, and would show what is given up again at once", env, state)
		}
	}
	return dedupe(named), nil
}

// outOfReach reports whether a cluster cannot be asked for anything, and how it is.
func outOfReach(snap *fsm.Snapshot, env string) (bool, string) {
	c := snap.Cluster(env)
	switch c.GetHealth() {
	case pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE, pmpb.ClusterHealth_CLUSTER_HEALTH_FAILOVER_ELIGIBLE:
		return true, "unreachable"
	case pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY:
		return false, "healthy"
	case pmpb.ClusterHealth_CLUSTER_HEALTH_DEGRADED:
		return false, "degraded, but within reach"
	}
	if c == nil {
		return true, "not registered"
	}
	return false, "of unknown health"
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
