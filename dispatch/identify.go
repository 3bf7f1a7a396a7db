package dispatch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
)

// identify asks a manager which cluster it stands for. Managers of oaas-rs know
// only the environment's health, or not even that.
func identify(ctx context.Context, conn grpc.ClientConnInterface) (*oaaspb.ClusterInfo, error) {
	info, err := oaaspb.NewAgentServiceClient(conn).GetClusterInfo(ctx, &oaaspb.GetClusterInfoRequest{})
	if status.Code(err) != codes.Unimplemented {
		return info, err
	}
	env, err := oaaspb.NewCrmInfoServiceClient(conn).GetEnvHealth(ctx, &oaaspb.CrmEnvRequest{})
	if err == nil {
		return &oaaspb.ClusterInfo{
			CrmVersion: env.GetCrmVersion(), NodeCount: env.GetNodeCount(), ReadyNodes: env.GetReadyNodes(),
			Availability: env.Availability, ApiServerReady: env.GetStatus() == "Healthy",
		}, nil
	}
	if status.Code(err) != codes.Unimplemented {
		return nil, err
	}
	check, err := oaaspb.NewHealthServiceClient(conn).Check(ctx, &oaaspb.HealthCheckRequest{})
	if err != nil {
		return nil, err
	}
	return &oaaspb.ClusterInfo{ApiServerReady: check.GetStatus() == oaaspb.HealthCheckResponse_SERVING}, nil
}

// errTooOften: a description changed again before it may be written again.
var errTooOften = errors.New("the cluster's description changes too often")

// errOtherCluster: the manager behind an address is not the one that it was.
var errOtherCluster = errors.New("the address belongs to another cluster")

// describe writes what a manager says of its cluster into the cluster's row.
// A name that is registered with another UID is refused: two clusters must not
// take turns under one name.
func describe(row *pmpb.Cluster, info *oaaspb.ClusterInfo) error {
	if row.GetUid() != "" && info.GetUid() != "" && row.GetUid() != info.GetUid() {
		return fmt.Errorf("%w: %s is registered with uid %s, the manager says %s", errOtherCluster, row.GetName(), row.GetUid(), info.GetUid())
	}
	before := *describedPart(row)
	if info.GetUid() != "" {
		row.Uid = clipName(info.GetUid())
	}
	row.CrmVersion, row.KubernetesVersion, row.Namespace = clipName(info.GetCrmVersion()), clipName(info.GetKubernetesVersion()), clipName(info.GetNamespace())
	if info.GetRegion() != "" {
		row.Region = clipName(info.GetRegion())
	}
	if info.GetZone() != "" {
		row.Zone = clipName(info.GetZone())
	}
	row.Labels, row.Capabilities = labelsOf(info.GetLabels()), namesOf(info.GetCapabilities())
	row.NodeCount, row.ReadyNodes, row.Availability = info.GetNodeCount(), info.GetReadyNodes(), representable(info.Availability)
	row.Resources = resourcesOf(row.GetResources(), info.GetResources())
	row.NodeZones, row.KnativeVersion = namesOf(info.GetNodeZones()), clipName(info.GetKnativeVersion())
	if at := info.GetObservedAt(); at != nil && before != *describedPart(row) {
		row.LastSeen = &timestamppb.Timestamp{Seconds: at.GetSeconds(), Nanos: at.GetNanos()}
	}
	return nil
}

// forget drops what there are servers that would not keep it.
func forget(info *oaaspb.ClusterInfo, level uint32) {
	if level < fsm.PlannerFrom {
		info.Resources = nil
	}
	if level < fsm.PodsFrom {
		info.NodeZones, info.KnativeVersion = nil, ""
	}
}

// maxDescribed is how many labels, capabilities and zones of a cluster are kept each.
const maxDescribed = 64

// labelsOf keeps so many labels that the row stays small: the first by name, so that
// the same ones are kept each time.
func labelsOf(says map[string]string) map[string]string {
	if len(says) == 0 {
		return nil
	}
	out := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(says)) {
		if len(out) == maxDescribed {
			break
		}
		if len(key) <= 2*maxName { // a prefix and a name, as Kubernetes allows
			out[key] = clipName(says[key])
		}
	}
	return out
}

func namesOf(says []string) (out []string) {
	for _, c := range says[:min(len(says), maxDescribed)] {
		out = append(out, clipName(c))
	}
	return out
}

// resourcesOf is what a cluster says of its room, but what is free stays as it is known
// until it has changed by a part of freeStep of the whole: pods come and go all the
// time, and each new number is a write to every server.
func resourcesOf(known *pmpb.NodeResources, says *oaaspb.ClusterResources) *pmpb.NodeResources {
	if says == nil {
		return nil
	}
	return &pmpb.NodeResources{
		AllocatableMillicores: says.AllocatableMillicores, AllocatableBytes: says.AllocatableBytes,
		FreeMillicores: settled(known.GetFreeMillicores(), says.FreeMillicores, says.GetAllocatableMillicores()),
		FreeBytes:      settled(known.GetFreeBytes(), says.FreeBytes, says.GetAllocatableBytes()),
	}
}

// freeStep is the part of a cluster's resources whose change is worth a write.
const freeStep = 32

func settled(known uint64, free *uint64, total uint64) *uint64 {
	if free == nil {
		return nil
	}
	if distance := max(known, *free) - min(known, *free); known <= total && distance < max(total/freeStep, 1) {
		return &known
	}
	return free
}

// representable keeps NaN and the infinities out of the state: JSON has no word
// for them, so that no list with the cluster in it could be answered. What stands
// for them makes as little sense, and disqualifies the cluster just the same.
func representable(p *float64) *float64 {
	if p == nil || !math.IsNaN(*p) && !math.IsInf(*p, 0) {
		return p
	}
	senseless := -1.0
	return &senseless
}

// described is the part of a row whose change is worth a new last_seen.
type described struct {
	uid, version string
	nodes, ready uint32
}

func describedPart(row *pmpb.Cluster) *described {
	return &described{row.GetUid(), row.GetCrmVersion(), row.GetNodeCount(), row.GetReadyNodes()}
}

// describe keeps the cluster's row up to date with what its manager says.
func (l *lane) describe(ctx context.Context) {
	for {
		if err := l.describeOnce(ctx); err != nil && ctx.Err() == nil {
			l.log.Debug("description not refreshed", "error", err)
		}
		if !sleep(ctx, l.opts.InfoInterval) {
			return
		}
	}
}

// verify refuses an address that belongs to another cluster than the registered
// one: it must not be sent what is meant for that one. A manager that cannot
// say who it is just now is not refused; its session will tell how it is.
func (l *lane) verify(ctx context.Context) error {
	if err := l.describeOnce(ctx); errors.Is(err, errOtherCluster) {
		return err
	}
	return nil
}

func (l *lane) describeOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.opts.CallTimeout)
	defer cancel()
	info, err := identify(ctx, l.conn)
	if err != nil {
		return err
	}
	forget(info, l.opts.Registry.State().Snapshot().FeatureLevel())
	return l.opts.Registry.PutCluster(ctx, l.term, l.name, func(row *pmpb.Cluster) error {
		if row.GetAddress() != l.address {
			return fmt.Errorf("cluster %s moved to %s", l.name, row.GetAddress())
		}
		before := proto.CloneOf(row)
		if err := describe(row, info); err != nil || proto.Equal(before, row) {
			return err
		}
		if ok, _ := l.writes.pass(); !ok {
			return errTooOften
		}
		return nil
	})
}
