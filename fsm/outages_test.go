package fsm_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

const (
	healthy     = pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY
	degraded    = pmpb.ClusterHealth_CLUSTER_HEALTH_DEGRADED
	unreachable = pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE
	suspect     = pmpb.ClusterHealth_CLUSTER_HEALTH_SUSPECT
	eligible    = pmpb.ClusterHealth_CLUSTER_HEALTH_FAILOVER_ELIGIBLE
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

func TestSuspicionIsNoOutage(t *testing.T) {
	row := &pmpb.Cluster{}
	fsm.NoteHealth(row, healthy, minute(0), minute(0))
	fsm.NoteHealth(row, suspect, minute(1), minute(2))
	fsm.NoteHealth(row, healthy, minute(3), minute(4))
	equal(t, "outages of a cluster that was suspected", len(row.GetOutages()), 0)
	fsm.NoteHealth(row, suspect, minute(5), minute(6))
	fsm.NoteHealth(row, unreachable, minute(5), minute(7))
	fsm.NoteHealth(row, eligible, minute(5), minute(9))
	fsm.NoteHealth(row, healthy, minute(10), minute(12))
	equal(t, "outages", len(row.GetOutages()), 1)
	equal(t, "begins with the silence", row.GetOutages()[0].GetStart().AsTime(), minute(5))
	equal(t, "ends with the first contact", row.GetOutages()[0].GetEnd().AsTime(), minute(10))
}

// What another node reaches is not down: the outage is that of the network between.
func TestOutageOfTheLinkIsNotTheClusters(t *testing.T) {
	missed := []*pmpb.Observation{{ServerId: "s2"}}
	for name, c := range map[string]struct {
		before       pmpb.ClusterHealth
		observations []*pmpb.Observation
		want         int
	}{
		"nobody else has missed it":   {before: healthy},
		"another node had missed it":  {before: healthy, observations: missed, want: 1},
		"it was unwell before that":   {before: degraded, want: 1},
		"unwell, and missed as well":  {before: degraded, observations: missed, want: 1},
		"there is none, nothing ends": {before: suspect},
	} {
		row := &pmpb.Cluster{}
		fsm.NoteHealth(row, healthy, minute(0), minute(0))
		fsm.NoteHealth(row, c.before, minute(1), minute(1))
		row.DisconnectedSince, row.Observations = timestamppb.New(minute(2)), c.observations
		if c.before != suspect {
			fsm.NoteHealth(row, unreachable, minute(2), minute(3))
		}
		fsm.NoteReached(row, minute(5))
		equal(t, name, len(row.GetOutages()), c.want)
		for _, o := range row.GetOutages() {
			equal(t, name+": end", o.GetEnd().AsTime(), minute(5))
		}
		fsm.NoteReached(row, minute(6))
		fsm.NoteHealth(row, healthy, minute(7), minute(7))
		equal(t, name+", later", len(row.GetOutages()), c.want)
	}
}

func TestStatesOfClustersHaveNames(t *testing.T) {
	seen := map[string]bool{}
	for n := range pmpb.ClusterHealth_name {
		seen[fsm.ClusterState(pmpb.ClusterHealth(n))] = true
	}
	equal(t, "different names", len(seen), len(pmpb.ClusterHealth_name)-1) // nobody knows, or never asked
	equal(t, "reachable", []bool{fsm.Unreachable(suspect), fsm.Unreachable(unreachable), fsm.Unreachable(eligible)}, []bool{false, true, true})
}
