package availability

import (
	"slices"
	"time"
)

const (
	// BurstWindow is the time between the beginnings of two outages within which they
	// are held to have one cause.
	BurstWindow = 120 * time.Second
	// EnoughJoint is how many joint outages must have been seen before the
	// availability of a domain counts as measured rather than assumed.
	EnoughJoint = 3
)

// Split tells the outages that the members of one domain had together from those that
// each had alone. Unplanned outages of two or more members, each of which begins at
// most BurstWindow after the one before it, are one outage of the domain; it lasts
// until the last of them ends. The domain is observed since its second member is: with
// one alone nothing joint could have been seen.
//
// The members keep their places, and lose the outages that count for the domain. A
// member may be a domain that was split before, so that zones can be split before their
// region. The members that are passed are not changed.
func Split(members []History, now time.Time) (domain History, alone []History) {
	domain.Since = second(members, now)
	alone = make([]History, len(members))
	var all []begun
	for m := range members {
		alone[m].Since = members[m].Since
		for _, o := range members[m].Outages {
			ended := !o.End.IsZero() && !o.End.After(o.Start)
			if o.Planned || ended || o.Start.After(now) || o.Start.Before(members[m].Since) {
				alone[m].Outages = append(alone[m].Outages, o)
				continue
			}
			all = append(all, begun{outage: o, member: m})
		}
	}
	slices.SortStableFunc(all, func(a, b begun) int { return a.outage.Start.Compare(b.outage.Start) })
	for len(all) > 0 {
		n := burst(all)
		if joint, ok := together(all[:n]); ok {
			domain.Outages = append(domain.Outages, joint)
		} else {
			for _, b := range all[:n] {
				alone[b.member].Outages = append(alone[b.member].Outages, b.outage)
			}
		}
		all = all[n:]
	}
	return domain, alone
}

// MeasureDomain estimates the availability of a domain from the outages that Split
// found. It is not to be relied on, and ok is false, before EnoughJoint of them were
// seen, however long ago: until then the assumed share of common outages is the better
// guess.
func MeasureDomain(domain History, prior Prior, now time.Time) (e Estimate, ok bool) {
	seen := union(domain.Outages, false, domain.Since, now)
	return Measure(domain, prior, now), len(seen) >= EnoughJoint
}

type begun struct {
	outage Outage
	member int
}

// burst is the number of outages from the first one on that follow each other closely.
func burst(all []begun) int {
	for i := 1; i < len(all); i++ {
		if all[i].outage.Start.Sub(all[i-1].outage.Start) > BurstWindow {
			return i
		}
	}
	return len(all)
}

// together is the outage that a burst is, unless it is of one member only.
func together(burst []begun) (joint Outage, ok bool) {
	joint = burst[0].outage
	for _, b := range burst {
		ok = ok || b.member != burst[0].member
		switch {
		case joint.End.IsZero():
		case b.outage.End.IsZero() || b.outage.End.After(joint.End):
			joint.End = b.outage.End
		}
	}
	return joint, ok
}

// second is when the second of the members came under observation; now when there is
// none.
func second(members []History, now time.Time) time.Time {
	if len(members) < 2 {
		return now
	}
	var since []time.Time
	for i := range members {
		since = append(since, members[i].Since)
	}
	slices.SortFunc(since, time.Time.Compare)
	return since[1]
}
