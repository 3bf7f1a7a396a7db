package model

import "time"

// The field tables. The order of the lines is the order of the JSON form.

var (
	text      codec[string]  = textCodec{}
	texts                    = list(text)
	textMap                  = dict(text)
	boolean   codec[bool]    = boolCodec{}
	fraction  codec[float64] = floatCodec{}
	number16  codec[uint16]  = uintCodec[uint16]{}
	number32  codec[uint32]  = uintCodec[uint32]{}
	number64  codec[uint64]  = uintCodec[uint64]{}
	timestamp                = timeCodec{}

	functionType   = enum(FunctionCustom, FunctionBuiltin, FunctionMacro, FunctionLogical, FunctionWASM).firstIsDefault()
	condition      = enum(ConditionPending, ConditionDeploying, ConditionRunning, ConditionDown, ConditionDeleted).firstIsDefault()
	accessModifier = enum(AccessPublic, AccessInternal, AccessPrivate)
	consistency    = enum(ConsistencyNone, ConsistencyReadYourWrite, ConsistencyBoundedStaleness, ConsistencyStrong).firstIsDefault()
)

var packageTable = object(
	req("name", text, func(p *OPackage) *string { return &p.Name }),
	nul("version", text, func(p *OPackage) **string { return &p.Version }),
	def("metadata", metadataTable, func(p *OPackage) *PackageMetadata { return &p.Metadata }),
	def("classes", list(classTable), func(p *OPackage) *[]OClass { return &p.Classes }),
	def("functions", list(functionTable), func(p *OPackage) *[]OFunction { return &p.Functions }),
	def("dependencies", texts, func(p *OPackage) *[]string { return &p.Dependencies }),
	def("deployments", list(deploymentTable), func(p *OPackage) *[]OClassDeployment { return &p.Deployments }),
)

var metadataTable = object(
	nul("author", text, func(m *PackageMetadata) **string { return &m.Author }),
	nul("description", text, func(m *PackageMetadata) **string { return &m.Description }),
	def("tags", texts, func(m *PackageMetadata) *[]string { return &m.Tags }),
	nul("created_at", timestamp, func(m *PackageMetadata) **time.Time { return &m.CreatedAt }).omit(),
	nul("updated_at", timestamp, func(m *PackageMetadata) **time.Time { return &m.UpdatedAt }).omit(),
)

var classTable = object(
	req("key", text, func(c *OClass) *string { return &c.Key }),
	nul("description", text, func(c *OClass) **string { return &c.Description }),
	nul("state_spec", stateTable, func(c *OClass) **StateSpecification { return &c.StateSpec }),
	def("function_bindings", list(bindingTable), func(c *OClass) *[]FunctionBinding { return &c.FunctionBindings }),
	nul("pods", podsTable, func(c *OClass) **PodSettings { return &c.Pods }).omit(),
)

var bindingTable = object(
	req("name", text, func(b *FunctionBinding) *string { return &b.Name }),
	req("function_key", text, func(b *FunctionBinding) *string { return &b.FunctionKey }),
	req("access_modifier", accessModifier, func(b *FunctionBinding) *AccessModifier { return &b.AccessModifier }),
	def("stateless", boolean, func(b *FunctionBinding) *bool { return &b.Stateless }),
	def("parameters", texts, func(b *FunctionBinding) *[]string { return &b.Parameters }),
)

var stateTable = object(
	def("key_specs", list(keySpecTable), func(s *StateSpecification) *[]KeySpecification { return &s.KeySpecs }).omit(),
	def("default_provider", text, func(s *StateSpecification) *string { return &s.DefaultProvider }).omit(),
	def("consistency_model", consistency, func(s *StateSpecification) *ConsistencyModel { return &s.ConsistencyModel }),
	def("persistent", boolean, func(s *StateSpecification) *bool { return &s.Persistent }),
	def("serialization_format", text, func(s *StateSpecification) *string { return &s.SerializationFormat }),
)

