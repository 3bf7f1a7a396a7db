package client

import "time"

// Response is the answer to a write of a package or a deployment. For a
// deployment ID is the id of its first unit, not its key.
type Response struct {
	ID      string  `json:"id"`
	Status  string  `json:"status"`
	Message *string `json:"message"`
}

// DeleteResponse is the answer to the deletion of a deployment.
type DeleteResponse struct {
	ID          string   `json:"id"`
	Message     string   `json:"message"`
	DeletedEnvs []string `json:"deleted_envs"`
}

// The phases of a unit.
const (
	// PhasePending: not sent to the environment yet.
	PhasePending = "Pending"
	// PhaseWaiting: it cannot be sent now; Unit.Waiting says why.
	PhaseWaiting = "Waiting"
	// PhaseRefused: the environment refused the content; only a change helps.
	PhaseRefused = "Refused"
	// PhaseProgressing: stored in the environment, not available yet.
	PhaseProgressing = "Progressing"
	// PhaseAvailable: serving.
	PhaseAvailable = "Available"
	// PhaseDegraded: something of the present content does not work, although older content
	// may serve; Unit.Fault says why.
	PhaseDegraded = "Degraded"
	// PhaseUnknown: it is stored, but its environment cannot be reached; Unit.Unknown says
	// what it was.
	PhaseUnknown = "Unknown"
	// PhaseDeleting: the environment is to remove it.
	PhaseDeleting = "Deleting"
)

// Unit is the share of a deployment that one environment has.
type Unit struct {
	ID    string `json:"id"`
	Env   string `json:"env"`
	Phase string `json:"phase"`
	// Tombstone is true when the environment is to remove the unit.
	Tombstone bool `json:"tombstone"`
	// Acknowledged is true once the environment has stored the present wish.
	Acknowledged bool   `json:"acknowledged"`
	Generation   uint64 `json:"generation"`
	Fence        uint64 `json:"fence"`
	ContentHash  string `json:"content_hash"`
	// Waiting says why the wish is not acknowledged; nil when it is.
	Waiting *Waiting `json:"waiting"`
	// Unknown is what was last known while the environment cannot be reached; else nil.
	Unknown *Unknown `json:"unknown,omitempty"`
	// Fault says why it is Degraded; nil when it is not, and from servers that tell none.
	Fault *Fault `json:"fault,omitempty"`
	// Runtime is what the environment last reported; nil before the first report.
	Runtime *ClassRuntime `json:"runtime"`
}

// Unknown is what a unit was when its environment could last be reached.
type Unknown struct {
	LastPhase string     `json:"last_phase"`
	Since     *time.Time `json:"since"`
	Message   string     `json:"message"`
}

// Fault is why what an environment has stored does not work, or not all of it.
type Fault struct {
	// Reason is machine-readable, for instance ImagePullFailed; empty when there is none.
	Reason  string `json:"reason"`
	Message string `json:"message"`
	// Final is true when waiting is not going to help.
	Final bool `json:"final"`
}

// Waiting says why something has not happened yet.
type Waiting struct {
	// Code is machine-readable, for instance CLUSTER_UNREACHABLE.
	Code    string     `json:"code"`
	Message string     `json:"message"`
	Since   *time.Time `json:"since"`
	// Permanent is true when waiting cannot help: the content was refused.
	Permanent bool `json:"permanent"`
}

// ClassRuntime is a class at work in one environment.
type ClassRuntime struct {
	ID                string         `json:"id"`
	DeploymentUnitID  string         `json:"deployment_unit_id"`
	PackageName       string         `json:"package_name"`
	ClassKey          string         `json:"class_key"`
	TargetEnvironment string         `json:"target_environment"`
	ClusterName       *string        `json:"cluster_name"`
	Status            *RuntimeStatus `json:"status"`
	NFRCompliance     *NFRCompliance `json:"nfr_compliance"`
	ResourceRefs      []ResourceRef  `json:"resource_refs"`
	CreatedAt         string         `json:"created_at"`
	UpdatedAt         string         `json:"updated_at"`
	PartitionCount    uint32         `json:"partition_count"`
	// Conditions are the Kubernetes conditions of the object; none with older servers.
	Conditions []RuntimeCondition `json:"conditions,omitempty"`
}

// RuntimeCondition is a Kubernetes condition of a ClassRuntime.
type RuntimeCondition struct {
	Type               string `json:"type"`
	Status             string `json:"status"`
	Reason             string `json:"reason"`
	Message            string `json:"message"`
	LastTransitionTime string `json:"last_transition_time"`
}

// RuntimeStatus is the state of a ClassRuntime.
type RuntimeStatus struct {
	// Condition is Pending, Deploying, Running, Down, Deleted or Unknown.
	Condition   string           `json:"condition"`
	Phase       string           `json:"phase"`
	Message     *string          `json:"message"`
	LastUpdated string           `json:"last_updated"`
	Functions   []FunctionStatus `json:"functions,omitempty"`
}

