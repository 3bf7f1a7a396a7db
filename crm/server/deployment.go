package server

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/proto/oaaspb"
)

// deploymentService implements oaas.deployment.DeploymentService.
type deploymentService struct {
	oaaspb.UnimplementedDeploymentServiceServer
	*Server
}

// Deploy implements oaaspb.DeploymentServiceServer. OK means that the unit, or a
// repetition of it, is stored at the API server; not that it runs.
func (s deploymentService) Deploy(ctx context.Context, request *oaaspb.DeployRequest) (*oaaspb.DeployResponse, error) {
	unit := request.GetDeploymentUnit()
	if unit == nil {
		return nil, fieldError("deployment_unit", "is required")
	}
	desired, err := toObject(unit, s.opts.Namespace, correlationID(ctx))
	if err != nil {
		s.metrics.deploys.WithLabelValues(outcomeRefused).Inc()
		return nil, err
	}
	backend, err := s.backend()
	if err != nil {
		return nil, err
	}
	outcome, err := backend.deliver(ctx, desired)
	if err != nil {
		s.metrics.deploys.WithLabelValues(outcomeRefused).Inc()
		return nil, err
	}
	s.metrics.deploys.WithLabelValues(outcome).Inc()
	if outcome != outcomeUnchanged {
		s.log.Info("unit stored", "unit", unit.GetId(), "outcome", outcome, "fence", unit.GetDelivery().GetFence(),
			"correlation_id", correlationID(ctx))
	}
	return &oaaspb.DeployResponse{
		Status: oaaspb.StatusCode_OK, DeploymentId: unit.GetId(), Message: proto.String("accepted"),
		Applied: deliveryToProto(desired.Spec.Delivery),
	}, nil
}

// DeleteDeployment implements oaaspb.DeploymentServiceServer. OK means that the
// deletion was issued; NOT_FOUND that nothing of the unit is left.
func (s deploymentService) DeleteDeployment(ctx context.Context, request *oaaspb.DeleteDeploymentRequest) (*oaaspb.DeleteDeploymentResponse, error) {
	name, err := objectName(request.GetDeploymentId(), "deployment_id")
	if err != nil {
		return nil, err
	}
	if d := request.GetDelivery(); d != nil {
		if err := validDelivery(d, "delivery"); err != nil {
			return nil, err
		}
	}
	backend, err := s.backend()
	if err != nil {
		return nil, err
	}
	if err := backend.remove(ctx, types.NamespacedName{Namespace: s.opts.Namespace, Name: name}, request, s.opts.Clock()); err != nil {
		return nil, err
	}
	s.log.Info("unit deletion issued", "unit", request.GetDeploymentId(), "fence", request.GetDelivery().GetFence(),
		"correlation_id", correlationID(ctx))
	return &oaaspb.DeleteDeploymentResponse{Status: oaaspb.StatusCode_OK, Message: proto.String("deleted")}, nil
}

// GetDeploymentStatus implements oaaspb.DeploymentServiceServer.
func (s deploymentService) GetDeploymentStatus(ctx context.Context, request *oaaspb.GetDeploymentStatusRequest) (*oaaspb.GetDeploymentStatusResponse, error) {
	object, err := s.live(ctx, request.GetDeploymentId())
	if err != nil {
		return nil, err
	}
	text := "found"
	if hasStatus(object) {
		text = summaryText(object)
	}
	return &oaaspb.GetDeploymentStatusResponse{
		Status: oaaspb.StatusCode_OK, Deployment: toUnit(object, s.opts.ClusterName), Message: &text,
		StatusResourceRefs: s.resourceRefs(object),
	}, nil
}

// GetClassRuntime implements oaaspb.DeploymentServiceServer.
func (s deploymentService) GetClassRuntime(ctx context.Context, request *oaaspb.GetClassRuntimeRequest) (*oaaspb.GetClassRuntimeResponse, error) {
	object, err := s.live(ctx, request.GetDeploymentId())
	if err != nil {
		return nil, err
	}
	return &oaaspb.GetClassRuntimeResponse{Deployment: s.summary(object)}, nil
}

