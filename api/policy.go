package api

import (
	"context"
	"net/http"

	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
	"oaas.io/control-plane/scheduler"
)

// ClusterPolicy is what operators say about an environment. What is left out is not
// said.
type ClusterPolicy struct {
	// Labels are added to those that the environment reports; of equal keys these hold.
	Labels map[string]string `json:"labels,omitempty"`
	// Region and Zone stand in place of the reported ones.
	Region   *string `json:"region,omitempty"`
	Zone     *string `json:"zone,omitempty"`
	Provider string  `json:"provider,omitempty"`
	Taints   []Taint `json:"taints,omitempty"`
	// A cordoned environment is given nothing new, and its outages are planned ones.
	Cordoned     bool   `json:"cordoned,omitempty"`
	CordonReason string `json:"cordon_reason,omitempty"`
	// What runs in a draining environment is moved elsewhere, and it is given nothing new.
	// Who says nothing of it leaves it as it is.
	Draining    *bool  `json:"draining,omitempty"`
	DrainReason string `json:"drain_reason,omitempty"`
	// DrainSince is told only.
	DrainSince string `json:"drain_since,omitempty"`
	// Cost for 30 days, in any unit that is the same for all environments.
	Cost *float64 `json:"cost,omitempty"`
	// Availability within 0..1.
	Availability *float64 `json:"availability,omitempty"`
	// MaxUnits bounds the units of the environment; 0 means no limit.
	MaxUnits uint64 `json:"max_units,omitempty"`
	// MaxUnitsPerPackage bounds those of any one package; 0 means no limit.
	MaxUnitsPerPackage uint64 `json:"max_units_per_package,omitempty"`
	// LatencyMS is the round trip to other environments or to regions, by name.
	LatencyMS map[string]float64 `json:"latency_ms,omitempty"`
}

// Taint keeps deployments that do not tolerate it away from an environment.
type Taint struct {
	Key   string `json:"key"`
	Value string `json:"value,omitempty"`
	// Effect is NoSelect or PreferNoSelect.
	Effect string `json:"effect"`
}

// The effects of taints by their names.
const (
	effectNoSelect       = "NoSelect"
	effectPreferNoSelect = "PreferNoSelect"
)

func tellPolicy(p *pmpb.ClusterPolicy) *ClusterPolicy {
	if p == nil {
		return &ClusterPolicy{}
	}
	out := &ClusterPolicy{
		Labels: p.GetLabels(), Region: p.Region, Zone: p.Zone, Provider: p.GetProvider(),
		Cordoned: p.GetCordoned(), CordonReason: p.GetCordonReason(), DrainReason: p.GetDrainReason(),
		Cost: p.Cost, Availability: p.Availability, MaxUnits: p.GetMaxUnits(), MaxUnitsPerPackage: p.GetMaxUnitsPerPackage(),
		LatencyMS: p.GetLatencyMs(),
	}
	if p.GetDraining() {
		out.Draining = &p.Draining
	}
	if p.GetDrainSince() != nil {
		out.DrainSince = zulu(p.GetDrainSince().AsTime())
	}
	for _, t := range p.GetTaints() {
		effect := effectNoSelect
		if t.GetEffect() == pmpb.Taint_EFFECT_PREFER_NO_SELECT {
			effect = effectPreferNoSelect
		}
		out.Taints = append(out.Taints, Taint{Key: t.GetKey(), Value: t.GetValue(), Effect: effect})
	}
	return out
}

// record gives the policy as it is stored. An unknown effect becomes none, which the
// registry refuses.
func (p *ClusterPolicy) record() *pmpb.ClusterPolicy {
	out := &pmpb.ClusterPolicy{
		Labels: p.Labels, Region: p.Region, Zone: p.Zone, Provider: p.Provider,
		Cordoned: p.Cordoned, CordonReason: p.CordonReason, Draining: p.Draining != nil && *p.Draining, DrainReason: p.DrainReason,
		Cost: p.Cost, Availability: p.Availability, MaxUnits: p.MaxUnits, MaxUnitsPerPackage: p.MaxUnitsPerPackage,
		LatencyMs: p.LatencyMS,
	}
	effects := map[string]pmpb.Taint_Effect{
		effectNoSelect: pmpb.Taint_EFFECT_NO_SELECT, effectPreferNoSelect: pmpb.Taint_EFFECT_PREFER_NO_SELECT,
	}
	for _, t := range p.Taints {
		out.Taints = append(out.Taints, &pmpb.Taint{Key: t.Key, Value: t.Value, Effect: effects[t.Effect]})
	}
	return out
}

