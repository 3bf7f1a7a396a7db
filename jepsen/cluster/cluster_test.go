package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"oaas.io/control-plane/api/client"
	"oaas.io/control-plane/deploy/local/process"
	"oaas.io/control-plane/deploy/local/system"
	"oaas.io/control-plane/jepsen/netlab"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction(process.ForkLoop))
}

// patience is longer than anything takes that works, on a machine that has other work too.
const patience = 2 * time.Minute

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var (
	building sync.Mutex
	built    string
)

// bin is the directory of the programs; `make test` builds them once for all packages.
func bin(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv(system.BinEnv); dir != "" {
		return dir
	}
	building.Lock()
	defer building.Unlock()
	if built == "" {
		dir, err := os.MkdirTemp("", "oaas-cluster-test-")
		check(t, err)
		check(t, system.Build(context.Background(), dir, programPM))
		built = dir
	}
	return built
}

// start runs a cluster for one test.
func start(t testing.TB, options Options) *Cluster {
	t.Helper()
	options.Bin, options.Dir = bin(t), t.TempDir()
	if !options.Loopback {
		// Every connection on loopback costs a search for its owner, which a busy machine does not do within 500 ms.
		options.PMArgs = append(options.PMArgs, "--profile=fast")
	}
	c, err := Start(within(t), options)
	check(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := c.Stop(ctx); err != nil {
			t.Error(err)
		}
		for _, s := range c.servers() {
			if s.Running() {
				t.Errorf("%s runs after Stop", s.Name())
			}
			if t.Failed() {
				t.Logf("end of the log of %s:\n%s", s.Name(), process.Tail(s.LogPath(), 15))
			}
		}
	})
	return c
}

// inLab runs a cluster in a laboratory. A machine that cannot have one runs what loopback can do, in its own tests.
func inLab(t testing.TB, options Options) *Cluster {
	t.Helper()
	if err := netlab.Available(); err != nil {
		t.Skipf("tested on loopback only, as far as that goes: %v", err)
	}
	return start(t, options)
}

// put stores a package by way of a node.
func put(ctx context.Context, c *Cluster, node, name string) error {
	body := strings.NewReader(fmt.Sprintf(`{"name":%q,"functions":[],"classes":[]}`, name))
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.Node(node).URL()+"/api/v1/packages", body)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := c.HTTP().Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // only the status counts
	if response.StatusCode >= 300 {
		return fmt.Errorf("store %s by %s: %s", name, node, response.Status)
	}
	return nil
}

func mustPut(t testing.TB, c *Cluster, node, name string) {
	t.Helper()
	check(t, system.Poll(within(t), node+" stores "+name, func(ctx context.Context) (bool, error) {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		err := put(ctx, c, node, name)
		return err == nil, err
	}))
}

// mustHave waits until a node answers that the package is there.
func mustHave(t testing.TB, c *Cluster, node, name string) {
	t.Helper()
	check(t, system.Poll(within(t), node+" has "+name, func(ctx context.Context) (bool, error) {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		_, err := c.Client(node).Package(ctx, name)
		return err == nil, err
	}))
}

func leader(t testing.TB, c *Cluster, except ...string) (string, uint64) {
	t.Helper()
	name, term, err := c.WaitLeader(within(t), except...)
	check(t, err)
	return name, term
}

// others are all nodes but one.
func others(c *Cluster, name string) (out []string) {
	for _, n := range c.Nodes() {
		if n.Name() != name {
			out = append(out, n.Name())
		}
	}
	return out
}

// cutOff separates a node from the other nodes, in both directions.
func cutOff(t testing.TB, c *Cluster, name string, ports ...int) {
	t.Helper()
	for _, other := range others(c, name) {
		check(t, c.Network().Cut(name, other, ports...))
		check(t, c.Network().Cut(other, name, ports...))
	}
}

