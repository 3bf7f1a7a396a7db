package workload

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// process is one user. It does one thing at a time.
type process struct {
	env      *Env
	workload string
	// place among the processes of the workload; id is its number in the history.
	place, id int
	rng       *rand.Rand
}

func (e *Env) process(workload string, place int) *process {
	p := &process{env: e, workload: workload, place: place, rng: e.random(workload, place)}
	p.renew()
	return p
}

// renew goes on under another number.
func (p *process) renew() { p.id = int(p.env.shared.processes.Add(1)) }

// node is any of those there are.
func (p *process) node() string {
	nodes := p.env.Nodes()
	if len(nodes) == 0 {
		return ""
	}
	return nodes[p.rng.IntN(len(nodes))]
}

// value is one that nobody else writes.
func (p *process) value() string { return fmt.Sprintf("v%d", p.env.shared.values.Add(1)) }

// chance is true in so many of 100 cases.
func (p *process) chance(percent int) bool { return p.rng.IntN(100) < percent }

// run has the workload's processes take steps until ctx ends, at the Env's rate. start makes
// the step of a process.
func (e *Env) run(ctx context.Context, workload string, start func(p *process) func(context.Context)) {
	n := e.options.Processes
	var all sync.WaitGroup
	for place := range n {
		p := e.process(workload, place)
		step := start(p)
		all.Go(func() { e.pace(ctx, place, n, step) })
	}
	all.Wait()
}

// pace takes steps at a process' share of the rate. Time that a slow step took is lost: a
// user who waited does not hurry afterwards.
func (e *Env) pace(ctx context.Context, place, of int, step func(context.Context)) {
	var every time.Duration
	if e.options.Rate > 0 {
		every = time.Duration(float64(of) / e.options.Rate * float64(time.Second))
	}
	next := time.Now().Add(every * time.Duration(place) / time.Duration(of))
	for pause(ctx, time.Until(next)) {
		step(ctx)
		if next = next.Add(every); next.Before(time.Now()) {
			next = time.Now()
		}
	}
}

// pause waits, and reports whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
