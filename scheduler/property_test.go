package scheduler_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"math/rand"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"oaas.io/control-plane/scheduler"
	"oaas.io/control-plane/scheduler/availability"
)

func clusters() *rapid.Generator[[]scheduler.Cluster] {
	one := rapid.Custom(func(t *rapid.T) scheduler.Cluster {
		c := scheduler.Cluster{
			Name:   rapid.StringMatching(`[a-h][0-9]`).Draw(t, "name"),
			Health: rapid.SampledFrom([]scheduler.Health{scheduler.Healthy, scheduler.Healthy, scheduler.Healthy, scheduler.Degraded, scheduler.Suspect, scheduler.Unreachable, scheduler.Unknown}).Draw(t, "health"),
		}
		if rapid.Bool().Draw(t, "declared") {
			c.Availability = ptr(rapid.SampledFrom([]float64{0, 0.4, 0.9, 0.97, 0.99, 0.99, 0.999, 1, math.NaN(), 1.1}).Draw(t, "availability"))
		}
		if rapid.IntRange(0, 3).Draw(t, "racked") > 0 {
			c.Labels = map[string]string{"rack": rapid.SampledFrom([]string{"1", "2", "3"}).Draw(t, "rack")}
		}
		if rapid.Bool().Draw(t, "priced") {
			c.Cost = ptr(float64(rapid.IntRange(0, 5).Draw(t, "cost")))
		}
		return c
	})
	return rapid.Custom(func(t *rapid.T) []scheduler.Cluster {
		out := rapid.SliceOfNDistinct(one, 0, 12, func(c scheduler.Cluster) string { return c.Name }).Draw(t, "clusters")
		if rapid.Bool().Draw(t, "placed") {
			for i := range out {
				out[i].Region = rapid.SampledFrom([]string{"", "r1", "r2", "r3"}).Draw(t, "region")
				out[i].Zone = rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "zone")
			}
		}
		return out
	})
}

func specs() *rapid.Generator[scheduler.Spec] {
	return rapid.Custom(func(t *rapid.T) scheduler.Spec {
		names := rapid.SliceOfN(rapid.StringMatching(`[a-h][0-9]`), 0, 8)
		s := scheduler.Spec{
			Key:         rapid.StringN(0, 4, 8).Draw(t, "key"),
			Strong:      rapid.Bool().Draw(t, "strong"),
			MaxClusters: rapid.IntRange(0, 9).Draw(t, "max"),
		}
		s.Kind = rapid.SampledFrom([]scheduler.Kind{scheduler.Quorum, scheduler.Eventual, scheduler.Stateless}).Draw(t, "kind")
		s.Stability = rapid.SampledFrom([]scheduler.Stability{scheduler.Keep, scheduler.Rebalance}).Draw(t, "stability")
		s.Prefer = rapid.SampledFrom([]scheduler.Preference{scheduler.ByDefault, scheduler.Fewest, scheduler.Cheapest}).Draw(t, "prefer")
		if rapid.IntRange(0, 2).Draw(t, "spread") == 0 {
			s.Placement = &scheduler.Placement{Spread: []scheduler.Spread{{
				Topology: "rack", Max: rapid.IntRange(1, 3).Draw(t, "most"), Least: rapid.IntRange(0, 3).Draw(t, "least"),
			}}}
		}
		if rapid.Bool().Draw(t, "limited") {
			s.AvailableEnvs = names.Draw(t, "available")
		}
		if rapid.Bool().Draw(t, "wish") {
			s.AvailabilityTarget = ptr(rapid.SampledFrom([]float64{0, 0.5, 0.95, 0.99, 0.999, 0.9999, 0.999999, 1}).Draw(t, "target"))
		}
		return s
	})
}

