package controller

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/crm/lifecycle"
	"oaas.io/control-plane/crm/template"
)

// childKind is a kind of object that templates render. Whatever a template
// renders needs a row in childKinds, or it would be neither pruned nor deleted.
type childKind struct {
	gvk     schema.GroupVersionKind
	object  func() client.Object
	newList func() client.ObjectList
	// optional kinds come and go with an API that a cluster may lack.
	optional bool
}

var (
	autoscalerKind = autoscalingv2.SchemeGroupVersion.WithKind("HorizontalPodAutoscaler")
	deploymentKind = appsv1.SchemeGroupVersion.WithKind("Deployment")
	serviceKind    = corev1.SchemeGroupVersion.WithKind("Service")
	networkKind    = networkingv1.SchemeGroupVersion.WithKind("NetworkPolicy")
	knativeKind    = template.KnativeServiceGVK
	budgetKind     = policyv1.SchemeGroupVersion.WithKind("PodDisruptionBudget")
)

// newObject is an empty object of a child kind, nil for any other kind.
func newObject(gvk schema.GroupVersionKind) client.Object {
	for _, kind := range childKinds {
		if kind.gvk == gvk {
			return kind.object()
		}
	}
	return nil
}

// childKinds is in the order in which children are listed and deleted: what
// serves callers goes last.
var childKinds = []childKind{
	{
		gvk:     autoscalerKind,
		object:  func() client.Object { return &autoscalingv2.HorizontalPodAutoscaler{} },
		newList: func() client.ObjectList { return &autoscalingv2.HorizontalPodAutoscalerList{} },
	},
	{
		gvk:      knativeKind,
		object:   func() client.Object { return &servingv1.Service{} },
		newList:  func() client.ObjectList { return &servingv1.ServiceList{} },
		optional: true,
	},
	{
		gvk:     deploymentKind,
		object:  func() client.Object { return &appsv1.Deployment{} },
		newList: func() client.ObjectList { return &appsv1.DeploymentList{} },
	},
	{
		gvk:     budgetKind,
		object:  func() client.Object { return &policyv1.PodDisruptionBudget{} },
		newList: func() client.ObjectList { return &policyv1.PodDisruptionBudgetList{} },
	},
	{
		gvk:     networkKind,
		object:  func() client.Object { return &networkingv1.NetworkPolicy{} },
		newList: func() client.ObjectList { return &networkingv1.NetworkPolicyList{} },
	},
	{
		gvk:     serviceKind,
		object:  func() client.Object { return &corev1.Service{} },
		newList: func() client.ObjectList { return &corev1.ServiceList{} },
	},
}

// childID names a child within the namespace of its owner.
type childID struct {
	gvk  schema.GroupVersionKind
	name string
}

func (id childID) String() string { return kindWord(id.gvk) + "/" + id.name }

// kindWord is the kind for people.
func kindWord(gvk schema.GroupVersionKind) string {
	if gvk == knativeKind {
		return lifecycle.KindKnativeService
	}
	return gvk.Kind
}

// child is an object that exists and carries our label.
type child struct {
	id     childID
	object client.Object
}

// childReader reads the objects of one kind. An indexed one is a cache that finds them
// by indexOwner; any other is asked by label.
type childReader struct {
	client.Reader
	indexed bool
}

// of selects what carries the owner label of a class runtime.
func (c childReader) of(owner types.NamespacedName) client.ListOption {
	if c.indexed {
		return ownedBy(owner.Name)
	}
	return client.MatchingLabels{template.LabelOwner: template.OwnerLabel(owner.Name)}
}

// listChildren lists everything that carries the owner label of a class runtime, by the
// reader for each kind. A kind without a reader has no objects.
func listChildren(ctx context.Context, readerOf func(childKind) childReader, owner types.NamespacedName) ([]child, error) {
	var children []child
	for _, kind := range childKinds {
		reader := readerOf(kind)
		if reader.Reader == nil {
			continue
		}
		list := kind.newList()
		err := reader.List(ctx, list, client.InNamespace(owner.Namespace), reader.of(owner))
		if meta.IsNoMatchError(err) || kind.optional && apierrors.IsNotFound(err) {
			continue // a kind whose definition is gone has no objects
		}
		if kind.optional && apierrors.IsForbidden(err) {
			// Who may not list them makes none. What was left when the right was taken
			// away goes with its owner, by the garbage collector.
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list children of kind %s: %w", kind.gvk.Kind, err)
		}
		err = meta.EachListItem(list, func(item runtime.Object) error {
			if object, ok := item.(client.Object); ok {
				children = append(children, child{id: childID{gvk: kind.gvk, name: object.GetName()}, object: object})
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("list children of kind %s: %w", kind.gvk.Kind, err)
		}
	}
	return children, nil
}

// controlledBy reports whether the object's controller is that class runtime.
func controlledBy(object metav1.Object, owner *v1alpha1.ClassRuntime) bool {
	ref := metav1.GetControllerOf(object)
	return ref != nil && ref.UID == owner.UID
}

// abandoned reports whether the object carries our label and has no controller
// at all. oaas-rs leaves such objects behind.
func abandoned(object metav1.Object, owner *v1alpha1.ClassRuntime) bool {
	return metav1.GetControllerOf(object) == nil &&
		object.GetLabels()[template.LabelOwner] == template.OwnerLabel(owner.Name)
}

// foreign says whose an object is when it is not ours to change, or "".
func foreign(object metav1.Object, owner *v1alpha1.ClassRuntime) string {
	if controlledBy(object, owner) || abandoned(object, owner) {
		return ""
	}
	if ref := metav1.GetControllerOf(object); ref != nil {
		return ref.Kind + " " + ref.Name
	}
	return "somebody else"
}
