package move

import "time"

// Hold-down after failovers of one deployment. It doubles with each within its memory.
const (
	ShortestHold = 5 * time.Minute
	LongestHold  = time.Hour
	// Memory is for how long a failover counts.
	Memory = 6 * time.Hour
)

// Budget bounds the failovers of one deployment.
type Budget struct {
	// PerHour is the most within any hour, at least 1.
	PerHour int
}

// Next gives the time from which on there may be another failover after those of the given
// times, which ascend. It is not after now when there may be one at once.
func (b Budget) Next(times []time.Time, now time.Time) time.Time {
	var next time.Time
	recent := 0
	for _, t := range times {
		if now.Sub(t) < Memory {
			recent++
		}
	}
	if recent > 0 {
		hold := ShortestHold
		for range recent - 1 {
			hold = min(2*hold, LongestHold)
		}
		next = times[len(times)-1].Add(hold)
	}
	if most := max(b.PerHour, 1); len(times) >= most {
		if free := times[len(times)-most].Add(time.Hour); free.After(next) {
			next = free
		}
	}
	return next
}
