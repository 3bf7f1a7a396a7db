package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Phase is one word for people. It is derived from the conditions; programs
// read the conditions.
type Phase string

// Phases of a ClassRuntime.
const (
	// PhasePending: nothing was applied for this generation yet.
	PhasePending Phase = "pending"
	// PhaseApplying: the children are being written.
	PhaseApplying Phase = "applying"
	// PhaseProgressing: all children are written, not all are ready.
	PhaseProgressing Phase = "progressing"
	// PhaseAvailable: every function can be called.
	PhaseAvailable Phase = "available"
	// PhaseDegraded: something does not work and the Degraded condition says
	// what and what to do.
	PhaseDegraded Phase = "degraded"
	// PhaseDeleting: the children are being removed.
	PhaseDeleting Phase = "deleting"
)

// ClassRuntimeStatus is what was seen to run.
type ClassRuntimeStatus struct {
	// phase is one word for people.
	// +optional
	// +nullable
	Phase Phase `json:"phase,omitempty"`

	// message is one sentence for people.
	// +optional
	// +nullable
	Message string `json:"message,omitempty"`

	// observed_generation is the generation that this status is about, under
	// the name that oaas-rs uses.
	// +optional
	// +nullable
	ObservedGenerationCompat *int64 `json:"observed_generation,omitempty"`

	// observedGeneration is the generation that this status is about, under
	// the name that kstatus uses. Both always have the same value.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// last_updated is when the status was last written.
	// +optional
	// +nullable
	LastUpdated *metav1.Time `json:"last_updated,omitempty"`

	// conditions are the truth about the object.
	// +optional
	// +nullable
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=32
	Conditions []Condition `json:"conditions,omitempty"`

	// ready_functions is "<ready>/<all>", for people.
	// +optional
	ReadyFunctions string `json:"ready_functions,omitempty"`

	// template is the name of the template that was chosen.
	// +optional
	Template string `json:"template,omitempty"`

	// applied is the delivery whose children were last written completely.
	// +optional
	Applied *AppliedDelivery `json:"applied,omitempty"`

	// functions are in the order of spec.functions.
	// +optional
	// +nullable
	// +listType=atomic
	Functions []FunctionStatus `json:"functions,omitempty"`

	// routers are the Zenoh routers found in the namespace.
	// +optional
	// +nullable
	// +listType=atomic
	Routers []RouterStatus `json:"routers,omitempty"`

	// resource_refs are the children that exist. They are what has to be gone
	// before the object itself may go.
	// +optional
	// +nullable
	// +listType=atomic
	ResourceRefs []ResourceRef `json:"resource_refs,omitempty"`

	// nfr_recommendations are numbers by dimension: "replicas", "cpu" in
	// milli-cores, "memory" in bytes.
	// +optional
	// +nullable
	NfrRecommendations map[string]AnyValue `json:"nfr_recommendations,omitempty"`

	// last_applied_recommendations are what was last enforced.
	// +optional
	// +nullable
	// +listType=atomic
	LastAppliedRecommendations []AppliedRecommendation `json:"last_applied_recommendations,omitempty"`

	// last_applied_at is when that was.
	// +optional
	// +nullable
	LastAppliedAt *metav1.Time `json:"last_applied_at,omitempty"`
}

// Condition is one statement about the object. The member names are those of
// metav1.Condition, so that generic tools understand it; reason, message and
// time may be absent as in the objects that oaas-rs wrote.
type Condition struct {
	// type of the condition; one of each at most.
	// +required
	// +kubebuilder:validation:Enum=Available;Progressing;Degraded;NfrObserved;TelemetryConfigured;TelemetryDegraded;Unknown;Ready;Reconciling;Stalled
	Type ConditionType `json:"type"`

	// +required
	// +kubebuilder:validation:Enum=True;False;Unknown
	Status metav1.ConditionStatus `json:"status"`

	// observedGeneration is the generation that the condition is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// lastTransitionTime is when status last changed.
	// +optional
	// +nullable
	LastTransitionTime *metav1.Time `json:"lastTransitionTime,omitempty"`

	// reason is one of the documented reasons.
	// +optional
	// +nullable
	Reason Reason `json:"reason,omitempty"`

	// message says what is and what to do about it.
	// +optional
	// +nullable
	Message string `json:"message,omitempty"`
}

// FunctionStatus is what was seen of one function.
type FunctionStatus struct {
	// +required
	FunctionKey string `json:"function_key"`

	// service is the name of the function's Service; for a WASM function that
	// of the object store it runs in.
	// +required
	Service string `json:"service"`

	// port on which the service listens.
	// +required
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`

	// template is the name of the template that rendered the function.
	// +required
	Template string `json:"template"`

	// predicted_url is where the function will be reachable.
	// +required
	PredictedURL string `json:"predicted_url"`

	// observed_url is where the function is reachable. Set while it is ready.
	// +optional
	// +nullable
	ObservedURL string `json:"observed_url,omitempty"`

	// +optional
	// +nullable
	Ready *bool `json:"ready,omitempty"`

	// ready_replicas is the number of replicas that can be called.
	// +optional
	ReadyReplicas *int32 `json:"ready_replicas,omitempty"`

	// desired_replicas is the number of replicas that shall run.
	// +optional
	DesiredReplicas *int32 `json:"desired_replicas,omitempty"`

	// +optional
	// +nullable
	Reason Reason `json:"reason,omitempty"`

	// +optional
	// +nullable
	Message string `json:"message,omitempty"`

	// lastTransitionTime is when ready last changed.
	// +optional
	// +nullable
	LastTransitionTime *metav1.Time `json:"lastTransitionTime,omitempty"`
}

// AppliedDelivery is the delivery whose children were last written completely.
type AppliedDelivery struct {
	// generation of the ClassRuntime.
	// +required
	Generation int64 `json:"generation"`

	// applied_at is when that was first the case for this generation and
	// these children; the progress deadline counts from it.
	// +optional
	AppliedAt *metav1.Time `json:"applied_at,omitempty"`

	// intent_hash identifies the rendered children.
	// +optional
	// +kubebuilder:validation:MaxLength=128
	IntentHash string `json:"intent_hash,omitempty"`

	// +optional
	Epoch int64 `json:"epoch,omitempty"`

	// +optional
	Fence int64 `json:"fence,omitempty"`

	// +optional
	// +kubebuilder:validation:MaxLength=128
	ContentHash string `json:"content_hash,omitempty"`
}

// RouterStatus is a Zenoh router.
type RouterStatus struct {
	// +required
	Service string `json:"service"`
	// +required
	Port int32 `json:"port"`
}

// ResourceRef is a child of the ClassRuntime in the same namespace.
type ResourceRef struct {
	// +required
	Kind string `json:"kind"`
	// +required
	Name string `json:"name"`
	// +optional
	APIVersion string `json:"apiVersion,omitempty"`
	// +optional
	UID string `json:"uid,omitempty"`
}

// AppliedRecommendation is a recommendation that was enforced.
type AppliedRecommendation struct {
	// component is "function" or "odgm".
	// +required
	Component string `json:"component"`
	// dimension is "replicas", "cpu" or "memory".
	// +required
	Dimension string `json:"dimension"`
	// target is the value that was set.
	// +required
	// +kubebuilder:validation:Format=double
	Target float64 `json:"target"`
	// basis says where the recommendation came from.
	// +optional
	// +nullable
	Basis string `json:"basis,omitempty"`
	// confidence between 0 and 1.
	// +optional
	// +nullable
	// +kubebuilder:validation:Format=float
	Confidence *float64 `json:"confidence,omitempty"`
}
