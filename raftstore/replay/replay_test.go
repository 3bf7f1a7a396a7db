package replay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/raftstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// history runs a node that writes n commands and stops. It gives the chain hash
// after each index.
func history(t *testing.T, dir string, n int, threshold uint64) map[uint64][]byte {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	node, err := raftstore.Open(t.Context(), raftstore.Options{
		DataDir: dir, RaftListener: ln, Registerer: prometheus.NewRegistry(),
		Timing: raftstore.Timing{Heartbeat: 50 * time.Millisecond, SnapshotInterval: 20 * time.Millisecond, SnapshotThreshold: threshold, TrailingLogs: 8},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if _, err := node.WaitLeader(ctx); err != nil {
		t.Fatal(err)
	}
	hashes := map[uint64][]byte{}
	for i := range n {
		res, err := node.Apply(ctx, &pmpb.Command{Op: &pmpb.Command_PutCluster{PutCluster: &pmpb.PutCluster{
			Cluster: &pmpb.Cluster{Name: fmt.Sprintf("c-%d", i), Address: "x:1"},
		}}})
		if err = errors.Join(err, res.Err); err != nil {
			t.Fatal(err)
		}
		// The node writes, too: what is looked at may be a later index.
		meta := node.State().Snapshot().Meta()
		hashes[meta.GetAppliedIndex()] = meta.GetChainHash()
	}
	if threshold < 1000 {
		for node.Stats().SnapshotIndex == 0 {
			if ctx.Err() != nil {
				t.Fatal("no snapshot")
			}
			if _, err := node.ReadBarrier(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := Run(ctx, Options{DataDir: dir}); !errors.Is(err, ErrInUse) {
		t.Errorf("a directory in use: %v", err)
	}
	if err := node.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	return hashes
}

// contents digests all files of a directory.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		out[path] = string(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestReplayIsWhatTheNodeHad at every index, from the log alone and from a
// snapshot on, and changes nothing on the disk.
func TestReplayIsWhatTheNodeHad(t *testing.T) {
	for name, threshold := range map[string]uint64{"log": 1000, "snapshot and log": 16} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			hashes := history(t, dir, 40, threshold)
			before := contents(t, dir)
			checked := 0
			for index, want := range hashes {
				got, err := Run(t.Context(), Options{DataDir: dir, Until: index})
				if err != nil && threshold < 1000 {
					continue // compacted away
				}
				if err != nil {
					t.Fatal(err)
				}
				checked++
				if !bytes.Equal(got.State.Snapshot().Meta().GetChainHash(), want) || got.State.Snapshot().Index() != index {
					t.Errorf("until %d: another state, at %d", index, got.State.Snapshot().Index())
				}
			}
			all, err := Run(t.Context(), Options{DataDir: dir})
			if err != nil || len(all.State.Snapshot().Clusters()) != 40 || all.ServerID == "" || all.ClusterID != all.State.Snapshot().Meta().GetClusterId() {
				t.Fatalf("%+v, %v", all, err)
			}
			if (all.SnapshotIndex > 0) != (threshold < 1000) || checked == 0 {
				t.Errorf("snapshot at %d, %d checked", all.SnapshotIndex, checked)
			}
			if diff := cmp.Diff(before, contents(t, dir)); diff != "" {
				t.Error("the directory was changed")
			}
			if threshold == 1000 {
				return
			}
			// Where a damaged snapshot leaves a gap, it is what the operator has to know.
			states, err := filepath.Glob(filepath.Join(dir, "raft", "snapshots", "*", "state.bin"))
			if err != nil {
				t.Fatal(err)
			}
			for _, path := range states {
				if err := os.Truncate(path, 100); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := Run(t.Context(), Options{DataDir: dir}); err == nil || !strings.Contains(err.Error(), filepath.Base(filepath.Dir(states[0]))) {
				t.Errorf("all snapshots are damaged: %v", err)
			}
			// Without its snapshot, the log is not enough.
			if err := os.RemoveAll(filepath.Join(dir, "raft", "snapshots")); err != nil {
				t.Fatal(err)
			}
			if _, err := Run(t.Context(), Options{DataDir: dir}); err == nil && all.FirstIndex > 1 {
				t.Error("a gap was passed over")
			}
		})
	}
}

func TestNoDataDirectory(t *testing.T) {
	dir := t.TempDir()
	if _, err := Run(t.Context(), Options{DataDir: dir}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if files := contents(t, dir); len(files) > 0 {
		t.Errorf("made %v", files)
	}
}
