package scheduler_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"oaas.io/control-plane/scheduler"
)

// six clusters in three regions, of which c-1 to c-3 are the best.
func six(edit ...func(map[string]*scheduler.Cluster)) []scheduler.Cluster {
	var out []scheduler.Cluster
	for i, name := range []string{"a-1", "b-1", "c-1", "a-2", "b-2", "c-2"} {
		c := healthy(name, 0.995+float64(i)*0.0001)
		c.Labels = map[string]string{"rack": name[:1], "host": name}
		out = append(out, c)
	}
	by := map[string]*scheduler.Cluster{}
	for i := range out {
		by[out[i].Name] = &out[i]
	}
	for _, e := range edit {
		e(by)
	}
	return out
}

// What a deployment wishes, and what operators say, decides where it runs.
func TestWishes(t *testing.T) {
	three := []string{"a-1", "b-1", "c-1"}
	for _, tc := range []struct {
		name      string
		edit      func(map[string]*scheduler.Cluster)
		placement *scheduler.Placement
		current   []string
		target    float64
		kind      scheduler.Kind
		want      []string
		code      scheduler.Code // of the cluster, or of a warning
		about     string
	}{
		{name: "nothing", target: 0.9999, want: []string{"c-2", "b-2", "a-2"}},
		{name: "allow", target: 0.99, placement: &scheduler.Placement{Allow: []string{"a-1"}}, want: []string{"a-1"}, code: scheduler.CodeNotAllowed, about: "c-2"},
		{name: "a cordon keeps what is new away", target: 0.99, edit: func(by map[string]*scheduler.Cluster) { by["c-2"].Cordoned = true },
			want: []string{"b-2"}, code: scheduler.CodeCordoned, about: "c-2"},
		{name: "a cordon leaves what runs", target: 0.99, current: []string{"c-2"}, edit: func(by map[string]*scheduler.Cluster) { by["c-2"].Cordoned = true },
			want: []string{"c-2"}},
		{name: "a taint", target: 0.99, edit: func(by map[string]*scheduler.Cluster) { by["c-2"].Taints = []scheduler.Taint{{Key: "gpu"}} },
			want: []string{"b-2"}, code: scheduler.CodeTaintNotTolerated, about: "c-2"},
		{name: "a taint that is tolerated", target: 0.99, placement: &scheduler.Placement{Tolerations: []scheduler.Toleration{{Key: "gpu", Exists: true}}},
			edit: func(by map[string]*scheduler.Cluster) { by["c-2"].Taints = []scheduler.Taint{{Key: "gpu", Value: "x"}} }, want: []string{"c-2"}},
		{name: "a quota", target: 0.99, edit: func(by map[string]*scheduler.Cluster) { by["c-2"].Units, by["c-2"].MaxUnits = 3, 3 },
			want: []string{"b-2"}, code: scheduler.CodeQuotaExceeded, about: "c-2"},
		{name: "others are preferred", target: 0.99, edit: func(by map[string]*scheduler.Cluster) {
			by["c-2"].Taints = []scheduler.Taint{{Key: "old", Prefer: true}}
		}, want: []string{"b-2"}, code: scheduler.CodeDiscouraged, about: "c-2"},
		{name: "suspect, and others do", target: 0.99, edit: func(by map[string]*scheduler.Cluster) { by["c-2"].Health = scheduler.Suspect },
			want: []string{"b-2"}, code: scheduler.CodeDiscouraged, about: "c-2"},
		{name: "suspect, and runs there", target: 0.99, current: []string{"c-2"}, edit: func(by map[string]*scheduler.Cluster) { by["c-2"].Health = scheduler.Suspect },
			want: []string{"c-2"}},
		{name: "suspect, runs there, and costs something", target: 0.99, current: []string{"c-2"}, edit: func(by map[string]*scheduler.Cluster) {
			for _, c := range by {
				c.Cost = ptr(1.0)
			}
			by["c-2"].Health = scheduler.Suspect
		}, want: []string{"c-2"}},
		{name: "all are suspect", target: 0.9999, edit: func(by map[string]*scheduler.Cluster) {
			for _, c := range by {
				c.Health = scheduler.Suspect
			}
		}, want: []string{"c-2", "b-2", "a-2"}},
		{name: "others are preferred, but do not do", target: 0.9999, edit: func(by map[string]*scheduler.Cluster) {
			for _, name := range []string{"a-1", "b-1", "c-1", "c-2"} {
				by[name].Taints = []scheduler.Taint{{Key: "old", Prefer: true}}
			}
		}, want: []string{"c-2", "b-2", "a-2"}},
		{name: "spread over a label", target: 0.9999, placement: &scheduler.Placement{Spread: []scheduler.Spread{{Topology: "rack", Max: 1}}}, want: []string{"c-2", "b-2", "a-2"}},
		{name: "one of a label takes the next best", target: 0.9999, edit: func(by map[string]*scheduler.Cluster) { by["b-2"].Labels["rack"] = "c" },
			placement: &scheduler.Placement{Spread: []scheduler.Spread{{Topology: "rack", Max: 1}}}, want: []string{"c-2", "a-2", "b-1"}},
		{name: "more domains than the target needs", target: 0.9, kind: scheduler.Stateless,
			placement: &scheduler.Placement{Spread: []scheduler.Spread{{Topology: "rack", Least: 2}}}, want: []string{"c-2", "b-2"}},
		{name: "a cluster without the label", target: 0.99, edit: func(by map[string]*scheduler.Cluster) { delete(by["c-2"].Labels, "rack") },
			placement: &scheduler.Placement{Spread: []scheduler.Spread{{Topology: "rack", Max: 1}}}, want: []string{"b-2"}, code: scheduler.CodeTopologyUnknown, about: "c-2"},
		{name: "apart from another deployment", target: 0.99,
			placement: &scheduler.Placement{Apart: &scheduler.Apart{Topology: "rack", From: []scheduler.Neighbour{{Key: "shop.Order", Clusters: []string{"c-1", "gone"}}}}},
			want:      []string{"b-2"}, code: scheduler.CodeTooNear, about: "c-2"},
		{name: "what runs breaks the spread", target: 0.99, current: []string{"a-1", "a-2", "b-1"},
			placement: &scheduler.Placement{Spread: []scheduler.Spread{{Topology: "rack", Max: 1, Least: 3}}}, want: []string{"c-2", "a-2", "b-1"}},
		{name: "a closed window takes nothing away", target: 0.99, current: three, placement: &scheduler.Placement{Frozen: true},
			want: []string{"c-1", "b-1", "a-1"}, code: scheduler.CodeMovesHeld},
		{name: "a closed window lets some be added", target: 0.99999, current: three, placement: &scheduler.Placement{Frozen: true},
			want: []string{"c-2", "b-2", "c-1", "b-1", "a-1"}},
		{name: "so many at a time", target: 0.99, current: three, placement: &scheduler.Placement{MaxMoves: 1},
			want: []string{"c-1", "b-1", "a-1"}, code: scheduler.CodeMovesHeld},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var all []scheduler.Cluster
			if tc.edit != nil {
				all = six(tc.edit)
			} else {
				all = six()
			}
			p := decide(t, scheduler.Snapshot{Clusters: all, Current: tc.current},
				scheduler.Spec{Key: "k", AvailabilityTarget: &tc.target, Kind: tc.kind, Placement: tc.placement})
			if !slices.Equal(p.Clusters, tc.want) {
				t.Fatalf("%v, want %v: %+v", p.Clusters, tc.want, p.Explanation.Warnings)
			}
			found := tc.code == ""
			for _, c := range p.Explanation.Candidates {
				found = found || c.Cluster == tc.about && c.Code == tc.code && strings.HasPrefix(c.Message, tc.about+": ")
			}
			for _, w := range p.Explanation.Warnings {
				found = found || tc.about == "" && w.Code == tc.code
			}
			if !found {
				t.Errorf("no %s: %+v %+v", tc.code, p.Explanation.Candidates, p.Explanation.Warnings)
			}
			counted := 0
			for _, n := range p.Explanation.Counts {
				counted += n
			}
			if counted != len(all) {
				t.Errorf("%d of %d clusters are counted: %v", counted, len(all), p.Explanation.Counts)
			}
		})
	}
}

