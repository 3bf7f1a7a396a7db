package dispatch

import (
	"sync"
	"time"
)

// limit is how much of something there may be: so much at once, so much per
// second in the long run.
type limit struct{ burst, rate float64 }

// bucket holds the tokens of a limit. When it has run dry it gives nothing until
// a second's worth has gathered, so that what waits for tokens goes out together
// and not one by one. It knows no clock.
type bucket struct {
	tokens float64
	at     time.Time
	dry    bool
}

// fill adds what came in since the last time. The limit may be another one each
// time; a bucket that was never filled starts full.
func (b *bucket) fill(l limit, now time.Time) {
	if b.at.IsZero() {
		b.tokens, b.at = l.burst, now
	}
	if passed := now.Sub(b.at); passed > 0 {
		b.tokens += passed.Seconds() * l.rate
		b.at = now
	}
	b.tokens = min(b.tokens, l.burst)
	if b.tokens >= min(l.rate, l.burst) {
		b.dry = false
	}
}

// grant adds tokens on top.
func (b *bucket) grant(tokens float64) { b.tokens += tokens }

// take takes tokens, or reports that there are none. The last ones may cost more
// than there are: what comes next waits until that is made up for.
func (b *bucket) take(cost float64) bool {
	if b.dry {
		return false
	}
	b.tokens -= cost
	b.dry = b.tokens <= 0
	return true
}

// wait is how long it takes until there are tokens again.
func (b *bucket) wait(l limit) time.Duration {
	if !b.dry {
		return 0
	}
	missing := min(l.rate, l.burst) - b.tokens
	// Rounded up: a wait that ends a moment too early would be followed by another.
	return time.Duration(missing/l.rate*float64(time.Second)) + time.Millisecond
}

// gate is a bucket with a fixed limit and its own clock, for several goroutines.
type gate struct {
	limit limit
	now   func() time.Time

	mu     sync.Mutex
	bucket bucket
	// held counts what was not let through since something was.
	held int
}

// pass reports whether one more may pass, and how many did not since the last.
func (g *gate) pass() (ok bool, held int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.bucket.fill(g.limit, g.now())
	if !g.bucket.take(1) {
		g.held++
		return false, g.held
	}
	held, g.held = g.held, 0
	return true, held
}
