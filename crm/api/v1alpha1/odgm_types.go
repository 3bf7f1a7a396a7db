package v1alpha1

// OdgmConfig configures the object store (ODGM) of a class.
type OdgmConfig struct {
	// collections are the names of the collections to create. Without any the
	// store starts empty.
	// +optional
	// +nullable
	// +listType=atomic
	Collections []string `json:"collections,omitempty"`

	// partition_count of every collection; unset is 1.
	// +optional
	// +nullable
	PartitionCount *int32 `json:"partition_count,omitempty"`

	// replica_count of every partition; unset is 1.
	// +optional
	// +nullable
	ReplicaCount *int32 `json:"replica_count,omitempty"`

	// shard_type is the replication of a shard; unset is "none".
	// +optional
	// +nullable
	ShardType string `json:"shard_type,omitempty"`

	// options are handed to every collection as they are.
	// +optional
	// +nullable
	Options map[string]string `json:"options,omitempty"`

	// log is the log filter of the store.
	// +optional
	// +nullable
	Log string `json:"log,omitempty"`

	// node_id is the id of the store in this cluster.
	// +optional
	// +nullable
	NodeID *NodeID `json:"node_id,omitempty"`

	// env_node_ids are the ids of the stores of all clusters of the deployment.
	// +optional
	EnvNodeIDs map[string][]NodeID `json:"env_node_ids,omitempty"`

	// collection_assignments are the shards of each collection, one entry per
	// partition.
	// +optional
	CollectionAssignments map[string][]ShardAssignment `json:"collection_assignments,omitempty"`

	// invocations are the routes from method names to functions.
	// +optional
	// +nullable
	Invocations *Invocations `json:"invocations,omitempty"`
}

// NodeID is the id of an object store, a shard or a member of a group. The
// bound is the largest 64-bit float below 2^63: the API server keeps bounds as
// floats and larger integers as floats, so it would round what lies beyond.
//
// +kubebuilder:validation:Minimum=0
// +kubebuilder:validation:Maximum=9223372036854774784
type NodeID uint64

// ShardAssignment places the replicas of one partition.
type ShardAssignment struct {
	// primary is the shard id that leads; unset lets the store elect.
	// +optional
	// +nullable
	Primary *NodeID `json:"primary,omitempty"`

	// replica are the node ids that hold a copy.
	// +optional
	// +listType=atomic
	Replica []NodeID `json:"replica,omitempty"`

	// shard_ids are the ids of the copies, in the order of replica.
	// +optional
	// +listType=atomic
	ShardIDs []NodeID `json:"shard_ids,omitempty"`
}

// Invocations are the routes from method names to functions.
type Invocations struct {
	// fn_routes is keyed by method name.
	// +optional
	FnRoutes map[string]FunctionRoute `json:"fn_routes,omitempty"`

	// disabled_fn are method names that the store refuses.
	// +optional
	// +listType=atomic
	DisabledFn []string `json:"disabled_fn,omitempty"`
}

// FunctionRoute is where the object store sends the calls of one method.
type FunctionRoute struct {
	// url is http:// or wasm://; empty takes the URL of function_key.
	// +required
	URL string `json:"url"`

	// stateless routes get no object state; unset is true.
	// +optional
	// +nullable
	Stateless *bool `json:"stateless,omitempty"`

	// standby routes are started with the first call; unset is false.
	// +optional
	// +nullable
	Standby *bool `json:"standby,omitempty"`

	// active_group are the node ids that may call the function.
	// +optional
	// +listType=atomic
	ActiveGroup []NodeID `json:"active_group,omitempty"`

	// function_key is the function behind the route.
	// +optional
	// +nullable
	FunctionKey string `json:"function_key,omitempty"`

	// wasm_module_url is set when the function is a WebAssembly module.
	// +optional
	// +nullable
	WasmModuleURL string `json:"wasm_module_url,omitempty"`
}
