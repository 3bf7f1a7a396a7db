package controller

import (
	"context"
	"fmt"
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
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/crm/lifecycle"
	"oaas.io/control-plane/crm/template"
	"oaas.io/control-plane/deploy/local"
	"oaas.io/control-plane/deploy/local/localtest"
)

func TestMain(m *testing.M) {
	ctrllog.SetLogger(logr.Discard())
	localtest.Main(m)
}

// patience bounds every wait of these tests.
const patience = 2 * time.Minute

var definitions sync.Once

func cluster(t *testing.T) *local.Cluster {
	t.Helper()
	c := localtest.Cluster(t)
	definitions.Do(func() { install(t, c) })
	return c
}

func install(t *testing.T, c *local.Cluster) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.InstallCRDs(ctx, "../../deploy/crd/oaas.io_classruntimes.yaml"); err != nil {
		t.Fatal(err)
	}
}

// world is a running controller in a namespace of its own.
type world struct {
	t         *testing.T
	namespace string
	client    client.Client // straight to the API server
	cached    client.Client // that of the controller
	registry  *prometheus.Registry
	stop      func()
}

func newScheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme, servingv1.AddToScheme} {
		if err := add(s); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func start(t *testing.T, change ...func(*Options)) *world {
	t.Helper()
	c := cluster(t)
	w := &world{t: t, namespace: localtest.Namespace(t, c), registry: prometheus.NewRegistry()}
	w.run(c.RESTConfig(), change...)
	return w
}

func (w *world) run(restConfig *rest.Config, change ...func(*Options)) {
	t := w.t
	t.Helper()
	restConfig.QPS, restConfig.Burst = 500, 1000
	scheme := newScheme(t)
	var err error
	if w.client, err = client.New(restConfig, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	cacheOptions, err := CacheOptions(w.namespace)
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
	metrics, err := NewMetrics(w.registry)
	if err != nil {
		t.Fatal(err)
	}
	opts := Options{
		Namespace: w.namespace, Environment: template.Environment{Profile: "dev"}, Concurrency: 4,
		Lifecycle: lifecycle.Options{FaultGrace: time.Millisecond, LossGrace: time.Millisecond, ProbeGrace: time.Millisecond, CapacityGrace: time.Millisecond},
		Metrics:   metrics, Logger: hclog.NewNullLogger(),
	}
	for _, f := range change {
		f(&opts)
	}
	if err := Setup(t.Context(), mgr, opts); err != nil {
		t.Fatal(err)
	}
	w.cached = mgr.GetClient()
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

// restart replaces the manager by one with other options.
func (w *world) restart(change ...func(*Options)) {
	w.t.Helper()
	w.stop()
	w.registry = prometheus.NewRegistry()
	w.run(cluster(w.t).RESTConfig(), change...)
}

func (w *world) ctx() context.Context {
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	w.t.Cleanup(cancel)
	return ctx
}

// classOf is a class with one container function per image.
func (w *world) classOf(name string, images ...string) *v1alpha1.ClassRuntime {
	object := &v1alpha1.ClassRuntime{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: w.namespace}}
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

func (w *world) create(object client.Object) {
	w.t.Helper()
	if err := w.client.Create(w.ctx(), object); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) get(object client.Object, name string) bool {
	w.t.Helper()
	err := w.client.Get(w.ctx(), client.ObjectKey{Namespace: w.namespace, Name: name}, object)
	if client.IgnoreNotFound(err) != nil {
		w.t.Fatal(err)
	}
	return err == nil
}

func (w *world) class(name string) *v1alpha1.ClassRuntime {
	w.t.Helper()
	object := &v1alpha1.ClassRuntime{}
	if !w.get(object, name) {
		w.t.Fatalf("class runtime %s is gone", name)
	}
	return object
}

func (w *world) deployment(name string) *appsv1.Deployment {
	w.t.Helper()
	object := &appsv1.Deployment{}
	if !w.get(object, name) {
		w.t.Fatalf("deployment %s is gone", name)
	}
	return object
}

// change updates an object, again when it moved meanwhile.
func change[T client.Object](w *world, object T, name string, edit func(T)) {
	w.t.Helper()
	w.eventually("update "+name, func() bool {
		if !w.get(object, name) {
			w.t.Fatalf("%s is gone", name)
		}
		edit(object)
		return w.client.Update(w.ctx(), object) == nil
	})
}

func (w *world) eventually(what string, condition func() bool) {
	w.t.Helper()
	ticker := time.NewTicker(25 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(patience)
	for !condition() {
		select {
		case <-ticker.C:
		case <-deadline:
			w.t.Fatalf("timed out: %s\n%s", what, w.dump())
		}
	}
}

// dump is the state of the namespace, for failures.
func (w *world) dump() string {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out := ""
	classes := &v1alpha1.ClassRuntimeList{}
	if err := w.client.List(ctx, classes, client.InNamespace(w.namespace)); err != nil {
		return err.Error()
	}
	for _, c := range classes.Items {
		out += fmt.Sprintf("class %s gen %d deleted %v: %+v\n", c.Name, c.Generation, c.DeletionTimestamp, c.Status)
	}
	pods := &corev1.PodList{}
	if err := w.client.List(ctx, pods, client.InNamespace(w.namespace)); err != nil {
		return err.Error()
	}
	for _, p := range pods.Items {
		out += fmt.Sprintf("pod %s %s %+v\n", p.Name, p.Status.Phase, p.Status.ContainerStatuses)
	}
	return out
}

// settled waits for a phase that is about the current generation.
func (w *world) settled(name string, phase v1alpha1.Phase) *v1alpha1.ClassRuntime {
	w.t.Helper()
	var object *v1alpha1.ClassRuntime
	w.eventually(name+" becomes "+string(phase), func() bool {
		object = w.class(name)
		return object.Status.Phase == phase && object.Status.ObservedGeneration == object.Generation
	})
	return object
}

func (w *world) degraded(name string, reason v1alpha1.Reason) *v1alpha1.ClassRuntime {
	w.t.Helper()
	var object *v1alpha1.ClassRuntime
	w.eventually(name+" is degraded for "+string(reason), func() bool {
		object = w.class(name)
		return degradedReason(&object.Status) == reason
	})
	return object
}

func (w *world) eventCount(name string, reason v1alpha1.Reason) int {
	w.t.Helper()
	list := &eventsv1.EventList{}
	if err := w.client.List(w.ctx(), list, client.InNamespace(w.namespace)); err != nil {
		w.t.Fatal(err)
	}
	n := 0
	for _, e := range list.Items {
		if e.Regarding.Name == name && e.Reason == string(reason) {
			n++
		}
	}
	return n
}

// counter is the sum of a metric over all its labels.
func (w *world) counter(name string) float64 { return w.counterOf(name, "", "") }

// counterOf is the sum over those with the value of a label.
func (w *world) counterOf(name, label, value string) float64 {
	w.t.Helper()
	families, err := w.registry.Gather()
	if err != nil {
		w.t.Fatal(err)
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
