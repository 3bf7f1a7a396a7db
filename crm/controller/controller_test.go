package controller_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/crm/controller"
	"oaas.io/control-plane/crm/controller/controllertest"
	"oaas.io/control-plane/crm/template"
	"oaas.io/control-plane/deploy/local"
	"oaas.io/control-plane/deploy/local/localtest"
)

func TestClassBecomesAvailableAndRests(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.Create(w.ClassOf("record-1", "echo:1", "echo:1"))
	object := w.Settled("record-1", v1alpha1.PhaseAvailable)

	for _, name := range []string{"record-1-fn-0", "record-1-fn-1"} {
		if ref := metav1.GetControllerOf(w.Deployment(name)); ref == nil || ref.UID != object.UID {
			t.Errorf("deployment %s is controlled by %v", name, ref)
		}
		if !w.Get(&corev1.Service{}, name) {
			t.Errorf("service %s is missing", name)
		}
	}
	if got := len(object.Status.ResourceRefs); got != 4 {
		t.Errorf("%d resource refs: %v", got, object.Status.ResourceRefs)
	}
	for _, f := range object.Status.Functions {
		if f.Ready == nil || !*f.Ready {
			t.Errorf("function %+v is not ready", f)
		}
	}
	if len(object.Finalizers) != 1 || object.Finalizers[0] != controller.Finalizer {
		t.Errorf("finalizers %v", object.Finalizers)
	}

	// Nothing is written while nothing changes, not even when asked to look.
	last, same := "", 0
	w.Eventually("the status rests", func() bool {
		version := w.Class("record-1").ResourceVersion
		if version != last {
			last, same = version, 0
		}
		same++
		return same == 20
	})
	applies := w.Counter("oaas_crm_child_applies_total")
	statuses, resting := w.Counter("oaas_crm_status_writes_total"), w.Class("record-1")
	services := w.serviceVersions()
	change(w, &appsv1.Deployment{}, "record-1-fn-0", func(d *appsv1.Deployment) {
		d.Labels["example.com/note"] = "of-somebody-else" // not ours, and wakes the controller
	})
	w.Eventually("the controller looked again", func() bool { return w.Counter("oaas_crm_child_applies_total") > applies })
	if got := w.Counter("oaas_crm_status_writes_total"); got != statuses {
		t.Errorf("%v status writes, were %v", got, statuses)
	}
	if diff := cmp.Diff(resting, w.Class("record-1")); diff != "" {
		t.Errorf("the class moved: %s", diff)
	}
	if got := w.serviceVersions(); got != services {
		t.Errorf("services moved from %s to %s", services, got)
	}
	if w.Deployment("record-1-fn-0").Labels["example.com/note"] == "" {
		t.Error("the label of somebody else was removed")
	}
}

func (w *world) serviceVersions() string {
	w.T.Helper()
	list := &corev1.ServiceList{}
	if err := w.Client.List(w.Context(), list, client.InNamespace(w.Namespace)); err != nil {
		w.T.Fatal(err)
	}
	versions := []string{}
	for _, s := range list.Items {
		versions = append(versions, s.Name+"@"+s.ResourceVersion)
	}
	return strings.Join(versions, " ")
}

func TestUpdateRollsAndPrunes(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.Create(w.ClassOf("record-1", "echo:1", "echo:1"))
	w.Settled("record-1", v1alpha1.PhaseAvailable)
	change(w, &v1alpha1.ClassRuntime{}, "record-1", func(c *v1alpha1.ClassRuntime) {
		c.Spec.Functions = c.Spec.Functions[:1]
		c.Spec.Functions[0].ProvisionConfig.ContainerImage = "echo:2"
	})
	w.Settled("record-1", v1alpha1.PhaseAvailable)
	if image := w.Deployment("record-1").Spec.Template.Spec.Containers[0].Image; image != "echo:2" {
		t.Errorf("image %s", image)
	}
	w.Eventually("what is no longer rendered is gone", func() bool {
		return !w.Get(&appsv1.Deployment{}, "record-1-fn-0") && !w.Get(&corev1.Service{}, "record-1-fn-1") &&
			len(w.Class("record-1").Status.ResourceRefs) == 2
	})
}

