package workload_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"oaas.io/control-plane/deploy/local/agent"
	"oaas.io/control-plane/deploy/local/process"
	"oaas.io/control-plane/deploy/local/system"
	"oaas.io/control-plane/jepsen/history"
	"oaas.io/control-plane/jepsen/workload"
	"oaas.io/control-plane/proto/oaaspb"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction(process.ForkLoop))
}

// bin is the directory of the programs; `make test` builds them once for all packages.
func bin(ctx context.Context, t *testing.T) string {
	t.Helper()
	if dir := os.Getenv(system.BinEnv); dir != "" {
		return dir
	}
	dir := t.TempDir()
	if err := system.Build(ctx, dir, "pmd"); err != nil {
		t.Fatal(err)
	}
	return dir
}

// stack is three real nodes and clusters whose managers keep everything in memory.
type stack struct {
	t        *testing.T
	system   *system.System
	agents   []*agent.Agent
	recorder *history.Recorder
	env      *workload.Env

	mu     sync.Mutex
	fenced []history.Fenced
}

func startStack(ctx context.Context, t *testing.T, programs string, nodes, clusters int, o workload.Options) *stack {
	t.Helper()
	s := &stack{t: t, recorder: history.NewRecorder()}
	configured := map[string]map[string]string{}
	for i := range clusters {
		name := fmt.Sprintf("c%d", i+1)
		a, err := agent.Start(agent.Options{Name: name, Stored: func(unit string, d *oaaspb.Delivery) { s.stored(name, unit, d) }})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := a.Stop(); err != nil {
				t.Error(err)
			}
		})
		s.agents = append(s.agents, a)
		configured[name] = map[string]string{"url": "http://" + a.Address()}
		o.Clusters = append(o.Clusters, name)
	}
	raw, err := json.Marshal(configured)
	if err != nil {
		t.Fatal(err)
	}
	s.system, err = system.Start(ctx, system.Options{Nodes: nodes, Bin: programs, Dir: t.TempDir(), PMEnv: []string{"CRM_CLUSTERS_JSON=" + string(raw)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.system.Stop(); err != nil {
			t.Error(err)
		}
	})
	urls := map[string]string{}
	names := []string{}
	for _, pm := range s.system.PMs {
		urls[pm.Name] = pm.URL()
		names = append(names, pm.Name)
	}
	o.Recorder, o.Nodes = s.recorder, func() []string { return names }
	o.Endpoint = func(node string) workload.Endpoint { return workload.Endpoint{URL: urls[node]} }
	if s.env, err = workload.New(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.env.Close)
	s.waitHealthy(ctx)
	return s
}

func (s *stack) stored(cluster, unit string, d *oaaspb.Delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fenced = append(s.fenced, history.Fenced{
		Cluster: cluster, Unit: unit, Epoch: d.GetEpoch(), Fence: d.GetFence(), Hash: d.GetContentHash(), At: s.recorder.Now(),
	})
}

// waitHealthy waits until every cluster is known and healthy.
func (s *stack) waitHealthy(ctx context.Context) {
	s.t.Helper()
	err := system.Poll(ctx, "all clusters are healthy", func(ctx context.Context) (bool, error) {
		envs, err := s.system.PMs[0].Client().Envs(ctx)
		if err != nil {
			return false, err
		}
		healthy := 0
		for _, e := range envs {
			if e.Health.Status == "Healthy" {
				healthy++
			}
		}
		return healthy == len(s.agents), fmt.Errorf("%d of %d", healthy, len(s.agents))
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// fault runs something as a fault of the history.
func (s *stack) fault(name string, nodes []string, during func()) {
	end := s.recorder.Event(history.Event{Kind: history.Fault, Name: name, Nodes: nodes})
	during()
	end()
}

// run has workloads run until during has returned.
func (s *stack) run(ctx context.Context, workloads []workload.Workload, pace map[string]float64, during func(context.Context)) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make(chan error, len(workloads))
	for _, w := range workloads {
		env := s.env
		if rate, ok := pace[w.Name()]; ok {
			env = env.Paced(4, rate)
		}
		go func() { errs <- w.Run(ctx, env) }()
	}
	during(ctx)
	cancel()
	for range workloads {
		if err := <-errs; err != nil {
			s.t.Error(err)
		}
	}
}

// settle waits until every unit is confirmed and every deletion complete.
func (s *stack) settle(ctx context.Context) {
	s.t.Helper()
	err := system.Poll(ctx, "all clusters have confirmed", func(ctx context.Context) (bool, error) {
		final, err := workload.Observe(ctx, s.env)
		if err != nil {
			return false, err
		}
		for node, state := range final.Nodes {
			if state.Error != "" {
				return false, errors.New(state.Error)
			}
			open := 0
			for _, u := range state.Units {
				if u.Tombstone || !u.Acknowledged {
					open++
				}
			}
			if open+len(state.Deletions) > 0 {
				return false, fmt.Errorf("%s: %d units and %d deletions are open", node, open, len(state.Deletions))
			}
		}
		return true, nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// final is the state at the end, with what the clusters have.
func (s *stack) final(ctx context.Context) history.Final {
	s.t.Helper()
	final, err := workload.Observe(ctx, s.env)
	if err != nil {
		s.t.Fatal(err)
	}
	final.Clusters = map[string][]history.Runtime{}
	for _, a := range s.agents {
		list := []history.Runtime{}
		for id, d := range a.Deliveries() {
			list = append(list, history.Runtime{
				Name: id, DeploymentUID: d.GetDeploymentUid(), Epoch: d.GetEpoch(), Fence: d.GetFence(), Hash: d.GetContentHash(),
			})
		}
		final.Clusters[a.Name()] = list
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	final.Live = true
	final.Fenced = append([]history.Fenced(nil), s.fenced...)
	return final
}

// after waits for a part of the run.
func after(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