var keySpecTable = object(
	req("name", text, func(k *KeySpecification) *string { return &k.Name }),
	req("key_type", text, func(k *KeySpecification) *string { return &k.KeyType }),
)

var functionTable = object(
	req("key", text, func(f *OFunction) *string { return &f.Key }),
	def("function_type", functionType, func(f *OFunction) *FunctionType { return &f.FunctionType }),
	nul("description", text, func(f *OFunction) **string { return &f.Description }),
	nul("provision_config", provisionTable, func(f *OFunction) **ProvisionConfig { return &f.ProvisionConfig }),
	def("config", textMap, func(f *OFunction) *map[string]string { return &f.Config }),
)

var provisionTable = object(
	nul("container_image", text, func(p *ProvisionConfig) **string { return &p.ContainerImage }).omit(),
	nul("wasm_module_url", text, func(p *ProvisionConfig) **string { return &p.WasmModuleURL }).omit(),
	nul("port", number16, func(p *ProvisionConfig) **uint16 { return &p.Port }),
	def("max_concurrency", number32, func(p *ProvisionConfig) *uint32 { return &p.MaxConcurrency }),
	def("need_http2", boolean, func(p *ProvisionConfig) *bool { return &p.NeedHTTP2 }),
	nul("cpu_request", text, func(p *ProvisionConfig) **string { return &p.CPURequest }),
	nul("memory_request", text, func(p *ProvisionConfig) **string { return &p.MemoryRequest }),
	nul("cpu_limit", text, func(p *ProvisionConfig) **string { return &p.CPULimit }),
	nul("memory_limit", text, func(p *ProvisionConfig) **string { return &p.MemoryLimit }),
	nul("min_scale", number32, func(p *ProvisionConfig) **uint32 { return &p.MinScale }),
	nul("max_scale", number32, func(p *ProvisionConfig) **uint32 { return &p.MaxScale }),
)

var nfrTable = object(
	nul("min_throughput_rps", number32, func(r *NFRRequirements) **uint32 { return &r.MinThroughputRPS }),
	nul("availability", fraction, func(r *NFRRequirements) **float64 { return &r.Availability }),
	nul("cpu_utilization_target", fraction, func(r *NFRRequirements) **float64 { return &r.CPUUtilizationTarget }),
)

var qosTable = object(
	def("throughput", number32, func(q *QoSRequirement) *uint32 { return &q.Throughput }),
	req("availability", fraction, func(q *QoSRequirement) *float64 { return &q.Availability }),
)

var deploymentTable = object(
	req("key", text, func(d *OClassDeployment) *string { return &d.Key }),
	req("package_name", text, func(d *OClassDeployment) *string { return &d.PackageName }),
	req("class_key", text, func(d *OClassDeployment) *string { return &d.ClassKey }),
	def("target_envs", texts, func(d *OClassDeployment) *[]string { return &d.TargetEnvs }).omit(),
	def("available_envs", texts, func(d *OClassDeployment) *[]string { return &d.AvailableEnvs }).omit(),
	def("nfr_requirements", nfrTable, func(d *OClassDeployment) *NFRRequirements { return &d.NFRRequirements }),
	nul("placement", placementTable, func(d *OClassDeployment) **Placement { return &d.Placement }).omit(),
	nul("pods", podsTable, func(d *OClassDeployment) **PodSettings { return &d.Pods }).omit(),
	nul("rollout", rolloutTable, func(d *OClassDeployment) **RolloutStrategy { return &d.Rollout }).omit(),
	nul("failover", failoverTable, func(d *OClassDeployment) **FailoverPolicy { return &d.Failover }).omit(),
	def("env_templates", textMap, func(d *OClassDeployment) *map[string]string { return &d.EnvTemplates }).omit(),
	def("functions", list(functionSpecTable), func(d *OClassDeployment) *[]FunctionDeploymentSpec { return &d.Functions }),
	def("condition", condition, func(d *OClassDeployment) *DeploymentCondition { return &d.Condition }),
	nul("odgm", odgmTable, func(d *OClassDeployment) **ODGMDataSpec { return &d.ODGM }).omit(),
	nul("telemetry", telemetryTable, func(d *OClassDeployment) **TelemetryConfig { return &d.Telemetry }).omit(),
	nul("status", statusTable, func(d *OClassDeployment) **DeploymentStatusSummary { return &d.Status }).omit(),
	nul("created_at", timestamp, func(d *OClassDeployment) **time.Time { return &d.CreatedAt }).omit(),
	nul("updated_at", timestamp, func(d *OClassDeployment) **time.Time { return &d.UpdatedAt }).omit(),
)