func TestPlanIsAFunctionOfTheSetOfClusters(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		snap := scheduler.Snapshot{Clusters: clusters().Draw(t, "clusters")}
		spec := specs().Draw(t, "spec")
		for _, c := range snap.Clusters {
			if rapid.Bool().Draw(t, "current") {
				snap.Current = append(snap.Current, c.Name)
			}
		}
		rng := rand.New(rand.NewSource(rapid.Int64().Draw(t, "seed")))
		other := scheduler.Snapshot{Clusters: slices.Clone(snap.Clusters), Current: slices.Clone(snap.Current)}
		rng.Shuffle(len(other.Clusters), func(i, j int) { other.Clusters[i], other.Clusters[j] = other.Clusters[j], other.Clusters[i] })
		rng.Shuffle(len(other.Current), func(i, j int) { other.Current[i], other.Current[j] = other.Current[j], other.Current[i] })

		one, errOne := scheduler.Decide(snap, spec)
		two, errTwo := scheduler.Decide(other, spec)
		if fmt.Sprint(errOne) != fmt.Sprint(errTwo) {
			t.Fatalf("errors differ:\n%v\n%v", errOne, errTwo)
		}
		if errOne != nil {
			return
		}
		a, err := json.Marshal(one)
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(two)
		if err != nil {
			t.Fatal(err)
		}
		if string(a) != string(b) {
			t.Fatalf("plans differ:\n%s\n%s", a, b)
		}
	})
}

func TestPlanInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		snap := scheduler.Snapshot{Clusters: clusters().Draw(t, "clusters")}
		spec := specs().Draw(t, "spec")
		p, err := scheduler.Decide(snap, spec)
		var none *scheduler.NoCandidatesError
		var never *scheduler.UnsatisfiableError
		if errors.As(err, &never) && spec.Placement != nil {
			return
		}
		if errors.As(err, &none) {
			seen := map[string]bool{}
			for _, r := range none.Rejected {
				seen[r.Cluster] = true
			}
			for _, c := range snap.Clusters {
				if !seen[c.Name] {
					t.Fatalf("%s is not explained: %v", c.Name, none)
				}
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		n := len(p.Clusters)
		if n%2 == 0 && spec.Kind == scheduler.Quorum || n > scheduler.DefaultMaxClusters || spec.MaxClusters > 0 && n > spec.MaxClusters {
			t.Fatalf("%d clusters", n)
		}
		if p.Quorum != need(spec.Kind, n) || math.Abs(p.Achieved+p.Loss-1) > 1e-12 {
			t.Fatalf("quorum %d of %d, achieved %v, loss %v", p.Quorum, n, p.Achieved, p.Loss)
		}
		counted := 0
		for _, k := range p.Explanation.Counts {
			counted += k
		}
		if counted != len(p.Explanation.Candidates) || counted < len(snap.Clusters) {
			t.Fatalf("%d counted, %d explained, %d clusters", counted, len(p.Explanation.Candidates), len(snap.Clusters))
		}
		for i, name := range p.Clusters {
			if c := p.Explanation.Candidates[i]; c.Cluster != name || c.Verdict != scheduler.Selected {
				t.Fatalf("candidate %d is %+v, want %s selected", i, c, name)
			}
		}
		for _, r := range p.Explanation.Relaxations {
			checkRelaxation(t, snap, spec, r)
		}
	})
}

// checkRelaxation does what the plan proposes and wants the target met.
func checkRelaxation(t *rapid.T, snap scheduler.Snapshot, spec scheduler.Spec, r scheduler.Relaxation) {
	if spec.Placement != nil && r.Code == scheduler.CodeAddClusters {
		return // where they would have to be is not told
	}
	switch r.Code {
	case scheduler.CodeAdmitClusters:
		snap.Clusters = slices.Clone(snap.Clusters)
		for i := range snap.Clusters {
			if slices.Contains(r.Clusters, snap.Clusters[i].Name) {
				snap.Clusters[i].Health = scheduler.Healthy
			}
		}
		if r.Reason == scheduler.CodeNotInAvailableEnvs {
			spec.AvailableEnvs = append(slices.Clone(spec.AvailableEnvs), r.Clusters...)
		}
	case scheduler.CodeLowerTarget:
		spec.AvailabilityTarget = &r.Value
	case scheduler.CodeAddClusters:
		best, placed := 0.0, false
		p, err := scheduler.Decide(snap, spec)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range p.Explanation.Candidates {
			if c.Verdict != scheduler.Rejected {
				best = max(best, *c.Availability)
			}
		}
		for _, c := range snap.Clusters {
			placed = placed || c.Region+c.Zone != ""
		}
		for i := range int(r.Value) {
			name := fmt.Sprintf("extra-%d", i)
			extra := healthy(name, best)
			if placed {
				extra.Region = name
			}
			snap.Clusters = append(slices.Clone(snap.Clusters), extra)
			if len(spec.AvailableEnvs) > 0 {
				spec.AvailableEnvs = append(slices.Clone(spec.AvailableEnvs), name)
			}
		}
	default:
		t.Fatalf("unknown relaxation %q", r.Code)
	}
	p, err := scheduler.Decide(snap, spec)
	if err != nil {
		t.Fatal(err)
	}
	if !p.TargetMet {
		t.Fatalf("%q does not help: %s", r.Message, p.Summary)
	}
}

