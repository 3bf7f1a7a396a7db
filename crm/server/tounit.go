package server

import (
	"strings"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/proto/oaaspb"
)

// toUnit is the unit that the object was made from, as far as the object holds
// it. Bindings are not stored; their routes are.
func toUnit(object *v1alpha1.ClassRuntime, cluster string) *oaaspb.DeploymentUnit {
	class := object.Spec.PackageClassKey
	packageName := packageOf(class)
	unit := &oaaspb.DeploymentUnit{
		Id:               unitID(object),
		PackageName:      packageName,
		ClassKey:         strings.TrimPrefix(class, packageName+"."),
		TargetEnv:        cluster,
		CreatedAt:        timestamp(object.CreationTimestamp.Time),
		SelectedTemplate: optional(object.Spec.SelectedTemplate),
		Delivery:         deliveryToProto(deliveryOfObject(object)),
	}
	if unit.ClassKey == "" {
		unit.ClassKey = object.Name
	}
	if d := object.Spec.Delivery; d != nil && d.TargetEnv != "" {
		unit.TargetEnv = d.TargetEnv
	}
	for i := range object.Spec.Functions {
		unit.Functions = append(unit.Functions, functionToProto(&object.Spec.Functions[i]))
	}
	unit.OdgmConfig = odgmToProto(object.Spec.OdgmConfig)
	unit.Pods = podsToProto(object)
	if t := object.Spec.Telemetry; t != nil {
		unit.Telemetry = &oaaspb.TelemetrySpec{
			Enabled: t.Enabled == nil || *t.Enabled, Traces: t.Traces, Metrics: t.Metrics, Logs: t.Logs,
			SamplingRate: t.SamplingRate, ServiceName: optional(t.ServiceName), ResourceAttributes: t.ResourceAttributes,
		}
	}
	return unit
}

func functionToProto(f *v1alpha1.FunctionSpec) *oaaspb.FunctionDeploymentSpec {
	out := &oaaspb.FunctionDeploymentSpec{
		FunctionKey: f.FunctionKey, Description: optional(f.Description),
		AvailableLocation: optional(f.AvailableLocation), Config: f.Config,
	}
	if q := f.QosRequirement; q != nil {
		out.NfrRequirements = &oaaspb.NfrRequirements{MinThroughputRps: &q.Throughput, Availability: &q.Availability}
	}
	if p := f.ProvisionConfig; p != nil {
		out.ProvisionConfig = &oaaspb.ProvisionConfig{
			ContainerImage: optional(p.ContainerImage), WasmModuleUrl: optional(p.WasmModuleURL),
			MaxConcurrency: p.MaxConcurrency, NeedHttp2: p.NeedHTTP2,
			CpuRequest: optional(p.CPURequest), MemoryRequest: optional(p.MemoryRequest),
			CpuLimit: optional(p.CPULimit), MemoryLimit: optional(p.MemoryLimit),
			MinScale: p.MinScale, MaxScale: p.MaxScale,
		}
		if p.Port != nil && *p.Port >= 0 {
			port := uint32(*p.Port)
			out.ProvisionConfig.Port = &port
		}
	}
	return out
}

func odgmToProto(config *v1alpha1.OdgmConfig) *oaaspb.OdgmConfig {
	if config == nil {
		return nil
	}
	out := &oaaspb.OdgmConfig{
		Collections: config.Collections, PartitionCount: countToProto(config.PartitionCount),
		ReplicaCount: countToProto(config.ReplicaCount), ShardType: optional(config.ShardType),
		Options: config.Options, Log: optional(config.Log), OdgmNodeId: (*uint64)(config.NodeID),
	}
	for env, ids := range config.EnvNodeIDs {
		if out.EnvNodeIds == nil {
			out.EnvNodeIds = map[string]*oaaspb.OdgmNodeIds{}
		}
		out.EnvNodeIds[env] = &oaaspb.OdgmNodeIds{Ids: idsToProto(ids)}
	}
	for collection, list := range config.CollectionAssignments {
		if out.CollectionAssignments == nil {
			out.CollectionAssignments = map[string]*oaaspb.CollectionShardAssignments{}
		}
		out.CollectionAssignments[collection] = shardsToProto(list)
	}
	if inv := config.Invocations; inv != nil {
		out.Invocations = &oaaspb.InvocationRoutes{DisabledFn: inv.DisabledFn, FnRoutes: map[string]*oaaspb.FunctionRoute{}}
		for method, route := range inv.FnRoutes {
			out.Invocations.FnRoutes[method] = &oaaspb.FunctionRoute{
				Url: route.URL, Stateless: route.Stateless, Standby: route.Standby,
				ActiveGroup: idsToProto(route.ActiveGroup), FunctionKey: optional(route.FunctionKey),
			}
		}
	}
	return out
}

func shardsToProto(list []v1alpha1.ShardAssignment) *oaaspb.CollectionShardAssignments {
	out := &oaaspb.CollectionShardAssignments{}
	for _, a := range list {
		assignment := &oaaspb.ShardAssignmentSpec{Replica: idsToProto(a.Replica), ShardIds: idsToProto(a.ShardIDs)}
		if a.Primary != nil {
			primary := uint64(*a.Primary)
			assignment.Primary = &primary
		}
		out.Assignments = append(out.Assignments, assignment)
	}
	return out
}

func countToProto(count *int32) *uint32 {
	if count == nil || *count < 0 {
		return nil
	}
	out := uint32(*count)
	return &out
}

func idsToProto(ids []v1alpha1.NodeID) []uint64 {
	out := make([]uint64, len(ids))
	for i, id := range ids {
		out[i] = uint64(id)
	}
	return out
}