// FunctionStatus is the state of one function of a ClassRuntime.
type FunctionStatus struct {
	FunctionKey        string  `json:"function_key"`
	Service            string  `json:"service"`
	Port               uint16  `json:"port"`
	PredictedURL       string  `json:"predicted_url"`
	ObservedURL        *string `json:"observed_url"`
	Template           string  `json:"template"`
	Ready              *bool   `json:"ready"`
	Reason             *string `json:"reason"`
	Message            *string `json:"message"`
	LastTransitionTime *string `json:"last_transition_time"`
}

// NFRCompliance says which non-functional requirements are met.
type NFRCompliance struct {
	OverallStatus      string  `json:"overall_status"`
	ThroughputStatus   *string `json:"throughput_status"`
	LatencyStatus      *string `json:"latency_status"`
	AvailabilityStatus *string `json:"availability_status"`
	LastChecked        string  `json:"last_checked"`
}

// ResourceRef names a Kubernetes object that belongs to a ClassRuntime.
type ResourceRef struct {
	Kind      string  `json:"kind"`
	Name      string  `json:"name"`
	Namespace *string `json:"namespace"`
	UID       *string `json:"uid"`
}

// Env is an environment: a Kubernetes cluster with its runtime manager.
// What follows Health is empty with older servers.
type Env struct {
	Name   string    `json:"name"`
	Health EnvHealth `json:"health"`
	// Source is how the environment is reached: static, gossip or agent.
	Source            string            `json:"source,omitempty"`
	Address           string            `json:"address,omitempty"`
	Namespace         string            `json:"namespace,omitempty"`
	Region            string            `json:"region,omitempty"`
	Zone              string            `json:"zone,omitempty"`
	Labels            map[string]string `json:"labels,omitempty"`
	Capabilities      []string          `json:"capabilities,omitempty"`
	KubernetesVersion string            `json:"kubernetes_version,omitempty"`
	// KnativeVersion is empty when it has no Knative.
	KnativeVersion string `json:"knative_version,omitempty"`
	// NodeZones are the zones of its ready nodes.
	NodeZones []string `json:"node_zones,omitempty"`
	// Resources of its nodes together; nil when it does not report them.
	Resources *EnvResources `json:"resources,omitempty"`
	// Agents are the connections that its manager has made to nodes, the one in use first;
	// nil unless Source is agent.
	Agents []AgentConnection `json:"agents,omitempty"`
	// Policy is what operators said; nil when they said nothing.
	Policy *ClusterPolicy `json:"policy,omitempty"`
	// Availability is what is known beside the report in Health; nil when that is all.
	Availability *Availability `json:"availability,omitempty"`
	// Drain is how far its draining is; nil when it is not drained.
	Drain *Drain `json:"drain,omitempty"`
	// Strays are runtimes that it has and that nothing wants.
	Strays []Stray `json:"strays,omitempty"`
}

// AgentConnection is one that an environment's manager has made to a node.
type AgentConnection struct {
	Node          string     `json:"node"`
	ServerID      string     `json:"server_id"`
	Instance      string     `json:"instance"`
	Version       string     `json:"version,omitempty"`
	RemoteAddress string     `json:"remote_address"`
	Since         *time.Time `json:"since"`
}

// EnvResources sums up the nodes of an environment that take new pods; nil where it is
// not known.
type EnvResources struct {
	AllocatableCPUMillis   *uint64 `json:"allocatable_cpu_millis,omitempty"`
	AllocatableMemoryBytes *uint64 `json:"allocatable_memory_bytes,omitempty"`
	FreeCPUMillis          *uint64 `json:"free_cpu_millis,omitempty"`
	FreeMemoryBytes        *uint64 `json:"free_memory_bytes,omitempty"`
}

// Replanned is what a replan has changed.
type Replanned struct {
	// Change is none or update.
	Change       string      `json:"change"`
	Environments []EnvChange `json:"environments"`
	Summary      string      `json:"summary"`
}

// EnvChange is what happens in one environment: none, create, update or remove.
type EnvChange struct {
	Env    string `json:"env"`
	Change string `json:"change"`
}

// Availability is what is known of how often an environment is up.
type Availability struct {
	// Used is what plans calculate with, and Source where it comes from: declared,
	// reported or measured. Nil when they assume something.
	Used     *float64              `json:"used,omitempty"`
	Source   string                `json:"source,omitempty"`
	Declared *float64              `json:"declared,omitempty"`
	Reported *float64              `json:"reported,omitempty"`
	Measured *MeasuredAvailability `json:"measured,omitempty"`
}

// MeasuredAvailability is an estimate from the outages of an environment.
type MeasuredAvailability struct {
	// Lower is what the availability exceeds with a confidence of 95 %.
	Lower          float64 `json:"lower"`
	Mean           float64 `json:"mean"`
	Outages        float64 `json:"outages"`
	Days           float64 `json:"days"`
	MTTRSeconds    float64 `json:"mttr_seconds"`
	PlannedOutages int     `json:"planned_outages"`
	Since          string  `json:"since"`
}

