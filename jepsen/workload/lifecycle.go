package workload

import (
	"context"
	"time"

	"oaas.io/control-plane/jepsen/history"
)

// Lifecycle deploys, changes, moves and deletes deployments again and again, while their
// clusters come and go.
type Lifecycle struct {
	// Slots are how many deployments there are at a time; default 8.
	Slots int
	// PerKey is after how many operations a slot goes on with another key; default 150.
	PerKey int
}

// Name implements Workload.
func (Lifecycle) Name() string { return history.Lifecycle }

// lifecycleWait is how long some of the writes wait for their deployment to be available.
const lifecycleWait = 2 * time.Second

// Run implements Workload.
func (w Lifecycle) Run(ctx context.Context, env *Env) error {
	if len(env.Clusters()) == 0 {
		return nil
	}
	if err := env.stockShelf(ctx, w.Name()); err != nil {
		return ended(ctx, err)
	}
	slots := newSlots("dep", or(w.Slots, 8), or(w.PerKey, 150))
	env.run(ctx, w.Name(), func(p *process) func(context.Context) {
		seen := map[string]uint64{}
		return func(ctx context.Context) { lifecycleStep(ctx, p, slots, seen) }
	})
	return nil
}

func lifecycleStep(ctx context.Context, p *process, slots *slots, seen map[string]uint64) {
	key, fresh := slots.next(p.rng.IntN(len(slots.used)))
	if fresh || len(seen) > 1000 {
		clear(seen)
	}
	var want history.Request
	kind := history.Put
	switch n := p.rng.IntN(100); {
	case n < 35:
		seen[key] = p.readDeployment(ctx, key, want).Version
		return
	case n < 45:
		kind = history.Create
	case n < 70:
	case n < 85:
		if seen[key] != 0 {
			kind, want.Version = history.CAS, seen[key]
		}
	default:
		kind = history.Delete
	}
	if kind != history.Delete {
		want.Value = p.value()
		if p.chance(15) {
			want.Wait = lifecycleWait
		}
	}
	seen[key] = p.do(ctx, deploymentCall(kind, key, p.pick(p.env.Clusters()), want)).Version
}
