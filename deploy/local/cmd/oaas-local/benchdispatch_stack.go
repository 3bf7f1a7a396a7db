package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"

	"oaas.io/control-plane/deploy/local/agent"
	"oaas.io/control-plane/deploy/local/port"
	"oaas.io/control-plane/deploy/local/system"
	"oaas.io/control-plane/proto/oaaspb"
)

// dispatchStack is three nodes and many clusters that only exist in memory.
type dispatchStack struct {
	options *dispatchOptions
	system  *system.System
	// agents are all clusters' managers; faithful and hostile tell them apart.
	agents, faithful, hostile []*agent.Agent
	lease                     *port.Lease
	receipts                  *receipts
}

// wishKey names one wish for a deployment.
type wishKey struct {
	key        string
	generation uint64
}

// receipts has when the managers first received each wish, and counts all calls.
type receipts struct {
	mu    sync.Mutex
	first map[wishKey]time.Time
	calls int
}

func (r *receipts) note(u *oaaspb.DeploymentUnit) {
	now := time.Now()
	k := wishKey{u.GetDelivery().GetDeploymentKey(), u.GetDelivery().GetGeneration()}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls++
	if _, again := r.first[k]; !again {
		r.first[k] = now
	}
}

// at is when a wish first arrived, zero when it has not.
func (r *receipts) at(key string, generation uint64) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.first[wishKey{key, generation}]
}

// forget starts anew.
func (r *receipts) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.first, r.calls = map[wishKey]time.Time{}, 0
}

// received is the number of wishes that have arrived, and of calls.
func (r *receipts) received() (wishes, calls int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.first), r.calls
}

func startDispatch(ctx context.Context, bin, dir string, hostile bool, options *dispatchOptions) (*dispatchStack, error) {
	s := &dispatchStack{options: options, receipts: &receipts{}}
	s.receipts.forget()
	if err := s.start(ctx, bin, dir, hostile); err != nil {
		s.stop() //nolint:contextcheck // cleaning up must not end with the context that was interrupted
		return nil, err
	}
	return s, nil
}

func (s *dispatchStack) start(ctx context.Context, bin, dir string, hostile bool) error {
	var err error
	// Ports that nothing else takes while an agent is unplugged.
	if s.lease, err = port.Reserve(s.options.agents); err != nil {
		return err
	}
	clusters := map[string]map[string]string{}
	for i := range s.options.agents {
		o := agent.Options{Name: fmt.Sprintf("edge-%03d", i), Address: fmt.Sprintf("127.0.0.1:%d", s.lease.Port(i)), Received: s.receipts.note}
		if bad := agent.Misbehaviours(); hostile && i < len(bad) {
			o.Name, o.Behaviour = "bad-"+string(bad[i]), bad[i]
		}
		a, err := agent.Start(o)
		if err != nil {
			return err
		}
		s.agents = append(s.agents, a)
		if o.Behaviour == agent.Faithful {
			s.faithful = append(s.faithful, a)
		} else {
			s.hostile = append(s.hostile, a)
		}
		clusters[o.Name] = map[string]string{"url": "http://" + a.Address()}
	}
	configured, err := json.Marshal(clusters)
	if err != nil {
		return err
	}
	s.system, err = system.Start(ctx, system.Options{
		Bin: bin, Dir: dir, Nodes: nodeCount, PMArgs: []string{"--profile=" + s.options.profile},
		PMEnv: []string{"CRM_CLUSTERS_JSON=" + string(configured)},
	})
	if err != nil {
		return err
	}
	return s.prepare(ctx)
}

// prepare waits for the clusters and stores the package that all deployments are of.
func (s *dispatchStack) prepare(ctx context.Context) error {
	leader, err := s.system.Leader(ctx)
	if err != nil {
		return err
	}
	if err := s.awaitHealth(ctx, "Healthy", s.faithful); err != nil {
		return err
	}
	_, err = leader.Client().Do(ctx, http.MethodPost, "/api/v1/packages", []byte(haPackage), nil)
	return err
}

// awaitHealth waits until the nodes take all these clusters for healthy, or not.
func (s *dispatchStack) awaitHealth(ctx context.Context, status string, of []*agent.Agent) error {
	return system.Poll(ctx, fmt.Sprintf("%d clusters are %s", len(of), status), func(ctx context.Context) (bool, error) {
		leader, err := s.system.Leader(ctx)
		if err != nil {
			return false, err
		}
		envs, err := leader.Client().Envs(ctx)
		if err != nil {
			return false, err
		}
		health := map[string]string{}
		for _, e := range envs {
			health[e.Name] = e.Health.Status
		}
		for _, a := range of {
			if got := health[a.Name()]; got != status {
				return false, fmt.Errorf("%s is %q", a.Name(), got)
			}
		}
		return true, nil
	})
}

func (s *dispatchStack) stop() {
	if s.system != nil {
		if err := s.system.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	if err := s.each(s.agents, (*agent.Agent).Stop); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if s.lease != nil {
		s.lease.Release()
	}
}

// each does something with many agents at the same time.
func (s *dispatchStack) each(agents []*agent.Agent, do func(*agent.Agent) error) error {
	errs := make([]error, len(agents))
	var group sync.WaitGroup
	for i, a := range agents {
		group.Go(func() { errs[i] = do(a) })
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// body is a deployment of one unit in the nth cluster of some; versions differ in their content.
func body(key string, in []*agent.Agent, n, version int) []byte {
	return fmt.Appendf(nil, `{"key":%q,"package_name":"bench","class_key":"Probe","target_envs":[%q],"functions":[{"function_key":"Probe.one","provision_config":{"container_image":"registry.example.com/bench/one:%d"}}]}`,
		key, in[n%len(in)].Name(), version)
}

// settled waits until the leader knows that all clusters have all units.
func (s *dispatchStack) settled(ctx context.Context) error {
	return system.Poll(ctx, "every unit is confirmed", func(ctx context.Context) (bool, error) {
		leader, err := s.system.Leader(ctx)
		if err != nil {
			return false, err
		}
		metrics, err := metricsOf(ctx, leader)
		if err != nil {
			return false, err
		}
		lanes, pending := 0, 0.0
		for _, a := range s.faithful {
			if v, ok := metrics[fmt.Sprintf("oaas_pm_dispatch_pending_units{cluster=%q}", a.Name())]; ok {
				lanes++
				pending += v
			}
		}
		if lanes < len(s.faithful) || pending > 0 {
			return false, fmt.Errorf("%d of %d clusters are looked after, %g units are pending", lanes, len(s.faithful), pending)
		}
		return true, nil
	})
}

// calls is how often the clusters were called to change something.
func (s *dispatchStack) calls() (n uint64) {
	for _, a := range s.agents {
		n += a.Deploys() + a.Deletes()
	}
	return n
}

// soon polls often, for what is timed.
func soon(ctx context.Context, what string, done func() bool) error {
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w", what, context.Cause(ctx))
		case <-ticker.C:
		}
	}
	return nil
}