// Where it was measured how often clusters fail together, nothing is assumed.
func TestMeasuredDomains(t *testing.T) {
	all := six(func(by map[string]*scheduler.Cluster) {
		for name, c := range by {
			c.Region, c.Zone = name[:1], "z"
		}
	})
	domains := map[string]float64{"a": 1, "b": 1, "c": 0.9, "a/z": 1, "b/z": 1, "c/z": 1}
	p := decide(t, scheduler.Snapshot{Clusters: all, Domains: domains}, scheduler.Spec{Key: "k", AvailabilityTarget: ptr(0.9999)})
	if !slices.Equal(p.Clusters, []string{"b-2", "a-2", "b-1"}) || !p.TargetMet {
		t.Errorf("%v: %s", p.Clusters, p.Summary)
	}
	for _, w := range p.Explanation.Warnings {
		if w.Code == scheduler.CodeDomainsAssumed {
			t.Errorf("%s", w.Message)
		}
	}
}

// Wishes that cannot be are told by their name, and there is no partial plan.
func TestImpossibleWishes(t *testing.T) {
	var many []scheduler.Cluster
	for i := range 3 {
		c := healthy(fmt.Sprint("c", i), 0.99)
		c.Labels = map[string]string{"rack": "1"}
		for k := range 10_000 {
			c.Labels[fmt.Sprint("label-", k)] = strings.Repeat("x", k%100)
		}
		many = append(many, c)
	}
	for _, tc := range []struct {
		name      string
		placement scheduler.Placement
		max       int
		text      string
	}{
		{"too few domains", scheduler.Placement{Spread: []scheduler.Spread{{Topology: "rack", Least: 2}}}, 0,
			"placement.spread: rack: min_domains is 2, and the 3 usable environments are in 1"},
		{"more domains than clusters", scheduler.Placement{Spread: []scheduler.Spread{{Topology: "label-7", Least: 1}, {Topology: "rack", Max: 1, Least: 1}}}, 0, ""},
		{"expression", scheduler.Placement{Expression: "cluster.cost +"}, 0, "placement.expression"},
		{"allowed and denied", scheduler.Placement{Allow: []string{"a"}, Deny: []string{"a"}}, 0, "placement.deny"},
		{"spread twice", scheduler.Placement{Spread: []scheduler.Spread{{Topology: "rack", Max: 1}, {Topology: "rack", Least: 1}}}, 0, "placement.spread.topology"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := scheduler.Decide(scheduler.Snapshot{Clusters: many}, scheduler.Spec{Placement: &tc.placement, MaxClusters: tc.max})
			if tc.text == "" {
				if err != nil || len(p.Clusters) != 1 {
					t.Fatalf("%v, %v", p, err)
				}
				return
			}
			var never *scheduler.UnsatisfiableError
			var input *scheduler.InvalidInputError
			if p != nil || !errors.As(err, &never) && !errors.As(err, &input) || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("%v, %v", p, err)
			}
		})
	}
}

