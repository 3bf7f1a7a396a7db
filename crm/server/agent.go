package server

import (
	"context"
	"math"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/crm/lifecycle"
	"oaas.io/control-plane/proto/oaaspb"
)

const (
	// inventoryPage is how many objects one request of the inventory asks for.
	inventoryPage = 500
	// inventoryBudgets is how many times the budget of a call an inventory gets.
	inventoryBudgets = 6
)

// agentService implements oaas.agent.AgentService.
type agentService struct {
	oaaspb.UnimplementedAgentServiceServer
	*Server
}

// GetClusterInfo implements oaaspb.AgentServiceServer. It answers with what was
// seen last while the API server is away, and with UNAVAILABLE when nothing was
// seen yet, because a cluster without its UID cannot be verified.
func (s agentService) GetClusterInfo(ctx context.Context, _ *oaaspb.GetClusterInfoRequest) (*oaaspb.ClusterInfo, error) {
	uid, err := s.clusterUID(ctx)
	if err != nil {
		return nil, err
	}
	probe := s.opts.API.Observe()
	info := &oaaspb.ClusterInfo{
		Name:              s.opts.ClusterName,
		Uid:               uid,
		CrmVersion:        s.opts.Version,
		Namespace:         s.opts.Namespace,
		Region:            s.opts.Region,
		Zone:              s.opts.Zone,
		Labels:            s.opts.Labels,
		KubernetesVersion: probe.Version,
		Capabilities:      s.opts.Capabilities(),
		Availability:      s.opts.Availability,
		ApiServerReady:    probe.Usable() == nil,
		Problem:           textOf(probe.Usable()),
		KnativeVersion:    s.opts.KnativeVersion(),
		ObservedAt:        timestamp(s.opts.Clock()),
	}
	if probe.Ready {
		latency := uint32(min(probe.Latency.Microseconds(), math.MaxUint32))
		info.ApiServerLatencyUs = &latency
	}
	slices.Sort(info.Capabilities)
	if nodes, err := s.countNodes(ctx); err == nil {
		info.NodeCount, info.ReadyNodes, info.NodeZones = nodes.total, nodes.ready, nodes.zones
		info.Capabilities = append(info.Capabilities, nodes.architectures...)
		slices.Sort(info.Capabilities)
		info.Capabilities = slices.Compact(info.Capabilities)
	}
	if backend, err := s.backend(); err == nil && backend.Census != nil {
		info.Resources = backend.Census.Resources()
	}
	return info, nil
}

// ClusterUID is what tells the cluster apart from all others. It fails until the API
// server was reached once.
func (s *Server) ClusterUID(ctx context.Context) (string, error) { return s.clusterUID(ctx) }

// clusterUID is the UID of the kube-system namespace: the one object that every
// cluster has and that is never replaced.
func (s *Server) clusterUID(ctx context.Context) (string, error) {
	if uid := s.uid.Load(); uid != nil {
		return *uid, nil
	}
	backend, err := s.backend()
	if err != nil {
		return "", err
	}
	return s.readUID(ctx, backend)
}

// readUID asks the API server and keeps the answer.
func (s *Server) readUID(ctx context.Context, backend *attached) (string, error) {
	namespace := &corev1.Namespace{}
	err := backend.Live.Get(ctx, types.NamespacedName{Name: "kube-system"}, namespace)
	if apierrors.IsForbidden(err) {
		// A manager can do its work without this right, but for being found by gossip.
		return "", status.Errorf(codes.PermissionDenied, "read namespace kube-system: %v", err)
	}
	if err != nil {
		return "", fromKubernetes(ctx, "read namespace kube-system", err)
	}
	uid := string(namespace.UID)
	s.uid.Store(&uid)
	return uid, nil
}

// WatchRuntimes implements oaaspb.AgentServiceServer.
func (s agentService) WatchRuntimes(request *oaaspb.WatchRuntimesRequest, stream grpc.ServerStreamingServer[oaaspb.RuntimeEvent]) error {
	ctx := stream.Context()
	backend, err := s.backend()
	if err != nil {
		return err
	}
	log := s.log.With("control_plane", request.GetControlPlaneId(), "peer", peerAddress(ctx))
	subscription := backend.hub.subscribe()
	defer backend.hub.unsubscribe(subscription)
	s.metrics.streams.Inc()
	defer s.metrics.streams.Dec()

	seen := newLedger()
	count, err := s.sendInventory(ctx, backend, seen, stream)
	if err != nil {
		return err
	}
	log.Info("watch stream opened", "inventory", count)
	err = s.sendChanges(ctx, subscription, seen, stream)
	log.Info("watch stream ended", "reason", err)
	return err
}

