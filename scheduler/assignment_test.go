package scheduler

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"oaas.io/control-plane/scheduler/availability"
	"oaas.io/control-plane/scheduler/shard"
)

// roomy is a fleet of so many clusters with the free CPU of each, in millicores.
func roomy(free ...uint64) Snapshot {
	var out Snapshot
	for i, f := range free {
		p := 0.99
		out.Clusters = append(out.Clusters, Cluster{
			Name: fmt.Sprintf("c-%d", i+1), Health: Healthy, Availability: &p, Resources: Resources{FreeMillicores: &f},
		})
	}
	return out
}

func podsOf(p *Plan, function string) map[string]int {
	out := map[string]int{}
	for _, a := range p.Assignments {
		out[a.Cluster] = a.Pods[function]
	}
	return out
}

func TestPodsAreDivided(t *testing.T) {
	for _, tt := range []struct {
		name     string
		function Function
		free     []uint64
		want     map[string]int
		err      string
	}{
		{name: "nothing to divide", function: Function{Least: 2}, free: []uint64{1000, 1000}, want: map[string]int{"c-1": 2, "c-2": 2}},
		{name: "nothing said", free: []uint64{1000, 1000}, want: map[string]int{"c-1": 0, "c-2": 0}},
		{name: "by what is free", function: Function{Pods: 7}, free: []uint64{53000, 24000, 23000}, want: map[string]int{"c-1": 3, "c-2": 2, "c-3": 2}},
		{name: "never below what the user wants in each", function: Function{Pods: 7, Least: 3}, free: []uint64{90000, 1000, 1000},
			want: map[string]int{"c-1": 3, "c-2": 3, "c-3": 3}},
		{name: "never above", function: Function{Pods: 7, Most: 3}, free: []uint64{90000, 1000, 1000}, want: map[string]int{"c-1": 3, "c-2": 2, "c-3": 2}},
		{name: "as far as there is room", function: Function{Pods: 7, Need: Need{Millicores: 500}}, free: []uint64{9000, 700, 300},
			want: map[string]int{"c-1": 6, "c-2": 1, "c-3": 0}},
		{name: "what runs there has its room", function: Function{Pods: 4, Need: Need{Millicores: 500}, Now: map[string]int{"c-1": 4}}, free: []uint64{0, 1000},
			want: map[string]int{"c-1": 3, "c-2": 1}},
		{name: "any one may be lost", function: Function{Pods: 6, Survive: 1}, free: []uint64{9000, 1000, 1000}, want: map[string]int{"c-1": 3, "c-2": 3, "c-3": 3}},
		{name: "too little room", function: Function{Key: "f", Pods: 7, Need: Need{Millicores: 500}}, free: []uint64{1000, 700},
			err: "placement.divide: f: the 2 environments have room for 3 of 7 pods"},
		{name: "too little room in one", function: Function{Key: "f", Pods: 6, Survive: 1, Need: Need{Millicores: 500}}, free: []uint64{9000, 9000, 1000},
			err: "placement.divide: f: c-3 has room for 2 pods, and each of the 3 environments needs 3, so that 6 are left when 1 of them are lost"},
		{name: "none would be left", function: Function{Key: "f", Pods: 6, Survive: 2}, free: []uint64{9000, 9000},
			err: "placement.divide: f: 6 pods are to be left when 2 environments are lost, and there are 2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			snap := roomy(tt.free...)
			spec := Spec{Key: "a", Functions: []Function{tt.function}}
			for _, c := range snap.Clusters {
				spec.TargetEnvs = append(spec.TargetEnvs, c.Name)
			}
			p, err := Decide(snap, spec)
			if tt.err != "" {
				var never *UnsatisfiableError
				if !errors.As(err, &never) || never.Error() != tt.err {
					t.Fatalf("%v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, podsOf(p, tt.function.Key)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// What the plan counts is what the table of shards has.
func TestShardsAreCountedAsAssigned(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 7).Draw(t, "clusters")
		snap, spec := roomy(make([]uint64, n)...), Spec{Key: "a", Kind: Quorum}
		for _, c := range snap.Clusters {
			spec.TargetEnvs = append(spec.TargetEnvs, c.Name)
		}
		spec.Shards = &Shards{
			UID: rapid.StringMatching(`[a-z]{4}`).Draw(t, "uid"), Partitions: rapid.IntRange(1, 12).Draw(t, "partitions"),
			Replicas: rapid.IntRange(0, 9).Draw(t, "replicas"),
		}
		if rapid.Bool().Draw(t, "own node ids") {
			spec.Shards.Nodes = map[string][]uint64{}
			next := uint64(1)
			for i := range n + 1 { // the last one is of a cluster that is not in the plan
				name := fmt.Sprintf("c-%d", i+1)
				for range rapid.IntRange(0, 2).Draw(t, "nodes") {
					spec.Shards.Nodes[name] = append(spec.Shards.Nodes[name], next*7%31)
					next++
				}
			}
		}
		p, err := Decide(snap, spec)
		if err != nil {
			t.Fatal(err)
		}
		owner := map[uint64]string{}
		var members []uint64
		for _, a := range p.Assignments {
			for _, id := range a.NodeIDs {
				owner[id] = a.Cluster
			}
			members = append(members, a.NodeIDs...)
		}
		if own := spec.Shards.Nodes; len(own) > 0 {
			members = nil
			for _, ids := range own {
				members = append(members, ids...)
			}
		}
		want := map[string][2]int{}
		table := shard.Assign(spec.Shards.Partitions, p.Voters, members)
		for _, s := range table {
			for i, node := range s.Replica {
				c := want[owner[node]]
				c[0]++
				if i == 0 {
					c[1]++
				}
				want[owner[node]] = c
			}
		}
		for _, a := range p.Assignments {
			if got := [2]int{a.Replicas, a.Primaries}; got != want[a.Cluster] {
				t.Errorf("%s has %v, the table %v", a.Cluster, got, want[a.Cluster])
			}
		}
		loss := objectsDown(snap, table, owner, availability.Majority(p.Voters))
		if math.Abs(loss-p.Loss) > 1e-12 {
			t.Errorf("objects are down %v of the time, the plan says %v", loss, p.Loss)
		}
		if p.TargetMet != (p.Loss <= permittedLoss(p.Target)) {
			t.Errorf("a loss of %v with the target %v, met %t", p.Loss, p.Target, p.TargetMet)
		}
		told := false
		for _, w := range p.Explanation.Warnings {
			told = told || strings.HasPrefix(string(w.Code), "Voters") || w.Code == CodeTargetUnreachable
		}
		if !p.TargetMet && (!told || p.Unreachable() == nil || len(p.Explanation.Relaxations) == 0) {
			t.Errorf("missed, and nobody says why: %+v", p.Explanation.Warnings)
		}
	})
}

// objectsDown adds up all states of the clusters, which are independent of each other.
func objectsDown(snap Snapshot, table []shard.Assignment, owner map[uint64]string, need int) float64 {
	down := 0.0
	for state := range 1 << len(snap.Clusters) {
		p, up := 1.0, map[string]bool{}
		for i, c := range snap.Clusters {
			if state>>i&1 == 1 {
				p, up[c.Name] = p**c.Availability, true
			} else {
				p *= 1 - *c.Availability
			}
		}
		for _, s := range table {
			votes := 0
			for _, node := range s.Replica {
				if up[owner[node]] {
					votes++
				}
			}
			if votes < need {
				down += p / float64(len(table))
			}
		}
	}
	return down
}

// One replica in one of three clusters is as available as that cluster, whatever a
// majority of the three would be.
func TestReplicasDecideOverObjects(t *testing.T) {
	target := 0.999
	spec := Spec{Key: "a", Kind: Quorum, Strong: true, AvailabilityTarget: &target, Shards: &Shards{UID: "u", Partitions: 3, Replicas: 1}}
	p, err := Decide(roomy(1, 1, 1), spec)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Clusters) != 3 || p.Voters != 1 || p.TargetMet || math.Abs(p.Achieved-0.99) > 1e-12 {
		t.Errorf("%d clusters, %d voters, met %t, %v", len(p.Clusters), p.Voters, p.TargetMet, p.Achieved)
	}
	want := []Relaxation{{Code: CodeChangeReplicas, Value: 3, Message: "set odgm.replica_count to 3, or leave it and odgm.env_node_ids out"}}
	if diff := cmp.Diff(want, p.Explanation.Relaxations); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if err := p.Unreachable(); err == nil || !strings.Contains(err.Reason, "each shard has 1 replica ") {
		t.Errorf("%v", err)
	}
	spec.Shards.Replicas = 3
	if p, err = Decide(roomy(1, 1, 1), spec); err != nil || !p.TargetMet || p.Voters != 3 {
		t.Errorf("%v %+v", err, p)
	}
}
