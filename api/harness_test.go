package api

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/raftstore"
	"oaas.io/control-plane/registry"
)

var contentHash = regexp.MustCompile(`[0-9a-f]{64}`)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var epoch = time.Date(2026, 3, 5, 19, 36, 16, 123456789, time.UTC)

// store is a log of one node in memory. The hooks inject faults.
type store struct {
	state *fsm.State

	mu    sync.Mutex
	index uint64
	// apply, when set, is asked before each command and may refuse it.
	apply func(*pmpb.Command) error
	// barrier, when set, is asked before each linearizable read.
	barrier   func() error
	staleness time.Duration
}

func newStore(t testing.TB) *store {
	t.Helper()
	state, err := fsm.NewState()
	if err != nil {
		t.Fatal(err)
	}
	return &store{state: state, index: 10}
}

func (s *store) State() *fsm.State { return s.state }

func (s *store) Apply(_ context.Context, cmd *pmpb.Command) (fsm.Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.apply != nil {
		if err := s.apply(cmd); err != nil {
			return fsm.Result{}, err
		}
	}
	cmd.LeaderTime = timestamppb.New(epoch)
	data, err := fsm.EncodeCommand(cmd)
	if err != nil {
		return fsm.Result{}, err
	}
	if len(data) > raftstore.MaxCommandSize {
		return fsm.Result{}, fmt.Errorf("%w: %d bytes", raftstore.ErrTooLarge, len(data))
	}
	s.index++
	return s.state.Apply(s.index, 3, data), nil
}

func (s *store) ReadBarrier(context.Context) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.barrier != nil {
		if err := s.barrier(); err != nil {
			return 0, err
		}
	}
	return s.index, nil
}

func (s *store) WaitApplied(ctx context.Context, index uint64) error {
	for {
		snap := s.state.Snapshot()
		if snap.Index() >= index {
			return nil
		}
		select {
		case <-snap.WatchAll():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *store) Staleness() time.Duration { return s.staleness }

// node is a place in a cluster. The zero value leads.
type node struct {
	mu       sync.Mutex
	id       string
	follower bool
	leader   string
	conn     func() (*grpc.ClientConn, error)
	// servers are the connections to the other nodes.
	servers map[string]*grpc.ClientConn
	// extra are servers of the configuration besides pm-0 and pm-1.
	extra   []string
	contact time.Duration
}

func (n *node) ServerID() string { return n.id }

func (n *node) IsLeader() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.follower
}

func (n *node) Leader() (raftstore.LeaderInfo, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.follower {
		return raftstore.LeaderInfo{ServerID: n.id, Term: 3}, true
	}
	return raftstore.LeaderInfo{ServerID: n.leader, Term: 3}, n.leader != ""
}

func (n *node) LeaderConn(context.Context) (*grpc.ClientConn, error) {
	n.mu.Lock()
	conn := n.conn
	n.mu.Unlock()
	if conn == nil {
		return nil, raftstore.ErrNoLeader
	}
	return conn()
}

func (n *node) ServerConn(ctx context.Context, id string) (*grpc.ClientConn, error) {
	n.mu.Lock()
	conn := n.servers[id]
	n.mu.Unlock()
	if conn == nil {
		return nil, raftstore.ErrNoLeader
	}
	return conn, ctx.Err()
}

func (n *node) LastContact() time.Duration { return n.contact }
func (n *node) Staleness() time.Duration   { return n.contact }

func (n *node) Servers() []raftstore.Server {
	out := []raftstore.Server{
		{ID: "pm-0", RaftAddress: "pm-0:7401", GRPCAddress: "pm-0:7402", HTTPAddress: "http://pm-0:8080", Version: "1.0.0", Voter: true, Leader: true},
		{ID: "pm-1", RaftAddress: "pm-1:7401"},
	}
	for _, id := range n.extra {
		out = append(out, raftstore.Server{ID: id})
	}
	return out
}

func (n *node) lead() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.follower = false
}

// harness is a server on one node with everything that is random pinned.
type harness struct {
	t      testing.TB
	store  *store
	node   *node
	reg    *registry.Registry
	server *Server
	opts   Options
	// ops is set by operated.
	ops *operators
}

