package main

import (
	"context"
	"strconv"
	"sync"

	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"knative.dev/pkg/configmap"
	"knative.dev/pkg/controller"
	"knative.dev/serving/pkg/apis/autoscaling/v1alpha1"
	"knative.dev/serving/pkg/autoscaler/scaling"
	autoscalers "knative.dev/serving/pkg/client/injection/informers/autoscaling/v1alpha1/podautoscaler"
	listers "knative.dev/serving/pkg/client/listers/autoscaling/v1alpha1"
	"knative.dev/serving/pkg/reconciler/autoscaling/kpa"
)

// annotationScale is how many pods traffic would ask for.
const annotationScale = "sim.kwok/scale"

// newAutoscaler is Knative's reconciler of PodAutoscalers, told by deciders.
func newAutoscaler(ctx context.Context, watcher configmap.Watcher) *controller.Impl {
	return kpa.NewController(ctx, watcher, &deciders{
		known: map[types.NamespacedName]*scaling.Decider{}, autoscalers: autoscalers.Get(ctx).Lister(),
	})
}

// deciders take the place of what measures traffic.
type deciders struct {
	autoscalers listers.PodAutoscalerLister

	mu    sync.Mutex
	known map[types.NamespacedName]*scaling.Decider
}

// Get returns a decider with the scale that it has decided on.
func (d *deciders) Get(_ context.Context, namespace, name string) (*scaling.Decider, error) {
	d.mu.Lock()
	known, ok := d.known[types.NamespacedName{Namespace: namespace, Name: name}]
	d.mu.Unlock()
	if !ok {
		return nil, errors.NewNotFound(v1alpha1.Resource("deciders"), name)
	}
	out := known.DeepCopy()
	out.Status.DesiredScale, out.Status.ExcessBurstCapacity = out.Spec.InitialScale, 1
	if autoscaler, err := d.autoscalers.PodAutoscalers(namespace).Get(name); err == nil {
		if n, err := strconv.ParseInt(autoscaler.Annotations[annotationScale], 10, 32); err == nil {
			out.Status.DesiredScale = int32(n)
		}
	}
	return out, nil
}

// Create remembers a decider.
func (d *deciders) Create(ctx context.Context, decider *scaling.Decider) (*scaling.Decider, error) {
	d.mu.Lock()
	d.known[types.NamespacedName{Namespace: decider.Namespace, Name: decider.Name}] = decider.DeepCopy()
	d.mu.Unlock()
	return d.Get(ctx, decider.Namespace, decider.Name)
}

// Update replaces a decider.
func (d *deciders) Update(ctx context.Context, decider *scaling.Decider) (*scaling.Decider, error) {
	return d.Create(ctx, decider)
}

// Delete forgets a decider.
func (d *deciders) Delete(_ context.Context, namespace, name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.known, types.NamespacedName{Namespace: namespace, Name: name})
}

// Watch has nothing to tell: a changed annotation reaches the reconciler by itself.
func (d *deciders) Watch(func(types.NamespacedName)) {}
