package registry

import (
	"context"
	"hash/fnv"
	"maps"
	"math"
	"slices"

	"google.golang.org/protobuf/proto"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/scheduler/availability"
)

// Bounds of what operators may say about a cluster.
const (
	maxPolicyLabels = 256
	maxPolicyTaints = 64
	// maxPolicyLatencies bounds what one environment says of others.
	maxPolicyLatencies = 1024
	maxLatencyMS       = 3_600_000
	maxPolicyText      = 1024
	maxUnitsOfAll      = math.MaxInt32
)

// PutClusterPolicy replaces what operators say about a cluster. A precondition is held
// against PolicyVersion: what the cluster reports changes its row all the time, and is
// no reason to refuse. It needs the feature level fsm.PlannerFrom. It fills in what the
// control plane itself keeps of a drain; with keepDrain it leaves a drain as it is.
func (r *Registry) PutClusterPolicy(ctx context.Context, ri RequestInfo, name string, policy *pmpb.ClusterPolicy, keepDrain bool) (uint64, error) {
	if err := checkPolicy(policy); err != nil {
		return 0, err
	}
	_, index, err := r.commit(ctx, ri, func(snap *fsm.Snapshot) (*decision, error) {
		have := snap.Cluster(name)
		if have == nil {
			return nil, errorf(NotFound, "Cluster not found: %s", name)
		}
		if level := snap.FeatureLevel(); level < fsm.PlannerFrom {
			return nil, errorf(FailedPrecondition, "Policies need feature level %d, the cluster is at %d: upgrade all servers first", fsm.PlannerFrom, level)
		}
		if err := ri.Precondition.check("The policy of "+name, PolicyVersion(have.GetPolicy())); err != nil {
			return nil, err
		}
		if keepDrain {
			policy.Draining, policy.DrainReason = have.GetPolicy().GetDraining(), have.GetPolicy().GetDrainReason()
		}
		if err := r.dateDrain(snap, have, policy); err != nil {
			return nil, err
		}
		row := proto.CloneOf(have)
		row.Policy = policy
		if proto.Size(policy) == 0 {
			row.Policy = nil
		}
		note := fsm.NewNote("cluster.policy", name, describePolicy(have.GetPolicy(), policy))
		note.Operator = true
		return &decision{note: note, cmd: &pmpb.Command{
			Guards: []*pmpb.Guard{guard(pmpb.Guard_TABLE_CLUSTER, name, have.GetModifyIndex())},
			Op:     &pmpb.Command_PutCluster{PutCluster: &pmpb.PutCluster{Cluster: row}},
		}}, nil
	})
	return index, err
}

// PolicyVersion tells versions of a policy apart by what is in it. It is never 0.
func PolicyVersion(p *pmpb.ClusterPolicy) uint64 {
	if p == nil {
		p = &pmpb.ClusterPolicy{}
	}
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(p)
	if err != nil {
		return 1 // a policy with text that is no UTF-8 is never stored
	}
	h := fnv.New64a()
	_, _ = h.Write(data)
	return max(h.Sum64(), 1)
}

// describePolicy is for the audit log.
func describePolicy(before, after *pmpb.ClusterPolicy) string {
	switch {
	case after.GetDraining() && !before.GetDraining():
		return "draining: " + after.GetDrainReason()
	case before.GetDraining() && !after.GetDraining():
		return "drain ended"
	case after.GetCordoned() && !before.GetCordoned():
		return "cordoned: " + after.GetCordonReason()
	case before.GetCordoned() && !after.GetCordoned():
		return "uncordoned"
	default:
		return ""
	}
}

