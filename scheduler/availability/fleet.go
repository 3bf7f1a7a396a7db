package availability

import (
	"cmp"
	"slices"
	"time"
)

// The bounds of a prior that is estimated from a fleet. A weaker one would leave a new
// cluster useless for weeks, a stronger one would hide a bad cluster behind its
// neighbours for months; the rates are those beyond which an estimate from few
// clusters is more likely to be wrong than the fleet to be so good or so bad.
const (
	WeakestPrior   = 30 * day
	StrongestPrior = 180 * day
	// RarestOutages and MostOutages bound the outages in 30 days.
	RarestOutages = 0.05
	MostOutages   = 10.0
	// ShortestRepair and LongestRepair bound the mean time to repair.
	ShortestRepair = time.Minute
	LongestRepair  = 24 * time.Hour
)

// FleetPrior estimates the prior from the clusters of a fleet by the method of
// moments: the mean of the rates of outages, and how much they differ beyond what
// chance alone explains. The more alike the clusters are, the stronger is what one
// says about the others. The default counts as one more cluster in the mean, so that a
// young fleet without an outage is not thought perfect. The order of the histories
// does not matter; with fewer than two that were observed the default remains.
func FleetPrior(histories []History, now time.Time) Prior {
	fleet := make([]Evidence, 0, len(histories))
	for i := range histories {
		if e := Weigh(histories[i], now); e.Exposure > 0 {
			fleet = append(fleet, e)
		}
	}
	// Sums of floats depend on their order, and the order must not show.
	slices.SortFunc(fleet, func(a, b Evidence) int {
		return cmp.Or(cmp.Compare(a.Exposure, b.Exposure), cmp.Compare(a.Outages, b.Outages),
			cmp.Compare(a.Downtime, b.Downtime))
	})
	prior := DefaultPrior()
	if len(fleet) < 2 {
		return prior
	}
	seconds, squares, outages, downtime := 0.0, 0.0, 0.0, 0.0
	for _, e := range fleet {
		t := e.Exposure.Seconds()
		seconds, squares = seconds+t, squares+t*t
		outages, downtime = outages+e.Outages, downtime+e.Downtime.Seconds()
	}
	month := (30 * day).Seconds()
	mean := (prior.Outages + outages) / (prior.Exposure.Seconds() + seconds)
	mean = within(mean, RarestOutages/month, MostOutages/month)

	// Each squared difference is expected to be the variance of the rates plus that
	// of counting outages in so much time.
	observed, spread := outages/seconds, 0.0
	for _, e := range fleet {
		t := e.Exposure.Seconds()
		spread += t * square(e.Outages/t-observed)
	}
	strength := StrongestPrior.Seconds()
	variance := (spread - float64(len(fleet)-1)*observed) / (seconds - squares/seconds)
	if variance > 0 {
		strength = within(mean/variance, WeakestPrior.Seconds(), StrongestPrior.Seconds())
	} else if outages == 0 {
		// Nothing was seen to compare: alike in having no outage is not alike.
		strength = prior.Exposure.Seconds()
	}
	repair := (prior.Repairs*prior.MTTR.Seconds() + downtime) / (prior.Repairs + outages)
	return Prior{
		Outages: mean * strength, Exposure: duration(strength),
		MTTR:    duration(within(repair, ShortestRepair.Seconds(), LongestRepair.Seconds())),
		Repairs: prior.Repairs,
	}
}

func within(x, least, most float64) float64 { return min(max(x, least), most) }

func square(x float64) float64 { return x * x }
