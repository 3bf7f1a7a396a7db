package dispatch

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestBreaker lets calls start as the breaker admits them and end in any order, and
// holds it against what it promises.
func TestBreaker(t *testing.T) {
	const trip, least, most = 3, time.Second, 8 * time.Second
	type started struct{ probe bool }
	rapid.Check(t, func(t *rapid.T) {
		b := &breaker{trip: trip, least: least, most: most}
		now := time.Unix(1000, 0)
		var flying []started
		row := 0 // failures in a row while closed
		var openedAt time.Time
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				now = now.Add(time.Duration(rapid.IntRange(1, 3000).Draw(t, "ms")) * time.Millisecond)
			case 1:
				admitted := b.admits(now, 2)
				if closed := b.state == breakerClosed; closed && admitted != 2 || !closed && admitted > 1 {
					t.Fatalf("%s admits %d of 2", b.state, admitted)
				}
				if b.state == breakerOpen && !now.Before(openedAt.Add(most)) && admitted != 1 {
					t.Fatalf("no probe %s after it opened", now.Sub(openedAt))
				}
				if admitted > 0 {
					was := b.state
					s := started{probe: b.start()}
					if s.probe != (was == breakerOpen) {
						t.Fatalf("a call is a probe: %v, %s", s.probe, was)
					}
					flying = append(flying, s)
				}
			case 2:
				if len(flying) == 0 {
					continue
				}
				i := rapid.IntRange(0, len(flying)-1).Draw(t, "which ends")
				s := flying[i]
				flying = append(flying[:i], flying[i+1:]...)
				answered := rapid.Bool().Draw(t, "answered")
				was := b.state
				changed := b.settle(now, s.probe, answered)
				switch {
				case answered:
					row = 0
					if b.state != breakerClosed || changed != (was != breakerClosed) {
						t.Fatalf("after an answer it is %s, changed %v, was %s", b.state, changed, was)
					}
				case was == breakerClosed:
					row++
					if opened := b.state == breakerOpen; opened != (row >= trip) || changed != opened {
						t.Fatalf("after %d failures in a row it is %s, changed %v", row, b.state, changed)
					}
				case s.probe && was == breakerHalfOpen:
					if b.state != breakerOpen || changed {
						t.Fatalf("after a failed probe it is %s, changed %v", b.state, changed)
					}
				case b.state != was || changed:
					t.Fatalf("a call from before changes it from %s to %s", was, b.state)
				}
				if b.state == breakerOpen && (was != breakerOpen) {
					row, openedAt = 0, now
					if pause := b.next().Sub(now); pause < least/2 || pause > most {
						t.Fatalf("it pauses for %s", pause)
					}
				}
			case 3:
				b.hint()
				if b.state == breakerOpen && b.admits(now, 2) != 1 {
					t.Fatal("a sign of life lets no probe out")
				}
			}
			probes := 0
			for _, s := range flying {
				if s.probe {
					probes++
				}
			}
			if b.state == breakerHalfOpen && probes == 0 {
				t.Fatal("half-open without a probe on its way: it would never end")
			}
			if b.admits(now, 0) != 0 || b.admits(now, -1) != 0 {
				t.Fatal("admits without room")
			}
		}
	})
}
