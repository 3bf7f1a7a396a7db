package recovery

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/raftstore"
	"oaas.io/control-plane/raftstore/replay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// server is a node with its own directory and ports, which it keeps.
type server struct {
	*raftstore.Node
	t         testing.TB
	dir       string
	raft, rpc string
	peers     []string
	grpc      *grpc.Server
	served    chan struct{}
}

func freeAddress(t testing.TB) string {
	l := listen(t, "127.0.0.1:0")
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func listen(t testing.TB, address string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func newServer(t testing.TB, dir string) *server {
	s := &server{t: t, dir: dir, raft: freeAddress(t), rpc: freeAddress(t)}
	t.Cleanup(s.stop)
	return s
}

func (s *server) start() {
	s.t.Helper()
	node, err := raftstore.Open(s.t.Context(), raftstore.Options{
		DataDir: s.dir, RaftListen: s.raft, RaftAddress: s.raft, GRPCAddress: s.rpc, HTTPAddress: s.rpc, Peers: s.peers,
		Registerer: prometheus.NewRegistry(),
		Timing: raftstore.Timing{Heartbeat: 200 * time.Millisecond, Commit: 5 * time.Millisecond, RPC: 2 * time.Second, Probe: 40 * time.Millisecond,
			Stabilization: 200 * time.Millisecond, SnapshotInterval: time.Hour},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.Node, s.grpc, s.served = node, grpc.NewServer(node.ServerOptions()...), make(chan struct{})
	node.RegisterServices(s.grpc)
	l := listen(s.t, s.rpc)
	go func(g *grpc.Server, done chan struct{}) {
		defer close(done)
		_ = g.Serve(l)
	}(s.grpc, s.served)
}

func (s *server) stop() {
	if s.Node == nil {
		return
	}
	s.grpc.Stop()
	<-s.served
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil && !errors.Is(err, net.ErrClosed) {
		s.t.Errorf("shutdown: %v", err)
	}
	s.Node = nil
}

func startCluster(t testing.TB, n int) []*server {
	var out []*server
	var peers []string
	for range n {
		out = append(out, newServer(t, t.TempDir()))
		peers = append(peers, out[len(out)-1].rpc)
	}
	for _, s := range out {
		s.peers = peers
		s.start()
	}
	leaderOf(t, out...)
	return out
}

func eventually(t testing.TB, what string, do func() error) {
	t.Helper()
	deadline := time.After(patience)
	for {
		err := do()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%s: %v", what, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// leaderOf waits for a leader that may use all commands.
func leaderOf(t testing.TB, servers ...*server) *server {
	t.Helper()
	var found *server
	eventually(t, "a leader at level 2", func() error {
		for _, s := range servers {
			if s.Node != nil && s.IsLeader() && s.State().Snapshot().FeatureLevel() >= 2 {
				found = s
				return nil
			}
		}
		return errors.New("there is none")
	})
	return found
}

func write(t testing.TB, cmd *pmpb.Command, servers ...*server) uint64 {
	t.Helper()
	var index uint64
	eventually(t, "write", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		res, err := leaderOf(t, servers...).Apply(ctx, cmd)
		index = res.Index
		return errors.Join(err, res.Err)
	})
	return index
}

func deploy(t testing.TB, key string, servers ...*server) uint64 {
	t.Helper()
	doc, err := (&model.OClassDeployment{Key: key, PackageName: "p", ClassKey: "c"}).MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return write(t, &pmpb.Command{Principal: "tester", Op: &pmpb.Command_CommitDeployment{CommitDeployment: &pmpb.CommitDeployment{
		Uid: "u-" + key, Document: doc,
		Units: []*pmpb.PlannedUnit{{Id: key + "-e", Env: "e", ContentHash: "h", Desired: &oaaspb.DeploymentUnit{Id: key + "-e"}}},
	}}}, servers...)
}

func stopAll(servers []*server) {
	for _, s := range servers {
		s.stop()
	}
}

func TestOneOfThreeIsRecoveredAndTheOthersJoinAnew(t *testing.T) {
	cluster := startCluster(t, 3)
	first := deploy(t, "a", cluster...)
	id := cluster[0].ClusterID()
	for _, s := range cluster {
		eventually(t, "the write everywhere", func() error { return s.WaitApplied(t.Context(), first) })
	}
	if _, err := Inspect(t.Context(), cluster[0].dir); !errors.Is(err, replay.ErrInUse) {
		t.Fatalf("a running node's directory gives %v", err)
	}
	stopAll(cluster)
	left := cluster[0]
	before, err := Inspect(t.Context(), left.dir)
	if err != nil {
		t.Fatal(err)
	}
	if before.ClusterID != id || len(before.Servers) != 3 || before.EndIndex < first || before.Applied.Deployments != 1 || len(before.Tail) == 0 {
		t.Fatalf("inspected: %+v", before)
	}

	opts := Options{DataDir: left.dir, Operator: "tester", Reason: "two disks burnt"}
	dry := opts
	dry.DryRun = true
	if res, err := Recover(t.Context(), dry); err != nil || len(res.Lost) != 2 || len(res.Consequences) < 4 {
		t.Fatalf("dry run: %+v, %v", res, err)
	}
	if again, err := Inspect(t.Context(), left.dir); err != nil || again.LastIndex != before.LastIndex || again.Pending != nil {
		t.Fatalf("the dry run changed something: %+v, %v", again, err)
	}
	if _, err := Recover(t.Context(), opts); !errors.Is(err, ErrNotConfirmed) {
		t.Fatalf("unconfirmed: %v", err)
	}
	opts.ConfirmClusterID = id
	res, err := Recover(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	var audit Result
	if raw, err := os.ReadFile(res.Audit); err != nil || json.Unmarshal(raw, &audit) != nil || audit.Operator != "tester" || audit.Before.EndIndex != before.EndIndex {
		t.Fatalf("the record is %+v (%v)", audit, err)
	}
	if _, err := os.Stat(filepath.Join(res.Copy, logFile)); err != nil {
		t.Fatal(err)
	}

	left.start()
	alone := leaderOf(t, left)
	unit := alone.State().Snapshot().Unit("a-e")
	if unit.GetEpoch() != 2 || unit.GetFence() <= first {
		t.Fatalf("unit after the recovery: %v", unit)
	}
	if alone.ClusterID() != id {
		t.Fatalf("the cluster is %s now", alone.ClusterID())
	}
	deploy(t, "b", left)
	left.stop()
	left.start() // the epoch rises once
	leaderOf(t, left)
	if epoch := left.State().Snapshot().Meta().GetEpoch(); epoch != 2 {
		t.Fatalf("epoch %d after a restart", epoch)
	}

	fresh := []*server{left}
	for range 2 {
		s := newServer(t, t.TempDir())
		s.peers = []string{left.rpc, s.rpc}
		s.start()
		fresh = append(fresh, s)
	}
	eventually(t, "three voters", func() error {
		voters := 0
		for _, s := range left.Servers() {
			if s.Voter {
				voters++
			}
		}
		if voters != 3 {
			return fmt.Errorf("%d voters", voters)
		}
		return nil
	})
	last := deploy(t, "c", fresh...)
	for _, s := range fresh {
		eventually(t, "the write everywhere", func() error { return s.WaitApplied(t.Context(), last) })
		if got := len(s.State().Snapshot().Deployments()); got != 3 {
			t.Errorf("%d deployments, want 3", got)
		}
	}
}

func TestCompareFindsTheNewestLog(t *testing.T) {
	cluster := startCluster(t, 3)
	deploy(t, "a", cluster...)
	behind := cluster[0]
	if behind == leaderOf(t, cluster...) {
		behind = cluster[1]
	}
	behind.stop()
	deploy(t, "b", cluster...)
	stopAll(cluster)
	var dirs []string
	for _, s := range cluster {
		dirs = append(dirs, s.dir)
	}
	c, err := Compare(t.Context(), dirs...)
	if err != nil {
		t.Fatal(err)
	}
	if c.Reports[2].DataDir != behind.dir || c.Use == behind.dir || !c.Quorum {
		t.Fatalf("use %s because %q; %s was behind", c.Use, c.Why, behind.dir)
	}
	if why := strings.Join(c.Why, "\n"); strings.Contains(why, "lacks 0") || strings.Contains(why, "1 entries") {
		t.Errorf("of two that are alike and one that is behind it is said: %q", why)
	}
	if err := os.Remove(filepath.Join(behind.dir, "cluster-id")); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	played, err := replay.Run(t.Context(), replay.Options{DataDir: behind.dir})
	if err != nil || played.ClusterID != c.Reports[0].ClusterID {
		t.Errorf("a directory whose node did not live long enough to note the cluster: %+v, %v", played, err)
	}
	two, err := Compare(t.Context(), behind.dir)
	if err != nil || two.Quorum {
		t.Fatalf("one of three is a quorum: %+v, %v", two, err)
	}
	other := startCluster(t, 1)
	stopAll(other)
	if _, err := Compare(t.Context(), behind.dir, other[0].dir); err == nil || !strings.Contains(err.Error(), "cluster") {
		t.Fatalf("directories of two clusters: %v", err)
	}
}

func TestALostClusterComesBackFromASnapshot(t *testing.T) {
	cluster := startCluster(t, 1)
	old := cluster[0]
	deploy(t, "a", old)
	var saved bytes.Buffer
	if _, err := old.SaveSnapshot(t.Context(), &saved); err != nil {
		t.Fatal(err)
	}
	lost := deploy(t, "b", old)
	id := old.ClusterID()
	old.stop()

	file := filepath.Join(t.TempDir(), "pm.snapshot")
	if err := os.WriteFile(file, saved.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newServer(t, filepath.Join(t.TempDir(), "new"))
	opts := Options{DataDir: s.dir, Address: s.raft, ConfirmClusterID: "wrong"}
	if _, err := FromSnapshot(t.Context(), file, opts); !errors.Is(err, ErrNotConfirmed) {
		t.Fatalf("unconfirmed: %v", err)
	}
	opts.ConfirmClusterID = id
	res, err := FromSnapshot(t.Context(), file, opts)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := FromSnapshot(t.Context(), file, opts); err == nil {
		t.Fatal("a directory in use is taken")
	}
	s.start()
	leaderOf(t, s)
	snap := s.State().Snapshot()
	if s.ClusterID() != id || snap.Deployment("a") == nil || snap.Deployment("b") != nil || snap.Meta().GetEpoch() != 2 {
		t.Fatalf("after the recovery: %v", snap.Meta())
	}
	if snap.Index() <= lost || snap.Unit("a-e").GetFence() <= lost || snap.Index() <= res.Next {
		t.Fatalf("index %d, the lost cluster came to %d", snap.Index(), lost)
	}
	next := deploy(t, "c", s)
	s.stop()
	s.start()
	leaderOf(t, s)
	if err := s.WaitApplied(t.Context(), next); err != nil || s.State().Snapshot().Deployment("c") == nil {
		t.Fatalf("after a restart: %v", err)
	}
}

func TestOnlyDirectoriesOfNodesAreTaken(t *testing.T) {
	if _, err := Inspect(t.Context(), t.TempDir()); err == nil {
		t.Fatal("an empty directory was inspected")
	}
	if _, err := Recover(t.Context(), Options{DataDir: t.TempDir()}); err == nil {
		t.Fatal("an empty directory was recovered")
	}
	if _, err := Compare(t.Context()); err == nil {
		t.Fatal("nothing was compared")
	}
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := raftstore.CreateOffline(full, nil); err == nil {
		t.Fatal("a directory that is not empty was taken")
	}
}
