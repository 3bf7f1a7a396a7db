package main

import (
	"context"
	"strconv"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"knative.dev/pkg/configmap"
	"knative.dev/pkg/controller"
	"knative.dev/serving/pkg/apis/autoscaling/v1alpha1"
	"knative.dev/serving/pkg/autoscaler/scaling"
	painformer "knative.dev/serving/pkg/client/injection/informers/autoscaling/v1alpha1/podautoscaler"
	palisters "knative.dev/serving/pkg/client/listers/autoscaling/v1alpha1"
	"knative.dev/serving/pkg/reconciler/autoscaling/kpa"
)

// scaleAnnotation of a PodAutoscaler is the number of pods that its load would need, within the bounds of the revision. Knative
// copies the annotations of a revision to its PodAutoscaler when it makes it, so it can be in the template of a Service too.
const scaleAnnotation = "sim.kwok/scale"

// newPodAutoscaler makes Knative's pod autoscaler with decisions from annotations.
func newPodAutoscaler(ctx context.Context, configs configmap.Watcher) *controller.Impl {
	return kpa.NewController(ctx, configs, &deciders{
		known:   map[types.NamespacedName]*scaling.Decider{},
		scalers: painformer.Get(ctx).Lister(),
	})
}

// deciders takes the place of the autoscaler that collects metrics.
type deciders struct {
	scalers palisters.PodAutoscalerLister

	mu    sync.Mutex
	known map[types.NamespacedName]*scaling.Decider
}

// Get returns the decision about a revision. Without an annotation the revision keeps the scale that it starts with.
func (d *deciders) Get(_ context.Context, namespace, name string) (*scaling.Decider, error) {
	d.mu.Lock()
	known := d.known[types.NamespacedName{Namespace: namespace, Name: name}]
	d.mu.Unlock()
	if known == nil {
		return nil, apierrors.NewNotFound(v1alpha1.Resource("deciders"), namespace+"/"+name)
	}
	decider := known.DeepCopy()
	decider.Status.DesiredScale = decider.Spec.InitialScale
	// There is always capacity to spare, so requests need not pass the activator while there are pods.
	decider.Status.ExcessBurstCapacity = 1
	if scaler, err := d.scalers.PodAutoscalers(namespace).Get(name); err == nil {
		if wanted, err := strconv.ParseInt(scaler.Annotations[scaleAnnotation], 10, 32); err == nil && wanted >= 0 {
			decider.Status.DesiredScale = int32(wanted)
		}
	}
	return decider, nil
}

// Create remembers a revision.
func (d *deciders) Create(ctx context.Context, decider *scaling.Decider) (*scaling.Decider, error) {
	d.mu.Lock()
	d.known[types.NamespacedName{Namespace: decider.Namespace, Name: decider.Name}] = decider.DeepCopy()
	d.mu.Unlock()
	return d.Get(ctx, decider.Namespace, decider.Name)
}

// Update changes the bounds of a revision.
func (d *deciders) Update(ctx context.Context, decider *scaling.Decider) (*scaling.Decider, error) {
	return d.Create(ctx, decider)
}

// Delete forgets a revision.
func (d *deciders) Delete(_ context.Context, namespace, name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.known, types.NamespacedName{Namespace: namespace, Name: name})
}

// Watch has nothing to tell: the reconciler watches the PodAutoscalers, and so their annotations, by itself.
func (d *deciders) Watch(func(types.NamespacedName)) {}
