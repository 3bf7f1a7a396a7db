package server

import (
	"fmt"
	"math"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/crm/template"
	"oaas.io/control-plane/proto/oaaspb"
)

// Names of what Deploy writes beside the spec.
const (
	// LabelDeploymentID holds the unit id in the form of an object name.
	LabelDeploymentID = "oaas.io/deployment-id"
	// LabelClass, LabelPackage and LabelDeployment are for people to select by: the class
	// with its package as its children have it, the package, and the key of the
	// deployment, each shortened to a label value.
	LabelClass      = template.LabelClass
	LabelPackage    = "oaas.io/package"
	LabelDeployment = "oaas.io/deployment"
	// AnnotationCorrelationID holds the x-correlation-id of the last change.
	AnnotationCorrelationID = "oaas.io/correlation-id"
	// AnnotationUnitID holds the unit id as it was sent, when it had to be changed
	// to become an object name and no delivery holds it.
	AnnotationUnitID = "oaas.io/unit-id"
	// annotationCPUTarget held what is now spec.nfr_requirements.cpu_utilization_target.
	annotationCPUTarget = "oaas.io/cpu-utilization-target"
)

const (
	maxFunctions = 1024
	// maxObjectName is the longest name that the Kubernetes API takes.
	maxObjectName = 253
	// maxIdentity and maxDeploymentKey are the bounds of the delivery's texts in the
	// definition.
	maxIdentity      = 128
	maxDeploymentKey = 512
	// maxExact is the largest integer that JSON readers keep exact.
	maxExact = 1<<53 - 1
)

// toObject builds the ClassRuntime that a unit asks for, or says which field is
// not acceptable. Every function of the unit is kept in its place, because the
// names of children and the URLs of routes follow from index and count.
func toObject(unit *oaaspb.DeploymentUnit, namespace, correlation string) (*v1alpha1.ClassRuntime, error) {
	name, err := objectName(unit.GetId(), "deployment_unit.id")
	if err != nil {
		return nil, err
	}
	if problems := validation.IsValidLabelValue(name); len(problems) > 0 {
		return nil, fieldError("deployment_unit.id", "must be at most 63 characters, because children carry it as a label")
	}
	if unit.GetClassKey() == "" {
		return nil, fieldError("deployment_unit.class_key", "is required")
	}
	object := &v1alpha1.ClassRuntime{ObjectMeta: metav1.ObjectMeta{
		Name: name, Namespace: namespace,
		Labels:      labelsOf(unit, name),
		Annotations: map[string]string{},
	}}
	object.Spec.PackageClassKey = packageClassKey(unit)
	object.Spec.SelectedTemplate = unit.GetSelectedTemplate()
	if object.Spec.Functions, err = functionsOf(unit.GetFunctions()); err != nil {
		return nil, err
	}
	if object.Spec.OdgmConfig, err = odgmOf(unit, name); err != nil {
		return nil, err
	}
	if object.Spec.Pods, err = podsOf(unit.GetPods()); err != nil {
		return nil, err
	}
	if object.Spec.Delivery, err = deliveryOf(unit); err != nil {
		return nil, err
	}
	if rate := unit.GetTelemetry().GetSamplingRate(); math.IsNaN(rate) || math.IsInf(rate, 0) {
		return nil, fieldError("deployment_unit.telemetry.sampling_rate", "must be a number")
	}
	object.Spec.NfrRequirements = classNfr(unit.GetFunctions())
	object.Spec.Telemetry = telemetryOf(unit.GetTelemetry())
	return object, annotate(object, unit, correlation)
}

// labelsOf leaves out what the unit has no value for.
func labelsOf(unit *oaaspb.DeploymentUnit, name string) map[string]string {
	labels := map[string]string{LabelDeploymentID: name}
	for label, text := range map[string]string{
		LabelClass: packageClassKey(unit), LabelPackage: unit.GetPackageName(), LabelDeployment: unit.GetDelivery().GetDeploymentKey(),
	} {
		if text != "" {
			labels[label] = template.LabelValue(text)
		}
	}
	return labels
}

