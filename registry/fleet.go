package registry

import (
	"cmp"
	"errors"
	"maps"

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

// fleetOf gives the scheduler's picture of the clusters. Those that are drained are given
// nothing new; what runs there stays in plans until the leader moves it, see Relocate.
func (r *Registry) fleetOf(snap *fsm.Snapshot) (*scheduler.Fleet, error) {
	if have := r.prepared.Load(); have != nil && have.index == snap.Index() {
		return have.fleet, nil
	}
	fleet, err := prepare(snap, nil, nil)
	if err != nil {
		return nil, err
	}
	r.prepared.Store(&preparedFleet{index: snap.Index(), fleet: fleet})
	return fleet, nil
}

// prepare makes the fleet of the clusters that are not lost, some of which are to be
// left.
func prepare(snap *fsm.Snapshot, lost, drained map[string]bool) (*scheduler.Fleet, error) {
	var all []scheduler.Cluster
	seen := Observe(snap)
	for _, c := range seen.clusters {
		if lost[c.GetName()] {
			continue
		}
		one := view(c, seen.Availability(c))
		one.Draining = drained[one.Name]
		if one.MaxUnits > 0 {
			// Only where it matters: there may be very many units.
			one.Units = unitsIn(snap, one.Name)
		}
		if one.MaxUnitsPerPackage > 0 {
			one.UnitsOf = unitsByPackage(snap, one.Name)
		}
		all = append(all, one)
	}
	fleet, err := scheduler.Prepare(all, seen.domains())
	var input *scheduler.InvalidInputError
	if errors.As(err, &input) {
		return nil, errorf(Unprocessable, "The deployment cannot be planned: %v", input)
	}
	return fleet, err
}

// view is the scheduler's picture of a cluster: what it reports, and what operators say.
func view(c *pmpb.Cluster, known Availability) scheduler.Cluster {
	p := c.GetPolicy()
	region, zone := placeOf(c)
	out := scheduler.Cluster{
		Name:         c.GetName(),
		Region:       region,
		Zone:         zone,
		Provider:     p.GetProvider(),
		Labels:       labelsOf(c),
		Capabilities: c.GetCapabilities(),
		Health:       healthNames[c.GetHealth()],
		Availability: known.Used,
		Source:       known.Source,
		NodeCount:    int(c.GetNodeCount()),
		ReadyNodes:   int(c.GetReadyNodes()),
		Cordoned:     p.GetCordoned() || p.GetDraining(),
		CordonReason: cmp.Or(p.GetCordonReason(), p.GetDrainReason()),
		Latency:      p.GetLatencyMs(),
		MaxUnits:     int(min(p.GetMaxUnits(), maxUnitsOfAll)),

		MaxUnitsPerPackage: int(min(p.GetMaxUnitsPerPackage(), maxUnitsOfAll)),
	}
	if p != nil {
		out.Cost = p.Cost
	}
	if r := c.GetResources(); r != nil {
		out.Resources = scheduler.Resources{
			AllocatableMillicores: r.AllocatableMillicores, AllocatableBytes: r.AllocatableBytes,
			FreeMillicores: r.FreeMillicores, FreeBytes: r.FreeBytes,
		}
	}
	for _, t := range p.GetTaints() {
		out.Taints = append(out.Taints, scheduler.Taint{
			Key: t.GetKey(), Value: t.GetValue(), Prefer: t.GetEffect() == pmpb.Taint_EFFECT_PREFER_NO_SELECT,
		})
	}
	return out
}

// placeOf gives the region and the zone of a cluster: those that operators say, else
// those that it reports.
func placeOf(c *pmpb.Cluster) (region, zone string) {
	region, zone = c.GetRegion(), c.GetZone()
	if p := c.GetPolicy(); p != nil {
		if p.Region != nil {
			region = p.GetRegion()
		}
		if p.Zone != nil {
			zone = p.GetZone()
		}
	}
	return region, zone
}

// labelsOf gives the labels that a cluster reports and those of operators, which hold
// where both have one.
func labelsOf(c *pmpb.Cluster) map[string]string {
	if len(c.GetPolicy().GetLabels()) == 0 {
		return c.GetLabels()
	}
	out := maps.Clone(c.GetLabels())
	if out == nil {
		out = map[string]string{}
	}
	maps.Copy(out, c.GetPolicy().GetLabels())
	return out
}

// unitsIn counts the units that a cluster is to run.
func unitsIn(snap *fsm.Snapshot, env string) int {
	n := 0
	for _, u := range snap.UnitsByEnv(env) {
		if !u.GetTombstone() {
			n++
		}
	}
	return n
}

// unitsByPackage counts the units that a cluster is to run by their packages.
func unitsByPackage(snap *fsm.Snapshot, env string) map[string]int {
	out := map[string]int{}
	for _, u := range snap.UnitsByEnv(env) {
		if dep := snap.Deployment(u.GetDeploymentKey()); dep != nil && !u.GetTombstone() {
			out[dep.Doc.PackageName]++
		}
	}
	return out
}

var healthNames = map[pmpb.ClusterHealth]scheduler.Health{
	pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY:           scheduler.Healthy,
	pmpb.ClusterHealth_CLUSTER_HEALTH_DEGRADED:          scheduler.Degraded,
	pmpb.ClusterHealth_CLUSTER_HEALTH_SUSPECT:           scheduler.Suspect,
	pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE:       scheduler.Unreachable,
	pmpb.ClusterHealth_CLUSTER_HEALTH_FAILOVER_ELIGIBLE: scheduler.Unreachable,
}

// kept names the clusters in which a deployment runs and does not leave.
func kept(snap *fsm.Snapshot, uid string) []string { return sortedKeys(liveUnits(snap, uid)) }

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
