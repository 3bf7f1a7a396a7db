package server

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/proto/oaaspb"
)

// topologyService implements oaas.topology.TopologyService with what the cluster
// itself knows: nodes, routers and class runtimes.
type topologyService struct {
	oaaspb.UnimplementedTopologyServiceServer
	*Server
}

// GetTopology implements oaaspb.TopologyServiceServer. Nodes are ordered by id.
func (s topologyService) GetTopology(ctx context.Context, _ *oaaspb.TopologyRequest) (*oaaspb.TopologySnapshot, error) {
	backend, err := s.backend()
	if err != nil {
		return nil, err
	}
	list := &v1alpha1.ClassRuntimeList{}
	if err := backend.Client.List(ctx, list, client.InNamespace(s.opts.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return nil, fromKubernetes(ctx, "list class runtimes", err)
	}
	slices.SortFunc(list.Items, func(a, b v1alpha1.ClassRuntime) int { return strings.Compare(a.Name, b.Name) })
	graph := topology{nodes: map[string]*oaaspb.TopologyNode{}, edges: map[[2]string]bool{}}
	env := graph.node("env::"+s.opts.ClusterName, "environment", nodeHealthy)
	env.Metadata["name"], env.Metadata["namespace"] = s.opts.ClusterName, s.opts.Namespace
	if s.ready() != nil {
		env.Status = nodeUnhealthy
	}
	for i := range list.Items {
		graph.add(env, s.summary(&list.Items[i]), &list.Items[i])
	}
	return graph.snapshot(s.opts.Clock()), nil
}

// Status words of topology nodes.
const (
	nodeHealthy   = "healthy"
	nodeDegraded  = "degraded"
	nodeUnhealthy = "unhealthy"
)

// topology is a graph under construction; the same id is one node.
type topology struct {
	nodes map[string]*oaaspb.TopologyNode
	edges map[[2]string]bool
}

func (t *topology) node(id, kind, state string) *oaaspb.TopologyNode {
	node, ok := t.nodes[id]
	if !ok {
		node = &oaaspb.TopologyNode{Id: id, NodeType: kind, Status: state, Metadata: map[string]string{}}
		t.nodes[id] = node
	}
	return node
}

func (t *topology) add(env *oaaspb.TopologyNode, summary *oaaspb.ClassRuntimeSummary, object *v1alpha1.ClassRuntime) {
	state := nodeDegraded
	switch summary.GetStatus().GetCondition() {
	case oaaspb.DeploymentCondition_RUNNING:
		state = nodeHealthy
	case oaaspb.DeploymentCondition_DOWN:
		state = nodeUnhealthy
	default:
	}
	class := t.node("class::"+summary.ClassKey, "class", state)
	class.Metadata["package"] = summary.PackageName
	class.DeployedClasses = []string{summary.ClassKey}
	if !slices.Contains(env.DeployedClasses, summary.ClassKey) {
		env.DeployedClasses = append(env.DeployedClasses, summary.ClassKey)
	}
	t.edges[[2]string{class.Id, env.Id}] = true
	for _, f := range summary.GetStatus().GetFunctions() {
		ready := nodeHealthy
		if !f.GetReady() {
			ready = nodeUnhealthy
		}
		function := t.node("function::"+summary.ClassKey+"::"+f.GetFunctionKey(), "function", ready)
		function.Metadata["class"] = summary.ClassKey
		t.edges[[2]string{class.Id, function.Id}] = true
	}
	for _, name := range routersOf(object) {
		router := t.node("router::"+name, "router", nodeHealthy)
		t.edges[[2]string{env.Id, router.Id}] = true
	}
}

func (t *topology) snapshot(now time.Time) *oaaspb.TopologySnapshot {
	out := &oaaspb.TopologySnapshot{Timestamp: timestamp(now)}
	for _, id := range slices.Sorted(maps.Keys(t.nodes)) {
		out.Nodes = append(out.Nodes, t.nodes[id])
	}
	edges := slices.SortedFunc(maps.Keys(t.edges), func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	for _, e := range edges {
		out.Edges = append(out.Edges, &oaaspb.TopologyEdge{FromId: e[0], ToId: e[1]})
	}
	return out
}