func annotate(object *v1alpha1.ClassRuntime, unit *oaaspb.DeploymentUnit, correlation string) error {
	if correlation != "" {
		object.Annotations[AnnotationCorrelationID] = correlation
	}
	if unit.GetDelivery() == nil && unit.GetId() != object.Name {
		object.Annotations[AnnotationUnitID] = unit.GetId()
	}
	if object.Spec.Pods != nil {
		object.Annotations[AnnotationPods] = podsOfUnit
	}
	if object.Spec.Delivery == nil {
		return nil
	}
	hash, err := specHash(object)
	object.Annotations[AnnotationSpecHash] = hash
	return err
}

// objectName is the name under which a unit is stored.
func objectName(id, field string) (string, error) {
	name := template.Sanitize(id)
	switch {
	case name == "":
		return "", fieldError(field, "must hold at least one letter or digit")
	case len(name) > maxObjectName:
		return "", fieldError(field, "must be at most %d characters", maxObjectName)
	}
	return name, nil
}

func packageClassKey(unit *oaaspb.DeploymentUnit) string {
	if unit.GetPackageName() == "" {
		return unit.GetClassKey()
	}
	return unit.GetPackageName() + "." + unit.GetClassKey()
}

func functionsOf(specs []*oaaspb.FunctionDeploymentSpec) ([]v1alpha1.FunctionSpec, error) {
	if len(specs) > maxFunctions {
		return nil, fieldError("deployment_unit.functions", "has %d entries, at most %d are taken", len(specs), maxFunctions)
	}
	functions := make([]v1alpha1.FunctionSpec, 0, len(specs))
	for i, spec := range specs {
		field := fmt.Sprintf("deployment_unit.functions[%d]", i)
		if spec.GetFunctionKey() == "" {
			return nil, fieldError(field+".function_key", "is required")
		}
		provision, err := provisionOf(spec.GetProvisionConfig(), field+".provision_config")
		if err != nil {
			return nil, err
		}
		functions = append(functions, v1alpha1.FunctionSpec{
			FunctionKey:       spec.GetFunctionKey(),
			Description:       spec.GetDescription(),
			AvailableLocation: spec.GetAvailableLocation(),
			QosRequirement:    qosOf(spec.GetNfrRequirements()),
			ProvisionConfig:   provision,
			Config:            spec.GetConfig(),
		})
	}
	return functions, nil
}

func provisionOf(p *oaaspb.ProvisionConfig, field string) (*v1alpha1.ProvisionConfig, error) {
	if strings.TrimSpace(p.GetContainerImage()) == "" && p.GetWasmModuleUrl() == "" {
		return nil, fieldError(field, "needs a container_image or a wasm_module_url")
	}
	for _, quantity := range []struct{ name, text string }{
		{"cpu_request", p.GetCpuRequest()}, {"memory_request", p.GetMemoryRequest()},
		{"cpu_limit", p.GetCpuLimit()}, {"memory_limit", p.GetMemoryLimit()},
	} {
		if quantity.text == "" {
			continue
		}
		if value, err := resource.ParseQuantity(quantity.text); err != nil || value.Sign() < 0 {
			return nil, fieldError(field+"."+quantity.name, "%q is no Kubernetes quantity such as 250m or 64Mi", quantity.text)
		}
	}
	if p.GetMinScale() > math.MaxInt32 {
		return nil, fieldError(field+".min_scale", "%d is more replicas than Kubernetes counts", p.GetMinScale())
	}
	// A max_scale of 0 means no upper bound.
	if p.MinScale != nil && p.GetMaxScale() > 0 && p.GetMaxScale() < p.GetMinScale() {
		return nil, fieldError(field+".max_scale", "%d is lower than min_scale %d", p.GetMaxScale(), p.GetMinScale())
	}
	provision := &v1alpha1.ProvisionConfig{
		ContainerImage: p.GetContainerImage(),
		WasmModuleURL:  p.GetWasmModuleUrl(),
		MaxConcurrency: p.GetMaxConcurrency(),
		NeedHTTP2:      p.GetNeedHttp2(),
		CPURequest:     p.GetCpuRequest(),
		MemoryRequest:  p.GetMemoryRequest(),
		CPULimit:       p.GetCpuLimit(),
		MemoryLimit:    p.GetMemoryLimit(),
		MinScale:       p.MinScale,
		MaxScale:       p.MaxScale,
	}
	if p.Port != nil {
		if p.GetPort() > math.MaxUint16 {
			return nil, fieldError(field+".port", "%d is no TCP port", p.GetPort())
		}
		port := int32(p.GetPort())
		provision.Port = &port
	}
	return provision, nil
}

