package controller

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/crm/template"
)

// A function with several pods has a budget that lets one of them be evicted at a time;
// it comes back when it is edited or deleted, and goes with the last but one pod.
func TestReplicatedFunctionHasABudget(t *testing.T) {
	t.Parallel()
	w := start(t, func(o *Options) { o.Environment.Profile = "full" })
	object := w.classOf("record-1", "echo:1")
	object.Spec.SelectedTemplate = "k8s_deployment"
	object.Spec.Functions[0].ProvisionConfig.MinScale = ptr.To(uint32(3))
	w.create(object)
	w.settled("record-1", v1alpha1.PhaseAvailable)
	budget := &policyv1.PodDisruptionBudget{}
	w.eventually("the budget counts the pods", func() bool {
		return w.get(budget, "record-1") && budget.Status.DisruptionsAllowed == 1 && budget.Status.ExpectedPods == 3
	})
	if n := len(w.deployment("record-1").Spec.Template.Spec.TopologySpreadConstraints); n != 2 {
		t.Errorf("%d spread constraints", n)
	}

	change(w, budget, "record-1", func(b *policyv1.PodDisruptionBudget) { b.Spec.MaxUnavailable = ptr.To(intstr.FromInt32(3)) })
	w.eventually("our budget", func() bool { return w.get(budget, "record-1") && budget.Spec.MaxUnavailable.IntValue() == 1 })
	before := budget.UID
	if err := w.client.Delete(w.ctx(), budget); err != nil {
		t.Fatal(err)
	}
	w.eventually("another budget", func() bool {
		again := &policyv1.PodDisruptionBudget{}
		return w.get(again, "record-1") && again.UID != before
	})

	change(w, &v1alpha1.ClassRuntime{}, "record-1", func(o *v1alpha1.ClassRuntime) {
		o.Spec.Functions[0].ProvisionConfig.MinScale = ptr.To(uint32(1))
	})
	w.eventually("no budget for a single pod", func() bool { return !w.get(&policyv1.PodDisruptionBudget{}, "record-1") })
	w.settled("record-1", v1alpha1.PhaseAvailable)
}

// A namespace that enforces the strictest standard takes the pods of a manager that is
// told so, and refuses those of one that is not.
func TestPodsOfARestrictedNamespace(t *testing.T) {
	t.Parallel()
	w := start(t, func(o *Options) {
		o.Environment.Pods = template.PodOptions{Security: template.SecurityRestricted, NodeSelector: map[string]string{"kubernetes.io/os": "linux"}}
	})
	namespace := &corev1.Namespace{}
	if err := w.client.Get(w.ctx(), client.ObjectKey{Name: w.namespace}, namespace); err != nil {
		t.Fatal(err)
	}
	namespace.Labels["pod-security.kubernetes.io/enforce"] = "restricted"
	if err := w.client.Update(w.ctx(), namespace); err != nil {
		t.Fatal(err)
	}
	w.create(w.classOf("record-1", "echo:1"))
	w.settled("record-1", v1alpha1.PhaseAvailable)

	bare := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "bare", Namespace: w.namespace},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "echo:1"}}},
	}
	if err := w.client.Create(w.ctx(), bare); !apierrors.IsForbidden(err) {
		t.Errorf("the namespace enforces nothing: %v", err)
	}
}
