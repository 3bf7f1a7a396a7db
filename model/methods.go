package model

// The methods that encoding/json and callers see, one set per type. MarshalJSON
// gives the canonical form, UnmarshalJSON follows the rules of DecodePackage,
// Clone shares nothing mutable with its receiver.

// MarshalJSON implements json.Marshaler.
func (p OPackage) MarshalJSON() ([]byte, error) { return encode(packageTable, &p) }

// UnmarshalJSON implements json.Unmarshaler.
func (p *OPackage) UnmarshalJSON(data []byte) error { return decodeInto(packageTable, string(data), p) }

// Clone copies deeply.
func (p OPackage) Clone() *OPackage { return cloneOf(packageTable, &p) }

// MarshalJSON implements json.Marshaler.
func (m PackageMetadata) MarshalJSON() ([]byte, error) { return encode(metadataTable, &m) }

// UnmarshalJSON implements json.Unmarshaler.
func (m *PackageMetadata) UnmarshalJSON(data []byte) error {
	return decodeInto(metadataTable, string(data), m)
}

// Clone copies deeply.
func (m PackageMetadata) Clone() *PackageMetadata { return cloneOf(metadataTable, &m) }

// MarshalJSON implements json.Marshaler.
func (c OClass) MarshalJSON() ([]byte, error) { return encode(classTable, &c) }

// UnmarshalJSON implements json.Unmarshaler.
func (c *OClass) UnmarshalJSON(data []byte) error { return decodeInto(classTable, string(data), c) }

// Clone copies deeply.
func (c OClass) Clone() *OClass { return cloneOf(classTable, &c) }

// MarshalJSON implements json.Marshaler.
func (b FunctionBinding) MarshalJSON() ([]byte, error) { return encode(bindingTable, &b) }

// UnmarshalJSON implements json.Unmarshaler.
func (b *FunctionBinding) UnmarshalJSON(data []byte) error {
	return decodeInto(bindingTable, string(data), b)
}

// Clone copies deeply.
func (b FunctionBinding) Clone() *FunctionBinding { return cloneOf(bindingTable, &b) }

// MarshalJSON implements json.Marshaler.
func (s StateSpecification) MarshalJSON() ([]byte, error) { return encode(stateTable, &s) }

// UnmarshalJSON implements json.Unmarshaler.
func (s *StateSpecification) UnmarshalJSON(data []byte) error {
	return decodeInto(stateTable, string(data), s)
}

// Clone copies deeply.
func (s StateSpecification) Clone() *StateSpecification { return cloneOf(stateTable, &s) }

// MarshalJSON implements json.Marshaler.
func (k KeySpecification) MarshalJSON() ([]byte, error) { return encode(keySpecTable, &k) }

// UnmarshalJSON implements json.Unmarshaler.
func (k *KeySpecification) UnmarshalJSON(data []byte) error {
	return decodeInto(keySpecTable, string(data), k)
}

// Clone copies deeply.
func (k KeySpecification) Clone() *KeySpecification { return cloneOf(keySpecTable, &k) }

// MarshalJSON implements json.Marshaler.
func (f OFunction) MarshalJSON() ([]byte, error) { return encode(functionTable, &f) }

// UnmarshalJSON implements json.Unmarshaler.
func (f *OFunction) UnmarshalJSON(data []byte) error {
	return decodeInto(functionTable, string(data), f)
}

// Clone copies deeply.
func (f OFunction) Clone() *OFunction { return cloneOf(functionTable, &f) }

// MarshalJSON implements json.Marshaler.
func (p ProvisionConfig) MarshalJSON() ([]byte, error) { return encode(provisionTable, &p) }

// UnmarshalJSON implements json.Unmarshaler.
func (p *ProvisionConfig) UnmarshalJSON(data []byte) error {
	return decodeInto(provisionTable, string(data), p)
}

// Clone copies deeply.
func (p ProvisionConfig) Clone() *ProvisionConfig { return cloneOf(provisionTable, &p) }

// MarshalJSON implements json.Marshaler.
func (r NFRRequirements) MarshalJSON() ([]byte, error) { return encode(nfrTable, &r) }

// UnmarshalJSON implements json.Unmarshaler.
func (r *NFRRequirements) UnmarshalJSON(data []byte) error {
	return decodeInto(nfrTable, string(data), r)
}

// Clone copies deeply.
func (r NFRRequirements) Clone() *NFRRequirements { return cloneOf(nfrTable, &r) }

// MarshalJSON implements json.Marshaler.
func (q QoSRequirement) MarshalJSON() ([]byte, error) { return encode(qosTable, &q) }

// UnmarshalJSON implements json.Unmarshaler.
func (q *QoSRequirement) UnmarshalJSON(data []byte) error {
	return decodeInto(qosTable, string(data), q)
}

// Clone copies deeply.
func (q QoSRequirement) Clone() *QoSRequirement { return cloneOf(qosTable, &q) }

// MarshalJSON implements json.Marshaler.
func (d OClassDeployment) MarshalJSON() ([]byte, error) { return encode(deploymentTable, &d) }

// UnmarshalJSON implements json.Unmarshaler.
func (d *OClassDeployment) UnmarshalJSON(data []byte) error {
	return decodeInto(deploymentTable, string(data), d)
}

// Clone copies deeply.
func (d OClassDeployment) Clone() *OClassDeployment { return cloneOf(deploymentTable, &d) }

// MarshalJSON implements json.Marshaler.
func (s FunctionDeploymentSpec) MarshalJSON() ([]byte, error) { return encode(functionSpecTable, &s) }

// UnmarshalJSON implements json.Unmarshaler.
func (s *FunctionDeploymentSpec) UnmarshalJSON(data []byte) error {
	return decodeInto(functionSpecTable, string(data), s)
}

// Clone copies deeply.
func (s FunctionDeploymentSpec) Clone() *FunctionDeploymentSpec {
	return cloneOf(functionSpecTable, &s)
}

// MarshalJSON implements json.Marshaler.
func (o ODGMDataSpec) MarshalJSON() ([]byte, error) { return encode(odgmTable, &o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *ODGMDataSpec) UnmarshalJSON(data []byte) error {
	return decodeInto(odgmTable, string(data), o)
}

// Clone copies deeply.
func (o ODGMDataSpec) Clone() *ODGMDataSpec { return cloneOf(odgmTable, &o) }

// MarshalJSON implements json.Marshaler.
func (t TelemetryConfig) MarshalJSON() ([]byte, error) { return encode(telemetryTable, &t) }

// UnmarshalJSON implements json.Unmarshaler.
func (t *TelemetryConfig) UnmarshalJSON(data []byte) error {
	return decodeInto(telemetryTable, string(data), t)
}

// Clone copies deeply.
func (t TelemetryConfig) Clone() *TelemetryConfig { return cloneOf(telemetryTable, &t) }

// MarshalJSON implements json.Marshaler.
func (s DeploymentStatusSummary) MarshalJSON() ([]byte, error) { return encode(statusTable, &s) }

// UnmarshalJSON implements json.Unmarshaler.
func (s *DeploymentStatusSummary) UnmarshalJSON(data []byte) error {
	return decodeInto(statusTable, string(data), s)
}

// Clone copies deeply.
func (s DeploymentStatusSummary) Clone() *DeploymentStatusSummary { return cloneOf(statusTable, &s) }
