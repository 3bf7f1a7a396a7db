package workload

import (
	"context"
	"sync/atomic"
	"time"

	"oaas.io/control-plane/jepsen/history"
)

// Sessions read at an index that they, or somebody who told them, have seen, and read what a
// node has. Each writes keys of its own, so that what must be seen is known.
type Sessions struct {
	// MaxStaleness of the stale reads that have a bound; default 2 s.
	MaxStaleness time.Duration
	// PerKey is after how many operations a session goes on with another key; default 150.
	PerKey int
}

// Name implements Workload.
func (Sessions) Name() string { return history.Sessions }

// Run implements Workload.
func (w Sessions) Run(ctx context.Context, env *Env) error {
	n := env.options.Processes
	shared := &told{keys: newSlots("ses", n, or(w.PerKey, 150)), staleness: w.MaxStaleness}
	if shared.staleness == 0 {
		shared.staleness = 2 * time.Second
	}
	env.run(ctx, w.Name(), func(p *process) func(context.Context) {
		s := &session{p: p, told: shared}
		return s.step
	})
	return nil
}

// told is what sessions tell each other.
type told struct {
	keys      *slots
	staleness time.Duration
	// index is the highest that any write of theirs was answered with.
	index atomic.Uint64
}

// session is one user who remembers how far it has seen the log.
type session struct {
	p    *process
	told *told
	// index is the highest that the session has seen; wrote says that its present key is
	// known to exist.
	index uint64
	wrote bool
}

func (s *session) step(ctx context.Context) {
	p := s.p
	slot := p.place
	if p.chance(30) {
		slot = p.rng.IntN(len(s.told.keys.used))
	}
	key, fresh := s.told.keys.next(slot)
	if slot == p.place && fresh {
		s.wrote = false
	}
	n := p.rng.IntN(100)
	switch {
	case slot == p.place && (n < 30 || !s.wrote):
		s.write(ctx, key)
	case n < 60:
		s.read(ctx, key, history.Request{Mode: history.AtIndex, AtIndex: s.index})
	case n < 75:
		s.read(ctx, key, history.Request{Mode: history.AtIndex, AtIndex: s.told.index.Load()})
	case n < 88:
		s.read(ctx, key, history.Request{Mode: history.Stale, MaxStaleness: s.told.staleness})
	default:
		s.read(ctx, key, history.Request{Mode: history.Stale})
	}
}

func (s *session) write(ctx context.Context, key string) {
	kind := history.Write
	if !s.wrote {
		kind = history.Create
	}
	got := s.p.do(ctx, packageCall(kind, key, history.Request{Value: s.p.value()}))
	switch {
	case got.outcome == history.OK:
		s.wrote = true
		s.index = max(s.index, got.index)
		for have := s.told.index.Load(); have < got.index && !s.told.index.CompareAndSwap(have, got.index); {
			have = s.told.index.Load()
		}
	case kind == history.Create && got.Code == history.RefusedPrecondition:
		s.wrote = true // an earlier attempt, whose outcome was not known
	case kind == history.Write && got.Code == history.RefusedNotFound:
		s.wrote = false // it is a fresh key that another session has had first
	}
}

func (s *session) read(ctx context.Context, key string, want history.Request) {
	if want.Mode == history.AtIndex && want.AtIndex == 0 {
		want = history.Request{}
	}
	got := s.p.readPackage(ctx, key, want)
	// What was stale stays so: only what is waited for moves a session on.
	if got.outcome == history.OK {
		s.index = max(s.index, got.index)
	}
}