var functionSpecTable = object(
	req("function_key", text, func(s *FunctionDeploymentSpec) *string { return &s.FunctionKey }),
	nul("description", text, func(s *FunctionDeploymentSpec) **string { return &s.Description }).omit(),
	nul("available_location", text, func(s *FunctionDeploymentSpec) **string { return &s.AvailableLocation }).omit(),
	nul("qos_requirement", qosTable, func(s *FunctionDeploymentSpec) **QoSRequirement { return &s.QoSRequirement }).omit(),
	nul("provision_config", provisionTable, func(s *FunctionDeploymentSpec) **ProvisionConfig { return &s.ProvisionConfig }).omit(),
	def("config", textMap, func(s *FunctionDeploymentSpec) *map[string]string { return &s.Config }).omit(),
)

var odgmTable = object(
	def("collections", texts, func(o *ODGMDataSpec) *[]string { return &o.Collections }).omit(),
	nul("partition_count", number32, func(o *ODGMDataSpec) **uint32 { return &o.PartitionCount }).omit(),
	nul("replica_count", number32, func(o *ODGMDataSpec) **uint32 { return &o.ReplicaCount }).omit(),
	nul("shard_type", text, func(o *ODGMDataSpec) **string { return &o.ShardType }).omit(),
	def("env_node_ids", dict(list(number64)), func(o *ODGMDataSpec) *map[string][]uint64 { return &o.EnvNodeIDs }).omit(),
	nul("log", text, func(o *ODGMDataSpec) **string { return &o.Log }).omit(),
)

var telemetryTable = object(
	nul("enabled", boolean, func(t *TelemetryConfig) **bool { return &t.Enabled }).omit(),
	nul("traces", boolean, func(t *TelemetryConfig) **bool { return &t.Traces }).omit(),
	nul("metrics", boolean, func(t *TelemetryConfig) **bool { return &t.Metrics }).omit(),
	nul("logs", boolean, func(t *TelemetryConfig) **bool { return &t.Logs }).omit(),
	nul("sampling_rate", fraction, func(t *TelemetryConfig) **float64 { return &t.SamplingRate }).omit(),
	nul("service_name", text, func(t *TelemetryConfig) **string { return &t.ServiceName }).omit(),
	def("resource_attributes", textMap, func(t *TelemetryConfig) *map[string]string { return &t.ResourceAttributes }).omit(),
)

var statusTable = object(
	req("replication_factor", number32, func(s *DeploymentStatusSummary) *uint32 { return &s.ReplicationFactor }),
	def("selected_envs", texts, func(s *DeploymentStatusSummary) *[]string { return &s.SelectedEnvs }).omit(),
	nul("achieved_quorum_availability", fraction, func(s *DeploymentStatusSummary) **float64 { return &s.AchievedQuorumAvailability }).omit(),
	nul("last_error", text, func(s *DeploymentStatusSummary) **string { return &s.LastError }).omit(),
	nul("availability", fraction, func(s *DeploymentStatusSummary) **float64 { return &s.Availability }).omit(),
	def("degraded", textMap, func(s *DeploymentStatusSummary) *map[string]string { return &s.Degraded }).omit(),
)
