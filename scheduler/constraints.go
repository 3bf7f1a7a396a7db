package scheduler

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"

	"oaas.io/control-plane/scheduler/availability"
	"oaas.io/control-plane/scheduler/selector"
)

// constraints are what a placement asks of each cluster by itself, ready to be held
// against many. They do not change.
type constraints struct {
	placement *Placement
	// allow is nil when all are allowed.
	allow, deny map[string]bool
	// labels are the keys of MatchLabels, sorted.
	labels   []string
	selector selector.Labels
	// program is nil when there is no expression.
	program *selector.Program
}

// compile makes the constraints of a placement. Without one they are what the clusters
// ask for. The error is an *InvalidInputError.
func (p *Placement) compile() (*constraints, error) {
	if p == nil {
		return &constraints{placement: &Placement{}}, nil
	}
	if err := p.wellFormed(); err != nil {
		return nil, err
	}
	c := &constraints{placement: p, deny: set(p.Deny), labels: slices.Sorted(maps.Keys(p.MatchLabels))}
	if len(p.Allow) > 0 {
		c.allow = set(p.Allow)
	}
	var err error
	if c.selector, err = selector.ParseLabels(p.Selector); err != nil {
		return nil, unreadable("selector", err)
	}
	if p.Expression == "" {
		return c, nil
	}
	if c.program, err = programs.Compile(p.Expression); err != nil {
		return nil, unreadable("expression", err)
	}
	return c, nil
}

func unreadable(field string, err error) error {
	var e *selector.SyntaxError
	switch {
	case !errors.As(err, &e):
		return misplaced(field, "%v", err)
	case e.Line == 0:
		return misplaced(field, "%s", e.Problem)
	default:
		return misplaced(field, "line %d, column %d: %s", e.Line, e.Column, e.Problem)
	}
}

// check holds one cluster against the constraints, and gives everything that is wrong
// with it and what a user should know. Each code appears at most once.
//
// current says that the deployment runs there. It may then stay where nothing new may
// go: the cluster is cordoned, has no room left, or no more units. What the user asks
// for holds for all: he may have changed his mind.
func (c *constraints) check(cluster *Cluster, pkg string, current bool) (wrong, noted []Finding) {
	k := checking{cluster: cluster, current: current}
	k.names(c)
	k.labels(c)
	k.expression(c)
	k.capabilities(c.placement)
	k.taints(c.placement)
	k.admission(pkg)
	k.room(c.placement.Need)
	k.cost(c.placement.MaxCost)
	return k.wrong, k.noted
}

// checking is one check under way.
type checking struct {
	cluster      *Cluster
	current      bool
	wrong, noted []Finding
}

func (k *checking) found(in *[]Finding, code Code, format string, args ...any) {
	*in = append(*in, Finding{code, k.cluster.Name + ": " + fmt.Sprintf(format, args...)})
}

func (k *checking) names(c *constraints) {
	if c.deny[k.cluster.Name] {
		k.found(&k.wrong, CodeDenied, "denied by the deployment's placement")
	}
	if c.allow != nil && !c.allow[k.cluster.Name] {
		k.found(&k.wrong, CodeNotAllowed, "not among the environments that the deployment's placement allows")
	}
}

func (k *checking) labels(c *constraints) {
	var missing []string
	for _, key := range c.labels {
		want := c.placement.MatchLabels[key]
		if have, there := k.cluster.Labels[key]; !there {
			missing = append(missing, fmt.Sprintf("no label %s, which has to be %q", clip(key), clip(want)))
		} else if have != want {
			missing = append(missing, fmt.Sprintf("label %s is %q and not %q", clip(key), clip(have), clip(want)))
		}
	}
	if !c.selector.Matches(k.cluster.Labels) {
		missing = append(missing, fmt.Sprintf("its labels do not match %q", clip(c.placement.Selector)))
	}
	if len(missing) > 0 {
		k.found(&k.wrong, CodeLabelMismatch, "%s", list(missing))
	}
}

func (k *checking) expression(c *constraints) {
	if c.program == nil {
		return
	}
	ok, err := c.program.Evaluate(k.described())
	var e *selector.EvaluationError
	switch {
	case errors.As(err, &e):
		k.found(&k.wrong, CodeExpressionError, "the expression has no answer for it: %s", clip(e.Problem))
	case err != nil:
		k.found(&k.wrong, CodeExpressionError, "the expression has no answer for it: %s", clip(err.Error()))
	case !ok:
		k.found(&k.wrong, CodeExpressionFalse, "the expression %q is not true of it", clip(c.placement.Expression))
	}
}

// described is the cluster as expressions see it. What is not known is not a number,
// which cannot be compared: the expression then has no answer.
func (k *checking) described() selector.Cluster {
	c := k.cluster
	out := selector.Cluster{
		Name: c.Name, Region: c.Region, Zone: c.Zone, Provider: c.Provider, Labels: c.Labels, Capabilities: c.Capabilities,
		Cost: math.NaN(), Availability: AssumedAvailability, FreeCPU: math.NaN(), FreeMemory: math.NaN(), NodeCount: c.NodeCount,
	}
	if c.Cost != nil {
		out.Cost = *c.Cost
	}
	if c.Availability != nil {
		out.Availability = *c.Availability
	}
	if free := c.Resources.FreeMillicores; free != nil {
		out.FreeCPU = float64(*free) / 1000
	}
	if free := c.Resources.FreeBytes; free != nil {
		out.FreeMemory = float64(*free)
	}
	return out
}

