package controller_test

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/crm/controller"
	"oaas.io/control-plane/crm/controller/controllertest"
	"oaas.io/control-plane/crm/template"
)

func scaling(o *controller.Options) { o.Environment.HPA = true }

// autoscalerManager is the field manager of Kubernetes' own autoscaler, written out as the
// cluster has it.
const autoscalerManager = "kube-controller-manager"

// scaleAs writes the scale subresource as a field manager does.
func (w *world) scaleAs(manager, name string, replicas int32) {
	w.T.Helper()
	w.Eventually("scale "+name, func() bool {
		d := w.Deployment(name)
		scale := &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: w.Namespace}, Spec: autoscalingv1.ScaleSpec{Replicas: replicas}}
		return w.Client.SubResource("scale").Update(w.Context(), d, client.WithSubResourceBody(scale), client.FieldOwner(manager)) == nil
	})
}

// seenReplicas follows a Deployment and returns all numbers of replicas that it was ever
// told to have, in their order.
func (w *world) seenReplicas(name string) func() []int32 {
	w.T.Helper()
	watching, err := client.NewWithWatch(controllertest.Cluster(w.T).RESTConfig(), client.Options{Scheme: w.Client.Scheme()})
	if err != nil {
		w.T.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	events, err := watching.Watch(ctx, &appsv1.DeploymentList{}, client.InNamespace(w.Namespace), client.MatchingFields{"metadata.name": name})
	if err != nil {
		cancel()
		w.T.Fatal(err)
	}
	var mu sync.Mutex
	var seen []int32
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for event := range events.ResultChan() {
			if d, ok := event.Object.(*appsv1.Deployment); ok {
				mu.Lock()
				if n := ptr.Deref(d.Spec.Replicas, 1); len(seen) == 0 || seen[len(seen)-1] != n {
					seen = append(seen, n)
				}
				mu.Unlock()
			}
		}
	}()
	w.T.Cleanup(func() {
		cancel()
		events.Stop()
		<-ended
	})
	return func() []int32 {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(seen)
	}
}

func (w *world) autoscaler(name string) *autoscalingv2.HorizontalPodAutoscaler {
	w.T.Helper()
	a := &autoscalingv2.HorizontalPodAutoscaler{}
	w.Eventually("autoscaler "+name, func() bool { return w.Get(a, name) })
	return a
}

// An autoscaler gets a running class's replicas as they are, scales it without a word
// from the templates, and leaves behind what it decided.
func TestReplicasAreHandedOverAndBack(t *testing.T) {
	t.Parallel()
	w := start(t, scaling)
	w.Create(w.ScaledClass("record-1", 4, 0))
	w.Settled("record-1", v1alpha1.PhaseAvailable)
	seen := w.seenReplicas("record-1")

	bound := func(least, most uint32) {
		change(w, &v1alpha1.ClassRuntime{}, "record-1", func(o *v1alpha1.ClassRuntime) { controllertest.SetBounds(o, least, most) })
	}
	bound(2, 6)
	a := w.autoscaler("record-1")
	if *a.Spec.MinReplicas != 2 || a.Spec.MaxReplicas != 6 || *a.Spec.Metrics[0].Resource.Target.AverageUtilization != 80 {
		t.Errorf("autoscaler %+v", a.Spec)
	}
	w.Settled("record-1", v1alpha1.PhaseAvailable)

	w.scaleAs(autoscalerManager, "record-1", 5)
	w.Eventually("5 pods", func() bool { return w.Deployment("record-1").Status.AvailableReplicas == 5 })
	change(w, &v1alpha1.ClassRuntime{}, "record-1", func(o *v1alpha1.ClassRuntime) {
		o.Spec.Functions[0].ProvisionConfig.ContainerImage = "echo:2"
	})
	w.Settled("record-1", v1alpha1.PhaseAvailable)

	bound(2, 0)
	w.Eventually("no autoscaler", func() bool { return !w.Get(&autoscalingv2.HorizontalPodAutoscaler{}, "record-1") })
	w.Settled("record-1", v1alpha1.PhaseAvailable)
	w.Eventually("4 replicas, then 5, and nothing else", func() bool { return slices.Equal(seen(), []int32{4, 5}) })

	bound(3, 0)
	w.Eventually("3 replicas, as the spec says", func() bool {
		d := w.Deployment("record-1")
		_, noted := d.Annotations[controller.AnnotationKept]
		return ptr.Deref(d.Spec.Replicas, 1) == 3 && !noted
	})
	w.Settled("record-1", v1alpha1.PhaseAvailable)
	bound(2, 0)
	w.Eventually("2 replicas", func() bool { return ptr.Deref(w.Deployment("record-1").Spec.Replicas, 1) == 2 })
	w.Eventually("4, 5, 3 and 2 replicas", func() bool { return slices.Equal(seen(), []int32{4, 5, 3, 2}) })
	// What a person scales by hand is still reported and not fought over.
	w.Settled("record-1", v1alpha1.PhaseAvailable)
	w.scaleAs("kubectl", "record-1", 7)
	w.Degraded("record-1", v1alpha1.ReasonFieldConflict)
}

