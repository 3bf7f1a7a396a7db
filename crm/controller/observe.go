package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/crm/lifecycle"
	"oaas.io/control-plane/crm/template"
)

// pass is what one pass over one class runtime knows.
type pass struct {
	object   *v1alpha1.ClassRuntime
	spec     *v1alpha1.ClassRuntimeSpec // as rendered, which may differ in add-ons
	rendered *template.Rendered         // nil when rendering failed or is not wanted
	fault    *lifecycle.Fault           // why rendering failed

	// listed says that children is complete, as far as its reader can tell.
	listed    bool
	children  map[childID]child
	pods      []corev1.Pod
	routers   []v1alpha1.RouterStatus
	telemetry lifecycle.TelemetryState
	// scaling is what decides the replicas of Deployments besides the spec.
	scaling map[string]template.Scaling
}

// look gathers everything that a verdict depends on.
func (r *reconciler) look(ctx context.Context, object *v1alpha1.ClassRuntime) (*pass, error) {
	p := &pass{object: object, spec: &object.Spec}
	if r.opts.DisableODGM {
		p.spec = object.Spec.DeepCopy()
		p.spec.Addons = []string{}
	}
	if object.DeletionTimestamp.IsZero() && r.knative.pending() {
		return nil, errNotSynced
	}
	if err := r.lookAtChildren(ctx, p); err != nil {
		return nil, err
	}
	if !object.DeletionTimestamp.IsZero() {
		return p, nil
	}
	if err := r.lookAtRouters(ctx, p); err != nil {
		return nil, err
	}
	pods := &corev1.PodList{}
	err := r.client.List(ctx, pods, client.InNamespace(object.Namespace), client.UnsafeDisableDeepCopy, ownedBy(object.Name))
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	p.pods = pods.Items
	if err := r.lookAtScaling(ctx, p); err != nil {
		return nil, err
	}
	r.render(p)
	return p, nil
}

// lookAtChildren reads the children from the cache. That nothing is left of an object
// that is being deleted is believed of the API server only: the last thing done to it
// must not rest on a list that may be behind.
func (r *reconciler) lookAtChildren(ctx context.Context, p *pass) error {
	if err := r.lookAtChildrenBy(ctx, p, r.cached); err != nil {
		return err
	}
	if len(p.children) > 0 || p.object.DeletionTimestamp.IsZero() {
		return nil
	}
	return r.lookAtChildrenBy(ctx, p, func(childKind) childReader { return childReader{Reader: r.live} })
}

func (r *reconciler) lookAtChildrenBy(ctx context.Context, p *pass, readerOf func(childKind) childReader) error {
	list, err := listChildren(ctx, readerOf, client.ObjectKeyFromObject(p.object))
	if err != nil {
		return err
	}
	p.children, p.listed = make(map[childID]child, len(list)), true
	for _, c := range list {
		if foreign(c.object, p.object) != "" {
			continue
		}
		if c, err = r.refreshed(ctx, p.object, c); err != nil {
			return err
		}
		if c.object != nil {
			p.children[c.id] = c
		}
	}
	return nil
}

// refreshed replaces a cached child that is older than our own last write of it:
// it would show the success of the content before this one.
func (r *reconciler) refreshed(ctx context.Context, owner *v1alpha1.ClassRuntime, c child) (child, error) {
	m, ok := r.applier.recall(owner, c.id)
	if !ok || version(c.object) >= m.version {
		return c, nil
	}
	fresh := newObject(c.id.gvk)
	if fresh == nil {
		return c, nil
	}
	switch err := r.live.Get(ctx, client.ObjectKeyFromObject(c.object), fresh); {
	case apierrors.IsNotFound(err):
		return child{id: c.id}, nil
	case err != nil:
		return c, fmt.Errorf("read %s: %w", c.id, err)
	}
	return child{id: c.id, object: fresh}, nil
}

