//go:build variants

package variant

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"oaas.io/control-plane/api/client"
	"oaas.io/control-plane/deploy/local/port"
	"oaas.io/control-plane/deploy/local/process"
	"oaas.io/control-plane/deploy/local/system"
	"oaas.io/control-plane/jepsen/faultfs"
	"oaas.io/control-plane/model"
)

// These take minutes, as each variant's tests are compiled anew: make chaos-guards.

// A variant that misbehaves in no small scenario would prove nothing about a large one.
func TestGuardsAreMissed(t *testing.T) {
	for _, v := range All() {
		replaced, err := Overlay(module, t.TempDir(), v.Name)
		if err != nil {
			t.Fatal(err)
		}
		for _, test := range v.Tests {
			t.Run(v.Name+strings.TrimPrefix(test.Package, "."), func(t *testing.T) {
				cmd := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-overlay", replaced, "-run", test.Run, test.Package)
				cmd.Dir = module
				said, err := cmd.CombinedOutput()
				if err == nil {
					t.Fatalf("%s passes without the guard:\n%s", test.Run, said)
				}
				// A test that fails is meant, not one that cannot be built.
				if !bytes.Contains(said, []byte("--- FAIL: ")) {
					t.Fatalf("%v\n%s", err, said)
				}
				t.Logf("%s", said)
			})
		}
	}
}

// What a node has acknowledged is there after its power was cut, unless its log store does
// not sync.
func TestPowerCut(t *testing.T) {
	whole := t.TempDir()
	if err := runGo(t.Context(), module, "build", "-o", whole, "./cmd/pmd"); err != nil {
		t.Fatal(err)
	}
	without, err := Build(t.Context(), module, t.TempDir(), "fsync-off")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, bin string
		lost      bool
	}{{"whole", whole, false}, {"fsync-off", without, true}} {
		t.Run(tt.name, func(t *testing.T) {
			n := startOnDisk(t, filepath.Join(tt.bin, "pmd"))
			const written = 20
			for i := range written {
				if _, err := n.client.CreatePackage(t.Context(), packageOf(i)); err != nil {
					t.Fatal(err)
				}
			}
			n.cutPower(t)
			kept := n.packages(t, written)
			t.Logf("%d of %d acknowledged packages are left", kept, written)
			if lost := kept < written; lost != tt.lost {
				t.Errorf("lost = %t, want %t", lost, tt.lost)
			}
		})
	}
}

// onDisk is a pmd by itself, on a disk that can lose power.
type onDisk struct {
	spec   process.Spec
	proc   *process.Process
	disk   *faultfs.FS
	url    string
	client *client.Client
}

func startOnDisk(t *testing.T, pmd string) *onDisk {
	t.Helper()
	dir := t.TempDir()
	disk, err := faultfs.Mount(filepath.Join(dir, "disk"), filepath.Join(dir, "mount"), faultfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := disk.Close(); err != nil {
			t.Error(err)
		}
	})
	ports, err := port.Reserve(3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ports.Release)
	at := func(i int) string { return fmt.Sprintf("127.0.0.1:%d", ports.Port(i)) }
	n := &onDisk{disk: disk, url: "http://" + at(0), spec: process.Spec{
		Name: "pm-1", Path: pmd, LogFile: filepath.Join(dir, "log"), Env: []string{},
		Args: []string{
			"--name=pm-1", "--data-dir=" + disk.Mountpoint(), "--advertise-host=127.0.0.1",
			"--http-addr=" + at(0), "--grpc-addr=" + at(1), "--raft-addr=" + at(2), "--gossip-addr=",
		},
	}}
	if n.client, err = client.New(client.Options{Servers: []string{n.url}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.client.CloseIdle)
	n.start(t)
	if err := n.ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *onDisk) start(t *testing.T) {
	t.Helper()
	proc, err := process.Start(n.spec)
	if err != nil {
		t.Fatal(err)
	}
	n.proc = proc
	t.Cleanup(proc.Kill)
}

func (n *onDisk) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return system.Poll(ctx, "pmd is ready", func(ctx context.Context) (bool, error) {
		if err := n.proc.Err(); err != nil {
			return false, system.Fatal(err)
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, n.url+"/readyz", nil)
		if err != nil {
			return false, system.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return false, err
		}
		return response.StatusCode == http.StatusOK, response.Body.Close()
	})
}

// cutPower ends the node and takes what was not synced.
func (n *onDisk) cutPower(t *testing.T) {
	t.Helper()
	n.proc.Kill()
	loss, err := n.disk.PowerCut(1, faultfs.CutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("lost: %+v", loss)
	n.start(t)
}

// packages counts those that are left. A node that cannot start any more has none.
func (n *onDisk) packages(t *testing.T, written int) (kept int) {
	t.Helper()
	if err := n.ready(t.Context()); err != nil {
		t.Logf("the node does not come back: %v", err)
		return 0
	}
	for i := range written {
		_, err := n.client.Package(t.Context(), packageOf(i).Name)
		if err == nil {
			kept++
		}
	}
	return kept
}

func packageOf(i int) *model.OPackage { return &model.OPackage{Name: fmt.Sprintf("package-%d", i)} }
