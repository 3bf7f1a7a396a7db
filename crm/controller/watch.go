package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/crm/template"
)

// Labels by which the Zenoh routers of a namespace are found.
var routerLabels = map[string]string{"app": "router", "platform": "oaas"}

// CacheOptions bounds what the manager keeps in memory: one namespace, only
// workloads that carry the owner label, and of pods and nodes only what is read.
// Services are not narrowed down, because routers do not carry that label.
func CacheOptions(namespace string) (cache.Options, error) {
	owned, err := labels.NewRequirement(template.LabelOwner, selection.Exists, nil)
	if err != nil {
		return cache.Options{}, fmt.Errorf("owner label selector: %w", err)
	}
	selector := labels.NewSelector().Add(*owned)
	return cache.Options{
		DefaultNamespaces: map[string]cache.Config{namespace: {}},
		DefaultTransform:  cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&appsv1.Deployment{}:            {Label: selector},
			&policyv1.PodDisruptionBudget{}: {Label: selector},
			&networkingv1.NetworkPolicy{}:   {Label: selector},
			&corev1.Pod{}:                   {Label: selector, Transform: slimPod},
			&corev1.Node{}:                  {Transform: slimNode},
		},
	}, nil
}

// slimPod keeps what tells why a pod does not run. Everything that makes pods
// large, their spec above all, is dropped before it reaches the cache.
func slimPod(object any) (any, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return object, nil
	}
	slim := &corev1.Pod{TypeMeta: pod.TypeMeta}
	slim.Name, slim.Namespace, slim.UID = pod.Name, pod.Namespace, pod.UID
	slim.ResourceVersion, slim.CreationTimestamp = pod.ResourceVersion, pod.CreationTimestamp
	slim.DeletionTimestamp, slim.Labels, slim.OwnerReferences = pod.DeletionTimestamp, pod.Labels, pod.OwnerReferences
	slim.Spec.NodeName = pod.Spec.NodeName
	slim.Status = corev1.PodStatus{
		Phase: pod.Status.Phase, Reason: pod.Status.Reason, Message: pod.Status.Message,
		Conditions:            pod.Status.Conditions,
		InitContainerStatuses: slimContainers(pod.Status.InitContainerStatuses),
		ContainerStatuses:     slimContainers(pod.Status.ContainerStatuses),
		StartTime:             pod.Status.StartTime,
	}
	return slim, nil
}

func slimContainers(in []corev1.ContainerStatus) []corev1.ContainerStatus {
	out := make([]corev1.ContainerStatus, len(in))
	for i, c := range in {
		out[i] = corev1.ContainerStatus{
			Name: c.Name, State: c.State, LastTerminationState: c.LastTerminationState,
			Ready: c.Ready, RestartCount: c.RestartCount, Started: c.Started, Image: c.Image,
		}
	}
	return out
}

// slimNode keeps what the cluster report counts.
func slimNode(object any) (any, error) {
	node, ok := object.(*corev1.Node)
	if !ok {
		return object, nil
	}
	slim := &corev1.Node{TypeMeta: node.TypeMeta}
	slim.Name, slim.UID, slim.ResourceVersion = node.Name, node.UID, node.ResourceVersion
	slim.Labels, slim.Spec.Unschedulable = node.Labels, node.Spec.Unschedulable
	slim.Status.Allocatable, slim.Status.Conditions = node.Status.Allocatable, node.Status.Conditions
	return slim, nil
}

var _ toolscache.TransformFunc = slimPod

// runtimeChanged passes what a person or package manager changes of a class
// runtime, and not the status that this controller writes itself. A status that
// somebody else wrote, a manager that lost its leadership for one, passes: nothing
// else would correct it while the children rest. An own write that is seen before
// its answer costs a pass that finds nothing to do.
func (r *reconciler) runtimeChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, after := e.ObjectOld, e.ObjectNew
		return before.GetGeneration() != after.GetGeneration() ||
			before.GetUID() != after.GetUID() ||
			before.GetDeletionTimestamp().IsZero() != after.GetDeletionTimestamp().IsZero() ||
			!slices.Equal(before.GetFinalizers(), after.GetFinalizers()) ||
			version(after) > r.lastWrite(client.ObjectKeyFromObject(after)) && statusChanged(before, after)
	}}
}

