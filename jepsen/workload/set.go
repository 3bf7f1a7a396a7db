package workload

import (
	"context"
	"fmt"

	"oaas.io/control-plane/jepsen/history"
)

// Set creates deployments, each once, and deletes some of them, each once.
type Set struct {
	// Most is how many deployments a process creates; then it only reads and deletes.
	// Default 400.
	Most int
}

// Name implements Workload.
func (Set) Name() string { return history.Set }

// Run implements Workload.
func (w Set) Run(ctx context.Context, env *Env) error {
	if len(env.Clusters()) == 0 {
		return nil
	}
	if err := env.stockShelf(ctx, w.Name()); err != nil {
		return ended(ctx, err)
	}
	env.run(ctx, w.Name(), func(p *process) func(context.Context) {
		s := &setUser{p: p, most: or(w.Most, 400)}
		return s.step
	})
	return nil
}

// setUser knows the deployments that it has created and not yet deleted.
type setUser struct {
	p       *process
	most    int
	created int
	have    []string
}

func (s *setUser) step(ctx context.Context) {
	p := s.p
	n := p.rng.IntN(100)
	switch {
	case s.created < s.most && (n < 60 || len(s.have) == 0):
		key := fmt.Sprintf("set-%d-%d", p.place, s.created)
		s.created++
		got := p.do(ctx, deploymentCall(history.Create, key, p.pick(p.env.Clusters()), history.Request{Value: p.value()}))
		if got.outcome != history.Failed {
			s.have = append(s.have, key)
		}
	case len(s.have) == 0:
	case n < 85:
		p.readDeployment(ctx, s.have[p.rng.IntN(len(s.have))], history.Request{})
	default:
		at := p.rng.IntN(len(s.have))
		p.do(ctx, deploymentCall(history.Delete, s.have[at], nil, history.Request{}))
		s.have = append(s.have[:at], s.have[at+1:]...)
	}
}

// ended is err unless the run has ended.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil //nolint:nilerr // the end of the run is not its failure
	}
	return err
}
