//go:build histories

package dispatch_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"oaas.io/control-plane/deploy/local/agent"
	"oaas.io/control-plane/deploy/local/port"
	"oaas.io/control-plane/discovery"
	"oaas.io/control-plane/dispatch"
	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
)

// Random histories: leaders, managers and links come and go while users change what
// they want. In the end every cluster has exactly what is wanted. More of them, or a
// certain one again:
//
//	OAAS_HISTORIES=100 make test-histories
//	OAAS_HISTORY_SEED=7 make test-histories
const (
	historiesEnv   = "OAAS_HISTORIES"
	historySeedEnv = "OAAS_HISTORY_SEED"
	someHistories  = 3
	historySteps   = 120
)

func TestHistories(t *testing.T) {
	count := someHistories
	if text := os.Getenv(historiesEnv); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("%s: %v", historiesEnv, err)
		}
		count = n
	}
	seeds := make([]uint64, count)
	for i := range seeds {
		seeds[i] = rand.Uint64()
	}
	if text := os.Getenv(historySeedEnv); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", historySeedEnv, err)
		}
		seeds = []uint64{seed}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Logf("again with %s=%d", historySeedEnv, seed)
			newHistory(t, seed).run()
		})
	}
}

// cluster is a cluster, its manager and the network to it.
type cluster struct {
	name    string
	agent   *agent.Agent
	plugged bool
	link    *link
}

// history is one of them. The control plane is real but for the log.
type history struct {
	*world
	rng      *rand.Rand
	clusters []*cluster
	// leaders are those that believe to lead; only the last does.
	leaders []*leader
	// made counts the versions of each deployment that is wanted.
	made map[string]int

	mu sync.Mutex
	// stored is the last change of each unit that a manager has stored.
	stored map[string][2]uint64
}

// leader is a leadership: the loops, and the calls that they make.
type leader struct {
	stop func()

	mu     sync.Mutex
	fences map[string][2]uint64
	flying map[string]bool
}

func newHistory(t *testing.T, seed uint64) *history {
	t.Helper()
	h := &history{world: newWorld(t), rng: rand.New(rand.NewPCG(seed, seed)), made: map[string]int{}, stored: map[string][2]uint64{}}
	h.world.stop() // it leads by itself
	h.world.stop = h.stopAll
	lease, err := port.Reserve(3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(lease.Release)
	var found []discovery.Candidate
	for i := range 3 {
		c := &cluster{name: fmt.Sprintf("oaas-%d", i+1), plugged: true}
		c.agent, err = agent.Start(agent.Options{Name: c.name, Address: fmt.Sprintf("127.0.0.1:%d", lease.Port(i)), Heartbeat: 50 * time.Millisecond, Stored: h.onStored})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := c.agent.Stop(); err != nil {
				t.Error(err)
			}
		})
		c.link = newLink(t, c.agent.Address())
		h.clusters = append(h.clusters, c)
		found = append(found, discovery.Candidate{Name: c.name, Address: c.link.address(), Source: discovery.SourceStatic})
	}
	h.found.mu.Lock()
	h.found.list = found
	h.found.mu.Unlock()
	h.elect()
	h.await("the clusters are registered", func(s *fsm.Snapshot) bool { return len(s.Clusters()) == len(h.clusters) })
	return h
}

// onStored checks that no manager is led back by whatever comes late.
func (h *history) onStored(unit string, d *oaaspb.Delivery) {
	at := [2]uint64{d.GetEpoch(), d.GetFence()}
	h.mu.Lock()
	defer h.mu.Unlock()
	if slices.Compare(at[:], slicesOf(h.stored[unit])) < 0 {
		h.t.Errorf("unit %s went back from %v to %v", unit, h.stored[unit], at)
	}
	h.stored[unit] = at
}

func slicesOf(a [2]uint64) []uint64 { return a[:] }