func statusChanged(before, after client.Object) bool {
	x, ok := before.(*v1alpha1.ClassRuntime)
	if !ok {
		return true
	}
	y, ok := after.(*v1alpha1.ClassRuntime)
	return !ok || !equality.Semantic.DeepEqual(x.Status, y.Status)
}

// deploymentChanged passes what the evaluation reads or the applier repairs.
func deploymentChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok := e.ObjectOld.(*appsv1.Deployment)
		if !ok {
			return true
		}
		after, ok := e.ObjectNew.(*appsv1.Deployment)
		if !ok || metadataChanged(before, after) {
			return true
		}
		x, y := before.Status, after.Status
		return x.ObservedGeneration != y.ObservedGeneration || x.Replicas != y.Replicas ||
			x.UpdatedReplicas != y.UpdatedReplicas || x.ReadyReplicas != y.ReadyReplicas ||
			x.AvailableReplicas != y.AvailableReplicas || x.UnavailableReplicas != y.UnavailableReplicas ||
			!slices.EqualFunc(x.Conditions, y.Conditions, func(a, b appsv1.DeploymentCondition) bool {
				return a.Type == b.Type && a.Status == b.Status && a.Reason == b.Reason && a.Message == b.Message
			})
	}}
}

// serviceChanged passes everything but resyncs.
func serviceChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		return e.ObjectOld.GetResourceVersion() != e.ObjectNew.GetResourceVersion()
	}}
}

// specChanged passes what the applier repairs: the status of a budget changes with every
// pod, and is nothing to this controller.
func specChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool { return metadataChanged(e.ObjectOld, e.ObjectNew) }}
}

// autoscalerChanged passes what the applier repairs, and whether the autoscaler works. Its
// measurements change all the time and are nothing to this controller.
func autoscalerChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok := e.ObjectOld.(*autoscalingv2.HorizontalPodAutoscaler)
		if !ok {
			return true
		}
		after, ok := e.ObjectNew.(*autoscalingv2.HorizontalPodAutoscaler)
		return !ok || metadataChanged(before, after) || inactive(before) != inactive(after) ||
			!equality.Semantic.DeepEqual(before.Spec, after.Spec)
	}}
}

// scaleTargetChanged passes autoscalers that begin or cease to scale something.
func scaleTargetChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		return !slices.Equal(scaleTargetOf(e.ObjectOld), scaleTargetOf(e.ObjectNew)) ||
			e.ObjectOld.GetDeletionTimestamp().IsZero() != e.ObjectNew.GetDeletionTimestamp().IsZero()
	}}
}

// byScaleTarget maps an autoscaler to the class runtime whose Deployment it scales.
func byScaleTarget(reader client.Reader) handler.MapFunc {
	owner := byOwnerLabel(reader)
	return func(ctx context.Context, object client.Object) []reconcile.Request {
		a, ok := object.(*autoscalingv2.HorizontalPodAutoscaler)
		if !ok || a.Spec.ScaleTargetRef.Kind != deploymentKind.Kind {
			return nil
		}
		d := &appsv1.Deployment{}
		if err := reader.Get(ctx, client.ObjectKey{Namespace: a.Namespace, Name: a.Spec.ScaleTargetRef.Name}, d); err != nil {
			return nil // its class runtime looks for autoscalers when it makes the Deployment
		}
		return owner(ctx, d)
	}
}

func metadataChanged(before, after client.Object) bool {
	return before.GetGeneration() != after.GetGeneration() || before.GetUID() != after.GetUID() ||
		before.GetDeletionTimestamp().IsZero() != after.GetDeletionTimestamp().IsZero() ||
		!equality.Semantic.DeepEqual(before.GetLabels(), after.GetLabels()) ||
		!equality.Semantic.DeepEqual(before.GetAnnotations(), after.GetAnnotations()) ||
		!equality.Semantic.DeepEqual(before.GetOwnerReferences(), after.GetOwnerReferences())
}

