package api

import (
	"net/http"
	"time"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
)

// clusterInfo is an environment. What follows health is an extension.
type clusterInfo struct {
	Name              string            `json:"name"`
	Health            clusterHealth     `json:"health"`
	Source            string            `json:"source,omitempty"`
	Address           string            `json:"address,omitempty"`
	Namespace         string            `json:"namespace,omitempty"`
	Region            string            `json:"region,omitempty"`
	Zone              string            `json:"zone,omitempty"`
	Labels            map[string]string `json:"labels,omitempty"`
	Capabilities      []string          `json:"capabilities,omitempty"`
	KubernetesVersion string            `json:"kubernetes_version,omitempty"`
	// KnativeVersion is absent when it has no Knative.
	KnativeVersion string `json:"knative_version,omitempty"`
	// NodeZones are the zones of its ready nodes.
	NodeZones []string `json:"node_zones,omitempty"`
	// Resources of its nodes together; absent when it does not report them.
	Resources *clusterResources `json:"resources,omitempty"`
	// Agents are the connections that its manager has made, the one in use first; absent
	// unless that is how it is reached.
	Agents []agentConnection `json:"agents,omitempty"`
	// Policy is what operators said; absent when they said nothing.
	Policy *ClusterPolicy `json:"policy,omitempty"`
	// Availability is what is known beside the report in health; absent when that is all.
	Availability *availabilityView `json:"availability,omitempty"`
	// Drain is how far its draining is; absent when it is not drained.
	Drain *drainView `json:"drain,omitempty"`
	// Strays are runtimes that it has and that nothing wants; absent when there are none.
	Strays []stray `json:"strays,omitempty"`
}

// stray is a runtime that this control plane has sent and does not want. It is removed when
// it has been known for a while, and at once if it was orphaned.
type stray struct {
	UnitID        string  `json:"unit_id"`
	DeploymentUID string  `json:"deployment_uid"`
	DeploymentKey string  `json:"deployment_key"`
	FirstSeen     *string `json:"first_seen"`
	// Orphaned says that somebody gave up waiting for its removal.
	Orphaned bool `json:"orphaned"`
	// Epoch of the control plane in which it was sent. One of an earlier epoch than the
	// present one is only removed if it is orphaned.
	Epoch uint64 `json:"epoch"`
}

// Agents tells where the managers of clusters are that connect themselves, as far as
// this node knows.
type Agents interface {
	// Connections gives those of a cluster that is registered with an address, the one in
	// use first.
	Connections(cluster, address string) []AgentConnection
}

// AgentConnection is one that the manager of a cluster has made to a node.
type AgentConnection struct {
	// Node and ServerID are the node's.
	Node, ServerID string
	// Instance tells apart the starts of managers of one cluster.
	Instance, Version string
	RemoteAddress     string
	Since             time.Time
}

type agentConnection struct {
	Node          string `json:"node"`
	ServerID      string `json:"server_id"`
	Instance      string `json:"instance"`
	Version       string `json:"version,omitempty"`
	RemoteAddress string `json:"remote_address"`
	Since         string `json:"since"`
}

// clusterResources sums up the nodes that are ready and take new pods. What is free is
// absent where it is not known.
type clusterResources struct {
	AllocatableCPUMillis   *uint64 `json:"allocatable_cpu_millis,omitempty"`
	AllocatableMemoryBytes *uint64 `json:"allocatable_memory_bytes,omitempty"`
	FreeCPUMillis          *uint64 `json:"free_cpu_millis,omitempty"`
	FreeMemoryBytes        *uint64 `json:"free_memory_bytes,omitempty"`
}

