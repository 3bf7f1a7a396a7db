package check

import (
	"testing"
	"time"

	"oaas.io/control-plane/jepsen/history"
)

func TestRuntimes(t *testing.T) {
	unit := func(id, cluster string) history.Unit {
		return history.Unit{ID: id, Cluster: cluster, Deployment: "d", DeploymentUID: "u", Fence: 7, Hash: "h", Acknowledged: true}
	}
	runtime := func(name string) history.Runtime {
		return history.Runtime{Name: name, UID: "k-" + name, DeploymentUID: "u", Fence: 7, Hash: "h"}
	}
	removed := unit("r", "c1")
	removed.Tombstone = true
	desired := []history.Unit{unit("a", "c1"), unit("a", "c2"), unit("b", "unseen"), removed}
	actual := func(c1 ...history.Runtime) map[string][]history.Runtime {
		return map[string][]history.Runtime{"c1": c1, "c2": {runtime("a")}}
	}
	accepted(t, Runtimes(desired, actual(runtime("a"))))
	accepted(t, Runtimes(desired, actual(runtime("a"), runtime("r"))))
	found(t, Runtimes(desired, actual()), "missing runtime", "c1/a")
	found(t, Runtimes(desired, actual(runtime("a"), runtime("z"))), "runtime that nothing wants", "c1/z")
	found(t, Runtimes(desired, actual(runtime("a"), runtime("a"))), "runtime twice", "c1/a")
	other := runtime("a")
	other.DeploymentUID = "u2"
	found(t, Runtimes(desired, actual(other)), "runtime of another deployment", "c1/a")
	old := runtime("a")
	old.Fence = 6
	found(t, Runtimes(desired, actual(old)), "runtime of another content", "c1/a")
	found(t, Runtimes(append(desired, unit("a", "c1")), actual(runtime("a"))), "unit twice", "a")
}

func TestFences(t *testing.T) {
	took := func(unit string, epoch, fence uint64, hash string) history.Fenced {
		return history.Fenced{Cluster: "c1", Unit: unit, Epoch: epoch, Fence: fence, Hash: hash}
	}
	good := []history.Fenced{took("a", 1, 5, "h5"), took("b", 1, 4, "h4"), took("a", 1, 5, "h5"), took("a", 1, 9, "h9"), took("a", 2, 3, "h3")}
	accepted(t, Fences(good))
	found(t, Fences(append(good, took("b", 1, 3, "h3"))), "older change after a newer one", "c1/b")
	found(t, Fences(append(good, took("a", 1, 99, "h"))), "older change after a newer one", "c1/a")
	found(t, Fences(append(good, took("b", 1, 4, "other"))), "one change, two contents", "c1/b")
}

func TestPromises(t *testing.T) {
	b := newTape(history.Lifecycle)
	waited := func(index uint64, available bool, call, ret int) int {
		return b.op(history.Operation{
			Kind: history.Put, Key: "d", Outcome: history.OK, Index: index, Command: true, Input: history.Request{Wait: time.Second},
			Output: history.Answer{Status: 200, Available: available, Unit: "u"},
		}, call, ret)
	}
	final := &history.Final{Live: true, Fenced: []history.Fenced{
		{Unit: "u", Fence: 5, At: 2 * time.Millisecond}, {Unit: "u", Fence: 8, At: 20 * time.Millisecond}, {Unit: "other", Fence: 50},
	}}
	waited(5, true, 0, 3)
	waited(6, true, 5, 30) // a later one came before it was said
	waited(9, false, 40, 50)
	accepted(t, Promises(b.h, final))
	early := waited(8, true, 6, 19)
	found(t, Promises(b.h, final), "available before it was there", "d", early)
	final.Live = false
	accepted(t, Promises(b.h, final))
}

func TestLeaders(t *testing.T) {
	b := newTape(history.Register)
	claim := func(term uint64, leader string) int {
		return b.op(history.Operation{Kind: history.Read, Term: term, Leader: leader}, 0, 1)
	}
	claim(2, "a")
	claim(2, "a")
	claim(3, "")
	claim(3, "b")
	claim(5, "a")
	accepted(t, Leaders(b.h))
	other := claim(2, "b")
	found(t, Leaders(b.h), "two leaders in a term", "term 2", 0, other)
}

func TestReplicas(t *testing.T) {
	node := func(index uint64, hash, value string) history.NodeState {
		return history.NodeState{
			Index: index, Hash: hash, HashIndex: 10, Peers: map[string]string{"s1": "h"}, Packages: []history.Object{{Key: "k", Value: value}},
		}
	}
	final := func(a, b history.NodeState) *history.Final {
		return &history.Final{Nodes: map[string]history.NodeState{"n1": a, "n2": b}}
	}
	accepted(t, Replicas(final(node(10, "h", "v1"), node(10, "h", "v1"))))
	accepted(t, Replicas(final(node(10, "h", "v1"), node(11, "h", "v2"))))
	found(t, Replicas(final(node(10, "h", "v1"), node(10, "other", "v1"))), "different histories", "index 10")
	found(t, Replicas(final(node(10, "h", "v1"), node(10, "h", "v2"))), "different states", "index 10")
	found(t, Replicas(final(node(10, "h", "v1"), history.NodeState{Error: "refused"})), "node could not be read", "n2")
	alone := node(10, "h", "v1")
	alone.Peers = nil
	found(t, Replicas(final(alone, node(10, "h", "v1"))), "histories could not be compared", "n1")
}

