package scheduler_test

import (
	"strings"
	"testing"

	"oaas.io/control-plane/scheduler"
)

// The room between the least and the most pods of a function is of no use where nothing
// scales; the plan says so, of the clusters that it has chosen.
func TestRoomThatNobodyUses(t *testing.T) {
	with := func(capabilities ...string) scheduler.Cluster {
		c := healthy("a", 0.99)
		c.Capabilities = capabilities
		return c
	}
	elastic, fixed := scheduler.Function{Key: "Cart.add", Least: 2, Most: 4}, scheduler.Function{Key: "Cart.get", Least: 2, Most: 2}
	for _, tc := range []struct {
		name     string
		cluster  scheduler.Cluster
		function scheduler.Function
		want     string
	}{
		{"no autoscaler", with("odgm"), elastic, "the max_scale of Cart.add has no effect in a, which has no autoscaler: the pods stay at min_scale"},
		{"autoscaler", with("odgm", "hpa"), elastic, ""},
		{"knative", with("knative"), elastic, ""},
		{"nothing is known", with(), elastic, ""},
		{"no room", with("odgm"), fixed, ""},
		{"no limit", with("odgm"), scheduler.Function{Key: "Cart.get", Least: 2}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := scheduler.Decide(scheduler.Snapshot{Clusters: []scheduler.Cluster{tc.cluster}}, scheduler.Spec{Functions: []scheduler.Function{tc.function}})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, w := range p.Explanation.Warnings {
				if w.Code == scheduler.CodeNoAutoscaler {
					got = append(got, w.Message)
				}
			}
			if strings.Join(got, "|") != tc.want {
				t.Errorf("warnings %q, want %q", got, tc.want)
			}
		})
	}
}
