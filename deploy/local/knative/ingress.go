package main

import (
	"context"

	"knative.dev/networking/pkg/apis/networking/v1alpha1"
	ingressinformer "knative.dev/networking/pkg/client/injection/informers/networking/v1alpha1/ingress"
	ingressreconciler "knative.dev/networking/pkg/client/injection/reconciler/networking/v1alpha1/ingress"
	"knative.dev/pkg/configmap"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/reconciler"
)

const (
	// ingressClass is in the config map config-network too.
	ingressClass = "local.ingress.networking.knative.dev"
	// ingressAnnotation of an Ingress, which it has from its Service, keeps it from getting ready as long as it is "stuck".
	ingressAnnotation = "sim.kwok/ingress"
	ingressStuck      = "stuck"
	// gateway is the address that the ingresses say they are served at. Nothing is there.
	gateway = "gateway.knative-serving.svc.cluster.local"
)

// newIngress makes the controller that plays the ingress.
func newIngress(ctx context.Context, _ configmap.Watcher) *controller.Impl {
	impl := ingressreconciler.NewImpl(ctx, &ingresses{}, ingressClass)
	// The handler stays as long as the informer, which ends with this process.
	_, _ = ingressinformer.Get(ctx).Informer().AddEventHandler(controller.HandleAll(impl.Enqueue))
	return impl
}

type ingresses struct{}

// ReconcileKind sets the status alone; the caller writes it.
func (*ingresses) ReconcileKind(_ context.Context, ingress *v1alpha1.Ingress) reconciler.Event {
	ingress.Status.MarkNetworkConfigured()
	if ingress.Annotations[ingressAnnotation] == ingressStuck {
		ingress.Status.MarkLoadBalancerNotReady()
		return nil
	}
	at := []v1alpha1.LoadBalancerIngressStatus{{DomainInternal: gateway}}
	ingress.Status.MarkLoadBalancerReady(at, at)
	return nil
}
