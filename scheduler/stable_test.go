package scheduler

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// drawAnyCluster is a cluster of which anything may be true.
func drawAnyCluster(t *rapid.T, name string) Cluster {
	p := rapid.SampledFrom([]float64{0.4, 0.9, 0.95, 0.99, 0.995, 1}).Draw(t, "availability")
	c := Cluster{
		Name: name, Availability: &p, Health: Healthy,
		Region:   rapid.SampledFrom([]string{"", "eu", "us"}).Draw(t, "region"),
		Zone:     rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "zone"),
		Cordoned: rapid.IntRange(0, 5).Draw(t, "cordoned") == 0,
		Draining: rapid.IntRange(0, 8).Draw(t, "draining") == 0,
	}
	if rapid.IntRange(0, 4).Draw(t, "unhealthy") == 0 {
		c.Health = rapid.SampledFrom([]Health{Unknown, Degraded, Suspect, Unreachable}).Draw(t, "health")
	}
	if rapid.Bool().Draw(t, "priced") {
		cost := float64(rapid.IntRange(1, 5).Draw(t, "cost"))
		c.Cost = &cost
	}
	if rapid.IntRange(0, 4).Draw(t, "tainted") == 0 {
		c.Taints = []Taint{{Key: "x", Prefer: rapid.Bool().Draw(t, "prefer")}}
	}
	if rapid.Bool().Draw(t, "measured") {
		c.Latency = map[string]float64{"eu": float64(rapid.IntRange(0, 3).Draw(t, "latency")) * 10}
	}
	return c
}

func drawAnySpec(t *rapid.T) Spec {
	target := rapid.SampledFrom([]float64{0, 0.5, 0.9, 0.99, 0.9999, 1}).Draw(t, "target")
	out := Spec{
		Key: "k", Kind: rapid.SampledFrom([]Kind{Quorum, Stateless, Eventual}).Draw(t, "kind"), AvailabilityTarget: &target,
		MaxClusters: rapid.IntRange(0, 6).Draw(t, "most"), Prefer: rapid.SampledFrom([]Preference{ByDefault, Fewest, Cheapest}).Draw(t, "prefer"),
	}
	out.Strong = out.Kind == Quorum && rapid.Bool().Draw(t, "strong")
	if rapid.Bool().Draw(t, "located") {
		out.Near = []string{rapid.SampledFrom([]string{"eu", "us", "c-1"}).Draw(t, "near")}
	}
	if rapid.Bool().Draw(t, "spread") {
		out.Placement = &Placement{Spread: []Spread{{
			Topology: rapid.SampledFrom([]string{"region", "zone"}).Draw(t, "topology"),
			Max:      rapid.IntRange(0, 2).Draw(t, "most per domain"), Least: rapid.IntRange(1, 2).Draw(t, "least domains"),
		}}}
	}
	if rapid.Bool().Draw(t, "limited") {
		limit := float64(rapid.IntRange(0, 3).Draw(t, "limit")) * 10
		if out.Placement == nil {
			out.Placement = &Placement{}
		}
		out.Placement.MaxLatency = &limit
	}
	return out
}

// Whatever is wished for on whatever fleet: who plans again, and nothing has changed,
// moves nothing, and every cluster is counted once.
func TestPlannedAgainNothingMoves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var snap Snapshot
		for i := range rapid.IntRange(1, 9).Draw(t, "clusters") {
			c := drawAnyCluster(t, fmt.Sprintf("c-%d", i))
			snap.Clusters = append(snap.Clusters, c)
			if rapid.IntRange(0, 3).Draw(t, "runs") == 0 {
				snap.Current = append(snap.Current, c.Name)
			}
		}
		spec := drawAnySpec(t)
		p, err := Decide(snap, spec)
		if err != nil {
			t.Skip("nothing can be planned")
		}
		codes := map[Code]int{}
		for _, c := range p.Explanation.Candidates {
			codes[c.Code]++
		}
		for code, n := range codes {
			// Not all of them are told one by one.
			if p.Explanation.Counts[code] < n {
				t.Fatalf("%d are told to be %s, %d are counted", n, code, p.Explanation.Counts[code])
			}
		}
		counted := 0
		for _, n := range p.Explanation.Counts {
			counted += n
		}
		if counted != len(snap.Clusters) {
			t.Fatalf("%d of %d clusters are counted: %v", counted, len(snap.Clusters), p.Explanation.Counts)
		}
		again, err := Decide(Snapshot{Clusters: snap.Clusters, Current: p.Clusters}, spec)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(slices.Sorted(slices.Values(again.Clusters)), slices.Sorted(slices.Values(p.Clusters))) {
			t.Fatalf("%v, where %v ran; planned again %v", p.Clusters, snap.Current, again.Clusters)
		}
	})
}

// What is told of a cluster is what it is counted as: one that is suspect is not shunned
// where the deployment runs.
func TestSuspectClusterThatIsLeftIsCountedAsTold(t *testing.T) {
	well, poor, target := 0.9, 0.4, 0.5
	snap := Snapshot{Current: []string{"c-1"}, Clusters: []Cluster{
		{Name: "c-0", Availability: &well, Health: Healthy}, {Name: "c-1", Availability: &poor, Health: Suspect},
	}}
	p, err := Decide(snap, Spec{Key: "k", Kind: Quorum, AvailabilityTarget: &target})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range p.Explanation.Candidates {
		if p.Explanation.Counts[c.Code] != 1 {
			t.Errorf("%s is told to be %s; counted are %v", c.Cluster, c.Code, p.Explanation.Counts)
		}
	}
}
