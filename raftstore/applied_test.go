package raftstore

import (
	"context"
	"errors"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

func TestAppliedIndex(t *testing.T) {
	var a appliedIndex
	closed := make(chan struct{})
	a.set(5)
	a.set(3)
	if got := a.get(); got != 5 {
		t.Errorf("index went back to %d", got)
	}
	if err := a.wait(t.Context(), 5, closed); err != nil {
		t.Errorf("wait for what is there = %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.wait(ctx, 6, closed); !errors.Is(err, context.Canceled) {
		t.Errorf("wait with an ended context = %v", err)
	}
	close(closed)
	if err := a.wait(t.Context(), 6, closed); !errors.Is(err, ErrShutdown) {
		t.Errorf("wait on a stopped node = %v", err)
	}
	if len(a.waiters) != 0 {
		t.Errorf("%d waiters are left", len(a.waiters))
	}
}

// Every waiter whose index is reached wakes, no other one does.
func TestAppliedIndexWakes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var a appliedIndex
		wants := rapid.SliceOfN(rapid.Uint64Range(1, 20), 1, 20).Draw(t, "wants")
		reach := rapid.Uint64Range(0, 20).Draw(t, "reach")
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		errs := make([]error, len(wants))
		var wg, reached sync.WaitGroup
		for i, w := range wants {
			wg.Add(1)
			if w <= reach {
				reached.Add(1)
			}
			go func() {
				defer wg.Done()
				errs[i] = a.wait(ctx, w, nil)
				if w <= reach {
					reached.Done()
				}
			}()
		}
		for i := uint64(1); i <= reach; i++ {
			a.set(i)
		}
		reached.Wait()
		cancel()
		wg.Wait()
		for i, w := range wants {
			if (errs[i] == nil) != (w <= reach) {
				t.Errorf("waiter for %d at %d: %v", w, reach, errs[i])
			}
		}
		if len(a.waiters) != 0 {
			t.Errorf("%d waiters are left", len(a.waiters))
		}
	})
}
