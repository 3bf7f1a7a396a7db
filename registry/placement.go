package registry

import (
	"errors"
	"time"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/model"
	"oaas.io/control-plane/scheduler"
	"oaas.io/control-plane/scheduler/window"
)

// placementOf is the placement of a deployment in the scheduler's terms, at a moment:
// whether a window is open, and where the others run. The error is an *Error.
func placementOf(snap *fsm.Snapshot, p *model.Placement, now time.Time) (*scheduler.Placement, error) {
	if p == nil {
		return nil, nil
	}
	out := &scheduler.Placement{
		Allow: p.Allow, Deny: p.Deny, MatchLabels: p.MatchLabels, Selector: p.Selector, Expression: p.Expression, MaxCost: p.MaxCost,
	}
	for _, t := range p.Tolerations {
		out.Tolerations = append(out.Tolerations, scheduler.Toleration{Key: t.Key, Value: t.Value, Exists: t.Operator == model.TolerationExists})
	}
	if r := p.Requires; r != nil {
		out.Architecture = r.Architecture
		out.Capabilities = append(out.Capabilities, r.Capabilities...)
		if r.Template == model.TemplateKnative {
			out.Capabilities = append(out.Capabilities, string(model.TemplateKnative))
		}
	}
	if r := p.Resources; r != nil {
		out.Need = scheduler.Need{Millicores: r.CPUMillis, Bytes: r.MemoryBytes}
	}
	for _, s := range p.Spread {
		out.Spread = append(out.Spread, scheduler.Spread{Topology: s.Topology, Max: count(s.MaxPerDomain), Least: count(s.MinDomains)})
	}
	if a := p.AntiAffinity; a != nil {
		out.Apart = apart(snap, a)
	}
	if d := p.Disruption; d != nil {
		out.MaxMoves = int(d.MaxMoves)
	}
	frozen, err := frozen(p.Windows, now)
	if err != nil {
		return nil, err
	}
	out.Frozen = frozen
	return out, nil
}

func count(n *uint32) int {
	if n == nil {
		return 0
	}
	return int(*n)
}

// apart finds where the others run. One that does not exist keeps nothing out.
func apart(snap *fsm.Snapshot, a *model.AntiAffinity) *scheduler.Apart {
	out := &scheduler.Apart{Topology: a.Topology}
	if out.Topology == "" {
		out.Topology = scheduler.TopologyCluster
	}
	for _, key := range a.Deployments {
		if other := snap.Deployment(key); other != nil {
			out.From = append(out.From, scheduler.Neighbour{Key: key, Clusters: running(snap, other.UID)})
		}
	}
	return out
}

// frozen says whether there are windows and all are closed.
func frozen(windows []model.MaintenanceWindow, now time.Time) (bool, error) {
	if len(windows) == 0 {
		return false, nil
	}
	var all []window.Window
	for i, w := range windows {
		// The form of the duration was checked with the document.
		length, err := time.ParseDuration(w.Duration)
		if err != nil {
			return false, errorf(Unprocessable, "placement.windows[%d].duration: %v", i, err)
		}
		one := window.Window{Start: w.Start, Duration: length, Zone: w.Zone}
		for _, day := range w.Days {
			one.Days = append(one.Days, weekdays[day])
		}
		all = append(all, one)
	}
	open, _, err := window.Open(all, now)
	var invalid *window.InvalidError
	if errors.As(err, &invalid) {
		return false, errorf(Unprocessable, "placement.windows: %v", invalid)
	}
	return !open, err
}

var weekdays = map[model.Weekday]time.Weekday{
	model.Monday: time.Monday, model.Tuesday: time.Tuesday, model.Wednesday: time.Wednesday, model.Thursday: time.Thursday,
	model.Friday: time.Friday, model.Saturday: time.Saturday, model.Sunday: time.Sunday,
}

// wishesOf fills in what the placement says beside the constraints.
func wishesOf(spec *scheduler.Spec, p *model.Placement) {
	if p == nil {
		return
	}
	if p.Stability == model.StabilityRebalance {
		spec.Stability = scheduler.Rebalance
	}
	switch p.Prefer {
	case model.PreferFewest:
		spec.Prefer = scheduler.Fewest
	case model.PreferCheapest:
		spec.Prefer = scheduler.Cheapest
	}
}

// checkPlacementLevel refuses a placement while there are servers that cannot read it:
// they would drop it, and their state would differ.
func checkPlacementLevel(snap *fsm.Snapshot, p *model.Placement) error {
	if level := snap.FeatureLevel(); p != nil && level < fsm.PlannerFrom {
		return errorf(FailedPrecondition, "placement needs feature level %d, the cluster is at %d: upgrade all servers first", fsm.PlannerFrom, level)
	}
	return nil
}