func (k *checking) capabilities(p *Placement) {
	var missing []string
	for _, name := range p.Capabilities {
		if !slices.Contains(k.cluster.Capabilities, name) {
			missing = append(missing, "lacks the capability "+clip(name))
		}
	}
	if want := p.Architecture; want != "" {
		// The label is what somebody decided, the capabilities are what nodes there are.
		switch have := k.cluster.Labels[ArchitectureLabel]; {
		case have != "" && have != want:
			missing = append(missing, fmt.Sprintf("its architecture is %s and not %s", clip(have), clip(want)))
		case have == "" && !slices.Contains(k.cluster.Capabilities, CapabilityArchitecture+want):
			missing = append(missing, "reports no node of architecture "+clip(want))
		}
	}
	if len(missing) > 0 {
		k.found(&k.wrong, CodeCapabilityMissing, "%s", list(missing))
	}
}

func (k *checking) taints(p *Placement) {
	var firm, soft []string
	for _, taint := range k.cluster.Taints {
		if slices.ContainsFunc(p.Tolerations, func(t Toleration) bool { return t.tolerates(taint) }) {
			continue
		}
		text := clip(taint.Key)
		if taint.Value != "" {
			text += "=" + clip(taint.Value)
		}
		if taint.Prefer {
			soft = append(soft, text)
		} else {
			firm = append(firm, text)
		}
	}
	if len(firm) > 0 {
		k.found(&k.wrong, CodeTaintNotTolerated, "has taints that the deployment does not tolerate: %s", list(firm))
	}
	if len(soft) > 0 {
		k.found(&k.noted, CodeTaintPreferred, "others are better for deployments that do not tolerate %s", list(soft))
	}
}

// admission is what the operators of the cluster say about anything new.
func (k *checking) admission(pkg string) {
	c := k.cluster
	if c.Draining {
		k.found(&k.wrong, CodeDraining, "is being drained, so that nothing may run there")
	}
	if c.Cordoned {
		in, reason := &k.wrong, ""
		if k.current {
			in = &k.noted
		}
		if c.CordonReason != "" {
			reason = " (" + clip(c.CordonReason) + ")"
		}
		k.found(in, CodeCordoned, "cordoned%s, so it is given nothing new", reason)
	}
	if !k.current && c.MaxUnits > 0 && c.Units >= c.MaxUnits {
		k.found(&k.wrong, CodeQuotaExceeded, "has %d of at most %d units", c.Units, c.MaxUnits)
	}
	if n := c.UnitsOf[pkg]; !k.current && c.MaxUnitsPerPackage > 0 && n >= c.MaxUnitsPerPackage {
		k.found(&k.wrong, CodeQuotaExceeded, "has %d of at most %d units of package %s", n, c.MaxUnitsPerPackage, clip(pkg))
	}
}

// room asks whether the share of the deployment fits. Where it runs it has its room.
func (k *checking) room(need Need) {
	if k.current {
		return
	}
	r := &k.cluster.Resources
	var short, unknown []string
	for _, kind := range []struct {
		name, unit  string
		need        uint64
		free, total *uint64
	}{
		{"CPU", "m", need.Millicores, r.FreeMillicores, r.AllocatableMillicores},
		{"memory", " bytes", need.Bytes, r.FreeBytes, r.AllocatableBytes},
	} {
		switch {
		case kind.need == 0:
		case kind.free != nil && *kind.free < kind.need:
			short = append(short, fmt.Sprintf("%d%s of %s free, %d needed", *kind.free, kind.unit, kind.name, kind.need))
		case kind.free != nil:
		case kind.total != nil && *kind.total < kind.need:
			short = append(short, fmt.Sprintf("%d%s of %s in all, %d needed", *kind.total, kind.unit, kind.name, kind.need))
		default:
			unknown = append(unknown, kind.name)
		}
	}
	if len(short) > 0 {
		k.found(&k.wrong, CodeOutOfCapacity, "%s", list(short))
	}
	if len(unknown) > 0 {
		k.found(&k.noted, CodeCapacityUnknown, "does not say how much is free: %s", list(unknown))
	}
}

// cost asks for a price within the limit. One that is not known may be any.
func (k *checking) cost(most *float64) {
	if most == nil {
		return
	}
	switch cost := k.cluster.Cost; {
	case cost == nil:
		k.found(&k.wrong, CodeTooExpensive, "nobody said what it costs, and the limit is %s", price(*most))
	// Written so that what is not a number is too expensive.
	case !(*cost <= *most):
		k.found(&k.wrong, CodeTooExpensive, "costs %s in 30 days, and the limit is %s", price(*cost), price(*most))
	}
}

func price(cost float64) string {
	if cost < 1e15 {
		return strconv.FormatFloat(cost, 'f', -1, 64)
	}
	return strconv.FormatFloat(cost, 'g', -1, 64)
}

// domainOf names the domain of a topology that the cluster is in; empty when it does
// not say. Zones belong to their region: those of the same name elsewhere are others.
func domainOf(c *Cluster, topology string) string {
	switch topology {
	case TopologyCluster:
		return c.Name
	case TopologyRegion:
		return c.Region
	case TopologyZone:
		if c.Zone == "" {
			return ""
		}
		return availability.ZoneName(c.Region, c.Zone)
	case TopologyProvider:
		return c.Provider
	default:
		return c.Labels[topology]
	}
}

// clip keeps messages short, whatever the clusters and the users say.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	end := most
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "…"
}
