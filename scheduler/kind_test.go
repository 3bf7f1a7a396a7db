package scheduler_test

import (
	"encoding/json"
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"oaas.io/control-plane/scheduler"
)

// What one cluster is enough for needs fewer clusters, and an even number is as good
// as an odd one.
func TestKinds(t *testing.T) {
	four := []scheduler.Cluster{healthy("a", 0.99), healthy("b", 0.99), healthy("c", 0.99), healthy("d", 0.99)}
	for _, tc := range []struct {
		kind     scheduler.Kind
		target   float64
		n        int
		quorum   int
		achieved float64
	}{
		{scheduler.Quorum, 0.9997, 3, 2, 0.999702},
		{scheduler.Stateless, 0.9997, 2, 1, 0.9999},
		{scheduler.Eventual, 0.99999, 3, 1, 0.999999},
		{scheduler.Eventual, 0.99, 1, 1, 0.99},
	} {
		p := decide(t, scheduler.Snapshot{Clusters: four}, scheduler.Spec{Key: "k", Kind: tc.kind, AvailabilityTarget: &tc.target})
		if len(p.Clusters) != tc.n || p.Quorum != tc.quorum || math.Abs(p.Achieved-tc.achieved) > 1e-12 || p.Kind != tc.kind || !p.TargetMet {
			t.Errorf("%v for %v: %s", tc.kind, tc.target, p.Summary)
		}
	}
}

func TestKindIsReadAsItIsWritten(t *testing.T) {
	for _, k := range []scheduler.Kind{scheduler.Quorum, scheduler.Eventual, scheduler.Stateless} {
		text, err := json.Marshal(k)
		if err != nil {
			t.Fatal(err)
		}
		var back scheduler.Kind
		if err := json.Unmarshal(text, &back); err != nil || back != k {
			t.Errorf("%s: %q, %v", text, back, err)
		}
	}
	var k scheduler.Kind
	if err := json.Unmarshal([]byte(`"odd"`), &k); err == nil {
		t.Error("an unknown kind was read")
	}
}

// priced has three clusters for 100, and three for 60 that are a bit worse.
func priced(dear, cheap float64) []scheduler.Cluster {
	var out []scheduler.Cluster
	for _, name := range []string{"dear-1", "dear-2", "dear-3"} {
		c := healthy(name, 0.999)
		c.Cost = &dear
		out = append(out, c)
	}
	for _, name := range []string{"cheap-1", "cheap-2", "cheap-3"} {
		c := healthy(name, 0.998)
		c.Cost = &cheap
		out = append(out, c)
	}
	return out
}

// A deployment stays where it is unless it is to be rebalanced and that is worth it.
func TestStability(t *testing.T) {
	running := []string{"dear-1", "dear-2", "dear-3"}
	for _, tc := range []struct {
		name      string
		cheap     float64
		current   []string
		stability scheduler.Stability
		prefer    scheduler.Preference
		adds      int
		cost      float64
		passed    bool
	}{
		{name: "the cheapest when nothing runs", cheap: 60, adds: 3, cost: 180},
		{name: "the fewest when asked for", cheap: 60, prefer: scheduler.Fewest, adds: 3, cost: 300},
		{name: "kept despite a cheaper option", cheap: 60, current: running, cost: 300, passed: true},
		{name: "moved when asked for and worth it", cheap: 40, current: running, stability: scheduler.Rebalance, adds: 3, cost: 120},
		{name: "40 percent saved is not worth moving everything", cheap: 60, current: running, stability: scheduler.Rebalance, cost: 300, passed: true},
		{name: "4 percent saved is not worth moving anything", cheap: 96, current: running, stability: scheduler.Rebalance, cost: 300, passed: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := decide(t, scheduler.Snapshot{Clusters: priced(100, tc.cheap), Current: tc.current},
				scheduler.Spec{Key: "k", AvailabilityTarget: ptr(0.9999), Stability: tc.stability, Prefer: tc.prefer})
			if len(p.Changes.Add) != tc.adds || p.Cost == nil || *p.Cost != tc.cost || (p.Alternative != nil) != tc.passed {
				t.Fatalf("adds %v for %v, alternative %+v", p.Changes.Add, p.Cost, p.Alternative)
			}
			warned := slices.ContainsFunc(p.Explanation.Warnings, func(w scheduler.Warning) bool { return w.Code == scheduler.CodeKeptDespite })
			if warned != tc.passed {
				t.Errorf("warnings: %+v", p.Explanation.Warnings)
			}
			if a := p.Alternative; a != nil && (len(a.Clusters) != 3 || a.Cost != 3*tc.cheap || a.Moves != 3 || a.Disruption != 1 || math.Abs(a.Saving-(1-tc.cheap/100)) > 1e-12) {
				t.Errorf("alternative %+v", a)
			}
		})
	}
}

// The availability is told after every single step, and a new cluster comes before an
// old one goes.
func TestSteps(t *testing.T) {
	type step struct {
		Action  scheduler.Action
		Cluster string
		Up      float64
	}
	three := []scheduler.Cluster{healthy("a", 0.99), healthy("b", 0.99), healthy("c", 0.99), healthy("d", 0.5)}
	for _, tc := range []struct {
		name    string
		kind    scheduler.Kind
		current []string
		target  float64
		want    []step
	}{
		{name: "nothing runs", target: 0.9997},
		{name: "nothing changes", current: []string{"a", "b", "c"}, target: 0.9997},
		{name: "one is replaced", current: []string{"a", "b", "d"}, target: 0.9997, want: []step{
			{scheduler.Join, "c", 0.99*0.99 + 2*0.99*0.01*0.5}, {scheduler.Promote, "c", 0.99*0.99*0.99 + 3*0.99*0.99*0.01*0.5}, {scheduler.Leave, "d", 0.999702},
		}},
		{name: "one that is gone is replaced", current: []string{"a", "b", "gone"}, target: 0.9997, want: []step{
			{scheduler.Leave, "gone", 0}, {scheduler.Join, "c", 0.9801}, {scheduler.Promote, "c", 0.999702},
		}},
		{name: "without votes", kind: scheduler.Stateless, current: []string{"d"}, target: 0.99, want: []step{
			{scheduler.Join, "", 0.995}, {scheduler.Leave, "d", 0.99},
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := decide(t, scheduler.Snapshot{Clusters: three, Current: tc.current}, scheduler.Spec{Key: "k", Kind: tc.kind, AvailabilityTarget: &tc.target})
			var got []step
			for i, s := range p.Steps {
				one := step{Action: s.Action, Cluster: s.Cluster}
				if s.Achieved != nil {
					one.Up = math.Round(*s.Achieved*1e12) / 1e12
				}
				if i < len(tc.want) && tc.want[i].Cluster == "" {
					one.Cluster = "" // one of equal ones
				}
				got = append(got, one)
			}
			for i := range tc.want {
				tc.want[i].Up = math.Round(tc.want[i].Up*1e12) / 1e12
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
