package model

// The methods of a placement and its parts; see methods.go.

// MarshalJSON implements json.Marshaler.
func (p Placement) MarshalJSON() ([]byte, error) { return encode(placementTable, &p) }

// UnmarshalJSON implements json.Unmarshaler.
func (p *Placement) UnmarshalJSON(data []byte) error {
	return decodeInto(placementTable, string(data), p)
}

// Clone copies deeply.
func (p Placement) Clone() *Placement { return cloneOf(placementTable, &p) }

// MarshalJSON implements json.Marshaler.
func (t Toleration) MarshalJSON() ([]byte, error) { return encode(tolerationTable, &t) }

// UnmarshalJSON implements json.Unmarshaler.
func (t *Toleration) UnmarshalJSON(data []byte) error {
	return decodeInto(tolerationTable, string(data), t)
}

// Clone copies deeply.
func (t Toleration) Clone() *Toleration { return cloneOf(tolerationTable, &t) }

// MarshalJSON implements json.Marshaler.
func (r PlacementRequirements) MarshalJSON() ([]byte, error) { return encode(requirementsTable, &r) }

// UnmarshalJSON implements json.Unmarshaler.
func (r *PlacementRequirements) UnmarshalJSON(data []byte) error {
	return decodeInto(requirementsTable, string(data), r)
}

// Clone copies deeply.
func (r PlacementRequirements) Clone() *PlacementRequirements { return cloneOf(requirementsTable, &r) }

// MarshalJSON implements json.Marshaler.
func (r ResourceNeed) MarshalJSON() ([]byte, error) { return encode(resourcesTable, &r) }

// UnmarshalJSON implements json.Unmarshaler.
func (r *ResourceNeed) UnmarshalJSON(data []byte) error {
	return decodeInto(resourcesTable, string(data), r)
}

// Clone copies deeply.
func (r ResourceNeed) Clone() *ResourceNeed { return cloneOf(resourcesTable, &r) }

// MarshalJSON implements json.Marshaler.
func (s SpreadRule) MarshalJSON() ([]byte, error) { return encode(spreadTable, &s) }

// UnmarshalJSON implements json.Unmarshaler.
func (s *SpreadRule) UnmarshalJSON(data []byte) error {
	return decodeInto(spreadTable, string(data), s)
}

// Clone copies deeply.
func (s SpreadRule) Clone() *SpreadRule { return cloneOf(spreadTable, &s) }

// MarshalJSON implements json.Marshaler.
func (f FunctionPods) MarshalJSON() ([]byte, error) { return encode(dividedTable, &f) }

// UnmarshalJSON implements json.Unmarshaler.
func (f *FunctionPods) UnmarshalJSON(data []byte) error {
	return decodeInto(dividedTable, string(data), f)
}

// Clone copies deeply.
func (f FunctionPods) Clone() *FunctionPods { return cloneOf(dividedTable, &f) }

// MarshalJSON implements json.Marshaler.
func (a AntiAffinity) MarshalJSON() ([]byte, error) { return encode(antiAffinityTable, &a) }

// UnmarshalJSON implements json.Unmarshaler.
func (a *AntiAffinity) UnmarshalJSON(data []byte) error {
	return decodeInto(antiAffinityTable, string(data), a)
}

// Clone copies deeply.
func (a AntiAffinity) Clone() *AntiAffinity { return cloneOf(antiAffinityTable, &a) }

// MarshalJSON implements json.Marshaler.
func (d DisruptionLimit) MarshalJSON() ([]byte, error) { return encode(disruptionTable, &d) }

// UnmarshalJSON implements json.Unmarshaler.
func (d *DisruptionLimit) UnmarshalJSON(data []byte) error {
	return decodeInto(disruptionTable, string(data), d)
}

// Clone copies deeply.
func (d DisruptionLimit) Clone() *DisruptionLimit { return cloneOf(disruptionTable, &d) }

// MarshalJSON implements json.Marshaler.
func (w MaintenanceWindow) MarshalJSON() ([]byte, error) { return encode(windowTable, &w) }

// UnmarshalJSON implements json.Unmarshaler.
func (w *MaintenanceWindow) UnmarshalJSON(data []byte) error {
	return decodeInto(windowTable, string(data), w)
}

// Clone copies deeply.
func (w MaintenanceWindow) Clone() *MaintenanceWindow { return cloneOf(windowTable, &w) }
