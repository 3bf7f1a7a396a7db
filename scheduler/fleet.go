package scheduler

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"

	"oaas.io/control-plane/scheduler/availability"
)

// Fleet is the clusters of a snapshot, prepared for any number of plans. It does not
// change and may be used by several goroutines; what plans have in common is worked
// out once and kept.
type Fleet struct {
	// clusters in the order of their names. The index of a cluster here is also its
	// leaf in the tree.
	clusters []Cluster
	byName   map[string]int
	// up is the availability to calculate with.
	up      []float64
	assumed []bool
	// seeds are hashes of the names, from which tickets are made.
	seeds []uint64
	// tree has all clusters, whether a deployment may use them or not: how often a
	// zone fails does not depend on who asks.
	tree *availability.Tree
	// placed is false when no cluster says where it is: then nothing tells which of
	// them could fail together, and they are taken for independent.
	placed bool
	// measuresLatency says that a cluster tells how far others are.
	measuresLatency bool
	// quotas says that a cluster limits the units of packages, so that it matters of which
	// one a deployment is.
	quotas bool
	// measured are the domains of which it is known how often they are up.
	measured map[string]float64

	pools   cache[string, *pool]
	scratch sync.Pool
}

// Prepare makes a Fleet of the clusters, which it does not keep or change. domains are
// measured availabilities of regions and zones, by the names that package availability
// gives them, each while what is around it is up; those that are not there are assumed.
// The error is an *InvalidInputError. A senseless availability is no error of the fleet: it is
// what one cluster said, and disqualifies that cluster only.
func Prepare(clusters []Cluster, domains map[string]float64) (*Fleet, error) {
	f := &Fleet{clusters: slices.Clone(clusters), byName: make(map[string]int, len(clusters))}
	f.pools.limit, f.measured = maxPools, maps.Clone(domains)
	slices.SortFunc(f.clusters, func(a, b Cluster) int { return strings.Compare(a.Name, b.Name) })
	places := make([]availability.Place, len(f.clusters))
	for i := range f.clusters {
		c := &f.clusters[i]
		if c.Name == "" {
			return nil, &InvalidInputError{Field: "clusters", Problem: "one has no name"}
		}
		if _, twice := f.byName[c.Name]; twice {
			return nil, &InvalidInputError{Field: "clusters", Problem: fmt.Sprintf("%q appears twice", c.Name)}
		}
		f.byName[c.Name] = i
		if cost := c.Cost; cost != nil && !(*cost >= 0 && *cost <= math.MaxFloat64) {
			return nil, &InvalidInputError{Field: "clusters", Problem: fmt.Sprintf("%s: %v is no price", c.Name, *cost)}
		}
		for name, ms := range c.Latency {
			if !(ms >= 0 && ms <= math.MaxFloat64) {
				return nil, &InvalidInputError{Field: "clusters", Problem: fmt.Sprintf("%s: %v is no latency to %s", c.Name, ms, clip(name))}
			}
		}
		p, assumed := AssumedAvailability, true
		if a := c.Availability; a != nil && availability.Valid(*a) {
			p, assumed = *a, false
		}
		f.up, f.assumed = append(f.up, p), append(f.assumed, assumed)
		f.seeds = append(f.seeds, seed(c.Name))
		f.measuresLatency = f.measuresLatency || len(c.Latency) > 0
		f.quotas = f.quotas || c.MaxUnitsPerPackage > 0
		f.placed = f.placed || c.Region != "" || c.Zone != ""
		places[i] = availability.Place{Name: c.Name, Up: p, Region: c.Region, Zone: c.Zone}
	}
	var err error
	if f.tree, err = newTree(places, f.placed, domains); err != nil {
		return nil, &InvalidInputError{Field: "clusters", Problem: err.Error()}
	}
	f.scratch.New = func() any {
		return &scratch{e: f.tree.Evaluator(), held: make([]int, f.tree.Domains()), caps: make([]int, f.tree.Domains())}
	}
	return f, nil
}

func newTree(places []availability.Place, placed bool, domains map[string]float64) (*availability.Tree, error) {
	if placed {
		return availability.Infer(places, availability.DefaultShares(), domains)
	}
	leaves := make([]availability.Leaf, len(places))
	for i := range places {
		leaves[i] = availability.Leaf{Name: places[i].Name, Up: places[i].Up}
	}
	return availability.NewTree(nil, leaves, nil)
}

// scratch is what one plan needs to calculate, kept for the next one.
type scratch struct {
	e     *availability.Evaluator
	votes []availability.Vote
	// held and caps are the votes in each domain, and the most that it may hold.
	held, caps []int
}

// chances calculates what a set of clusters achieves when so many have to be up.
func (s *scratch) chances(set []int, need int) (loss, up float64) {
	s.votes = s.votes[:0]
	for _, i := range set {
		s.votes = append(s.votes, availability.Vote{Leaf: i, Weight: 1})
	}
	return s.e.Loss(s.votes, need), s.e.AtLeast(s.votes, need)
}

// seed and mix make the lots by which equal clusters are told apart: FNV-1a (64 bit)
// and the finalizer of SplitMix64. They only have to spread, and must stay the same.
func seed(name string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 1099511628211
	}
	return h
}

func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// ticket orders equal clusters differently for every deployment.
func (f *Fleet) ticket(key uint64, cluster int) uint64 { return mix(key ^ f.seeds[cluster]) }

// compare orders the clusters for a deployment, best first; the order is total.
func (f *Fleet) compare(a, b *scored, key uint64) int {
	return cmp.Or(
		cmp.Compare(b.p, a.p),
		compareBool(b.current, a.current),
		compareBool(a.discouraged, b.discouraged),
		cmp.Compare(a.preference, b.preference),
		cmp.Compare(f.ticket(key, a.leaf), f.ticket(key, b.leaf)),
		cmp.Compare(a.leaf, b.leaf),
	)
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	default:
		return -1
	}
}

// What is kept of each kind. Deployments that all ask for something else do not
// profit, and must not cost memory for it either: a pool has a place for every cluster.
const (
	maxPools   = 32
	maxChoices = 256
	maxAnswers = 4096
)

// cache keeps results that depend on nothing but their key.
type cache[K comparable, V any] struct {
	limit   int
	mu      sync.Mutex
	entries map[K]func() (V, error)
}

// get gives the result for a key, which is worked out at most once while it is kept.
func (c *cache[K, V]) get(key K, work func() (V, error)) (V, error) {
	c.mu.Lock()
	once, there := c.entries[key]
	if !there {
		if c.entries == nil || len(c.entries) >= c.limit {
			c.entries = map[K]func() (V, error){}
		}
		once = sync.OnceValues(work)
		c.entries[key] = once
	}
	c.mu.Unlock()
	return once()
}