// A class whose bounds narrow gives up what is beyond them at once, with and without an
// autoscaler.
func TestScaleBoundsAreKept(t *testing.T) {
	t.Parallel()
	w := start(t, scaling)
	w.Create(w.ScaledClass("record-1", 3, 8))
	w.Settled("record-1", v1alpha1.PhaseAvailable)
	if n := ptr.Deref(w.Deployment("record-1").Spec.Replicas, 1); n != 3 {
		t.Errorf("%d replicas at first", n)
	}
	w.scaleAs(autoscalerManager, "record-1", 8)
	change(w, &v1alpha1.ClassRuntime{}, "record-1", func(o *v1alpha1.ClassRuntime) { controllertest.SetBounds(o, 2, 4) })
	w.Eventually("4 replicas", func() bool { return ptr.Deref(w.Deployment("record-1").Spec.Replicas, 1) == 4 })
	change(w, &v1alpha1.ClassRuntime{}, "record-1", func(o *v1alpha1.ClassRuntime) { controllertest.SetBounds(o, 2, 2) })
	w.Eventually("2 replicas", func() bool { return ptr.Deref(w.Deployment("record-1").Spec.Replicas, 1) == 2 })

	enforced := w.ScaledClass("record-2", 2, 5)
	enforced.Spec.Functions[0].ProvisionConfig.MaxScale = nil
	enforced.Spec.Enforcement = &v1alpha1.Enforcement{Mode: "enforce", Dimensions: []string{"replicas"}}
	w.Create(enforced)
	w.Settled("record-2", v1alpha1.PhaseAvailable)
	if n := ptr.Deref(w.Deployment("record-2").Spec.Replicas, 1); n != 2 {
		t.Errorf("%d enforced replicas at first", n)
	}
	w.scaleAs("enforcer", "record-2", 6)
	w.Eventually("6 pods", func() bool { return w.Deployment("record-2").Status.AvailableReplicas == 6 })
	w.scaleAs("enforcer", "record-2", 0)
	w.Eventually("2 replicas", func() bool { return ptr.Deref(w.Deployment("record-2").Spec.Replicas, 1) == 2 })
	w.Settled("record-2", v1alpha1.PhaseAvailable)
}