// qosOf keeps what the callers of one function were promised.
func qosOf(nfr *oaaspb.NfrRequirements) *v1alpha1.QosRequirement {
	if nfr == nil || nfr.MinThroughputRps == nil && nfr.Availability == nil {
		return nil
	}
	return &v1alpha1.QosRequirement{Throughput: nfr.GetMinThroughputRps(), Availability: unitInterval(nfr.GetAvailability())}
}

// classNfr is the strictest of what the functions ask for: a package manager
// repeats the class's requirements on each of its functions.
func classNfr(specs []*oaaspb.FunctionDeploymentSpec) *v1alpha1.NfrRequirements {
	var out v1alpha1.NfrRequirements
	for _, spec := range specs {
		nfr := spec.GetNfrRequirements()
		if nfr == nil {
			continue
		}
		if nfr.MinThroughputRps != nil && (out.MinThroughputRPS == nil || nfr.GetMinThroughputRps() > *out.MinThroughputRPS) {
			out.MinThroughputRPS = nfr.MinThroughputRps
		}
		if nfr.Availability != nil {
			percent := 100 * unitInterval(nfr.GetAvailability())
			if out.AvailabilityPct == nil || percent > *out.AvailabilityPct {
				out.AvailabilityPct = &percent
			}
		}
	}
	if target := cpuTarget(specs); target > 0 {
		out.CPUUtilizationTarget = &target
	}
	if out == (v1alpha1.NfrRequirements{}) {
		return nil
	}
	return &out
}

// cpuTarget is the lowest utilisation target above 0; 0 when none was sent.
func cpuTarget(specs []*oaaspb.FunctionDeploymentSpec) float64 {
	lowest := 0.0
	for _, spec := range specs {
		target := unitInterval(spec.GetNfrRequirements().GetCpuUtilizationTarget())
		if target > 0 && (lowest == 0 || target < lowest) {
			lowest = target
		}
	}
	return lowest
}

func unitInterval(value float64) float64 {
	if math.IsNaN(value) {
		return 0
	}
	return min(max(value, 0), 1)
}

func telemetryOf(t *oaaspb.TelemetrySpec) *v1alpha1.Telemetry {
	if t == nil {
		return nil
	}
	enabled := t.GetEnabled()
	return &v1alpha1.Telemetry{
		Enabled: &enabled, Traces: t.Traces, Metrics: t.Metrics, Logs: t.Logs,
		SamplingRate: t.SamplingRate, ServiceName: t.GetServiceName(), ResourceAttributes: t.GetResourceAttributes(),
	}
}

func deliveryOf(unit *oaaspb.DeploymentUnit) (*v1alpha1.Delivery, error) {
	d := unit.GetDelivery()
	if d == nil {
		return nil, nil
	}
	if err := validDelivery(d, "deployment_unit.delivery"); err != nil {
		return nil, err
	}
	switch {
	case d.GetContentHash() == "":
		return nil, fieldError("deployment_unit.delivery.content_hash", "is required")
	case len(d.GetContentHash()) > maxIdentity:
		return nil, fieldError("deployment_unit.delivery.content_hash", "must be at most %d bytes", maxIdentity)
	case len(unit.GetId()) > maxObjectName:
		return nil, fieldError("deployment_unit.id", "must be at most %d bytes", maxObjectName)
	case len(unit.GetTargetEnv()) > maxObjectName:
		return nil, fieldError("deployment_unit.target_env", "must be at most %d bytes", maxObjectName)
	}
	return &v1alpha1.Delivery{
		UnitID: unit.GetId(), DeploymentUID: d.GetDeploymentUid(), ControlPlaneID: d.GetControlPlaneId(),
		Epoch: int64(d.GetEpoch()), Fence: int64(d.GetFence()), Generation: int64(d.GetGeneration()),
		ContentHash: d.GetContentHash(), DeploymentKey: d.GetDeploymentKey(), TargetEnv: unit.GetTargetEnv(),
	}, nil
}

