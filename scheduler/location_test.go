package scheduler

import (
	"slices"
	"testing"
)

func located() Snapshot {
	var out Snapshot
	for _, c := range []struct {
		name, region string
		p            float64
	}{{"eu-1", "eu", 0.99}, {"eu-2", "eu", 0.99}, {"us-1", "us", 0.999}, {"us-2", "us", 0.999}} {
		out.Clusters = append(out.Clusters, Cluster{Name: c.name, Region: c.region, Health: Healthy, Availability: &c.p})
	}
	return out
}

// Where a deployment is to be available it runs, unless the target asks for more.
func TestLocationIsPreferred(t *testing.T) {
	for _, tt := range []struct {
		name    string
		near    []string
		target  float64
		current []string
		// want are the regions of the chosen clusters: of equals the lot decides.
		want []string
		// code of a cluster in us that could be used.
		code Code
	}{
		{name: "anywhere", target: 0.985, want: []string{"us"}, code: CodeNotNeeded},
		{name: "in a region", near: []string{"eu"}, target: 0.985, want: []string{"eu"}, code: CodeDiscouraged},
		{name: "in one of several", near: []string{"eu", "us"}, target: 0.985, want: []string{"us"}, code: CodeNotNeeded},
		{name: "more of them", near: []string{"eu"}, target: 0.9985, want: []string{"eu", "eu"}, code: CodeDiscouraged},
		{name: "the target comes first", near: []string{"eu-1"}, target: 0.9985, want: []string{"us"}, code: CodeNotNeeded},
		{name: "nobody is there", near: []string{"mars"}, target: 0.985, want: []string{"us"}, code: CodeNotNeeded},
		{name: "what runs elsewhere stays", near: []string{"eu"}, target: 0.985, current: []string{"us-1"}, want: []string{"us"}, code: CodeNotNeeded},
	} {
		t.Run(tt.name, func(t *testing.T) {
			snap := located()
			snap.Current = tt.current
			p, err := Decide(snap, Spec{Key: "a", Kind: Stateless, AvailabilityTarget: &tt.target, Near: tt.near})
			if err != nil {
				t.Fatal(err)
			}
			var regions []string
			for _, name := range p.Clusters {
				regions = append(regions, name[:2])
			}
			if !slices.Equal(regions, tt.want) {
				t.Errorf("runs in %v, want %v", p.Clusters, tt.want)
			}
			for _, c := range p.Explanation.Candidates {
				outside := slices.ContainsFunc(c.Findings, func(f Finding) bool { return f.Code == CodeOutsideLocation })
				inside := len(tt.near) == 0 || slices.Contains(tt.near, c.Cluster) || slices.Contains(tt.near, c.Cluster[:2])
				if outside == inside {
					t.Errorf("%s: findings %v", c.Cluster, c.Findings)
				}
				if c.Cluster[:2] == "us" && c.Verdict == Feasible && c.Code != tt.code {
					t.Errorf("%s: %s, want %s", c.Cluster, c.Code, tt.code)
				}
			}
		})
	}
}

// Where those that are preferred are too few, no more others are used than it takes.
func TestFewDiscouragedClusters(t *testing.T) {
	for _, priced := range []bool{false, true} {
		for _, current := range [][]string{nil, {"us-1"}, {"us-1", "us-2", "eu-1"}} {
			snap := located()
			snap.Current = current
			for i := range snap.Clusters {
				cost := 10.0 + float64(i)
				if snap.Clusters[i].Region == "eu" {
					cost = 1000
				}
				if priced {
					snap.Clusters[i].Cost = &cost
				}
			}
			p, err := Decide(snap, Spec{Key: "a", Kind: Quorum, Strong: true, Near: []string{"eu"}})
			if err != nil {
				t.Fatal(err)
			}
			near := 0
			for _, name := range p.Clusters {
				if name[:2] == "eu" {
					near++
				}
			}
			if len(p.Clusters) != 3 || near != 2 && len(current) < 3 {
				t.Errorf("priced %t, running in %v: %v", priced, current, p.Clusters)
			}
			snap.Current = p.Clusters
			if again, err := Decide(snap, Spec{Key: "a", Kind: Quorum, Strong: true, Near: []string{"eu"}}); err != nil || len(again.Changes.Add) > 0 {
				t.Errorf("planned again, it becomes %v: %v", again.Clusters, err)
			}
		}
	}
}

// Plans of one package do not pass for those of another one where there are quotas.
func TestQuotaOfAPackage(t *testing.T) {
	snap := located()
	for i := range snap.Clusters {
		snap.Clusters[i].MaxUnitsPerPackage = 1
	}
	snap.Clusters[2].UnitsOf, snap.Clusters[3].UnitsOf = map[string]int{"shop": 1}, map[string]int{"shop": 1}
	fleet, err := Prepare(snap.Clusters, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ pkg, region string }{{"shop", "eu"}, {"bank", "us"}, {"shop", "eu"}} {
		p, err := fleet.Decide(Spec{Key: "a", Kind: Stateless, Package: tt.pkg}, nil)
		if err != nil || p.Clusters[0][:2] != tt.region {
			t.Errorf("%s runs in %v: %v", tt.pkg, p, err)
		}
	}
}
