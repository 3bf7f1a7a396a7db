package api

import (
	"context"
	"net/http"
	"testing"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

// connected is where the manager of one cluster is.
type connected struct{ cluster, address string }

func (c connected) Connections(cluster, address string) []AgentConnection {
	if cluster != c.cluster || address != c.address {
		return nil
	}
	return []AgentConnection{
		{Node: "pm-1", ServerID: "id-1", Instance: "018f-a", Version: "1.0.0", RemoteAddress: "203.0.113.7:40112", Since: epoch},
		{Node: "pm-0", ServerID: "pm-0", Instance: "018f-a", RemoteAddress: "203.0.113.7:40114", Since: epoch},
	}
}

// A cluster whose manager has connected itself is shown with the nodes that it is
// connected to, and no other is.
func TestAgentsAreShown(t *testing.T) {
	h := newHarness(t, func(h *harness) { h.opts.Agents = connected{"edge-1", "agent://uid-1"} })
	h.cluster("oaas-1", pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY)
	if res, err := h.store.Apply(t.Context(), &pmpb.Command{Op: &pmpb.Command_RaiseFeatureLevel{RaiseFeatureLevel: &pmpb.RaiseFeatureLevel{Level: fsm.AgentsFrom}}}); err != nil || res.Err != nil {
		t.Fatal(err, res.Err)
	}
	h.cluster("edge-1", pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY)
	if err := h.reg.PutCluster(context.Background(), 0, "edge-1", func(row *pmpb.Cluster) error {
		row.Address, row.Source = "agent://uid-1", pmpb.ClusterSource_CLUSTER_SOURCE_AGENT
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	golden(t, "envs-agent", h.do(http.MethodGet, "/api/v1/envs", ""))
}
