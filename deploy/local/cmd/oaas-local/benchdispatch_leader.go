package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"oaas.io/control-plane/bench"
	"oaas.io/control-plane/deploy/local/agent"
	"oaas.io/control-plane/deploy/local/system"
)

const (
	// firstPlanBound is the promise, in seconds.
	firstPlanBound = 3
	// afterwards is how long after a new leader knows all clusters nothing may be sent.
	afterwards = 10 * time.Second
)

// measureLeader kills the leader when the clusters have all that is wanted.
func measureLeader(ctx context.Context, s *dispatchStack) ([]bench.Result, error) {
	rate, err := postAll(ctx, s.system.PMs, s.options.leaderUnits, func(n int) []byte { return body(fmt.Sprintf("leader-%06d", n), s.agents, n, 1) })
	if err != nil {
		return nil, err
	}
	if err := s.settled(ctx); err != nil {
		return nil, err
	}
	var plans, known []time.Duration
	writes := 0
	for round := range s.options.kills {
		r, err := s.replaceLeader(ctx, fmt.Sprintf("after-%d", round))
		if err != nil {
			return nil, err
		}
		plans, known = append(plans, r.planned), append(known, r.known)
		writes += r.writes
	}
	return []bench.Result{
		bench.Exactly("leader_change_writes", float64(writes), 0, "",
			fmt.Sprintf("calls of Deploy and DeleteDeployment about what had not changed, in %d changes of leader with %d units in %d clusters, until %s after every cluster had told its inventory", s.options.kills, s.options.leaderUnits, len(s.agents), afterwards)),
		bench.AtMost("leader_change_first_plan", bench.Quantile(plans, 1).Seconds(), firstPlanBound, "s",
			fmt.Sprintf("slowest: from SIGKILL of the leader until a deployment that was posted at that moment through a follower is received by its cluster; fastest %.2f s", bench.Quantile(plans, 0).Seconds())),
		bench.Info("leader_change_inventories", bench.Quantile(known, 1).Seconds(), "s", "slowest: until every cluster has told the new leader its inventory"),
		bench.Info("leader_change_load_rate", rate, "1/s", fmt.Sprintf("deployments while the units were loaded by %d clients", scaleLoaders)),
	}, nil
}

// leaderChange is what happened when a leader was killed.
type leaderChange struct {
	planned, known time.Duration
	writes         int
}

func (s *dispatchStack) replaceLeader(ctx context.Context, key string) (leaderChange, error) {
	var r leaderChange
	leader, err := s.system.Leader(ctx)
	if err != nil {
		return r, err
	}
	follower := s.system.Follower(leader)
	before, told := s.calls(), map[*agent.Agent]uint64{}
	for _, a := range s.agents {
		told[a] = a.Inventories()
	}
	killed := time.Now()
	leader.Kill()
	if _, err := follower.Client().Do(ctx, http.MethodPost, "/api/v1/deployments", body(key, s.agents, 0, 1), nil); err != nil {
		return r, err
	}
	if err := soon(ctx, "the new deployment arrives", func() bool { return !s.receipts.at(key, 1).IsZero() }); err != nil {
		return r, err
	}
	r.planned = s.receipts.at(key, 1).Sub(killed)
	err = soon(ctx, "every cluster has told its inventory", func() bool {
		for _, a := range s.agents {
			if a.Inventories() == told[a] {
				return false
			}
		}
		return true
	})
	if err != nil {
		return r, err
	}
	r.known = time.Since(killed)
	if err := s.settled(ctx); err != nil {
		return r, err
	}
	if !sleepFor(ctx, afterwards) {
		return r, context.Cause(ctx)
	}
	r.writes = int(s.calls()-before) - 1 //nolint:gosec // a count of calls
	// What is written anew is read from its unit; here it only has to be back for the next round.
	if err := leader.Start(); err != nil {
		return r, err
	}
	if err := leader.WaitReady(ctx); err != nil {
		return r, err
	}
	return r, system.Poll(ctx, "all nodes are healthy voters", func(ctx context.Context) (bool, error) {
		members, err := leader.Client().Members(ctx)
		voters := 0
		for _, m := range members {
			if m.Voter {
				voters++
			}
		}
		return voters == len(s.system.PMs), err
	})
}
