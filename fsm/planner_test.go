package fsm_test

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

// What the planner goes by must not get into a state that older servers share.
func TestPlannerFieldsOfClustersNeedTheirLevel(t *testing.T) {
	r := newReplica(t)
	r.must(&pmpb.RaiseFeatureLevel{Level: 3})
	for name, row := range map[string]*pmpb.Cluster{
		"policy":         {Policy: &pmpb.ClusterPolicy{}},
		"outages":        {Outages: []*pmpb.Outage{{Start: timestamppb.New(epoch)}}},
		"totals":         {Totals: &pmpb.OutageTotals{}},
		"observed since": {ObservedSince: timestamppb.New(epoch)},
		"resources":      {Resources: &pmpb.NodeResources{}},
	} {
		row.Name = "e1"
		if res := r.try(&pmpb.PutCluster{Cluster: row}); !errors.Is(res.Err, fsm.ErrFeatureLevel) {
			t.Errorf("%s at level 3 gives %v", name, res.Err)
		}
	}
	r.must(&pmpb.PutCluster{Cluster: &pmpb.Cluster{Name: "e1"}})
}
