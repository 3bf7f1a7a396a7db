package model

// PodSettings says what the pods of a class have, functions and object store, where it
// differs from what their cluster gives all pods. It is an extension of the wire format:
// a document without it has the bytes that it always had.
type PodSettings struct {
	// ServiceAccount that they run as in each cluster.
	ServiceAccount string
	// PullSecrets are names of secrets with which images are pulled.
	PullSecrets []string
	// NodeSelector are labels of the nodes that they may run on.
	NodeSelector map[string]string
	Tolerations  []PodToleration
	Security     PodSecurity
	// CPURequest and MemoryRequest are for functions that name neither a request nor a
	// limit; "0" is none.
	CPURequest       string
	MemoryRequest    string
	Spread           *bool
	DisruptionBudget *bool
	NetworkPolicy    NetworkPolicy
	PriorityClass    string
	ImagePullPolicy  ImagePullPolicy
}

// PodToleration lets pods onto nodes with a taint; that of a placement lets a deployment
// into clusters.
type PodToleration struct {
	Key      string
	Operator TolerationOperator
	Value    string
	Effect   TaintEffect
	// TolerationSeconds is for how long a pod stays after the taint NoExecute came; nil
	// means for ever.
	TolerationSeconds *uint64
}

// PodSecurity is how much containers are confined.
type PodSecurity string

// The levels.
const (
	SecurityNone       PodSecurity = "none"
	SecurityBaseline   PodSecurity = "baseline"
	SecurityRestricted PodSecurity = "restricted"
)

// NetworkPolicy says who may call functions and object stores.
type NetworkPolicy string

// The policies.
const (
	NetworkNone      NetworkPolicy = "none"
	NetworkNamespace NetworkPolicy = "namespace"
)

// ImagePullPolicy says when nodes pull images.
type ImagePullPolicy string

// The policies.
const (
	PullAlways       ImagePullPolicy = "Always"
	PullIfNotPresent ImagePullPolicy = "IfNotPresent"
	PullNever        ImagePullPolicy = "Never"
)

// TaintEffect is what a taint of a node does.
type TaintEffect string

// The effects.
const (
	EffectNoSchedule       TaintEffect = "NoSchedule"
	EffectPreferNoSchedule TaintEffect = "PreferNoSchedule"
	EffectNoExecute        TaintEffect = "NoExecute"
)

var (
	podSecurity   = enum(SecurityNone, SecurityBaseline, SecurityRestricted)
	networkPolicy = enum(NetworkNone, NetworkNamespace)
	pullPolicy    = enum(PullAlways, PullIfNotPresent, PullNever)
	taintEffect   = enum(EffectNoSchedule, EffectPreferNoSchedule, EffectNoExecute)
)

// The field tables. The order of the lines is the order of the JSON form.

var podsTable = object(
	def("service_account", text, func(p *PodSettings) *string { return &p.ServiceAccount }).omit(),
	def("pull_secrets", texts, func(p *PodSettings) *[]string { return &p.PullSecrets }).omit(),
	def("node_selector", textMap, func(p *PodSettings) *map[string]string { return &p.NodeSelector }).omit(),
	def("tolerations", list(podTolerationTable), func(p *PodSettings) *[]PodToleration { return &p.Tolerations }).omit(),
	def("security", podSecurity, func(p *PodSettings) *PodSecurity { return &p.Security }).omit(),
	def("cpu_request", text, func(p *PodSettings) *string { return &p.CPURequest }).omit(),
	def("memory_request", text, func(p *PodSettings) *string { return &p.MemoryRequest }).omit(),
	nul("spread", boolean, func(p *PodSettings) **bool { return &p.Spread }).omit(),
	nul("disruption_budget", boolean, func(p *PodSettings) **bool { return &p.DisruptionBudget }).omit(),
	def("network_policy", networkPolicy, func(p *PodSettings) *NetworkPolicy { return &p.NetworkPolicy }).omit(),
	def("priority_class", text, func(p *PodSettings) *string { return &p.PriorityClass }).omit(),
	def("image_pull_policy", pullPolicy, func(p *PodSettings) *ImagePullPolicy { return &p.ImagePullPolicy }).omit(),
)

var podTolerationTable = object(
	def("key", text, func(t *PodToleration) *string { return &t.Key }).omit(),
	def("operator", tolerationOperator, func(t *PodToleration) *TolerationOperator { return &t.Operator }),
	def("value", text, func(t *PodToleration) *string { return &t.Value }).omit(),
	def("effect", taintEffect, func(t *PodToleration) *TaintEffect { return &t.Effect }).omit(),
	nul("toleration_seconds", number64, func(t *PodToleration) **uint64 { return &t.TolerationSeconds }).omit(),
)

// MarshalJSON implements json.Marshaler.
func (p PodSettings) MarshalJSON() ([]byte, error) { return encode(podsTable, &p) }

// UnmarshalJSON implements json.Unmarshaler.
func (p *PodSettings) UnmarshalJSON(data []byte) error { return decodeInto(podsTable, string(data), p) }

// Clone copies deeply.
func (p PodSettings) Clone() *PodSettings { return cloneOf(podsTable, &p) }

// MarshalJSON implements json.Marshaler.
func (t PodToleration) MarshalJSON() ([]byte, error) { return encode(podTolerationTable, &t) }

// UnmarshalJSON implements json.Unmarshaler.
func (t *PodToleration) UnmarshalJSON(data []byte) error {
	return decodeInto(podTolerationTable, string(data), t)
}

// Clone copies deeply.
func (t PodToleration) Clone() *PodToleration { return cloneOf(podTolerationTable, &t) }
