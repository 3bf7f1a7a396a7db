package api

import (
	"net/http"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

// The statuses are those that clients have always known; the state says exactly what it is.
func TestStatesOfEnvironments(t *testing.T) {
	h := newHarness(t)
	for health, want := range map[pmpb.ClusterHealth]struct{ status, state, topology string }{
		pmpb.ClusterHealth_CLUSTER_HEALTH_UNKNOWN:           {"Unknown", "Unknown", "unknown"},
		pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY:           {"Healthy", "Healthy", "healthy"},
		pmpb.ClusterHealth_CLUSTER_HEALTH_DEGRADED:          {"Degraded", "Degraded", "degraded"},
		pmpb.ClusterHealth_CLUSTER_HEALTH_SUSPECT:           {"Degraded", "Suspect", "degraded"},
		pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE:       {"Unhealthy", "Unreachable", "unhealthy"},
		pmpb.ClusterHealth_CLUSTER_HEALTH_FAILOVER_ELIGIBLE: {"Unhealthy", "FailoverEligible", "unhealthy"},
	} {
		got := h.server.healthOf(&pmpb.Cluster{Name: "oaas-1", Health: health})
		if got.Status != want.status || got.State != want.state || clusterStatus(&pmpb.Cluster{Health: health}) != want.topology {
			t.Errorf("%s: %+v", health, got)
		}
		if numbers := got.NodeCount != nil; numbers != (want.state == "Healthy" || want.state == "Degraded") || got.ControlReachable != numbers {
			t.Errorf("%s: numbers %v", health, numbers)
		}
	}
}

func TestEnvironmentThatIsAway(t *testing.T) {
	h := newHarness(t)
	h.raise(fsm.Level)
	h.cluster("oaas-2", pmpb.ClusterHealth_CLUSTER_HEALTH_FAILOVER_ELIGIBLE)
	err := h.reg.PutCluster(t.Context(), 0, "oaas-2", func(row *pmpb.Cluster) error {
		row.ApiServerReady = new(bool)
		row.DisconnectedSince = timestamppb.New(epoch.Add(-5 * time.Minute))
		row.Observations = []*pmpb.Observation{{ServerId: "id-2", Node: "pm-2", Time: timestamppb.New(epoch), Message: "connection refused"}}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	w := h.do(http.MethodGet, "/api/v1/envs/oaas-2/health", "")
	golden(t, "env-away", w)
}
