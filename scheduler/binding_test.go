package scheduler

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// valueOf is what a plan costs, or its size where there are no prices.
func valueOf(p *Plan) float64 {
	if p.Cost != nil {
		return *p.Cost
	}
	return float64(len(p.Clusters))
}

// A filter is told as binding if, and only if, the plan is better without it, and is as
// much better as is told.
func TestBindingFilters(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var snap Snapshot
		priced := rapid.Bool().Draw(t, "priced")
		for i := range rapid.IntRange(1, 7).Draw(t, "clusters") {
			p := rapid.SampledFrom([]float64{0.9, 0.95, 0.99, 0.995}).Draw(t, "availability")
			c := Cluster{Name: fmt.Sprintf("c-%d", i), Health: Healthy, Availability: &p, Cordoned: rapid.Bool().Draw(t, "cordoned")}
			if rapid.Bool().Draw(t, "placed") {
				c.Region = rapid.SampledFrom([]string{"eu", "us"}).Draw(t, "region")
			}
			if priced {
				cost := float64(rapid.IntRange(1, 9).Draw(t, "cost"))
				c.Cost = &cost
			}
			snap.Clusters = append(snap.Clusters, c)
		}
		target := rapid.SampledFrom([]float64{0.9, 0.98, 0.995, 0.9995}).Draw(t, "target")
		spec := Spec{Key: "a", Kind: rapid.SampledFrom([]Kind{Quorum, Stateless}).Draw(t, "kind"), AvailabilityTarget: &target}
		p, err := Decide(snap, spec)
		if err != nil || !p.TargetMet {
			t.Skip("nothing to improve")
		}
		lifted := Snapshot{Clusters: slices.Clone(snap.Clusters)}
		for i := range lifted.Clusters {
			lifted.Clusters[i].Cordoned = false
		}
		better, err := Decide(lifted, spec)
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Explanation.Binding) == 0 {
			if valueOf(better) < valueOf(p)-1e-9 {
				t.Fatalf("%v without the cordon instead of %v, and nothing is told", valueOf(better), valueOf(p))
			}
			return
		}
		b := p.Explanation.Binding[0]
		if len(p.Explanation.Binding) != 1 || b.Code != CodeCordoned || math.Abs(b.Value-valueOf(better)) > 1e-9 || math.Abs(b.Instead-valueOf(p)) > 1e-9 {
			t.Fatalf("told %+v, it is %v instead of %v", p.Explanation.Binding, valueOf(better), valueOf(p))
		}
		only := Snapshot{Clusters: slices.Clone(snap.Clusters)}
		for i := range only.Clusters {
			only.Clusters[i].Cordoned = only.Clusters[i].Cordoned && !slices.Contains(b.Clusters, only.Clusters[i].Name)
		}
		if some, err := Decide(only, spec); err != nil || math.Abs(valueOf(some)-b.Value) > 1e-9 {
			t.Fatalf("with %v alone it is %v, told was %v: %v", b.Clusters, valueOf(some), b.Value, err)
		}
	})
}

// A replacement is what the plan would achieve with it.
func TestReplacements(t *testing.T) {
	snap := Snapshot{}
	for _, c := range []struct {
		name string
		p    float64
		cost float64
	}{{"a", 0.99, 10}, {"b", 0.99, 10}, {"c", 0.99, 10}, {"d", 0.98, 40}, {"e", 0.9, 40}} {
		snap.Clusters = append(snap.Clusters, Cluster{Name: c.name, Health: Healthy, Availability: &c.p, Cost: &c.cost})
	}
	target := 0.9996
	p, err := Decide(snap, Spec{Key: "x", Kind: Quorum, AvailabilityTarget: &target})
	if err != nil || len(p.Clusters) != 3 {
		t.Fatalf("%v %v", p, err)
	}
	for i, name := range p.Clusters {
		got := p.Explanation.Candidates[i].ReplaceWith
		if got == nil || got.Cluster != "d" || got.CostChange == nil || *got.CostChange != 30 || got.TargetMet {
			t.Fatalf("%s: %+v", name, got)
		}
		with := slices.Clone(p.Clusters)
		with[i] = "d"
		named, err := Decide(snap, Spec{Key: "x", Kind: Quorum, TargetEnvs: with})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(named.Achieved, got.Achieved); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
