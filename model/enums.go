package model

// FunctionType is the kind of an OFunction.
type FunctionType string

// The function types of the wire contract.
const (
	FunctionBuiltin FunctionType = "BUILTIN"
	FunctionCustom  FunctionType = "CUSTOM" // the default
	FunctionMacro   FunctionType = "MACRO"
	FunctionLogical FunctionType = "LOGICAL"
	FunctionWASM    FunctionType = "WASM"
)

// DeploymentCondition is the one-word state of a deployment in REST answers.
type DeploymentCondition string

// The deployment conditions of the wire contract.
const (
	ConditionPending   DeploymentCondition = "PENDING" // the default
	ConditionDeploying DeploymentCondition = "DEPLOYING"
	ConditionRunning   DeploymentCondition = "RUNNING"
	ConditionDown      DeploymentCondition = "DOWN"
	ConditionDeleted   DeploymentCondition = "DELETED"
)

// AccessModifier says who may call a bound function.
type AccessModifier string

// The access modifiers of the wire contract.
const (
	AccessPublic   AccessModifier = "PUBLIC"
	AccessInternal AccessModifier = "INTERNAL"
	AccessPrivate  AccessModifier = "PRIVATE"
)

// ConsistencyModel is the consistency of an object's state.
type ConsistencyModel string

// The consistency models of the wire contract.
const (
	ConsistencyNone             ConsistencyModel = "NONE" // the default
	ConsistencyReadYourWrite    ConsistencyModel = "READ_YOUR_WRITE"
	ConsistencyBoundedStaleness ConsistencyModel = "BOUNDED_STALENESS"
	ConsistencyStrong           ConsistencyModel = "STRONG"
)