func TestDriftIsRepaired(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.Create(w.ClassOf("record-1", "echo:1"))
	w.Settled("record-1", v1alpha1.PhaseAvailable)

	t.Run("a deleted child comes back", func(t *testing.T) {
		before := w.Deployment("record-1").UID
		if err := w.Client.Delete(w.Context(), w.Deployment("record-1")); err != nil {
			t.Fatal(err)
		}
		w.Eventually("another deployment", func() bool {
			d := &appsv1.Deployment{}
			return w.Get(d, "record-1") && d.UID != before
		})
		w.Settled("record-1", v1alpha1.PhaseAvailable)
	})
	t.Run("an edited field is set again", func(*testing.T) {
		change(w, &appsv1.Deployment{}, "record-1", func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.Containers[0].Image = "edited:1"
		})
		w.Eventually("our image", func() bool {
			return w.Deployment("record-1").Spec.Template.Spec.Containers[0].Image == "echo:1"
		})
		change(w, &corev1.Service{}, "record-1", func(s *corev1.Service) {
			s.Spec.Ports[0].TargetPort = intstr.FromInt32(9)
		})
		w.Eventually("our port", func() bool {
			s := &corev1.Service{}
			return w.Get(s, "record-1") && s.Spec.Ports[0].TargetPort.IntValue() != 9
		})
		w.Settled("record-1", v1alpha1.PhaseAvailable)
	})
	t.Run("an edited number of a port is set back", func(t *testing.T) {
		change(w, &corev1.Service{}, "record-1", func(s *corev1.Service) { s.Spec.Ports[0].Port = 81 })
		s := &corev1.Service{}
		w.Eventually("our Service", func() bool { return w.Get(s, "record-1") && len(s.Spec.Ports) == 1 && s.Spec.Ports[0].Port == 80 })
		change(w, &appsv1.Deployment{}, "record-1", func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.Containers[0].Ports[0].ContainerPort = 81
		})
		w.Eventually("our port", func() bool {
			ports := w.Deployment("record-1").Spec.Template.Spec.Containers[0].Ports
			return len(ports) == 1 && ports[0].ContainerPort != 81
		})
		w.Settled("record-1", v1alpha1.PhaseAvailable)
		for _, o := range []client.Object{s, w.Deployment("record-1")} {
			if !w.Get(o, "record-1") {
				t.Fatal("gone")
			}
			for _, f := range o.GetManagedFields() {
				if f.Manager == "oaas-crm-repair" {
					t.Errorf("%T: fields of the repair are left: %s", o, f.FieldsV1.GetRawString())
				}
			}
		}
	})
	t.Run("replicas that somebody else sets are reported", func(t *testing.T) {
		change(w, &appsv1.Deployment{}, "record-1", func(d *appsv1.Deployment) { d.Spec.Replicas = ptr.To(int32(2)) })
		object := w.Degraded("record-1", v1alpha1.ReasonFieldConflict)
		if !strings.Contains(object.Status.Message, ".spec.replicas") {
			t.Errorf("message %q", object.Status.Message)
		}
		if got := *w.Deployment("record-1").Spec.Replicas; got != 2 {
			t.Errorf("replicas %d were taken away", got)
		}
	})
}

func TestForeignObjectIsLeftAlone(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.Create(&corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "record-1", Namespace: w.Namespace},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "mine"}, Ports: []corev1.ServicePort{{Port: 80}}},
	})
	w.Create(w.ClassOf("record-1", "echo:1"))
	w.Degraded("record-1", v1alpha1.ReasonNameTaken)
	service := &corev1.Service{}
	if !w.Get(service, "record-1") || service.Spec.Selector["app"] != "mine" || len(service.OwnerReferences) != 0 {
		t.Errorf("service %+v", service)
	}
	if err := w.Client.Delete(w.Context(), service); err != nil {
		t.Fatal(err)
	}
	w.Settled("record-1", v1alpha1.PhaseAvailable)
}

