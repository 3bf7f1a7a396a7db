package registry_test

import (
	"context"
	"math"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
)

// Clusters that went down together again and again are not chosen together.
func TestJointOutagesCount(t *testing.T) {
	ctx := context.Background()
	r, store := withShop(t, "a-1", "a-2", "a-3", "b-1", "c-1")
	raised(t, store)
	began := store.State().Snapshot().Meta().GetTime().AsTime().Add(-60 * 24 * time.Hour)
	put := func(joint int) {
		t.Helper()
		for i, name := range []string{"a-1", "a-2", "a-3", "b-1", "c-1"} {
			err := r.PutCluster(ctx, 0, name, func(row *pmpb.Cluster) error {
				up := 0.999
				row.Region, row.Zone, row.Availability, row.ObservedSince = name[:1], "z", &up, timestamppb.New(began)
				row.Outages = nil
				for k := range joint {
					at := began.Add(time.Duration(k+1) * 24 * time.Hour)
					if row.GetRegion() != "a" {
						at = at.Add(time.Duration(i) * time.Hour) // by itself
					}
					row.Outages = append(row.Outages, &pmpb.Outage{Start: timestamppb.New(at), End: timestamppb.New(at.Add(30 * time.Minute))})
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	achieved := func() float64 {
		t.Helper()
		plan, err := r.Preview(store.State().Snapshot(), decodeDeployment(t,
			`{"key":"shop.Cart","package_name":"shop","class_key":"Cart","target_envs":["a-1","a-2","a-3"],"odgm":{"shard_type":"raft","collections":["c"]}}`), registry.Precondition{})
		if err != nil {
			t.Fatal(err)
		}
		return plan.Plan.Achieved
	}
	put(2)
	few := achieved()
	put(20)
	many := achieved()
	if !(many < few-1e-3) || math.IsNaN(many) {
		t.Errorf("three in one region achieve %v after 20 joint outages, %v after two", many, few)
	}
}
