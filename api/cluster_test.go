package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/raftstore"
	"oaas.io/control-plane/registry"
)

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// realNode is a node as cmd/pmd makes it, without clusters.
type realNode struct {
	raft   *raftstore.Node
	server *Server
	base   string
}

// realCluster starts nodes that have a leader and know one another.
func realCluster(t *testing.T, n int) []*realNode {
	t.Helper()
	rafts, internals := make([]net.Listener, n), make([]net.Listener, n)
	var peers []string
	for i := range n {
		for _, list := range []*[]net.Listener{&rafts, &internals} {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			(*list)[i] = ln
		}
		peers = append(peers, internals[i].Addr().String())
	}
	nodes := make([]*realNode, n)
	for i := range n {
		nodes[i] = startNode(t, rafts[i], internals[i], peers)
	}
	eventually(t, "every node knows a ready leader and all members", func() error {
		for _, node := range nodes {
			if _, err := node.server.opts.Registry.Read(t.Context(), registry.Consistency{}); err != nil {
				return err
			}
			if have := len(node.raft.State().Snapshot().Members()); have != n {
				return fmt.Errorf("%d members", have)
			}
		}
		return nil
	})
	return nodes
}

func startNode(t *testing.T, raftLn, internalLn net.Listener, peers []string) *realNode {
	t.Helper()
	metrics := prometheus.NewRegistry()
	raft, err := raftstore.Open(t.Context(), raftstore.Options{
		DataDir: t.TempDir(), RaftListener: raftLn, GRPCAddress: internalLn.Addr().String(), HTTPAddress: "http", Peers: peers, Version: "test",
		Registerer: metrics,
		Timing: raftstore.Timing{
			Heartbeat: 300 * time.Millisecond, Commit: 5 * time.Millisecond, RPC: 3 * time.Second, Hold: 10 * time.Second, Probe: 40 * time.Millisecond,
			Stabilization: 200 * time.Millisecond, SnapshotInterval: time.Hour,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	reg, err := registry.New(registry.Options{Store: raft, NewUID: uuid.NewString})
	if err != nil {
		t.Fatal(err)
	}
	h := &harness{t: t}
	h.opts = Options{
		Registry: reg, Cluster: raft, Metrics: metrics, Version: "test", HoldForLeader: 10 * time.Second,
		Inspection: NodeInspection{Node: raft}, Snapshots: NodeSnapshots{Node: raft}, Membership: NodeMembership{Node: raft}, Settings: map[string]string{"gossip-key": "secret"},
	}
	if h.server, err = New(h.opts); err != nil {
		t.Fatal(err)
	}
	internal := grpc.NewServer(raft.ServerOptions()...)
	raft.RegisterServices(internal)
	pmpb.RegisterForwardServiceServer(internal, NewForwardServer(h.server))
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = internal.Serve(internalLn) // ends with Stop
	}()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := raft.Shutdown(ctx); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		internal.Stop()
		<-served
	})
	return &realNode{raft: raft, server: h.server, base: serve(t, h)}
}

func eventually(t *testing.T, what string, do func() error) {
	t.Helper()
	deadline, tick := time.NewTimer(patience), time.NewTicker(10*time.Millisecond)
	defer deadline.Stop()
	defer tick.Stop()
	for {
		err := do()
		if err == nil {
			return
		}
		select {
		case <-deadline.C:
			t.Fatalf("%s: not in %v: %v", what, patience, err)
		case <-tick.C:
		}
	}
}

func getJSON[T any](t *testing.T, c *http.Client, target string) (T, fetched) {
	t.Helper()
	var out T
	resp, body := fetch(t, c, http.MethodGet, target, nil)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %s", target, resp.StatusCode, body)
	}
	if err := json.Unmarshal([]byte(body), &out); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return out, resp
}

