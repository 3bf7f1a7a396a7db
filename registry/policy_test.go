package registry

import (
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/scheduler"
	"oaas.io/control-plane/scheduler/availability"
)

func ref[T any](v T) *T { return &v }

func TestPoliciesAreChecked(t *testing.T) {
	many := map[string]string{}
	for i := range maxPolicyLabels + 1 {
		many[strings.Repeat("k", 1+i%60)+string(rune('a'+i%26))+string(rune('a'+i/26))] = ""
	}
	taint := func(key, value string, effect pmpb.Taint_Effect) *pmpb.Taint {
		return &pmpb.Taint{Key: key, Value: value, Effect: effect}
	}
	for field, policies := range map[string][]*pmpb.ClusterPolicy{
		"labels": {{Labels: many}, {Labels: map[string]string{"": "x"}}, {Labels: map[string]string{"a b": "x"}}, {Labels: map[string]string{"a": "-"}},
			{Labels: map[string]string{"UP.example/a": "x"}}, {Labels: map[string]string{strings.Repeat("a", 64): "x"}}},
		"taints": {{Taints: []*pmpb.Taint{taint("a", "", 0)}}, {Taints: []*pmpb.Taint{taint("", "", 1)}}, {Taints: []*pmpb.Taint{taint("a", "x y", 1)}},
			{Taints: []*pmpb.Taint{taint("a", "", 1), taint("a", "b", 1)}}, {Taints: make([]*pmpb.Taint, maxPolicyTaints+1)}},
		"availability":          {{Availability: ref(math.NaN())}, {Availability: ref(-0.1)}, {Availability: ref(1.1)}},
		"cost":                  {{Cost: ref(math.NaN())}, {Cost: ref(-1.0)}, {Cost: ref(math.Inf(1))}},
		"max_units":             {{MaxUnits: math.MaxUint64}},
		"max_units_per_package": {{MaxUnitsPerPackage: math.MaxUint64}},
		"latency_ms":            {{LatencyMs: map[string]float64{"us": -1}}, {LatencyMs: map[string]float64{"us": math.NaN()}}, {LatencyMs: map[string]float64{"": 1}}},
		"cordon_reason":         {{CordonReason: "because"}, {Cordoned: true, CordonReason: strings.Repeat("x", maxPolicyText+1)}},
		"zone":                  {{Zone: ref(strings.Repeat("x", maxPolicyText+1))}},
	} {
		for _, p := range policies {
			err := checkPolicy(p)
			if err == nil || CodeOf(err) != Unprocessable || !strings.HasPrefix(err.Error(), field+": ") {
				t.Errorf("%s: %v", field, err)
			}
		}
	}
	good := &pmpb.ClusterPolicy{
		Labels: map[string]string{"example.com/team": "a.b-c", "tier": ""}, Taints: []*pmpb.Taint{taint("gpu", "true", 1), taint("gpu", "", 2)},
		Availability: ref(1.0), Cost: ref(0.0), Cordoned: true, CordonReason: "moving", MaxUnits: 3, Region: ref(""),
	}
	if err := checkPolicy(good); err != nil {
		t.Error(err)
	}
}

// What operators say holds against what the cluster says, and a plan goes by it.
func TestPolicyInTheViewOfTheScheduler(t *testing.T) {
	row := &pmpb.Cluster{
		Name: "a", Region: "eu", Zone: "eu-1", Labels: map[string]string{"tier": "tin", "os": "linux"}, Availability: ref(0.9),
		Policy: &pmpb.ClusterPolicy{
			Labels: map[string]string{"tier": "gold"}, Zone: ref("eu-2"), Provider: "acme", Cordoned: true, CordonReason: "moving",
			Cost: ref(3.0), MaxUnits: 7, Taints: []*pmpb.Taint{{Key: "gpu", Value: "true", Effect: pmpb.Taint_EFFECT_PREFER_NO_SELECT}},
		},
	}
	got := view(row, Availability{Used: ref(0.999), Source: scheduler.Declared})
	switch {
	case got.Region != "eu", got.Zone != "eu-2", got.Provider != "acme", !got.Cordoned, got.CordonReason != "moving", *got.Cost != 3, got.MaxUnits != 7,
		got.Labels["tier"] != "gold", got.Labels["os"] != "linux", row.GetLabels()["tier"] != "tin",
		*got.Availability != 0.999, got.Source != scheduler.Declared,
		len(got.Taints) != 1, got.Taints[0] != scheduler.Taint{Key: "gpu", Value: "true", Prefer: true}:
		t.Errorf("%+v", got)
	}
}

func TestWhichAvailabilityCounts(t *testing.T) {
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(now.Add(-d)) }
	const day = 24 * time.Hour
	for _, tc := range []struct {
		name   string
		row    *pmpb.Cluster
		source scheduler.Source
		used   float64
	}{
		{"nothing is known", &pmpb.Cluster{}, "", 0},
		{"the cluster's word", &pmpb.Cluster{Availability: ref(0.9)}, scheduler.Reported, 0.9},
		{"an operator knows better", &pmpb.Cluster{Availability: ref(0.9), Policy: &pmpb.ClusterPolicy{Availability: ref(0.95)}}, scheduler.Declared, 0.95},
		{"a day is too short", &pmpb.Cluster{ObservedSince: ago(day)}, "", 0},
		// Golden: the table of lower bounds for the prior of one outage in 60 days.
		{"eight days without an outage", &pmpb.Cluster{ObservedSince: ago(8 * day)}, scheduler.Measured, 0.99907},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := observed(tc.row, now).Availability(tc.row)
			if a.Source != tc.source || (a.Used == nil) != (tc.source == "") {
				t.Fatalf("%+v", a)
			}
			if a.Used != nil && math.Abs(*a.Used-tc.used) > 5e-5 {
				t.Errorf("%v, want %v", *a.Used, tc.used)
			}
		})
	}
}

// observed is what is seen of one cluster when nothing is known of the others.
func observed(row *pmpb.Cluster, now time.Time) *Observations {
	out := &Observations{histories: map[string]availability.History{}, prior: availability.DefaultPrior(), now: now}
	if row.GetObservedSince() != nil {
		out.histories[row.GetName()] = historyOf(row)
	}
	return out
}

// Outages that are only summed up any more still count.
func TestSummedOutagesCount(t *testing.T) {
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	at := func(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(now.Add(-d)) }
	row := &pmpb.Cluster{ObservedSince: at(1000 * time.Hour)}
	without := observed(row, now).Availability(row).Measured
	row.Totals = &pmpb.OutageTotals{Count: 10, Seconds: 6000, Since: at(900 * time.Hour)}
	row.Outages = []*pmpb.Outage{{Start: at(100 * time.Hour), End: at(99 * time.Hour)}}
	with := observed(row, now).Availability(row).Measured
	if with.Lower >= without.Lower || with.Outages < 5 || with.Outages > 11 {
		t.Errorf("without %+v\nwith %+v", without, with)
	}
}
