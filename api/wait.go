package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
)

// waitOf gives the ?wait of a request that has one, within the allowed maximum.
// A value that is wrong is refused by the handler.
func (s *Server) waitOf(r *http.Request) time.Duration {
	if r.Method != http.MethodPost || !r.URL.Query().Has("wait") {
		return 0
	}
	return min(parseQuery(r.URL.RawQuery).duration("wait"), s.opts.MaxWait)
}

// await turns the answer to an accepted deployment into one that says whether it
// became available within wait: 200, or 202 with what it is waiting for.
func (s *Server) await(ctx context.Context, key string, ans *answer, wait time.Duration) *answer {
	index, _ := strconv.ParseUint(ans.header.Get("PM-Index"), 10, 64) // 0: as fresh as can be had
	timed, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	available, detail := s.untilAvailable(timed, key, registry.Consistency{AtIndex: index})
	out := *ans
	out.header = ans.header.Clone()
	out.header.Del(headerContentLength)
	id := unitIDIn(ans.body)
	if available {
		out.status, out.body = encoded(http.StatusOK, newWritten(id, "available", "Deployment is available in all its environments"))
		return &out
	}
	out.status, out.body = encoded(http.StatusAccepted, newWritten(id, "created", fmt.Sprintf("Deployment accepted, but not available within %s: %s", wait, detail)))
	return &out
}

// untilAvailable watches the local state until the deployment is available with the
// revision that it has at first, or says what it was like when ctx ended or there was nothing
// more to wait for.
func (s *Server) untilAvailable(ctx context.Context, key string, from registry.Consistency) (available bool, detail string) {
	snap, err := s.view(ctx, from)
	if err != nil {
		return false, err.Error()
	}
	var wanted uint64
	for {
		dep := snap.Deployment(key)
		if dep == nil {
			return false, "it was deleted meanwhile"
		}
		if wanted == 0 {
			wanted = dep.RevisionNumber()
		}
		units, row := snap.PlannedUnits(dep), snap.Rollout(key)
		condition := fsm.DeploymentCondition(units)
		detail = "its condition is " + string(condition)
		switch {
		case dep.Revision.GetRollbackOf() != 0 &&
			(dep.RevisionNumber() != wanted || row.GetPhase() == pmpb.RolloutPhase_ROLLOUT_PHASE_ROLLING_BACK):
			// It may have been taken back before it was first looked at.
			return false, detail + "; it was taken back: " + reasonText(row)
		case row.GetPhase() == pmpb.RolloutPhase_ROLLOUT_PHASE_FAILED:
			return false, detail + "; " + rolloutTrouble(row)
		case row != nil && !fsm.RolloutSettled(row.GetPhase()):
			detail += fmt.Sprintf("; its rollout is %s in wave %d of %d", registry.PhaseName(row.GetPhase()), row.GetWave()+1, fsm.RolloutWaves(row))
		case condition == model.ConditionRunning && complete(units) && !outOfReach(snap, units):
			return true, ""
		}
		if text := troubles(snap, units); text != "" {
			detail += "; " + text
		}
		if givenUp(units) {
			return false, detail
		}
		select {
		case <-snap.WatchUnitsByDeployment(dep.UID):
		case <-snap.WatchDeployment(key):
		case <-snap.WatchRollout(key):
		case <-snap.WatchClusters():
		case <-s.life.Done():
			return false, detail + "; this node is stopping"
		case <-ctx.Done():
			return false, detail
		}
		snap = s.opts.Registry.State().Snapshot()
	}
}

// complete reports that every cluster runs its share, and all of it with what is wished now.
func complete(units []*pmpb.Unit) bool {
	return !slices.ContainsFunc(units, func(u *pmpb.Unit) bool { return !u.GetTombstone() && !fsm.UnitComplete(u) })
}

// outOfReach reports that a share runs where nobody can be asked whether it still does.
func outOfReach(snap *fsm.Snapshot, units []*pmpb.Unit) bool {
	return slices.ContainsFunc(units, func(u *pmpb.Unit) bool {
		return !u.GetTombstone() && fsm.Unreachable(snap.Cluster(u.GetEnv()).GetHealth())
	})
}

// givenUp reports that a cluster has a fault that waiting does not mend.
func givenUp(units []*pmpb.Unit) bool {
	return slices.ContainsFunc(units, func(u *pmpb.Unit) bool {
		fault := fsm.UnitFault(u)
		return fault != nil && fault.Final
	})
}