// Every subset is tried, so that nothing rests on the argument that the best n
// are the best set of size n.
func TestFewestClustersAgainstBruteForce(t *testing.T) {
	const instances = 10_000
	rng := rand.New(rand.NewSource(1))
	met := 0
	for i := range instances {
		n := 1 + rng.Intn(7)
		ps := make([]float64, n)
		snap := scheduler.Snapshot{}
		for j := range ps {
			ps[j] = 1 - math.Pow(10, -rng.Float64()*3.5)
			snap.Clusters = append(snap.Clusters, healthy(fmt.Sprintf("c%d", j), ps[j]))
			if rng.Intn(3) == 0 {
				snap.Current = append(snap.Current, fmt.Sprintf("c%d", j))
			}
		}
		target := 1 - math.Pow(10, -1-rng.Float64()*4)
		p := decide(t, snap, scheduler.Spec{AvailabilityTarget: &target})
		keepable, fewest, moves, best := bruteForce(ps, snap.Current, target)
		switch {
		case keepable > 0 && (len(p.Clusters) != keepable || len(p.Changes.Add) > 0):
			t.Fatalf("instance %d: %v in %v target %v: planned %v, %d of the current ones do", i, ps, snap.Current, target, p.Clusters, keepable)
		case keepable > 0:
		case fewest == 0 && p.TargetMet, fewest > 0 && len(p.Clusters) != fewest:
			t.Fatalf("instance %d: %v target %v: planned %v, the fewest are %d", i, ps, target, p.Clusters, fewest)
		case fewest == 0 && math.Abs(p.Achieved-best) > 1e-12:
			t.Fatalf("instance %d: %v: planned %v, the best possible is %v", i, ps, p.Achieved, best)
		case fewest > 0 && len(p.Changes.Add) != moves:
			t.Fatalf("instance %d: %v in %v: adds %v, %d would do", i, ps, snap.Current, p.Changes.Add, moves)
		}
		if p.TargetMet {
			met++
		}
	}
	if met == 0 || met == instances {
		t.Fatalf("%d of %d instances met: the instances test one side only", met, instances)
	}
	t.Logf("%d instances, %d met their target, 0 mismatches", instances, met)
}

// bruteForce is the fewest of the current clusters that meet the target; the fewest
// clusters of any odd set that does and the fewest new ones among such sets; and the
// best availability of any odd set.
func bruteForce(ps []float64, current []string, target float64) (keepable, fewest, moves int, best float64) {
	for s := uint(1); s < 1<<len(ps); s++ {
		n := bits.OnesCount(s)
		if n%2 == 0 {
			continue
		}
		var chosen []float64
		added := 0
		for j, p := range ps {
			if s&(1<<j) != 0 {
				chosen = append(chosen, p)
				if !slices.Contains(current, fmt.Sprintf("c%d", j)) {
					added++
				}
			}
		}
		d := availability.NewDistribution(len(chosen))
		for _, p := range chosen {
			d.Add(p)
		}
		a := d.AtLeast(availability.Majority(len(chosen)))
		best = max(best, a)
		if a < target {
			continue
		}
		if added == 0 && (keepable == 0 || n < keepable) {
			keepable = n
		}
		if fewest == 0 || n < fewest || n == fewest && added < moves {
			fewest, moves = n, added
		}
	}
	return keepable, fewest, moves, best
}

func need(k scheduler.Kind, n int) int {
	if k == scheduler.Quorum {
		return n/2 + 1
	}
	return 1
}

