package main

import (
	"context"
	"os"
	"testing"
	"time"

	"oaas.io/control-plane/bench"
	"oaas.io/control-plane/deploy/local/system"
)

// The harness of bench-ha, with few kills and few deployments. Figures that time
// decides are not held against their bounds here: tests share the machine. What
// must never be lost or fail is.
func TestBenchHA(t *testing.T) {
	dir := t.TempDir()
	options := &haOptions{stackOptions: stackOptions{bin: os.Getenv(system.BinEnv), dir: dir}, kills: 1, rounds: 1, deployments: 200,
		only: []string{"failover-fast", "sigterm", "rolling", "bad-input"}}
	results, err := measureHA(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, r := range results {
		names[r.Name] = true
		if !r.OK && r.Bound == "= 0" || !r.OK && r.Bound == "= 1" {
			t.Errorf("%s is %g, want %s: %s", r.Name, r.Value, r.Bound, r.Note)
		}
	}
	for _, name := range []string{"failover_fast_p99", "failover_inflight_fast_failed", "sigterm_pause_p99", "rolling_restart_lost_writes", "bad_input_leader_alive"} {
		if !names[name] {
			t.Errorf("%s is missing", name)
		}
	}
}

// The parts of the figures at scale that do not wait for a snapshot to fall due.
func TestBenchHAScale(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	bin := os.Getenv(system.BinEnv)
	if bin == "" {
		bin = t.TempDir()
		if err := system.Build(ctx, bin, "pmd"); err != nil {
			t.Fatal(err)
		}
	}
	s, err := startHA(ctx, bin, t.TempDir(), "fast")
	if err != nil {
		t.Fatal(err)
	}
	defer s.stop()
	if _, err := s.fill(ctx, 300); err != nil {
		t.Fatal(err)
	}
	if err := s.settle(ctx, 300); err != nil {
		t.Fatal(err)
	}
	if restarted, err := s.measureRestart(ctx); err != nil || restarted.Value <= 0 {
		t.Errorf("restart: %+v, %v", restarted, err)
	}
	memory := map[string]float64{}
	s.remember(memory)
	if len(memory) != nodeCount {
		t.Errorf("memory of %d nodes", len(memory))
	}
}

func TestHAOptions(t *testing.T) {
	good := haOptions{kills: 1, rounds: 1, deployments: 1, only: []string{"scale"}}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for _, bad := range []haOptions{{rounds: 1, deployments: 1}, {kills: 1, rounds: 1, deployments: 1, only: []string{"all"}}} {
		if bad.Validate() == nil {
			t.Errorf("%+v passes", bad)
		}
	}
}

func TestPause(t *testing.T) {
	at := func(ms int) time.Time { return time.UnixMilli(int64(ms)) }
	l := &load{written: map[string]time.Time{"a": at(0), "b": at(500), "c": at(510), "d": at(710), "e": at(720)}}
	if got := l.pause(at(505), at(715)); got != 200*time.Millisecond {
		t.Errorf("the pause is %s", got)
	}
	writes, spans := []timedWrite{{at(30), at(31)}, {at(0), at(10)}, {at(5), at(30)}}, []span{{at(8), at(20)}}
	in, out := split(writes, spans)
	if len(in) != 2 || len(out) != 1 || bench.Quantile(in, 1) != 25*time.Millisecond {
		t.Errorf("split into %v and %v", in, out)
	}
	in, out = pauses(writes, spans)
	if len(in) != 1 || in[0] != 20*time.Millisecond || len(out) != 1 || out[0] != time.Millisecond {
		t.Errorf("pauses %v and %v", in, out)
	}
}