// podChanged passes changes of why a pod does not run. That it runs is seen in
// its Deployment, so the many steps of a healthy start wake nobody.
func podChanged() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool { return trouble(e.Object) != "" },
		DeleteFunc: func(e event.DeleteEvent) bool { return trouble(e.Object) != "" },
		UpdateFunc: func(e event.UpdateEvent) bool { return trouble(e.ObjectOld) != trouble(e.ObjectNew) },
	}
}

// trouble is a digest of what keeps a pod from running; empty when nothing does.
func trouble(object client.Object) string {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return ""
	}
	var b strings.Builder
	if pod.Status.Phase == corev1.PodFailed {
		fmt.Fprintf(&b, "failed %s;", pod.Status.Reason)
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			fmt.Fprintf(&b, "unscheduled %s %s;", c.Reason, c.Message)
		}
	}
	for _, c := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if w := c.State.Waiting; w != nil && !starting(w.Reason) {
			fmt.Fprintf(&b, "%s waiting %s;", c.Name, w.Reason)
		}
		if t := c.State.Terminated; t != nil && t.ExitCode != 0 {
			fmt.Fprintf(&b, "%s ended %d %s;", c.Name, t.ExitCode, t.Reason)
		}
		if r := c.State.Running; r != nil && !c.Ready && c.RestartCount > 0 {
			fmt.Fprintf(&b, "%s restarted;", c.Name)
		}
	}
	return b.String()
}

// starting reports whether a waiting reason is a step of every healthy start.
func starting(reason string) bool {
	return reason == "" || reason == "ContainerCreating" || reason == "PodInitializing"
}

// byOwnerLabel maps a pod to its class runtime. The label holds the name itself
// unless the name is too long for a label; then the names in the cache are
// compared.
func byOwnerLabel(reader client.Reader) handler.MapFunc {
	return func(ctx context.Context, object client.Object) []reconcile.Request {
		label := object.GetLabels()[template.LabelOwner]
		if label == "" {
			return nil
		}
		if template.OwnerLabel(label) == label && len(label) < template.MaxNameLength {
			return []reconcile.Request{requestFor(object.GetNamespace(), label)}
		}
		list := &v1alpha1.ClassRuntimeList{}
		if err := reader.List(ctx, list, client.InNamespace(object.GetNamespace()), client.UnsafeDisableDeepCopy); err != nil {
			return nil
		}
		for i := range list.Items {
			if template.OwnerLabel(list.Items[i].Name) == label {
				return []reconcile.Request{requestFor(object.GetNamespace(), list.Items[i].Name)}
			}
		}
		return nil
	}
}

// everyRuntime maps a router to all class runtimes: the address of the router is
// part of what they run.
func everyRuntime(reader client.Reader) handler.MapFunc {
	return func(ctx context.Context, object client.Object) []reconcile.Request {
		list := &v1alpha1.ClassRuntimeList{}
		if err := reader.List(ctx, list, client.InNamespace(object.GetNamespace()), client.UnsafeDisableDeepCopy); err != nil {
			return nil
		}
		requests := make([]reconcile.Request, 0, len(list.Items))
		for i := range list.Items {
			requests = append(requests, requestFor(list.Items[i].Namespace, list.Items[i].Name))
		}
		return requests
	}
}

func requestFor(namespace, name string) reconcile.Request {
	return reconcile.Request{NamespacedName: types.NamespacedName{Namespace: namespace, Name: name}}
}

// isRouter passes the Services by which routers are found, and among their
// changes those that matter: ports, and becoming or ceasing to be one.
func isRouter() predicate.Predicate {
	router := func(object client.Object) bool { return routerOf(object) != nil }
	return predicate.Funcs{
		CreateFunc:  func(e event.CreateEvent) bool { return router(e.Object) },
		DeleteFunc:  func(e event.DeleteEvent) bool { return router(e.Object) },
		GenericFunc: func(e event.GenericEvent) bool { return router(e.Object) },
		UpdateFunc: func(e event.UpdateEvent) bool {
			was, is := router(e.ObjectOld), router(e.ObjectNew)
			if was != is {
				return true
			}
			before, okBefore := e.ObjectOld.(*corev1.Service)
			after, okAfter := e.ObjectNew.(*corev1.Service)
			return is && okBefore && okAfter && !equality.Semantic.DeepEqual(before.Spec.Ports, after.Spec.Ports)
		},
	}
}
