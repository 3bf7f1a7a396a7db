package controller_test

import (
	"testing"

	"github.com/hashicorp/go-hclog"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/crm/controller"
	"oaas.io/control-plane/crm/template"
)

// A function with several pods has a budget that lets one of them be evicted at a time;
// it comes back when it is edited or deleted, and goes with the last but one pod.
func TestReplicatedFunctionHasABudget(t *testing.T) {
	t.Parallel()
	w := start(t, func(o *controller.Options) { o.Environment.Profile = "full" })
	object := w.ClassOf("record-1", "echo:1")
	object.Spec.SelectedTemplate = "k8s_deployment"
	object.Spec.Functions[0].ProvisionConfig.MinScale = ptr.To(uint32(3))
	w.Create(object)
	w.Settled("record-1", v1alpha1.PhaseAvailable)
	budget := &policyv1.PodDisruptionBudget{}
	w.Eventually("the budget counts the pods", func() bool {
		return w.Get(budget, "record-1") && budget.Status.DisruptionsAllowed == 1 && budget.Status.ExpectedPods == 3
	})
	if n := len(w.Deployment("record-1").Spec.Template.Spec.TopologySpreadConstraints); n != 2 {
		t.Errorf("%d spread constraints", n)
	}

	change(w, budget, "record-1", func(b *policyv1.PodDisruptionBudget) { b.Spec.MaxUnavailable = ptr.To(intstr.FromInt32(3)) })
	w.Eventually("our budget", func() bool { return w.Get(budget, "record-1") && budget.Spec.MaxUnavailable.IntValue() == 1 })
	before := budget.UID
	if err := w.Client.Delete(w.Context(), budget); err != nil {
		t.Fatal(err)
	}
	w.Eventually("another budget", func() bool {
		again := &policyv1.PodDisruptionBudget{}
		return w.Get(again, "record-1") && again.UID != before
	})

	change(w, &v1alpha1.ClassRuntime{}, "record-1", func(o *v1alpha1.ClassRuntime) {
		o.Spec.Functions[0].ProvisionConfig.MinScale = ptr.To(uint32(1))
	})
	w.Eventually("no budget for a single pod", func() bool { return !w.Get(&policyv1.PodDisruptionBudget{}, "record-1") })
	w.Settled("record-1", v1alpha1.PhaseAvailable)
}

// A namespace that enforces the strictest standard takes the pods of a manager that is
// told so, and of a class that says so. It refuses the others, and their class tells why.
func TestPodsOfARestrictedNamespace(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		manager template.PodSecurity
		class   string
		refused bool
	}{
		"the manager says so":           {manager: template.SecurityRestricted},
		"the class says so":             {class: "restricted"},
		"nobody says so":                {refused: true},
		"the class says the opposite":   {manager: template.SecurityRestricted, class: "none", refused: true},
		"the manager asks for too much": {manager: template.SecurityBaseline, refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, func(o *controller.Options) {
				o.Environment.Profile = "full"
				o.Environment.Pods = template.PodOptions{Security: c.manager, NodeSelector: map[string]string{"kubernetes.io/os": "linux"}}
			})
			namespace := &corev1.Namespace{}
			if err := w.Client.Get(w.Context(), client.ObjectKey{Name: w.Namespace}, namespace); err != nil {
				t.Fatal(err)
			}
			namespace.Labels["pod-security.kubernetes.io/enforce"] = "restricted"
			if err := w.Client.Update(w.Context(), namespace); err != nil {
				t.Fatal(err)
			}
			object := w.ClassOf("record-1", "echo:1")
			if c.class != "" {
				object.Spec.Pods = &v1alpha1.PodSettings{Security: c.class}
			}
			w.Create(object)
			if !c.refused {
				w.Settled("record-1", v1alpha1.PhaseAvailable)
				return
			}
			w.Degraded("record-1", v1alpha1.ReasonPodsRejected)
		})
	}
}

// A class whose network policy is switched on has one, which comes back when it is edited
// or deleted, and has none when it is switched off.
func TestNetworkPolicyComesAndGoes(t *testing.T) {
	t.Parallel()
	w := start(t, func(o *controller.Options) { o.Environment.Pods.NetworkFrom = []string{"gateways"} })
	object := w.ClassOf("record-1", "echo:1")
	object.Spec.Addons = nil // with the object store
	w.Create(object)
	w.Settled("record-1", v1alpha1.PhaseAvailable)
	policy := &networkingv1.NetworkPolicy{}
	if w.Get(policy, "record-1") {
		t.Error("a policy that nobody asked for")
	}

	change(w, &v1alpha1.ClassRuntime{}, "record-1", func(o *v1alpha1.ClassRuntime) {
		o.Spec.Pods = &v1alpha1.PodSettings{NetworkPolicy: "namespace"}
	})
	w.Settled("record-1", v1alpha1.PhaseAvailable)
	for name, ports := range map[string]int{"record-1": 1, "record-1-odgm": 2} {
		if !w.Get(policy, name) || len(policy.Spec.Ingress) != 1 || len(policy.Spec.Ingress[0].Ports) != ports || len(policy.Spec.Ingress[0].From) != 2 {
			t.Errorf("policy of %s: %+v", name, policy.Spec)
		}
	}
	change(w, policy, "record-1", func(p *networkingv1.NetworkPolicy) { p.Spec.Ingress = nil })
	w.Eventually("our policy", func() bool { return w.Get(policy, "record-1") && len(policy.Spec.Ingress) == 1 })
	before := policy.UID
	if err := w.Client.Delete(w.Context(), policy); err != nil {
		t.Fatal(err)
	}
	w.Eventually("another policy", func() bool {
		again := &networkingv1.NetworkPolicy{}
		return w.Get(again, "record-1") && again.UID != before
	})

	change(w, &v1alpha1.ClassRuntime{}, "record-1", func(o *v1alpha1.ClassRuntime) { o.Spec.Pods = nil })
	w.Eventually("no policies", func() bool {
		return !w.Get(&networkingv1.NetworkPolicy{}, "record-1") && !w.Get(&networkingv1.NetworkPolicy{}, "record-1-odgm")
	})
	w.Settled("record-1", v1alpha1.PhaseAvailable)
}

