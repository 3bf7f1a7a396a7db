package registry

import (
	"maps"
	"slices"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/scheduler/availability"
)

// domainsOf measures how often regions and zones are up, from the outages that their
// clusters had together: zones first, and of what is left to them regions. A domain is
// told only if there were enough of them (see availability.MeasureDomain); of the
// others the planner assumes something. Like Availabilities it is a function of the
// state.
func domainsOf(snap *fsm.Snapshot) map[string]float64 {
	now := snap.Meta().GetTime().AsTime()
	zones := map[string]map[string][]availability.History{}
	var all []availability.History
	outages := 0
	for _, c := range snap.Clusters() {
		if c.GetObservedSince() == nil {
			continue
		}
		outages += len(c.GetOutages())
		h, place := historyOf(c), view(c, Availability{})
		if zones[place.Region] == nil {
			zones[place.Region] = map[string][]availability.History{}
		}
		zones[place.Region][place.Zone] = append(zones[place.Region][place.Zone], h)
		all = append(all, h)
	}
	out := map[string]float64{}
	if outages < 2*availability.EnoughJoint {
		// Nothing can have happened together often enough.
		return out
	}
	prior := availability.FleetPrior(all, now)
	for region, inner := range zones {
		var members []availability.History
		for _, zone := range slices.Sorted(maps.Keys(inner)) {
			domain, alone := availability.Split(inner[zone], now)
			if e, ok := availability.MeasureDomain(domain, prior, now); ok {
				out[availability.ZoneName(region, zone)] = e.Lower
			}
			members = append(append(members, domain), alone...)
		}
		domain, _ := availability.Split(members, now)
		if e, ok := availability.MeasureDomain(domain, prior, now); ok {
			out[availability.RegionName(region)] = e.Lower
		}
	}
	return out
}