// A plan below its target names the clusters that one change would let in.
func TestRelaxationsLetClustersIn(t *testing.T) {
	for _, tc := range []struct {
		name      string
		edit      func(map[string]*scheduler.Cluster)
		placement *scheduler.Placement
		want      string
		reason    scheduler.Code
	}{
		{name: "uncordon", edit: func(by map[string]*scheduler.Cluster) {
			for _, name := range []string{"a-1", "b-1", "a-2", "b-2"} {
				by[name].Cordoned = true
			}
		}, want: "uncordon b-2", reason: scheduler.CodeCordoned},
		{name: "bring back", edit: func(by map[string]*scheduler.Cluster) {
			for _, name := range []string{"a-1", "b-1", "a-2", "b-2"} {
				by[name].Health = scheduler.Unreachable
			}
		}, want: "bring back b-2", reason: scheduler.CodeClusterUnreachable},
		{name: "allow", placement: &scheduler.Placement{Allow: []string{"c-1", "c-2"}}, want: "allow in the placement: b-2", reason: scheduler.CodeNotAllowed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			all := six()
			if tc.edit != nil {
				all = six(tc.edit)
			}
			p := decide(t, scheduler.Snapshot{Clusters: all}, scheduler.Spec{Key: "k", AvailabilityTarget: ptr(0.9999), Placement: tc.placement})
			if p.TargetMet || len(p.Explanation.Relaxations) == 0 {
				t.Fatalf("%s: %+v", p.Summary, p.Explanation.Relaxations)
			}
			r := p.Explanation.Relaxations[0]
			if r.Code != scheduler.CodeAdmitClusters || r.Reason != tc.reason || r.Message != tc.want || r.Value != 1 || !slices.Equal(r.Clusters, []string{"b-2"}) {
				t.Errorf("%+v", r)
			}
		})
	}
}
