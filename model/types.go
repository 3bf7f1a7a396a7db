package model

import "time"

// OPackage is the unit of registration: classes and the functions that they bind.
type OPackage struct {
	Name         string
	Version      *string
	Metadata     PackageMetadata
	Classes      []OClass
	Functions    []OFunction
	Dependencies []string
	Deployments  []OClassDeployment
}

// PackageMetadata describes a package to people. The server never fills or changes it.
type PackageMetadata struct {
	Author      *string
	Description *string
	Tags        []string
	CreatedAt   *time.Time
	UpdatedAt   *time.Time
}

// OClass is a class of objects: a state and the functions bound to it.
type OClass struct {
	Key              string
	Description      *string
	StateSpec        *StateSpecification
	FunctionBindings []FunctionBinding
	// Pods are for deployments of the class that say nothing of pods themselves.
	Pods *PodSettings
}

// FunctionBinding makes the function FunctionKey callable on the class under Name.
type FunctionBinding struct {
	Name           string
	FunctionKey    string
	AccessModifier AccessModifier
	Stateless      bool
	Parameters     []string
}

// StateSpecification says what the state of an object is made of and how consistent it is kept.
type StateSpecification struct {
	KeySpecs            []KeySpecification
	DefaultProvider     string
	ConsistencyModel    ConsistencyModel
	Persistent          bool
	SerializationFormat string
}

// KeySpecification is one entry of an object's state.
type KeySpecification struct {
	Name    string
	KeyType string
}

// OFunction is deployable code: a container image or a WebAssembly module with its configuration.
type OFunction struct {
	Key             string
	FunctionType    FunctionType
	Description     *string
	ProvisionConfig *ProvisionConfig
	Config          map[string]string
}

// ProvisionConfig says how a function is run.
type ProvisionConfig struct {
	ContainerImage *string
	WasmModuleURL  *string
	Port           *uint16
	MaxConcurrency uint32 // 0 means unlimited
	NeedHTTP2      bool
	CPURequest     *string
	MemoryRequest  *string
	CPULimit       *string
	MemoryLimit    *string
	MinScale       *uint32
	MaxScale       *uint32
}

// NFRRequirements are the non-functional requirements of a deployment. Fractions are within 0..1.
type NFRRequirements struct {
	MinThroughputRPS     *uint32
	Availability         *float64
	CPUUtilizationTarget *float64
}

// QoSRequirement is the wish of one function. Availability is within 0..1.
type QoSRequirement struct {
	Throughput   uint32
	Availability float64
}

// OClassDeployment asks for a class to run in one or more environments (clusters).
type OClassDeployment struct {
	Key             string
	PackageName     string
	ClassKey        string
	TargetEnvs      []string
	AvailableEnvs   []string
	NFRRequirements NFRRequirements
	Placement       *Placement
	Pods            *PodSettings
	Rollout         *RolloutStrategy
	Failover        *FailoverPolicy
	EnvTemplates    map[string]string
	Functions       []FunctionDeploymentSpec
	Condition       DeploymentCondition
	ODGM            *ODGMDataSpec
	Telemetry       *TelemetryConfig
	Status          *DeploymentStatusSummary
	CreatedAt       *time.Time
	UpdatedAt       *time.Time
}

// FunctionDeploymentSpec is one function of a deployment, copied from the package unless the user gave it.
type FunctionDeploymentSpec struct {
	FunctionKey       string
	Description       *string
	AvailableLocation *string
	QoSRequirement    *QoSRequirement
	ProvisionConfig   *ProvisionConfig
	Config            map[string]string
}

// ODGMDataSpec configures the object data grid of a deployment.
type ODGMDataSpec struct {
	Collections    []string
	PartitionCount *uint32
	ReplicaCount   *uint32
	ShardType      *string
	EnvNodeIDs     map[string][]uint64
	Log            *string
}

// TelemetryConfig configures OpenTelemetry in the workloads of a deployment.
type TelemetryConfig struct {
	Enabled            *bool
	Traces             *bool
	Metrics            *bool
	Logs               *bool
	SamplingRate       *float64
	ServiceName        *string
	ResourceAttributes map[string]string
}

// DeploymentStatusSummary is what the planner decided for a deployment.
type DeploymentStatusSummary struct {
	ReplicationFactor uint32
	SelectedEnvs      []string
	// AchievedQuorumAvailability is that of a majority of independent environments, whatever
	// the kind of the deployment.
	AchievedQuorumAvailability *float64
	LastError                  *string
	// Availability is what the plan achieves by what the deployment needs. It is only
	// told, never stored.
	Availability *float64
	// Degraded has the reason of each environment that does not run all of the present
	// content. It is only told, never stored.
	Degraded map[string]string
}
