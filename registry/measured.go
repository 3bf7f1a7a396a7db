package registry

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/scheduler"
	"oaas.io/control-plane/scheduler/availability"
)

// measuredAfter is how long a cluster has to be observed before what was seen of it
// counts. In the first days the estimate is that of the fleet and says nothing about
// the cluster.
const measuredAfter = 7 * 24 * time.Hour

// Availability is what is known of how often a cluster is up.
type Availability struct {
	// Used is what plans calculate with, and Source where it comes from; nil and empty
	// when the planner assumes something.
	Used   *float64
	Source scheduler.Source
	// Declared by operators, and Reported by the cluster's manager.
	Declared, Reported *float64
	// Measured is what its outages tell; nil while it was never seen healthy.
	Measured *availability.Estimate
	// Since is when the observation began.
	Since time.Time
}

// Observations are what was seen of the outages of all clusters. They are a function of
// the state: the present is the time of the last command.
type Observations struct {
	clusters []*pmpb.Cluster
	// histories of the clusters that were seen healthy, by name.
	histories map[string]availability.History
	prior     availability.Prior
	now       time.Time
}

// Observe gathers the outages of all clusters.
func Observe(snap *fsm.Snapshot) *Observations {
	out := &Observations{clusters: snap.Clusters(), histories: map[string]availability.History{}, now: snap.Meta().GetTime().AsTime()}
	var all []availability.History
	for _, c := range out.clusters {
		if c.GetObservedSince() != nil {
			h := historyOf(c)
			out.histories[c.GetName()], all = h, append(all, h)
		}
	}
	out.prior = availability.FleetPrior(all, out.now)
	return out
}

// Availability gives what is known of one cluster's availability.
func (o *Observations) Availability(c *pmpb.Cluster) Availability {
	a := Availability{Reported: c.Availability}
	if p := c.GetPolicy(); p != nil {
		a.Declared = p.Availability
	}
	if h, seen := o.histories[c.GetName()]; seen {
		e := availability.Measure(h, o.prior, o.now)
		a.Measured, a.Since = &e, h.Since
	}
	a.settle(o.now)
	return a
}

// settle decides which of them counts: an operator knows best, then the cluster's own
// word, then what was seen.
func (a *Availability) settle(now time.Time) {
	switch {
	case a.Declared != nil:
		a.Used, a.Source = a.Declared, scheduler.Declared
	case a.Reported != nil:
		a.Used, a.Source = a.Reported, scheduler.Reported
	case a.Measured != nil && now.Sub(a.Since) >= measuredAfter:
		a.Used, a.Source = &a.Measured.Lower, scheduler.Measured
	}
}

// historyOf gives the outages of a cluster. Those that are no longer listed one by one
// are taken for one each of the mean length, evenly over their time.
func historyOf(c *pmpb.Cluster) availability.History {
	h := availability.History{Since: c.GetObservedSince().AsTime()}
	listed := c.GetOutages()
	if n := c.GetTotals().GetCount(); n > 0 {
		from, to := c.GetTotals().GetSince().AsTime(), from(listed, c.GetTotals().GetSince())
		each := time.Duration(c.GetTotals().GetSeconds() / float64(n) * float64(time.Second))
		n = min(n, maxSummed)
		for i := range n {
			start := from.Add(time.Duration(float64(to.Sub(from)) * float64(i) / float64(n)))
			h.Outages = append(h.Outages, availability.Outage{Start: start, End: start.Add(each)})
		}
	}
	for _, o := range listed {
		one := availability.Outage{Start: o.GetStart().AsTime(), Planned: o.GetPlanned()}
		if o.GetEnd() != nil {
			one.End = o.GetEnd().AsTime()
		}
		h.Outages = append(h.Outages, one)
	}
	return h
}

// maxSummed bounds the outages that totals are spread to: a cluster with more of them
// is bad enough.
const maxSummed = 1024

// from is when the listed outages begin, or the fallback without any.
func from(listed []*pmpb.Outage, fallback *timestamppb.Timestamp) time.Time {
	if len(listed) > 0 {
		return listed[0].GetStart().AsTime()
	}
	return fallback.AsTime()
}