// testPartition is what both kinds of network must do to a leader that is cut off.
func testPartition(t *testing.T, c *Cluster) {
	first, term := leader(t, c)
	mustPut(t, c, first, "before")
	cutOff(t, c, first)
	next, later := leader(t, c, first)
	if later <= term {
		t.Errorf("%s leads in term %d, after term %d", next, later, term)
	}
	mustPut(t, c, next, "meanwhile")
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := put(ctx, c, first, "lost"); err == nil {
		t.Errorf("%s stores something while it reaches nobody", first)
	}
	check(t, c.Network().HealAll())
	check(t, c.WaitReady(within(t)))
	for _, n := range c.Nodes() {
		mustHave(t, c, n.Name(), "before")
		mustHave(t, c, n.Name(), "meanwhile")
	}
}

func TestFaultsOfTheNetwork(t *testing.T) {
	t.Parallel()
	c := inLab(t, Options{Agents: 2})
	for fault, err := range c.Faults() {
		if err != nil {
			t.Errorf("%s: %v", fault, err)
		}
	}

	t.Run("partition", func(t *testing.T) { testPartition(t, c) })

	t.Run("one way", func(t *testing.T) {
		first, _ := leader(t, c)
		// It hears all and is heard by nobody, but by the client.
		for _, other := range others(c, first) {
			check(t, c.Network().Cut(first, other))
		}
		next, _ := leader(t, c, first)
		mustPut(t, c, next, "one-way")
		check(t, c.Network().HealAll())
		check(t, c.WaitReady(within(t)))
		mustHave(t, c, first, "one-way")
	})

	t.Run("one protocol", func(t *testing.T) {
		first, term := leader(t, c)
		follower := others(c, first)[0]
		before := c.Network().Counts(follower, first)
		check(t, c.Network().Cut(follower, first, PortGRPC))
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		forwarded := put(ctx, c, follower, "not-forwarded")
		// The port of the log is not cut: if anybody wants another leader, then because this machine has stood still.
		mustPut(t, c, first, "replicated")
		if next, later := leader(t, c); forwarded == nil && next == first && later == term {
			t.Errorf("%s has forwarded something", follower)
		}
		if after := c.Network().Counts(follower, first); after.Lost == before.Lost || after.Packets == before.Packets {
			t.Errorf("%s to %s: %+v before, %+v after", follower, first, before, after)
		}
		check(t, c.Network().HealAll())
		mustPut(t, c, follower, "forwarded")
	})

	t.Run("bad", func(t *testing.T) {
		check(t, c.Network().Shape(Any, Any, netlab.Shape{Delay: 5 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.01}))
		began := time.Now()
		mustPut(t, c, c.Nodes()[0].Name(), "slow")
		if took := time.Since(began); took < 20*time.Millisecond {
			t.Errorf("two ways and back took %v, want 20ms at least", took)
		}
		check(t, c.Network().HealAll())
	})

	t.Run("agents", func(t *testing.T) {
		check(t, c.WaitReady(within(t)))
		check(t, c.Network().Cut(Any, "agent-1"))
		check(t, c.Agents()[1].Unplug())
		check(t, system.Poll(within(t), "the agents are missed", func(ctx context.Context) (bool, error) {
			name, _, err := c.Leader(ctx)
			if err != nil {
				return false, err
			}
			envs, err := c.Client(name).Envs(ctx)
			if err != nil || len(envs) != 2 {
				return false, fmt.Errorf("%d clusters: %w", len(envs), err)
			}
			if envs[0].Health.Status == healthy || envs[1].Health.Status == healthy {
				return false, errors.New("one is healthy")
			}
			return true, nil
		}))
		check(t, c.Network().HealAll())
		check(t, c.Agents()[1].Plug())
		check(t, c.WaitReady(within(t)))
	})
}

