package command

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/raftstore"
)

// nodeDir makes the data directory of a node that ran alone and stopped.
func nodeDir(t *testing.T, dir string) (clusterID string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	node, err := raftstore.Open(t.Context(), raftstore.Options{
		DataDir: dir, RaftListener: ln, Registerer: prometheus.NewRegistry(), Timing: raftstore.Timing{Heartbeat: 50 * time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if _, err := node.WaitLeader(ctx); err != nil {
		t.Fatal(err)
	}
	res, err := node.Apply(ctx, &pmpb.Command{Op: &pmpb.Command_PutCluster{PutCluster: &pmpb.PutCluster{Cluster: &pmpb.Cluster{Name: "c", Address: "x:1"}}}})
	if err = errors.Join(err, res.Err); err != nil {
		t.Fatal(err)
	}
	clusterID = node.ClusterID()
	if err := node.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	return clusterID
}

var hexDigits = regexp.MustCompile(`[0-9a-f]{64}`)

// TestRecoverCommands goes the whole way on a real data directory: look, dry run,
// refusals, recovery; and begins another one with a snapshot.
func TestRecoverCommands(t *testing.T) {
	s := newSession(t)
	s.env["USER"] = "tester"
	dir := filepath.Join(s.home, "pm-0")
	id := nodeDir(t, dir)
	for _, tt := range []struct {
		exit int
		want []string
		args []string
	}{
		{ExitOK, []string{id, "Use " + dir, "nothing has to be recovered"}, []string{"recover", "inspect", dir}},
		{ExitOK, []string{`"cluster_id": "` + id + `"`}, []string{"recover", "inspect", dir, "-o", "json"}},
		{ExitFailure, []string{"no data directory"}, []string{"recover", "inspect", s.home}},
		{ExitOK, []string{"State at index:", "1 cluster,"}, []string{"raft", "replay", "--data-dir", dir}},
		{ExitFailure, []string{"no data directory"}, []string{"raft", "replay", "--data-dir", s.home}},
		{ExitUsage, []string{"--data-dir is required"}, []string{"raft", "replay"}},
		{ExitOK, []string{"Would recover cluster " + id, "Nothing was changed"}, []string{"recover", "apply", dir, "--dry-run"}},
		{ExitUsage, []string{"--confirm is required"}, []string{"recover", "apply", dir}},
		{ExitFailure, []string{"nothing has to be recovered", "--force"}, []string{"recover", "apply", dir, "--confirm", id}},
		{ExitUsage, []string{"confirmed was"}, []string{"recover", "apply", dir, "--confirm", "other", "--force"}},
		{ExitOK, []string{"Recovered cluster " + id, "The log from before", "Next: start this node"}, []string{"recover", "apply", dir, "--confirm", id, "--force", "--reason", "a test"}},
	} {
		out, code := s.run(tt.args...)
		out = strings.ReplaceAll(out, "HOME", s.home)
		if code != tt.exit {
			t.Errorf("%v: exit %d, want %d: %s", tt.args, code, tt.exit, out)
		}
		for _, want := range tt.want {
			if !strings.Contains(out, want) {
				t.Errorf("%v: %q is missing: %s", tt.args, want, hexDigits.ReplaceAllString(out, "<hash>"))
			}
		}
	}
	snapshot, fresh := s.snapshotOf("pm.snapshot", "a=x:1"), filepath.Join(s.home, "fresh")
	const saved = "0d9c0c7e-0f5c-4d5b-9a1c-5f0a4b8f6a11"
	if out, code := s.run("recover", "from-snapshot", snapshot, "--data-dir", fresh, "--address", "pm-0:7401", "--dry-run"); code != ExitOK || !strings.Contains(out, saved) {
		t.Errorf("%s", out)
	}
	if _, err := os.Stat(fresh); err == nil {
		t.Error("a dry run made a directory")
	}
	for _, address := range []string{"nonsense", "pm-0", ":7401", "pm-0:", "pm-0:x"} {
		if out, code := s.run("recover", "from-snapshot", snapshot, "--data-dir", fresh, "--address", address, "--confirm", saved); code != ExitFailure || !strings.Contains(out, "host:port") {
			t.Errorf("--address %s: exit %d, %s", address, code, out)
		}
	}
	if out, code := s.run("recover", "from-snapshot", snapshot, "--data-dir", s.home, "--address", "pm-0:7401", "--dry-run"); code != ExitFailure || !strings.Contains(out, "is not empty") {
		t.Errorf("a dry run says that a directory would be taken that is not: exit %d, %s", code, out)
	}
	if out, code := s.run("snapshot", "diff", snapshot, filepath.Join(s.home, "missing")); code != ExitUsage || strings.Contains(out, "pm.snapshot:") {
		t.Errorf("the wrong file is blamed: exit %d, %s", code, out)
	}
	if out, code := s.run("recover", "from-snapshot", snapshot, "--data-dir", fresh, "--address", "pm-0:7401", "--confirm", saved); code != ExitOK {
		t.Errorf("%s", out)
	}
	if out, code := s.run("raft", "replay", "--data-dir", fresh, "-o", "json"); code != ExitOK || !strings.Contains(out, `"clusters": 1`) {
		t.Errorf("%s", out)
	}
	if out, code := s.run("recover", "from-snapshot", snapshot); code != ExitUsage {
		t.Errorf("%s", out)
	}
}
