package serving_test

import (
	"context"
	"os"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"knative.dev/serving/pkg/apis/autoscaling/v1alpha1"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"oaas.io/control-plane/deploy/local"
	"oaas.io/control-plane/deploy/local/localtest"
	"oaas.io/control-plane/deploy/local/serving"
)

func TestMain(m *testing.M) { localtest.Main(m) }

// patience bounds every wait.
const patience = 60 * time.Second

// world is a cluster with Knative.
type world struct {
	*testing.T
	opts      serving.Options
	serving   *serving.Serving
	client    client.Client
	namespace string
}

func start(t *testing.T) *world {
	t.Helper()
	cluster := localtest.Cluster(t)
	binaries, err := local.BuildKnative(t.Context(), local.BuildOptions{Progress: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, namespace: localtest.Namespace(t, cluster), opts: serving.Options{Cluster: cluster, Binaries: binaries, Dir: t.TempDir()}}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, servingv1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	if w.client, err = client.New(cluster.RESTConfig(), client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	w.install()
	t.Cleanup(w.remove)
	return w
}

func (w *world) install() {
	w.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var err error
	if w.serving, err = serving.Install(ctx, w.opts); err != nil {
		w.Fatal(err)
	}
}

func (w *world) remove() {
	w.Helper()
	if w.serving == nil {
		return
	}
	if err := w.serving.Err(); err != nil {
		w.Error(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := w.serving.Remove(ctx); err != nil {
		w.Error(err)
	}
	w.serving = nil
}

func (w *world) eventually(what string, condition func() bool) {
	w.Helper()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(patience)
	for !condition() {
		select {
		case <-ticker.C:
		case <-deadline:
			text, _ := w.opts.Cluster.Kubectl(context.Background(), "-n", w.namespace, "get", "ksvc,revisions,routes,kpa,sks,king,pods", "-o", "yaml")
			w.Fatalf("timed out: %s\n%s", what, text)
		}
	}
}

func (w *world) create(name string, annotations map[string]string, behaviour string) {
	w.Helper()
	s := &servingv1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: w.namespace}}
	s.Spec.Template.Annotations = annotations
	container := corev1.Container{Name: "main", Image: "registry.local/echo:1"}
	if behaviour != "" {
		container.Env = []corev1.EnvVar{{Name: "SIM_BEHAVIOR", Value: behaviour}}
	}
	s.Spec.Template.Spec.Containers = []corev1.Container{container}
	w.eventually("the API takes Services", func() bool {
		err := w.client.Create(w.Context(), s)
		return err == nil
	})
}

func (w *world) get(name string) *servingv1.Service {
	w.Helper()
	s := &servingv1.Service{}
	if err := w.client.Get(w.Context(), client.ObjectKey{Namespace: w.namespace, Name: name}, s); err != nil {
		w.Fatal(err)
	}
	return s
}

func (w *world) pods() int {
	w.Helper()
	list := &corev1.PodList{}
	if err := w.client.List(w.Context(), list, client.InNamespace(w.namespace)); err != nil {
		w.Fatal(err)
	}
	return len(list.Items)
}

func TestServing(t *testing.T) {
	w := start(t)

	w.create("echo", nil, "")
	w.eventually("the Service is ready", func() bool { s := w.get("echo"); return s.IsReady() && s.Status.URL != nil })

	// Without traffic the pods go, and come back with it.
	scale := func(n string) {
		w.eventually("annotate the autoscaler", func() bool {
			list := &v1alpha1.PodAutoscalerList{}
			if err := w.client.List(w.Context(), list, client.InNamespace(w.namespace)); err != nil || len(list.Items) != 1 {
				return false
			}
			list.Items[0].Annotations["sim.kwok/scale"] = n
			return w.client.Update(w.Context(), &list.Items[0]) == nil
		})
	}
	scale("0")
	w.eventually("no pods", func() bool { return w.pods() == 0 })
	if s := w.get("echo"); !s.IsReady() {
		t.Errorf("not ready without pods: %+v", s.Status.Conditions)
	}
	scale("2")
	w.eventually("two pods", func() bool { return w.pods() == 2 })

	w.create("broken", map[string]string{"serving.knative.dev/progress-deadline": "5s"}, "crash-loop")
	w.eventually("the Service fails", func() bool { s := w.get("broken"); return s.IsFailed() })

	// The API goes with everything of its kinds, and comes back empty.
	w.remove()
	w.eventually("no pods without the API", func() bool { return w.pods() == 0 })
	w.install()
	w.create("echo", nil, "")
	w.eventually("the Service is ready again", func() bool { s := w.get("echo"); return s.IsReady() })
}
