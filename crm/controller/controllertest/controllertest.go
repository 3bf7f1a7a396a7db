package controllertest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/crm/controller"
	"oaas.io/control-plane/crm/lifecycle"
	"oaas.io/control-plane/crm/template"
	"oaas.io/control-plane/deploy/crd"
	"oaas.io/control-plane/deploy/local"
	"oaas.io/control-plane/deploy/local/localtest"
)

// Patience bounds every wait of the tests.
const Patience = 2 * time.Minute

var definitions sync.Once

// Cluster is the cluster that all tests of a package share, with the definition of
// ClassRuntimes installed.
func Cluster(t *testing.T) *local.Cluster {
	t.Helper()
	c := localtest.Cluster(t)
	definitions.Do(func() { Install(t, c) })
	return c
}

// Install installs the definition of ClassRuntimes, for a cluster that a test has to
// itself.
func Install(t *testing.T, c *local.Cluster) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	definition := filepath.Join(t.TempDir(), "crd.yaml")
	if err := os.WriteFile(definition, crd.YAML, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.InstallCRDs(ctx, definition); err != nil {
		t.Fatal(err)
	}
}

// World is a running controller in a namespace of its own.
type World struct {
	// T is the test whose failures are reported; a subtest puts its own in for a while.
	T         *testing.T
	Namespace string
	Client    client.Client // straight to the API server
	Cached    client.Client // that of the controller
	Registry  *prometheus.Registry
	stop      func()
}

// Scheme knows all kinds that the controller and its tests use.
func Scheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme, servingv1.AddToScheme} {
		if err := add(s); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// Start runs a controller with the options of tests, changed as told, until the test ends.
func Start(t *testing.T, change ...func(*controller.Options)) *World {
	t.Helper()
	c := Cluster(t)
	return StartIn(t, c.RESTConfig(), localtest.Namespace(t, c), change...)
}

// StartIn is Start in a namespace that there is, at an API server of the caller's choice.
func StartIn(t *testing.T, restConfig *rest.Config, namespace string, change ...func(*controller.Options)) *World {
	t.Helper()
	w := &World{T: t, Namespace: namespace, Registry: prometheus.NewRegistry()}
	w.run(restConfig, change...)
	return w
}

func (w *World) run(restConfig *rest.Config, change ...func(*controller.Options)) {
	t := w.T
	t.Helper()
	restConfig.QPS, restConfig.Burst = 500, 1000
	scheme := Scheme(t)
	var err error
	if w.Client, err = client.New(restConfig, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	cacheOptions, err := controller.CacheOptions(w.Namespace)
	if err != nil {
		t.Fatal(err)
	}
	again := true
	mgr, err := manager.New(restConfig, manager.Options{
		Scheme: scheme, Cache: cacheOptions, Metrics: metricsserver.Options{BindAddress: "0"},
		Logger: logr.Discard(), Controller: config.Controller{SkipNameValidation: &again},
	})
	if err != nil {
		t.Fatal(err)
	}
	metrics, err := controller.NewMetrics(w.Registry)
	if err != nil {
		t.Fatal(err)
	}
	opts := controller.Options{
		Namespace: w.Namespace, Environment: template.Environment{Profile: "dev"}, Concurrency: 4,
		Lifecycle: lifecycle.Options{FaultGrace: time.Millisecond, LossGrace: time.Millisecond, ProbeGrace: time.Millisecond, CapacityGrace: time.Millisecond},
		Metrics:   metrics, Logger: hclog.NewNullLogger(),
	}
	for _, f := range change {
		f(&opts)
	}
	if err := controller.Setup(t.Context(), mgr, opts); err != nil {
		t.Fatal(err)
	}
	w.Cached = mgr.GetClient()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("manager: %v", err)
		}
	})
	t.Cleanup(w.stop)
}

// Restart replaces the manager by one with other options.
func (w *World) Restart(change ...func(*controller.Options)) {
	w.T.Helper()
	w.stop()
	w.Registry = prometheus.NewRegistry()
	w.run(Cluster(w.T).RESTConfig(), change...)
}

// Context bounds one wait; it ends with the test.
func (w *World) Context() context.Context {
	ctx, cancel := context.WithTimeout(w.T.Context(), Patience)
	w.T.Cleanup(cancel)
	return ctx
}

// ClassOf is a class with one container function per image.
func (w *World) ClassOf(name string, images ...string) *v1alpha1.ClassRuntime {
	object := &v1alpha1.ClassRuntime{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: w.Namespace}}
	object.Spec.PackageClassKey = "example.Record"
	object.Spec.Addons = []string{"none"}
	for i, image := range images {
		object.Spec.Functions = append(object.Spec.Functions, v1alpha1.FunctionSpec{
			FunctionKey:     fmt.Sprintf("Record.f%d", i),
			ProvisionConfig: &v1alpha1.ProvisionConfig{ContainerImage: image, MinScale: ptr.To(uint32(1))},
		})
	}
	return object
}

// ScaledClass is a class of one function within bounds; 0 leaves the upper one out.
func (w *World) ScaledClass(name string, least, most uint32) *v1alpha1.ClassRuntime {
	object := w.ClassOf(name, "echo:1")
	SetBounds(object, least, most)
	return object
}

