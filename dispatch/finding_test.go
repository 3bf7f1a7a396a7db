package dispatch

import (
	"testing"
	"time"
	"unsafe"
)

// jumped gives a time as it is told when the wall clock was set ahead by d before.
func jumped(t time.Time, d time.Duration) time.Time {
	t = t.Add(d)
	// The second word of a time is its monotonic reading, which a jump leaves alone.
	monotonic := (*[2]int64)(unsafe.Pointer(&t))
	monotonic[1] -= int64(d)
	return t
}

// A node whose wall clock is set while a cluster is silent stores the same beginning of the
// silence as one whose clock is not: a cluster must not be given up early for it.
func TestAJumpOfTheClockDoesNotMoveTheSilence(t *testing.T) {
	for _, jump := range []time.Duration{0, time.Hour, -time.Hour} {
		heard := time.Now()
		now := jumped(heard.Add(30*time.Second), jump)
		if got := now.Sub(heard); got != 30*time.Second {
			t.Fatalf("30s have passed, measured are %v", got)
		}
		f := &finding{now: now, clock: heard.Add(30 * time.Second).Round(0)}
		if got := f.stored(heard).Sub(heard.Round(0)); got != 0 {
			t.Errorf("with a jump of %v, the silence is stored %v after its beginning", jump, got)
		}
		if got := now.Sub(f.own(heard.Round(0))); got != 30*time.Second {
			t.Errorf("with a jump of %v, a stored beginning is %v ago, not 30s", jump, got)
		}
	}
}

// What another node has said is as old as it is, whatever the wall clock says since.
func TestAJumpOfTheClockDoesNotRenewWhatWasSaid(t *testing.T) {
	said := time.Now()
	for _, jump := range []time.Duration{0, time.Hour, -time.Hour} {
		o := others{said: map[string]*word{"a": {at: said}}}
		if got := o.sightings(jumped(said.Add(-time.Second), jump)); len(got) != 1 {
			t.Errorf("with a jump of %v, what was just said is forgotten", jump)
		}
		if got := o.sightings(jumped(said.Add(time.Second), jump)); len(got) != 0 {
			t.Errorf("with a jump of %v, what was said long ago still counts", jump)
		}
	}
}
