package scheduler

import (
	"fmt"

	"oaas.io/control-plane/scheduler/availability"
	"oaas.io/control-plane/scheduler/division"
)

// Health is what is known about the way to a cluster.
type Health string

// The zero value is Unknown: never asked, or not since this leader took over.
const (
	Unknown  Health = ""
	Healthy  Health = "healthy"
	Degraded Health = "degraded"
	// Suspect clusters have not been heard for a moment: others are preferred to them.
	Suspect     Health = "suspect"
	Unreachable Health = "unreachable"
)

func (h Health) String() string {
	if h == Unknown {
		return "unknown"
	}
	return string(h)
}

// Defaults and limits of the planner.
const (
	// DefaultTarget is the availability that deployments without a wish get.
	DefaultTarget = 0.99
	// MaxTarget is the highest target; what is asked beyond it counts as it.
	MaxTarget = 0.999999999
	// AssumedAvailability stands for clusters that report none.
	AssumedAvailability = 0.99
	// DefaultMaxClusters bounds the clusters of one automatic placement.
	DefaultMaxClusters = 50
	// StrongMinimum is the smallest number of clusters that survives the loss
	// of one without losing the majority.
	StrongMinimum = 3
)

// Cluster is one environment of the fleet.
type Cluster struct {
	Name   string
	Region string
	Zone   string
	Health Health
	// Availability is the declared or reported probability of the cluster being
	// up, within 0..1; nil when there is none.
	Availability *float64
	// Source is where the availability comes from.
	Source       Source
	Capabilities []string
	Labels       map[string]string
	// NodeCount and ReadyNodes describe capacity, not availability.
	NodeCount  int
	ReadyNodes int
	// Resources are those of its nodes together.
	Resources Resources
	// Provider is whose cluster it is: the domain around its region.
	Provider string
	// Taints keep deployments away that do not tolerate them.
	Taints []Taint
	// Cordoned clusters are given nothing new.
	Cordoned     bool
	CordonReason string
	// Draining clusters are to be left by what runs there.
	Draining bool
	// Latency is the round trip in milliseconds to other clusters or to regions, by name.
	Latency map[string]float64
	// Cost for 30 days, in the unit of the fleet; nil when nobody said.
	Cost *float64
	// Units that it has been given, of all deployments, and the most that it may
	// be given; 0 means no limit.
	Units, MaxUnits int
	// UnitsOf are its units by package, and MaxUnitsPerPackage is the most of each that
	// it may be given; 0 means no limit.
	UnitsOf            map[string]int
	MaxUnitsPerPackage int
}

// Source is where the availability of a cluster comes from.
type Source string

// The sources. The zero value goes with an availability of nil: it is assumed.
const (
	// Reported by the cluster's manager.
	Reported Source = "reported"
	// Declared by an operator.
	Declared Source = "declared"
	// Measured from the cluster's outages.
	Measured Source = "measured"
)

// Taint is one reason to keep deployments away.
type Taint struct {
	Key, Value string
	// Prefer is true when others are only preferred.
	Prefer bool
}

// Resources of the nodes of a cluster; nil where they are not known.
type Resources struct {
	AllocatableMillicores, AllocatableBytes *uint64
	FreeMillicores, FreeBytes               *uint64
}

// Snapshot is the fleet at one moment. It is never changed by this package.
type Snapshot struct {
	// Clusters have different names; the order has no meaning.
	Clusters []Cluster
	// Domains are measured availabilities, see Prepare.
	Domains map[string]float64
	// Current names the clusters the deployment runs in now; no order.
	Current []string
}

// Spec is what a deployment asks for.
type Spec struct {
	// Key of the deployment. It only spreads deployments over equal clusters.
	Key string
	// Package that the class is of, for quotas.
	Package string
	// Near are places in which clusters are preferred: the name of a cluster, region,
	// zone or provider, or the value of its label LocationLabel.
	Near []string
	// TargetEnvs are the clusters the user insists on, in his order.
	TargetEnvs []string
	// AvailableEnvs limits the choice when TargetEnvs is empty; all clusters
	// when it is empty, too. Earlier ones are preferred among equals.
	AvailableEnvs []string
	// AvailabilityTarget within 0..1; nil means DefaultTarget.
	AvailabilityTarget *float64
	// Kind is what it takes to be available.
	Kind Kind
	// Strong asks for at least StrongMinimum clusters.
	Strong bool
	// Stability is what becomes of it if there is a better place.
	Stability Stability
	// Prefer is which of the sets that meet the target is the best.
	Prefer Preference
	// MaxClusters bounds an automatic choice; 0 means DefaultMaxClusters.
	MaxClusters int
	// Placement is what it wishes of the clusters; nil means nothing.
	Placement *Placement
	// Shards is how its state is kept; nil when nothing is to be assigned.
	Shards *Shards
	// Functions that have pods in every cluster, with different keys.
	Functions []Function
}

// Validate reports the first field that contradicts its documentation, as
// *InvalidInputError.
func (s Spec) Validate() error {
	if err := s.wellFormed(); err != nil {
		return err
	}
	return s.Placement.Validate()
}

// wellFormed looks at all that does not have to be compiled; plans compile the rest
// once for all that ask for the same.
func (s Spec) wellFormed() error {
	if t := s.AvailabilityTarget; t != nil && !availability.Valid(*t) {
		return &InvalidInputError{Field: "availability target", Problem: fmt.Sprintf("%v is not within 0..1", *t)}
	}
	if s.MaxClusters < 0 {
		return &InvalidInputError{Field: "max clusters", Problem: fmt.Sprintf("%d is negative", s.MaxClusters)}
	}
	if !s.Kind.valid() {
		return &InvalidInputError{Field: "kind", Problem: fmt.Sprintf("%q is none", string(s.Kind))}
	}
	for _, name := range s.TargetEnvs {
		if name == "" {
			return &InvalidInputError{Field: "target envs", Problem: "has an empty name"}
		}
	}
	if h := s.Shards; h != nil && (h.Partitions < 1 || h.Replicas < 0) {
		return &InvalidInputError{Field: "shards", Problem: fmt.Sprintf("%d partitions of %d replicas are none", h.Partitions, h.Replicas)}
	}
	for i := range s.Functions {
		if f := &s.Functions[i]; f.Least < 0 || f.Most < 0 || f.Pods < 0 || f.Pods > division.MaxTotal || f.Survive < 0 {
			return &InvalidInputError{Field: "functions", Problem: fmt.Sprintf("%s: numbers of pods are within 0..%d", f.Key, division.MaxTotal)}
		}
	}
	if s.Placement != nil {
		return s.Placement.wellFormed()
	}
	return nil
}

func (s Spec) target() (target float64, declared bool) {
	if s.AvailabilityTarget == nil {
		return DefaultTarget, false
	}
	return min(*s.AvailabilityTarget, MaxTarget), true
}

// limit is the largest number of clusters that may be chosen; odd for a quorum.
func (s Spec) limit() int {
	n := s.MaxClusters
	if n == 0 {
		n = DefaultMaxClusters
	}
	if n%2 == 0 && n > 1 && s.Kind == Quorum {
		n--
	}
	return n
}
