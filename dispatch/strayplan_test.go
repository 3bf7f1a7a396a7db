package dispatch

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
)

// Whatever a cluster has and whatever is remembered: nothing is removed that the cluster does
// not have, or that was neither remembered for the grace nor given up, or that is of another epoch and was not given up; what is remembered is
// what it has, each from the first time on; and the list is one that the state takes.
func TestStrayPlanProperties(t *testing.T) {
	const patience, grace = 30 * time.Second, time.Hour
	const epoch = 2
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	rapid.Check(t, func(t *rapid.T) {
		seen := strays{}
		var remembered []*pmpb.Stray
		for i := range rapid.IntRange(0, 300).Draw(t, "runtimes") {
			id := fmt.Sprintf("u-%03d", i)
			kind := rapid.IntRange(1, 3).Draw(t, id)
			if kind&1 > 0 && len(seen) < fsm.MaxStrays {
				seen[id] = sighting{uid: "u", key: "k", since: now.Add(-time.Duration(rapid.IntRange(0, 60).Draw(t, "since")) * time.Second)}
			}
			if kind&2 > 0 && len(remembered) < fsm.MaxStrays {
				remembered = append(remembered, &pmpb.Stray{
					UnitId: id, DeploymentUid: "u", DeploymentKey: "k", Orphaned: rapid.Bool().Draw(t, "orphaned"), Epoch: rapid.Uint64Range(1, 3).Draw(t, "epoch"),
					FirstSeen: timestamppb.New(now.Add(-time.Duration(rapid.IntRange(0, 120).Draw(t, "first seen")) * time.Minute)),
				})
			}
		}
		p := seen.plan(remembered, epoch, now, patience, grace)
		first := map[string]*pmpb.Stray{}
		for _, s := range remembered {
			first[s.GetUnitId()] = s
		}
		for _, id := range p.bury {
			row := first[id]
			if _, there := seen[id]; !there || row == nil || !row.GetOrphaned() && (now.Sub(row.GetFirstSeen().AsTime()) < grace || row.GetEpoch() != epoch) {
				t.Fatalf("%s is removed: seen %v, remembered %v", id, there, row)
			}
		}
		for i, s := range p.note {
			one, there := seen[s.GetUnitId()]
			row := first[s.GetUnitId()]
			if !there || i > 0 && p.note[i-1].GetUnitId() >= s.GetUnitId() {
				t.Fatalf("remembered: %v", p.note)
			}
			if row == nil && now.Sub(one.since) < patience || row != nil && row != s {
				t.Fatalf("%v, was %v", s, row)
			}
		}
		if len(p.note) > fsm.MaxStrays {
			t.Fatalf("%d are remembered", len(p.note))
		}
		for _, s := range remembered {
			if _, there := seen[s.GetUnitId()]; there && !slices.Contains(p.note, s) {
				t.Fatalf("%v was forgotten", s)
			}
		}
		if again := seen.plan(p.note, epoch, now, patience, grace); again.changed {
			t.Fatalf("never at rest: %v, then %v", p.note, again.note)
		}
	})
}

// A cluster with more strays than are remembered shows them in any order: those that are
// remembered keep their places, so that they are removed in the end.
func TestRememberedStraysKeepTheirPlaces(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	seen := strays{}
	for i := range fsm.MaxStrays {
		seen[fmt.Sprintf("new-%03d", i)] = sighting{uid: "u", key: "k", since: now.Add(-time.Hour)}
	}
	old := []*pmpb.Stray{
		{UnitId: "old-1", DeploymentUid: "u", DeploymentKey: "k", FirstSeen: timestamppb.New(now.Add(-2 * time.Hour))},
		{UnitId: "old-2", DeploymentUid: "u", DeploymentKey: "k", FirstSeen: timestamppb.New(now)},
	}
	for _, s := range old {
		seen.recognise(s, now)
	}
	p := seen.plan(old, 0, now, time.Minute, time.Hour)
	if !slices.Contains(p.note, old[0]) || !slices.Contains(p.note, old[1]) || len(p.note) != fsm.MaxStrays || !slices.Equal(p.bury, []string{"old-1"}) {
		t.Errorf("%d are remembered, removed are %v", len(p.note), p.bury)
	}
}

// Only what this control plane has sent to this cluster is a stray.
func TestForeignRuntimesAreNoStrays(t *testing.T) {
	id := registry.UnitID("uid", "oaas-1", "Cart")
	for name, tc := range map[string]struct {
		id     string
		edit   func(*oaaspb.Delivery)
		strays int
	}{
		"ours":                        {id: id, strays: 1},
		"of an earlier epoch":         {id: id, edit: func(d *oaaspb.Delivery) { d.Epoch = 1 }, strays: 1},
		"of a later epoch":            {id: id, edit: func(d *oaaspb.Delivery) { d.Epoch = 3 }},
		"of another control plane":    {id: id, edit: func(d *oaaspb.Delivery) { d.ControlPlaneId = "other" }},
		"of no control plane":         {id: id, edit: func(d *oaaspb.Delivery) { d.ControlPlaneId = "" }},
		"of no deployment":            {id: id, edit: func(d *oaaspb.Delivery) { d.DeploymentKey = "" }},
		"with a key without end":      {id: id, edit: func(d *oaaspb.Delivery) { d.DeploymentKey = strings.Repeat("k", maxStrayKey+1) }},
		"of another deployment's uid": {id: id, edit: func(d *oaaspb.Delivery) { d.DeploymentUid = "other" }},
		"made for another cluster":    {id: registry.UnitID("uid", "oaas-2", "Cart")},
		"with a name of its own":      {id: "by-hand"},
	} {
		t.Run(name, func(t *testing.T) {
			d := &oaaspb.Delivery{Epoch: 2, Fence: 1, DeploymentUid: "uid", DeploymentKey: "shop.Cart", ControlPlaneId: "cp"}
			if tc.edit != nil {
				tc.edit(d)
			}
			s := strays{}
			s.see("oaas-1", "cp", 2, &oaaspb.ClassRuntimeSummary{DeploymentUnitId: tc.id, Delivery: d}, time.Time{})
			if len(s) != tc.strays {
				t.Errorf("strays %v, want %d", s, tc.strays)
			}
		})
	}
	s := strays{}
	s.see("oaas-1", "", 2, &oaaspb.ClassRuntimeSummary{DeploymentUnitId: id}, time.Time{})
	if len(s) > 0 {
		t.Errorf("without a delivery: %v", s)
	}
}
