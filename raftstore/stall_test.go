package raftstore

import (
	"testing"
	"time"
)

// A process that is stopped in the middle of a write, or whose machine is suspended,
// must not take its disk for a hanging one when it goes on.
func TestStallWatch(t *testing.T) {
	type look struct{ at, began, want time.Duration } // began after at: no write
	const s = time.Second
	never := time.Hour
	for name, looks := range map[string][]look{
		"a write that hangs":            {{1 * s, never, 0}, {2 * s, 1500 * time.Millisecond, 500 * time.Millisecond}, {3 * s, 1500 * time.Millisecond, 1500 * time.Millisecond}, {9 * s, never, 0}},
		"it hangs from the first look":  {{1 * s, 0, 1 * s}, {2 * s, 0, 2 * s}, {3 * s, 0, 3 * s}},
		"paused in a write":             {{1 * s, never, 0}, {41 * s, 1500 * time.Millisecond, 1 * s}, {42 * s, 1500 * time.Millisecond, 2 * s}, {43 * s, 1500 * time.Millisecond, 3 * s}},
		"paused, then a write":          {{1 * s, never, 0}, {41 * s, 40500 * time.Millisecond, 500 * time.Millisecond}, {42 * s, 40500 * time.Millisecond, 1500 * time.Millisecond}},
		"paused twice in one write":     {{1 * s, 500 * time.Millisecond, 500 * time.Millisecond}, {31 * s, 500 * time.Millisecond, 1500 * time.Millisecond}, {61 * s, 500 * time.Millisecond, 2500 * time.Millisecond}},
		"the next write starts anew":    {{1 * s, never, 0}, {41 * s, 2 * s, 1 * s}, {42 * s, 41500 * time.Millisecond, 500 * time.Millisecond}, {43 * s, 41500 * time.Millisecond, 1500 * time.Millisecond}},
		"a pause without a write":       {{1 * s, never, 0}, {99 * s, never, 0}, {100 * s, never, 0}},
		"a look that is a little early": {{1 * s, 0, 1 * s}, {1900 * time.Millisecond, 0, 1900 * time.Millisecond}, {3 * s, 0, 2900 * time.Millisecond}},
	} {
		t.Run(name, func(t *testing.T) {
			w := stallWatch{every: s}
			start := time.Now()
			for _, l := range looks {
				if got := w.see(start.Add(l.at), max(l.at-l.began, 0)); got != l.want {
					t.Errorf("after %v the write has hung for %v, want %v", l.at, got, l.want)
				}
			}
		})
	}
}
