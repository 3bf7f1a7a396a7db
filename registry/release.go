package registry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/scheduler"
)

// A release is what an environment runs of a deployment: functions, requirements,
// settings. It goes out in waves and can be gone back to. What all environments share at
// any time is not part of it and goes to all of them at once: the members and the layout of
// the data grid, which have to agree, and how much of each function there is.

// carryOver gives the content of a unit with what the environments share taken from the
// content that it is to have later. Neither is changed.
func carryOver(live, target *oaaspb.DeploymentUnit) *oaaspb.DeploymentUnit {
	out := proto.CloneOf(live)
	if grid := target.GetOdgmConfig(); grid != nil {
		own := out.GetOdgmConfig()
		out.OdgmConfig = proto.CloneOf(grid)
		// Which functions are called and how much is logged follows the release.
		out.OdgmConfig.Invocations, out.OdgmConfig.Log = own.GetInvocations(), nil
		if own != nil {
			out.OdgmConfig.Log = own.Log
		}
	}
	for _, f := range out.GetFunctions() {
		i := slices.IndexFunc(target.GetFunctions(), func(t *oaaspb.FunctionDeploymentSpec) bool { return t.GetFunctionKey() == f.GetFunctionKey() })
		if i < 0 || f.GetProvisionConfig() == nil {
			continue
		}
		amount := proto.CloneOf(target.GetFunctions()[i].GetProvisionConfig())
		f.ProvisionConfig.MinScale, f.ProvisionConfig.MaxScale = nil, nil
		if amount != nil {
			f.ProvisionConfig.MinScale, f.ProvisionConfig.MaxScale = amount.MinScale, amount.MaxScale
		}
	}
	return out
}

// withRelease gives a deployment with the release of an earlier state of it. What it wishes
// of its environments, of the data grid and of the number of pods stays.
func withRelease(now, earlier *model.OClassDeployment) *model.OClassDeployment {
	out, from := now.Clone(), earlier.Clone()
	out.PackageName, out.ClassKey = from.PackageName, from.ClassKey
	out.NFRRequirements, out.EnvTemplates, out.Telemetry, out.Pods = from.NFRRequirements, from.EnvTemplates, from.Telemetry, from.Pods
	if out.ODGM != nil && from.ODGM != nil {
		out.ODGM.Log = from.ODGM.Log
	}
	out.Functions = from.Functions
	for i := range out.Functions {
		f := &out.Functions[i]
		k := slices.IndexFunc(now.Functions, func(n model.FunctionDeploymentSpec) bool { return n.FunctionKey == f.FunctionKey })
		if k < 0 || f.ProvisionConfig == nil || now.Functions[k].ProvisionConfig == nil {
			continue
		}
		amount := now.Functions[k].Clone().ProvisionConfig
		f.ProvisionConfig.MinScale, f.ProvisionConfig.MaxScale = amount.MinScale, amount.MaxScale
	}
	return out
}

// bindingsOf gives the class that a unit was made of, as far as the unit shows it: its
// package may have been changed since.
func bindingsOf(unit *oaaspb.DeploymentUnit) *model.OClass {
	cls := &model.OClass{Key: unit.GetClassKey()}
	for _, b := range unit.GetFunctionBindings() {
		access := model.AccessPublic
		for name, text := range accessNames {
			if text == b.GetAccessModifier() {
				access = name
			}
		}
		cls.FunctionBindings = append(cls.FunctionBindings, model.FunctionBinding{
			Name: b.GetName(), FunctionKey: b.GetFunctionKey(), AccessModifier: access, Stateless: b.GetStateless(), Parameters: b.GetParameters(),
		})
	}
	return cls
}

func decodeClass(doc []byte) (*model.OClass, error) {
	cls := &model.OClass{}
	if err := json.Unmarshal(doc, cls); err != nil {
		return nil, fmt.Errorf("class of a rollout: %w", err)
	}
	return cls, nil
}

// liveUnits gives the units of a deployment that are wanted, by environment. Those of
// environments that it is leaving are as they were, and none of them.
func liveUnits(snap *fsm.Snapshot, uid string) map[string]*pmpb.Unit {
	out, dep := map[string]*pmpb.Unit{}, snap.DeploymentByUID(uid)
	for _, u := range snap.UnitsByDeployment(uid) {
		if !u.GetTombstone() && (dep == nil || !dep.Leaves(u.GetEnv())) {
			out[u.GetEnv()] = u
		}
	}
	return out
}

// newPlanned makes the wish for a unit out of its content.
func newPlanned(unit *oaaspb.DeploymentUnit) (*pmpb.PlannedUnit, error) {
	hash, err := ContentHash(unit)
	if err != nil {
		return nil, fromStore(err)
	}
	return &pmpb.PlannedUnit{Id: unit.GetId(), Env: unit.GetTargetEnv(), Desired: unit, ContentHash: hash}, nil
}

