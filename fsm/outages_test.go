package fsm_test

import (
	"testing"
	"time"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

const (
	healthy     = pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY
	degraded    = pmpb.ClusterHealth_CLUSTER_HEALTH_DEGRADED
	unreachable = pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE
)

func minute(n int) time.Time { return epoch.Add(time.Duration(n) * time.Minute) }

func TestOutagesBeginWhenTheClusterWasLastHeard(t *testing.T) {
	row := &pmpb.Cluster{}
	fsm.NoteHealth(row, unreachable, time.Time{}, minute(0))
	equal(t, "outages before it was ever healthy", len(row.GetOutages()), 0)
	fsm.NoteHealth(row, healthy, minute(1), minute(1))
	fsm.NoteHealth(row, degraded, minute(4), minute(5))
	fsm.NoteHealth(row, unreachable, minute(4), minute(6))
	equal(t, "outages while one lasts", len(row.GetOutages()), 1)
	fsm.NoteHealth(row, healthy, minute(9), minute(9))
	row.Policy = &pmpb.ClusterPolicy{Cordoned: true}
	fsm.NoteHealth(row, unreachable, minute(3), minute(10))

	equal(t, "observed since", row.GetObservedSince().AsTime(), minute(1))
	equal(t, "outages", len(row.GetOutages()), 2)
	first, second := row.GetOutages()[0], row.GetOutages()[1]
	equal(t, "first start", first.GetStart().AsTime(), minute(4))
	equal(t, "first end", first.GetEnd().AsTime(), minute(9))
	equal(t, "first is planned", first.GetPlanned(), false)
	equal(t, "second starts no earlier than the first has ended", second.GetStart().AsTime(), minute(9))
	equal(t, "second lasts", second.GetEnd() == nil, true)
	equal(t, "second is planned", second.GetPlanned(), true)
}

func TestOldOutagesAreSummedUp(t *testing.T) {
	row := &pmpb.Cluster{}
	fsm.NoteHealth(row, healthy, minute(0), minute(0))
	for i := range fsm.MaxOutages + 3 {
		fsm.NoteHealth(row, unreachable, minute(10*i+1), minute(10*i+2))
		fsm.NoteHealth(row, healthy, minute(10*i+3), minute(10*i+3))
	}
	equal(t, "listed", len(row.GetOutages()), fsm.MaxOutages)
	equal(t, "summed up", row.GetTotals().GetCount(), uint64(3))
	equal(t, "seconds", row.GetTotals().GetSeconds(), 360.0)
	equal(t, "since", row.GetTotals().GetSince().AsTime(), minute(1))
}