// checkPolicy reports the first thing that is wrong, by the name of its field.
func checkPolicy(p *pmpb.ClusterPolicy) error {
	if n := len(p.GetLabels()); n > maxPolicyLabels {
		return errorf(Unprocessable, "labels: there are %d, at most %d are allowed", n, maxPolicyLabels)
	}
	for _, key := range slices.Sorted(maps.Keys(p.GetLabels())) {
		if err := checkLabel("labels", key, p.GetLabels()[key]); err != nil {
			return err
		}
	}
	if err := checkTaints(p.GetTaints()); err != nil {
		return err
	}
	for _, text := range []struct{ field, value string }{
		{"region", p.GetRegion()}, {"zone", p.GetZone()}, {"provider", p.GetProvider()}, {"cordon_reason", p.GetCordonReason()},
		{"drain_reason", p.GetDrainReason()},
	} {
		if len(text.value) > maxPolicyText {
			return errorf(Unprocessable, "%s: has %d bytes, at most %d are allowed", text.field, len(text.value), maxPolicyText)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.GetLatencyMs())) {
		switch ms := p.GetLatencyMs()[name]; {
		case name == "" || len(name) > maxPolicyText:
			return errorf(Unprocessable, "latency_ms: names have 1 to %d bytes, one has %d", maxPolicyText, len(name))
		case !(ms >= 0 && ms <= maxLatencyMS):
			return errorf(Unprocessable, "latency_ms: %v to %s is not within 0..%d", ms, name, maxLatencyMS)
		}
	}
	switch {
	case p.Availability != nil && !availability.Valid(p.GetAvailability()):
		return errorf(Unprocessable, "availability: %v is not within 0..1", p.GetAvailability())
	case p.Cost != nil && !(p.GetCost() >= 0 && p.GetCost() <= 1e15):
		return errorf(Unprocessable, "cost: %v is not within 0..1e15", p.GetCost())
	case len(p.GetLatencyMs()) > maxPolicyLatencies:
		return errorf(Unprocessable, "latency_ms: there are %d, at most %d are allowed", len(p.GetLatencyMs()), maxPolicyLatencies)
	case p.GetMaxUnits() > maxUnitsOfAll:
		return errorf(Unprocessable, "max_units: %d is more than %d", p.GetMaxUnits(), maxUnitsOfAll)
	case p.GetMaxUnitsPerPackage() > maxUnitsOfAll:
		return errorf(Unprocessable, "max_units_per_package: %d is more than %d", p.GetMaxUnitsPerPackage(), maxUnitsOfAll)
	case p.GetDrainReason() != "" && !p.GetDraining():
		return errorf(Unprocessable, "drain_reason: is set, but draining is not")
	case p.GetCordonReason() != "" && !p.GetCordoned():
		return errorf(Unprocessable, "cordon_reason: is set, but cordoned is not")
	}
	return nil
}

func checkTaints(taints []*pmpb.Taint) error {
	if n := len(taints); n > maxPolicyTaints {
		return errorf(Unprocessable, "taints: there are %d, at most %d are allowed", n, maxPolicyTaints)
	}
	type identity struct {
		key    string
		effect pmpb.Taint_Effect
	}
	seen := map[identity]bool{}
	for _, t := range taints {
		if err := checkLabel("taints", t.GetKey(), t.GetValue()); err != nil {
			return err
		}
		if e := t.GetEffect(); e != pmpb.Taint_EFFECT_NO_SELECT && e != pmpb.Taint_EFFECT_PREFER_NO_SELECT {
			return errorf(Unprocessable, "taints: %s has no effect; it is NoSelect or PreferNoSelect", t.GetKey())
		}
		id := identity{t.GetKey(), t.GetEffect()}
		if seen[id] {
			return errorf(Unprocessable, "taints: %s is there twice with one effect", t.GetKey())
		}
		seen[id] = true
	}
	return nil
}

func checkLabel(field, key, value string) error {
	if !model.IsLabelKey(key) {
		return errorf(Unprocessable, "%s: %q is no key of a label: letters, digits, '-', '_' and '.', at most 63, a DNS name and '/' may come first", field, key)
	}
	if !model.IsLabelValue(value) {
		return errorf(Unprocessable, "%s: %q is no value of a label (of %s): letters, digits, '-', '_' and '.', at most 63", field, value, key)
	}
	return nil
}
