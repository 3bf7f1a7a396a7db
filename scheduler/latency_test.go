package scheduler

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func drawDistant(t *rapid.T) Snapshot {
	var snap Snapshot
	priced := rapid.Bool().Draw(t, "priced")
	n := rapid.IntRange(1, 7).Draw(t, "clusters")
	for i := range n {
		p := rapid.SampledFrom([]float64{0.9, 0.95, 0.99, 0.995}).Draw(t, "availability")
		c := Cluster{Name: fmt.Sprintf("c-%d", i), Health: Healthy, Availability: &p, Latency: map[string]float64{}}
		c.Region = rapid.SampledFrom([]string{"eu", "us", "ap", ""}).Draw(t, "region")
		for _, to := range []string{"eu", "us", "ap", "c-0", "c-1"} {
			if rapid.IntRange(0, 2).Draw(t, "says") == 0 {
				c.Latency[to] = float64(rapid.IntRange(1, 4).Draw(t, "latency to "+to) * 10)
			}
		}
		if priced {
			cost := float64(rapid.IntRange(1, 9).Draw(t, "cost"))
			c.Cost = &cost
		}
		snap.Clusters = append(snap.Clusters, c)
	}
	return snap
}

// The set that is chosen is near, meets the target if any such set does, and is the best
// of those, as trying all of them tells.
func TestNearSetsAgainstAllSets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		snap := drawDistant(t)
		limit := float64(rapid.IntRange(1, 4).Draw(t, "limit") * 10)
		target := rapid.SampledFrom([]float64{0.9, 0.98, 0.995, 0.9995}).Draw(t, "target")
		spec := Spec{Key: "a", Kind: rapid.SampledFrom([]Kind{Quorum, Stateless}).Draw(t, "kind"), AvailabilityTarget: &target, Placement: &Placement{MaxLatency: &limit}}
		for i := range snap.Clusters {
			if rapid.IntRange(0, 3).Draw(t, "runs") == 0 {
				snap.Current = append(snap.Current, snap.Clusters[i].Name)
			}
		}
		fleet, err := Prepare(snap.Clusters, nil)
		if err != nil {
			t.Fatal(err)
		}
		p, err := fleet.Decide(spec, snap.Current)
		if err != nil {
			t.Fatal(err)
		}
		near := func(names []string) bool {
			for i := range names {
				for j := range i {
					if d, known := fleet.distance(fleet.byName[names[i]], fleet.byName[names[j]]); !known || d > limit {
						return false
					}
				}
			}
			return true
		}
		if !near(p.Clusters) {
			t.Fatalf("%v are too far from each other", p.Clusters)
		}
		value, loss := math.Inf(1), math.Inf(1)
		for set := uint(1); set < 1<<len(snap.Clusters); set++ {
			if spec.Kind == Quorum && bits.OnesCount(set)%2 == 0 {
				continue
			}
			var names []string
			for i := range snap.Clusters {
				if set>>i&1 == 1 {
					names = append(names, snap.Clusters[i].Name)
				}
			}
			if !near(names) {
				continue
			}
			named := spec
			named.TargetEnvs, named.Placement = names, nil
			one, err := fleet.Decide(named, nil)
			if err != nil {
				t.Fatal(err)
			}
			loss = min(loss, one.Loss)
			if one.TargetMet {
				value = min(value, valueOf(one))
			}
		}
		switch {
		case p.TargetMet == math.IsInf(value, 1):
			t.Fatalf("met %t, the best value is %v", p.TargetMet, value)
		case !p.TargetMet && p.Loss > loss*(1+1e-9):
			t.Fatalf("a loss of %v where %v is possible", p.Loss, loss)
		case p.TargetMet && len(p.Changes.Keep) == 0 && valueOf(p) > value+1e-9:
			t.Fatalf("%v for %v, where %v is possible", p.Clusters, valueOf(p), value)
		}
		again, err := fleet.Decide(spec, p.Clusters)
		if err != nil || !slices.Equal(slices.Sorted(slices.Values(again.Clusters)), slices.Sorted(slices.Values(p.Clusters))) {
			t.Fatalf("%v becomes %v when it is planned again: %v", p.Clusters, again.Clusters, err)
		}
	})
}