// look adds a look at a node; times are seconds.
func (b *tape) look(node string, at int, s history.Status) {
	b.op(history.Operation{Kind: history.Look, Node: node, Outcome: history.OK, Output: s}, at*1000-1, at*1000)
}

var (
	ready = history.Status{Reached: true, Ready: true}
	leads = history.Status{Reached: true, Ready: true, Leads: true}
	busy  = history.Status{Reached: true, Ready: true, Leads: true, Pending: 3}
	down  = history.Status{}
)

func faulted(name string, at, end int, nodes ...string) history.Event {
	return history.Event{Kind: history.Fault, Name: name, Nodes: nodes, At: time.Duration(at) * time.Second, End: time.Duration(end) * time.Second}
}

func TestConvergence(t *testing.T) {
	b := newTape(history.Probe)
	nodes := []string{"n1", "n2"}
	b.h.Events = []history.Event{faulted("kill", 10, 20, "n1"), faulted("pause", 15, 30, "n2"), faulted("cut", 60, 70, "n1")}
	b.look("n1", 2, history.Status{Reached: true, Ready: true, Leads: true, Pending: 2}) // there is always something under way
	b.look("n1", 21, down)                                                               // another fault lasts
	b.look("n1", 31, ready)
	b.look("n2", 31, down)
	b.look("n2", 33, ready)
	b.look("n1", 34, busy)
	b.look("n2", 35, ready)
	b.look("n1", 37, leads)
	b.look("n1", 61, down)
	b.look("n1", 72, leads)
	b.look("n2", 72, ready)
	v, lapses := Convergence(b.h, nodes, 10*time.Second)
	accepted(t, v)
	if len(lapses) != 2 || lapses[0].Took != 7*time.Second || lapses[1].Took != 2*time.Second || len(lapses[0].Faults) != 2 {
		t.Errorf("lapses: %+v", lapses)
	}
	if lapses[0].WaitedFor != "clusters to confirm" {
		t.Errorf("waited for %q", lapses[0].WaitedFor)
	}
	v, _ = Convergence(b.h, nodes, 5*time.Second)
	found(t, v, "slow convergence", "kill+pause")

	b.look("n2", 90, down)
	v, lapses = Convergence(b.h, nodes, 10*time.Second)
	found(t, v, "no convergence", "cut")
	if lapses[1].Reached || lapses[1].WaitedFor != "n2 to be ready" {
		t.Errorf("lapse: %+v", lapses[1])
	}
	if got := lapses.Percentile(50); got != 7*time.Second {
		t.Errorf("p50 is %s", got)
	}
	// A fault that never ended is followed by no time without one.
	b.h.Events = []history.Event{faulted("kill", 10, 0, "n1")}
	if _, lapses = Convergence(b.h, nodes, time.Second); len(lapses) != 0 {
		t.Errorf("lapses: %+v", lapses)
	}
}

func TestRecovery(t *testing.T) {
	b := newTape(history.Register)
	leader := history.Event{Kind: history.Leader, Nodes: []string{"n1"}, Term: 2, At: time.Second}
	b.h.Events = []history.Event{leader, faulted("kill", 10, 12, "n1"), faulted("kill", 20, 22, "n2"), faulted("cut", 30, 40, "n1")}
	b.did(history.Create, "k", "v1", 5, 9_900, 10_001) // asked for before
	b.did(history.Write, "k", "v2", 6, 10_100, 10_400)
	b.did(history.Write, "k", "v3", 7, 31_000, 38_000)
	v, lapses := Recovery(b.h, time.Second, HitsLeader(b.h, "kill"))
	accepted(t, v)
	if len(lapses) != 1 || lapses[0].Took != 400*time.Millisecond {
		t.Errorf("lapses: %+v", lapses)
	}
	v, lapses = Recovery(b.h, time.Second, HitsLeader(b.h, ""))
	found(t, v, "writes stood still", "cut")
	if got := lapses.Percentile(100); got != 8*time.Second {
		t.Errorf("the longest is %s", got)
	}
}

func TestGrowth(t *testing.T) {
	b := newTape(history.Probe)
	uses := func(at, goroutines, files int, bytes uint64) {
		b.look("n1", at, history.Status{Reached: true, Ready: true, Goroutines: goroutines, FileDescriptors: files, ResidentBytes: bytes})
	}
	uses(1, 100, 50, 100<<20)
	uses(2, 900, 50, 100<<20) // one moment does not count
	uses(3, 100, 50, 100<<20)
	b.look("n1", 50, ready) // without metrics
	uses(60, 120, 55, 150<<20)
	at := func(from, till int) map[string]history.Status {
		t.Helper()
		s, err := AtRest(b.h, time.Duration(from)*time.Second, time.Duration(till)*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	bounds := GrowthBounds{Factor: 1.2, Goroutines: 10, FileDescriptors: 10, ResidentBytes: 100 << 20}
	accepted(t, Growth(at(0, 5), at(59, 61), bounds))
	uses(70, 131, 71, 300<<20)
	v := Growth(at(0, 5), at(69, 71), bounds)
	for _, what := range []string{"goroutines grew", "file descriptors grew", "resident memory grew"} {
		found(t, v, what, "n1")
	}
	found(t, Growth(nil, at(69, 71), bounds), "nothing observed", "")
}