// TestThreeRealNodes: every node answers for every other one, over the real
// internal port.
func TestThreeRealNodes(t *testing.T) {
	nodes, c := realCluster(t, 3), client(t)
	for _, via := range nodes {
		for _, of := range nodes {
			id := of.raft.ServerID()
			got, resp := getJSON[nodeView](t, c, via.base+"/api/v1/operator/node?node="+id)
			if got.ServerID != id || resp.Header.Get("PM-Served-By") != id || got.ClusterID != nodes[0].raft.ClusterID() || got.Settings["gossip-key"] != redacted {
				t.Errorf("via %s: %+v", via.raft.ServerID(), got)
			}
			chain, _ := getJSON[ChainView](t, c, via.base+"/api/v1/operator/chain?node="+id)
			if len(chain.Servers) != 3 || chain.Servers[0].ServerID != id {
				t.Errorf("%+v", chain)
			}
		}
		leader, _ := getJSON[nodeView](t, c, via.base+"/api/v1/operator/node?node=leader")
		if leader.Raft.State != "Leader" || leader.ServerID != leader.LeaderID {
			t.Errorf("%+v", leader.Raft)
		}
		doctor, _ := getJSON[doctorView](t, c, via.base+"/api/v1/operator/doctor")
		for _, check := range doctor.Checks {
			// How fast the disk is, and how full, is the machine's business.
			if check.Status == checkFail && check.Name != "disk space" && check.Name != "log writes p99" {
				t.Errorf("%+v", check)
			}
		}
		_, body := fetch(t, c, http.MethodGet, via.base+"/api/v1/operator/raft/log?node=leader&from=1", nil)
		if !strings.Contains(body, `"op":"found"`) || !strings.Contains(body, `"type":"configuration"`) {
			t.Errorf("%s", body)
		}
	}
}

// TestSnapshotOfRealNodes saves the state through one node and restores it through
// another that does not lead.
func TestSnapshotOfRealNodes(t *testing.T) {
	nodes, c := realCluster(t, 3), client(t)
	post := func(node *realNode, target, body string) string {
		t.Helper()
		resp, text := fetch(t, c, http.MethodPost, node.base+"/api/v1/"+target, strings.NewReader(body))
		if resp.StatusCode/100 != 2 {
			t.Fatalf("%s: %d %s", target, resp.StatusCode, text)
		}
		return text
	}
	post(nodes[0], "packages", `{"name":"kept"}`)
	if nodes[1].raft.IsLeader() {
		nodes[0], nodes[1] = nodes[1], nodes[0]
	}
	resp, file := fetch(t, c, http.MethodGet, nodes[2].base+"/api/v1/operator/snapshot", nil)
	if resp.StatusCode != http.StatusOK || len(file) == 0 {
		t.Fatalf("%d %s", resp.StatusCode, file)
	}
	post(nodes[0], "packages", `{"name":"lost"}`)
	id := nodes[0].raft.ClusterID()
	text := post(nodes[1], "operator/snapshot/restore?confirm="+id, file)
	if !strings.Contains(text, `"epoch":2`) || !strings.Contains(text, `"packages":1`) || !strings.Contains(text, `"safety_copy":"/`) {
		t.Errorf("%s", text)
	}
	for _, node := range nodes {
		if _, body := fetch(t, c, http.MethodGet, node.base+"/api/v1/packages", nil); !strings.Contains(body, "kept") || strings.Contains(body, "lost") {
			t.Errorf("%s", body)
		}
	}
	for name, tt := range map[string]struct {
		body   string
		status int
	}{"no snapshot": {"x", http.StatusUnprocessableEntity}, "half of one": {file[:len(file)/2], http.StatusUnprocessableEntity}} {
		resp, text := fetch(t, c, http.MethodPost, nodes[1].base+"/api/v1/operator/snapshot/restore?confirm="+id, strings.NewReader(tt.body))
		if resp.StatusCode != tt.status {
			t.Errorf("%s: %d %s", name, resp.StatusCode, text)
		}
	}
}