// validDelivery checks what both Deploy and Delete need of a delivery.
func validDelivery(d *oaaspb.Delivery, field string) error {
	switch {
	case d.GetControlPlaneId() == "":
		return fieldError(field+".control_plane_id", "is required")
	case d.GetDeploymentUid() == "":
		return fieldError(field+".deployment_uid", "is required")
	case len(d.GetControlPlaneId()) > maxIdentity:
		return fieldError(field+".control_plane_id", "must be at most %d bytes", maxIdentity)
	case len(d.GetDeploymentUid()) > maxIdentity:
		return fieldError(field+".deployment_uid", "must be at most %d bytes", maxIdentity)
	case len(d.GetDeploymentKey()) > maxDeploymentKey:
		return fieldError(field+".deployment_key", "must be at most %d bytes", maxDeploymentKey)
	case d.GetEpoch() > maxExact || d.GetFence() > maxExact || d.GetGeneration() > maxExact:
		return fieldError(field, "epoch, fence and generation must be at most 2^53-1")
	}
	return nil
}

func deliveryToProto(d *v1alpha1.Delivery) *oaaspb.Delivery {
	if d == nil {
		return nil
	}
	return &oaaspb.Delivery{
		Epoch: uint64(d.Epoch), Fence: uint64(d.Fence), Generation: uint64(d.Generation),
		DeploymentUid: d.DeploymentUID, DeploymentKey: d.DeploymentKey,
		ControlPlaneId: d.ControlPlaneID, ContentHash: d.ContentHash,
	}
}

// odgmOf builds the object store's configuration. A unit without one but with
// functions gets one collection named like the object, as oaas-rs gives it.
func odgmOf(unit *oaaspb.DeploymentUnit, name string) (*v1alpha1.OdgmConfig, error) {
	config := unit.GetOdgmConfig()
	if config == nil {
		if len(unit.GetFunctions()) == 0 {
			return nil, nil
		}
		one := int32(1)
		return &v1alpha1.OdgmConfig{
			Collections: []string{name}, PartitionCount: &one, ReplicaCount: &one, ShardType: "mst",
			Invocations: &v1alpha1.Invocations{},
		}, nil
	}
	const field = "deployment_unit.odgm_config"
	out := &v1alpha1.OdgmConfig{
		Collections: config.GetCollections(), ShardType: config.GetShardType(), Options: config.GetOptions(),
		Log: config.GetLog(), NodeID: (*v1alpha1.NodeID)(config.OdgmNodeId),
		EnvNodeIDs:  nodeIDsOf(config.GetEnvNodeIds()),
		Invocations: invocationsOf(unit, name),
	}
	var err error
	if out.PartitionCount, err = countOf(config.PartitionCount, field+".partition_count"); err != nil {
		return nil, err
	}
	if out.ReplicaCount, err = countOf(config.ReplicaCount, field+".replica_count"); err != nil {
		return nil, err
	}
	out.CollectionAssignments = assignmentsOf(config.GetCollectionAssignments())
	return out, nil
}

func countOf(value *uint32, field string) (*int32, error) {
	if value == nil {
		return nil, nil
	}
	if *value > math.MaxInt32 {
		return nil, fieldError(field, "%d is too large", *value)
	}
	count := int32(*value)
	return &count, nil
}

func idsOf(ids []uint64) []v1alpha1.NodeID {
	if len(ids) == 0 {
		return nil
	}
	out := make([]v1alpha1.NodeID, len(ids))
	for i, id := range ids {
		out[i] = v1alpha1.NodeID(id)
	}
	return out
}