// elect makes a new leader. The one before goes on until it learns of it.
func (h *history) elect() {
	l := &leader{fences: map[string][2]uint64{}, flying: map[string]bool{}}
	m, err := dispatch.New(dispatch.Options{
		Registry: h.registry, Candidates: h.found,
		Dial: func(_, address string) (*grpc.ClientConn, error) {
			return grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUnaryInterceptor(l.intercept(h.t)))
		},
		RetryMin: 5 * time.Millisecond, RetryMax: 50 * time.Millisecond, ProbeMin: 5 * time.Millisecond, ProbeMax: 50 * time.Millisecond,
		Health: quick, CallTimeout: 300 * time.Millisecond, SilenceLimit: 500 * time.Millisecond,
		RetryRefused: 200 * time.Millisecond, BatchWindow: time.Millisecond, MaxInFlight: 4, MaxInFlightTotal: 5,
	})
	if err != nil {
		h.t.Fatal(err)
	}
	term := h.store.NextTerm()
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := m.Run(ctx, term); err != nil {
			h.t.Error(err)
		}
	})
	l.stop = func() { cancel(); done.Wait() }
	h.leaders = append(h.leaders, l)
}

// intercept checks what a leader sends: about each unit one call at a time, and never
// an older change after a newer one.
func (l *leader) intercept(t *testing.T) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		var id string
		var d *oaaspb.Delivery
		switch r := req.(type) {
		case *oaaspb.DeployRequest:
			id, d = r.GetDeploymentUnit().GetId(), r.GetDeploymentUnit().GetDelivery()
		case *oaaspb.DeleteDeploymentRequest:
			id, d = r.GetDeploymentId(), r.GetDelivery()
		default:
			return invoke(ctx, method, req, reply, conn, opts...)
		}
		at := [2]uint64{d.GetEpoch(), d.GetFence()}
		l.mu.Lock()
		if l.flying[id] {
			t.Errorf("a second call about %s while one is under way", id)
		}
		if slices.Compare(at[:], slicesOf(l.fences[id])) < 0 {
			t.Errorf("unit %s is sent as of %v after %v", id, at, l.fences[id])
		}
		l.flying[id], l.fences[id] = true, at
		l.mu.Unlock()
		defer func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			delete(l.flying, id)
		}()
		return invoke(ctx, method, req, reply, conn, opts...)
	}
}

// depose lets all leaders but the last so many end.
func (h *history) depose(left int) {
	for len(h.leaders) > left {
		h.leaders[0].stop()
		h.leaders = h.leaders[1:]
	}
}

func (h *history) stopAll() { h.depose(0) }

func (h *history) run() {
	for range historySteps {
		h.step()
		h.pause()
	}
	for _, c := range h.clusters {
		c.link.resume()
		h.plug(c)
	}
	h.depose(1)
	h.converge()
}

func (h *history) step() {
	c := h.clusters[h.rng.IntN(len(h.clusters))]
	switch n := h.rng.IntN(100); {
	case n < 45:
		h.wish()
	case n < 55:
		h.unwish()
	case n < 63:
		c.link.cut()
	case n < 68:
		c.link.stall()
	case n < 75:
		c.link.resume()
	case n < 80:
		h.unplug(c)
	case n < 88:
		h.plug(c)
	case n < 90 && len(h.leaders) == 1 && !c.plugged:
		// A cluster that was made anew. While a deposed leader goes on this could bring
		// back what was removed: the tombstones are gone with the cluster.
		c.agent.Wipe()
	case n < 94:
		h.depose(0)
		h.elect()
	case n < 97:
		h.elect()
	default:
		h.depose(1)
	}
}

