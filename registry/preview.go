package registry

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/scheduler"
	"oaas.io/control-plane/scheduler/availability"
)

// Change is what a write would do to a deployment, or to its share in an
// environment.
type Change string

// The changes. Remove is of environments only.
const (
	ChangeNone   Change = "none"
	ChangeCreate Change = "create"
	ChangeUpdate Change = "update"
	ChangeRemove Change = "remove"
)

// EnvChange is what would happen in one environment.
type EnvChange struct {
	Env    string `json:"env"`
	Change Change `json:"change"`
	// UnitID is empty while there is no unit.
	UnitID string `json:"unit_id,omitempty"`
}

// Preview is what Deploy would do.
type Preview struct {
	Key    string
	Change Change
	// Envs are those of the plan in its order, and then those that would be left,
	// by name.
	Envs []EnvChange
	Plan *scheduler.Plan
	// Units are what the environments would be sent that have something to do, by
	// environment, with the delivery that a commit now would give them.
	Units map[string]*oaaspb.DeploymentUnit
}

// Preview decides like Deploy on a snapshot, and changes nothing. Its errors are
// those that Deploy would give.
func (r *Registry) Preview(snap *fsm.Snapshot, dep *model.OClassDeployment, pre Precondition) (*Preview, error) {
	if err := dep.Validate(); err != nil {
		return nil, invalid("deployment", err)
	}
	have, uid := snap.Deployment(dep.Key), r.newUID()
	if err := pre.check("Deployment "+dep.Key, deploymentIndex(have)); err != nil {
		return nil, err
	}
	if have != nil {
		uid = have.UID
	}
	w, err := r.decideDeployment(snap, dep, uid, intent{})
	if err != nil {
		return nil, err
	}
	out := w.preview(snap, have == nil)
	return out, r.stage(snap, have, w)
}

// preview holds the wish against what is there.
func (w *wish) preview(snap *fsm.Snapshot, created bool) *Preview {
	uid, key := w.uid, w.doc.Key
	out := &Preview{Key: key, Change: ChangeNone, Plan: w.plan, Units: map[string]*oaaspb.DeploymentUnit{}}
	running, have := map[string]*pmpb.Unit{}, snap.DeploymentByUID(uid)
	leaving := func(env string) bool { return have != nil && have.Leaves(env) }
	for _, u := range snap.UnitsByDeployment(uid) {
		if !u.GetTombstone() {
			running[u.GetEnv()] = u
		}
	}
	for _, planned := range w.units {
		change := EnvChange{Env: planned.GetEnv(), Change: ChangeCreate}
		if u := running[planned.GetEnv()]; u != nil {
			change.Change, change.UnitID = ChangeUpdate, u.GetId()
			if u.GetContentHash() == planned.GetContentHash() && !leaving(planned.GetEnv()) {
				change.Change = ChangeNone
			}
			delete(running, planned.GetEnv())
		}
		if change.Change != ChangeNone {
			out.Units[planned.GetEnv()] = wouldSend(snap, planned, key, uid)
		}
		out.Envs = append(out.Envs, change)
	}
	var left []EnvChange
	for env, u := range running {
		if leaving(env) {
			continue // that was decided before
		}
		left = append(left, EnvChange{Env: env, Change: ChangeRemove, UnitID: u.GetId()})
	}
	slices.SortFunc(left, func(a, b EnvChange) int { return cmp.Compare(a.Env, b.Env) })
	out.Envs = append(out.Envs, left...)
	switch {
	case created:
		out.Change = ChangeCreate
	case slices.ContainsFunc(out.Envs, func(c EnvChange) bool { return c.Change != ChangeNone }):
		out.Change = ChangeUpdate
	}
	return out
}

// wouldSend is a planned unit as the next commit would have it delivered.
func wouldSend(snap *fsm.Snapshot, planned *pmpb.PlannedUnit, key, uid string) *oaaspb.DeploymentUnit {
	meta := snap.Meta()
	unit := proto.CloneOf(planned.GetDesired())
	unit.Delivery = &oaaspb.Delivery{
		Epoch: meta.GetEpoch(), Fence: snap.Index() + 1, ControlPlaneId: meta.GetClusterId(),
		DeploymentUid: uid, DeploymentKey: key, ContentHash: planned.GetContentHash(),
	}
	return unit
}

// Scenario is what could happen.
type Scenario struct {
	// Lose names the environments that are lost, as region=NAME, zone=NAME,
	// env=NAME or LABEL=VALUE.
	Lose []string
	// Drain names, in the same way, those that are to be left: they still run, so that
	// the way to the plan can be told.
	Drain []string
	// Target, when not nil, is the availability that all deployments are to have.
	Target *float64
	// Keys limits the scenario to these deployments; empty means all that it affects.
	Keys []string
	// Limit bounds the deployments that are planned.
	Limit int
}

// Simulation is what would become of the deployments.
type Simulation struct {
	// Lost environments by name.
	Lost []string
	// Drained environments by name, without those that are lost.
	Drained []string
	// Affected counts the deployments that the scenario concerns; only the first of
	// them, by key, are in Deployments when there are more than the limit.
	Affected    int
	Deployments []Simulated
}

// Simulated is one deployment in a scenario.
type Simulated struct {
	Key string
	// Before are its environments now.
	Before []string
	// Plan is nil when nothing can be planned, and Err says why.
	Plan *scheduler.Plan
	Err  error
}