func nodeIDsOf(envs map[string]*oaaspb.OdgmNodeIds) map[string][]v1alpha1.NodeID {
	if len(envs) == 0 {
		return nil
	}
	out := make(map[string][]v1alpha1.NodeID, len(envs))
	for env, ids := range envs {
		out[env] = idsOf(ids.GetIds())
	}
	return out
}

func assignmentsOf(collections map[string]*oaaspb.CollectionShardAssignments) map[string][]v1alpha1.ShardAssignment {
	if len(collections) == 0 {
		return nil
	}
	out := make(map[string][]v1alpha1.ShardAssignment, len(collections))
	for collection, list := range collections {
		assignments := make([]v1alpha1.ShardAssignment, 0, len(list.GetAssignments()))
		for _, a := range list.GetAssignments() {
			assignment := v1alpha1.ShardAssignment{Replica: idsOf(a.GetReplica()), ShardIDs: idsOf(a.GetShardIds())}
			if a.Primary != nil {
				primary := v1alpha1.NodeID(a.GetPrimary())
				assignment.Primary = &primary
			}
			assignments = append(assignments, assignment)
		}
		out[collection] = assignments
	}
	return out
}

// invocationsOf resolves the routes of a unit to the URLs of its functions.
// Routes that were sent keep their names; without any, each binding whose
// function is in the unit becomes one.
func invocationsOf(unit *oaaspb.DeploymentUnit, name string) *v1alpha1.Invocations {
	targets := newRouteTargets(unit, name)
	sent := unit.GetOdgmConfig().GetInvocations()
	out := &v1alpha1.Invocations{DisabledFn: sent.GetDisabledFn()}
	if len(sent.GetFnRoutes()) > 0 {
		out.FnRoutes = make(map[string]v1alpha1.FunctionRoute, len(sent.GetFnRoutes()))
		for method, route := range sent.GetFnRoutes() {
			key := route.GetFunctionKey()
			if key == "" {
				key = targets.bindings[method]
			}
			resolved := v1alpha1.FunctionRoute{
				URL: route.GetUrl(), Stateless: route.Stateless, Standby: route.Standby,
				ActiveGroup: idsOf(route.GetActiveGroup()), FunctionKey: key,
			}
			targets.resolve(&resolved)
			out.FnRoutes[method] = resolved
		}
		return out
	}
	for _, binding := range unit.GetFunctionBindings() {
		standby := false
		route := v1alpha1.FunctionRoute{FunctionKey: binding.GetFunctionKey(), Stateless: binding.Stateless, Standby: &standby}
		if targets.resolve(&route) {
			if out.FnRoutes == nil {
				out.FnRoutes = map[string]v1alpha1.FunctionRoute{}
			}
			out.FnRoutes[binding.GetName()] = route
		}
	}
	if out.FnRoutes == nil && out.DisabledFn == nil {
		return nil
	}
	return out
}

// routeTargets knows where each function of a unit can be called.
type routeTargets struct {
	name      string
	functions map[string]int
	specs     []*oaaspb.FunctionDeploymentSpec
	bindings  map[string]string
}

func newRouteTargets(unit *oaaspb.DeploymentUnit, name string) *routeTargets {
	t := &routeTargets{name: name, functions: map[string]int{}, specs: unit.GetFunctions(), bindings: map[string]string{}}
	for i, spec := range t.specs {
		if _, twice := t.functions[spec.GetFunctionKey()]; !twice {
			t.functions[spec.GetFunctionKey()] = i
		}
	}
	for _, binding := range unit.GetFunctionBindings() {
		t.bindings[binding.GetName()] = binding.GetFunctionKey()
	}
	return t
}

// resolve sets the URL of a route whose function is in the unit and reports
// whether it is.
func (t *routeTargets) resolve(route *v1alpha1.FunctionRoute) bool {
	index, ok := t.functions[route.FunctionKey]
	if !ok {
		return false
	}
	if wasm := t.specs[index].GetProvisionConfig().GetWasmModuleUrl(); wasm != "" {
		route.URL, route.WasmModuleURL = "wasm://"+route.FunctionKey, wasm
		return true
	}
	route.URL = "http://" + template.FunctionName(t.name, index, len(t.specs)) + ":80/"
	return true
}
