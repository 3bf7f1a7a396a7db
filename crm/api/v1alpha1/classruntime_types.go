package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ClassRuntime is what one cluster runs of one class.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=classruntimes,singular=classruntime,shortName=crt,categories=oaas,scope=Namespaced
// +kubebuilder:printcolumn:name="Class",type=string,JSONPath=`.spec.package_class_key`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Available",type=string,JSONPath=`.status.conditions[?(@.type=="Available")].status`
// +kubebuilder:printcolumn:name="Functions",type=string,JSONPath=`.status.ready_functions`
// +kubebuilder:printcolumn:name="Template",type=string,JSONPath=`.status.template`,priority=1
// +kubebuilder:printcolumn:name="Epoch",type=integer,JSONPath=`.spec.delivery.epoch`,priority=1
// +kubebuilder:printcolumn:name="Fence",type=integer,JSONPath=`.spec.delivery.fence`,priority=1
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.message`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:selectablefield:JSONPath=`.spec.delivery.deployment_uid`
// +kubebuilder:selectablefield:JSONPath=`.spec.delivery.control_plane_id`
// +kubebuilder:selectablefield:JSONPath=`.spec.package_class_key`
// +kubebuilder:selectablefield:JSONPath=`.status.phase`
type ClassRuntime struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty,omitzero"`

	// spec is what shall run.
	// +required
	Spec ClassRuntimeSpec `json:"spec"`

	// status is what was seen to run.
	// +optional
	// +nullable
	Status ClassRuntimeStatus `json:"status,omitempty,omitzero"`
}

// ClassRuntimeList is a list of ClassRuntimes.
//
// +kubebuilder:object:root=true
type ClassRuntimeList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty,omitzero"`
	Items           []ClassRuntime `json:"items"`
}

// ClassRuntimeSpec is what shall run of one class in this cluster.
//
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.delivery) || has(self.delivery)",message="spec.delivery cannot be removed: it is what refuses late changes of this object"
type ClassRuntimeSpec struct {
	// package_class_key is "<package>.<class>".
	// +optional
	// +nullable
	PackageClassKey string `json:"package_class_key,omitempty"`

	// selected_template is a template's name or alias. Empty or unknown lets
	// the manager choose by score.
	// +optional
	// +nullable
	SelectedTemplate string `json:"selected_template,omitempty"`

	// addons is an allow-list of what runs beside the functions. Null means
	// all; otherwise the object store runs only if the list has "odgm".
	// +optional
	// +nullable
	// +kubebuilder:default={odgm}
	// +listType=atomic
	Addons []string `json:"addons,omitzero"`

	// functions are the functions of the class that this cluster runs.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1024
	Functions []FunctionSpec `json:"functions,omitempty"`

	// odgm_config configures the object store of the class.
	// +optional
	// +nullable
	OdgmConfig *OdgmConfig `json:"odgm_config,omitempty"`

	// nfr_requirements are the non-functional requirements of the class.
	// +optional
	// +nullable
	NfrRequirements *NfrRequirements `json:"nfr_requirements,omitempty"`

	// enforcement says whether recommendations are only shown or also applied.
	// +optional
	// +nullable
	Enforcement *Enforcement `json:"enforcement,omitempty"`

	// telemetry configures OpenTelemetry in the containers.
	// +optional
	// +nullable
	Telemetry *Telemetry `json:"telemetry,omitempty"`

	// pods says what the pods of the class have, where it differs from what the
	// manager gives all pods of its cluster.
	// +optional
	Pods *PodSettings `json:"pods,omitempty"`

	// delivery says which change of which control plane this spec is. Objects
	// of a package manager without fences lack it.
	// +optional
	Delivery *Delivery `json:"delivery,omitempty"`
}

// Delivery orders the changes of one object and says whose they are.
//
// +kubebuilder:validation:XValidation:rule="self.epoch > oldSelf.epoch || (self.epoch == oldSelf.epoch && self.fence >= oldSelf.fence)",message="stale change: (epoch, fence) is lower than the stored one"
// +kubebuilder:validation:XValidation:rule="self.epoch != oldSelf.epoch || self.fence != oldSelf.fence || self.content_hash == oldSelf.content_hash",message="the same (epoch, fence) was already delivered with another content_hash"
type Delivery struct {
	// unit_id is the id of the deployment unit as the package manager sent it.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="unit_id is immutable"
	UnitID string `json:"unit_id"`

	// deployment_uid tells two deployments apart that had the same key.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="deployment_uid is immutable: the object belongs to another deployment"
	DeploymentUID string `json:"deployment_uid"`

	// control_plane_id is the identity of the package manager cluster.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="control_plane_id is immutable: the object belongs to another control plane"
	ControlPlaneID string `json:"control_plane_id"`

	// epoch is the incarnation of the control plane. It rises when the control
	// plane is restored from a backup.
	// +required
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=9007199254740991
	Epoch int64 `json:"epoch"`

	// fence is the position of the change in the control plane's log. Within
	// an epoch the higher one wins.
	// +required
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=9007199254740991
	Fence int64 `json:"fence"`

	// content_hash identifies the content of the change. It is compared, never
	// computed, in this cluster.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	ContentHash string `json:"content_hash"`

	// generation is the generation of the deployment that the change is from.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=9007199254740991
	Generation int64 `json:"generation,omitempty"`

	// deployment_key is the key of the deployment, for people.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	DeploymentKey string `json:"deployment_key,omitempty"`

	// target_env is the name under which the control plane knows this cluster.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	TargetEnv string `json:"target_env,omitempty"`
}

