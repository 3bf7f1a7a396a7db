package server

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/api/equality"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/crm/controller"
	"oaas.io/control-plane/proto/oaaspb"
)

// ChildPreviewer says what the controller would make of a class runtime.
type ChildPreviewer interface {
	Preview(ctx context.Context, object *v1alpha1.ClassRuntime) (*controller.Preview, error)
}

// PreviewUnit implements oaaspb.AgentServiceServer. It takes the way of Deploy, but the
// API server is told to store nothing; what a template could not render, or the API
// server would not take, is told of the object that it is about.
func (s agentService) PreviewUnit(ctx context.Context, request *oaaspb.PreviewUnitRequest) (*oaaspb.UnitPreview, error) {
	unit := request.GetDeploymentUnit()
	if unit == nil {
		return nil, fieldError("deployment_unit", "is required")
	}
	desired, err := toObject(unit, s.opts.Namespace, correlationID(ctx))
	if err != nil {
		return nil, err
	}
	backend, err := s.backend()
	if err != nil {
		return nil, err
	}
	if backend.Children == nil {
		return nil, status.Error(codes.Unimplemented, "this manager previews nothing")
	}
	stored, change, err := backend.rehearse(ctx, desired)
	if err != nil {
		return nil, err
	}
	children, err := backend.Children.Preview(ctx, stored)
	if err != nil {
		return nil, fromKubernetes(ctx, "preview the children", err)
	}
	return unitPreview(stored.Name, change, children), nil
}

// rehearse is deliver without an effect. It gives the object as it would be stored.
func (a *attached) rehearse(ctx context.Context, desired *v1alpha1.ClassRuntime) (*v1alpha1.ClassRuntime, controller.Change, error) {
	if err := a.checkTombstone(ctx, desired); err != nil {
		return nil, "", err
	}
	dry := client.NewDryRunClient(a.Client)
	live := &v1alpha1.ClassRuntime{}
	err := a.Live.Get(ctx, client.ObjectKeyFromObject(desired), live)
	switch {
	case absent(err):
		stored := desired.DeepCopy()
		err = dry.Create(ctx, stored, client.FieldOwner(agentFieldName))
		return stored, controller.ChangeCreate, fromKubernetes(ctx, "preview the class runtime", err)
	case err != nil:
		return nil, "", fromKubernetes(ctx, "read the class runtime", err)
	}
	if _, err := mayReplace(live, desired); err != nil {
		return nil, "", err
	}
	stored := merged(live, desired)
	if err := dry.Update(ctx, stored, client.FieldOwner(agentFieldName)); err != nil {
		return nil, "", fromKubernetes(ctx, "preview the class runtime", err)
	}
	if sameContent(live, stored) {
		return stored, controller.ChangeNone, nil
	}
	return stored, controller.ChangeUpdate, nil
}

// sameContent compares what is to run; the delivery it came with does not count.
func sameContent(a, b *v1alpha1.ClassRuntime) bool {
	a, b = a.DeepCopy(), b.DeepCopy()
	a.Spec.Delivery, b.Spec.Delivery = nil, nil
	return equality.Semantic.DeepEqual(a.Spec, b.Spec)
}

func unitPreview(name string, change controller.Change, children *controller.Preview) *oaaspb.UnitPreview {
	runtime := &oaaspb.ObjectPreview{Kind: v1alpha1.Kind, Name: name, Change: string(change)}
	if f := children.Fault; f != nil {
		runtime.Reason, runtime.Message = string(f.Reason), f.Message
	}
	out := &oaaspb.UnitPreview{Template: children.Template, Warnings: children.Warnings, Objects: []*oaaspb.ObjectPreview{runtime}}
	for _, c := range children.Children {
		one := &oaaspb.ObjectPreview{Kind: c.Kind, Name: c.Name, Change: string(c.Change)}
		if c.Fault != nil {
			one.Reason, one.Message = string(c.Fault.Reason), c.Fault.Message
		}
		out.Objects = append(out.Objects, one)
	}
	return out
}
