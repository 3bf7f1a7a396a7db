package availability_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"oaas.io/control-plane/scheduler/availability"
)

func infer(t testing.TB, places []availability.Place, known map[string]float64) *availability.Tree {
	t.Helper()
	tree, err := availability.Infer(places, availability.DefaultShares(), known)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// Clusters of a zone share a tenth of their outages, those of a region a fiftieth.
func TestInferShares(t *testing.T) {
	at := func(zones ...string) float64 {
		var places []availability.Place
		for i, z := range zones {
			region, zone, _ := strings.Cut(z, "/")
			places = append(places, availability.Place{Name: fmt.Sprint(i), Up: 0.99, Region: region, Zone: zone})
		}
		return infer(t, places, nil).Evaluator().Loss(votes(len(zones)), len(zones)/2+1)
	}
	apart, zones, zone := at("r1/a", "r2/a", "r3/a"), at("r1/a", "r1/b", "r1/c"), at("r1/a", "r1/a", "r1/a")
	near(t, apart, 1-0.999702, 1e-12)
	if !(apart < zones && zones < zone) {
		t.Errorf("losses %g in three regions, %g in three zones, %g in one", apart, zones, zone)
	}
	near(t, zone, 0.0002+0.001, 3e-4) // the shared parts, and what is left for two to fail by themselves
	if unknown := at("", "", ""); unknown != zone {
		t.Errorf("clusters of unknown places lose %g, those of one zone %g", unknown, zone)
	}
	if one := at("r1/", "r1/", "r1/"); one != zone {
		t.Errorf("clusters of unknown zones of a region lose %g, those of one zone %g", one, zone)
	}
	if slash := infer(t, []availability.Place{{Name: "a", Up: 0.99, Region: "r", Zone: "z"}, {Name: "b", Up: 0.99, Region: "r/z"}, {Name: "c", Up: 0.99, Region: "(unknown)"}, {Name: "d", Up: 0.99}}, nil); slash.Domains() != 8 {
		t.Errorf("%d domains, want four regions with a zone each", slash.Domains())
	}
	if beside := at("r1/a", "r2/a", ""); beside != apart {
		t.Errorf("one of an unknown place beside two others loses %g, want %g", beside, apart)
	}
}

// However the outages are shared out, each cluster is up as often as was said, and
// the order of the clusters does not matter.
func TestInferKeepsMarginals(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var places []availability.Place
		for i := range rapid.IntRange(1, 12).Draw(t, "clusters") {
			places = append(places, availability.Place{
				Name: fmt.Sprint(i), Up: rapid.OneOf(rapid.Just(0.0), rapid.Just(1.0), rapid.Float64Range(0, 1)).Draw(t, "up"),
				Region: rapid.SampledFrom([]string{"", "r1", "r2"}).Draw(t, "region"), Zone: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "zone"),
			})
		}
		tree, err := availability.Infer(places, availability.DefaultShares(), nil)
		if err != nil {
			t.Fatal(err)
		}
		byName := map[string]float64{}
		for i, p := range places {
			if got := tree.Marginal(i); math.Abs(got-p.Up) > 1e-12 {
				t.Fatalf("%v is up with %.17g", p, got)
			}
			byName[p.Name] = tree.Up(i)
		}
		shuffled := rapid.Permutation(places).Draw(t, "order")
		again, err := availability.Infer(shuffled, availability.DefaultShares(), nil)
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range shuffled {
			if again.Up(i) != byName[p.Name] {
				t.Fatalf("%v: %.17g in one order and %.17g in another", p, again.Up(i), byName[p.Name])
			}
		}
	})
}

// What was measured of a domain counts, even against what its clusters say.
func TestInferKnown(t *testing.T) {
	places := []availability.Place{{Name: "a", Up: 0.999, Region: "r1", Zone: "a"}, {Name: "b", Up: 0.999, Region: "r2", Zone: "a"}}
	tree := infer(t, places, map[string]float64{"r1": 0.9, "r2/a": 0.9995})
	near(t, tree.Marginal(0), 0.9*(1-0.1*0.001), 1e-3)
	near(t, tree.Marginal(1), 0.999, 1e-12)
	if tree.Marginal(0) > 0.9 {
		t.Errorf("a cluster is up with %v, its region with 0.9", tree.Marginal(0))
	}
}

func TestInferRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		places []availability.Place
		shares availability.Shares
		known  map[string]float64
		want   string
	}{
		"availability": {[]availability.Place{{Name: "a", Up: math.NaN()}}, availability.DefaultShares(), nil, "cluster a: NaN"},
		"share":        {nil, availability.Shares{Zone: 2}, nil, "shares of common outages: 2"},
		"known":        {[]availability.Place{{Name: "a", Up: 1, Region: "r"}}, availability.DefaultShares(), map[string]float64{"r": -1}, "domain r: -1"},
		"twice":        {[]availability.Place{{Name: "a", Up: 1}, {Name: "a", Up: 1}}, availability.DefaultShares(), nil, "cluster a: it is described twice"},
	} {
		_, err := availability.Infer(tc.places, tc.shares, tc.known)
		var wrong *availability.ModelError
		if !errors.As(err, &wrong) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
