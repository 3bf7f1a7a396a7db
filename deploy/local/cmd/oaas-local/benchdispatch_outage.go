package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"time"

	"oaas.io/control-plane/bench"
	"oaas.io/control-plane/deploy/local/agent"
	"oaas.io/control-plane/deploy/local/system"
)

const (
	// outageUnits is how many units of the cluster stay as they are, are removed, are changed, and are made, each, while it is
	// cut off.
	outageUnits = 100
	// reconnectBound is the promise, in seconds.
	reconnectBound = 5
)

// measureOutage cuts one cluster off, changes what is wanted there, and brings it back.
func measureOutage(ctx context.Context, s *dispatchStack) ([]bench.Result, error) {
	lost := s.agents[:1]
	key := func(kind string, n int) string { return fmt.Sprintf("outage-%s-%03d", kind, n) }
	put := func(kind string, version int) error {
		_, err := postAll(ctx, s.system.PMs, outageUnits, func(n int) []byte { return body(key(kind, n), lost, 0, version) })
		return err
	}
	for _, kind := range []string{"same", "removed", "changed"} {
		if err := put(kind, 1); err != nil {
			return nil, err
		}
	}
	if err := s.settled(ctx); err != nil {
		return nil, err
	}
	began := time.Now()
	if err := lost[0].Unplug(); err != nil {
		return nil, err
	}
	if err := s.awaitHealth(ctx, "Unhealthy", lost); err != nil {
		return nil, err
	}
	noticed := time.Since(began)
	if err := put("changed", 2); err != nil {
		return nil, err
	}
	if err := put("made", 1); err != nil {
		return nil, err
	}
	leader, err := s.system.Leader(ctx)
	if err != nil {
		return nil, err
	}
	for n := 1; n <= outageUnits; n++ {
		if _, err := leader.Client().Do(ctx, http.MethodDelete, "/api/v1/deployments/"+key("removed", n), nil, nil); err != nil {
			return nil, err
		}
	}
	want := map[string]uint64{}
	for n := 1; n <= outageUnits; n++ {
		want[key("same", n)], want[key("changed", n)], want[key("made", n)] = 1, 2, 1
	}
	if !sleepFor(ctx, s.options.outage-time.Since(began)) {
		return nil, context.Cause(ctx)
	}
	deploys, deletes := lost[0].Deploys(), lost[0].Deletes()
	back := time.Now()
	if err := lost[0].Plug(); err != nil {
		return nil, err
	}
	if err := soon(ctx, "the cluster has exactly what is wanted", func() bool { return maps.Equal(want, generations(lost[0])) }); err != nil {
		return nil, err
	}
	consistent := time.Since(back)
	if err := s.confirmed(ctx); err != nil {
		return nil, err
	}
	known := time.Since(back)
	if !sleepFor(ctx, afterwards) {
		return nil, context.Cause(ctx)
	}
	wrong := 0
	if !maps.Equal(want, generations(lost[0])) {
		wrong = 1
	}
	note := fmt.Sprintf("%d units each were removed, changed, made and left alone in a cluster that refused connections for %s; all pauses of the control plane have reached their longest by then (15 s), so that an hour differs from it in nothing but the time", outageUnits, s.options.outage)
	return []bench.Result{
		bench.AtMost("outage_consistent", consistent.Seconds(), reconnectBound, "s", note+"; from when it listens again until it has exactly what is wanted"),
		bench.AtMost("outage_confirmed", known.Seconds(), reconnectBound, "s", "until the state has every confirmation and no tombstone"),
		bench.Exactly("outage_repeated", float64(lost[0].Deploys()-deploys)-2*outageUnits, 0, "", "calls of Deploy beyond one for each unit that was changed or made"),
		bench.Exactly("outage_wrong", float64(wrong), 0, "", fmt.Sprintf("1 if the cluster has something else than what is wanted %s later", afterwards)),
		bench.Info("outage_deletes", float64(lost[0].Deletes()-deletes), "", "calls of DeleteDeployment; each removal is asked for and then confirmed by a second one"),
		bench.Info("outage_noticed", noticed.Seconds(), "s", "from the loss until the cluster is shown as unhealthy"),
	}, nil
}

// generations gives what a cluster has, by deployment. A deployment that it has twice gets a generation that none has.
func generations(a *agent.Agent) map[string]uint64 {
	out := map[string]uint64{}
	for _, d := range a.Deliveries() {
		if _, twice := out[d.GetDeploymentKey()]; twice {
			out[d.GetDeploymentKey()] = 0
			continue
		}
		out[d.GetDeploymentKey()] = d.GetGeneration()
	}
	return out
}

// confirmed waits until the state has every confirmation and no deletion is open.
func (s *dispatchStack) confirmed(ctx context.Context) error {
	if err := s.settled(ctx); err != nil {
		return err
	}
	return system.Poll(ctx, "no deletion is open", func(ctx context.Context) (bool, error) {
		leader, err := s.system.Leader(ctx)
		if err != nil {
			return false, err
		}
		open, err := leader.Client().Deletions(ctx)
		return len(open) == 0, err
	})
}
