package raftstore

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestSingleNodeInMemory(t *testing.T) {
	n, err := Open(t.Context(), Options{InMemory: true, Timing: testTiming, Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	ctx := within(t, patience)
	if _, err := n.WaitLeader(ctx); err != nil {
		t.Fatal(err)
	}
	res, err := n.Apply(ctx, put("c1", "v1"))
	if err = errors.Join(err, res.Err); err != nil {
		t.Fatal(err)
	}
	index, err := n.ReadBarrier(ctx)
	if err != nil || index < res.Index {
		t.Fatalf("barrier = %d, %v; want at least %d", index, err, res.Index)
	}
	if n.ClusterID() == "" {
		t.Error("no cluster id")
	}
	if err := n.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Apply(ctx, put("c1", "v2")); !errors.Is(err, ErrShutdown) {
		t.Errorf("apply after shutdown = %v", err)
	}
}

func TestThreeNodesFoundReplicateAndFailOver(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	old := c.leader()
	id := old.ClusterID()
	for i := range 20 {
		c.write(fmt.Sprintf("k%d", i), "before")
	}
	c.expectEverywhere("k19", "before")
	for _, n := range c.nodes {
		if n.ClusterID() != id {
			t.Errorf("%s is in cluster %q, want %q", n.name, n.ClusterID(), id)
		}
	}
	for _, f := range c.others(old) {
		if _, err := f.Apply(within(t, patience), put("k", "v")); !errors.Is(err, ErrNotLeader) {
			t.Errorf("apply on follower %s = %v", f.name, err)
		}
		eventually(t, "members known on "+f.name, func() error {
			if info, ok := f.Leader(); !ok || info.GRPCAddress != old.grpcAddr || info.HTTPAddress != "http-"+old.name+":8080" {
				return fmt.Errorf("leader is %+v", info)
			}
			if got := len(f.State().Snapshot().Members()); got != 3 {
				return fmt.Errorf("%d members", got)
			}
			return nil
		})
	}

	old.kill()
	leader := c.leader()
	if leader.Term() < 2 {
		t.Errorf("term = %d", leader.Term())
	}
	for i := range 20 {
		if got := get(leader, fmt.Sprintf("k%d", i)); got != "before" {
			t.Errorf("k%d = %q after failover: an acknowledged write is lost", i, got)
		}
	}
	c.write("after", "yes")

	old.start()
	c.expectEverywhere("after", "yes")
	if old.ClusterID() != id {
		t.Errorf("cluster id changed from %q to %q", id, old.ClusterID())
	}
}

func TestRestartOfAllNodes(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	id := c.leader().ClusterID()
	last := c.write("k", "v")
	ids := map[string]string{}
	for _, n := range c.nodes {
		ids[n.name] = n.ServerID()
	}
	for _, n := range c.nodes {
		n.kill()
	}
	c.start()
	leader := c.leader()
	if got := get(leader, "k"); got != "v" {
		t.Errorf("k = %q after the restart of all nodes", got)
	}
	if leader.ClusterID() != id {
		t.Errorf("cluster id changed")
	}
	if leader.AppliedIndex() < last {
		t.Errorf("applied %d, was %d", leader.AppliedIndex(), last)
	}
	for _, n := range c.nodes {
		if n.ServerID() != ids[n.name] {
			t.Errorf("%s changed its id", n.name)
		}
	}
	c.write("k", "w")
	c.expectEverywhere("k", "w")
}

// The followers would not miss their leader for minutes, and nobody has found its
// process gone: only a handover makes one of them lead.
func TestGracefulShutdownHandsOver(t *testing.T) {
	c, old := startPatient(t)
	others := c.others(old)
	term := old.Term()
	old.stopGracefully()
	leader := c.newLeader(old)
	if leader.Term() != term+1 {
		t.Errorf("term = %d after a handover from %d", leader.Term(), term)
	}
	for _, n := range others {
		if got := testutil.ToFloat64(n.m.successions); got != 0 {
			t.Errorf("%s succeeded a leader that should have handed over", n.name)
		}
	}
}

// untilLogged gives a logger that closes the channel at the first message that
// contains text.
func untilLogged(text string) (hclog.Logger, <-chan struct{}) {
	logged := make(chan struct{})
	return hclog.New(&hclog.LoggerOptions{Output: &watcher{text: text, seen: sync.OnceFunc(func() { close(logged) })}}), logged
}

type watcher struct {
	text string
	seen func()
}

func (w *watcher) Write(p []byte) (int, error) {
	if strings.Contains(string(p), w.text) {
		w.seen()
	}
	return len(p), nil
}

// A leader that is told to stop while the others do not answer for a moment, as on
// a loaded machine, asks them again before it goes.
func TestShutdownAsksAgainForASuccessor(t *testing.T) {
	t.Parallel()
	told := map[*testNode]<-chan struct{}{}
	c := newCluster(t, 3)
	for _, n := range c.nodes {
		logger, logged := untilLogged("leadership could not be handed over yet")
		told[n], n.configure = logged, func(o *Options) { o.Logger = logger }
	}
	c.start()
	c.write("k", "v")
	c.expectEverywhere("k", "v")
	old := c.leader()
	c.net.isolateInternal(old.name, names(c.others(old)))
	stopped := make(chan error, 1)
	go func() { stopped <- old.Shutdown(within(t, patience)) }()
	select {
	case <-told[old]:
		c.net.heal()
	case <-within(t, patience).Done():
		t.Fatal("the leader did not say that it could not hand over")
	}
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if got := testutil.ToFloat64(old.m.transfers.WithLabelValues("done")); got != 1 {
		t.Errorf("the leader handed over %v times", got)
	}
	c.newLeader(old)
}

func TestReadBarrierOnEveryNode(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	for i := range 10 {
		want := fmt.Sprintf("v%d", i)
		index := c.write("k", want)
		for _, n := range c.nodes {
			got, err := n.ReadBarrier(within(t, patience))
			if err != nil {
				t.Fatalf("%s: %v", n.name, err)
			}
			if got < index || get(n, "k") != want {
				t.Errorf("%s reads %q at %d, want %q at %d or later", n.name, get(n, "k"), got, want, index)
			}
		}
	}
}