// knowsNoDrains reports that whoever wrote the policy says nothing about drains, as clients
// do that were made before there were any: what they change of a policy, they write without
// what they cannot read. One that tells since when has read it, and ends it.
func (p *ClusterPolicy) knowsNoDrains() bool { return p.Draining == nil && p.DrainSince == "" }

func policyTag(name string, p *pmpb.ClusterPolicy) string {
	return etag(name, registry.PolicyVersion(p))
}

// getPolicy tells what operators said about an environment.
func (s *Server) getPolicy(w http.ResponseWriter, r *http.Request) error {
	snap, err := s.read(w, r)
	if err != nil {
		return err
	}
	c := snap.Cluster(pathVar(r, "name"))
	if c == nil {
		return fail(registry.NotFound, "Cluster not found: %s", pathVar(r, "name"))
	}
	w.Header().Set("ETag", policyTag(c.GetName(), c.GetPolicy()))
	return writeJSON(w, http.StatusOK, tellPolicy(c.GetPolicy()))
}

// putPolicy replaces what operators say about an environment.
func (s *Server) putPolicy(w http.ResponseWriter, r *http.Request) error {
	if err := noDryRun(r); err != nil {
		return err
	}
	var wish ClusterPolicy
	body, err := readWish(w, r, &wish)
	if err != nil {
		return err
	}
	if body == nil {
		return fail(codeSchema, "The policy is missing; {} says nothing about the environment")
	}
	name, policy := pathVar(r, "name"), wish.record()
	ans, err := s.write(r, operation{
		body: body,
		run: func(ctx context.Context, ri registry.RequestInfo) (any, uint64, error) {
			index, err := s.opts.Registry.PutClusterPolicy(ctx, ri, name, policy, wish.knowsNoDrains())
			return nil, index, err
		},
		reply: func(any) (int, []byte) { return encoded(http.StatusOK, tellPolicy(policy)) },
		tag:   func(uint64) string { return policyTag(name, policy) },
	})
	if err != nil {
		return err
	}
	ans.send(w)
	return nil
}

// availabilityView is what is known of how often an environment is up.
type availabilityView struct {
	// Used is what plans calculate with; absent when they assume something.
	Used     *float64         `json:"used,omitempty"`
	Source   scheduler.Source `json:"source,omitempty"`
	Declared *float64         `json:"declared,omitempty"`
	Reported *float64         `json:"reported,omitempty"`
	Measured *measuredView    `json:"measured,omitempty"`
}

// measuredView is an estimate from the outages of an environment.
type measuredView struct {
	// Lower is what the availability exceeds with a confidence of 95 %.
	Lower float64 `json:"lower"`
	Mean  float64 `json:"mean"`
	// Outages and Days of observation, in which what is old counts less.
	Outages float64 `json:"outages"`
	Days    float64 `json:"days"`
	// MTTRSeconds is the mean time to repair.
	MTTRSeconds    float64 `json:"mttr_seconds"`
	PlannedOutages int     `json:"planned_outages"`
	Since          string  `json:"since"`
}

func tellAvailability(a registry.Availability) *availabilityView {
	out := &availabilityView{Used: a.Used, Source: a.Source, Declared: a.Declared, Reported: a.Reported}
	if m := a.Measured; m != nil {
		out.Measured = &measuredView{
			Lower: m.Lower, Mean: m.Mean, Outages: m.Outages, Days: m.Exposure.Hours() / 24,
			MTTRSeconds: m.MTTR.Seconds(), PlannedOutages: m.Planned, Since: zulu(a.Since),
		}
	}
	return out
}
