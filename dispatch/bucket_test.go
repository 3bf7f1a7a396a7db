package dispatch

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestBucket: whatever is asked for when, no more is given in any span of time than
// the limit allows, and whoever waits as told gets something.
func TestBucket(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := limit{burst: float64(rapid.IntRange(1, 50).Draw(t, "burst")), rate: float64(rapid.IntRange(1, 50).Draw(t, "rate"))}
		const dearest = 5
		type gift struct {
			at   time.Time
			cost float64
		}
		var gifts []gift
		var b bucket
		now := time.Unix(1000, 0)
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 500).Draw(t, "ms")) * time.Millisecond)
			b.fill(l, now)
			cost := float64(rapid.IntRange(1, dearest).Draw(t, "cost"))
			if b.take(cost) {
				gifts = append(gifts, gift{now, cost})
				continue
			}
			wait := b.wait(l)
			if wait <= 0 {
				t.Fatalf("dry without a wait: %+v", b)
			}
			later := b
			later.fill(l, now.Add(wait))
			if later.dry || later.wait(l) != 0 {
				t.Fatalf("still dry after a wait of %s: %+v", wait, later)
			}
		}
		for i := range gifts {
			given := 0.0
			for _, g := range gifts[i:] {
				given += g.cost
				most := l.burst + l.rate*g.at.Sub(gifts[i].at).Seconds() + dearest
				if given > most+1e-6 {
					t.Fatalf("%v given within %s, at most %v are allowed", given, g.at.Sub(gifts[i].at), most)
				}
			}
		}
	})
}

func TestGateTellsWhatItHeldBack(t *testing.T) {
	now := time.Unix(1000, 0)
	g := &gate{limit: limit{burst: 2, rate: 1}, now: func() time.Time { return now }}
	passed := 0
	for range 10 {
		if ok, _ := g.pass(); ok {
			passed++
		}
	}
	if passed != 2 {
		t.Errorf("%d passed at once, want 2", passed)
	}
	now = now.Add(time.Second)
	if ok, held := g.pass(); !ok || held != 8 {
		t.Errorf("after a second: %v, %d held back, want 8", ok, held)
	}
}
