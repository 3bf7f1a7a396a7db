package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"time"

	"oaas.io/control-plane/bench"
	"oaas.io/control-plane/deploy/local/system"
)

// failoverDeadline is the client's.
const failoverDeadline = 10 * time.Second

// failoverBounds are the promises for p50 and p99.
var failoverBounds = map[string][2]float64{"standard": {1.5, 3}, "fast": {0.8, 1.6}}

// measureFailover kills the leader and sends one POST through another node, with
// no retry and no key: at the same moment, and again some milliseconds earlier,
// so that the leader may have it already.
func measureFailover(ctx context.Context, s *haStack, options *haOptions) ([]bench.Result, error) {
	var results []bench.Result
	for _, variant := range []struct {
		name, note string
		// lead is how long before the kill the request of a round is sent.
		lead func(round int) time.Duration
	}{
		{"failover_" + s.profile, "sent through a follower at the moment of the kill", func(int) time.Duration { return 0 }},
		{"failover_inflight_" + s.profile, "sent through a follower 0.5 to 8 ms before the kill", func(round int) time.Duration {
			return time.Duration(1+round%16) * 500 * time.Microsecond
		}},
	} {
		var times []time.Duration
		failures, lost, early := 0, 0, 0
		for round := range options.kills {
			f, err := s.failover(ctx, fmt.Sprintf("%s-%d", variant.name, round), variant.lead(round))
			if err != nil {
				return results, err
			}
			times = append(times, f.took)
			if f.err != nil {
				failures++
				fmt.Fprintf(os.Stderr, "  %s, round %d: %v\n", variant.name, round, f.err)
			}
			if f.lost {
				lost++
			}
			if f.early {
				early++
			}
		}
		bounds := failoverBounds[s.profile]
		note := fmt.Sprintf("%d times SIGKILL of the leader, one POST %s, deadline %s, no retry, no key; until its answer; %d were answered before the process was gone", options.kills, variant.note, failoverDeadline, early)
		results = append(results,
			bench.AtMost(variant.name+"_p50", bench.Quantile(times, 0.5).Seconds(), bounds[0], "s", note),
			bench.AtMost(variant.name+"_p99", bench.Quantile(times, 0.99).Seconds(), bounds[1], "s", fmt.Sprintf("fastest %.3f s", bench.Quantile(times, 0).Seconds())),
			bench.Exactly(variant.name+"_failed", float64(failures), 0, "", "answers other than 200 or 201"),
			bench.Exactly(variant.name+"_lost", float64(lost), 0, "", "acknowledged, but not there afterwards"),
		)
	}
	return results, nil
}

// failoverRound is how the request of one round ended.
type failoverRound struct {
	took time.Duration
	err  error
	lost bool
	// early is true when the answer came before the leader's process was gone.
	early bool
}

func (s *haStack) failover(ctx context.Context, key string, lead time.Duration) (failoverRound, error) {
	leader, err := s.system.Leader(ctx)
	if err != nil {
		return failoverRound{}, err
	}
	follower := s.system.Follower(leader)
	// The connection is there, as that of a client that is at work.
	client := &system.Client{Base: follower.URL(), HTTP: &http.Client{Transport: &http.Transport{}}}
	defer client.HTTP.CloseIdleConnections()
	if _, err := client.Deployment(ctx, key); !system.IsStatus(err, http.StatusNotFound) {
		return failoverRound{}, fmt.Errorf("before the kill: %w", err)
	}
	answered := make(chan failoverRound, 1)
	sent := make(chan struct{})
	go func() {
		postCtx, cancel := context.WithTimeout(ctx, failoverDeadline)
		defer cancel()
		began := time.Now()
		close(sent)
		_, err := client.Do(postCtx, http.MethodPost, "/api/v1/deployments", deploymentBody(key), nil)
		answered <- failoverRound{took: time.Since(began), err: err}
	}()
	<-sent
	if lead > 0 {
		<-time.After(lead)
	}
	leader.Kill()
	early := len(answered) > 0
	round := <-answered
	round.early = early
	if round.err == nil {
		_, err := client.Deployment(ctx, key)
		round.lost = system.IsStatus(err, http.StatusNotFound)
	}
	return round, s.recover(ctx, leader)
}