type clusterHealth struct {
	ClusterName  string   `json:"cluster_name"`
	Status       string   `json:"status"`
	CRMVersion   *string  `json:"crm_version"`
	LastSeen     string   `json:"last_seen"`
	NodeCount    *uint32  `json:"node_count"`
	ReadyNodes   *uint32  `json:"ready_nodes"`
	Availability *float64 `json:"availability"`
	// Message and Since say why and since when the status is not Healthy; an extension.
	Message string  `json:"message,omitempty"`
	Since   *string `json:"since,omitempty"`
	// State is the exact state, which Status is coarser than; an extension, as what follows.
	State string `json:"state"`
	// ControlReachable says that the leader is in contact with its manager, APIServerReady what
	// that last said of its API server; absent when it was never asked. Neither says whether
	// what runs there can be called.
	ControlReachable bool  `json:"control_reachable"`
	APIServerReady   *bool `json:"api_server_ready,omitempty"`
	// DisconnectedSince is when the silence of one that is away began.
	DisconnectedSince *string `json:"disconnected_since,omitempty"`
	// Observers are other nodes that tried to reach one that is away.
	Observers []observer `json:"observers,omitempty"`
}

// observer is what another node found when it tried to reach an environment.
type observer struct {
	Node      string `json:"node"`
	ServerID  string `json:"server_id"`
	Time      string `json:"time"`
	Reachable bool   `json:"reachable"`
	// Ready says that the API server is, too.
	Ready   bool   `json:"ready"`
	Message string `json:"message,omitempty"`
}

func (s *Server) listEnvs(w http.ResponseWriter, r *http.Request) error {
	snap, err := s.read(w, r)
	if err != nil {
		return err
	}
	list := []clusterInfo{}
	seen := registry.Observe(snap)
	for _, c := range snap.Clusters() {
		info := s.newClusterInfo(c)
		if a := seen.Availability(c); a.Declared != nil || a.Measured != nil {
			info.Availability = tellAvailability(a)
		}
		info.Agents, info.Drain = s.agentsOf(c), tellDrain(snap, c)
		list = append(list, info)
	}
	return writeJSON(w, http.StatusOK, list)
}

// agentsOf tells how an environment is connected now, which is no part of the state.
func (s *Server) agentsOf(c *pmpb.Cluster) []agentConnection {
	if s.opts.Agents == nil || c.GetSource() != pmpb.ClusterSource_CLUSTER_SOURCE_AGENT {
		return nil
	}
	var out []agentConnection
	for _, a := range s.opts.Agents.Connections(c.GetName(), c.GetAddress()) {
		out = append(out, agentConnection{
			Node: a.Node, ServerID: a.ServerID, Instance: a.Instance, Version: a.Version, RemoteAddress: a.RemoteAddress, Since: zulu(a.Since),
		})
	}
	return out
}

func (s *Server) newClusterInfo(c *pmpb.Cluster) clusterInfo {
	out := clusterInfo{
		Name: c.GetName(), Health: s.healthOf(c), Source: sourceName(c.GetSource()), Address: c.GetAddress(), Namespace: c.GetNamespace(),
		Region: c.GetRegion(), Zone: c.GetZone(), Labels: c.GetLabels(), Capabilities: c.GetCapabilities(),
		KubernetesVersion: c.GetKubernetesVersion(), KnativeVersion: c.GetKnativeVersion(), NodeZones: c.GetNodeZones(),
	}
	if r := c.GetResources(); r != nil {
		out.Resources = &clusterResources{
			AllocatableCPUMillis: r.AllocatableMillicores, AllocatableMemoryBytes: r.AllocatableBytes,
			FreeCPUMillis: r.FreeMillicores, FreeMemoryBytes: r.FreeBytes,
		}
	}
	if c.GetPolicy() != nil {
		out.Policy = tellPolicy(c.GetPolicy())
	}
	for _, x := range c.GetStrays() {
		out.Strays = append(out.Strays, stray{
			UnitID: x.GetUnitId(), DeploymentUID: x.GetDeploymentUid(), DeploymentKey: x.GetDeploymentKey(),
			FirstSeen: stampText(x.GetFirstSeen()), Orphaned: x.GetOrphaned(), Epoch: x.GetEpoch(),
		})
	}
	return out
}

