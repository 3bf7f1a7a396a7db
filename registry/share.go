package registry

import (
	"fmt"
	"math"
	"math/big"
	"slices"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/model"
	"oaas.io/control-plane/scheduler"
)

// shardsOf is how the planner sees the object store of a deployment.
func shardsOf(uid string, spec *model.ODGMDataSpec) *scheduler.Shards {
	partitions, _ := shardCounts(spec)
	out := &scheduler.Shards{UID: uid, Nodes: spec.EnvNodeIDs, Partitions: int(partitions)}
	if spec.ReplicaCount != nil {
		out.Replicas = int(max(*spec.ReplicaCount, 1))
	}
	return out
}

// functionsWithPods are the functions of a deployment that have pods. A function that is
// divided and has none is refused, as is one that there is not.
func functionsWithPods(snap *fsm.Snapshot, uid string, doc *model.OClassDeployment) ([]scheduler.Function, error) {
	var out []scheduler.Function
	for i := range doc.Functions {
		f := &doc.Functions[i]
		if !runnable(f) || blank(f.ProvisionConfig.ContainerImage) {
			continue // what the object store runs itself has no pods
		}
		p := f.ProvisionConfig
		one := scheduler.Function{Key: f.FunctionKey, Least: number(p.MinScale), Most: number(p.MaxScale)}
		one.Need = scheduler.Need{Millicores: amount(p.CPURequest, 1000), Bytes: amount(p.MemoryRequest, 1)}
		out = append(out, one)
	}
	if doc.Placement == nil || len(doc.Placement.Divide) == 0 {
		return out, nil
	}
	now, err := podsNow(snap, uid)
	if err != nil {
		return nil, err
	}
	for i, d := range doc.Placement.Divide {
		k := slices.IndexFunc(out, func(f scheduler.Function) bool { return f.Key == d.Function })
		if k < 0 {
			return nil, misplaced(fmt.Sprintf("placement.divide[%d].function", i), fmt.Sprintf("no function %q of the deployment has pods", d.Function))
		}
		out[k].Pods, out[k].Survive, out[k].Now = int(d.Pods), int(d.Survive), now[d.Function]
	}
	return out, nil
}

// locationsOf are where functions of a deployment are to be available.
func locationsOf(doc *model.OClassDeployment) []string {
	var out []string
	for i := range doc.Functions {
		if at := doc.Functions[i].AvailableLocation; !blank(at) {
			out = append(out, *at)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// amount is a quantity in units of a part of 1, rounded up; 0 when there is none. It was
// checked with the deployment.
func amount(s *string, parts int64) uint64 {
	if s == nil {
		return 0
	}
	value, ok := model.ParseQuantity(*s)
	if !ok {
		return 0
	}
	value.Mul(value, new(big.Rat).SetInt64(parts))
	whole, rest := new(big.Int).QuoRem(value.Num(), value.Denom(), new(big.Int))
	if rest.Sign() > 0 {
		whole.Add(whole, big.NewInt(1))
	}
	if !whole.IsUint64() {
		return math.MaxUint64
	}
	return whole.Uint64()
}

// podsNow gives the least pods of each function that runs, by function and environment.
func podsNow(snap *fsm.Snapshot, uid string) (map[string]map[string]int, error) {
	out := map[string]map[string]int{}
	for _, u := range snap.UnitsByDeployment(uid) {
		if u.GetTombstone() {
			continue
		}
		unit, err := fsm.Desired(u)
		if err != nil {
			return nil, fromStore(err)
		}
		for _, f := range unit.GetFunctions() {
			if n := f.GetProvisionConfig().GetMinScale(); n > 0 {
				if out[f.GetFunctionKey()] == nil {
					out[f.GetFunctionKey()] = map[string]int{}
				}
				out[f.GetFunctionKey()][u.GetEnv()] = int(n)
			}
		}
	}
	return out, nil
}
