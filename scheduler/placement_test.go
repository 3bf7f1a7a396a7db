package scheduler

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func of[T any](v T) *T { return &v }

// accepting is a cluster with which nothing is wrong.
func accepting() Cluster {
	return Cluster{
		Name: "eu-1", Region: "eu", Zone: "a", Provider: "acme", Health: Healthy, Availability: of(0.999),
		Labels:       map[string]string{"tier": "gold", ArchitectureLabel: "arm64"},
		Capabilities: []string{"odgm", "knative"}, NodeCount: 3, Cost: of(100.0), Units: 9, MaxUnits: 10,
		Resources: Resources{AllocatableMillicores: of(uint64(8000)), AllocatableBytes: of(uint64(8 << 30)),
			FreeMillicores: of(uint64(2000)), FreeBytes: of(uint64(1 << 30))},
	}
}

func compiled(tb testing.TB, p *Placement) *constraints {
	tb.Helper()
	c, err := p.compile()
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func TestCheck(t *testing.T) {
	for _, tc := range []struct {
		name      string
		change    func(*Cluster)
		placement *Placement
		current   bool
		wrong     []Finding
		noted     []Finding
	}{
		{name: "no placement"},
		{name: "no wishes", placement: &Placement{}},
		{name: "all wishes hold", placement: &Placement{
			Allow: []string{"eu-1"}, Deny: []string{"eu-2"}, MatchLabels: map[string]string{"tier": "gold"}, Selector: "tier,!gpu",
			Expression: `cluster.cost <= 100.0 && cluster.free_cpu == 2.0`, Capabilities: []string{"odgm"}, Architecture: "arm64",
			Need: Need{2000, 1 << 30}, MaxCost: of(100.0)}},
		{name: "denied", placement: &Placement{Deny: []string{"eu-1"}}, current: true,
			wrong: []Finding{{CodeDenied, "eu-1: denied by the deployment's placement"}}},
		{name: "not allowed", placement: &Placement{Allow: []string{"eu-2"}}, current: true,
			wrong: []Finding{{CodeNotAllowed, "eu-1: not among the environments that the deployment's placement allows"}}},
		{name: "labels", placement: &Placement{MatchLabels: map[string]string{"tier": "silver", "gpu": "yes"}, Selector: "tier!=gold"}, current: true,
			wrong: []Finding{{CodeLabelMismatch, `eu-1: no label gpu, which has to be "yes", label tier is "gold" and not "silver", its labels do not match "tier!=gold"`}}},
		{name: "expression false", placement: &Placement{Expression: `cluster.region == "us"`}, current: true,
			wrong: []Finding{{CodeExpressionFalse, `eu-1: the expression "cluster.region == \"us\"" is not true of it`}}},
		{name: "expression about a missing label", placement: &Placement{Expression: `cluster.labels.gpu == "yes"`},
			wrong: []Finding{{CodeExpressionError, "eu-1: the expression has no answer for it: no such key: gpu"}}},
		{name: "expression about an unknown cost", placement: &Placement{Expression: `cluster.cost < 5.0`}, change: func(c *Cluster) { c.Cost = nil },
			wrong: []Finding{{CodeExpressionError, "eu-1: the expression has no answer for it: NaN values cannot be ordered"}}},
		{name: "expression about an assumed availability", placement: &Placement{Expression: `cluster.availability == 0.99`}, change: func(c *Cluster) { c.Availability = nil }},
		{name: "capabilities", placement: &Placement{Capabilities: []string{"hpa", "odgm", "gpu"}, Architecture: "amd64"}, current: true,
			wrong: []Finding{{CodeCapabilityMissing, "eu-1: lacks the capability hpa, lacks the capability gpu, its architecture is arm64 and not amd64"}}},
		{name: "architecture not said", placement: &Placement{Architecture: "arm64"}, change: func(c *Cluster) { c.Labels = nil },
			wrong: []Finding{{CodeCapabilityMissing, "eu-1: reports no node of architecture arm64"}}},
		{name: "some nodes of the architecture", placement: &Placement{Architecture: "arm64"}, change: func(c *Cluster) {
			c.Labels, c.Capabilities = nil, []string{"arch:amd64", "arch:arm64"}
		}},
		{name: "the label decides", placement: &Placement{Architecture: "arm64"}, change: func(c *Cluster) {
			c.Labels, c.Capabilities = map[string]string{ArchitectureLabel: "amd64"}, []string{"arch:arm64"}
		}, wrong: []Finding{{CodeCapabilityMissing, "eu-1: its architecture is amd64 and not arm64"}}},
		{name: "taints without a placement", current: true,
			change: func(c *Cluster) {
				c.Taints = []Taint{{Key: "spot"}, {Key: "slow", Value: "very", Prefer: true}, {Key: "dedicated", Value: "shop"}}
			},
			wrong: []Finding{{CodeTaintNotTolerated, "eu-1: has taints that the deployment does not tolerate: spot, dedicated=shop"}},
			noted: []Finding{{CodeTaintPreferred, "eu-1: others are better for deployments that do not tolerate slow=very"}}},
		{name: "tolerated", placement: &Placement{Tolerations: []Toleration{{Key: "spot", Exists: true}, {Key: "dedicated", Value: "shop"}}},
			change: func(c *Cluster) {
				c.Taints = []Taint{{Key: "spot", Value: "1"}, {Key: "dedicated", Value: "shop"}, {Key: "spot", Prefer: true}}
			}},
		{name: "another value is not tolerated", placement: &Placement{Tolerations: []Toleration{{Key: "dedicated", Value: "shop"}}},
			change: func(c *Cluster) { c.Taints = []Taint{{Key: "dedicated", Value: "bank"}} },
			wrong:  []Finding{{CodeTaintNotTolerated, "eu-1: has taints that the deployment does not tolerate: dedicated=bank"}}},
		{name: "everything tolerated", placement: &Placement{Tolerations: []Toleration{{Exists: true}}},
			change: func(c *Cluster) { c.Taints = []Taint{{Key: "a"}, {Key: "b", Prefer: true}} }},
		{name: "cordoned", change: func(c *Cluster) { c.Cordoned, c.CordonReason = true, "new nodes" },
			wrong: []Finding{{CodeCordoned, "eu-1: cordoned (new nodes), so it is given nothing new"}}},
		{name: "cordoned, and it runs there", change: func(c *Cluster) { c.Cordoned = true }, current: true,
			noted: []Finding{{CodeCordoned, "eu-1: cordoned, so it is given nothing new"}}},
		{name: "quota", change: func(c *Cluster) { c.Units = 10 },
			wrong: []Finding{{CodeQuotaExceeded, "eu-1: has 10 of at most 10 units"}}},
		{name: "quota, and it runs there", change: func(c *Cluster) { c.Units = 10 }, current: true},
		{name: "quota of its package", change: func(c *Cluster) { c.MaxUnitsPerPackage, c.UnitsOf = 2, map[string]int{"shop": 2, "other": 1} },
			wrong: []Finding{{CodeQuotaExceeded, "eu-1: has 2 of at most 2 units of package shop"}}},
		{name: "quota of another package", change: func(c *Cluster) { c.MaxUnitsPerPackage, c.UnitsOf = 2, map[string]int{"other": 2} }},
		{name: "quota of its package, and it runs there", change: func(c *Cluster) { c.MaxUnitsPerPackage, c.UnitsOf = 2, map[string]int{"shop": 2} }, current: true},
		{name: "no quota", change: func(c *Cluster) { c.MaxUnits = 0 }},
		{name: "no room", placement: &Placement{Need: Need{2001, 1<<30 + 1}},
			wrong: []Finding{{CodeOutOfCapacity, "eu-1: 2000m of CPU free, 2001 needed, 1073741824 bytes of memory free, 1073741825 needed"}}},
		{name: "no room, and it runs there", placement: &Placement{Need: Need{2001, 1<<30 + 1}}, current: true},
		{name: "free room not known", placement: &Placement{Need: Need{8000, 1}}, change: func(c *Cluster) { c.Resources.FreeMillicores, c.Resources.FreeBytes = nil, nil },
			noted: []Finding{{CodeCapacityUnknown, "eu-1: does not say how much is free: CPU, memory"}}},
		{name: "too small even if empty", placement: &Placement{Need: Need{8001, 0}}, change: func(c *Cluster) { c.Resources.FreeMillicores = nil },
			wrong: []Finding{{CodeOutOfCapacity, "eu-1: 8000m of CPU in all, 8001 needed"}}},
		{name: "nothing known of its room", placement: &Placement{Need: Need{1, 0}}, change: func(c *Cluster) { c.Resources = Resources{} },
			noted: []Finding{{CodeCapacityUnknown, "eu-1: does not say how much is free: CPU"}}},
		{name: "too expensive", placement: &Placement{MaxCost: of(99.5)}, current: true,
			wrong: []Finding{{CodeTooExpensive, "eu-1: costs 100 in 30 days, and the limit is 99.5"}}},
		{name: "cost not known", placement: &Placement{MaxCost: of(0.0)}, change: func(c *Cluster) { c.Cost = nil },
			wrong: []Finding{{CodeTooExpensive, "eu-1: nobody said what it costs, and the limit is 0"}}},
		{name: "cost is not a number", placement: &Placement{MaxCost: of(5.0)}, change: func(c *Cluster) { c.Cost = of(math.NaN()) },
			wrong: []Finding{{CodeTooExpensive, "eu-1: costs NaN in 30 days, and the limit is 5"}}},
		{name: "everything at once", placement: &Placement{Deny: []string{"eu-1"}, Capabilities: []string{"hpa"}, Need: Need{9000, 0}},
			change: func(c *Cluster) { c.Cordoned, c.Units = true, 11 },
			wrong: []Finding{{CodeDenied, "eu-1: denied by the deployment's placement"}, {CodeCapabilityMissing, "eu-1: lacks the capability hpa"},
				{CodeCordoned, "eu-1: cordoned, so it is given nothing new"}, {CodeQuotaExceeded, "eu-1: has 11 of at most 10 units"},
				{CodeOutOfCapacity, "eu-1: 2000m of CPU free, 9000 needed"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cluster := accepting()
			if tc.change != nil {
				tc.change(&cluster)
			}
			wrong, noted := compiled(t, tc.placement).check(&cluster, "shop", tc.current)
			if diff := cmp.Diff(tc.wrong, wrong); diff != "" {
				t.Errorf("wrong (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.noted, noted); diff != "" {
				t.Errorf("noted (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPlacementRefused(t *testing.T) {
	for _, tc := range []struct {
		placement      Placement
		field, problem string
	}{
		{Placement{Allow: []string{""}}, "placement.allow", "has an empty name"},
		{Placement{Deny: []string{"a", ""}}, "placement.deny", "has an empty name"},
		{Placement{Capabilities: []string{""}}, "placement.requires.capabilities", "has an empty name"},
		{Placement{Allow: []string{"a", "b"}, Deny: []string{"b"}}, "placement.deny", `"b" is in placement.allow as well`},
		{Placement{Selector: "a in ("}, "placement.selector", "line 1, column 7: expected a comma or ) but the text ends"},
		{Placement{Selector: strings.Repeat("a", 5000)}, "placement.selector", "a selector of 5000 bytes is longer than 4096"},
		{Placement{Expression: "cluster.name"}, "placement.expression", "the expression is of the type string, not bool"},
		{Placement{Expression: "cluster.regoin == 'eu'"}, "placement.expression", "line 1, column 1: a cluster has no such field"},
		{Placement{Expression: strings.Repeat("(", 2000)}, "placement.expression", "recursion limit"},
		{Placement{Tolerations: []Toleration{{Exists: true}, {Value: "v"}}}, "placement.tolerations", "number 2 has neither a key nor the operator Exists"},
		{Placement{MaxCost: of(math.NaN())}, "placement.max_cost", "NaN is no price"},
		{Placement{MaxCost: of(math.Inf(1))}, "placement.max_cost", "+Inf is no price"},
		{Placement{MaxCost: of(-1.0)}, "placement.max_cost", "-1 is no price"},
		{Placement{MaxMoves: -1}, "placement.disruption.max_moves", "-1 is negative"},
		{Placement{Apart: &Apart{}}, "placement.anti_affinity.topology", "is empty"},
		{Placement{Spread: []Spread{{Max: 1}}}, "placement.spread.topology", `"" is none that clusters can share`},
		{Placement{Spread: []Spread{{Topology: "cluster", Max: 1}}}, "placement.spread.topology", `"cluster" is none`},
		{Placement{Spread: []Spread{{Topology: "zone", Max: 1}, {Topology: "zone", Least: 1}}}, "placement.spread.topology", `"zone" appears twice`},
		{Placement{Spread: []Spread{{Topology: "zone", Max: 1, Least: -1}}}, "placement.spread", "is negative"},
		{Placement{Spread: []Spread{{Topology: "zone"}}}, "placement.spread", "neither max_per_domain nor min_domains"},
	} {
		err := Spec{Placement: &tc.placement}.Validate()
		var e *InvalidInputError
		if !errors.As(err, &e) || e.Field != tc.field || !strings.Contains(e.Problem, tc.problem) {
			t.Errorf("%v, want %s: %s", err, tc.field, tc.problem)
		}
		if _, err := Decide(Snapshot{Clusters: []Cluster{accepting()}}, Spec{Placement: &tc.placement}); !errors.As(err, &e) {
			t.Errorf("decided with %s: %v", tc.field, err)
		}
	}
}

func TestDomainOf(t *testing.T) {
	c, unplaced := accepting(), Cluster{Name: "x", Zone: "a"}
	for topology, want := range map[string][2]string{
		TopologyCluster: {"eu-1", "x"}, TopologyRegion: {"eu", ""}, TopologyZone: {"eu/a", "(unknown)/a"}, TopologyProvider: {"acme", ""},
		"tier": {"gold", ""}, "": {"", ""},
	} {
		if got := [2]string{domainOf(&c, topology), domainOf(&unplaced, topology)}; got != want {
			t.Errorf("%q: %q, want %q", topology, got, want)
		}
	}
	// The fields come first.
	c.Labels = map[string]string{"region": "of a label"}
	if got := domainOf(&c, "region"); got != "eu" {
		t.Errorf("region %q", got)
	}
	if got := domainOf(&Cluster{Region: "eu"}, TopologyZone); got != "" {
		t.Errorf("zone %q of a cluster that has none", got)
	}
}

// Messages and effort stay bounded, whatever a cluster says of itself.
func TestCheckHostileCluster(t *testing.T) {
	long := strings.Repeat("ß", 1<<16)
	hostile := accepting()
	hostile.Cost, hostile.Availability, hostile.CordonReason, hostile.Cordoned = of(math.Inf(1)), of(math.NaN()), long, true
	hostile.Labels = map[string]string{ArchitectureLabel: long, "tier": long}
	for i := range 10_000 {
		hostile.Labels[fmt.Sprintf("k%d", i)] = long
		hostile.Taints = append(hostile.Taints, Taint{Key: fmt.Sprintf("t%d", i), Value: long, Prefer: i%2 == 0})
	}
	costly := `cluster.labels.all(a, cluster.labels.all(b, cluster.labels.all(c, a + b + c != "")))`
	wrong, noted := compiled(t, &Placement{
		MatchLabels: map[string]string{"tier": "gold", "gpu": long}, Selector: "!k1", Expression: costly,
		Capabilities: []string{long}, Architecture: "arm64", MaxCost: of(1e300),
	}).check(&hostile, "shop", false)
	var codes []Code
	for _, f := range append(slices.Clone(wrong), noted...) {
		codes = append(codes, f.Code)
		if len(f.Message) > 4096 {
			t.Errorf("%s: a message of %d bytes", f.Code, len(f.Message))
		}
	}
	want := []Code{CodeLabelMismatch, CodeExpressionError, CodeCapabilityMissing, CodeTaintNotTolerated, CodeCordoned, CodeTooExpensive, CodeTaintPreferred}
	if diff := cmp.Diff(want, codes); diff != "" {
		t.Errorf("codes (-want +got):\n%s", diff)
	}
	if !strings.Contains(wrong[1].Message, "cost limit exceeded") {
		t.Error(wrong[1].Message)
	}
	for _, expression := range []string{`cluster.cost > 1.0`, `cluster.availability < 0.5`} {
		hostile.Cost = of(math.NaN())
		if wrong, _ := compiled(t, &Placement{Expression: expression, Tolerations: []Toleration{{Exists: true}}}).check(&hostile, "shop", true); len(wrong) != 1 || wrong[0].Code != CodeExpressionError {
			t.Errorf("%s: %v", expression, wrong)
		}
	}
}

func TestExpressionsAreCompiledOnce(t *testing.T) {
	p := &Placement{Expression: `cluster.name == "compiled once"`}
	if a, b := compiled(t, p), compiled(t, &Placement{Expression: p.Expression}); a.program != b.program {
		t.Error("an equal expression was compiled again")
	}
}

// drawPlacement draws one that is valid, of few values so that they meet.
func drawPlacement(t *rapid.T) *Placement {
	few := func(name string, of ...string) []string {
		return rapid.SliceOfDistinct(rapid.SampledFrom(of), rapid.ID[string]).Draw(t, name)
	}
	p := &Placement{
		Selector:     rapid.SampledFrom([]string{"", "tier", "!tier", "tier in (gold,silver)"}).Draw(t, "selector"),
		Expression:   rapid.SampledFrom([]string{"", "true", `cluster.labels.tier == "gold"`, "cluster.cost < 50.0"}).Draw(t, "expression"),
		Capabilities: few("capabilities", "odgm", "knative"),
		Architecture: rapid.SampledFrom([]string{"", "arm64"}).Draw(t, "architecture"),
		Need:         Need{rapid.Uint64Range(0, 3).Draw(t, "cpu"), rapid.Uint64Range(0, 3).Draw(t, "memory")},
	}
	if list := few("names", "a", "b", "c"); rapid.Bool().Draw(t, "deny") {
		p.Deny = list
	} else {
		p.Allow = list
	}
	for _, key := range few("labels", "tier", "gpu") {
		if p.MatchLabels == nil {
			p.MatchLabels = map[string]string{}
		}
		p.MatchLabels[key] = rapid.SampledFrom([]string{"", "gold"}).Draw(t, "value")
	}
	for _, key := range few("tolerations", "spot", "slow") {
		p.Tolerations = append(p.Tolerations, Toleration{Key: key, Exists: rapid.Bool().Draw(t, "exists")})
	}
	if rapid.Bool().Draw(t, "limited") {
		p.MaxCost = of(rapid.Float64Range(0, 100).Draw(t, "max cost"))
	}
	return p
}

func drawCluster(t *rapid.T) Cluster {
	c := Cluster{
		Name: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "name"), Health: Healthy, Labels: map[string]string{},
		Capabilities: rapid.SliceOf(rapid.SampledFrom([]string{"odgm", "knative"})).Draw(t, "has"),
		Cordoned:     rapid.Bool().Draw(t, "cordoned"), Units: rapid.IntRange(0, 2).Draw(t, "units"), MaxUnits: rapid.IntRange(0, 2).Draw(t, "most"),
	}
	for _, key := range []string{"tier", "gpu", ArchitectureLabel} {
		if value := rapid.SampledFrom([]string{"-", "", "gold", "arm64"}).Draw(t, key); value != "-" {
			c.Labels[key] = value
		}
	}
	for _, key := range rapid.SliceOf(rapid.SampledFrom([]string{"spot", "slow"})).Draw(t, "taints") {
		c.Taints = append(c.Taints, Taint{Key: key, Prefer: rapid.Bool().Draw(t, "prefer")})
	}
	if rapid.Bool().Draw(t, "priced") {
		c.Cost = of(rapid.Float64().Draw(t, "cost"))
	}
	if rapid.Bool().Draw(t, "free") {
		c.Resources.FreeMillicores = of(rapid.Uint64Range(0, 3).Draw(t, "free cpu"))
	}
	return c
}

// What runs somewhere never has it harder to stay than a new one to come; each code
// appears once; the order in which lists are written, and repetitions, mean nothing.
func TestCheckProperties(t *testing.T) {
	codes := func(findings []Finding) (out []Code) {
		for _, f := range findings {
			out = append(out, f.Code)
		}
		return out
	}
	rapid.Check(t, func(t *rapid.T) {
		p, cluster := drawPlacement(t), drawCluster(t)
		c, err := p.compile()
		if err != nil {
			t.Fatal(err)
		}
		wrong, noted := c.check(&cluster, "shop", false)
		stays, _ := c.check(&cluster, "shop", true)
		for _, code := range codes(stays) {
			if !slices.Contains(codes(wrong), code) {
				t.Fatalf("%s is wrong only where it runs", code)
			}
		}
		all := codes(append(slices.Clone(wrong), noted...))
		if slices.Sort(all); len(slices.Compact(slices.Clone(all))) != len(all) {
			t.Fatalf("codes %v", all)
		}
		same := *p
		for _, list := range []*[]string{&same.Allow, &same.Deny, &same.Capabilities} {
			*list = append(slices.Clone(*list), *list...)
			slices.Reverse(*list)
		}
		if same.filterKey() != p.filterKey() {
			t.Fatalf("%s and %s", same.filterKey(), p.filterKey())
		}
		c2, err := same.compile()
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := c2.check(&cluster, "shop", false); !slices.Equal(codes(again), codes(wrong)) {
			t.Fatalf("%v, then %v", wrong, again)
		}
		// Equal keys mean equal answers.
		other := drawPlacement(t)
		if other.filterKey() == p.filterKey() {
			c3, err := other.compile()
			if err != nil {
				t.Fatal(err)
			}
			if again, _ := c3.check(&cluster, "shop", false); !slices.Equal(codes(again), codes(wrong)) {
				t.Fatalf("of equal keys: %v and %v", wrong, again)
			}
		}
	})
}

// Every part that a check looks at is in the key.
func TestFilterKeyTellsApart(t *testing.T) {
	seen := map[string]int{"": -1}
	for i, p := range []Placement{
		{}, {Allow: []string{"a"}}, {Deny: []string{"a"}}, {Capabilities: []string{"a"}}, {Allow: []string{"a", "b"}}, {Allow: []string{`a" "b`}},
		{MatchLabels: map[string]string{"a": ""}}, {MatchLabels: map[string]string{"a": "b"}}, {Selector: "a"}, {Expression: "a"}, {Architecture: "a"},
		{Tolerations: []Toleration{{Key: "a"}}}, {Tolerations: []Toleration{{Value: "a"}}}, {Tolerations: []Toleration{{Key: "a", Exists: true}}},
		{Need: Need{1, 0}}, {Need: Need{0, 1}}, {MaxCost: of(0.0)}, {MaxCost: of(1.0)},
	} {
		if first, there := seen[p.filterKey()]; there {
			t.Errorf("%d has the key of %d: %s", i, first, p.filterKey())
		}
		seen[p.filterKey()] = i
	}
	whole := Placement{Spread: []Spread{{Topology: "zone", Max: 1}}, Apart: &Apart{Topology: "zone"}, MaxMoves: 1, Frozen: true}
	if whole.filterKey() != (&Placement{}).filterKey() {
		t.Error("what is asked of the whole set is in the key")
	}
}

func BenchmarkCheck(b *testing.B) {
	clusters := make([]Cluster, 1000)
	for i := range clusters {
		clusters[i] = accepting()
		clusters[i].Name = fmt.Sprintf("eu-%d", i)
		clusters[i].Taints = []Taint{{Key: "spot"}}
	}
	full := Placement{
		Deny: []string{"us-1"}, MatchLabels: map[string]string{"tier": "gold"}, Selector: "tier in (gold,silver),!gpu",
		Tolerations: []Toleration{{Key: "spot", Exists: true}}, Capabilities: []string{"knative"}, Architecture: "arm64",
		Need: Need{1000, 1 << 20}, MaxCost: of(100.0),
	}
	withExpression := full
	withExpression.Expression = `cluster.region == "eu" && cluster.labels["tier"] in ["gold", "silver"]`
	for name, p := range map[string]*Placement{"full": &full, "expression": &withExpression} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c := compiled(b, p)
				for i := range clusters {
					if wrong, _ := c.check(&clusters[i], "shop", false); len(wrong) > 0 {
						b.Fatal(wrong)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(clusters)), "ns/cluster")
		})
	}
}
