package knativetest

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/hashicorp/go-hclog"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/crm/controller"
	"oaas.io/control-plane/crm/controller/controllertest"
	"oaas.io/control-plane/crm/presence"
	"oaas.io/control-plane/deploy/local"
	"oaas.io/control-plane/deploy/local/localtest"
	"oaas.io/control-plane/deploy/local/serving"
)

func TestMain(m *testing.M) {
	ctrllog.SetLogger(logr.Discard())
	localtest.Main(m)
}

// knativeWorld is a controller that looks out for Knative, and Knative itself, which
// comes and goes.
type knativeWorld struct {
	*controllertest.World
	opts    serving.Options
	serving *serving.Serving
	options func(*controller.Options)
}

func startWithKnative(t *testing.T) *knativeWorld {
	t.Helper()
	c := controllertest.Cluster(t)
	watcher, err := presence.New(c.RESTConfig(), presence.Options{
		APIs: map[presence.API]time.Duration{presence.KnativeServices: 100 * time.Millisecond}, Logger: hclog.NewNullLogger(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		watcher.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	binaries, err := local.BuildKnative(t.Context(), local.BuildOptions{Progress: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	w := &knativeWorld{opts: serving.Options{Cluster: c, Binaries: binaries, Dir: t.TempDir()}}
	w.options = func(o *controller.Options) {
		o.Presence, o.Environment.Profile, o.Environment.HPA = watcher, "full", true
	}
	w.World = controllertest.Start(t, w.options)
	t.Cleanup(w.removeKnative)
	return w
}

func (w *knativeWorld) installKnative() {
	w.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), controllertest.Patience)
	defer cancel()
	var err error
	if w.serving, err = serving.Install(ctx, w.opts); err != nil {
		w.T.Fatal(err)
	}
}

func (w *knativeWorld) removeKnative() {
	w.T.Helper()
	if w.serving == nil {
		return
	}
	if err := w.serving.Err(); err != nil {
		w.T.Error(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*controllertest.Patience)
	defer cancel()
	if err := w.serving.Remove(ctx); err != nil {
		w.T.Error(err)
	}
	w.serving = nil
}

func (w *knativeWorld) service(name string) *servingv1.Service {
	w.T.Helper()
	s := &servingv1.Service{}
	if !w.Get(s, name) {
		w.T.Fatalf("no Knative Service %s", name)
	}
	return s
}

// traffic asks for that many pods of a revision.
func (w *knativeWorld) traffic(revision string, pods int) {
	w.T.Helper()
	if err := w.serving.Scale(w.Context(), w.Namespace, revision, pods); err != nil {
		w.T.Fatal(err)
	}
}

func (w *knativeWorld) pods(service string) int {
	w.T.Helper()
	list := &corev1.PodList{}
	if err := w.Client.List(w.Context(), list, client.InNamespace(w.Namespace), client.MatchingLabels{"serving.knative.dev/service": service}); err != nil {
		w.T.Fatal(err)
	}
	return len(list.Items)
}

// step is a part of a test that fails by itself.
func (w *knativeWorld) step(name string, do func(*testing.T)) {
	whole := w.T
	defer func() { w.T = whole }()
	whole.Run(name, func(t *testing.T) {
		w.T = t
		do(t)
	})
}

// TestKnative goes through what Knative's own reconcilers make of classes. It is one test
// because the API is the cluster's.
func TestKnative(t *testing.T) {
	t.Parallel()
	w := startWithKnative(t)

	// Without the API a class that asks for it says so, and one that leaves the choice to
	// the manager runs as Deployments.
	asking := w.ClassOf("asking", "echo:1")
	asking.Spec.SelectedTemplate = "kn"
	asking.Spec.Functions[0].ProvisionConfig.MinScale = nil // to zero without calls
	w.Create(asking)
	w.Create(w.ClassOf("plain", "echo:1"))
	object := w.Degraded("asking", v1alpha1.ReasonCapabilityMissing)
	if !strings.Contains(object.Status.Message, "Knative Serving") {
		t.Errorf("message %q", object.Status.Message)
	}
	if object = w.Settled("plain", v1alpha1.PhaseAvailable); object.Status.Template != "k8s_deployment" {
		t.Errorf("plain runs with %s", object.Status.Template)
	}

	w.installKnative()
	object = w.Settled("asking", v1alpha1.PhaseAvailable)
	f := object.Status.Functions[0]
	if f.ObservedURL != "http://asking."+w.Namespace+".svc.cluster.local" || f.Template != "knative" || !*f.Ready || f.ReadyReplicas != nil {
		t.Errorf("function %+v", f)
	}
	if !slices.ContainsFunc(object.Status.ResourceRefs, func(r v1alpha1.ResourceRef) bool {
		return r.Kind == "Service" && r.APIVersion == "serving.knative.dev/v1" && r.Name == "asking"
	}) {
		t.Errorf("refs %+v", object.Status.ResourceRefs)
	}

	w.step("what runs stays, what is new is chosen anew", func(t *testing.T) {
		w.Create(w.ClassOf("chosen", "echo:1", "echo:2"))
		if object := w.Settled("chosen", v1alpha1.PhaseAvailable); object.Status.Template != "knative" {
			t.Errorf("chosen runs with %s", object.Status.Template)
		}
		if object := w.Class("plain"); object.Status.Template != "k8s_deployment" || object.Status.Phase != v1alpha1.PhaseAvailable {
			t.Errorf("plain: %s, %s", object.Status.Template, object.Status.Phase)
		}
	})

	w.step("to zero and back", func(t *testing.T) {
		w.traffic("asking-00001", 0)
		w.Eventually("no pods", func() bool { return w.pods("asking") == 0 })
		if object := w.Class("asking"); object.Status.Phase != v1alpha1.PhaseAvailable || !*object.Status.Functions[0].Ready {
			t.Errorf("without pods: %+v", object.Status)
		}
		w.traffic("asking-00001", 2)
		w.Eventually("two pods", func() bool { return w.pods("asking") == 2 })
		w.Settled("asking", v1alpha1.PhaseAvailable)
	})

	// By now the garbage collector has learned the kinds of Knative: before, what belongs
	// to a Service that is deleted stays and keeps the next one from its names.
	w.step("drift", func(t *testing.T) {
		s := &servingv1.Service{}
		controllertest.Change(w.World, s, "chosen-fn-0", func(s *servingv1.Service) {
			s.Labels["app"], s.Labels["theirs"] = "other", "kept"
			s.Spec.Template.Spec.Containers[0].Image = "other:1"
		})
		w.Eventually("the Service is as rendered", func() bool {
			s := w.service("chosen-fn-0")
			return s.Labels["app"] == "chosen-fn-0" && s.Labels["theirs"] == "kept" && s.Spec.Template.Spec.Containers[0].Image == "echo:1"
		})
		before := w.service("chosen-fn-1")
		if err := w.Client.Delete(w.Context(), before); err != nil {
			t.Fatal(err)
		}
		w.Eventually("the Service is back", func() bool {
			s := &servingv1.Service{}
			return w.Get(s, "chosen-fn-1") && s.UID != before.UID && s.IsReady()
		})
		w.Settled("chosen", v1alpha1.PhaseAvailable)
	})

	w.step("scale bounds", func(t *testing.T) {
		w.Create(w.ScaledClass("bounded", 2, 3))
		w.Settled("bounded", v1alpha1.PhaseAvailable)
		w.Eventually("two pods", func() bool { return w.pods("bounded") == 2 })
		w.traffic("bounded-00001", 9)
		w.Eventually("three pods", func() bool { return w.pods("bounded") == 3 })
		if w.Get(&autoscalingv2.HorizontalPodAutoscaler{}, "bounded") {
			t.Error("two autoscalers")
		}
	})

	w.step("a revision that Knative gives up on", func(t *testing.T) {
		broken := w.ClassOf("broken", "echo:1")
		broken.Spec.SelectedTemplate = "knative"
		w.Create(broken)
		w.Settled("broken", v1alpha1.PhaseAvailable)
		controllertest.Change(w.World, &v1alpha1.ClassRuntime{}, "broken", func(o *v1alpha1.ClassRuntime) {
			o.Spec.Functions[0].ProvisionConfig.ContainerImage = "echo:missing" // there is no such tag to resolve
		})
		object := w.Degraded("broken", v1alpha1.ReasonKnativeFailed)
		if !*object.Status.Functions[0].Ready || !v1alpha1.IsConditionTrue(object.Status.Conditions, v1alpha1.ConditionAvailable) {
			t.Errorf("the first revision does not serve: %+v", object.Status)
		}
		if !strings.Contains(object.Status.Message, "broken-00002") {
			t.Errorf("message %q", object.Status.Message)
		}
		w.Eventually("an event tells of it", func() bool { return w.EventCount("broken", v1alpha1.ReasonKnativeFailed) > 0 })

		// Where pods say more than Knative, they come first.
		controllertest.Change(w.World, &v1alpha1.ClassRuntime{}, "broken", func(o *v1alpha1.ClassRuntime) {
			o.Spec.Functions[0].ProvisionConfig.ContainerImage = "echo:1"
			o.Spec.Functions[0].Config = map[string]string{"SIM_BEHAVIOR": "crash-loop"}
		})
		object = w.Degraded("broken", v1alpha1.ReasonCrashLoop)
		if !*object.Status.Functions[0].Ready {
			t.Errorf("the first revision does not serve: %+v", object.Status)
		}
		controllertest.Change(w.World, &v1alpha1.ClassRuntime{}, "broken", func(o *v1alpha1.ClassRuntime) { o.Spec.Functions[0].Config = nil })
		w.Settled("broken", v1alpha1.PhaseAvailable)
	})

	w.step("between templates", func(t *testing.T) {
		use := func(template string) {
			controllertest.Change(w.World, &v1alpha1.ClassRuntime{}, "asking", func(o *v1alpha1.ClassRuntime) { o.Spec.SelectedTemplate = template })
			if object := w.Settled("asking", v1alpha1.PhaseAvailable); object.Status.Template != template {
				t.Fatalf("runs with %s", object.Status.Template)
			}
		}
		use("k8s_deployment")
		w.Eventually("no Knative Service", func() bool { return !w.Get(&servingv1.Service{}, "asking") })
		if s := (&corev1.Service{}); !w.Get(s, "asking") || metav1.GetControllerOf(s).Kind != v1alpha1.Kind {
			t.Errorf("the Service is that of %v", metav1.GetControllerOf(s))
		}
		use("knative")
		w.Eventually("no Deployment", func() bool { return !w.Get(&appsv1.Deployment{}, "asking") })
	})

	// Another controller takes over and finds everything as it was left. It lives until the
	// test ends, so that this is no step of its own.
	children := 0
	for _, name := range []string{"asking", "chosen", "bounded", "broken", "plain"} {
		children += len(w.Settled(name, v1alpha1.PhaseAvailable).Status.ResourceRefs)
	}
	w.Restart(w.options)
	w.Eventually("every child was looked at", func() bool { return w.Applies("skipped")+w.Applies("applied") >= children })
	if n := w.Applies("applied"); n > 0 {
		t.Errorf("%d of %d children applied anew", n, children)
	}

	w.step("deletion", func(t *testing.T) {
		if err := w.Client.Delete(w.Context(), w.Class("chosen")); err != nil {
			t.Fatal(err)
		}
		w.Eventually("the class is gone", func() bool { return !w.Get(&v1alpha1.ClassRuntime{}, "chosen") })
		if w.Get(&servingv1.Service{}, "chosen-fn-0") || w.Get(&servingv1.Service{}, "chosen-fn-1") {
			t.Error("Knative Services outlived their class")
		}
	})

	w.step("the API goes and comes back", func(t *testing.T) {
		w.removeKnative()
		object := w.Degraded("asking", v1alpha1.ReasonCapabilityMissing)
		w.Eventually("it is not available", func() bool {
			object = w.Class("asking")
			return !v1alpha1.IsConditionTrue(object.Status.Conditions, v1alpha1.ConditionAvailable)
		})
		if object := w.Class("plain"); object.Status.Phase != v1alpha1.PhaseAvailable {
			t.Errorf("plain: %s", object.Status.Phase)
		}
		// What is deleted while the API is away goes all the same.
		if err := w.Client.Delete(w.Context(), w.Class("bounded")); err != nil {
			t.Fatal(err)
		}
		w.Eventually("the class is gone", func() bool { return !w.Get(&v1alpha1.ClassRuntime{}, "bounded") })
		w.installKnative()
		w.Settled("asking", v1alpha1.PhaseAvailable)
	})
}
