package pmdtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"oaas.io/control-plane/jepsen/faultfs"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/raftstore"
)

// A pmd takes its first snapshot after a minute. These processes are the part of it that
// keeps the log, with snapshots every moment.

const childVariable = "PMDTEST_CHILD"

var children = map[string]func(args []string) error{"write": writeNode, "check": checkNode}

func openNode(dir string) (*raftstore.Node, error) {
	return raftstore.Open(context.Background(), raftstore.Options{
		DataDir: dir, RaftListen: "127.0.0.1:0", Profile: raftstore.Fast, Logger: hclog.New(&hclog.LoggerOptions{Output: os.Stderr}),
		Timing: raftstore.Timing{Heartbeat: 50 * time.Millisecond, SnapshotInterval: 20 * time.Millisecond, SnapshotThreshold: 10, TrailingLogs: 3},
	})
}

func writeNode(args []string) error {
	n, err := openNode(args[0])
	if err != nil {
		return err
	}
	next, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	if _, err := n.ReadBarrier(context.Background()); err != nil {
		return err
	}
	for {
		next++
		if _, err := n.Apply(context.Background(), &pmpb.Command{Op: &pmpb.Command_PutCluster{PutCluster: &pmpb.PutCluster{
			Cluster: &pmpb.Cluster{Name: fmt.Sprint("c", next), Address: "here"},
		}}}); err != nil {
			return err
		}
		if _, err := fmt.Println(next); err != nil {
			return err
		}
	}
}

func checkNode(args []string) error {
	acknowledged, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	n, err := openNode(args[0])
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if _, err := n.ReadBarrier(ctx); err != nil {
		return err
	}
	for i := range acknowledged {
		if n.State().Snapshot().Cluster(fmt.Sprint("c", i+1)) == nil {
			return fmt.Errorf("write %d of %d was acknowledged and is gone", i+1, acknowledged)
		}
	}
	return n.Shutdown(ctx)
}

func child(t *testing.T, name string, args ...string) (*exec.Cmd, *bufio.Scanner, *strings.Builder) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), childVariable+"="+name)
	errs := &strings.Builder{}
	cmd.Stderr = errs
	out, err := cmd.StdoutPipe()
	if err := errors.Join(err, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd, bufio.NewScanner(out), errs
}

// A log and its snapshots survive power cuts from the first moment of a data directory on.
func TestSnapshotsSurvivePowerCuts(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 1))
	for life := range 3 {
		dir := t.TempDir()
		f, err := faultfs.Mount(filepath.Join(dir, "disk"), filepath.Join(dir, "mount"), faultfs.Options{NoBackingSync: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		})
		acknowledged := 0
		for range 3 {
			acknowledged = writeUntilCut(t, f, rng, acknowledged)
			cmd, _, errs := child(t, "check", f.Mountpoint()+"/data", strconv.Itoa(acknowledged))
			if err := cmd.Wait(); err != nil {
				t.Fatalf("life %d: %v: %s", life, err, errs)
			}
		}
	}
}

func writeUntilCut(t *testing.T, f *faultfs.FS, rng *rand.Rand, acknowledged int) int {
	t.Helper()
	cmd, lines, errs := child(t, "write", f.Mountpoint()+"/data", strconv.Itoa(acknowledged))
	for range 50 + rng.IntN(150) {
		if !lines.Scan() {
			t.Fatalf("%v: %s", cmd.Wait(), errs)
		}
		acknowledged = number(lines.Text(), acknowledged)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
		acknowledged = number(lines.Text(), acknowledged)
	}
	_ = cmd.Wait() // killed
	found, err := filepath.Glob(f.Backing() + "/data/raft/snapshots/*[0-9]")
	if err != nil || len(found) == 0 {
		t.Fatalf("no snapshot was taken: %v", err)
	}
	if _, err := f.PowerCut(rng.Uint64(), faultfs.CutOptions{Torn: true}); err != nil {
		t.Fatal(err)
	}
	return acknowledged
}

// number reads a line; the last one may have been cut off.
func number(line string, before int) int {
	n, err := strconv.Atoi(line)
	if err != nil || n < before {
		return before
	}
	return n
}
