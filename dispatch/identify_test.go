package dispatch

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
)

// TestAvailabilityWithoutAWord: a number that JSON cannot say would make every
// list that the cluster is in unanswerable.
func TestAvailabilityWithoutAWord(t *testing.T) {
	for _, p := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		row := &pmpb.Cluster{Name: "oaas-1"}
		if err := describe(row, &oaaspb.ClusterInfo{Name: "oaas-1", Availability: &p}); err != nil {
			t.Fatal(err)
		}
		if _, err := json.Marshal(row.Availability); err != nil || row.Availability == nil || *row.Availability >= 0 {
			t.Errorf("%v is stored as %v: %v", p, row.Availability, err)
		}
	}
	half := 0.5
	row := &pmpb.Cluster{Name: "oaas-1"}
	if err := describe(row, &oaaspb.ClusterInfo{Name: "oaas-1", Availability: &half}); err != nil || row.GetAvailability() != half {
		t.Errorf("0.5 is stored as %v: %v", row.Availability, err)
	}
}

// Pods that come and go are no reason to write: what is free is followed in steps.
func TestResourcesAreFollowedInSteps(t *testing.T) {
	row := &pmpb.Cluster{Name: "oaas-1"}
	total := uint64(32_000)
	for _, step := range []struct {
		free *uint64
		want *uint64
	}{
		{nil, nil},
		{new(uint64(16_000)), new(uint64(16_000))},
		{new(uint64(15_001)), new(uint64(16_000))},
		{new(uint64(15_000)), new(uint64(15_000))},
		{new(uint64(15_999)), new(uint64(15_000))},
		{new(uint64(500)), new(uint64(500))},
		{nil, nil},
		{new(uint64(0)), new(uint64(0))},
	} {
		info := &oaaspb.ClusterInfo{Name: "oaas-1", Resources: &oaaspb.ClusterResources{AllocatableMillicores: &total, FreeMillicores: step.free}}
		if err := describe(row, info); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(step.want, row.GetResources().FreeMillicores); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
	if err := describe(row, &oaaspb.ClusterInfo{Name: "oaas-1"}); err != nil || row.GetResources() != nil {
		t.Errorf("a manager that says nothing leaves %v: %v", row.GetResources(), err)
	}
}

// Servers of an earlier build would drop what they do not know of a row, and their state
// would differ.
func TestWhatOlderServersDoNotKeepIsNotStored(t *testing.T) {
	total := uint64(1)
	says := func() *oaaspb.ClusterInfo {
		return &oaaspb.ClusterInfo{
			Name: "oaas-1", NodeZones: []string{"eu-1a", "eu-1b"}, KnativeVersion: "1.20.0",
			Resources: &oaaspb.ClusterResources{AllocatableMillicores: &total},
		}
	}
	for level, want := range map[uint32]*pmpb.Cluster{
		fsm.PlannerFrom - 1: {Name: "oaas-1"},
		fsm.PlannerFrom:     {Name: "oaas-1", Resources: &pmpb.NodeResources{AllocatableMillicores: &total}},
		fsm.PodsFrom: {
			Name: "oaas-1", NodeZones: []string{"eu-1a", "eu-1b"}, KnativeVersion: "1.20.0",
			Resources: &pmpb.NodeResources{AllocatableMillicores: &total},
		},
	} {
		row, info := &pmpb.Cluster{Name: "oaas-1"}, says()
		forget(info, level)
		if err := describe(row, info); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, row, protocmp.Transform()); diff != "" {
			t.Errorf("level %d: -want +got:\n%s", level, diff)
		}
	}
}