// FunctionSpec is one function.
type FunctionSpec struct {
	// function_key is unique in its package, usually "<class>.<name>".
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	FunctionKey string `json:"function_key"`

	// description is free text.
	// +optional
	// +nullable
	Description string `json:"description,omitempty"`

	// available_location is kept for the reader; nothing here depends on it.
	// +optional
	// +nullable
	AvailableLocation string `json:"available_location,omitempty"`

	// qos_requirement is what the function's callers were promised.
	// +optional
	// +nullable
	QosRequirement *QosRequirement `json:"qos_requirement,omitempty"`

	// provision_config says what to run and how large.
	// +optional
	// +nullable
	ProvisionConfig *ProvisionConfig `json:"provision_config,omitempty"`

	// config becomes environment variables of the container.
	// +optional
	Config map[string]string `json:"config,omitempty"`
}

// IsWASM reports whether the function is a WebAssembly module. Such a function
// runs inside the object store and has no workload of its own.
func (f *FunctionSpec) IsWASM() bool {
	return f.ProvisionConfig != nil && f.ProvisionConfig.WasmModuleURL != ""
}

// QosRequirement is a promise about one function.
type QosRequirement struct {
	// throughput in requests per second.
	// +optional
	// +kubebuilder:default=0
	// +kubebuilder:validation:Format=int64
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	Throughput uint32 `json:"throughput"`

	// availability between 0 and 1.
	// +required
	// +kubebuilder:validation:Format=double
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1
	Availability float64 `json:"availability"`
}

// ProvisionConfig says what to run for a function and how large. Either
// container_image or wasm_module_url is set.
type ProvisionConfig struct {
	// container_image is an image reference.
	// +optional
	// +nullable
	ContainerImage string `json:"container_image,omitempty"`

	// wasm_module_url is where the object store gets the function's module. It
	// wins over container_image.
	// +optional
	// +nullable
	WasmModuleURL string `json:"wasm_module_url,omitempty"`

	// port on which the container listens. Unset or 0 is the template's default.
	// +optional
	// +nullable
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=65535
	Port *int32 `json:"port,omitempty"`

	// max_concurrency is the number of requests one container takes at a time;
	// 0 is unlimited.
	// +optional
	// +kubebuilder:default=0
	// +kubebuilder:validation:Format=int64
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	MaxConcurrency uint32 `json:"max_concurrency"`

	// need_http2 says that the container speaks HTTP/2 without TLS.
	// +optional
	// +kubebuilder:default=false
	NeedHTTP2 bool `json:"need_http2"`

	// cpu_request is a Kubernetes quantity.
	// +optional
	// +nullable
	CPURequest string `json:"cpu_request,omitempty"`

	// memory_request is a Kubernetes quantity.
	// +optional
	// +nullable
	MemoryRequest string `json:"memory_request,omitempty"`

	// cpu_limit is a Kubernetes quantity.
	// +optional
	// +nullable
	CPULimit string `json:"cpu_limit,omitempty"`

	// memory_limit is a Kubernetes quantity.
	// +optional
	// +nullable
	MemoryLimit string `json:"memory_limit,omitempty"`

	// min_scale is the number of replicas, or the lower bound of autoscaling.
	// +optional
	// +nullable
	// +kubebuilder:validation:Format=int64
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	MinScale *uint32 `json:"min_scale,omitempty"`

	// max_scale is the upper bound of autoscaling.
	// +optional
	// +nullable
	// +kubebuilder:validation:Format=int64
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	MaxScale *uint32 `json:"max_scale,omitempty"`
}

// NfrRequirements are the non-functional requirements of a class.
type NfrRequirements struct {
	// +optional
	// +nullable
	// +kubebuilder:validation:Format=int64
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	MinThroughputRPS *uint32 `json:"min_throughput_rps,omitempty"`

	// +optional
	// +nullable
	// +kubebuilder:validation:Format=int64
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	MaxLatencyMS *uint32 `json:"max_latency_ms,omitempty"`

	// availability_pct in percent, for example 99.9.
	// +optional
	// +nullable
	// +kubebuilder:validation:Format=float
	AvailabilityPct *float64 `json:"availability_pct,omitempty"`

	// +optional
	// +nullable
	Consistency string `json:"consistency,omitempty"`

	// cpu_utilization_target is how busy the containers of an autoscaled
	// function are meant to be, as a share of their CPU request. Unset or 0 is
	// the template's default.
	// +optional
	// +nullable
	// +kubebuilder:validation:Format=double
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1
	CPUUtilizationTarget *float64 `json:"cpu_utilization_target,omitempty"`
}

// Enforcement says what happens with recommendations.
type Enforcement struct {
	// mode is "off", "observe" or "enforce", in any case. Anything else is
	// "observe".
	// +optional
	// +nullable
	Mode string `json:"mode,omitempty"`

	// dimensions that may be enforced, for example "replicas".
	// +optional
	// +nullable
	// +listType=atomic
	Dimensions []string `json:"dimensions,omitempty"`
}

// Telemetry configures OpenTelemetry in the containers. Unset members take
// the manager's defaults.
type Telemetry struct {
	// +optional
	// +nullable
	Enabled *bool `json:"enabled,omitempty"`

	// +optional
	// +nullable
	Traces *bool `json:"traces,omitempty"`

	// +optional
	// +nullable
	Metrics *bool `json:"metrics,omitempty"`

	// +optional
	// +nullable
	Logs *bool `json:"logs,omitempty"`

	// sampling_rate between 0 and 1.
	// +optional
	// +nullable
	// +kubebuilder:validation:Format=double
	SamplingRate *float64 `json:"sampling_rate,omitempty"`

	// +optional
	// +nullable
	ServiceName string `json:"service_name,omitempty"`

	// +optional
	ResourceAttributes map[string]string `json:"resource_attributes,omitempty"`
}
