package scheduler

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"oaas.io/control-plane/scheduler/availability"
	"oaas.io/control-plane/scheduler/division"
)

// Assignment is what one cluster gets of a deployment. Three numbers are kept apart:
// the clusters of the plan, the replicas of each shard, and the pods of each function.
type Assignment struct {
	Cluster string `json:"cluster"`
	// NodeIDs of the data nodes; none when it keeps no state.
	NodeIDs []uint64 `json:"node_ids,omitempty"`
	// Replicas of shards of one collection that are kept here, and of how many shards
	// it has the primary one. In a quorum every replica has a vote.
	Replicas  int `json:"replicas,omitempty"`
	Primaries int `json:"primaries,omitempty"`
	// Pods are the least of each function that has a least number.
	Pods map[string]int `json:"pods,omitempty"`
}

// Shards is how the state of a deployment is kept.
type Shards struct {
	// UID of the deployment, from which node ids are made.
	UID string
	// Nodes are the node ids that the user gave, by cluster; they are made when he gave
	// none at all.
	Nodes map[string][]uint64
	// Partitions of a collection, at least 1, and replicas of each; 0 replicas are one
	// in each cluster.
	Partitions, Replicas int
}

// Function has pods in each cluster of a deployment.
type Function struct {
	Key string
	// Least and Most pods in one cluster; Most of 0 is no limit.
	Least, Most int
	// Pods in all clusters together, and how many of these may be lost with as many pods
	// left. Nothing is divided when it is 0.
	Pods, Survive int
	// Need of one pod.
	Need Need
	// Now are the pods that clusters are to have at present.
	Now map[string]int
}

// assignments divides what the deployment is over the chosen clusters. It gives the
// voters of each shard as well, 0 without shards.
func (o *selection) assignments(spec *Spec) ([]Assignment, int, error) {
	out := make([]Assignment, len(o.chosen))
	for i := range o.chosen {
		out[i].Cluster = o.chosen[i].cluster.Name
	}
	voters := spec.Shards.assign(out)
	for i := range spec.Functions {
		if err := o.divide(&spec.Functions[i], out); err != nil {
			return nil, 0, err
		}
	}
	return out, voters, nil
}

// nodes gives the data nodes of all clusters as one ring, ascending, with the cluster
// of each: its place in the list, or -1 where it is none of them.
func (s *Shards) nodes(of []Assignment) (ring []uint64, cluster map[uint64]int) {
	own := s.Nodes
	if len(own) == 0 {
		names := make([]string, len(of))
		for i := range of {
			names[i] = of[i].Cluster
		}
		own = map[string][]uint64{}
		for name, id := range NodeIDs(s.UID, names) {
			own[name] = []uint64{id}
		}
	}
	cluster = map[uint64]int{}
	for _, ids := range own {
		for _, id := range ids {
			cluster[id] = -1
			ring = append(ring, id)
		}
	}
	for i := range of {
		of[i].NodeIDs = own[of[i].Cluster]
		for _, id := range of[i].NodeIDs {
			cluster[id] = i
		}
	}
	slices.Sort(ring)
	return slices.Compact(ring), cluster
}

// assign counts what each cluster has of the table that package shard makes. Shard p
// begins at node p of the ring, and its replicas are on the nodes that follow.
func (s *Shards) assign(of []Assignment) (voters int) {
	if s == nil || len(of) == 0 {
		return 0
	}
	ring, cluster := s.nodes(of)
	if len(ring) == 0 {
		return 0
	}
	replicas := s.Replicas
	if replicas == 0 {
		replicas = len(of)
	}
	for node, n := range onRing(len(ring), s.Partitions, replicas) {
		if i := cluster[ring[node]]; i >= 0 {
			of[i].Replicas += n
			of[i].Primaries += beginningAt(node, len(ring), s.Partitions)
		}
	}
	return replicas
}

// beginningAt is how many of so many shards begin at a node of a ring.
func beginningAt(node, ring, partitions int) int {
	n := partitions / ring
	if node < partitions%ring {
		n++
	}
	return n
}

// onRing counts the replicas of each node.
func onRing(ring, partitions, replicas int) []int {
	// Whole rounds come to every node alike; what is left of a shard's replicas goes to
	// the nodes from its first one on.
	out := slices.Repeat([]int{partitions * (replicas / ring)}, ring)
	change := make([]int, 2*ring+1)
	for first := range ring {
		n := beginningAt(first, ring, partitions)
		change[first] += n
		change[first+replicas%ring] -= n
	}
	running := 0
	for i := range 2 * ring {
		running += change[i]
		out[i%ring] += running
	}
	return out
}

// maxRing and maxReplicas bound the shards whose availability is calculated.
const maxRing, maxReplicas = 128, 1024