func TestFaultsDegradeAndHeal(t *testing.T) {
	t.Parallel()
	w := start(t)
	for name, tc := range map[string]struct {
		image, behavior string
		reason          v1alpha1.Reason
	}{
		"pull":  {"echo:missing", "", v1alpha1.ReasonImagePullFailed},
		"crash": {"echo:1", "crash-loop", v1alpha1.ReasonCrashLoop},
		"probe": {"echo:1", "not-ready", v1alpha1.ReasonProbeFailed},
	} {
		t.Run(name, func(t *testing.T) {
			object := w.ClassOf(name, tc.image)
			if tc.behavior != "" {
				object.Spec.Functions[0].Config = map[string]string{"SIM_BEHAVIOR": tc.behavior}
			}
			w.Create(object)
			got := w.Degraded(name, tc.reason)
			if got.Status.Phase != v1alpha1.PhaseDegraded || !strings.Contains(got.Status.Message, "Record.f0") {
				t.Errorf("phase %s message %q", got.Status.Phase, got.Status.Message)
			}
			change(w, &v1alpha1.ClassRuntime{}, name, func(c *v1alpha1.ClassRuntime) {
				c.Spec.Functions[0].ProvisionConfig.ContainerImage = "echo:2"
				c.Spec.Functions[0].Config = nil
			})
			w.Settled(name, v1alpha1.PhaseAvailable)
			w.Eventually("one event tells the fault", func() bool { return w.EventCount(name, tc.reason) == 1 })
		})
	}
}

func TestInvalidSpecSaysWhat(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.Create(w.ClassOf("record-1", ""))
	object := w.Degraded("record-1", v1alpha1.ReasonInvalidSpec)
	if !strings.Contains(object.Status.Message, "container_image") {
		t.Errorf("message %q", object.Status.Message)
	}
	w.Create(w.ClassOf("empty"))
	w.Settled("empty", v1alpha1.PhaseAvailable)
}

func TestDeletionWaitsForTheChildren(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.Create(w.ClassOf("record-1", "echo:1"))
	w.Settled("record-1", v1alpha1.PhaseAvailable)
	change(w, &corev1.Service{}, "record-1", func(s *corev1.Service) { s.Finalizers = []string{"example.com/hold"} })
	if err := w.Client.Delete(w.Context(), w.Class("record-1")); err != nil {
		t.Fatal(err)
	}
	w.Eventually("the deployment is gone", func() bool { return !w.Get(&appsv1.Deployment{}, "record-1") })
	object := w.Settled("record-1", v1alpha1.PhaseDeleting)
	if len(object.Finalizers) != 1 || !strings.Contains(object.Status.Message, "record-1") {
		t.Errorf("finalizers %v message %q", object.Finalizers, object.Status.Message)
	}
	change(w, &corev1.Service{}, "record-1", func(s *corev1.Service) { s.Finalizers = nil })
	w.Eventually("nothing is left", func() bool {
		pods := &corev1.PodList{}
		if err := w.Client.List(w.Context(), pods, client.InNamespace(w.Namespace)); err != nil {
			t.Fatal(err)
		}
		return !w.Get(&v1alpha1.ClassRuntime{}, "record-1") && !w.Get(&corev1.Service{}, "record-1") && len(pods.Items) == 0
	})
}

func TestRouterIsDiscovered(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.Create(w.ClassOf("record-1", "echo:1"))
	w.Settled("record-1", v1alpha1.PhaseAvailable)
	w.Create(&corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "zenoh", Namespace: w.Namespace, Labels: map[string]string{"app": "router", "platform": "oaas"}},
		Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "router"}, Ports: []corev1.ServicePort{
			{Name: "other", Port: 1}, {Name: "zenoh", Port: 7447},
		}},
	})
	w.Eventually("the router is in the status and in the pods", func() bool {
		routers := w.Class("record-1").Status.Routers
		found := false
		for _, env := range w.Deployment("record-1").Spec.Template.Spec.Containers[0].Env {
			found = found || env.Value == "tcp/zenoh:7447"
		}
		return found && len(routers) == 1 && routers[0] == v1alpha1.RouterStatus{Service: "zenoh", Port: 7447}
	})
}

