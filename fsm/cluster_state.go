package fsm

import "oaas.io/control-plane/proto/pmpb"

// ClusterState gives the name of a cluster's health for people and programs.
func ClusterState(health pmpb.ClusterHealth) string {
	switch health {
	case pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY:
		return "Healthy"
	case pmpb.ClusterHealth_CLUSTER_HEALTH_DEGRADED:
		return "Degraded"
	case pmpb.ClusterHealth_CLUSTER_HEALTH_SUSPECT:
		return "Suspect"
	case pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE:
		return "Unreachable"
	case pmpb.ClusterHealth_CLUSTER_HEALTH_FAILOVER_ELIGIBLE:
		return "FailoverEligible"
	default:
		return "Unknown"
	}
}

// Unreachable reports that a cluster is given nothing new because nobody reaches it, or
// the leader does not.
func Unreachable(health pmpb.ClusterHealth) bool {
	return health == pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE || health == pmpb.ClusterHealth_CLUSTER_HEALTH_FAILOVER_ELIGIBLE
}
