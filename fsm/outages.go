package fsm

import (
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/proto/pmpb"
)

// MaxOutages is how many outages of a cluster are listed; older ones are summed up.
const MaxOutages = 64

// NoteHealth keeps up the outages of a cluster when its health becomes the one
// given. row is the caller's own and still has the health before. heard is when the
// cluster was last known to be well, zero when it is not known; now is the present
// time. An outage begins when it was last heard: what the control plane noticed
// later has gone on since then.
//
// An outage is known only after the cluster was once healthy. It is planned when
// the cluster is cordoned or drained as it begins. A cluster that is merely suspected has none: it
// is too soon to say. For one that is healthy again, heard is since when.
func NoteHealth(row *pmpb.Cluster, health pmpb.ClusterHealth, heard, now time.Time) {
	switch health {
	case pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY:
		if row.GetObservedSince() == nil {
			row.ObservedSince = timestamppb.New(now)
		}
		if last := lastOutage(row); last != nil && last.GetEnd() == nil {
			end := now
			if !heard.IsZero() && heard.Before(now) {
				end = heard
			}
			last.End = timestamppb.New(latest(end, last.GetStart().AsTime()))
		}
	case pmpb.ClusterHealth_CLUSTER_HEALTH_DEGRADED, pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE,
		pmpb.ClusterHealth_CLUSTER_HEALTH_FAILOVER_ELIGIBLE:
		openOutage(row, heard, now)
	default: // it is not known how the cluster is
	}
}

// NoteReached keeps up the outages of a cluster that the leader does not reach, but another
// node does, and finds well: it is the network between that is out. What was taken for
// the cluster's outage since the silence began never was one, unless a node had tried in
// vain; then, or if it is older, it has ended.
func NoteReached(row *pmpb.Cluster, now time.Time) {
	last := lastOutage(row)
	if last == nil || last.GetEnd() != nil {
		return
	}
	missed := slices.ContainsFunc(row.GetObservations(), func(o *pmpb.Observation) bool { return !o.GetReachable() })
	if since := row.GetDisconnectedSince(); !missed && since != nil && !last.GetStart().AsTime().Before(since.AsTime()) {
		row.Outages = row.GetOutages()[:len(row.GetOutages())-1]
		return
	}
	last.End = timestamppb.New(latest(now, last.GetStart().AsTime()))
}

func openOutage(row *pmpb.Cluster, heard, now time.Time) {
	last := lastOutage(row)
	if row.GetObservedSince() == nil || (last != nil && last.GetEnd() == nil) {
		return
	}
	start := now
	if !heard.IsZero() && heard.Before(now) {
		start = heard
	}
	// Clocks of two leaders differ; outages must not overlap for that.
	start = latest(start, row.GetObservedSince().AsTime())
	if last != nil {
		start = latest(start, last.GetEnd().AsTime())
	}
	row.Outages = append(row.Outages, &pmpb.Outage{Start: timestamppb.New(start), Planned: row.GetPolicy().GetCordoned() || row.GetPolicy().GetDraining()})
	for len(row.GetOutages()) > MaxOutages {
		sumUp(row)
	}
}

// sumUp moves the oldest outage, which has ended, to the totals.
func sumUp(row *pmpb.Cluster) {
	oldest := row.GetOutages()[0]
	row.Outages = row.GetOutages()[1:]
	if oldest.GetPlanned() {
		return
	}
	if row.GetTotals() == nil {
		row.Totals = &pmpb.OutageTotals{Since: oldest.GetStart()}
	}
	row.Totals.Count++
	row.Totals.Seconds += oldest.GetEnd().AsTime().Sub(oldest.GetStart().AsTime()).Seconds()
}

func lastOutage(row *pmpb.Cluster) *pmpb.Outage {
	if n := len(row.GetOutages()); n > 0 {
		return row.GetOutages()[n-1]
	}
	return nil
}

func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