func TestFaultsOfNodes(t *testing.T) {
	t.Parallel()
	c := inLab(t, Options{})
	mustPut(t, c, "pm-1", "kept")

	t.Run("kill all", func(t *testing.T) {
		for _, n := range c.Nodes() {
			check(t, n.Kill())
			if n.Running() || n.Pid() != 0 || n.Err() == nil {
				t.Errorf("%s: running %v, pid %d, %v", n.Name(), n.Running(), n.Pid(), n.Err())
			}
		}
		if _, _, err := c.Leader(within(t)); !errors.Is(err, ErrNoLeader) {
			t.Errorf("got %v, want ErrNoLeader", err)
		}
		for _, n := range c.Nodes() {
			check(t, n.Start(within(t)))
			if err := n.Start(within(t)); err == nil {
				t.Errorf("%s was started twice", n.Name())
			}
		}
		check(t, c.WaitReady(within(t)))
		mustHave(t, c, "pm-2", "kept")
	})

	t.Run("move all", func(t *testing.T) {
		was := map[string]string{}
		for _, n := range c.Nodes() {
			was[n.Name()] = n.Address()
		}
		moved := make(chan error)
		for _, n := range c.Nodes() {
			go func() { moved <- n.Move(within(t)) }()
		}
		for range c.Nodes() {
			check(t, <-moved)
		}
		check(t, c.WaitReady(within(t)))
		for _, n := range c.Nodes() {
			if n.Address() == was[n.Name()] {
				t.Errorf("%s is still at %s", n.Name(), n.Address())
			}
			mustHave(t, c, n.Name(), "kept")
		}
		mustPut(t, c, "pm-2", "moved")
	})

	t.Run("pause", func(t *testing.T) {
		first, _ := leader(t, c)
		check(t, c.Node(first).Pause())
		if !c.Node(first).Paused() || !c.Node(first).Running() {
			t.Errorf("%s is not paused", first)
		}
		next, _ := leader(t, c, first)
		mustPut(t, c, next, "paused")
		check(t, c.Node(first).Resume())
		check(t, c.WaitReady(within(t)))
		mustHave(t, c, first, "paused")
	})

	t.Run("wipe", func(t *testing.T) {
		n := c.Node("pm-3")
		if err := n.Wipe(); err == nil {
			t.Error("a running node was wiped")
		}
		check(t, n.Stop(within(t)))
		var ended *process.ExitError
		if err := n.Wait(within(t)); !errors.As(err, &ended) {
			t.Errorf("got %v, want how it ended", err)
		}
		check(t, n.Wipe())
		check(t, n.Start(within(t)))
		check(t, c.WaitReady(within(t)))
		mustHave(t, c, "pm-3", "paused")
	})

	t.Run("metrics", func(t *testing.T) {
		m, err := c.Node("pm-1").Metrics(within(t))
		check(t, err)
		if _, found := m.Sum("go_goroutines"); !found {
			t.Errorf("no go_goroutines among %d samples", len(m))
		}
	})

	t.Run("come and go", func(t *testing.T) { testComeAndGo(t, c) })
}

func testComeAndGo(t *testing.T, c *Cluster) {
	gone, _ := leader(t, c)
	settings, _, err := c.Client(gone).AutopilotConfig(within(t))
	check(t, err)
	// A leader that would leave no other one to lose is not let go, and new nodes count only when they are known to be well.
	settings.ServerStabilization = client.Duration(time.Second)
	_, err = c.Client(gone).SetAutopilotConfig(within(t), settings, "")
	check(t, err)
	n, err := c.Add(within(t))
	check(t, err)
	if n.Name() != "pm-4" || c.Node("pm-4") != n {
		t.Errorf("got %s among %d nodes", n.Name(), len(c.Nodes()))
	}
	check(t, c.WaitReady(within(t)))
	mustHave(t, c, "pm-4", "kept")
	old := c.Node(gone)
	check(t, system.Poll(within(t), gone+" is let go", func(ctx context.Context) (bool, error) {
		err := c.Remove(ctx, gone)
		return err == nil, err
	}))
	if old.Running() || c.Node(gone) != nil {
		t.Errorf("%s is still there", gone)
	}
	check(t, c.WaitReady(within(t)))
	mustPut(t, c, "pm-4", "after")
}