func newHarness(t testing.TB, with ...func(*harness)) *harness {
	t.Helper()
	h := &harness{t: t, store: newStore(t), node: &node{id: "pm-0"}}
	for _, f := range with {
		f(h)
	}
	var ids, uids int
	var mu sync.Mutex
	count := func(n *int, format string) func() string {
		return func() string {
			mu.Lock()
			defer mu.Unlock()
			*n++
			return fmt.Sprintf(format, *n)
		}
	}
	var err error
	h.reg, err = registry.New(registry.Options{Store: h.store, NewUID: count(&uids, "00000000-0000-4000-8000-%012d"), Now: func() time.Time { return epoch }})
	if err != nil {
		t.Fatal(err)
	}
	h.opts.Registry, h.opts.Cluster, h.opts.Metrics = h.reg, h.node, prometheus.NewRegistry()
	h.opts.Now = func() time.Time { return epoch }
	h.opts.NewRequestID = count(&ids, "req-%d")
	if h.opts.Version == "" {
		h.opts.Version = "0.1.0"
	}
	if h.opts.HoldForLeader == 0 {
		h.opts.HoldForLeader = 50 * time.Millisecond
	}
	if h.server, err = New(h.opts); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.server.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// do sends one request through the handler. Headers are given as "Name: value".
func (h *harness) do(method, target, body string, headers ...string) *httptest.ResponseRecorder {
	h.t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, target, reader)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	h.server.Handler().ServeHTTP(w, r)
	return w
}

// must is do, for requests that prepare a test.
func (h *harness) must(status int, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	h.t.Helper()
	w := h.do(method, target, body, headers...)
	if w.Code != status {
		h.t.Fatalf("%s %s: status %d, want %d: %s", method, target, w.Code, status, w.Body)
	}
	return w
}

// problem decodes a problem and checks what all problems have in common.
func (h *harness) problem(w *httptest.ResponseRecorder) problemBody {
	h.t.Helper()
	var p problemBody
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		h.t.Fatalf("not a problem: %v: %s", err, w.Body)
	}
	if got := w.Header().Get("Content-Type"); got != "application/problem+json" {
		h.t.Errorf("Content-Type of a problem is %q", got)
	}
	if p.Status != w.Code || p.Error == "" || p.Error != p.Detail || p.Title == "" || p.Instance == "" ||
		p.RequestID == "" || p.RequestID != w.Header().Get("X-Request-Id") || p.Type != problemTypePrefix+string(p.Code) {
		h.t.Errorf("incomplete problem: %s", w.Body)
	}
	return p
}

