package registry

import (
	"context"
	"math"
	"time"
)

// refreshLimit bounds how long a read that may be stale waits to find out how stale it is.
const refreshLimit = 500 * time.Millisecond

// readBarrier returns once the local state holds every write that was acknowledged before the call.
func (r *Registry) readBarrier(ctx context.Context) error {
	began := time.Now()
	if _, err := r.store.ReadBarrier(ctx); err != nil {
		return err
	}
	for {
		have := r.fresh.Load()
		if have != nil && !have.Before(began) || r.fresh.CompareAndSwap(have, &began) {
			return nil
		}
	}
}

// age is how old the local state can be: everything that was acknowledged longer ago is in it.
func (r *Registry) age() time.Duration {
	if at := r.fresh.Load(); at != nil {
		return time.Since(*at) // by the monotonic clock
	}
	return math.MaxInt64
}

// notOlder makes sure that the local state holds everything that was acknowledged longer than limit ago; 0 is no limit.
// That the leader was heard from within that time would not do: a node that was started or woken just now hears from the
// leader long before it has caught up with it. A barrier tells, and that of any other read is as good; one is made when half
// of the time is over, so that the rest of it is there for when nobody leads.
func (r *Registry) notOlder(ctx context.Context, limit time.Duration) error {
	if limit <= 0 || r.age() <= limit/2 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, refreshLimit)
	defer cancel()
	err := r.readBarrier(ctx)
	if err == nil {
		return nil
	}
	age := r.age()
	if age <= limit {
		return nil
	}
	out := errorf(Unavailable, "This node last had the state of all others %s ago, more than the allowed %s", age.Round(time.Millisecond), limit)
	if age == math.MaxInt64 {
		out = errorf(Unavailable, "This node has not caught up with the others since its start; its state may be older than the allowed %s", limit)
	}
	out.cause = err
	return out
}