// divide gives every cluster its pods of one function.
func (o *selection) divide(f *Function, out []Assignment) error {
	give := func(i, pods int) {
		if pods == 0 {
			return
		}
		if out[i].Pods == nil {
			out[i].Pods = map[string]int{}
		}
		out[i].Pods[f.Key] = pods
	}
	if f.Pods == 0 {
		for i := range out {
			give(i, f.Least)
		}
		return nil
	}
	floor := 0
	if f.Survive > 0 {
		if floor = division.Floor(f.Pods, len(out), f.Survive); floor < 0 {
			return indivisible("%s: %d pods are to be left when %d environments are lost, and there %s %d", f.Key, f.Pods, f.Survive, isAre(len(out)), len(out))
		}
	}
	shares := o.shares(f, floor)
	total, least := f.Pods, 0
	for i := range shares {
		if shares[i].Most < floor {
			return indivisible("%s: %s has room for %d pods, and each of the %d environments needs %d, so that %d are left when %d of them are lost",
				f.Key, out[i].Cluster, shares[i].Most, len(out), floor, f.Pods, f.Survive)
		}
		least += shares[i].Least
	}
	// What every cluster must have may be more than what was asked for in all.
	pods, err := division.Divide(max(total, least), shares)
	var short *division.ShortageError
	switch {
	case errors.As(err, &short):
		return indivisible("%s: the %d environments have room for %d of %d pods", f.Key, len(out), short.Capacity, short.Total)
	case err != nil:
		return fmt.Errorf("scheduler: function %s: %w", f.Key, err)
	}
	for i := range pods {
		give(i, pods[i])
	}
	return nil
}

func indivisible(format string, args ...any) *UnsatisfiableError {
	return &UnsatisfiableError{Constraint: "placement.divide", Problem: fmt.Sprintf(format, args...)}
}

// shares weighs the clusters for a function: by what is free, or by their ready nodes,
// where all say that, and else as equals.
func (o *selection) shares(f *Function, floor int) []division.Share {
	weigh := o.weights(f)
	out := make([]division.Share, len(o.chosen))
	for i := range o.chosen {
		c := o.chosen[i].cluster
		now := f.Now[c.Name]
		most := capacity(c, f.Need, now)
		if f.Most > 0 {
			most = min(most, f.Most)
		}
		// What the user wants in every cluster is his to know, whatever room there is.
		most = max(most, f.Least)
		out[i] = division.Share{Weight: weigh(c, now), Least: min(max(f.Least, floor), most), Most: most, Prior: now}
	}
	return out
}

// weights tells how to weigh clusters. What the function has there now counts as free:
// it would not have to go.
func (o *selection) weights(f *Function) func(c *Cluster, now int) float64 {
	free, nodes := true, true
	for i := range o.chosen {
		c := o.chosen[i].cluster
		free = free && c.Resources.FreeMillicores != nil
		nodes = nodes && c.ReadyNodes > 0
	}
	switch {
	case free:
		return func(c *Cluster, now int) float64 {
			return max(float64(*c.Resources.FreeMillicores)+float64(now)*float64(f.Need.Millicores), 1)
		}
	case nodes:
		return func(c *Cluster, _ int) float64 { return float64(c.ReadyNodes) }
	default:
		return func(*Cluster, int) float64 { return 1 }
	}
}

// capacity is how many pods of that need a cluster can have, those that it has
// included; it has no bound where one is not known.
func capacity(c *Cluster, need Need, now int) int {
	most := math.MaxInt
	for _, kind := range []struct {
		need uint64
		free *uint64
	}{{need.Millicores, c.Resources.FreeMillicores}, {need.Bytes, c.Resources.FreeBytes}} {
		if kind.need > 0 && kind.free != nil {
			most = min(most, int(min(*kind.free/kind.need, math.MaxInt32))+now)
		}
	}
	return most
}

// objects is how available an object is on average over the shards, which need not have
// their replicas in all clusters; ok is false when that is what the clusters achieve.
func (o *selection) objects(spec *Spec, of []Assignment, voters int) (loss, up float64, ok bool) {
	if spec.Shards == nil || spec.Kind == Stateless {
		return 0, 0, false
	}
	ring, cluster := spec.Shards.nodes(of)
	if len(ring) == 0 {
		return 1, 0, true // the user gave environments, and no data node in any of them
	}
	if voters == len(of) && oneEach(ring, of) || len(ring) > maxRing || voters > maxReplicas {
		return 0, 0, false
	}
	need := 1
	if spec.Kind == Quorum {
		need = availability.Majority(voters)
	}
	shards := 0
	for first := range ring {
		n := beginningAt(first, len(ring), spec.Shards.Partitions)
		if n == 0 {
			continue
		}
		weights := make([]int, len(of))
		for k := range voters {
			if i := cluster[ring[(first+k)%len(ring)]]; i >= 0 {
				weights[i]++
			}
		}
		var votes []availability.Vote
		for i, w := range weights {
			if w > 0 {
				votes = append(votes, availability.Vote{Leaf: o.chosen[i].leaf, Weight: w})
			}
		}
		loss += float64(n) * o.scratch.e.Loss(votes, need)
		up += float64(n) * o.scratch.e.AtLeast(votes, need)
		shards += n
	}
	return loss / float64(shards), up / float64(shards), true
}

// oneEach says whether the data nodes of the ring are one in each cluster.
func oneEach(ring []uint64, of []Assignment) bool {
	return len(ring) == len(of) && !slices.ContainsFunc(of, func(a Assignment) bool { return len(a.NodeIDs) != 1 })
}
