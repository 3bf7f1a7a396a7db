package nemesis

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"oaas.io/control-plane/deploy/local/process"
	"oaas.io/control-plane/deploy/local/system"
	"oaas.io/control-plane/jepsen/cluster"
	"oaas.io/control-plane/jepsen/faultfs"
	"oaas.io/control-plane/jepsen/history"
	"oaas.io/control-plane/model"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction(process.ForkLoop))
}

const (
	// patience is longer than anything takes that works, on a machine that has other work too.
	patience = 2 * time.Minute
	// chooseLimit is how long a nemesis may wait for what it needs, which others have broken.
	chooseLimit = 2 * time.Second
)

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// mounted is a disk as the cluster wants it.
type mounted struct{ *faultfs.FS }

func (m mounted) Path() string { return m.Mountpoint() }

// startTarget runs a cluster for one test.
func startTarget(t testing.TB) *Target {
	t.Helper()
	bin := os.Getenv(system.BinEnv)
	if bin == "" {
		bin = t.TempDir()
		check(t, system.Build(t.Context(), bin, "pmd")) // as long as the compiler needs
	}
	var mu sync.Mutex
	disks := map[string]*faultfs.FS{}
	options := cluster.Options{Agents: 1, Bin: bin, Dir: t.TempDir(), PMArgs: []string{"--profile=fast"}}
	target := &Target{Recorder: history.NewRecorder(), NoDisks: faultfs.Available(), Log: hclog.NewNullLogger()}
	if target.NoDisks == nil {
		options.Disk = func(node, dir string) (cluster.Disk, error) {
			fs, err := faultfs.Mount(filepath.Join(dir, "disk"), filepath.Join(dir, "data"), faultfs.Options{NoBackingSync: true})
			mu.Lock()
			defer mu.Unlock()
			disks[node] = fs
			return mounted{fs}, err
		}
	}
	target.Disks = func(node string) *faultfs.FS {
		mu.Lock()
		defer mu.Unlock()
		return disks[node]
	}
	c, err := cluster.Start(within(t, patience), options)
	check(t, err)
	target.Cluster = c
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := c.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return target
}

// usable reports that the cluster does what it is there for, through every node.
func usable(t *testing.T, target *Target, round int) {
	t.Helper()
	ctx := within(t, patience)
	if err := Recover(ctx, target); err != nil {
		for _, n := range target.Cluster.Nodes() {
			t.Logf("%s runs: %v, paused: %v\n%s", n.Name(), n.Running(), n.Paused(), process.Tail(n.LogPath(), 10))
		}
		t.Fatal(err)
	}
	for _, n := range target.Cluster.Nodes() {
		name := fmt.Sprintf("after-%d-%s", round, n.Name())
		_, err := target.Cluster.Client(n.Name()).CreatePackage(ctx, &model.OPackage{Name: name})
		check(t, err)
		_, err = target.Cluster.Client(n.Name()).Package(ctx, name)
		check(t, err)
	}
}

// Whatever was begun, in whatever order and not ended, Heal mends.
func TestHealMendsWhateverWasBegun(t *testing.T) {
	target := startTarget(t)
	can, cannot := Split(target, All())
	for _, m := range cannot {
		t.Logf("not here: %s: %s", m.Name, m.Reason)
	}
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // repeatable
	all := shuffled(random, can)
	for round := 0; len(all) > 0; round++ {
		n := min(6, len(all))
		for _, nemesis := range all[:n] {
			begin(t, target, nemesis, random)
		}
		all = all[n:]
		usable(t, target, round)
	}
}

// begin breaks and does not mend. That it cannot, since something else is broken, is as good.
func begin(t *testing.T, target *Target, n Nemesis, random *rand.Rand) {
	ctx, cancel := context.WithTimeout(t.Context(), chooseLimit)
	defer cancel()
	fault, err := n.Choose(ctx, target, random)
	if err != nil {
		t.Logf("%s: not done: %v", n.Name(), err)
		return
	}
	if err := fault.Begin(ctx); err != nil {
		t.Logf("%s: %v", n.Name(), err)
	}
	if fault.During == nil {
		return
	}
	ctx, cancel = context.WithTimeout(t.Context(), chooseLimit/4)
	defer cancel()
	if err := fault.During(ctx); err != nil {
		t.Logf("%s: %v", n.Name(), err)
	}
}

// Each fault that is begun and ended leaves nothing behind that Heal would have to mend.
func TestEndMendsWhatBeginBroke(t *testing.T) {
	target := startTarget(t)
	chosen, err := Named("partition-one-way", "slow-link", "pause-leader", "failing-fsync", "torn-write", "clock-back", "move-all", "replace", "garble-agent")
	check(t, err)
	can, _ := Split(target, chosen)
	var steps []Step
	for i, n := range can {
		steps = append(steps, Step{At: time.Duration(i) * time.Millisecond, For: 300 * time.Millisecond, Nemesis: n.Name(), Seed: uint64(i)}) //nolint:gosec // not negative
	}
	for i, step := range steps {
		done := Run(within(t, patience), target, can, []Step{step}, func(Done, bool) {})
		if len(done) != 1 || done[0].Err != nil || done[0].Skipped != nil {
			t.Fatalf("got %v", done)
		}
		check(t, target.Cluster.WaitReady(within(t, patience)))
		usable(t, target, i)
	}
	faults := 0
	for _, e := range target.Recorder.History().Events {
		if e.Kind == history.Fault && e.End > e.At {
			faults++
		}
	}
	if faults != len(steps) {
		t.Errorf("%d faults are in the history, want %d", faults, len(steps))
	}
}

// A disk that was replaced does not get back what was on the old one, also when it loses power at once.
func TestAWipedDiskStaysEmpty(t *testing.T) {
	target := startTarget(t)
	if target.NoDisks != nil {
		return // there is no disk here that could give anything back
	}
	node := target.Cluster.Node("pm-2")
	check(t, node.Kill())
	check(t, node.Wipe())
	_, err := target.Disks(node.Name()).PowerCut(1, faultfs.CutOptions{})
	check(t, err)
	entries, err := os.ReadDir(node.DataDir())
	check(t, err)
	if len(entries) > 0 {
		t.Errorf("it has %v", entries)
	}
	check(t, node.Start(within(t, patience)))
	usable(t, target, 0)
}