// TestMembershipOfRealNodes hands leadership over, pins a server, and takes one
// out, all through nodes that do not lead.
func TestMembershipOfRealNodes(t *testing.T) {
	nodes, c := realCluster(t, 3), client(t)
	ask := func(via *realNode, method, target, body string) (int, string) {
		t.Helper()
		var in io.Reader
		if body != "" {
			in = strings.NewReader(body)
		}
		resp, text := fetch(t, c, method, via.base+"/api/v1/"+target, in)
		return resp.StatusCode, text
	}
	eventually(t, "all are healthy", func() error {
		status, text := ask(nodes[0], http.MethodGet, "operator/autopilot", "")
		if status != http.StatusOK || !strings.Contains(text, `"healthy":true,"failure_tolerance":1`) {
			return fmt.Errorf("%d %s", status, text)
		}
		return nil
	})
	follower := func() *realNode {
		for _, n := range nodes {
			if !n.raft.IsLeader() {
				return n
			}
		}
		return nil
	}
	to := follower().raft.ServerID()
	status, text := ask(follower(), http.MethodPost, "operator/leader/transfer", `{"to":"`+to+`"}`)
	var moved Transfer
	if err := json.Unmarshal([]byte(text), &moved); err != nil || status != http.StatusOK || moved.To != to || moved.Gap > 5000 {
		t.Fatalf("%d %s", status, text)
	}
	// Health is the leader's to know, and any node's to tell.
	eventually(t, "the new leader knows all", func() error {
		members, _ := getJSON[[]member](t, c, follower().base+"/api/v1/members")
		for _, m := range members {
			if m.Health == nil || !m.Health.Healthy || m.Leader != (m.ServerID == to) {
				return fmt.Errorf("%+v", m)
			}
		}
		return nil
	})
	// On a busy machine a server may miss a heartbeat, which is another reason to refuse.
	gone := follower().raft.ServerID()
	eventually(t, "a healthy server is not removed without force", func() error {
		status, text := ask(follower(), http.MethodDelete, "members/"+gone, "")
		if status != http.StatusConflict || !strings.Contains(text, `"override":"force"`) || strings.Contains(text, "?force") {
			return fmt.Errorf("%d %s", status, text)
		}
		return nil
	})
	eventually(t, "a dry run says so", func() error {
		status, text := ask(follower(), http.MethodDelete, "members/"+gone+"?dry_run", "")
		if status != http.StatusOK || !strings.Contains(text, `"voters_after":2`) || strings.Contains(text, `"refused":[]`) || !strings.Contains(text, `"override":"force"`) {
			return fmt.Errorf("%d %s", status, text)
		}
		return nil
	})
	leader := nodes[0]
	for _, n := range nodes {
		if n.raft.ServerID() == to {
			leader = n
		}
	}
	status, text = ask(leader, http.MethodPut, "members/"+gone+"/vote", `{"allowed":false}`)
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, text)
	}
	eventually(t, "the pinned server has no vote", func() error {
		_, text := ask(leader, http.MethodGet, "operator/autopilot", "")
		var s AutopilotState
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			return err
		}
		for _, server := range s.Servers {
			if server.ServerID == gone && server.Role == "non-voter" {
				return nil
			}
		}
		return errors.New(text)
	})
	status, text = ask(leader, http.MethodPost, "operator/leader/transfer", `{"to":"`+gone+`"}`)
	if status != http.StatusConflict || !strings.Contains(text, "has no vote and cannot lead") {
		t.Errorf("%d %s", status, text)
	}
	status, text = ask(leader, http.MethodPatch, "operator/raft/tuning", `{"heartbeat_timeout":"1ms"}`)
	if status != http.StatusBadRequest || !strings.Contains(text, `"detail":"A heartbeat timeout of 1ms is below`) {
		t.Errorf("%d %s", status, text)
	}
	// The new leader has to find the others healthy first.
	eventually(t, "it is removed", func() error {
		status, text := ask(leader, http.MethodDelete, "members/"+gone+"?force", "")
		if status != http.StatusOK || !strings.Contains(text, `"removed":true`) {
			return fmt.Errorf("%d %s", status, text)
		}
		return nil
	})
	eventually(t, "it is gone", func() error {
		if n := len(leader.raft.Servers()); n != 2 {
			return fmt.Errorf("%d servers", n)
		}
		return nil
	})
	status, text = ask(leader, http.MethodPut, "operator/autopilot/config", `{"desired_voters":4}`)
	if status != http.StatusBadRequest || !strings.Contains(text, "desired_voters") {
		t.Errorf("%d %s", status, text)
	}
}
