package raftstore

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"oaas.io/control-plane/proto/pmpb"
)

func virginAnswer(id string, peers []string) *pmpb.IdentifyResponse {
	return &pmpb.IdentifyResponse{ServerId: id, RaftAddress: id + ":7401", GrpcAddress: id + ":7402", Virgin: true, Peers: peers}
}

func TestDecide(t *testing.T) {
	peers := []string{"a:1", "b:1", "c:1"}
	all := func(change func(map[string]*pmpb.IdentifyResponse)) map[string]*pmpb.IdentifyResponse {
		m := map[string]*pmpb.IdentifyResponse{
			"a:1": virginAnswer("A", peers), "b:1": virginAnswer("B", peers), "c:1": virginAnswer("C", peers),
		}
		if change != nil {
			change(m)
		}
		return m
	}
	for name, tc := range map[string]struct {
		self    string
		cluster string
		answers map[string]*pmpb.IdentifyResponse
		want    foundingAction
	}{
		"first founds":        {"A", "", all(nil), foundCluster},
		"second waits":        {"B", "", all(nil), waitForPeers},
		"stranger waits":      {"X", "", all(nil), waitForPeers},
		"one is silent":       {"A", "", all(func(m map[string]*pmpb.IdentifyResponse) { delete(m, "c:1") }), waitForPeers},
		"one remembers":       {"A", "", all(func(m map[string]*pmpb.IdentifyResponse) { m["c:1"].Virgin = false }), waitForPeers},
		"one is in a cluster": {"A", "", all(func(m map[string]*pmpb.IdentifyResponse) { m["b:1"].Virgin = false; m["b:1"].ClusterId = "x" }), joinCluster},
		"member, one silent": {"A", "", all(func(m map[string]*pmpb.IdentifyResponse) {
			delete(m, "c:1")
			m["b:1"].ClusterId = "x"
		}), joinCluster},
		"stranger joins":             {"X", "", all(func(m map[string]*pmpb.IdentifyResponse) { m["b:1"].ClusterId = "x" }), joinCluster},
		"two are the same":           {"A", "", all(func(m map[string]*pmpb.IdentifyResponse) { m["c:1"] = m["b:1"] }), waitForPeers},
		"two share an address":       {"A", "", all(func(m map[string]*pmpb.IdentifyResponse) { m["c:1"].RaftAddress = m["b:1"].RaftAddress }), waitForPeers},
		"another expects fewer":      {"A", "", all(func(m map[string]*pmpb.IdentifyResponse) { m["c:1"].Peers = []string{"c:1"} }), waitForPeers},
		"lost its log, first of all": {"A", "x", all(nil), waitForPeers},
		"lost its log, comes back":   {"A", "x", all(func(m map[string]*pmpb.IdentifyResponse) { m["b:1"].ClusterId = "x" }), joinCluster},
		"peers are another cluster":  {"A", "x", all(func(m map[string]*pmpb.IdentifyResponse) { m["b:1"].ClusterId = "y" }), waitForPeers},
	} {
		t.Run(name, func(t *testing.T) {
			d := decide(tc.self, tc.cluster, peers, tc.answers)
			if d.action != tc.want {
				t.Errorf("action %d (%s), want %d", d.action, d.reason, tc.want)
			}
			if d.action == foundCluster && len(d.servers) != len(peers) {
				t.Errorf("founds with %v", d.servers)
			}
			if d.action == waitForPeers && d.reason == "" {
				t.Error("waits without a reason")
			}
		})
	}
}

// However partial and mixed the views are, at most one of the nodes founds, and
// none does that can see a node with a history.
func TestDecideFoundsAtMostOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 5).Draw(t, "nodes")
		var peers []string
		for i := range n {
			peers = append(peers, fmt.Sprintf("p%d:1", i))
		}
		truth := make(map[string]*pmpb.IdentifyResponse)
		history := false
		for i, p := range peers {
			a := virginAnswer(fmt.Sprintf("S%d", i), peers)
			if rapid.IntRange(0, 9).Draw(t, "history") == 0 {
				a.Virgin, history = false, true
				if rapid.Bool().Draw(t, "member") {
					a.ClusterId = "c"
				}
			}
			if rapid.IntRange(0, 9).Draw(t, "misconfigured") == 0 {
				a.Peers = slices.Clone(peers[:i+1])
			}
			truth[p] = a
		}
		founders := 0
		for _, p := range peers {
			self := truth[p]
			seen := map[string]*pmpb.IdentifyResponse{p: self}
			for _, o := range peers {
				if rapid.IntRange(0, 3).Draw(t, "seen") > 0 {
					seen[o] = truth[o]
				}
			}
			if decide(self.GetServerId(), self.GetClusterId(), self.GetPeers(), seen).action == foundCluster {
				founders++
			}
		}
		if founders > 1 {
			t.Fatalf("%d nodes found a cluster", founders)
		}
		if founders > 0 && history && len(truth[peers[0]].GetPeers()) == n {
			t.Fatal("a cluster is founded over one that exists")
		}
	})
}