// rollingStore is an object store as oaas-rs left it.
func (w *world) rollingStore() *appsv1.Deployment {
	w.T.Helper()
	labels := map[string]string{"app": "record-1-odgm", "oaas.io/owner": "record-1", "oaas.io/class": "example.Record"}
	store := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "record-1-odgm", Namespace: w.Namespace, Labels: labels},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "odgm", Image: "odgm:1"}}},
			},
		},
	}
	w.Create(store)
	if store.Spec.Strategy.RollingUpdate == nil {
		w.T.Fatal("the API server gives no parameters any more, and the test shows nothing")
	}
	return store
}

// An object store of oaas-rs rolls. It is taken over as it is, and from then on the old pod
// goes before the new one comes; so it is again when somebody changes that.
func TestObjectStoreIsNeverThereTwice(t *testing.T) {
	t.Parallel()
	w := start(t)
	old := w.rollingStore()
	object := w.ClassOf("record-1", "echo:1")
	object.Spec.Addons = nil
	w.Create(object)
	w.Settled("record-1", v1alpha1.PhaseAvailable)
	taken := w.Deployment("record-1-odgm")
	if taken.UID != old.UID || taken.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType {
		t.Errorf("the same object: %v, strategy %+v", taken.UID == old.UID, taken.Spec.Strategy)
	}

	change(w, &appsv1.Deployment{}, "record-1-odgm", func(d *appsv1.Deployment) {
		d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType}
	})
	w.Eventually("our strategy", func() bool {
		return w.Deployment("record-1-odgm").Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType
	})
	w.Settled("record-1", v1alpha1.PhaseAvailable)

	// It is not scaled: the pods would be one and the same node.
	w.scaleAs("kubectl", "record-1-odgm", 3)
	w.Eventually("one pod", func() bool {
		return ptr.Deref(w.Deployment("record-1-odgm").Spec.Replicas, 1) == 1 && len(w.storePods()) == 1
	})
	w.Settled("record-1", v1alpha1.PhaseAvailable)

	// A change of its configuration is a change of its pod.
	before := w.storePods()
	if len(before) != 1 {
		t.Fatalf("%d pods", len(before))
	}
	change(w, &v1alpha1.ClassRuntime{}, "record-1", func(o *v1alpha1.ClassRuntime) {
		o.Spec.OdgmConfig = &v1alpha1.OdgmConfig{NodeID: ptr.To(v1alpha1.NodeID(7))}
	})
	w.Eventually("another pod, and never two", func() bool {
		now := w.storePods()
		if len(now) > 1 {
			t.Fatalf("%d pods of one node", len(now))
		}
		return len(now) == 1 && now[0].UID != before[0].UID
	})
	w.Settled("record-1", v1alpha1.PhaseAvailable)
}

func (w *world) storePods() []corev1.Pod {
	w.T.Helper()
	list := &corev1.PodList{}
	if err := w.Client.List(w.Context(), list, client.InNamespace(w.Namespace), client.MatchingLabels{"app": "record-1-odgm"}); err != nil {
		w.T.Fatal(err)
	}
	return list.Items
}

// A preview of the take-over tells of a change that nothing stands against.
func TestPreviewOfAnObjectStoreThatRolls(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.rollingStore()
	previewer, err := controller.NewPreviewer(w.Cached, w.Client, controller.Options{
		Namespace: w.Namespace, Environment: template.Environment{Profile: "dev"}, Logger: hclog.NewNullLogger(),
	})
	if err != nil {
		t.Fatal(err)
	}
	object := w.ClassOf("record-1", "echo:1")
	object.Spec.Addons = nil
	w.Eventually("the cache knows the object store", func() bool {
		list := &appsv1.DeploymentList{}
		return w.Cached.List(w.Context(), list, client.InNamespace(w.Namespace)) == nil && len(list.Items) == 1
	})
	preview, err := previewer.Preview(w.Context(), object)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, c := range preview.Children {
		if c.Kind == "Deployment" && c.Name == "record-1-odgm" {
			found = true
			if c.Change != controller.ChangeUpdate || c.Fault != nil {
				t.Errorf("%s: %+v", c.Change, c.Fault)
			}
		}
	}
	if !found {
		t.Errorf("no object store among %+v", preview.Children)
	}
	if w.Deployment("record-1-odgm").Spec.Strategy.RollingUpdate == nil {
		t.Error("the preview changed the strategy")
	}
}
