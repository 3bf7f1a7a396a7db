package main

import (
	"os"
	"testing"
	"time"

	"oaas.io/control-plane/deploy/local/system"
)

// The harness of bench-dispatch, with few clusters and few units. Figures that time decides are not held against their
// bounds here: tests share the machine. What must never be lost, repeated or wrong is.
func TestBenchDispatch(t *testing.T) {
	options := &dispatchOptions{
		stackOptions: stackOptions{bin: os.Getenv(system.BinEnv), dir: t.TempDir()}, profile: "fast",
		agents: 10, rate: 20, duration: 2 * time.Second, units: 100, leaderUnits: 100, kills: 1, outage: time.Second,
		only: []string{"latency", "cold", "leader", "outage"},
	}
	results, err := measureDispatch(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, r := range results {
		names[r.Name] = true
		if !r.OK && r.Bound == "= 0" {
			t.Errorf("%s is %g, want %s: %s", r.Name, r.Value, r.Bound, r.Note)
		}
	}
	for _, name := range []string{"dispatch_accepted_to_agent_p99", "cold_dispatch", "cold_new_leader_dispatch", "leader_change_writes", "outage_consistent"} {
		if !names[name] {
			t.Errorf("%s is missing", name)
		}
	}
}

func TestDispatchOptions(t *testing.T) {
	good := dispatchOptions{agents: 9, rate: 1, duration: 1, units: 1, leaderUnits: 1, kills: 1, outage: 1, only: []string{"cold"}}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for _, change := range []func(*dispatchOptions){
		func(o *dispatchOptions) { o.agents = 8 },
		func(o *dispatchOptions) { o.rate = 0 },
		func(o *dispatchOptions) { o.outage = 0 },
		func(o *dispatchOptions) { o.only = []string{"all"} },
	} {
		bad := good
		if change(&bad); bad.Validate() == nil {
			t.Errorf("%+v passes", bad)
		}
	}
}