// sendInventory lists from the API server, not from the cache: an object that
// the cache has not seen yet must not look absent.
func (s agentService) sendInventory(ctx context.Context, backend *attached, seen *ledger, stream grpc.ServerStreamingServer[oaaspb.RuntimeEvent]) (uint32, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, inventoryBudgets*s.opts.CallBudget, errBudget)
	defer cancel()
	var count uint32
	var resume string
	for {
		page := &v1alpha1.ClassRuntimeList{}
		err := backend.Live.List(ctx, page, client.InNamespace(s.opts.Namespace), client.Limit(inventoryPage), client.Continue(resume))
		if err != nil {
			// An expired continuation ends the stream too: the caller starts over.
			return 0, fromKubernetes(ctx, "list class runtimes", err)
		}
		for i := range page.Items {
			c := change{object: &page.Items[i]}
			seen.admit(c)
			if err := stream.Send(s.event(c)); err != nil {
				return 0, err
			}
			count++
		}
		if resume = page.Continue; resume == "" {
			// Every page of a list is of the same resourceVersion.
			seen.listed = versionOf(page)
			break
		}
	}
	complete := &oaaspb.RuntimeEvent{Event: &oaaspb.RuntimeEvent_InventoryComplete{
		InventoryComplete: &oaaspb.InventoryComplete{Count: count},
	}}
	return count, stream.Send(complete)
}

// readinessInterval is how often a watch stream looks whether the API server
// came or went.
const readinessInterval = 500 * time.Millisecond

// sendChanges sends what changes, a heartbeat after every silence, and one at
// once when the API server goes or comes back: what waits for it is then sent
// again without a pause.
func (s agentService) sendChanges(ctx context.Context, subscription *subscriber, seen *ledger, stream grpc.ServerStreamingServer[oaaspb.RuntimeEvent]) error {
	silence := time.NewTimer(s.opts.HeartbeatInterval)
	defer silence.Stop()
	look := time.NewTicker(min(readinessInterval, s.opts.HeartbeatInterval))
	defer look.Stop()
	var told error
	for {
		select {
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case <-s.closing:
			return status.Error(codes.Unavailable, "the class runtime manager is shutting down")
		case <-look.C:
			now := s.opts.API.Observe().Usable()
			if (now == nil) == (told == nil) {
				continue
			}
			told = now
			if err := stream.Send(heartbeat(told)); err != nil {
				return err
			}
		case <-silence.C:
			told = s.opts.API.Observe().Usable()
			if err := stream.Send(heartbeat(told)); err != nil {
				return err
			}
		case <-subscription.wake:
			changes, err := subscription.take()
			if err != nil {
				return status.Error(codes.Aborted, err.Error())
			}
			for _, c := range changes {
				if !seen.admit(c) {
					continue
				}
				if err := stream.Send(s.event(c)); err != nil {
					return err
				}
			}
		}
		silence.Reset(s.opts.HeartbeatInterval)
	}
}

func heartbeat(problem error) *oaaspb.RuntimeEvent {
	return &oaaspb.RuntimeEvent{Event: &oaaspb.RuntimeEvent_Heartbeat{Heartbeat: &oaaspb.Heartbeat{
		ApiServerReady: problem == nil, Problem: textOf(problem),
	}}}
}

// textOf is empty without an error.
func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func (s *Server) event(c change) *oaaspb.RuntimeEvent {
	if c.removed {
		return &oaaspb.RuntimeEvent{Event: &oaaspb.RuntimeEvent_Removed{Removed: &oaaspb.RuntimeRemoved{
			DeploymentUnitId: unitID(c.object),
			Delivery:         deliveryToProto(c.object.Spec.Delivery),
		}}}
	}
	return &oaaspb.RuntimeEvent{Event: &oaaspb.RuntimeEvent_Upserted{Upserted: s.summary(c.object)}}
}

// nodeCount is what the cached nodes add up to.
type nodeCount struct {
	total, ready uint32
	// architectures of the nodes that are ready, as capabilities, and their zones.
	architectures, zones []string
}

// capabilityArchitecture is followed by an architecture that some node has.
const capabilityArchitecture = "arch:"

// countNodes reads the cached nodes. It fails when the cache is not there yet or
// when nodes may not be listed.
func (s *Server) countNodes(ctx context.Context) (nodeCount, error) {
	backend, err := s.backend()
	if err != nil {
		return nodeCount{}, err
	}
	if !backend.Nodes {
		return nodeCount{}, status.Error(codes.PermissionDenied, "nodes cannot be read with this service account")
	}
	list := &corev1.NodeList{}
	if err := backend.Client.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
		return nodeCount{}, fromKubernetes(ctx, "list nodes", err)
	}
	count := nodeCount{}
	for i := range list.Items {
		count.total++
		if lifecycle.NodeReady(&list.Items[i]) {
			count.ready++
			if arch := list.Items[i].Labels[corev1.LabelArchStable]; arch != "" && !slices.Contains(count.architectures, capabilityArchitecture+arch) {
				count.architectures = append(count.architectures, capabilityArchitecture+arch)
			}
			if zone := list.Items[i].Labels[corev1.LabelTopologyZone]; zone != "" && !slices.Contains(count.zones, zone) {
				count.zones = append(count.zones, zone)
			}
		}
	}
	slices.Sort(count.zones)
	return count, nil
}
