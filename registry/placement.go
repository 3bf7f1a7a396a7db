package registry

import (
	"errors"
	"fmt"
	"time"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/model"
	"oaas.io/control-plane/scheduler"
	"oaas.io/control-plane/scheduler/window"
)

// capabilityKnative is what clusters report that can render the template of that name.
const capabilityKnative = "knative"

// placementOf translates the wishes of a deployment for a plan that is made now. Where
// the deployments of its anti-affinity run is as the snapshot says. It is nil when
// there are no wishes. Errors are *Error and name the field.
func placementOf(snap *fsm.Snapshot, doc *model.OClassDeployment, now time.Time) (*scheduler.Placement, error) {
	p := doc.Placement
	if p == nil {
		return nil, nil
	}
	out := &scheduler.Placement{
		Allow: p.Allow, Deny: p.Deny, MatchLabels: p.MatchLabels, Selector: p.Selector, Expression: p.Expression,
		MaxCost: p.MaxCost, MaxLatency: p.MaxLatencyMS, Apart: apartOf(snap, p.AntiAffinity),
	}
	for _, t := range p.Tolerations {
		out.Tolerations = append(out.Tolerations, scheduler.Toleration{Key: t.Key, Value: t.Value, Exists: t.Operator == model.TolerationExists})
	}
	if r := p.Requires; r != nil {
		out.Architecture = r.Architecture
		out.Capabilities = append(out.Capabilities, r.Capabilities...)
		if r.Template == model.TemplateKnative {
			// The other templates need nothing but a plain cluster.
			out.Capabilities = append(out.Capabilities, capabilityKnative)
		}
	}
	if r := p.Resources; r != nil {
		out.Need = scheduler.Need{Millicores: r.CPUMillis, Bytes: r.MemoryBytes}
	}
	for _, s := range p.Spread {
		out.Spread = append(out.Spread, scheduler.Spread{Topology: s.Topology, Max: number(s.MaxPerDomain), Least: number(s.MinDomains)})
	}
	if d := p.Disruption; d != nil {
		out.MaxMoves = number(&d.MaxMoves)
	}
	schedule, err := scheduleOf(p.Windows)
	if err != nil {
		return nil, err
	}
	open, _ := schedule.Open(now)
	out.Frozen = !open
	return out, nil
}

// checkPlacementLevel refuses a placement while there are servers that cannot read it:
// they would drop it, and their state would differ.
func checkPlacementLevel(snap *fsm.Snapshot, p *model.Placement) error {
	if level := snap.FeatureLevel(); p != nil && level < fsm.PlannerFrom {
		return errorf(FailedPrecondition, "placement needs feature level %d, the cluster is at %d: upgrade all servers first", fsm.PlannerFrom, level)
	}
	return nil
}

// number reads an optional count; 0 when there is none.
func number(n *uint32) int {
	if n == nil {
		return 0
	}
	return int(*n)
}

// apartOf finds the environments of the deployments to stay away from. Those that do
// not exist are nowhere.
func apartOf(snap *fsm.Snapshot, a *model.AntiAffinity) *scheduler.Apart {
	if a == nil {
		return nil
	}
	out := &scheduler.Apart{Topology: a.Topology}
	if out.Topology == "" {
		out.Topology = scheduler.TopologyCluster
	}
	for _, key := range a.Deployments {
		if have := snap.Deployment(key); have != nil {
			out.From = append(out.From, scheduler.Neighbour{Key: key, Clusters: running(snap, have.UID)})
		}
	}
	return out
}

var weekdays = map[model.Weekday]time.Weekday{
	model.Monday: time.Monday, model.Tuesday: time.Tuesday, model.Wednesday: time.Wednesday, model.Thursday: time.Thursday,
	model.Friday: time.Friday, model.Saturday: time.Saturday, model.Sunday: time.Sunday,
}

// scheduleOf reads the maintenance windows.
func scheduleOf(windows []model.MaintenanceWindow) (window.Schedule, error) {
	all := make([]window.Window, len(windows))
	for i, w := range windows {
		at := fmt.Sprintf("placement.windows[%d]", i)
		length, err := time.ParseDuration(w.Duration)
		if err != nil {
			return window.Schedule{}, misplaced(at+".duration", fmt.Sprintf("%q is not a duration such as 4h", w.Duration))
		}
		all[i] = window.Window{Start: w.Start, Duration: length, Zone: w.Zone}
		for _, day := range w.Days {
			opens, ok := weekdays[day]
			if !ok {
				return window.Schedule{}, misplaced(at+".days", fmt.Sprintf("%q is no day of the week", string(day)))
			}
			all[i].Days = append(all[i].Days, opens)
		}
	}
	out, err := window.New(all)
	var wrong *window.InvalidError
	switch {
	case !errors.As(err, &wrong):
		return out, err
	case wrong.Window < 0:
		return out, misplaced("placement.windows", wrong.Problem)
	default:
		return out, misplaced(fmt.Sprintf("placement.windows[%d].%s", wrong.Window, wrong.Field), wrong.Problem)
	}
}

// misplaced is a refusal that names the field, as those of the model do.
func misplaced(field, problem string) *Error {
	e := errorf(Unprocessable, "Invalid deployment: %s: %s", field, problem)
	e.Problems = []model.Problem{{Path: field, Message: problem}}
	return e
}

// preferenceOf and stabilityOf are the planner's words for the model's.
func preferenceOf(p *model.Placement) scheduler.Preference {
	switch {
	case p == nil:
		return scheduler.ByDefault
	case p.Prefer == model.PreferFewest:
		return scheduler.Fewest
	case p.Prefer == model.PreferCheapest:
		return scheduler.Cheapest
	default:
		return scheduler.ByDefault
	}
}

func stabilityOf(p *model.Placement) scheduler.Stability {
	if p != nil && p.Stability == model.StabilityRebalance {
		return scheduler.Rebalance
	}
	return scheduler.Keep
}
