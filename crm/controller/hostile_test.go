package controller_test

import (
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/crm/controller/controllertest"
	"oaas.io/control-plane/deploy/local/gate"
	"oaas.io/control-plane/deploy/local/localtest"
)

// A Service of somebody else that shares no field with ours gives no conflict.
// It is left alone all the same, while the class lives and when it goes.
func TestForeignServiceWithoutConflictIsLeftAlone(t *testing.T) {
	t.Parallel()
	w := start(t)
	theirs := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "record-1", Namespace: w.Namespace}}
	theirs.Spec.Ports = []corev1.ServicePort{{Name: "theirs", Port: 9000}}
	w.Create(theirs)
	w.Create(w.ClassOf("record-1", "echo:1"))
	w.Degraded("record-1", v1alpha1.ReasonNameTaken)
	now := &corev1.Service{}
	if !w.Get(now, "record-1") || now.ResourceVersion != theirs.ResourceVersion {
		t.Errorf("the Service was changed: %+v", now)
	}
	if err := w.Client.Delete(w.Context(), w.Class("record-1")); err != nil {
		t.Fatal(err)
	}
	w.Eventually("the class is gone", func() bool { return !w.Get(&v1alpha1.ClassRuntime{}, "record-1") })
	if !w.Get(now, "record-1") || now.DeletionTimestamp != nil {
		t.Error("the Service of somebody else was deleted with the class")
	}
}

// A child that somebody else controls is told by its owner, not by what the API
// server says of two controllers.
func TestControlledForeignDeploymentIsNamed(t *testing.T) {
	t.Parallel()
	w := start(t)
	owner := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "owner", Namespace: w.Namespace}}
	w.Create(owner)
	yes := true
	theirs := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "record-1", Namespace: w.Namespace, OwnerReferences: []metav1.OwnerReference{{
		APIVersion: "v1", Kind: "ConfigMap", Name: owner.Name, UID: owner.UID, Controller: &yes,
	}}}}
	theirs.Spec.Ports = []corev1.ServicePort{{Name: "theirs", Port: 9000}}
	w.Create(theirs)
	w.Create(w.ClassOf("record-1", "echo:1"))
	object := w.Degraded("record-1", v1alpha1.ReasonNameTaken)
	if !strings.Contains(object.Status.Message, "ConfigMap owner") {
		t.Errorf("message %q", object.Status.Message)
	}
}

// A child that is larger than the cluster stores is a fault of the class, not an
// API server that is away: the user has to learn of it.
func TestChildTooLargeIsReported(t *testing.T) {
	t.Parallel()
	w := start(t)
	object := w.ClassOf("record-1", "echo:1")
	object.Spec.Addons = []string{"odgm"}
	// The object store is told the options once per collection.
	object.Spec.OdgmConfig = &v1alpha1.OdgmConfig{Options: map[string]string{"text": strings.Repeat("x", 50<<10)}}
	for i := range 40 {
		object.Spec.OdgmConfig.Collections = append(object.Spec.OdgmConfig.Collections, fmt.Sprintf("c%d", i))
	}
	w.Create(object)
	got := w.Degraded("record-1", v1alpha1.ReasonApplyRejected)
	if !strings.Contains(got.Status.Message, "record-1-odgm") {
		t.Errorf("message %q", got.Status.Message)
	}
}

// A status that somebody else wrote does not stay: what it says may never have
// been true.
func TestForeignStatusIsCorrected(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.Create(w.ClassOf("record-1", "echo:1"))
	w.Settled("record-1", v1alpha1.PhaseAvailable)
	change := func(object *v1alpha1.ClassRuntime) {
		object.Status.Phase = v1alpha1.PhaseDegraded
		for i := range object.Status.Conditions {
			if object.Status.Conditions[i].Type == v1alpha1.ConditionAvailable {
				object.Status.Conditions[i].Status = metav1.ConditionFalse
			}
		}
	}
	w.Eventually("somebody else writes the status", func() bool {
		object := w.Class("record-1")
		change(object)
		return w.Client.Status().Update(w.Context(), object) == nil
	})
	w.Eventually("the truth is written again", func() bool {
		status := w.Class("record-1").Status
		return status.Phase == v1alpha1.PhaseAvailable && v1alpha1.IsConditionTrue(status.Conditions, v1alpha1.ConditionAvailable)
	})
}

// Whoever takes the label from a child does not get it out of the class.
func TestChildWithoutLabelIsTakenBack(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.Create(w.ClassOf("record-1", "echo:1"))
	object := w.Settled("record-1", v1alpha1.PhaseAvailable)
	change(w, &appsv1.Deployment{}, "record-1", func(d *appsv1.Deployment) { delete(d.Labels, "oaas.io/owner") })
	w.Eventually("the label is back", func() bool {
		d := w.Deployment("record-1")
		return d.Labels["oaas.io/owner"] == "record-1" && metav1.IsControlledBy(d, object)
	})
	w.Settled("record-1", v1alpha1.PhaseAvailable)
}

// The object store goes when the class no longer wants it, and a child that is
// stuck in its deletion holds the class, not the manager.
func TestObjectStoreSwitchedOffAndStuckChild(t *testing.T) {
	t.Parallel()
	w := start(t)
	object := w.ClassOf("record-1", "echo:1")
	object.Spec.Addons = []string{"odgm"}
	w.Create(object)
	w.Settled("record-1", v1alpha1.PhaseAvailable)
	if !w.Get(&appsv1.Deployment{}, "record-1-odgm") {
		t.Fatal("no object store")
	}
	change(w, &v1alpha1.ClassRuntime{}, "record-1", func(c *v1alpha1.ClassRuntime) { c.Spec.Addons = []string{"none"} })
	w.Eventually("the object store is gone", func() bool {
		return !w.Get(&appsv1.Deployment{}, "record-1-odgm") && !w.Get(&corev1.Service{}, "record-1-odgm-svc")
	})
	change(w, &appsv1.Deployment{}, "record-1", func(d *appsv1.Deployment) { d.Finalizers = append(d.Finalizers, "example.com/hold") })
	if err := w.Client.Delete(w.Context(), w.Class("record-1")); err != nil {
		t.Fatal(err)
	}
	w.Eventually("the class says what it waits for", func() bool {
		c := w.Class("record-1")
		return c.Status.Phase == v1alpha1.PhaseDeleting && strings.Contains(c.Status.Message, "Deployment record-1")
	})
	change(w, &appsv1.Deployment{}, "record-1", func(d *appsv1.Deployment) { d.Finalizers = nil })
	w.Eventually("the class is gone", func() bool { return !w.Get(&v1alpha1.ClassRuntime{}, "record-1") })
	left := &corev1.ServiceList{}
	if err := w.Client.List(w.Context(), left, client.InNamespace(w.Namespace)); err != nil || len(left.Items) != 0 {
		t.Errorf("left: %v (%v)", left.Items, err)
	}
}

// A new child is one request: nothing is read before it, and yet nothing of anybody
// else is taken (the tests above).
func TestNewChildrenAreNotLookedUp(t *testing.T) {
	t.Parallel()
	c := controllertest.Cluster(t)
	counted, err := gate.Start(c.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := counted.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &world{controllertest.StartIn(t, counted.RESTConfig(), localtest.Namespace(t, c))}
	w.Create(w.ClassOf("record-1", "echo:1", "echo:2"))
	w.Settled("record-1", v1alpha1.PhaseAvailable)
	by := counted.Counts().ByRequest
	if by["apply deployments"] != 2 || by["apply services"] != 2 || by["get deployments"] != 0 || by["get services"] != 0 {
		t.Errorf("requests: %v", by)
	}
}