func TestLatency(t *testing.T) {
	snap := located()
	for i := range snap.Clusters {
		snap.Clusters[i].Latency = map[string]float64{"eu": 90, "us": 90}
		if snap.Clusters[i].Region == "eu" {
			snap.Clusters[i].Latency = map[string]float64{"eu": 5}
		}
	}
	plan := func(spec Spec) *Plan {
		t.Helper()
		spec.Key, spec.Kind = "a", Quorum
		p, err := Decide(snap, spec)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	limit := 20.0
	p := plan(Spec{TargetEnvs: []string{"eu-1", "us-1", "eu-2"}, Placement: &Placement{MaxLatency: &limit}})
	if p.LatencyMS == nil || *p.LatencyMS != 90 || !slices.ContainsFunc(p.Explanation.Warnings, func(w Warning) bool {
		return w.Code == CodeTooFar && w.Message == "eu-1 and us-1 are 90 ms apart, and the limit is 20 ms"
	}) {
		t.Errorf("%v %+v", p.LatencyMS, p.Explanation.Warnings)
	}
	// us-1 and us-2 are 90 ms apart, as they say of their own region.
	if p = plan(Spec{Strong: true, Placement: &Placement{MaxLatency: &limit}}); len(p.Clusters) != 1 {
		t.Errorf("%v", p.Clusters)
	}
	limit = 100
	if p = plan(Spec{Strong: true, Placement: &Placement{MaxLatency: &limit}}); len(p.Clusters) != 3 || *p.LatencyMS != 90 {
		t.Errorf("%v", p.Clusters)
	}

	target := 0.9985
	limit = 20
	p = plan(Spec{AvailabilityTarget: &target, Placement: &Placement{MaxLatency: &limit}})
	if len(p.Clusters) != 1 || !p.TargetMet {
		t.Errorf("%v", p.Clusters)
	}
	target = 0.99999
	p = plan(Spec{AvailabilityTarget: &target, Placement: &Placement{MaxLatency: &limit}})
	if p.TargetMet || len(p.Explanation.Relaxations) == 0 {
		t.Fatalf("%v", p.Explanation.Relaxations)
	}
	target = 0.99985
	p = plan(Spec{AvailabilityTarget: &target, Placement: &Placement{MaxLatency: &limit}})
	if r := p.Explanation.Relaxations[0]; p.TargetMet || r.Code != CodeRaiseLatency || r.Value != 90 || len(r.Clusters) != 3 {
		t.Fatalf("%+v", p.Explanation.Relaxations)
	}

	for _, bad := range []float64{-1, math.NaN(), math.Inf(1)} {
		var invalid *InvalidInputError
		if _, err := Decide(snap, Spec{Key: "a", Placement: &Placement{MaxLatency: &bad}}); !errors.As(err, &invalid) || invalid.Field != "placement.max_latency_ms" {
			t.Errorf("a limit of %v: %v", bad, err)
		}
		hostile := located()
		hostile.Clusters[0].Latency = map[string]float64{"x": bad}
		if _, err := Decide(hostile, Spec{Key: "a"}); !errors.As(err, &invalid) || !strings.Contains(invalid.Problem, "is no latency to x") {
			t.Errorf("a latency of %v: %v", bad, err)
		}
	}
}

// A fleet in which everybody is named by everybody has a class for each cluster, more
// than are tried. The plan is sound all the same, and says that there may be a better one.
func TestMoreClassesThanAreTried(t *testing.T) {
	var snap Snapshot
	p, limit := 0.9, 10.0
	for i := range 100 {
		c := Cluster{Name: fmt.Sprintf("c-%03d", i), Health: Healthy, Availability: &p, Latency: map[string]float64{}}
		for j := range 100 {
			c.Latency[fmt.Sprintf("c-%03d", j)] = float64((i*j)%3) * 10
		}
		snap.Clusters = append(snap.Clusters, c)
	}
	target := 0.999
	plan, err := Decide(snap, Spec{Key: "a", Kind: Quorum, AvailabilityTarget: &target, Placement: &Placement{MaxLatency: &limit}})
	if err != nil || !plan.TargetMet || !slices.ContainsFunc(plan.Explanation.Warnings, func(w Warning) bool { return w.Code == CodeSearchEnded }) {
		t.Fatalf("%v %v", plan, err)
	}
}
