package availability

import (
	"math"
	"slices"
	"time"

	"gonum.org/v1/gonum/mathext"
)

// The assumptions of the measurement.
const (
	// HalfLife is the age at which what was seen counts half.
	HalfLife = 90 * 24 * time.Hour
	// Confidence is that of the one-sided lower bound.
	Confidence = 0.95
)

// Outage is a time in which a cluster served nobody. That its control connection was
// lost is no outage.
type Outage struct {
	Start time.Time
	// End is zero while the outage is still running.
	End time.Time
	// Planned outages are left out of the availability, and are told beside it.
	Planned bool
}

// History is what was seen of one cluster, or of one domain.
type History struct {
	// Since is when the observation began.
	Since time.Time
	// Outages in any order. Those of one kind that overlap count as one. What lies
	// before Since or after the moment of the measurement does not count, nor does an
	// outage that ends before it starts.
	Outages []Outage
}

// Prior is what is assumed of a cluster nobody has observed, as if it had been seen.
// The number of outages and the rate of repair are Gamma distributed around it, so
// what is observed is simply added.
type Prior struct {
	// Outages in Exposure, the time up in which they were seen, give the rate; the
	// longer the exposure, the stronger the assumption.
	Outages  float64
	Exposure time.Duration
	// MTTR is the mean time to repair, assumed with the strength of Repairs repairs.
	MTTR    time.Duration
	Repairs float64
}

// DefaultPrior is half an outage of 30 minutes in 30 days with the strength of 60 days
// and of two repairs: a new cluster is good enough for 99.9 %, and an outage or two
// are enough to tell otherwise.
func DefaultPrior() Prior {
	return Prior{Outages: 1, Exposure: 60 * day, MTTR: 30 * time.Minute, Repairs: 2}
}

// FlatPrior assumes nothing of the rate of outages: all rates are equally likely. It
// is what the classical bound amounts to, and needs months to trust a cluster.
func FlatPrior() Prior {
	return Prior{Outages: 1, MTTR: 30 * time.Minute, Repairs: 2}
}

// Evidence is a history in numbers, in which what is old counts less.
type Evidence struct {
	// Outages and the Exposure in which they began. The exposure is the time up.
	Outages  float64
	Exposure time.Duration
	// Downtime is that of the outages.
	Downtime time.Duration
	// Planned and PlannedDowntime are the planned outages, which are in neither of the
	// others. They count in full, whatever their age.
	Planned         int
	PlannedDowntime time.Duration
}

// Estimate is the availability of a cluster with what it was made of.
type Estimate struct {
	// Mean is the availability with the expected rate of outages.
	Mean float64
	// Lower is what the availability exceeds with the probability Confidence. It is
	// what may be promised.
	Lower float64
	// Outages were observed, in Exposure; both are decayed and without the prior.
	Outages  float64
	Exposure time.Duration
	// MTTR is the mean time to repair, with that of the prior.
	MTTR time.Duration
	// Planned and PlannedDowntime were left out.
	Planned         int
	PlannedDowntime time.Duration
}

const day = 24 * time.Hour

// Measure estimates the availability of a cluster from its history. It is
// Estimate of the prior with the evidence of the history.
func Measure(h History, prior Prior, now time.Time) Estimate {
	return prior.Estimate(Weigh(h, now))
}

// Weigh counts a history at a moment. Planned outages are cut out of time: they are
// neither up nor down. An unplanned outage that begins in a planned one begins when
// that ends, and is none when it ends sooner.
func Weigh(h History, now time.Time) Evidence {
	planned := union(h.Outages, true, h.Since, now)
	down := outside(union(h.Outages, false, h.Since, now), planned)
	e := Evidence{Planned: len(planned)}

	up := decayed(h.Since, now, now)
	for _, p := range planned {
		up -= decayed(p.start, p.end, now)
		e.PlannedDowntime += p.end.Sub(p.start)
	}
	downtime := 0.0
	for _, o := range down {
		up -= decayed(o.start, o.end, now) - shared(o, planned, func(a, b time.Time) float64 { return decayed(a, b, now) })
		weight := decay(now.Sub(o.start))
		e.Outages += weight
		length := o.end.Sub(o.start).Seconds() - shared(o, planned, func(a, b time.Time) float64 { return b.Sub(a).Seconds() })
		downtime += weight * length
	}
	e.Exposure = duration(up)
	e.Downtime = duration(downtime)
	return e
}

