package main

import (
	"context"
	"fmt"
	"time"

	"oaas.io/control-plane/bench"
	"oaas.io/control-plane/deploy/local/agent"
)

// coldBound is the promise, in seconds.
const coldBound = 10

// measureCold lets units wait for clusters that come up together, and then lets a new leader find the same clusters empty.
func measureCold(ctx context.Context, s *dispatchStack) ([]bench.Result, error) {
	if err := s.each(s.agents, (*agent.Agent).Unplug); err != nil {
		return nil, err
	}
	if err := s.awaitHealth(ctx, "Unhealthy", s.agents); err != nil {
		return nil, err
	}
	if _, err := postAll(ctx, s.system.PMs, s.options.units, func(n int) []byte { return body(fmt.Sprintf("cold-%06d", n), s.agents, n, 1) }); err != nil {
		return nil, err
	}
	began := time.Now()
	if err := s.each(s.agents, (*agent.Agent).Plug); err != nil {
		return nil, err
	}
	results, err := s.flood(ctx, "cold", began, fmt.Sprintf("%d units in %d clusters whose managers come up together, from then until the last unit was received", s.options.units, len(s.agents)))
	if err != nil {
		return results, err
	}
	for _, a := range s.agents {
		if err := a.Unplug(); err != nil {
			return results, err
		}
		a.Wipe()
	}
	leader, err := s.system.Leader(ctx)
	if err != nil {
		return results, err
	}
	s.receipts.forget()
	began = time.Now()
	leader.Kill()
	if err := s.each(s.agents, (*agent.Agent).Plug); err != nil {
		return results, err
	}
	more, err := s.flood(ctx, "cold_new_leader", began, "the same clusters come up empty at the moment in which the leader is killed; from then, with the election")
	return append(results, more...), err
}

// flood waits until the clusters have received everything.
func (s *dispatchStack) flood(ctx context.Context, name string, began time.Time, note string) ([]bench.Result, error) {
	err := soon(ctx, "every unit is received", func() bool {
		wishes, _ := s.receipts.received()
		return wishes >= s.options.units
	})
	if err != nil {
		return nil, err
	}
	took := time.Since(began)
	results := []bench.Result{
		bench.AtMost(name+"_dispatch", took.Seconds(), coldBound, "s", note),
		bench.Info(name+"_rate", float64(s.options.units)/took.Seconds(), "1/s", ""),
	}
	if err := s.settled(ctx); err != nil {
		return results, err
	}
	wishes, calls := s.receipts.received()
	return append(results,
		bench.Info(name+"_confirmed", time.Since(began).Seconds(), "s", "until the state has every confirmation"),
		bench.Exactly(name+"_repeated", float64(calls-wishes), 0, "", "calls of Deploy beyond one for each unit"),
	), nil
}
