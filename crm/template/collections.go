package template

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"oaas.io/control-plane/crm/api/v1alpha1"
)

// defaultShardType is what the object store takes when the spec does not say.
const defaultShardType = "none"

// collection is one element of ODGM_COLLECTION. The order of the members is
// the order in the text, and the text is part of the pod template.
type collection struct {
	Name             string            `json:"name"`
	PartitionCount   int32             `json:"partition_count"`
	ReplicaCount     int32             `json:"replica_count"`
	ShardAssignments []shardAssignment `json:"shard_assignments"`
	ShardType        string            `json:"shard_type"`
	Options          map[string]string `json:"options"`
	Invocations      *invocations      `json:"invocations"`
}

type shardAssignment struct {
	Primary  *v1alpha1.NodeID  `json:"primary"`
	Replica  []v1alpha1.NodeID `json:"replica"`
	ShardIDs []v1alpha1.NodeID `json:"shard_ids"`
}

type invocations struct {
	FnRoutes   map[string]route `json:"fn_routes"`
	DisabledFn []string         `json:"disabled_fn"`
}

type route struct {
	URL           string            `json:"url"`
	Stateless     bool              `json:"stateless"`
	Standby       bool              `json:"standby"`
	ActiveGroup   []v1alpha1.NodeID `json:"active_group"`
	WasmModuleURL *string           `json:"wasm_module_url"`
}

// collectionsJSON returns the value of ODGM_COLLECTION: compact JSON whose
// maps are sorted by key. The warnings are about assignments and routes that
// cannot be used and were left out.
func collectionsJSON(in Input) (string, []string, error) {
	o := in.Spec.OdgmConfig
	routes, warnings := finalInvocations(in)
	base := collection{
		PartitionCount: valueOr(o.PartitionCount, 1),
		ReplicaCount:   valueOr(o.ReplicaCount, 1),
		ShardType:      o.ShardType,
		Options:        o.Options,
		Invocations:    routes,
	}
	if base.ShardType == "" {
		base.ShardType = defaultShardType
	}
	if base.Options == nil {
		base.Options = map[string]string{}
	}
	out := make([]collection, 0, len(o.Collections))
	for _, name := range o.Collections {
		c := base
		c.Name = name
		given := o.CollectionAssignments[name]
		if why := assignmentsFault(given, c.PartitionCount, c.ReplicaCount); why != "" {
			warnings = append(warnings, fmt.Sprintf(
				"spec.odgm_config.collection_assignments[%s] was left out: %s", name, why))
			given = nil
		}
		c.ShardAssignments = toAssignments(given)
		out = append(out, c)
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	// URLs keep their '&': the reader is a program, not a browser.
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(out); err != nil {
		return "", nil, err
	}
	return string(bytes.TrimRight(b.Bytes(), "\n")), warnings, nil
}

// assignmentsFault says why the assignments of a collection cannot be used, or
// nothing. No assignments are fine: the object store then makes its own.
func assignmentsFault(given []v1alpha1.ShardAssignment, partitions, replicas int32) string {
	if len(given) == 0 {
		return ""
	}
	if partitions <= 0 || replicas <= 0 {
		return "partition_count and replica_count must be positive"
	}
	if len(given) != int(partitions) {
		return fmt.Sprintf("%d entries for %d partitions", len(given), partitions)
	}
	seen := map[v1alpha1.NodeID]bool{}
	for i, a := range given {
		if len(a.Replica) != int(replicas) || len(a.ShardIDs) != int(replicas) {
			return fmt.Sprintf("partition %d has %d nodes and %d shards for %d replicas", i, len(a.Replica), len(a.ShardIDs), replicas)
		}
		if a.Primary != nil && !slices.Contains(a.ShardIDs, *a.Primary) {
			return fmt.Sprintf("the primary %d of partition %d is none of its shards", *a.Primary, i)
		}
		for _, id := range a.ShardIDs {
			if seen[id] {
				return fmt.Sprintf("shard id %d occurs twice", id)
			}
			seen[id] = true
		}
	}
	return ""
}

func toAssignments(given []v1alpha1.ShardAssignment) []shardAssignment {
	out := make([]shardAssignment, len(given))
	for i, a := range given {
		out[i] = shardAssignment{Primary: a.Primary, Replica: a.Replica, ShardIDs: a.ShardIDs}
	}
	return out
}

func valueOr[T any](value *T, otherwise T) T {
	if value == nil {
		return otherwise
	}
	return *value
}