// Estimate adds what was seen to what was assumed. The outages of an alternating
// renewal process begin at a rate λ while it is up and last MTTR in the mean, which
// makes it up 1/(1+λ·MTTR) of the time. The bound is that of λ: the doubt about the
// MTTR is not in it.
func (p Prior) Estimate(e Evidence) Estimate {
	mttr := p.repair(e)
	shape := p.Outages + e.Outages
	rate := (p.Exposure + e.Exposure).Seconds()
	return Estimate{
		Mean:  renewal(shape, rate, mttr),
		Lower: renewal(upper(shape), rate, mttr),

		Outages: e.Outages, Exposure: e.Exposure, MTTR: mttr,
		Planned: e.Planned, PlannedDowntime: e.PlannedDowntime,
	}
}

func (p Prior) repair(e Evidence) time.Duration {
	repairs := p.Repairs + e.Outages
	if repairs <= 0 {
		return p.MTTR
	}
	return duration((p.Repairs*p.MTTR.Seconds() + e.Downtime.Seconds()) / repairs)
}

// renewal is the availability with so many outages in so many seconds up.
func renewal(outages, seconds float64, mttr time.Duration) float64 {
	down := outages * mttr.Seconds()
	if down <= 0 {
		return 1
	}
	// 1/(1+λ·MTTR), which is 0 where nothing was up.
	return seconds / (seconds + down)
}

// upper is the quantile of the Gamma distribution of that shape and the rate 1 that
// is exceeded only with the probability that Confidence leaves.
func upper(shape float64) float64 {
	if shape <= 0 {
		return 0
	}
	return mathext.GammaIncRegCompInv(shape, 1-Confidence)
}

// decay is the weight of what is so old.
func decay(age time.Duration) float64 {
	return math.Exp2(-age.Seconds() / HalfLife.Seconds())
}

// decayed is the time between two moments, in seconds, in which what is old counts
// less: the integral of decay.
func decayed(from, to, now time.Time) float64 {
	if !to.After(from) {
		return 0
	}
	return HalfLife.Seconds() / math.Ln2 * (decay(now.Sub(to)) - decay(now.Sub(from)))
}

func duration(seconds float64) time.Duration {
	return time.Duration(math.Round(max(seconds, 0) * float64(time.Second)))
}

type span struct{ start, end time.Time }

// union has the outages of a kind within the observation, in ascending order, those
// that overlap or touch as one.
func union(outages []Outage, planned bool, since, now time.Time) []span {
	var spans []span
	for _, o := range outages {
		if o.Planned != planned {
			continue
		}
		s := span{start: o.Start, end: o.End}
		if o.End.IsZero() || o.End.After(now) {
			s.end = now
		}
		if s.start.Before(since) {
			s.start = since
		}
		if s.end.After(s.start) {
			spans = append(spans, s)
		}
	}
	slices.SortFunc(spans, func(a, b span) int { return a.start.Compare(b.start) })
	var merged []span
	for _, s := range spans {
		if n := len(merged); n > 0 && !s.start.After(merged[n-1].end) {
			if s.end.After(merged[n-1].end) {
				merged[n-1].end = s.end
			}
			continue
		}
		merged = append(merged, s)
	}
	return merged
}

// outside moves the start of what begins in planned work to the end of that work, and
// drops what is over by then.
func outside(down, planned []span) []span {
	var out []span
	for _, o := range down {
		for _, p := range planned {
			if !o.start.Before(p.start) && o.start.Before(p.end) {
				o.start = p.end
			}
		}
		if o.end.After(o.start) {
			out = append(out, o)
		}
	}
	return out
}

// shared is the measure of what a span has in common with planned work.
func shared(o span, planned []span, measure func(from, to time.Time) float64) float64 {
	sum := 0.0
	for _, p := range planned {
		from, to := o.start, o.end
		if p.start.After(from) {
			from = p.start
		}
		if p.end.Before(to) {
			to = p.end
		}
		if to.After(from) {
			sum += measure(from, to)
		}
	}
	return sum
}
