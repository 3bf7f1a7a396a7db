package scheduler

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"oaas.io/control-plane/scheduler/selector"
)

// Placement is what a deployment wishes of its clusters, besides its availability.
// Allow to Need, and MaxCost, are asked of every cluster by itself; the others of the
// set that is chosen. Plans never change it.
type Placement struct {
	// Allow names the only clusters that may be used; all when empty. Deny names those
	// that must not be.
	Allow, Deny []string
	// MatchLabels are labels that a cluster must have.
	MatchLabels map[string]string
	// Selector is a label selector, and Expression one in CEL; see package selector.
	// Nothing is asked when they are empty.
	Selector, Expression string
	Tolerations          []Toleration
	// Capabilities that a cluster must report.
	Capabilities []string
	// Architecture that nodes of a cluster must have; any when empty.
	Architecture string
	// Need is the room that the share of one cluster takes.
	Need Need
	// MaxCost is the most that one cluster may cost for 30 days; nil means no limit.
	MaxCost *float64

	// MaxLatency is the longest round trip between any two clusters, in milliseconds; nil
	// means no limit.
	MaxLatency *float64
	// Spread has different topologies.
	Spread []Spread
	// Apart is nil when it may run beside any other.
	Apart *Apart
	// MaxMoves is the most clusters that one plan takes away; 0 means no limit.
	MaxMoves int
	// Frozen means that a plan must take no cluster away now, because it is not the
	// time for it. It may add some.
	Frozen bool
}

// What tells the architecture of a cluster's nodes: a label of the cluster, or, where it
// has none, capabilities that begin so, one for each architecture that some node has.
const (
	ArchitectureLabel      = "kubernetes.io/arch"
	CapabilityArchitecture = "arch:"
)

// Toleration lets a deployment into clusters with a taint.
type Toleration struct {
	Key, Value string
	// Exists means any value; with an empty Key, any taint.
	Exists bool
}

func (t Toleration) tolerates(taint Taint) bool {
	if t.Exists {
		return t.Key == "" || t.Key == taint.Key
	}
	return t.Key == taint.Key && t.Value == taint.Value
}

// Need is room in a cluster; 0 means none.
type Need struct{ Millicores, Bytes uint64 }

// Spread says how the chosen clusters are spread over the domains of a topology. One
// of the numbers is above 0; the other one may be 0, which means no such rule.
type Spread struct {
	// Topology is one of the constants but for TopologyCluster, or the key of a label.
	Topology string
	// Max clusters in one domain, and Least domains.
	Max, Least int
}

// Apart keeps a deployment out of the domains that others run in.
type Apart struct {
	// Topology is one of the constants, or the key of a label.
	Topology string
	From     []Neighbour
}

// Neighbour is another deployment with the clusters that it runs in.
type Neighbour struct {
	Key      string
	Clusters []string
}

// The topologies that mean a field of the cluster. Any other means a label.
const (
	TopologyCluster  = "cluster"
	TopologyRegion   = "region"
	TopologyZone     = "zone"
	TopologyProvider = "provider"
)

// Validate reports the first field that contradicts its documentation, as
// *InvalidInputError. A nil placement is valid.
func (p *Placement) Validate() error {
	_, err := p.compile()
	return err
}

func misplaced(field, format string, args ...any) *InvalidInputError {
	return &InvalidInputError{Field: "placement." + field, Problem: fmt.Sprintf(format, args...)}
}

// wellFormed looks at all that does not have to be compiled.
func (p *Placement) wellFormed() error {
	for _, list := range []struct {
		field string
		names []string
	}{{"allow", p.Allow}, {"deny", p.Deny}, {"requires.capabilities", p.Capabilities}} {
		if slices.Contains(list.names, "") {
			return misplaced(list.field, "has an empty name")
		}
	}
	for _, name := range p.Deny {
		if slices.Contains(p.Allow, name) {
			return misplaced("deny", "%q is in placement.allow as well", name)
		}
	}
	for i, t := range p.Tolerations {
		if t.Key == "" && !t.Exists {
			return misplaced("tolerations", "number %d has neither a key nor the operator Exists", i+1)
		}
	}
	if p.MaxCost != nil && !(*p.MaxCost >= 0 && *p.MaxCost <= math.MaxFloat64) {
		return misplaced("max_cost", "%v is no price", *p.MaxCost)
	}
	if p.MaxLatency != nil && !(*p.MaxLatency >= 0 && *p.MaxLatency <= math.MaxFloat64) {
		return misplaced("max_latency_ms", "%v is no time", *p.MaxLatency)
	}
	if p.MaxMoves < 0 {
		return misplaced("disruption.max_moves", "%d is negative", p.MaxMoves)
	}
	if p.Apart != nil && p.Apart.Topology == "" {
		return misplaced("anti_affinity.topology", "is empty")
	}
	return p.checkSpread()
}

func (p *Placement) checkSpread() error {
	seen := map[string]bool{}
	for _, s := range p.Spread {
		switch {
		case s.Topology == "" || s.Topology == TopologyCluster:
			return misplaced("spread.topology", "%q is none that clusters can share", s.Topology)
		case seen[s.Topology]:
			return misplaced("spread.topology", "%q appears twice", s.Topology)
		case s.Max < 0 || s.Least < 0:
			return misplaced("spread", "%s: max_per_domain %d or min_domains %d is negative", s.Topology, s.Max, s.Least)
		case s.Max == 0 && s.Least == 0:
			return misplaced("spread", "%s: has neither max_per_domain nor min_domains", s.Topology)
		}
		seen[s.Topology] = true
	}
	return nil
}

// filterKey has all that constraints look at, in a form that is equal for equal ones.
func (p *Placement) filterKey() string {
	if p == nil {
		return ""
	}
	var b strings.Builder
	for _, names := range [][]string{p.Allow, p.Deny, p.Capabilities} {
		names = slices.Compact(slices.Sorted(slices.Values(names)))
		fmt.Fprintf(&b, "%q", names)
	}
	for _, key := range slices.Sorted(maps.Keys(p.MatchLabels)) {
		fmt.Fprintf(&b, "%q=%q", key, p.MatchLabels[key])
	}
	fmt.Fprintf(&b, "%q%q%q", p.Selector, p.Expression, p.Architecture)
	for _, t := range p.Tolerations {
		fmt.Fprintf(&b, "(%q%q%t)", t.Key, t.Value, t.Exists)
	}
	fmt.Fprintf(&b, "%d,%d", p.Need.Millicores, p.Need.Bytes)
	if p.MaxCost != nil {
		fmt.Fprintf(&b, ",%x", math.Float64bits(*p.MaxCost))
	}
	if p.MaxLatency != nil {
		fmt.Fprintf(&b, "|%x", math.Float64bits(*p.MaxLatency))
	}
	return b.String()
}

// programs are the expressions of the last placements: deployments are planned again
// and again, and many have the same. What an expression says does not depend on it.
var programs = selector.NewCache(512)
