package workload

import (
	"context"
	"fmt"
	"sync"

	"oaas.io/control-plane/jepsen/history"
)

// Idempotent sends each request one to three times under one Idempotency-Key, through
// different nodes, at once or one after the other. What it creates it may change and delete
// under other keys, and then sends the creation once more: it must not come back. How often
// a command took effect is what the audit log and the stream of changes tell.
type Idempotent struct{}

// Name implements Workload.
func (Idempotent) Name() string { return history.Idempotent }

// resolveTries is how often a request is sent again while its outcome is not known.
const resolveTries = 4

// Run implements Workload.
func (w Idempotent) Run(ctx context.Context, env *Env) error {
	deployments := len(env.Clusters()) > 0
	if deployments {
		if err := env.stockShelf(ctx, w.Name()); err != nil {
			return ended(ctx, err)
		}
	}
	env.run(ctx, w.Name(), func(p *process) func(context.Context) {
		n := 0
		return func(ctx context.Context) {
			n++
			u := &repeater{p: p, key: fmt.Sprintf("idem-%d-%d", p.place, n)}
			u.story(ctx, deployments && p.chance(50))
		}
	})
	return nil
}

// repeater tells the story of one object.
type repeater struct {
	p       *process
	key     string
	queries int
}

func (u *repeater) story(ctx context.Context, deployment bool) {
	ask := func(kind string) call {
		u.queries++
		want := history.Request{IdempotencyKey: fmt.Sprintf("%s-%d", u.key, u.queries)}
		if kind != history.Delete {
			want.Value = u.p.value()
		}
		if !deployment {
			return packageCall(kind, u.key, want)
		}
		if kind == history.Write {
			kind = history.Put
		}
		return deploymentCall(kind, u.key, u.p.env.Clusters()[:1], want)
	}
	create := ask(history.Create)
	if !u.send(ctx, create) {
		return
	}
	for u.p.chance(40) {
		u.send(ctx, ask(history.Write))
	}
	if u.p.chance(50) {
		u.send(ctx, ask(history.Delete))
	}
	if u.p.chance(60) {
		u.send(ctx, create)
	}
}

// send sends a request several times, and again while nobody knows what became of it. It
// reports whether it is known to have taken effect.
func (u *repeater) send(ctx context.Context, c call) bool {
	times := 1 + u.p.rng.IntN(3)
	results := make([]result, times)
	if u.p.chance(50) {
		calls, users := make([]call, times), make([]*process, times)
		for i := range times {
			calls[i], users[i] = c, u.p.twin()
			calls[i].node = u.p.node()
		}
		var all sync.WaitGroup
		for i := range times {
			all.Go(func() { results[i] = users[i].do(ctx, calls[i]) })
		}
		all.Wait()
	} else {
		for i := range times {
			results[i] = u.p.do(ctx, c)
		}
	}
	for range resolveTries {
		for _, r := range results {
			if r.outcome == history.OK {
				return true
			}
		}
		if ctx.Err() != nil {
			return false
		}
		results = append(results, u.p.do(ctx, c))
	}
	return false
}

// twin is another process that does one thing for this one.
func (p *process) twin() *process {
	twin := *p
	twin.rng = nil // the source is its owner's alone
	twin.renew()
	return &twin
}
