package registry

import (
	"errors"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/scheduler"
)

// preparedFleet is the fleet of one index of the state. To prepare it takes longer
// than to plan on it, and several plans often come on one.
type preparedFleet struct {
	index uint64
	fleet *scheduler.Fleet
}

// fleetOf gives the scheduler's picture of the clusters.
func (r *Registry) fleetOf(snap *fsm.Snapshot) (*scheduler.Fleet, error) {
	if have := r.prepared.Load(); have != nil && have.index == snap.Index() {
		return have.fleet, nil
	}
	fleet, err := prepare(snap, nil)
	if err != nil {
		return nil, err
	}
	r.prepared.Store(&preparedFleet{index: snap.Index(), fleet: fleet})
	return fleet, nil
}

// prepare makes the fleet of the clusters that are not lost.
func prepare(snap *fsm.Snapshot, lost map[string]bool) (*scheduler.Fleet, error) {
	var all []scheduler.Cluster
	for _, c := range snap.Clusters() {
		if !lost[c.GetName()] {
			all = append(all, view(c))
		}
	}
	fleet, err := scheduler.Prepare(all)
	var input *scheduler.InvalidInputError
	if errors.As(err, &input) {
		return nil, errorf(Unprocessable, "The deployment cannot be planned: %v", input)
	}
	return fleet, err
}

// view is the scheduler's picture of a cluster.
func view(c *pmpb.Cluster) scheduler.Cluster {
	return scheduler.Cluster{
		Name:         c.GetName(),
		Region:       c.GetRegion(),
		Zone:         c.GetZone(),
		Labels:       c.GetLabels(),
		Capabilities: c.GetCapabilities(),
		Health:       healthNames[c.GetHealth()],
		Availability: c.Availability,
		NodeCount:    int(c.GetNodeCount()),
		ReadyNodes:   int(c.GetReadyNodes()),
	}
}

var healthNames = map[pmpb.ClusterHealth]scheduler.Health{
	pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY:     scheduler.Healthy,
	pmpb.ClusterHealth_CLUSTER_HEALTH_DEGRADED:    scheduler.Degraded,
	pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE: scheduler.Unreachable,
}

// running names the clusters in which a deployment runs.
func running(snap *fsm.Snapshot, uid string) []string {
	var out []string
	for _, u := range snap.UnitsByDeployment(uid) {
		if !u.GetTombstone() {
			out = append(out, u.GetEnv())
		}
	}
	return out
}
