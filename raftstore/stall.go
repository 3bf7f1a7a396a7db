package raftstore

import "time"

// stallWatch judges how long a write has hung. It takes out the time in which this
// process did not run at all, as one that is stopped, or whose machine is suspended
// or moved: a write that such a pause interrupts is as old as the pause when the
// process goes on, and the disk is not to blame for it.
type stallWatch struct {
	// every is how often see is called while the process runs.
	every time.Duration
	// last is when it was called last, asleep what is to be taken out of the age of
	// the present write.
	last   time.Time
	asleep time.Duration
}

// see gives how long a write that has taken took by now has hung.
func (w *stallWatch) see(now time.Time, took time.Duration) time.Duration {
	since := now.Sub(w.last)
	if w.last.IsZero() {
		since = w.every
	}
	w.last = now
	if took <= since {
		w.asleep = 0 // it began after the last look
	}
	w.asleep += max(min(since, took)-w.every, 0)
	return took - w.asleep
}
