package registry

import (
	"maps"
	"slices"

	"oaas.io/control-plane/scheduler/availability"
)

// domains measures how often regions and zones are up, from the outages that their
// clusters had together: zones first, and of what is left to them regions. A domain is
// told only if there were enough of them (see availability.MeasureDomain); of the
// others the planner assumes something.
func (o *Observations) domains() map[string]float64 {
	zones := map[string]map[string][]availability.History{}
	outages := 0
	for _, c := range o.clusters {
		h, seen := o.histories[c.GetName()]
		if !seen {
			continue
		}
		outages += len(h.Outages)
		region, zone := placeOf(c)
		if zones[region] == nil {
			zones[region] = map[string][]availability.History{}
		}
		zones[region][zone] = append(zones[region][zone], h)
	}
	out := map[string]float64{}
	if outages < 2*availability.EnoughJoint {
		// Nothing can have happened together often enough.
		return out
	}
	for region, inner := range zones {
		var members []availability.History
		for _, zone := range slices.Sorted(maps.Keys(inner)) {
			domain, alone := availability.Split(inner[zone], o.now)
			if e, ok := availability.MeasureDomain(domain, o.prior, o.now); ok {
				out[availability.ZoneName(region, zone)] = e.Lower
			}
			members = append(append(members, domain), alone...)
		}
		domain, _ := availability.Split(members, o.now)
		if e, ok := availability.MeasureDomain(domain, o.prior, o.now); ok {
			out[availability.RegionName(region)] = e.Lower
		}
	}
	return out
}
