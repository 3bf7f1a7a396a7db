package registry

import (
	"errors"
	"os"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/google/go-cmp/cmp"

	"oaas.io/control-plane/model"
	"oaas.io/control-plane/scheduler"
)

// Every wish of the documented example arrives at the planner.
func TestPlacementIsTranslated(t *testing.T) {
	text, err := os.ReadFile("../model/testdata/placement.yaml")
	if err != nil {
		t.Fatal(err)
	}
	docs, err := model.DecodeManifest(text)
	if err != nil {
		t.Fatal(err)
	}
	doc := docs[0].Deployment
	doc.Placement.AntiAffinity = nil
	doc.Placement.Requires.Template = model.TemplateKnative
	want := &scheduler.Placement{
		Allow: []string{"eu-1", "eu-2", "eu-3", "us-1"}, Deny: []string{"eu-9"}, MatchLabels: map[string]string{"tier": "gold"},
		Selector: "!legacy,generation in (g7,g8)", Expression: "cluster.availability >= 0.99 && cluster.node_count >= 3",
		Tolerations:  []scheduler.Toleration{{Key: "dedicated", Value: "shop"}, {Key: "spot", Exists: true}},
		Capabilities: []string{"odgm", "knative"}, Architecture: "arm64", Need: scheduler.Need{Millicores: 1500, Bytes: 2 << 30},
		MaxCost: ref(250.0), MaxLatency: ref(30.0), Spread: []scheduler.Spread{{Topology: "region", Max: 2, Least: 2}, {Topology: "example.com/rack", Max: 1}}, MaxMoves: 1,
	}
	// Saturday, 02:30 in Berlin, and two hours earlier.
	open := time.Date(2026, 1, 3, 1, 30, 0, 0, time.UTC)
	for _, tc := range []struct {
		now    time.Time
		frozen bool
	}{{open, false}, {open.Add(-2 * time.Hour), true}} {
		want.Frozen = tc.frozen
		got, err := placementOf(nil, doc, tc.now)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("at %v (-want +got):\n%s", tc.now, diff)
		}
	}
	if preferenceOf(doc.Placement) != scheduler.Cheapest || stabilityOf(doc.Placement) != scheduler.Rebalance {
		t.Error("preference or stability was lost")
	}
	if preferenceOf(nil) != scheduler.ByDefault || stabilityOf(nil) != scheduler.Keep || preferenceOf(&model.Placement{Prefer: model.PreferFewest}) != scheduler.Fewest {
		t.Error("defaults")
	}
}

func TestPlacementRefusalsNameTheField(t *testing.T) {
	for field, p := range map[string]model.Placement{
		"placement.windows[0].zone":     {Windows: []model.MaintenanceWindow{{Start: "02:00", Duration: "1h", Zone: "Europe/Nowhere"}}},
		"placement.windows[0].duration": {Windows: []model.MaintenanceWindow{{Start: "02:00", Duration: "long", Zone: "UTC"}}},
		"placement.windows[0].days":     {Windows: []model.MaintenanceWindow{{Days: []model.Weekday{"day"}, Start: "02:00", Duration: "1h", Zone: "UTC"}}},
		"placement.windows[0].start":    {Windows: []model.MaintenanceWindow{{Start: "26:00", Duration: "1h", Zone: "UTC"}}},
	} {
		_, err := placementOf(nil, &model.OClassDeployment{Placement: &p}, time.Unix(0, 0))
		var e *Error
		if !errors.As(err, &e) || e.Code != Unprocessable || len(e.Problems) != 1 || e.Problems[0].Path != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	if got, err := placementOf(nil, &model.OClassDeployment{}, time.Unix(0, 0)); got != nil || err != nil {
		t.Errorf("without wishes: %v, %v", got, err)
	}
}
