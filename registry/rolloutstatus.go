package registry

import (
	"time"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/scheduler/rollout"
)

// RolloutStatus is a rollout as the state shows it.
type RolloutStatus struct {
	// Row is nil when the deployment has no rollout.
	Row *pmpb.Rollout
	// Waves is how many there are.
	Waves int
	// Message says what it waits for, why it has ended, or why it is being taken back.
	Message string
	Envs    []RolloutEnvStatus
}

// RolloutEnvStatus is one environment of it.
type RolloutEnvStatus struct {
	Env      string
	Wave     int
	Revision uint64
	// Updated says that it is to run the revision of the rollout.
	Updated bool
	// Settled says that it has been available with it for long enough.
	Settled bool
	Unit    *pmpb.Unit
	// Since is when it was given its revision, and AvailableSince since when it has been
	// available; both may be zero.
	Since, AvailableSince time.Time
	// Detail is why it is not available.
	Detail string
}

// RolloutStatusOf tells how the rollout of a deployment stands. Without one the
// environments have the revision of the deployment.
func (r *Registry) RolloutStatusOf(snap *fsm.Snapshot, dep *fsm.Deployment) *RolloutStatus {
	live := liveUnits(snap, dep.UID)
	row := snap.Rollout(dep.Doc.Key)
	if row == nil {
		out := &RolloutStatus{Waves: 1}
		for _, env := range sortedKeys(live) {
			e := &pmpb.RolloutEnv{Env: env, Revision: dep.RevisionNumber()}
			seen := observeEnv(e, &pmpb.Rollout{Revision: dep.RevisionNumber()}, live[env], snap.Cluster(env))
			out.Envs = append(out.Envs, r.envStatus(e, seen, live[env], 0))
		}
		return out
	}
	out := &RolloutStatus{Row: row, Waves: fsm.RolloutWaves(row), Message: row.GetMessage()}
	state := r.stateOf(snap, row)
	if fsm.RolloutMoves(row.GetPhase()) {
		if step := rollout.Next(state, r.now()); step.Outcome == rollout.Wait {
			out.Message = step.Message
			if row.GetMessage() != "" {
				out.Message = row.GetMessage() + "; " + step.Message
			}
		}
	}
	for i, e := range row.GetEnvs() {
		out.Envs = append(out.Envs, r.envStatus(e, state.Envs[i], live[e.GetEnv()], row.GetMinHealthyTime().AsDuration()))
	}
	return out
}

func (r *Registry) envStatus(e *pmpb.RolloutEnv, seen rollout.Env, u *pmpb.Unit, minHealthy time.Duration) RolloutEnvStatus {
	out := RolloutEnvStatus{
		Env: e.GetEnv(), Wave: seen.Wave, Revision: e.GetRevision(), Updated: seen.Updated, Unit: u, Detail: seen.Detail,
		Since: latestOf(e.GetUpdated()),
	}
	if seen.Available {
		out.AvailableSince = seen.Since
		out.Settled = seen.Updated && !r.now().Before(seen.Since.Add(minHealthy))
	}
	return out
}
