package raftstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// startWithSnapshots gives a node of its own with two snapshots, stopped.
func startWithSnapshots(t *testing.T, trailing uint64) *testNode {
	t.Helper()
	c := newCluster(t, 1)
	n := c.nodes[0]
	n.configure = func(o *Options) {
		o.Timing.SnapshotInterval = 20 * time.Millisecond
		o.Timing.SnapshotThreshold = 5
		o.Timing.TrailingLogs = trailing
	}
	c.start()
	for round := range 2 {
		for i := range 20 {
			c.write(fmt.Sprint("k", i), fmt.Sprint(round))
		}
		want := round + 1
		eventually(t, "snapshots", func() error {
			list, err := n.Snapshots()
			if err == nil && (len(list) < want || list[0].Index+5 < n.raft.LastIndex()) {
				err = fmt.Errorf("have %+v of %d", list, n.raft.LastIndex())
			}
			return err
		})
	}
	// No more snapshots from here on, so that the log goes beyond them.
	if err := n.Tune(Tuning{SnapshotInterval: time.Hour, SnapshotThreshold: 1 << 40}); err != nil {
		t.Fatal(err)
	}
	c.write("last", "yes")
	n.kill()
	return n
}

// newestSnapshot gives the directory of the newest snapshot.
func newestSnapshot(t *testing.T, n *testNode) string {
	t.Helper()
	root := filepath.Join(n.dir, raftDir, snapshotDir)
	names, err := listSnapshots(root, hclog.NewNullLogger())
	if err != nil || len(names) < 2 {
		t.Fatalf("snapshots %v, %v", names, err)
	}
	return filepath.Join(root, names[0])
}

// A damaged snapshot is set aside when the log makes up for it, and ends the
// start when it does not: what this server has confirmed must not be forgotten.
func TestDamagedSnapshot(t *testing.T) {
	state, meta := "state.bin", "meta.json"
	reaches, short := startWithSnapshots(t, 1000), startWithSnapshots(t, 1)
	reachesDir, shortDir := reaches.dir, short.dir
	for name, damage := range map[string]func(t *testing.T, dir string){
		"state is cut off": func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, state), fileSize(t, filepath.Join(dir, state))/2); err != nil {
				t.Fatal(err)
			}
		},
		"state is gone":   remove(state),
		"state is noise":  write(state, strings.Repeat("noise", 1000)),
		"meta is cut off": write(meta, `{"Version":1,"ID":`),
		"meta is gone":    remove(meta),
		"meta is another": write(meta, `{"Version":77}`),
		"nothing is left": func(t *testing.T, dir string) {
			remove(state)(t, dir)
			remove(meta)(t, dir)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Run("log reaches back", func(t *testing.T) {
				n := reaches
				n.dir = copyDir(t, reachesDir)
				dir := newestSnapshot(t, n)
				damage(t, dir)
				if err := prepareAgain(n); err != nil {
					t.Fatal(err)
				}
				if _, err := os.Stat(filepath.Join(n.dir, raftDir, damagedDir, filepath.Base(dir))); err != nil {
					t.Errorf("the damaged snapshot was not kept: %v", err)
				}
				if name != "state is cut off" {
					return // one start is as good as another
				}
				n.start()
				if got := n.c.leader(); get(got, "k3") != "1" || get(got, "last") != "yes" {
					t.Errorf("state is k3=%q last=%q", get(got, "k3"), get(got, "last"))
				}
				n.kill()
			})
			t.Run("log does not", func(t *testing.T) {
				n := short
				n.dir = copyDir(t, shortDir)
				dir := newestSnapshot(t, n)
				damage(t, dir)
				_, err := Open(t.Context(), n.options())
				var ce *CorruptError
				if !errors.As(err, &ce) || ce.Path != dir || ce.Remedy == "" {
					t.Fatalf("err = %v, want a *CorruptError about %s", err, dir)
				}
			})
		})
	}
}

func copyDir(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// prepareAgain does what a start does to the files.
func prepareAgain(n *testNode) error {
	content, err := readLogFile(n.dir, filepath.Join(n.dir, raftDir, logFile))
	if err != nil {
		return err
	}
	store, err := raft.NewFileSnapshotStoreWithLogger(filepath.Join(n.dir, raftDir), retainSnapshots, hclog.NewNullLogger())
	if err != nil {
		return err
	}
	return prepareSnapshots(n.dir, store, content, hclog.NewNullLogger())
}

// A snapshot whose checksum is right but which this program cannot use is not
// passed over for an older one.
func TestUnusableSnapshotEndsTheStart(t *testing.T) {
	n := startWithSnapshots(t, 1000)
	o := n.options()
	o.featureLevel = 1
	if _, err := Open(t.Context(), o); !errors.Is(err, ErrTooOld) {
		t.Errorf("err = %v, want ErrTooOld", err)
	}
}

func TestSnapshotsThatWereNotFinishedAreRemoved(t *testing.T) {
	n := startWithSnapshots(t, 1000)
	dir := newestSnapshot(t, n)
	left := filepath.Join(filepath.Dir(dir), "9-999999-1700000000000"+tmpSnapshot)
	if err := os.Mkdir(left, 0o700); err != nil {
		t.Fatal(err)
	}
	n.start()
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}

// Entries missing behind the newest snapshot are told as what they are.
func TestGapInTheLog(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.nodes[0]
	c.start()
	for i := range 10 {
		c.write(fmt.Sprint("k", i), "v")
	}
	n.kill()
	path := filepath.Join(n.dir, raftDir, logFile)
	deleteRange(t, path, 4, 6)
	_, err := Open(t.Context(), n.options())
	var ce *CorruptError
	if !errors.As(err, &ce) || ce.Path != path {
		t.Errorf("err = %v", err)
	}
}

// What was written is read back, and it is told when that fails.
func TestSnapshotIsReadBack(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	n := c.leader()
	bad := func(want float64) {
		t.Helper()
		eventually(t, "the verdict", func() error {
			if got := testutil.ToFloat64(n.m.snapshotBad); got != want {
				return fmt.Errorf("it is %v", got)
			}
			return nil
		})
	}
	n.m.snapshotBad.Set(-1)
	c.write("k", "v")
	if err := n.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	bad(0)
	list, err := n.Snapshots()
	if err != nil || len(list) != 1 {
		t.Fatalf("snapshots %v, %v", list, err)
	}
	write("state.bin", "noise")(t, filepath.Join(n.dir, raftDir, snapshotDir, list[0].ID))
	n.fsm.written <- struct{}{}
	bad(1)
	c.write("k", "w")
	if err := n.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	bad(0)
}

func TestParseSnapshotID(t *testing.T) {
	if id, ok := parseSnapshotID("2-17-1700000000123"); !ok || id.term != 2 || id.index != 17 || id.time.UnixMilli() != 1700000000123 {
		t.Errorf("%+v, %v", id, ok)
	}
	for _, bad := range []string{"", "2-17", "a-1-2", "1--2", "1-2-3-4", "1-2-3.tmp"} {
		if _, ok := parseSnapshotID(bad); ok {
			t.Errorf("%q is taken for a snapshot", bad)
		}
	}
}
