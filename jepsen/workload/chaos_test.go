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
	programs := bin(t.Context(), t)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	s := startStack(ctx, t, programs, 3, 3, workload.Options{Seed: 1, Processes: 4})
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
	judge(t, h, &final, check.Options{Nodes: nodes, ConvergeWithin: 20 * time.Second, RecoverWithin: 10 * time.Second})
	requests := 0
	for _, n := range asked(h) {
		requests += n
	}
	t.Logf("%d requests in %s: %.0f a second: %v", requests, took.Round(time.Millisecond), float64(requests)/took.Seconds(), asked(h))
	seeThrough(t, h, final)
}

// One node, which is killed and comes back with all that it had said.
func TestWorkloadsOverOneNode(t *testing.T) {
	programs := bin(t.Context(), t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	s := startStack(ctx, t, programs, 1, 1, workload.Options{Seed: 2, Processes: 3, Rate: 30})
	s.run(ctx, workload.All(), nil, func(ctx context.Context) {
		after(ctx, 2*time.Second)
		s.fault("kill", []string{s.system.PMs[0].Name}, func() {
			s.system.PMs[0].Kill()
			if err := s.system.PMs[0].Start(); err != nil {
				t.Error(err)
			}
		})
		if err := s.system.PMs[0].WaitReady(ctx); err != nil {
			t.Error(err)
		}
		after(ctx, 2*time.Second)
	})
	s.settle(ctx)
	final, h := s.final(ctx), s.recorder.History()
	keep(t, h)
	judge(t, h, &final, check.Options{RecoverWithin: 20 * time.Second})
	for workload, n := range asked(h) {
		if n < 10 {
			t.Errorf("%s asked %d times only", workload, n)
		}
	}
}

// judge fails unless every verdict is OK.
func judge(t *testing.T, h history.History, final *history.Final, o check.Options) {
	t.Helper()
	for _, v := range check.All(h, final, o).Verdicts {
		if !v.OK {
			t.Error(v)
			continue
		}
		t.Log(v)
	}
}

// asked counts the requests of each workload.
func asked(h history.History) map[string]int {
	n := map[string]int{}
	for i := range h.Operations {
		if op := &h.Operations[i]; op.Kind != history.Follow && op.Kind != history.Look {
			n[op.Workload]++
		}
	}
	return n
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
