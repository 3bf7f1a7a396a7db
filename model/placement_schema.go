package model

// The field tables of a placement. The order of the lines is the order of the JSON form.

var (
	tolerationOperator = enum(TolerationEqual, TolerationExists).firstIsDefault()
	preference         = enum(PreferFewest, PreferCheapest)
	stability          = enum(StabilityKeep, StabilityRebalance).firstIsDefault()
	templateName       = enum(TemplateDev, TemplateEdge, TemplateK8sDeployment, TemplateKnative)
	weekday            = enum(Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday)
)

var placementTable = object(
	def("allow", texts, func(p *Placement) *[]string { return &p.Allow }).omit(),
	def("deny", texts, func(p *Placement) *[]string { return &p.Deny }).omit(),
	def("match_labels", textMap, func(p *Placement) *map[string]string { return &p.MatchLabels }).omit(),
	def("selector", text, func(p *Placement) *string { return &p.Selector }).omit(),
	def("expression", text, func(p *Placement) *string { return &p.Expression }).omit(),
	def("tolerations", list(tolerationTable), func(p *Placement) *[]Toleration { return &p.Tolerations }).omit(),
	nul("requires", requirementsTable, func(p *Placement) **PlacementRequirements { return &p.Requires }).omit(),
	nul("resources", resourcesTable, func(p *Placement) **ResourceNeed { return &p.Resources }).omit(),
	def("spread", list(spreadTable), func(p *Placement) *[]SpreadRule { return &p.Spread }).omit(),
	nul("anti_affinity", antiAffinityTable, func(p *Placement) **AntiAffinity { return &p.AntiAffinity }).omit(),
	def("divide", list(dividedTable), func(p *Placement) *[]FunctionPods { return &p.Divide }).omit(),
	nul("max_cost", fraction, func(p *Placement) **float64 { return &p.MaxCost }).omit(),
	nul("max_latency_ms", fraction, func(p *Placement) **float64 { return &p.MaxLatencyMS }).omit(),
	def("prefer", preference, func(p *Placement) *PlacementPreference { return &p.Prefer }).omit(),
	def("stability", stability, func(p *Placement) *PlacementStability { return &p.Stability }),
	nul("disruption", disruptionTable, func(p *Placement) **DisruptionLimit { return &p.Disruption }).omit(),
	def("windows", list(windowTable), func(p *Placement) *[]MaintenanceWindow { return &p.Windows }).omit(),
)

var tolerationTable = object(
	def("key", text, func(t *Toleration) *string { return &t.Key }).omit(),
	def("value", text, func(t *Toleration) *string { return &t.Value }).omit(),
	def("operator", tolerationOperator, func(t *Toleration) *TolerationOperator { return &t.Operator }),
)

var requirementsTable = object(
	def("capabilities", texts, func(r *PlacementRequirements) *[]string { return &r.Capabilities }).omit(),
	def("architecture", text, func(r *PlacementRequirements) *string { return &r.Architecture }).omit(),
	def("template", templateName, func(r *PlacementRequirements) *TemplateName { return &r.Template }).omit(),
)

var resourcesTable = object(
	def("cpu_millis", number64, func(r *ResourceNeed) *uint64 { return &r.CPUMillis }).omit(),
	def("memory_bytes", number64, func(r *ResourceNeed) *uint64 { return &r.MemoryBytes }).omit(),
)

var spreadTable = object(
	req("topology", text, func(s *SpreadRule) *string { return &s.Topology }),
	nul("max_per_domain", number32, func(s *SpreadRule) **uint32 { return &s.MaxPerDomain }).omit(),
	nul("min_domains", number32, func(s *SpreadRule) **uint32 { return &s.MinDomains }).omit(),
)

var dividedTable = object(
	req("function", text, func(f *FunctionPods) *string { return &f.Function }),
	req("pods", number32, func(f *FunctionPods) *uint32 { return &f.Pods }),
	def("survive", number32, func(f *FunctionPods) *uint32 { return &f.Survive }).omit(),
)

var antiAffinityTable = object(
	req("deployments", texts, func(a *AntiAffinity) *[]string { return &a.Deployments }),
	def("topology", text, func(a *AntiAffinity) *string { return &a.Topology }).omit(),
)

var disruptionTable = object(
	def("max_moves", number32, func(d *DisruptionLimit) *uint32 { return &d.MaxMoves }),
)

var windowTable = object(
	def("days", list(weekday), func(w *MaintenanceWindow) *[]Weekday { return &w.Days }).omit(),
	req("start", text, func(w *MaintenanceWindow) *string { return &w.Start }),
	req("duration", text, func(w *MaintenanceWindow) *string { return &w.Duration }),
	req("zone", text, func(w *MaintenanceWindow) *string { return &w.Zone }),
)