// A cluster that is named twice is one.
func TestCurrentClustersMayBeNamedTwice(t *testing.T) {
	all := []scheduler.Cluster{healthy("a", 0.99), {Name: "b", Health: scheduler.Unreachable}}
	once := decide(t, scheduler.Snapshot{Clusters: all, Current: []string{"a", "b"}}, scheduler.Spec{Key: "k"})
	twice := decide(t, scheduler.Snapshot{Clusters: all, Current: []string{"a", "b", "b", "a"}}, scheduler.Spec{Key: "k"})
	if diff := cmp.Diff(once, twice); diff != "" {
		t.Errorf("-once +twice:\n%s", diff)
	}
}

// What is kept of earlier plans must not show in later ones.
func TestPreparedFleetPlansLikeAFreshOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := clusters().Draw(t, "clusters")
		prepared, err := scheduler.Prepare(all, nil)
		if err != nil {
			t.Fatal(err)
		}
		spec := specs().Draw(t, "spec")
		for range 4 {
			// Mostly the same wish of other deployments that run elsewhere.
			spec.Key = rapid.StringN(0, 4, 8).Draw(t, "key")
			if rapid.IntRange(0, 3).Draw(t, "other wish") == 0 {
				spec = specs().Draw(t, "spec")
			}
			var current []string
			for _, c := range all {
				if rapid.Bool().Draw(t, "current") {
					current = append(current, c.Name)
				}
			}
			got, gotErr := prepared.Decide(spec, current)
			want, wantErr := scheduler.Decide(scheduler.Snapshot{Clusters: all, Current: current}, spec)
			if fmt.Sprint(gotErr) != fmt.Sprint(wantErr) {
				t.Fatalf("errors differ:\n%v\n%v", gotErr, wantErr)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("-fresh +prepared:\n%s", diff)
			}
		}
	})
}

// Every set is tried, with the failure domains, prices and kinds of deployments.
func TestBestSetAgainstBruteForce(t *testing.T) {
	met, kept := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		all := clusters().Draw(t, "clusters")
		all = slices.DeleteFunc(all, func(c scheduler.Cluster) bool {
			return c.Health != scheduler.Healthy || c.Availability != nil && !availability.Valid(*c.Availability)
		})
		if len(all) == 0 || len(all) > 8 {
			return
		}
		spec := specs().Draw(t, "spec")
		spec.AvailableEnvs, spec.Stability, spec.MaxClusters, spec.Strong = nil, scheduler.Keep, 0, false
		var current []string
		for _, c := range all {
			if rapid.IntRange(0, 2).Draw(t, "current") == 0 {
				current = append(current, c.Name)
			}
		}
		p, err := scheduler.Decide(scheduler.Snapshot{Clusters: all, Current: current}, spec)
		var never *scheduler.UnsatisfiableError
		var none *scheduler.NoCandidatesError
		if errors.As(err, &never) || errors.As(err, &none) {
			if want := bestOf(t, all, current, spec); want.loss < 2 {
				t.Fatalf("%v, but there is a set that loses %v", err, want.loss)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		want := bestOf(t, all, current, spec)
		// What cannot be used has no say in whether all prices are known.
		worth := worthOf(usable(all, spec.Placement), spec)
		switch got := worth(p.Clusters); {
		case p.TargetMet != want.met:
			t.Fatalf("met %v, want %v: %s", p.TargetMet, want.met, p.Summary)
		case !want.met && p.Loss > want.loss*(1+1e-6)+1e-15:
			t.Fatalf("loses %v, %v is possible", p.Loss, want.loss)
		case want.met && want.stays >= 0 && (len(p.Changes.Add) > 0 || got > want.stays+1e-9):
			t.Fatalf("%v, though a part of %v for %v does", p.Clusters, current, want.stays)
		case want.met && want.stays < 0 && got > want.worth+1e-9:
			t.Fatalf("%v for %v, though %v is possible", p.Clusters, got, want.worth)
		case want.met && want.stays < 0 && len(p.Changes.Keep) < want.keeps:
			t.Fatalf("keeps %v of %v, though %d can be kept", p.Changes.Keep, current, want.keeps)
		}
		if want.met {
			met++
		}
		if want.stays >= 0 {
			kept++
		}
	})
	if met == 0 || kept == 0 {
		t.Fatalf("%d met, %d stay: one side is not tested", met, kept)
	}
}