// Pods beyond the fewest come and go without a word, and cost no write but the counts in
// the status.
func TestScalingIsNoRollout(t *testing.T) {
	t.Parallel()
	w := start(t, scaling)
	w.Create(w.ScaledClass("record-1", 1, 9))
	object := w.Settled("record-1", v1alpha1.PhaseAvailable)
	since := v1alpha1.FindCondition(object.Status.Conditions, v1alpha1.ConditionReady).LastTransitionTime
	w.Eventually("the function tells of its autoscaler", func() bool {
		f := w.Class("record-1").Status.Functions[0]
		return *f.Ready && f.Reason == v1alpha1.ReasonAutoscalingUnavailable
	})
	applies := w.Applies("applied")
	for _, n := range []int32{6, 2, 9} {
		w.scaleAs(autoscalerManager, "record-1", n)
		w.Eventually("the status counts the pods", func() bool {
			f := w.Class("record-1").Status.Functions[0]
			return *f.ReadyReplicas == n && *f.DesiredReplicas == n
		})
	}
	object = w.Class("record-1")
	if again := v1alpha1.FindCondition(object.Status.Conditions, v1alpha1.ConditionReady).LastTransitionTime; !again.Equal(since) {
		t.Errorf("Ready changed at %v", again)
	}
	if n := w.EventCount("record-1", v1alpha1.ReasonReady); n != 1 {
		t.Errorf("%d events Ready", n)
	}
	if n := w.Applies("applied"); n != applies {
		t.Errorf("%v children were applied again", n-applies)
	}
}

// Where somebody else scales a Deployment we do not, whatever the bounds say.
func TestForeignAutoscalerIsLeftInCharge(t *testing.T) {
	t.Parallel()
	w := start(t, scaling)
	w.Create(w.ScaledClass("record-1", 2, 6))
	w.Settled("record-1", v1alpha1.PhaseAvailable)
	w.autoscaler("record-1")
	foreign := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Name: "keda-hpa", Namespace: w.Namespace}}
	foreign.Spec.ScaleTargetRef = autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "record-1"}
	foreign.Spec.MinReplicas, foreign.Spec.MaxReplicas = ptr.To(int32(1)), 20
	w.Create(foreign)
	w.Eventually("our autoscaler is gone", func() bool { return !w.Get(&autoscalingv2.HorizontalPodAutoscaler{}, "record-1") })
	w.scaleAs("keda", "record-1", 12)
	w.Eventually("12 pods", func() bool { return w.Deployment("record-1").Status.AvailableReplicas == 12 })
	w.Settled("record-1", v1alpha1.PhaseAvailable)
	if n := ptr.Deref(w.Deployment("record-1").Spec.Replicas, 1); n != 12 {
		t.Errorf("%d replicas", n)
	}
	if err := w.Client.Delete(w.Context(), foreign); err != nil {
		t.Fatal(err)
	}
	w.autoscaler("record-1")
	w.Eventually("6 replicas", func() bool { return ptr.Deref(w.Deployment("record-1").Spec.Replicas, 1) == 6 })
}

// A manager that is told to use no autoscalers removes those that it made.
func TestAutoscalingOffForTheCluster(t *testing.T) {
	t.Parallel()
	w := start(t, scaling)
	w.Create(w.ScaledClass("record-1", 2, 6))
	w.Settled("record-1", v1alpha1.PhaseAvailable)
	w.scaleAs(autoscalerManager, "record-1", 5)
	w.Eventually("5 pods", func() bool { return w.Deployment("record-1").Status.AvailableReplicas == 5 })
	seen := w.seenReplicas("record-1")
	w.Restart(func(o *controller.Options) { o.Environment.HPA = false })
	w.Eventually("no autoscaler", func() bool { return !w.Get(&autoscalingv2.HorizontalPodAutoscaler{}, "record-1") })
	w.Settled("record-1", v1alpha1.PhaseAvailable)
	if got := seen(); !slices.Equal(got, []int32{5}) {
		t.Errorf("replicas %v, want 5 all the time", got)
	}
	// Of a number that is kept, what is beyond the bounds goes, and no more.
	change(w, &v1alpha1.ClassRuntime{}, "record-1", func(o *v1alpha1.ClassRuntime) { controllertest.SetBounds(o, 2, 4) })
	w.Eventually("5 replicas, then 4", func() bool { return slices.Equal(seen(), []int32{5, 4}) })
	w.Settled("record-1", v1alpha1.PhaseAvailable)
	w.Restart(scaling)
	w.autoscaler("record-1")
	w.Settled("record-1", v1alpha1.PhaseAvailable)
	if got := seen(); !slices.Equal(got, []int32{5, 4}) {
		t.Errorf("replicas %v, want 5 and then 4", got)
	}
}

