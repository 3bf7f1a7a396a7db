package scheduler_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"oaas.io/control-plane/scheduler"
)

var update = flag.Bool("update", false, "write the golden files")

func ptr[T any](v T) *T { return &v }

func healthy(name string, p float64) scheduler.Cluster {
	return scheduler.Cluster{Name: name, Health: scheduler.Healthy, Availability: &p}
}

// fleet is the contract's example.
func fleet() []scheduler.Cluster {
	return []scheduler.Cluster{
		healthy("edge-a", 0.90), healthy("edge-b", 0.95), healthy("cloud-a", 0.99), healthy("cloud-b", 0.999), healthy("cloud-c", 0.97),
	}
}

func decide(t *testing.T, snap scheduler.Snapshot, spec scheduler.Spec) *scheduler.Plan {
	t.Helper()
	p, err := scheduler.Decide(snap, spec)
	if err != nil {
		t.Fatalf("Decide: %v", err)
	}
	return p
}

func TestChoice(t *testing.T) {
	two := []scheduler.Cluster{healthy("oaas-1", 0.99), healthy("oaas-2", 0.99)}
	for _, tc := range []struct {
		name     string
		clusters []scheduler.Cluster
		current  []string
		spec     scheduler.Spec
		want     []string
		achieved float64
		met      bool
		warnings []scheduler.Code
	}{
		{name: "one is enough", clusters: fleet(), spec: scheduler.Spec{AvailabilityTarget: ptr(0.99)},
			want: []string{"cloud-b"}, achieved: 0.999, met: true},
		{name: "three when one is not", clusters: fleet(), spec: scheduler.Spec{AvailabilityTarget: ptr(0.9996)},
			want: []string{"cloud-b", "cloud-a", "cloud-c"}, achieved: 0.9996606, met: true},
		{name: "five when three are not", clusters: fleet(), spec: scheduler.Spec{AvailabilityTarget: ptr(0.9997)},
			want: []string{"cloud-b", "cloud-a", "cloud-c", "edge-b", "edge-a"}, achieved: 0.999748926, met: true},
		{name: "strong takes three", clusters: fleet(), spec: scheduler.Spec{AvailabilityTarget: ptr(0.9), Strong: true},
			want: []string{"cloud-b", "cloud-a", "cloud-c"}, achieved: 0.9996606, met: true},
		{name: "default target", clusters: two[:1], want: []string{"oaas-1"}, achieved: 0.99, met: true},
		{name: "strong with one", clusters: two[:1], spec: scheduler.Spec{Strong: true},
			want: []string{"oaas-1"}, achieved: 0.99, met: true, warnings: []scheduler.Code{scheduler.CodeStrongUnderReplicated}},
		{name: "strong with two takes one", clusters: two, spec: scheduler.Spec{Strong: true, AvailableEnvs: []string{"oaas-2", "oaas-1"}},
			want: []string{"oaas-2"}, achieved: 0.99, met: true, warnings: []scheduler.Code{scheduler.CodeStrongUnderReplicated}},
		{name: "two are worse than one", clusters: two, spec: scheduler.Spec{AvailabilityTarget: ptr(0.999), AvailableEnvs: []string{"oaas-1", "oaas-2"}},
			want: []string{"oaas-1"}, achieved: 0.99, warnings: []scheduler.Code{scheduler.CodeTargetUnreachable}},
		{name: "explicit targets stay as they are", clusters: fleet(), spec: scheduler.Spec{TargetEnvs: []string{"edge-b", "edge-a", "edge-b"}},
			want: []string{"edge-b", "edge-a"}, achieved: 0.855, warnings: []scheduler.Code{scheduler.CodeEvenCount, scheduler.CodeTargetUnreachable}},
		{name: "explicit target that is unreachable", clusters: []scheduler.Cluster{{Name: "a", Health: scheduler.Unreachable}},
			spec: scheduler.Spec{TargetEnvs: []string{"a"}, AvailableEnvs: []string{"b"}}, want: []string{"a"}, achieved: 0.99, met: true},
		{name: "availability is assumed", clusters: []scheduler.Cluster{{Name: "a", Health: scheduler.Healthy, NodeCount: 4, ReadyNodes: 1}},
			want: []string{"a"}, achieved: 0.99, met: true},
		{name: "a worse cluster is worse than none", clusters: []scheduler.Cluster{healthy("a", 0.5), healthy("b", 0.97), healthy("c", 0.97), healthy("d", 0.97)},
			spec: scheduler.Spec{AvailabilityTarget: ptr(0.99), AvailableEnvs: []string{"a", "b", "c", "d"}}, want: []string{"b", "c", "d"}, achieved: 0.997354, met: true},
		{name: "a few good ones", clusters: []scheduler.Cluster{healthy("a", 0.9), healthy("b", 0.99), healthy("c", 0.999)},
			spec: scheduler.Spec{AvailabilityTarget: ptr(0.999)}, want: []string{"c"}, achieved: 0.999, met: true},
		{name: "rounding does not add clusters", clusters: []scheduler.Cluster{healthy("a", 0.9), healthy("b", 0.9), healthy("c", 0.9), healthy("d", 0.9), healthy("e", 0.9)},
			spec: scheduler.Spec{AvailabilityTarget: ptr(0.972), AvailableEnvs: []string{"a", "b", "c", "d", "e"}}, want: []string{"a", "b", "c"}, achieved: 0.972, met: true},
		{name: "no quorum helps", clusters: []scheduler.Cluster{healthy("a", 0.4), healthy("b", 0.3), healthy("c", 0.3)},
			want: []string{"a"}, achieved: 0.4, warnings: []scheduler.Code{scheduler.CodeQuorumCannotHelp, scheduler.CodeTargetUnreachable}},
		{name: "limit", clusters: fleet(), spec: scheduler.Spec{AvailabilityTarget: ptr(0.9997), MaxClusters: 4},
			want: []string{"cloud-b", "cloud-a", "cloud-c"}, achieved: 0.9996606, warnings: []scheduler.Code{scheduler.CodeTargetUnreachable}},
		{name: "certainty is capped", clusters: []scheduler.Cluster{healthy("a", 0.999999999)}, spec: scheduler.Spec{AvailabilityTarget: ptr(1.0)},
			want: []string{"a"}, achieved: 0.999999999, met: true},
		{name: "a target of nothing takes one", clusters: []scheduler.Cluster{healthy("a", 0)}, spec: scheduler.Spec{AvailabilityTarget: ptr(0.0)},
			want: []string{"a"}, achieved: 0, met: true},
		{name: "stays where it runs among equals", clusters: two, current: []string{"oaas-2"}, spec: scheduler.Spec{AvailableEnvs: []string{"oaas-1", "oaas-2"}},
			want: []string{"oaas-2"}, achieved: 0.99, met: true},
		{name: "stays in a worse cluster that is good enough", clusters: fleet(), current: []string{"cloud-a"},
			want: []string{"cloud-a"}, achieved: 0.99, met: true},
		{name: "leaves a cluster that is not", clusters: fleet(), current: []string{"edge-a"},
			want: []string{"cloud-b"}, achieved: 0.999, met: true, warnings: []scheduler.Code{scheduler.CodeDegradedOnTheWay}},
		{name: "keeps as many as the target allows", clusters: fleet(), current: []string{"edge-a", "edge-b"},
			spec: scheduler.Spec{AvailabilityTarget: ptr(0.9993)}, want: []string{"cloud-b", "cloud-a", "edge-b"}, achieved: 0.999441, met: true},
		{name: "does not flee from a cluster that is out of reach", clusters: []scheduler.Cluster{{Name: "a", Health: scheduler.Unreachable}, healthy("b", 0.99)},
			current: []string{"a"}, want: []string{"a"}, achieved: 0.99, met: true},
		{name: "available environments limit", clusters: fleet(), spec: scheduler.Spec{AvailableEnvs: []string{"edge-a", "moon", "edge-b"}, AvailabilityTarget: ptr(0.9)},
			want: []string{"edge-b"}, achieved: 0.95, met: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := decide(t, scheduler.Snapshot{Clusters: tc.clusters, Current: tc.current}, tc.spec)
			if diff := cmp.Diff(tc.want, p.Clusters); diff != "" {
				t.Errorf("clusters (-want +got):\n%s", diff)
			}
			if math.Abs(p.Achieved-tc.achieved) > 1e-12 {
				t.Errorf("achieved %.15f, want %.15f", p.Achieved, tc.achieved)
			}
			if p.TargetMet != tc.met || (p.Unreachable() == nil) != tc.met {
				t.Errorf("target met: %v, want %v", p.TargetMet, tc.met)
			}
			var got []scheduler.Code
			for _, w := range p.Explanation.Warnings {
				got = append(got, w.Code)
			}
			if diff := cmp.Diff(tc.warnings, got); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	unhealthy := []scheduler.Cluster{
		{Name: "c", Health: scheduler.Unreachable}, {Name: "a"}, {Name: "b", Health: scheduler.Degraded, Availability: ptr(math.NaN())},
	}
	for _, tc := range []struct {
		name     string
		clusters []scheduler.Cluster
		spec     scheduler.Spec
		want     error
		text     string
	}{
		{"unknown target", fleet()[:2], scheduler.Spec{TargetEnvs: []string{"mars", "edge-a", "moon"}},
			&scheduler.UnknownClustersError{}, "unknown environments: mars, moon (known environments: edge-a, edge-b)"},
		{"unknown target in an empty fleet", nil, scheduler.Spec{TargetEnvs: []string{"mars"}},
			&scheduler.UnknownClustersError{}, "unknown environments: mars (no environment is known)"},
		{"empty fleet", nil, scheduler.Spec{}, &scheduler.NoCandidatesError{}, "no environment is known"},
		{"nobody healthy", unhealthy, scheduler.Spec{}, &scheduler.NoCandidatesError{},
			"a: health is not known yet; b: degraded, availability NaN is not within 0..1; c: unreachable"},
		{"only unknown available", unhealthy[1:2], scheduler.Spec{AvailableEnvs: []string{"mars"}}, &scheduler.NoCandidatesError{},
			"a: not among the deployment's available environments, health is not known yet; mars: no such environment is known"},
		{"target above one", fleet(), scheduler.Spec{AvailabilityTarget: ptr(1.5)}, &scheduler.InvalidInputError{}, "scheduler: availability target: 1.5 is not within 0..1"},
		{"target not a number", fleet(), scheduler.Spec{AvailabilityTarget: ptr(math.NaN())}, &scheduler.InvalidInputError{}, "scheduler: availability target: NaN is not within 0..1"},
		{"negative limit", fleet(), scheduler.Spec{MaxClusters: -1}, &scheduler.InvalidInputError{}, "scheduler: max clusters: -1 is negative"},
		{"empty target", fleet(), scheduler.Spec{TargetEnvs: []string{""}}, &scheduler.InvalidInputError{}, "scheduler: target envs: has an empty name"},
		{"same cluster twice", append(fleet(), fleet()...), scheduler.Spec{}, &scheduler.InvalidInputError{}, `scheduler: clusters: "cloud-a" appears twice`},
		{"price that is none", []scheduler.Cluster{{Name: "a", Cost: ptr(math.NaN())}}, scheduler.Spec{}, &scheduler.InvalidInputError{}, "scheduler: clusters: a: NaN is no price"},
		{"kind that is none", fleet(), scheduler.Spec{Kind: "odd"}, &scheduler.InvalidInputError{}, `scheduler: kind: "odd" is none`},
		{"cluster without a name", []scheduler.Cluster{{}}, scheduler.Spec{}, &scheduler.InvalidInputError{}, "scheduler: clusters: one has no name"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := scheduler.Decide(scheduler.Snapshot{Clusters: tc.clusters}, tc.spec)
			if p != nil || err == nil {
				t.Fatalf("got plan %v, error %v", p, err)
			}
			if got, want := fmt.Sprintf("%T", err), fmt.Sprintf("%T", tc.want); got != want {
				t.Errorf("error is a %s, want %s", got, want)
			}
			if err.Error() != tc.text {
				t.Errorf("text %q, want %q", err.Error(), tc.text)
			}
		})
	}
}

// regional has three good clusters in one zone, and others elsewhere.
func regional() []scheduler.Cluster {
	at := func(name string, p float64, region, zone string) scheduler.Cluster {
		c := healthy(name, p)
		c.Region, c.Zone = region, zone
		return c
	}
	return []scheduler.Cluster{
		at("eu-1", 0.999, "eu", "a"), at("eu-2", 0.999, "eu", "a"), at("eu-3", 0.999, "eu", "a"),
		at("us-1", 0.997, "us", "a"), at("us-2", 0.99, "us", "b"), at("ap-1", 0.996, "ap", "a"), at("nowhere", 0.998, "", ""),
	}
}

// Clusters that go down together are not counted as if they did not.
func TestChoiceOverDomains(t *testing.T) {
	for _, tc := range []struct {
		name    string
		target  float64
		current []string
		// without are the regions whose clusters are left out.
		without []string
		want    []string
		met     bool
	}{
		{name: "one does", target: 0.999, want: []string{"eu-1"}, met: true},
		{name: "a zone is not enough", target: 0.99998, want: []string{"eu-1", "nowhere", "us-1"}, met: true},
		{name: "the target is met without moving", target: 0.9999, current: []string{"us-2", "ap-1", "eu-3"}, want: []string{"eu-3", "ap-1", "us-2"}, met: true},
		{name: "a current one beside a better one of its zone", target: 0.99998, current: []string{"eu-2"}, want: []string{"eu-2", "nowhere", "us-1"}, met: true},
		{name: "only one zone is left", target: 0.9999, without: []string{"us", "ap", ""}, want: []string{"eu-1", "eu-2", "eu-3"}, met: false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var all []scheduler.Cluster
			for _, c := range regional() {
				if !slices.Contains(tc.without, c.Region) {
					all = append(all, c)
				}
			}
			p := decide(t, scheduler.Snapshot{Clusters: all, Current: tc.current}, scheduler.Spec{Key: "k", AvailabilityTarget: &tc.target})
			if p.TargetMet != tc.met {
				t.Errorf("%s", p.Summary)
			}
			region := func(name string) string { return strings.TrimRight(name, "-123") }
			for i, name := range tc.want {
				// Which of equal ones of a zone is taken goes by the deployment.
				if i >= len(p.Clusters) || region(p.Clusters[i]) != region(name) || slices.Contains(tc.current, name) && p.Clusters[i] != name {
					t.Fatalf("%v, want %v", p.Clusters, tc.want)
				}
			}
			if len(p.Clusters) != len(tc.want) {
				t.Errorf("%v, want %v", p.Clusters, tc.want)
			}
		})
	}
}