// live reads one object from the API server, so that a caller finds what it has
// just stored.
func (s *Server) live(ctx context.Context, id string) (*v1alpha1.ClassRuntime, error) {
	name, err := objectName(id, "deployment_id")
	if err != nil {
		return nil, err
	}
	backend, err := s.backend()
	if err != nil {
		return nil, err
	}
	object := &v1alpha1.ClassRuntime{}
	if err := backend.Live.Get(ctx, types.NamespacedName{Namespace: s.opts.Namespace, Name: name}, object); err != nil {
		if absent(err) {
			return nil, noUnit(id)
		}
		return nil, fromKubernetes(ctx, "read the class runtime", err)
	}
	return object, nil
}

// ListClassRuntimes implements oaaspb.DeploymentServiceServer. It reads the
// cache, in the order of names, so that offset and limit page over something
// stable.
func (s deploymentService) ListClassRuntimes(ctx context.Context, request *oaaspb.ListClassRuntimesRequest) (*oaaspb.ListClassRuntimesResponse, error) {
	backend, err := s.backend()
	if err != nil {
		return nil, err
	}
	if probe := s.opts.API.Observe(); !probe.Ready {
		return nil, errUnavailable(probe.Err)
	}
	list := &v1alpha1.ClassRuntimeList{}
	// The objects are only read, so they need no copies.
	if err := backend.Client.List(ctx, list, client.InNamespace(s.opts.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return nil, fromKubernetes(ctx, "list class runtimes", err)
	}
	slices.SortFunc(list.Items, func(a, b v1alpha1.ClassRuntime) int { return strings.Compare(a.Name, b.Name) })
	skip, limit := request.GetOffset(), uint32(math.MaxUint32)
	if request.Limit != nil {
		limit = request.GetLimit()
	}
	response := &oaaspb.ListClassRuntimesResponse{}
	for i := range list.Items {
		if uint32(len(response.Items)) >= limit {
			break
		}
		if !s.matches(&list.Items[i], request) {
			continue
		}
		if skip > 0 {
			skip--
			continue
		}
		response.Items = append(response.Items, s.summary(&list.Items[i]))
	}
	return response, nil
}

// matches applies the filters of a list. A class is named with or without its
// package, an environment by the cluster's name, the name that the control plane
// gave it, or the namespace; a status by the whole summary text or its first
// word in any case.
func (s *Server) matches(object *v1alpha1.ClassRuntime, request *oaaspb.ListClassRuntimesRequest) bool {
	class := object.Spec.PackageClassKey
	if want := request.PackageName; want != nil && packageOf(class) != *want {
		return false
	}
	if want := request.ClassKey; want != nil && class != *want && strings.TrimPrefix(class, packageOf(class)+".") != *want {
		return false
	}
	if want := request.TargetEnv; want != nil {
		names := []string{s.opts.ClusterName, s.opts.Namespace}
		if d := object.Spec.Delivery; d != nil {
			names = append(names, d.TargetEnv)
		}
		if !slices.Contains(names, *want) {
			return false
		}
	}
	if want := request.Status; want != nil {
		return hasStatus(object) && matchesStatus(summaryText(object), *want)
	}
	return true
}

func matchesStatus(text, want string) bool {
	word, _, _ := strings.Cut(text, " ")
	return text == want || strings.EqualFold(strings.TrimRight(word, ":,"), want)
}

// Outcomes of a delivery, for logs and metrics. Restored is an update of an object that
// was changed by hand.
const (
	outcomeCreated   = "created"
	outcomeUpdated   = "updated"
	outcomeRestored  = "restored"
	outcomeUnchanged = "unchanged"
	outcomeRefused   = "refused"
)

// maxConflicts bounds how often a change is decided anew because the object
// moved underneath it.
const maxConflicts = 10

// errMoved says that the object changed between reading and writing.
var errMoved = errors.New("the object changed meanwhile")

// decide runs attempt until it no longer loses against another writer.
func decide(ctx context.Context, attempt func() error) error {
	for range maxConflicts {
		err := attempt()
		if !errors.Is(err, errMoved) {
			return err
		}
		if ctx.Err() != nil {
			return fromKubernetes(ctx, "write the class runtime", ctx.Err())
		}
	}
	return status.Error(codes.Aborted, "the object changed under every attempt to write it; retry")
}