// What an autoscaler of somebody else decided stays when it goes, also for a class that
// has no room for one of ours.
func TestForeignAutoscalerLeavesItsReplicas(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.Create(w.ScaledClass("record-1", 2, 0))
	w.Settled("record-1", v1alpha1.PhaseAvailable)
	foreign := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Name: "theirs", Namespace: w.Namespace}}
	foreign.Spec.ScaleTargetRef = autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "record-1"}
	foreign.Spec.MinReplicas, foreign.Spec.MaxReplicas = ptr.To(int32(1)), 20
	w.Create(foreign)
	w.scaleAs(autoscalerManager, "record-1", 6)
	w.Eventually("6 pods", func() bool { return w.Deployment("record-1").Status.AvailableReplicas == 6 })
	seen := w.seenReplicas("record-1")
	if err := w.Client.Delete(w.Context(), foreign); err != nil {
		t.Fatal(err)
	}
	w.Eventually("the number is kept", func() bool {
		_, noted := w.Deployment("record-1").Annotations[controller.AnnotationKept]
		return noted
	})
	change(w, &v1alpha1.ClassRuntime{}, "record-1", func(o *v1alpha1.ClassRuntime) {
		o.Spec.Functions[0].ProvisionConfig.ContainerImage = "echo:2"
	})
	w.Settled("record-1", v1alpha1.PhaseAvailable)
	if got := seen(); !slices.Equal(got, []int32{6}) {
		t.Errorf("replicas %v, want 6 all the time", got)
	}
}

func TestReplicasClamp(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		least, most, n, want int32
	}{{1, 0, 7, 7}, {2, 0, 1, 2}, {2, 5, 9, 5}, {2, 5, 0, 2}, {0, 5, 0, 0}} {
		r := template.Replicas{Min: test.least, Max: test.most}
		if got := r.Clamp(test.n); got != test.want {
			t.Errorf("%d within %d..%d: %d, want %d", test.n, test.least, test.most, got, test.want)
		}
	}
}

// A preview of a class that an autoscaler scales has nothing against it, whether it is new
// or ran with a fixed number before.
func TestPreviewOfAutoscaledClasses(t *testing.T) {
	t.Parallel()
	w := start(t, scaling)
	previewer, err := controller.NewPreviewer(w.Cached, w.Client, controller.Options{
		Namespace: w.Namespace, Environment: template.Environment{Profile: "dev", HPA: true}, Logger: hclog.NewNullLogger(),
	})
	if err != nil {
		t.Fatal(err)
	}
	w.Create(w.ScaledClass("fixed", 3, 0))
	fixed := w.Settled("fixed", v1alpha1.PhaseAvailable)
	controllertest.SetBounds(fixed, 2, 5)
	w.Eventually("the cache has the Deployment", func() bool {
		return w.Cached.Get(w.Context(), client.ObjectKey{Namespace: w.Namespace, Name: "fixed"}, &appsv1.Deployment{}) == nil
	})
	for object, want := range map[*v1alpha1.ClassRuntime]controller.Change{w.ScaledClass("fresh", 2, 5): controller.ChangeCreate, fixed: controller.ChangeUpdate} {
		preview, err := previewer.Preview(w.Context(), object)
		if err != nil {
			t.Fatal(err)
		}
		kinds := map[string]controller.Change{}
		for _, c := range preview.Children {
			kinds[c.Kind] = c.Change
			if c.Fault != nil {
				t.Errorf("%s: %s %s: %+v", object.Name, c.Kind, c.Name, c.Fault)
			}
		}
		if kinds["HorizontalPodAutoscaler"] != controller.ChangeCreate || kinds["Deployment"] != want {
			t.Errorf("%s: %v", object.Name, kinds)
		}
	}
	if n := ptr.Deref(w.Deployment("fixed").Spec.Replicas, 1); n != 3 {
		t.Errorf("the preview left %d replicas", n)
	}
}