// lookAtRouters finds the Zenoh routers of the namespace. When there are none,
// those that were known stay: a router that is being replaced must not restart
// every pod of the namespace twice.
func (r *reconciler) lookAtRouters(ctx context.Context, p *pass) error {
	list := &corev1.ServiceList{}
	err := r.client.List(ctx, list, client.InNamespace(p.object.Namespace), client.MatchingFields{indexRouter: isOne}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return fmt.Errorf("list routers: %w", err)
	}
	for i := range list.Items {
		p.routers = append(p.routers, v1alpha1.RouterStatus{Service: list.Items[i].Name, Port: routerPort(&list.Items[i])})
	}
	slices.SortFunc(p.routers, func(a, b v1alpha1.RouterStatus) int { return strings.Compare(a.Service, b.Service) })
	return nil
}

func routerPort(service *corev1.Service) int32 {
	for _, port := range service.Spec.Ports {
		if port.Name == "zenoh" {
			return port.Port
		}
	}
	if len(service.Spec.Ports) > 0 {
		return service.Spec.Ports[0].Port
	}
	return template.ZenohPort
}

// render fills in what the templates make of the spec.
func (r *reconciler) render(p *pass) {
	p.rendered, p.fault = nil, nil
	environment := r.opts.Environment
	environment.Router, environment.Knative = nil, r.knative.usable()
	routers := p.routers
	if len(routers) == 0 {
		routers = p.object.Status.Routers
	}
	if len(routers) > 0 {
		environment.Router = &template.Router{Service: routers[0].Service, Port: routers[0].Port}
	}
	p.telemetry = telemetryState(p.spec, environment.Telemetry)
	rendered, err := r.opts.Templates.Render(template.Input{
		Name: p.object.Name, Namespace: p.object.Namespace, UID: string(p.object.UID),
		Spec: p.spec, Environment: environment, Scaling: p.scaling, Current: currentTemplate(p.object),
	})
	var invalid *template.InvalidSpecError
	var missing *template.MissingCapabilityError
	switch {
	case err == nil:
		p.rendered = rendered
	case errors.As(err, &invalid):
		p.fault = &lifecycle.Fault{Reason: v1alpha1.ReasonInvalidSpec, Message: invalid.Error()}
	case errors.As(err, &missing):
		p.fault = &lifecycle.Fault{Reason: v1alpha1.ReasonCapabilityMissing, Message: missing.Error()}
	default:
		p.fault = &lifecycle.Fault{Reason: v1alpha1.ReasonApplyFailed, Message: err.Error()}
	}
}

// currentTemplate is the template that rendered the current spec, empty before it was
// applied.
func currentTemplate(object *v1alpha1.ClassRuntime) string {
	if applied := object.Status.Applied; applied == nil || applied.Generation != object.Generation {
		return ""
	}
	return object.Status.Template
}

func telemetryState(spec *v1alpha1.ClassRuntimeSpec, defaults template.TelemetryOptions) lifecycle.TelemetryState {
	enabled := defaults.Enabled
	if spec.Telemetry != nil && spec.Telemetry.Enabled != nil {
		enabled = *spec.Telemetry.Enabled
	}
	switch {
	case !enabled:
		return lifecycle.TelemetryOff
	case defaults.Endpoint == "":
		return lifecycle.TelemetryNoEndpoint
	}
	return lifecycle.TelemetryOn
}

