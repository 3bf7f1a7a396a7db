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

// Nor what clusters are suspected by.
func TestFailoverFieldsOfClustersNeedTheirLevel(t *testing.T) {
	r := newReplica(t)
	r.must(&pmpb.RaiseFeatureLevel{Level: fsm.FailoverFrom - 1})
	rows := map[string]*pmpb.Cluster{
		"suspect":            {Health: pmpb.ClusterHealth_CLUSTER_HEALTH_SUSPECT},
		"eligible":           {Health: pmpb.ClusterHealth_CLUSTER_HEALTH_FAILOVER_ELIGIBLE},
		"disconnected since": {DisconnectedSince: timestamppb.New(epoch)},
		"API server":         {ApiServerReady: new(bool)},
		"observations":       {Observations: []*pmpb.Observation{{ServerId: "s1"}}},
	}
	for name, row := range rows {
		row.Name = "e1"
		if res := r.try(&pmpb.PutCluster{Cluster: row}); !errors.Is(res.Err, fsm.ErrFeatureLevel) {
			t.Errorf("%s below its level gives %v", name, res.Err)
		}
	}
	r.must(&pmpb.RaiseFeatureLevel{Level: fsm.FailoverFrom})
	for _, row := range rows {
		r.must(&pmpb.PutCluster{Cluster: row})
	}
}