// EnvHealth is the last known health of an environment.
type EnvHealth struct {
	// ClusterName is the name that the environment gives itself.
	ClusterName string `json:"cluster_name"`
	// Status is Healthy, Degraded, Unhealthy or Unknown.
	Status     string     `json:"status"`
	CRMVersion *string    `json:"crm_version"`
	LastSeen   *time.Time `json:"last_seen"`
	NodeCount  *uint32    `json:"node_count"`
	ReadyNodes *uint32    `json:"ready_nodes"`
	// Availability is within 0..1.
	Availability *float64 `json:"availability"`
	// Message and Since say why and since when Status is not Healthy.
	Message string     `json:"message,omitempty"`
	Since   *time.Time `json:"since,omitempty"`
	// State is Unknown, Healthy, Degraded, Suspect, Unreachable or FailoverEligible; empty from
	// servers that do not tell.
	State string `json:"state,omitempty"`
	// ControlReachable says that the leader is in contact with its manager, APIServerReady what
	// that last said of its API server; nil when that is not known.
	ControlReachable *bool `json:"control_reachable,omitempty"`
	APIServerReady   *bool `json:"api_server_ready,omitempty"`
	// DisconnectedSince is when the silence of an environment that is away began, and Observers
	// are other nodes of the control plane that tried to reach it.
	DisconnectedSince *time.Time    `json:"disconnected_since,omitempty"`
	Observers         []EnvObserver `json:"observers,omitempty"`
}

// EnvObserver is what a node found that tried to reach an environment for the leader.
type EnvObserver struct {
	Node      string    `json:"node"`
	ServerID  string    `json:"server_id"`
	Time      time.Time `json:"time"`
	Reachable bool      `json:"reachable"`
	// Ready says that its API server answers, too, and Message why not.
	Ready   bool   `json:"ready"`
	Message string `json:"message,omitempty"`
}

// EnvMappings lists the unit of each environment of a deployment.
type EnvMappings struct {
	DeploymentKey string            `json:"deployment_key"`
	EnvIDs        map[string]string `json:"env_ids"`
}

// Deletion is a deleted deployment that not every environment has confirmed.
type Deletion struct {
	DeploymentUID string       `json:"deployment_uid"`
	Key           string       `json:"key"`
	PackageName   string       `json:"package_name"`
	ClassKey      string       `json:"class_key"`
	Envs          []string     `json:"envs"`
	ConfirmedEnvs []string     `json:"confirmed_envs"`
	PendingEnvs   []PendingEnv `json:"pending_envs"`
	// OrphanedEnvs are no longer waited for.
	OrphanedEnvs []string   `json:"orphaned_envs,omitempty"`
	DeletedAt    *time.Time `json:"deleted_at"`
	// Progress is all that in one line; empty with older servers.
	Progress string `json:"progress,omitempty"`
}

// PendingEnv is an environment that has not confirmed a deletion.
type PendingEnv struct {
	Env    string     `json:"env"`
	Reason string     `json:"reason"`
	Since  *time.Time `json:"since"`
	// Code is empty while nothing is in the way.
	Code string `json:"code,omitempty"`
	// UnreachableSince is nil while the environment can be reached.
	UnreachableSince *time.Time `json:"unreachable_since,omitempty"`
}

// Abandoned is the answer to a deletion that is not waited for everywhere.
type Abandoned struct {
	DeleteResponse
	DeploymentUID string `json:"deployment_uid"`
	// Orphaned is what is left behind; PendingEnvs are still waited for.
	Orphaned    []Orphaned `json:"orphaned"`
	PendingEnvs []string   `json:"pending_envs"`
}

// Orphaned is a unit that an environment has perhaps still.
type Orphaned struct {
	Env    string `json:"env"`
	UnitID string `json:"unit_id"`
}

// Stray is a runtime that an environment has and that nothing wants.
type Stray struct {
	UnitID        string     `json:"unit_id"`
	DeploymentUID string     `json:"deployment_uid"`
	DeploymentKey string     `json:"deployment_key"`
	FirstSeen     *time.Time `json:"first_seen"`
	// Orphaned says that somebody gave up waiting for its removal.
	Orphaned bool `json:"orphaned"`
	// Epoch of the control plane in which it was sent.
	Epoch uint64 `json:"epoch"`
}

// Member is a node of the package manager.
type Member struct {
	ServerID    string `json:"server_id"`
	RaftAddress string `json:"raft_address"`
	GRPCAddress string `json:"grpc_address"`
	HTTPAddress string `json:"http_address"`
	Version     string `json:"version"`
	Leader      bool   `json:"leader"`
	Voter       bool   `json:"voter"`
	// The rest is empty with older servers. Role is leader, voter or non-voter.
	Role         string `json:"role"`
	Name         string `json:"name"`
	Zone         string `json:"zone"`
	FeatureLevel uint32 `json:"feature_level"`
	// Health is nil where it is not known: the leader knows it.
	Health *MemberHealth `json:"health"`
}

// Health is the state of the node that answered.
type Health struct {
	Status    string `json:"status"`
	Service   string `json:"service"`
	Version   string `json:"version"`
	Timestamp string `json:"timestamp"`
	Storage   struct {
		Status  string `json:"status"`
		Message string `json:"message,omitempty"`
	} `json:"storage"`
}