// observed is the pass in the words of the state machine.
func (r *reconciler) observed(p *pass) lifecycle.Observed {
	o := lifecycle.Observed{
		Generation:     p.object.Generation,
		HasFinalizer:   controllerutil.ContainsFinalizer(p.object, Finalizer),
		Delivery:       p.object.Spec.Delivery,
		RenderFault:    p.fault,
		ChildrenListed: p.listed,
		Telemetry:      p.telemetry,
		Routers:        p.routers,
		Previous:       *p.object.Status.DeepCopy(),
	}
	if d := p.object.DeletionTimestamp; d != nil {
		o.Deleted = d.Time
	}
	if p.rendered != nil {
		o.Template, o.IntentHash = p.rendered.Template, p.rendered.Hash
		for i := range p.rendered.Objects {
			o.Intents = append(o.Intents, r.intent(p, &p.rendered.Objects[i]))
		}
	}
	for _, e := range template.Endpoints(p.object.Name, p.object.Namespace, p.spec.Functions) {
		f := lifecycle.Function{Key: e.FunctionKey, Service: e.Service, Port: e.Port, URL: e.URL, WASM: e.WASM}
		if p.onKnative() && !e.WASM {
			f.Unit, f.ObservedURL = p.knativeUnit(e.Workload, r.opts.Clock())
		} else {
			f.Unit = r.unit(p, e.Workload, e.Service)
		}
		o.Functions = append(o.Functions, f)
	}
	if (template.Input{Spec: p.spec}).ODGMEnabled() {
		unit := r.unit(p, template.ODGMName(p.object.Name), template.ODGMServiceName(p.object.Name))
		o.ODGM = &unit
	}
	o.Children = p.inventory()
	return o
}

func (p *pass) inventory() []lifecycle.Child {
	list := make([]child, 0, len(p.children))
	for _, c := range p.children {
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b child) int {
		if c := strings.Compare(kindWord(a.id.gvk), kindWord(b.id.gvk)); c != 0 {
			return c
		}
		return strings.Compare(a.id.name, b.id.name)
	})
	out := make([]lifecycle.Child, 0, len(list))
	for _, c := range list {
		item := lifecycle.Child{
			Kind: kindWord(c.id.gvk), Name: c.id.name, Finalizers: c.object.GetFinalizers(),
			Ref: v1alpha1.ResourceRef{
				Kind: c.id.gvk.Kind, Name: c.id.name, APIVersion: c.id.gvk.GroupVersion().String(), UID: string(c.object.GetUID()),
			},
		}
		if d := c.object.GetDeletionTimestamp(); d != nil {
			item.Deleted = d.Time
		}
		out = append(out, item)
	}
	return out
}

// intent says how one rendered child stands in the cluster.
func (r *reconciler) intent(p *pass, object *template.Object) lifecycle.Intent {
	id := childID{gvk: object.GVK, name: object.Name}
	out := lifecycle.Intent{Kind: kindWord(object.GVK), Name: object.Name, State: lifecycle.IntentMissing}
	existing, exists := p.children[id]
	switch {
	case !exists:
	case existing.object.GetDeletionTimestamp() != nil:
		out.State = lifecycle.IntentTerminating
	case r.applier.standing(p.object, object, existing.object):
		out.State = lifecycle.IntentApplied
	default:
		out.State = lifecycle.IntentDrifted
	}
	if out.State != lifecycle.IntentApplied {
		out.Fault = r.applier.fault(p.object, id)
	}
	return out
}

// unit is a workload and its Service as they stand.
func (r *reconciler) unit(p *pass, workload, service string) lifecycle.Unit {
	var unit lifecycle.Unit
	unit.Workload = lifecycle.DeploymentWorkload(p.deployment(workload), p.podsOf(workload))
	unit.Workload.Name = workload
	r.scaled(p, &unit.Workload)
	if c, ok := p.children[childID{gvk: serviceKind, name: service}]; ok {
		unit.Service = lifecycle.Service{Exists: true, Terminating: c.object.GetDeletionTimestamp() != nil}
	}
	return unit
}

// deployment is a child of that name, nil if there is none.
func (p *pass) deployment(name string) *appsv1.Deployment {
	c, ok := p.children[childID{gvk: deploymentKind, name: name}]
	if !ok {
		return nil
	}
	d, _ := c.object.(*appsv1.Deployment)
	return d
}

// podsOf are the pods of one workload.
func (p *pass) podsOf(workload string) []*corev1.Pod {
	var out []*corev1.Pod
	for i := range p.pods {
		if p.pods[i].Labels[template.LabelApp] == workload {
			out = append(out, &p.pods[i])
		}
	}
	return out
}