func (s *Server) listEnvHealth(w http.ResponseWriter, r *http.Request) error {
	snap, err := s.read(w, r)
	if err != nil {
		return err
	}
	list := []clusterHealth{}
	for _, c := range snap.Clusters() {
		list = append(list, s.healthOf(c))
	}
	return writeJSON(w, http.StatusOK, list)
}

func (s *Server) getEnvHealth(w http.ResponseWriter, r *http.Request) error {
	snap, err := s.read(w, r)
	if err != nil {
		return err
	}
	c := snap.Cluster(pathVar(r, "name"))
	if c == nil {
		return fail(registry.NotFound, "Cluster not found: %s", pathVar(r, "name"))
	}
	return writeJSON(w, http.StatusOK, s.healthOf(c))
}

// removeEnv forgets an environment that nothing is deployed to.
func (s *Server) removeEnv(w http.ResponseWriter, r *http.Request) error {
	return s.removeNamed(w, r, s.opts.Registry.RemoveCluster)
}

// healthOf tells what is known of a cluster. Numbers are those of the last
// successful check and are left out while the cluster cannot be asked.
func (s *Server) healthOf(c *pmpb.Cluster) clusterHealth {
	out := clusterHealth{
		ClusterName: c.GetName(), Status: healthName(c.GetHealth()), State: fsm.ClusterState(c.GetHealth()),
		APIServerReady: c.ApiServerReady, DisconnectedSince: stampText(c.GetDisconnectedSince()),
	}
	for _, o := range c.GetObservations() {
		out.Observers = append(out.Observers, observer{
			Node: o.GetNode(), ServerID: o.GetServerId(), Time: zulu(o.GetTime().AsTime()), Reachable: o.GetReachable(), Ready: o.GetReady(), Message: o.GetMessage(),
		})
	}
	if v := c.GetCrmVersion(); v != "" {
		out.CRMVersion = &v
	}
	switch c.GetHealth() {
	case pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY, pmpb.ClusterHealth_CLUSTER_HEALTH_DEGRADED:
		// Only changes of health are replicated: until the next one, the leader sees
		// the cluster all the time, and this node has that from the leader.
		out.LastSeen = zulu(s.opts.Now().Add(-s.opts.Cluster.LastContact()))
		nodes, ready := c.GetNodeCount(), c.GetReadyNodes()
		out.NodeCount, out.ReadyNodes, out.Availability = &nodes, &ready, c.Availability
		out.ControlReachable = true
	default:
		seen := time.Unix(0, 0)
		if c.GetLastSeen() != nil {
			seen = c.GetLastSeen().AsTime()
		}
		out.LastSeen = zulu(seen)
	}
	if c.GetHealth() != pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY {
		out.Message, out.Since = c.GetHealthMessage(), stampText(c.GetHealthSince())
	}
	return out
}

func healthName(h pmpb.ClusterHealth) string {
	switch h {
	case pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY:
		return "Healthy"
	case pmpb.ClusterHealth_CLUSTER_HEALTH_DEGRADED, pmpb.ClusterHealth_CLUSTER_HEALTH_SUSPECT:
		return "Degraded"
	case pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE, pmpb.ClusterHealth_CLUSTER_HEALTH_FAILOVER_ELIGIBLE:
		return "Unhealthy"
	default:
		return "Unknown"
	}
}

func sourceName(source pmpb.ClusterSource) string {
	switch source {
	case pmpb.ClusterSource_CLUSTER_SOURCE_STATIC:
		return "static"
	case pmpb.ClusterSource_CLUSTER_SOURCE_GOSSIP:
		return "gossip"
	case pmpb.ClusterSource_CLUSTER_SOURCE_AGENT:
		return "agent"
	default:
		return ""
	}
}