// worthOf gives the function of what a set costs.
func worthOf(all []scheduler.Cluster, spec scheduler.Spec) func([]string) float64 {
	cost, dearest := map[string]float64{}, 0.0
	for _, c := range all {
		if c.Cost != nil {
			cost[c.Name], dearest = *c.Cost, max(dearest, *c.Cost)
		}
	}
	priced := dearest > 0 && spec.Prefer != scheduler.Fewest && len(cost) == len(all) || dearest > 0 && spec.Prefer == scheduler.Cheapest && len(cost) > 0
	for _, c := range all {
		if c.Cost == nil {
			cost[c.Name] = dearest
		}
	}
	return func(set []string) float64 {
		if !priced {
			return float64(len(set))
		}
		sum := 0.0
		for _, name := range set {
			sum += cost[name]
		}
		return sum
	}
}

// optimum is what there is among all sets.
type optimum struct {
	met bool
	// loss is the lowest one.
	loss float64
	// worth is that of the best set that meets the target, and keeps the most that
	// one of these keeps.
	worth float64
	keeps int
	// stays is the worth of the best part of what runs that meets it; -1 for none.
	stays float64
}

func bestOf(t *rapid.T, all []scheduler.Cluster, current []string, spec scheduler.Spec) optimum {
	var leaves []availability.Place
	placed := false
	for _, c := range all {
		up := scheduler.AssumedAvailability
		if c.Availability != nil {
			up = *c.Availability
		}
		placed = placed || c.Region+c.Zone != ""
		leaves = append(leaves, availability.Place{Name: c.Name, Up: up, Region: c.Region, Zone: c.Zone})
	}
	if !placed {
		for i := range leaves { // each in a region of its own is independent of the others
			leaves[i].Region = leaves[i].Name
		}
	}
	shares := availability.DefaultShares()
	if !placed {
		shares = availability.Shares{}
	}
	tree, err := availability.Infer(leaves, shares, nil)
	if err != nil {
		t.Fatal(err)
	}
	target := scheduler.DefaultTarget
	if spec.AvailabilityTarget != nil {
		target = min(*spec.AvailabilityTarget, scheduler.MaxTarget)
	}
	out, worth, e := optimum{loss: 2, worth: math.Inf(1), stays: -1}, worthOf(usable(all, spec.Placement), spec), tree.Evaluator()
	for s := uint(1); s < 1<<len(all); s++ {
		n := bits.OnesCount(s)
		if n%2 == 0 && spec.Kind == scheduler.Quorum {
			continue
		}
		var names []string
		var votes []availability.Vote
		keeps := 0
		for i, c := range all {
			if s&(1<<i) != 0 {
				names, votes = append(names, c.Name), append(votes, availability.Vote{Leaf: i, Weight: 1})
				if slices.Contains(current, c.Name) {
					keeps++
				}
			}
		}
		if !spread(all, names, spec.Placement) {
			continue
		}
		loss := e.Loss(votes, need(spec.Kind, n))
		out.loss = min(out.loss, loss)
		if loss > 1-target+1e-15 {
			continue
		}
		out.met = true
		if w := worth(names); w < out.worth || w == out.worth && keeps > out.keeps {
			out.worth, out.keeps = w, keeps
		}
		if w := worth(names); keeps == n && (out.stays < 0 || w < out.stays) {
			out.stays = w
		}
	}
	return out
}

// usable are the clusters that say what they are to be spread over.
func usable(all []scheduler.Cluster, p *scheduler.Placement) []scheduler.Cluster {
	return slices.DeleteFunc(slices.Clone(all), func(c scheduler.Cluster) bool { return p != nil && c.Labels["rack"] == "" })
}

// spread says whether the set keeps the rules of the placement.
func spread(all []scheduler.Cluster, set []string, p *scheduler.Placement) bool {
	if p == nil {
		return true
	}
	racks := map[string]int{}
	for _, c := range all {
		if !slices.Contains(set, c.Name) {
			continue
		}
		rack, ok := c.Labels["rack"]
		if !ok {
			return false
		}
		if racks[rack]++; racks[rack] > p.Spread[0].Max {
			return false
		}
	}
	return len(racks) >= p.Spread[0].Least
}
