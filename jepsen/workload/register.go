package workload

import (
	"context"
	"fmt"
	"sync/atomic"

	"oaas.io/control-plane/jepsen/history"
)

// Register uses packages as registers with compare and set. Reads are linearizable, on any
// node.
type Register struct {
	// Slots are how many keys are in use at a time; default 6.
	Slots int
	// PerKey is after how many operations a slot goes on with another key; default 150.
	PerKey int
}

// Name implements Workload.
func (Register) Name() string { return history.Register }

// Run implements Workload.
func (w Register) Run(ctx context.Context, env *Env) error {
	slots := newSlots("reg", or(w.Slots, 6), or(w.PerKey, 150))
	env.run(ctx, w.Name(), func(p *process) func(context.Context) {
		// What the process has seen of each key: the versions for its next compare and set.
		seen := map[string]uint64{}
		return func(ctx context.Context) { registerStep(ctx, p, slots, seen) }
	})
	return nil
}

func registerStep(ctx context.Context, p *process, slots *slots, seen map[string]uint64) {
	key, fresh := slots.next(p.rng.IntN(len(slots.used)))
	if fresh || len(seen) > 1000 {
		clear(seen)
	}
	var kind string
	var want history.Request
	switch n := p.rng.IntN(100); {
	case n < 45:
		got := p.readPackage(ctx, key, want)
		seen[key] = got.Version
		return
	case n < 55:
		kind = history.Create
	case n < 70:
		kind = history.Write
	case n < 92:
		kind = history.CAS
		if want.Version = seen[key]; want.Version == 0 {
			kind = history.Write
		}
	default:
		kind = history.Delete
		if p.chance(50) {
			want.Version = seen[key]
		}
	}
	if kind != history.Delete {
		want.Value = p.value()
	}
	got := p.do(ctx, packageCall(kind, key, want))
	switch {
	case got.outcome == history.OK:
		seen[key] = got.Version // 0 after a delete
	case got.outcome == history.Failed && !got.Refused():
	default:
		delete(seen, key)
	}
}

// slots hand out keys, each a bounded number of times.
type slots struct {
	prefix string
	per    int64
	used   []atomic.Int64
}

func newSlots(prefix string, n, per int) *slots {
	return &slots{prefix: prefix, per: int64(per), used: make([]atomic.Int64, n)}
}

// next gives the present key of a slot, and whether nobody had it before.
func (s *slots) next(slot int) (key string, fresh bool) {
	n := s.used[slot].Add(1) - 1
	return fmt.Sprintf("%s-%d-%d", s.prefix, slot, n/s.per), n%s.per == 0
}

func or(n, def int) int {
	if n == 0 {
		return def
	}
	return n
}