// changesRelease reports that the wish differs from what the deployment has in more than
// where it runs and how much of it. A rollout that is under way says what that is, else the
// units do.
func (w *wish) changesRelease(have *fsm.Deployment, now *pmpb.Rollout, live map[string]*pmpb.Unit) (bool, error) {
	cls, err := presentClass(now, live)
	if err != nil || cls == nil {
		return cls == nil, err
	}
	for i, planned := range w.units {
		base := buildUnit(w.uid, &w.plan.Assignments[i], have.Doc, cls)
		if u := live[planned.GetEnv()]; u != nil && !underWay(now) {
			if base, err = fsm.Desired(u); err != nil {
				return false, fromStore(err)
			}
		}
		before, err := ContentHash(carryOver(base, planned.GetDesired()))
		if err != nil {
			return false, fromStore(err)
		}
		if before != planned.GetContentHash() {
			return true, nil
		}
	}
	return false, nil
}

// presentClass is the class of the present revision; nil when nothing shows it.
func presentClass(now *pmpb.Rollout, live map[string]*pmpb.Unit) (*model.OClass, error) {
	if underWay(now) {
		return decodeClass(now.GetClass())
	}
	envs := sortedKeys(live)
	if len(envs) == 0 {
		return nil, nil
	}
	unit, err := fsm.Desired(live[envs[0]])
	if err != nil {
		return nil, fromStore(err)
	}
	return bindingsOf(unit), nil
}

// underWay reports that environments have, or may have, different revisions.
func underWay(r *pmpb.Rollout) bool { return r != nil && !fsm.RolloutSettled(r.GetPhase()) }

// planOf reads a stored plan as far as units are made of it.
func planOf(p *fsm.Plan) map[string]*scheduler.Assignment {
	out := map[string]*scheduler.Assignment{}
	var stored struct {
		Assignments []scheduler.Assignment `json:"assignments"`
	}
	if p == nil || json.Unmarshal(p.Document, &stored) != nil {
		return out // it is of another release; only divided pods depend on it
	}
	for i := range stored.Assignments {
		out[stored.Assignments[i].Cluster] = &stored.Assignments[i]
	}
	return out
}

// maxSummary bounds the text that says what another revision changes.
const maxSummary = 500

// summarize says what differs between the releases of two states of a deployment. Values of
// configuration may be secret and are not told.
func summarize(before, after *model.OClassDeployment) string {
	var changes []string
	old, next := releaseTree(before), releaseTree(after)
	changes = compareTrees("", old, next, changes)
	if len(changes) == 0 {
		return "the class or what the package manager makes of it"
	}
	text := changes[0]
	for i, c := range changes[1:] {
		if len(text)+len(c) > maxSummary-20 {
			return fmt.Sprintf("%s; and %d more", text, len(changes)-1-i)
		}
		text += "; " + c
	}
	return text
}

// releaseTree gives the release of a deployment as JSON values, functions by their keys.
func releaseTree(d *model.OClassDeployment) map[string]any {
	raw, err := withRelease(&model.OClassDeployment{}, d).MarshalJSON()
	if err != nil { // it was decoded, or is about to be encoded with an error of its own
		return nil
	}
	tree := map[string]any{}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if dec.Decode(&tree) != nil {
		return nil
	}
	functions := map[string]any{}
	list, _ := tree["functions"].([]any)
	for _, item := range list {
		f, _ := item.(map[string]any)
		key, _ := f["function_key"].(string)
		if p, ok := f["provision_config"].(map[string]any); ok {
			delete(p, "min_scale")
			delete(p, "max_scale")
		}
		functions[key] = f
	}
	tree["functions"] = functions
	for _, own := range []string{"key", "condition"} {
		delete(tree, own)
	}
	return tree
}

// compareTrees appends a text for each value that differs.
func compareTrees(path string, a, b any, out []string) []string {
	before, okA := a.(map[string]any)
	after, okB := b.(map[string]any)
	switch {
	case reflect.DeepEqual(a, b):
		return out
	case okA && okB:
		keys := map[string]bool{}
		for k := range before {
			keys[k] = true
		}
		for k := range after {
			keys[k] = true
		}
		for _, k := range sortedKeys(keys) {
			out = compareTrees(strings.TrimPrefix(path+"."+k, "."), before[k], after[k], out)
		}
		return out
	case strings.Contains(path, ".config.") || strings.HasPrefix(path, "telemetry.resource_attributes"):
		return append(out, path+" changed")
	case a == nil:
		return append(out, path+": "+shown(b)+" added")
	case b == nil:
		return append(out, path+" removed")
	default:
		return append(out, fmt.Sprintf("%s: %s → %s", path, shown(a), shown(b)))
	}
}

// shown is a value in a few words.
func shown(v any) string {
	switch v := v.(type) {
	case map[string]any, []any:
		return "…"
	case string:
		return clipSummary(v)
	default:
		return fmt.Sprint(v)
	}
}

func clipSummary(s string) string {
	const most = 120
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
