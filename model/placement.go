package model

// Placement is what a deployment wishes of the environments that it runs in. It
// narrows and weighs the planner's choice; the availability that is asked for is in
// NFRRequirements. It is an extension of the wire format: a deployment without one
// has the bytes that it always had.
type Placement struct {
	// Allow names the only environments that may be used; all when empty. Deny names
	// those that must not be.
	Allow []string
	Deny  []string
	// MatchLabels are labels that an environment must have.
	MatchLabels map[string]string
	// Selector is a label selector as Kubernetes writes it: "tier in (gold,silver),!gpu".
	Selector string
	// Expression is in CEL, over one environment, and must be true of it.
	Expression   string
	Tolerations  []Toleration
	Requires     *PlacementRequirements
	Resources    *ResourceNeed
	Spread       []SpreadRule
	AntiAffinity *AntiAffinity
	// Divide says how many pods functions have in all environments together.
	Divide []FunctionPods
	// MaxCost is the most that one environment may cost for 30 days, in the unit of
	// the fleet; nil means no limit.
	MaxCost *float64
	// MaxLatencyMS is the longest round trip between any two environments, in
	// milliseconds; nil means no limit.
	MaxLatencyMS *float64
	// Prefer is empty for the cheapest set where all prices are known, and the
	// smallest one else.
	Prefer     PlacementPreference
	Stability  PlacementStability
	Disruption *DisruptionLimit
	// Windows are when environments may be taken from the deployment; always when
	// there are none. Environments may be added at any time.
	Windows []MaintenanceWindow
}

// Toleration lets a deployment into environments with a taint. An empty Key, which
// goes with TolerationExists only, means every taint.
type Toleration struct {
	Key      string
	Value    string
	Operator TolerationOperator
}

// PlacementRequirements are what an environment must be able to do.
type PlacementRequirements struct {
	// Capabilities as its manager reports them: odgm, knative, hpa.
	Capabilities []string
	// Architecture of its nodes, such as arm64: its label kubernetes.io/arch, or without
	// one what its manager reports of the nodes.
	Architecture string
	// Template that its manager must know.
	Template TemplateName
}

// ResourceNeed is the room that the share of one environment takes; 0 means none.
type ResourceNeed struct {
	CPUMillis   uint64
	MemoryBytes uint64
}

// SpreadRule says how the environments are spread over domains. At least one of the
// numbers is given.
type SpreadRule struct {
	// Topology is region, zone, provider, or the key of a label of the environments.
	Topology     string
	MaxPerDomain *uint32
	MinDomains   *uint32
}

// FunctionPods are the pods of one function that all environments share between them,
// by how much room they have. They raise the function's min_scale in an environment, and
// never lower it.
type FunctionPods struct {
	// Function is the key of a function of the deployment that has pods.
	Function string
	// Pods in all environments together.
	Pods uint32
	// Survive is how many environments may be lost with as many pods left.
	Survive uint32
}

// AntiAffinity keeps a deployment out of the domains that others run in.
type AntiAffinity struct {
	// Deployments are keys. One that does not exist keeps nothing out.
	Deployments []string
	// Topology is cluster, which is the default, or one of those of SpreadRule.
	Topology string
}

// DisruptionLimit bounds what one new plan may undo.
type DisruptionLimit struct {
	// MaxMoves is the most environments that it takes away; 0 means no limit.
	MaxMoves uint32
}

// MaintenanceWindow opens at a time of day, on some days of the week.
type MaintenanceWindow struct {
	// Days on which it opens, in its zone; all when there are none.
	Days []Weekday
	// Start is HH:MM.
	Start string
	// Duration is of Go's form, such as 4h or 1h30m, at most a week.
	Duration string
	// Zone is an IANA name such as Europe/Berlin, or UTC.
	Zone string
}

// The topologies that mean a field of an environment. Any other is the key of a label.
const (
	TopologyCluster  = "cluster" // of anti-affinity only
	TopologyRegion   = "region"
	TopologyZone     = "zone"
	TopologyProvider = "provider"
)

// TolerationOperator says how a toleration is held against a taint.
type TolerationOperator string

// The operators.
const (
	TolerationEqual  TolerationOperator = "Equal" // the default
	TolerationExists TolerationOperator = "Exists"
)

// PlacementPreference says which of the sets that meet the target is taken.
type PlacementPreference string

// The preferences.
const (
	PreferFewest   PlacementPreference = "fewest"
	PreferCheapest PlacementPreference = "cheapest"
)

// PlacementStability says whether a deployment moves when there is something better.
type PlacementStability string

// The stabilities.
const (
	StabilityKeep      PlacementStability = "keep" // the default
	StabilityRebalance PlacementStability = "rebalance"
)

// TemplateName is the canonical name of a template of the cluster's manager.
type TemplateName string

// The templates of the wire contract.
const (
	TemplateDev           TemplateName = "dev"
	TemplateEdge          TemplateName = "edge"
	TemplateK8sDeployment TemplateName = "k8s_deployment"
	TemplateKnative       TemplateName = "knative"
)

// Weekday is a day on which a maintenance window opens.
type Weekday string

// The days, as they are written.
const (
	Monday    Weekday = "mon"
	Tuesday   Weekday = "tue"
	Wednesday Weekday = "wed"
	Thursday  Weekday = "thu"
	Friday    Weekday = "fri"
	Saturday  Weekday = "sat"
	Sunday    Weekday = "sun"
)