// Simulate plans deployments as if the scenario were true, and changes nothing.
func (r *Registry) Simulate(snap *fsm.Snapshot, s Scenario) (*Simulation, error) {
	if t := s.Target; t != nil && !availability.Valid(*t) {
		return nil, errorf(Unprocessable, "target: %v is not within 0..1", *t)
	}
	lost, err := matching(snap, "lose", s.Lose)
	if err != nil {
		return nil, err
	}
	drained, err := matching(snap, "drain", s.Drain)
	if err != nil {
		return nil, err
	}
	left := maps.Clone(lost)
	maps.Copy(left, drained)
	keys, err := concerned(snap, s, left)
	if err != nil {
		return nil, err
	}
	out := &Simulation{Lost: []string{}, Drained: []string{}, Affected: len(keys), Deployments: []Simulated{}}
	for _, c := range snap.Clusters() {
		switch name := c.GetName(); {
		case lost[name]:
			out.Lost = append(out.Lost, name)
		case drained[name]:
			out.Drained = append(out.Drained, name)
		}
	}
	fleet, err := prepare(snap, lost, drained)
	if err != nil {
		return nil, err
	}
	for _, key := range keys[:min(len(keys), s.Limit)] {
		if one, ok := r.simulate(snap, fleet, key, s, left); ok {
			out.Deployments = append(out.Deployments, one)
		}
	}
	return out, nil
}

// matching gives the environments that the selectors name. One that names none is
// most likely a mistake, and is refused.
func matching(snap *fsm.Snapshot, what string, selectors []string) (map[string]bool, error) {
	out := map[string]bool{}
	for _, selector := range selectors {
		field, value, ok := strings.Cut(selector, "=")
		if !ok || field == "" {
			return nil, errorf(InvalidArgument, "%s: %q is not of the form region=NAME, zone=NAME, env=NAME or LABEL=VALUE", what, selector)
		}
		found := false
		for _, c := range snap.Clusters() {
			if fieldOf(c, field) == value && value != "" {
				out[c.GetName()], found = true, true
			}
		}
		if !found {
			return nil, errorf(InvalidArgument, "%s: no environment has %s", what, selector)
		}
	}
	return out, nil
}

func fieldOf(c *pmpb.Cluster, field string) string {
	region, zone := placeOf(c)
	switch field {
	case "region":
		return region
	case "zone":
		return zone
	case "env", "cluster":
		return c.GetName()
	default:
		return labelsOf(c)[field]
	}
}

// concerned gives the keys of the deployments to plan, in order.
func concerned(snap *fsm.Snapshot, s Scenario, lost map[string]bool) ([]string, error) {
	var keys []string
	switch {
	case len(s.Keys) > 0:
		for _, key := range s.Keys {
			if snap.Deployment(key) == nil {
				return nil, errorf(NotFound, "Deployment not found: %s", key)
			}
			keys = append(keys, key)
		}
	case s.Target != nil:
		for _, d := range snap.Deployments() {
			keys = append(keys, d.Doc.Key)
		}
	default:
		for env := range lost {
			for _, u := range snap.UnitsByEnv(env) {
				if !u.GetTombstone() {
					keys = append(keys, u.GetDeploymentKey())
				}
			}
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys), nil
}

// simulate plans one deployment; ok is false when it has gone meanwhile.
func (r *Registry) simulate(snap *fsm.Snapshot, fleet *scheduler.Fleet, key string, s Scenario, left map[string]bool) (out Simulated, ok bool) {
	have := snap.Deployment(key)
	if have == nil {
		return out, false
	}
	out = Simulated{Key: key, Before: slices.Clone(have.Doc.TargetEnvs)}
	pkg := snap.Package(have.Doc.PackageName)
	if pkg == nil {
		out.Err = errorf(NotFound, "Package not found: %s", have.Doc.PackageName)
		return out, true
	}
	cls, err := findClass(pkg.Doc, have.Doc.ClassKey)
	if err != nil {
		out.Err = err
		return out, true
	}
	doc, insists := have.Doc.Clone(), named(snap, key)
	unsettle(doc, have.UID, insists)
	doc.TargetEnvs = slices.DeleteFunc(doc.TargetEnvs, func(env string) bool { return left[env] })
	doc.AvailableEnvs = slices.DeleteFunc(doc.AvailableEnvs, func(env string) bool { return left[env] })
	if s.Target != nil {
		doc.NFRRequirements.Availability = s.Target
	}
	// An empty list of available environments would mean all of them. It does not
	// matter where the user insists on others.
	if insists && len(doc.TargetEnvs) == 0 || !insists && len(have.Doc.AvailableEnvs) > 0 && len(doc.AvailableEnvs) == 0 {
		out.Err = errorf(InvalidArgument, "all environments that the deployment names are lost or drained")
		return out, true
	}
	out.Plan, out.Err = planOn(snap, fleet, kept(snap, have.UID), have.UID, doc, cls, false, r.now())
	return out, true
}

// named says whether the user insists on the environments of a deployment: the
// stored wish has those that were chosen as well.
func named(snap *fsm.Snapshot, key string) bool {
	plan := snap.Plan(key)
	if plan == nil {
		return true
	}
	var made struct {
		Mode scheduler.Mode `json:"mode"`
	}
	return json.Unmarshal(plan.Document, &made) != nil || made.Mode != scheduler.Automatic
}