// A child that oaas-rs left without an owner is taken over, not fought.
func TestAbandonedChildIsAdopted(t *testing.T) {
	t.Parallel()
	w := start(t)
	labels := map[string]string{"app": "record-1", template.LabelOwner: "record-1"}
	w.Create(&corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "record-1", Namespace: w.Namespace, Labels: labels},
		Spec:       corev1.ServiceSpec{Selector: labels, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(9)}}},
	})
	w.Create(w.ClassOf("record-1", "echo:1"))
	object := w.Settled("record-1", v1alpha1.PhaseAvailable)
	service := &corev1.Service{}
	if !w.Get(service, "record-1") || !metav1.IsControlledBy(service, object) {
		t.Errorf("service %+v", service.OwnerReferences)
	}
}

// While the API server is away nothing happens; when it is back, what was missed
// is made up for.
func TestAPIServerOutageHeals(t *testing.T) {
	t.Parallel()
	c := localtest.Own(t, local.Options{Name: "outage"})
	controllertest.Install(t, c)
	w := &world{controllertest.StartIn(t, c.RESTConfig(), localtest.Namespace(t, c))}
	w.Create(w.ClassOf("record-1", "echo:1"))
	w.Settled("record-1", v1alpha1.PhaseAvailable)
	if err := c.KillAPIServer(); err != nil {
		t.Fatal(err)
	}
	if err := c.RestartAPIServer(w.Context()); err != nil {
		t.Fatal(err)
	}
	w.Eventually("a change is stored", func() bool {
		object := &v1alpha1.ClassRuntime{}
		if err := w.Client.Get(w.Context(), client.ObjectKey{Namespace: w.Namespace, Name: "record-1"}, object); err != nil {
			return false
		}
		object.Spec.Functions[0].ProvisionConfig.ContainerImage = "echo:2"
		return w.Client.Update(w.Context(), object) == nil
	})
	w.Settled("record-1", v1alpha1.PhaseAvailable)
	if image := w.Deployment("record-1").Spec.Template.Spec.Containers[0].Image; image != "echo:2" {
		t.Errorf("image %s", image)
	}
}

// A class of very many functions says that it is being applied while it is.
func TestLargeClassTellsBeforeItIsDone(t *testing.T) {
	t.Parallel()
	w := start(t)
	images := make([]string, 40)
	for i := range images {
		images[i] = fmt.Sprintf("echo:%d", i+1)
	}
	seen := make(chan v1alpha1.Phase, 64)
	watched, err := client.NewWithWatch(controllertest.Cluster(t).RESTConfig(), client.Options{Scheme: controllertest.Scheme(t)})
	if err != nil {
		t.Fatal(err)
	}
	changes, err := watched.Watch(w.Context(), &v1alpha1.ClassRuntimeList{}, client.InNamespace(w.Namespace))
	if err != nil {
		t.Fatal(err)
	}
	var following sync.WaitGroup
	following.Go(func() {
		defer close(seen)
		last := v1alpha1.Phase("")
		for e := range changes.ResultChan() {
			if o, ok := e.Object.(*v1alpha1.ClassRuntime); ok && o.Status.Phase != last {
				last = o.Status.Phase
				seen <- last
			}
		}
	})
	w.Create(w.ClassOf("record-1", images...))
	w.Settled("record-1", v1alpha1.PhaseAvailable)
	changes.Stop()
	following.Wait()
	if first := <-seen; first != v1alpha1.PhaseApplying && first != v1alpha1.PhasePending {
		t.Errorf("the first phase is %q", first)
	}
}