func (h *harness) cluster(name string, health pmpb.ClusterHealth) {
	h.t.Helper()
	availability := 0.99
	err := h.reg.PutCluster(context.Background(), 0, name, func(row *pmpb.Cluster) error {
		row.Uid, row.Address, row.Source = name+"-uid", name+":8088", pmpb.ClusterSource_CLUSTER_SOURCE_STATIC
		row.Region, row.Zone, row.CrmVersion, row.Namespace = "eu", name+"-a", "0.1.0", "default"
		row.NodeCount, row.ReadyNodes, row.Availability = 3, 3, &availability
		row.Health, row.LastSeen = health, timestamppb.New(epoch)
		if health != pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY {
			row.HealthMessage, row.HealthSince = "no answer", timestamppb.New(epoch)
		}
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *harness) unit(key, env string) *pmpb.Unit {
	h.t.Helper()
	snap := h.store.State().Snapshot()
	for _, u := range snap.UnitsByDeployment(snap.Deployment(key).UID) {
		if u.GetEnv() == env {
			return u
		}
	}
	h.t.Fatalf("no unit of %s in %s", key, env)
	return nil
}

// report lets a cluster acknowledge a unit and report a runtime in the given condition.
func (h *harness) report(key, env string, condition oaaspb.DeploymentCondition, message string) {
	h.t.Helper()
	u := h.unit(key, env)
	ready, url := condition == oaaspb.DeploymentCondition_RUNNING, "http://svc.default.svc.cluster.local/"
	phase := oaaspb.DeploymentPhase_RESOURCE_PROVISIONING
	if ready {
		phase = oaaspb.DeploymentPhase_PHASE_RUNNING
	}
	summary := &oaaspb.ClassRuntimeSummary{
		Id: u.GetId(), DeploymentUnitId: u.GetId(), PackageName: "shop", ClassKey: "shop.Cart", TargetEnvironment: "default",
		Status: &oaaspb.ClassRuntimeStatus{
			Condition: condition, Phase: phase, Message: &message, LastUpdated: "2026-03-05T19:36:20Z",
			Functions: []*oaaspb.FunctionStatus{{
				FunctionKey: "Cart.add", Service: "svc", Port: 65536 + 80, PredictedUrl: url, Template: "k8s_deployment", Ready: &ready,
			}},
		},
		ResourceRefs: []*oaaspb.ResourceReference{{Kind: "Deployment", Name: "svc"}},
		CreatedAt:    "2026-03-05T19:36:17Z", UpdatedAt: "2026-03-05T19:36:17Z",
		Delivery: &oaaspb.Delivery{Epoch: u.GetEpoch(), Fence: u.GetFence(), ContentHash: u.GetContentHash()},
	}
	h.updateUnit(u, &pmpb.UnitUpdate{Update: &pmpb.UnitUpdate_Acked{Acked: &pmpb.Ack{ContentHash: u.GetContentHash()}}})
	h.updateUnit(u, &pmpb.UnitUpdate{Update: &pmpb.UnitUpdate_Runtime{Runtime: summary}})
}

func (h *harness) updateUnit(u *pmpb.Unit, up *pmpb.UnitUpdate) {
	h.t.Helper()
	up.Id, up.Fence, up.Epoch = u.GetId(), u.GetFence(), u.GetEpoch()
	if err := h.reg.UpdateUnits(context.Background(), 0, []*pmpb.UnitUpdate{up}); err != nil {
		h.t.Fatal(err)
	}
}

const (
	shopPackage = `{"name":"shop","classes":[{"key":"Cart","function_bindings":[{"name":"add","function_key":"Cart.add","access_modifier":"PUBLIC"}]}],
 "functions":[{"key":"Cart.add","provision_config":{"container_image":"registry.local/cart:1","port":8080}}]}`
	shopCart = `{"key":"shop.Cart","package_name":"shop","class_key":"Cart","target_envs":["oaas-1","oaas-2"]}`
)

// shop has two healthy clusters and the deployment shop.Cart in both.
func shop(t testing.TB, with ...func(*harness)) *harness {
	t.Helper()
	h := newHarness(t, with...)
	h.cluster("oaas-1", pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY)
	h.cluster("oaas-2", pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY)
	h.must(http.StatusCreated, http.MethodPost, "/api/v1/packages", shopPackage)
	h.must(http.StatusOK, http.MethodPost, "/api/v1/deployments", shopCart)
	return h
}

// golden compares an answer with a file: status, the headers that matter, and
// the body with its exact keys.
func golden(t *testing.T, name string, w *httptest.ResponseRecorder) {
	t.Helper()
	var got bytes.Buffer
	fmt.Fprintf(&got, "%d\n", w.Code)
	for _, header := range []string{"Content-Type", "ETag", "PM-Index", "PM-Term", "PM-Leader", "PM-Served-By", "PM-Last-Contact-Ms", "PM-Consistency"} {
		if v := w.Header().Get(header); v != "" {
			fmt.Fprintf(&got, "%s: %s\n", header, v)
		}
	}
	got.WriteByte('\n')
	if raw := w.Body.Bytes(); json.Valid(raw) {
		if err := json.Indent(&got, raw, "", "  "); err != nil {
			t.Fatal(err)
		}
		got.WriteByte('\n')
	} else {
		got.Write(raw)
	}
	// What units contain is not this package's to pin.
	text := contentHash.ReplaceAllString(got.String(), "<hash>")
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil { //nolint:gosec // a test's own data
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text); diff != "" {
		t.Errorf("%s differs (-want +got), run with -update if that is meant:\n%s", file, diff)
	}
}
