package v1alpha1

// PodSettings is what the pods of one class have, where it differs from what the
// manager gives all pods of its cluster. What a function says of its own resources
// wins over both. It is an extension: oaas-rs ignores it.
type PodSettings struct {
	// service_account that the pods run as. Naming one, be it "default", mounts its
	// token.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	ServiceAccount string `json:"service_account,omitempty"`

	// pull_secrets are names of secrets in the namespace, added to those of the
	// cluster.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	PullSecrets []string `json:"pull_secrets,omitempty"`

	// node_selector are labels of the nodes that the pods may run on, added to those
	// of the cluster. Of the same label this value counts.
	// +optional
	// +mapType=atomic
	// +kubebuilder:validation:MaxProperties=32
	NodeSelector map[string]string `json:"node_selector,omitempty"`

	// tolerations let the pods onto nodes with taints. They are added to those of
	// the cluster.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Tolerations []Toleration `json:"tolerations,omitempty"`

	// security is how much the containers are confined: none, baseline (no
	// escalation of privileges) or restricted (no root either).
	// +optional
	// +kubebuilder:validation:Enum=none;baseline;restricted
	Security string `json:"security,omitempty"`

	// cpu_request of containers that name neither a request nor a limit; "0" is none.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	CPURequest string `json:"cpu_request,omitempty"`

	// memory_request of containers that name neither a request nor a limit; "0" is
	// none.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	MemoryRequest string `json:"memory_request,omitempty"`

	// spread keeps the pods of a function in different zones and on different nodes
	// as far as there are any.
	// +optional
	Spread *bool `json:"spread,omitempty"`

	// disruption_budget lets one pod of a function at a time be evicted.
	// +optional
	DisruptionBudget *bool `json:"disruption_budget,omitempty"`

	// network_policy says who may call functions and object store: everybody (none),
	// or the namespace and what the cluster lets in besides (namespace).
	// +optional
	// +kubebuilder:validation:Enum=none;namespace
	NetworkPolicy string `json:"network_policy,omitempty"`

	// priority_class is the name of a PriorityClass.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	PriorityClass string `json:"priority_class,omitempty"`

	// image_pull_policy of functions and object store.
	// +optional
	// +kubebuilder:validation:Enum=Always;IfNotPresent;Never
	ImagePullPolicy string `json:"image_pull_policy,omitempty"`
}

// Toleration lets pods onto nodes with a taint.
//
// +kubebuilder:validation:XValidation:rule="!has(self.operator) || self.operator != 'Exists' || !has(self.value) || size(self.value) == 0",message="a toleration with operator Exists has no value"
// +kubebuilder:validation:XValidation:rule="has(self.key) && size(self.key) > 0 || has(self.operator) && self.operator == 'Exists'",message="a toleration without a key tolerates every taint, which operator Exists says"
// +kubebuilder:validation:XValidation:rule="!has(self.toleration_seconds) || has(self.effect) && self.effect == 'NoExecute'",message="toleration_seconds needs the effect NoExecute"
type Toleration struct {
	// key of the taint. With operator Exists, no key means every taint.
	// +optional
	// +kubebuilder:validation:MaxLength=317
	Key string `json:"key,omitempty"`

	// operator is Equal, which is the default, or Exists.
	// +optional
	// +kubebuilder:validation:Enum=Equal;Exists
	Operator string `json:"operator,omitempty"`

	// value of the taint.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Value string `json:"value,omitempty"`

	// effect of the taint; unset means every effect.
	// +optional
	// +kubebuilder:validation:Enum=NoSchedule;PreferNoSchedule;NoExecute
	Effect string `json:"effect,omitempty"`

	// toleration_seconds is for how long a pod stays after the taint NoExecute came;
	// unset means for ever.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=9007199254740991
	TolerationSeconds *int64 `json:"toleration_seconds,omitempty"`
}

// Members are the names of what is set.
func (p *PodSettings) Members() []string {
	if p == nil {
		return nil
	}
	var out []string
	for _, m := range []struct {
		name string
		set  bool
	}{
		{"service_account", p.ServiceAccount != ""},
		{"pull_secrets", len(p.PullSecrets) > 0},
		{"node_selector", len(p.NodeSelector) > 0},
		{"tolerations", len(p.Tolerations) > 0},
		{"security", p.Security != ""},
		{"cpu_request", p.CPURequest != ""},
		{"memory_request", p.MemoryRequest != ""},
		{"spread", p.Spread != nil},
		{"disruption_budget", p.DisruptionBudget != nil},
		{"network_policy", p.NetworkPolicy != ""},
		{"priority_class", p.PriorityClass != ""},
		{"image_pull_policy", p.ImagePullPolicy != ""},
	} {
		if m.set {
			out = append(out, m.name)
		}
	}
	return out
}
