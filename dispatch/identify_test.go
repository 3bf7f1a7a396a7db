package dispatch

import (
	"encoding/json"
	"math"
	"testing"

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