// Users are told which domain stands in the way.
func TestLimitingDomain(t *testing.T) {
	for _, tc := range []struct {
		name   string
		spread bool
		target float64
		want   string
	}{
		{name: "one zone holds the majority", target: 0.999999, want: "3 of 3 environments are in eu/a, which is up 99.988 % of the time: without it there is no majority, so no more can be had from there"},
		{name: "the target is met", target: 0.999},
		{name: "no domain holds the majority", spread: true, target: 0.999999999},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var all []scheduler.Cluster
			for i, region := range []string{"eu", "us", "ap"} {
				c := healthy(fmt.Sprint("c-", i), 0.999)
				c.Region, c.Zone = "eu", "a"
				if tc.spread {
					c.Region = region
				}
				all = append(all, c)
			}
			got := ""
			for _, w := range decide(t, scheduler.Snapshot{Clusters: all}, scheduler.Spec{Key: "k", AvailabilityTarget: &tc.target}).Explanation.Warnings {
				if w.Code == scheduler.CodeLimitingDomain {
					got = w.Message
				}
			}
			if got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

// The whole plan as users get it, in the situations that need words.
func TestGoldenPlans(t *testing.T) {
	assumed := append(fleet(), scheduler.Cluster{Name: "new", Health: scheduler.Healthy},
		scheduler.Cluster{Name: "lost", Health: scheduler.Unreachable, Availability: ptr(0.99)})
	for name, in := range map[string]struct {
		snap scheduler.Snapshot
		spec scheduler.Spec
	}{
		"chosen":      {scheduler.Snapshot{Clusters: assumed}, scheduler.Spec{Key: "shop", AvailabilityTarget: ptr(0.9996)}},
		"unreachable": {scheduler.Snapshot{Clusters: assumed}, scheduler.Spec{Key: "shop", AvailabilityTarget: ptr(0.999999999)}},
		"kept":        {scheduler.Snapshot{Clusters: fleet(), Current: []string{"cloud-a", "gone"}}, scheduler.Spec{Key: "shop"}},
		"cheaper":     {scheduler.Snapshot{Clusters: priced(100, 60), Current: []string{"dear-1", "dear-2", "dear-3"}}, scheduler.Spec{Key: "shop", AvailabilityTarget: ptr(0.9999)}},
		"domains":     {scheduler.Snapshot{Clusters: regional()}, scheduler.Spec{Key: "shop", AvailabilityTarget: ptr(0.9999)}},
		"explicit":    {scheduler.Snapshot{Clusters: assumed}, scheduler.Spec{Key: "shop", TargetEnvs: []string{"lost", "new"}, Strong: true}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := json.MarshalIndent(decide(t, in.snap, in.spec), "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, '\n')
			file := filepath.Join("testdata", name+".golden.json")
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestLargeFleetIsExplainedWithinBounds(t *testing.T) {
	var snap scheduler.Snapshot
	for i := range 10_000 {
		snap.Clusters = append(snap.Clusters, healthy(fmt.Sprintf("cluster-%05d", i), 0.99))
	}
	p := decide(t, snap, scheduler.Spec{Key: "k", AvailabilityTarget: ptr(0.99999)})
	doc, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if len(doc) > 64<<10 {
		t.Errorf("the plan has %d bytes", len(doc))
	}
	if got := p.Explanation.Counts[scheduler.CodeNotNeeded]; got != 10_000-5 {
		t.Errorf("%d not needed", got)
	}
}

func TestEqualClustersShareTheLoad(t *testing.T) {
	snap := scheduler.Snapshot{Clusters: []scheduler.Cluster{healthy("a", 0.99), healthy("b", 0.99), healthy("c", 0.99)}}
	used := map[string]int{}
	for i := range 300 {
		used[decide(t, snap, scheduler.Spec{Key: fmt.Sprint("deployment-", i)}).Clusters[0]]++
	}
	for _, c := range snap.Clusters {
		if used[c.Name] < 60 {
			t.Errorf("%s got %d of 300", c.Name, used[c.Name])
		}
	}
}

func TestUnreachableErrorSaysWhatIsPossible(t *testing.T) {
	p := decide(t, scheduler.Snapshot{Clusters: fleet()}, scheduler.Spec{AvailabilityTarget: ptr(0.99999)})
	err := p.Unreachable()
	if err == nil {
		t.Fatal("no error")
	}
	for _, part := range []string{"99.999 %", "99.9749 %", "cloud-b, cloud-a, cloud-c, edge-b, edge-a"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is missing in %q", part, err)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{100, 1_000, 10_000} {
		var snap scheduler.Snapshot
		for i := range n {
			snap.Clusters = append(snap.Clusters, healthy(fmt.Sprintf("cluster-%05d", i), 0.99+float64(i%97)*1e-5))
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := scheduler.Decide(snap, scheduler.Spec{Key: "k", AvailabilityTarget: ptr(0.99999)}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
