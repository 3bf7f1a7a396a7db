package liveness_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"oaas.io/control-plane/dispatch/liveness"
)

// world adds to a plane what is true of it, by a clock that nobody has.
type world struct {
	*plane
	// contact and lost are since when the present leader has been in contact, or has not.
	contact, lost time.Time
	// first is the first moment without contact since a contact counted for the last time.
	first time.Time
}

func (w *world) drop() {
	w.lost, w.contact = w.now, time.Time{}
	if w.first.IsZero() {
		w.first = w.now
	}
}

// check compares what became of the cluster with what is true.
func (w *world) check(t *rapid.T, before liveness.State) {
	l, after := w.limits, w.stored.State
	if !w.contact.IsZero() && w.now.Sub(w.contact) >= l.Return {
		w.first = time.Time{}
	}
	silent, away := time.Duration(0), time.Duration(0)
	if !w.lost.IsZero() {
		silent = w.now.Sub(w.lost)
	}
	if !w.first.IsZero() {
		away = w.now.Sub(w.first)
	}
	flaps := w.own.Brief >= liveness.Flapping
	switch {
	case before == after:
	case after == suspect && before != healthy, after == eligible && before != unreachable,
		after == unreachable && before == healthy && !w.stored.Coarse:
		t.Fatalf("from %v to %v", before, after)
	case after == suspect && !flaps && silent < l.Suspect:
		t.Fatalf("suspect after %s of silence", silent)
	case after == unreachable && before < unreachable && (away < l.Unreachable || silent < l.Suspect && !flaps):
		t.Fatalf("unreachable after %s, the leader has missed it for %s", away, silent)
	case after == healthy && before >= suspect && (w.contact.IsZero() || w.now.Sub(w.contact) < l.Return):
		t.Fatalf("back without contact for long enough")
	}
	if after == eligible {
		confirmed := false
		for _, s := range w.others {
			if age := w.clock().Sub(s.At); age <= l.Unreachable {
				confirmed = confirmed || !s.Reachable
				if s.Reachable {
					t.Fatalf("eligible although another node has reached it %s ago", age)
				}
			}
		}
		if !confirmed && !l.Unconfirmed || away < l.Eligible || silent < l.Unreachable || w.own.Up {
			t.Fatalf("eligible after %s, the leader has missed it for %s, confirmed: %v", away, silent, confirmed)
		}
	}
	if after >= suspect && w.stored.Since.IsZero() || after == healthy && !w.stored.Since.IsZero() {
		t.Fatalf("%v since %v", after, w.stored.Since)
	}
	if w.stored.Coarse && (after == suspect || after == eligible) {
		t.Fatalf("%v in a control plane that does not know it", after)
	}
}

// TestHistories lets leaders with differing clocks, contacts and other nodes come and go.
func TestHistories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limits := liveness.Limits{Unconfirmed: rapid.Bool().Draw(t, "unconfirmed")}.WithDefaults()
		w := &world{plane: newPlane(limits)}
		w.stored.Coarse = rapid.IntRange(0, 3).Draw(t, "coarse") == 0
		w.drop()
		step := func(do func()) func(*rapid.T) {
			return func(t *rapid.T) {
				before := w.stored.State
				do()
				w.judge()
				w.check(t, before)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"pass a little": func(t *rapid.T) {
				step(func() { w.now = w.now.Add(time.Duration(rapid.IntRange(1, 8000).Draw(t, "ms")) * time.Millisecond) })(t)
			},
			"pass": func(t *rapid.T) {
				for range rapid.IntRange(1, 80).Draw(t, "times") {
					step(func() { w.now = w.now.Add(5 * time.Second) })(t)
				}
			},
			"find": step(func() {
				if !w.own.Up {
					w.own.Found(w.clock())
					w.contact, w.lost = w.now, time.Time{}
				}
			}),
			"lose": step(func() {
				if w.own.Up {
					if w.now.Sub(w.contact) >= limits.Return {
						w.first = time.Time{}
					}
					w.own.Lost(w.clock(), limits)
					w.drop()
				}
			}),
			"elect": func(t *rapid.T) {
				skew := time.Duration(rapid.IntRange(0, int(limits.Skew/time.Millisecond)).Draw(t, "skew")) * time.Millisecond
				step(func() {
					if w.own.Up && w.now.Sub(w.contact) >= limits.Return {
						w.first = time.Time{}
					}
					w.skew, w.others, w.own = skew, nil, liveness.Began(w.now.Add(skew))
					w.drop()
				})(t)
			},
			"look from elsewhere": func(t *rapid.T) {
				reachable := rapid.IntRange(0, 3).Draw(t, "reachable") == 0
				step(func() { w.others = append(w.others, liveness.Sighting{At: w.clock(), Reachable: reachable}) })(t)
			},
		})
	})
}
