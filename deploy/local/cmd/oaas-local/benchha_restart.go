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

// calm is how long the load runs undisturbed before and after a node is ended.
const calm = 700 * time.Millisecond

// measureSigterm ends the leader in order, again and again, under load.
func measureSigterm(ctx context.Context, s *haStack, options *haOptions) ([]bench.Result, error) {
	l := startLoad(ctx, s, "sigterm", false)
	type span struct{ from, to time.Time }
	var spans []span
	rest := func() { <-time.After(calm) }
	err := func() error {
		for range options.rounds {
			leader, err := s.system.Leader(ctx)
			if err != nil {
				return err
			}
			rest()
			began := time.Now()
			if !leader.Stop(ctx) {
				return fmt.Errorf("%s did not end after SIGTERM", leader.Name)
			}
			rest()
			spans = append(spans, span{began, time.Now()})
			if err := s.recover(ctx, leader); err != nil {
				return err
			}
		}
		return nil
	}()
	l.end()
	if err != nil {
		return nil, err
	}
	var pauses []time.Duration
	for _, sp := range spans {
		pauses = append(pauses, l.pause(sp.from, sp.to))
	}
	tell(l.failed)
	return []bench.Result{
		bench.AtMost("sigterm_pause_p99", milliseconds(bench.Quantile(pauses, 0.99)), 300, "ms",
			fmt.Sprintf("longest time between two acknowledged writes around each of %d SIGTERMs of the leader; %d writers and as many readers, each every %s", options.rounds, loadWorkers, loadEvery)),
		bench.Info("sigterm_pause_p50", milliseconds(bench.Quantile(pauses, 0.5)), "ms", ""),
		bench.Exactly("sigterm_failed_requests", float64(len(l.failed)), 0, "",
			fmt.Sprintf("of %d, without key or retry, to nodes whose /readyz was ok within the last %s, over kept connections; only a refused connection is tried at another node", l.requests, probeEvery)),
	}, nil
}

// measureRolling restarts all nodes, one after the other, under load.
func measureRolling(ctx context.Context, s *haStack, options *haOptions) ([]bench.Result, error) {
	l := startLoad(ctx, s, "rolling", true)
	turns := max(options.rounds/5, 1)
	err := func() error {
		for range turns {
			for _, pm := range s.system.PMs {
				<-time.After(calm)
				if !pm.Stop(ctx) {
					return fmt.Errorf("%s did not end after SIGTERM", pm.Name)
				}
				if err := pm.Start(); err != nil {
					return err
				}
				if err := pm.WaitReady(ctx); err != nil {
					return err
				}
			}
		}
		<-time.After(calm)
		return nil
	}()
	l.end()
	if err != nil {
		return nil, err
	}
	lost, err := s.missing(ctx, l)
	if err != nil {
		return nil, err
	}
	tell(l.failed)
	return []bench.Result{
		bench.Exactly("rolling_restart_lost_writes", float64(lost), 0, "",
			fmt.Sprintf("of %d acknowledged in %d restarts of all nodes; looked for on every node by linearizable and by stale reads", len(l.written), turns)),
		bench.Exactly("rolling_restart_failed_requests", float64(len(l.failed)), 0, "",
			fmt.Sprintf("of %d by clients that retry as the answers tell, with the same Idempotency-Key, for up to %s", l.requests, loadDeadline)),
	}, nil
}

// missing counts the acknowledged writes that some node does not have.
func (s *haStack) missing(ctx context.Context, l *load) (int, error) {
	lost := map[string]bool{}
	for _, pm := range s.system.PMs {
		for _, consistency := range []string{"linearizable", "stale"} {
			var list []system.Deployment
			if _, err := pm.Client().Do(ctx, http.MethodGet, "/api/v1/deployments?consistency="+consistency, nil, &list); err != nil {
				return 0, err
			}
			have := map[string]bool{}
			for _, d := range list {
				have[d.Key] = true
			}
			for key := range l.written {
				if !have[key] {
					lost[key] = true
				}
			}
		}
	}
	return len(lost), nil
}

// tell prints the first of what went wrong.
func tell(failed []error) {
	for _, err := range failed[:min(len(failed), 10)] {
		fmt.Fprintln(os.Stderr, "  failed:", err)
	}
}