// wish makes or changes a deployment, in some of the clusters.
func (h *history) wish() {
	key := fmt.Sprintf("shop.Cart-%d", h.rng.IntN(12))
	var envs []string
	for _, i := range h.rng.Perm(len(h.clusters))[:1+h.rng.IntN(len(h.clusters))] {
		envs = append(envs, h.clusters[i].name)
	}
	h.made[key]++
	image := fmt.Sprintf("registry.local/cart:%d", h.made[key])
	_, _, err := h.registry.Deploy(context.Background(), registry.RequestInfo{}, &model.OClassDeployment{
		Key: key, PackageName: "shop", ClassKey: "Cart", TargetEnvs: envs,
		Functions: []model.FunctionDeploymentSpec{{FunctionKey: "Cart.add", ProvisionConfig: &model.ProvisionConfig{ContainerImage: &image}}},
	})
	if err != nil {
		h.t.Fatalf("deploy %s to %v: %v", key, envs, err)
	}
}

func (h *history) unwish() {
	keys := slices.Sorted(maps.Keys(h.made))
	if len(keys) == 0 {
		return
	}
	key := keys[h.rng.IntN(len(keys))]
	delete(h.made, key)
	if _, _, err := h.registry.DeleteDeployment(context.Background(), registry.RequestInfo{}, key); err != nil {
		h.t.Fatalf("delete %s: %v", key, err)
	}
}

func (h *history) unplug(c *cluster) {
	if !c.plugged {
		return
	}
	if err := c.agent.Unplug(); err != nil {
		h.t.Fatal(err)
	}
	c.plugged = false
}

func (h *history) plug(c *cluster) {
	if c.plugged {
		return
	}
	if err := c.agent.Plug(); err != nil {
		h.t.Fatal(err)
	}
	c.plugged = true
}

// pause lets the loops get on by some changes of the state, or by a moment.
func (h *history) pause() {
	moment := time.NewTimer(time.Duration(h.rng.IntN(40)) * time.Millisecond)
	defer moment.Stop()
	for range h.rng.IntN(10) {
		select {
		case <-h.store.State().Snapshot().WatchAll():
		case <-moment.C:
			return
		}
	}
}

// converge waits until nothing is left to do and holds the clusters against the state.
func (h *history) converge() {
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	for {
		snap := h.store.State().Snapshot()
		changed := snap.WatchAll()
		missing := h.missing(snap)
		if missing == "" {
			break
		}
		select {
		case <-changed:
		case <-time.After(10 * time.Millisecond): // a cluster is not in the state
		case <-deadline.C:
			h.t.Fatalf("never at rest: %s", missing)
		}
	}
	snap := h.store.State().Snapshot()
	if got := len(snap.Deployments()); got != len(h.made) {
		h.t.Errorf("%d deployments, want %d", got, len(h.made))
	}
	seen := map[string]bool{}
	for _, u := range snap.Units() {
		at := u.GetDeploymentUid() + " in " + u.GetEnv()
		if seen[at] {
			h.t.Errorf("deployment %s has two units", at)
		}
		seen[at] = true
	}
}

// missing says what is not as it should be, in the state or in a cluster.
func (h *history) missing(snap *fsm.Snapshot) string {
	if n := len(snap.Deletions()); n > 0 {
		return fmt.Sprintf("%d deletions are open", n)
	}
	want := map[string]map[string]*pmpb.Unit{}
	for _, u := range snap.Units() {
		if u.GetTombstone() || !fsm.Acknowledged(u) {
			return fmt.Sprintf("unit %v", u)
		}
		if want[u.GetEnv()] == nil {
			want[u.GetEnv()] = map[string]*pmpb.Unit{}
		}
		want[u.GetEnv()][u.GetId()] = u
	}
	for _, c := range h.clusters {
		have := c.agent.Deliveries()
		for id, u := range want[c.name] {
			d := have[id]
			if d.GetEpoch() != u.GetEpoch() || d.GetFence() != u.GetFence() || d.GetContentHash() != u.GetContentHash() {
				return fmt.Sprintf("%s has %v, wanted is %v", c.name, d, u)
			}
		}
		for id := range have {
			if want[c.name][id] == nil {
				return fmt.Sprintf("%s has %s, which nobody wants", c.name, id)
			}
		}
	}
	return ""
}
