package api

import (
	"net/http"
	"strconv"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/pmpb"
)

type topologySnapshot struct {
	Nodes     []topologyNode `json:"nodes"`
	Edges     []topologyEdge `json:"edges"`
	Timestamp *topologyTime  `json:"timestamp"`
}

type topologyNode struct {
	ID              string            `json:"id"`
	NodeType        string            `json:"node_type"`
	Status          string            `json:"status"`
	Metadata        map[string]string `json:"metadata"`
	DeployedClasses []string          `json:"deployed_classes"`
}

type topologyEdge struct {
	FromID   string            `json:"from_id"`
	ToID     string            `json:"to_id"`
	Metadata map[string]string `json:"metadata"`
}

type topologyTime struct {
	Seconds int64 `json:"seconds"`
	Nanos   int   `json:"nanos"`
}

// topology draws packages, classes, functions and environments of all
// deployments. ?source=zenoh asks for a view of the data plane, which this
// control plane does not have; clients fall back to the lists then.
func (s *Server) topology(w http.ResponseWriter, r *http.Request) error {
	q := parseQuery(r.URL.RawQuery)
	if q.err != nil {
		return q.err
	}
	if q.text("source") == "zenoh" {
		return fail(codeNotImplemented, "There is no data plane topology here; use source=deployments")
	}
	snap, err := s.read(w, r)
	if err != nil {
		return err
	}
	g := newGraph(snap)
	for _, dep := range snap.Deployments() {
		g.add(merged(snap, dep))
	}
	now := s.opts.Now()
	g.out.Timestamp = &topologyTime{Seconds: now.Unix(), Nanos: now.Nanosecond()}
	return writeJSON(w, http.StatusOK, g.out)
}

// graph collects each node and each edge once.
type graph struct {
	snap *fsm.Snapshot
	out  topologySnapshot
	// at finds a node by id.
	at    map[string]int
	edges map[[2]string]bool
	// packages counts the packages that use a class key.
	packages map[string]map[string]bool
}

func newGraph(snap *fsm.Snapshot) *graph {
	g := &graph{
		snap: snap, at: map[string]int{}, edges: map[[2]string]bool{}, packages: map[string]map[string]bool{},
		out: topologySnapshot{Nodes: []topologyNode{}, Edges: []topologyEdge{}},
	}
	for _, dep := range snap.Deployments() {
		users := g.packages[dep.Doc.ClassKey]
		if users == nil {
			users = map[string]bool{}
			g.packages[dep.Doc.ClassKey] = users
		}
		users[dep.Doc.PackageName] = true
	}
	return g
}

// className is the class key, with its package where the key alone would make
// the classes of two packages one node.
func (g *graph) className(dep *model.OClassDeployment) string {
	if len(g.packages[dep.ClassKey]) > 1 {
		return dep.PackageName + "." + dep.ClassKey
	}
	return dep.ClassKey
}

func (g *graph) add(dep *model.OClassDeployment) {
	pkg, name, status := "package::"+dep.PackageName, g.className(dep), conditionHealth(dep.Condition)
	class := "class::" + name
	g.node(topologyNode{ID: pkg, NodeType: "package", Status: status})
	metadata := map[string]string{"package": dep.PackageName}
	if dep.ODGM != nil && dep.ODGM.PartitionCount != nil {
		metadata["partitions"] = strconv.FormatUint(uint64(*dep.ODGM.PartitionCount), 10)
	}
	g.node(topologyNode{ID: class, NodeType: "class", Status: status, Metadata: metadata, DeployedClasses: []string{dep.ClassKey}})
	g.edge(pkg, class)
	for i := range dep.Functions {
		fn := "function::" + name + "::" + dep.Functions[i].FunctionKey
		g.node(topologyNode{ID: fn, NodeType: "function", Status: status, Metadata: map[string]string{"class": dep.ClassKey}})
		g.edge(class, fn)
	}
	for _, env := range dep.TargetEnvs {
		id := "env::" + env
		g.node(topologyNode{ID: id, NodeType: "environment", Status: clusterStatus(g.snap.Cluster(env)), Metadata: clusterMetadata(env, g.snap.Cluster(env))})
		g.edge(class, id)
	}
}

// node adds a node. One that is there already gets the worse status of the two.
func (g *graph) node(n topologyNode) {
	if i, known := g.at[n.ID]; known {
		have := &g.out.Nodes[i]
		if statusRank[n.Status] > statusRank[have.Status] {
			have.Status = n.Status
		}
		return
	}
	if n.Metadata == nil {
		n.Metadata = map[string]string{}
	}
	if n.DeployedClasses == nil {
		n.DeployedClasses = []string{}
	}
	g.at[n.ID] = len(g.out.Nodes)
	g.out.Nodes = append(g.out.Nodes, n)
}

func (g *graph) edge(from, to string) {
	if key := [2]string{from, to}; !g.edges[key] {
		g.edges[key] = true
		g.out.Edges = append(g.out.Edges, topologyEdge{FromID: from, ToID: to, Metadata: map[string]string{}})
	}
}

var statusRank = map[string]int{"healthy": 0, "unknown": 1, "degraded": 2, "unhealthy": 3}

func conditionHealth(c model.DeploymentCondition) string {
	switch c {
	case model.ConditionRunning:
		return "healthy"
	case model.ConditionDown, model.ConditionDeleted:
		return "unhealthy"
	default:
		return "degraded"
	}
}

// clusterMetadata has the exact state of an environment, which its status is coarser than.
func clusterMetadata(env string, c *pmpb.Cluster) map[string]string {
	out := map[string]string{"name": env, "state": fsm.ClusterState(c.GetHealth())}
	if since := c.GetDisconnectedSince(); since != nil {
		out["disconnected_since"] = zulu(since.AsTime())
	}
	return out
}

func clusterStatus(c *pmpb.Cluster) string {
	switch c.GetHealth() {
	case pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY:
		return "healthy"
	case pmpb.ClusterHealth_CLUSTER_HEALTH_DEGRADED, pmpb.ClusterHealth_CLUSTER_HEALTH_SUSPECT:
		return "degraded"
	case pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE, pmpb.ClusterHealth_CLUSTER_HEALTH_FAILOVER_ELIGIBLE:
		return "unhealthy"
	default:
		return "unknown"
	}
}
