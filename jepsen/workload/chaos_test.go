package workload_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"oaas.io/control-plane/jepsen/check"
	"oaas.io/control-plane/jepsen/history"
	"oaas.io/control-plane/jepsen/workload"
)

// All workloads against three nodes, of which the leader is killed and brought back, and
// clusters, of which one is lost for a while.
func TestWorkloadsOverAKilledLeader(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	s := startStack(ctx, t, 3, workload.Options{Seed: 1, Processes: 4})
	pace := map[string]float64{
		history.Register: 120, history.Set: 20, history.Idempotent: 15, history.Sessions: 100, history.Lifecycle: 25,
	}
	began := s.recorder.Now()
	s.run(ctx, workload.All(), pace, func(ctx context.Context) {
		after(ctx, 4*time.Second)
		leader, err := s.system.Leader(ctx)
		if err != nil {
			t.Fatal(err)
		}
		s.fault("kill", []string{leader.Name}, func() {
			leader.Kill()
			after(ctx, 3*time.Second)
			if err := leader.Start(); err != nil {
				t.Error(err)
			}
		})
		after(ctx, 4*time.Second)
		s.fault("cluster lost", []string{s.agents[0].Name()}, func() {
			if err := s.agents[0].Unplug(); err != nil {
				t.Error(err)
			}
			after(ctx, 2*time.Second)
			if err := s.agents[0].Plug(); err != nil {
				t.Error(err)
			}
		})
		after(ctx, 4*time.Second)
	})
	took := s.recorder.Now() - began
	s.settle(ctx)
	final := s.final(ctx)
	h := s.recorder.History()
	keep(t, h)

	nodes := []string{}
	for _, pm := range s.system.PMs {
		nodes = append(nodes, pm.Name)
	}
	result := check.All(h, &final, check.Options{Nodes: nodes, ConvergeWithin: 10 * time.Second, RecoverWithin: 5 * time.Second})
	for _, v := range result.Verdicts {
		if !v.OK {
			t.Error(v)
			continue
		}
		t.Log(v)
	}
	asked := 0
	for _, op := range h.Operations {
		if op.Kind != history.Follow && op.Kind != history.Look {
			asked++
		}
	}
	t.Logf("%d requests in %s: %.0f a second", asked, took.Round(time.Millisecond), float64(asked)/took.Seconds())
}

// keep writes a history where somebody wants to look at it.
func keep(t *testing.T, h history.History) {
	t.Helper()
	dir := os.Getenv("OAAS_KEEP")
	if dir == "" {
		return
	}
	f, err := os.Create(filepath.Join(dir, "history.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // a convenience
	if err := h.Write(f); err != nil {
		t.Error(err)
	}
}