// SetBounds sets those of the first function.
func SetBounds(o *v1alpha1.ClassRuntime, least, most uint32) {
	p := o.Spec.Functions[0].ProvisionConfig
	p.MinScale, p.MaxScale = ptr.To(least), nil
	if most > 0 {
		p.MaxScale = ptr.To(most)
	}
}

// Create creates an object.
func (w *World) Create(object client.Object) {
	w.T.Helper()
	if err := w.Client.Create(w.Context(), object); err != nil {
		w.T.Fatal(err)
	}
}

// Get reads an object of the namespace and reports whether it exists.
func (w *World) Get(object client.Object, name string) bool {
	w.T.Helper()
	err := w.Client.Get(w.Context(), client.ObjectKey{Namespace: w.Namespace, Name: name}, object)
	if client.IgnoreNotFound(err) != nil {
		w.T.Fatal(err)
	}
	return err == nil
}

// Class reads a class that exists.
func (w *World) Class(name string) *v1alpha1.ClassRuntime {
	w.T.Helper()
	object := &v1alpha1.ClassRuntime{}
	if !w.Get(object, name) {
		w.T.Fatalf("class runtime %s is gone", name)
	}
	return object
}

// Deployment reads a Deployment that exists.
func (w *World) Deployment(name string) *appsv1.Deployment {
	w.T.Helper()
	object := &appsv1.Deployment{}
	if !w.Get(object, name) {
		w.T.Fatalf("deployment %s is gone", name)
	}
	return object
}

// Change updates an object, again when it moved meanwhile.
func Change[T client.Object](w *World, object T, name string, edit func(T)) {
	w.T.Helper()
	w.Eventually("update "+name, func() bool {
		if !w.Get(object, name) {
			w.T.Fatalf("%s is gone", name)
		}
		edit(object)
		return w.Client.Update(w.Context(), object) == nil
	})
}

// Eventually waits for a condition.
func (w *World) Eventually(what string, condition func() bool) {
	w.T.Helper()
	ticker := time.NewTicker(25 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(Patience)
	for !condition() {
		select {
		case <-ticker.C:
		case <-deadline:
			w.T.Fatalf("timed out: %s\n%s", what, w.dump())
		}
	}
}

// dump is the state of the namespace, for failures.
func (w *World) dump() string {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	out := ""
	classes := &v1alpha1.ClassRuntimeList{}
	if err := w.Client.List(ctx, classes, client.InNamespace(w.Namespace)); err != nil {
		return err.Error()
	}
	for _, c := range classes.Items {
		out += fmt.Sprintf("class %s gen %d deleted %v: %+v\n", c.Name, c.Generation, c.DeletionTimestamp, c.Status)
	}
	pods := &corev1.PodList{}
	if err := w.Client.List(ctx, pods, client.InNamespace(w.Namespace)); err != nil {
		return err.Error()
	}
	for _, p := range pods.Items {
		out += fmt.Sprintf("pod %s %s %+v\n", p.Name, p.Status.Phase, p.Status.ContainerStatuses)
	}
	return out
}

// Settled waits for a phase that is about the current generation.
func (w *World) Settled(name string, phase v1alpha1.Phase) *v1alpha1.ClassRuntime {
	w.T.Helper()
	var object *v1alpha1.ClassRuntime
	w.Eventually(name+" becomes "+string(phase), func() bool {
		object = w.Class(name)
		return object.Status.Phase == phase && object.Status.ObservedGeneration == object.Generation
	})
	return object
}

// Degraded waits for a reason of being degraded.
func (w *World) Degraded(name string, reason v1alpha1.Reason) *v1alpha1.ClassRuntime {
	w.T.Helper()
	var object *v1alpha1.ClassRuntime
	w.Eventually(name+" is degraded for "+string(reason), func() bool {
		object = w.Class(name)
		return degradedReason(&object.Status) == reason
	})
	return object
}

func degradedReason(status *v1alpha1.ClassRuntimeStatus) v1alpha1.Reason {
	if c := v1alpha1.FindCondition(status.Conditions, v1alpha1.ConditionDegraded); c != nil && c.Status == metav1.ConditionTrue {
		return c.Reason
	}
	return ""
}

// EventCount is how many events tell of a class for a reason.
func (w *World) EventCount(name string, reason v1alpha1.Reason) int {
	w.T.Helper()
	list := &eventsv1.EventList{}
	if err := w.Client.List(w.Context(), list, client.InNamespace(w.Namespace)); err != nil {
		w.T.Fatal(err)
	}
	n := 0
	for _, e := range list.Items {
		if e.Regarding.Name == name && e.Reason == string(reason) {
			n++
		}
	}
	return n
}

// Counter is the sum of a counter of the controller over all its labels.
func (w *World) Counter(name string) float64 { return w.CounterOf(name, "", "") }

// CounterOf is the sum over those with the value of a label.
func (w *World) CounterOf(name, label, value string) float64 {
	w.T.Helper()
	families, err := w.Registry.Gather()
	if err != nil {
		w.T.Fatal(err)
	}
	sum := 0.0
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			if label == "" || slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetName() == label && l.GetValue() == value }) {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// Applies counts the children that had an outcome.
func (w *World) Applies(outcome string) int {
	return int(w.CounterOf("oaas_crm_child_applies_total", "outcome", outcome))
}
