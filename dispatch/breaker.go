package dispatch

import "time"

// breaker keeps calls away from a cluster that does not answer them. It opens
// after so many failures in a row; then only a probe goes out, one at a time and
// with growing pauses, until one is answered. It knows no clock: every method is
// given the time.
type breaker struct {
	// trip is after how many failures in a row it opens.
	trip int
	// least and most bound the pause before a probe.
	least, most time.Duration

	state breakerState
	// failures counts those in a row while closed, openings those of the breaker
	// since a call was last answered.
	failures, openings int
	// until is when the next probe may go out, while open.
	until time.Time
}

type breakerState int

// The values are those of the metric.
const (
	breakerClosed breakerState = iota
	// breakerHalfOpen: a probe is on its way.
	breakerHalfOpen
	breakerOpen
)

func (s breakerState) String() string {
	return [...]string{"closed", "half-open", "open"}[s]
}

// admits is how many more calls may start, given the room that there is otherwise.
func (b *breaker) admits(now time.Time, room int) int {
	switch {
	case b.state == breakerClosed:
		return max(room, 0)
	case b.state == breakerOpen && !now.Before(b.until):
		return min(max(room, 0), 1)
	default:
		return 0
	}
}

// start notes that a call starts, and reports whether it is a probe.
func (b *breaker) start() (probe bool) {
	if b.state != breakerOpen {
		return false
	}
	b.state = breakerHalfOpen
	return true
}

// settle notes how a call ended: answered is true when the cluster said anything
// at all, a refusal included. It reports whether the breaker opened or closed.
// Calls that started before it opened may still succeed, which closes it; that
// they fail says nothing new.
func (b *breaker) settle(now time.Time, probe, answered bool) (changed bool) {
	switch {
	case answered:
		changed = b.state != breakerClosed
		b.state, b.failures, b.openings = breakerClosed, 0, 0
	case b.state == breakerClosed:
		if b.failures++; b.failures >= b.trip {
			b.open(now)
			return true
		}
	case b.state == breakerHalfOpen && probe:
		b.open(now)
	}
	return changed
}

func (b *breaker) open(now time.Time) {
	b.openings++
	b.state, b.failures = breakerOpen, 0
	b.until = now.Add(backoff(b.openings, b.least, b.most))
}

// hint lets a probe go out at once: the cluster has shown a sign of life.
func (b *breaker) hint() { b.until = time.Time{} }

// next is when calls may start again, zero when that is not a matter of time.
func (b *breaker) next() time.Time {
	if b.state != breakerOpen {
		return time.Time{}
	}
	return b.until
}
