package serving

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"knative.dev/pkg/apis"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"oaas.io/control-plane/deploy/local"
	"oaas.io/control-plane/deploy/local/localtest"
)

func TestMain(m *testing.M) {
	ctrllog.SetLogger(logr.Discard())
	localtest.Main(m)
}

const (
	// patience bounds every wait of these tests.
	patience = 60 * time.Second
	// buildTimeout allows for the first build on a slow machine.
	buildTimeout = 20 * time.Minute
	image        = "registry.test/echo:1"
	// deadline makes revisions fail fast. Knative wants whole seconds.
	deadline = "serving.knative.dev/progress-deadline"
)

// world is a cluster, which has Knative after install.
type world struct {
	cluster   *local.Cluster
	binaries  *local.KnativeBinaries
	transport *http.Client
	client    client.Client
}

// start makes sure that a test leaves no goroutine behind. The cluster's own are older.
func start(t *testing.T) *world {
	t.Helper()
	w := &world{cluster: localtest.Cluster(t)}
	ctx, cancel := context.WithTimeout(context.Background(), buildTimeout)
	defer cancel()
	var err error
	if w.binaries, err = local.BuildKnative(ctx, local.BuildOptions{Progress: os.Stderr}); err != nil {
		t.Fatal(err)
	}
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		w.transport.CloseIdleConnections()
		// Clients with equal credentials share connections, which stay for the next one.
		goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction("golang.org/x/net/http2.(*clientConnReadLoop).run"),
			goleak.IgnoreAnyFunction("net/http/internal/http2.(*clientConnReadLoop).run"))
	})
	if w.transport, err = rest.HTTPClientFor(w.cluster.RESTConfig()); err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, servingv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	if w.client, err = client.New(w.cluster.RESTConfig(), client.Options{Scheme: scheme, HTTPClient: w.transport}); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) install(t *testing.T) *Serving {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	began := time.Now()
	s, err := Install(ctx, Options{Cluster: w.cluster, Binaries: w.binaries})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("installed in %s", time.Since(began).Round(time.Millisecond))
	return s
}

// remove also checks that nothing of the program is left, neither the process nor its directory.
func (w *world) remove(t *testing.T, s *Serving) {
	t.Helper()
	if err := s.Err(); err != nil {
		t.Error(err)
	}
	program, dir := s.process, s.work.Path
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	began := time.Now()
	if err := s.Remove(ctx); err != nil {
		t.Error(err)
	}
	t.Logf("removed in %s", time.Since(began).Round(time.Millisecond))
	if program.Running() {
		t.Error("the program outlives Remove")
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("directory after Remove: %v, want it gone", err)
	}
}

// installed installs Knative for the whole of a test.
func (w *world) installed(t *testing.T) *Serving {
	t.Helper()
	s := w.install(t)
	t.Cleanup(func() { w.remove(t, s) })
	return s
}

// app is a Knative Service of a test.
type app struct {
	*world
	key client.ObjectKey
}

// create makes a Service of one container. change may be nil.
func (w *world) create(t *testing.T, namespace, name string, change func(*servingv1.Service)) *app {
	t.Helper()
	s := &servingv1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Annotations: map[string]string{}}}
	s.Spec.Template.Annotations = map[string]string{}
	s.Spec.Template.Spec.Containers = []corev1.Container{{Image: image}}
	if change != nil {
		change(s)
	}
	if err := w.client.Create(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	return &app{world: w, key: client.ObjectKeyFromObject(s)}
}

// eventually waits until the Service is as condition wants it; that returns what is wrong about it, or "".
func (a *app) eventually(t *testing.T, what string, condition func(*servingv1.Service) string) *servingv1.Service {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	began := time.Now()
	s := &servingv1.Service{}
	err := a.cluster.Await(ctx, what, func(ctx context.Context) error {
		if err := a.client.Get(ctx, a.key, s); err != nil {
			return err
		}
		if wrong := condition(s); wrong != "" {
			return fmt.Errorf("%s: %s; conditions: %+v", a.key.Name, wrong, s.Status.Conditions)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s in %s", what, time.Since(began).Round(time.Millisecond))
	return s
}

func isReady(s *servingv1.Service) string {
	if !s.IsReady() {
		return "not ready"
	}
	return ""
}

// pods waits until that many pods of the Service are ready, and none besides.
func (a *app) pods(t *testing.T, want int) {
	t.Helper()
	a.eventually(t, fmt.Sprintf("%d pods", want), func(s *servingv1.Service) string {
		list := &corev1.PodList{}
		labels := client.MatchingLabels{"serving.knative.dev/service": s.Name}
		if err := a.client.List(t.Context(), list, client.InNamespace(s.Namespace), labels); err != nil {
			return err.Error()
		}
		ready := 0
		for i := range list.Items {
			for _, condition := range list.Items[i].Status.Conditions {
				if condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue {
					ready++
				}
			}
		}
		if len(list.Items) != want || ready != want {
			return fmt.Sprintf("%d pods, %d of them ready", len(list.Items), ready)
		}
		return ""
	})
}

// revision is the newest one of the Service.
func (a *app) revision(t *testing.T, s *servingv1.Service) *servingv1.Revision {
	t.Helper()
	r := &servingv1.Revision{}
	if err := a.client.Get(t.Context(), client.ObjectKey{Namespace: s.Namespace, Name: s.Status.LatestCreatedRevisionName}, r); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestServices(t *testing.T) {
	w := start(t)
	s := w.installed(t)
	for name, test := range map[string]func(*testing.T, *world, *Serving, string){
		"ready": getsReady, "crash loop": crashes, "missing image": missesItsImage, "digest": hasADigest, "scale": scales,
		"stuck ingress": waitsForItsIngress, "no listener": listensOnNothing,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, w, s, localtest.Namespace(t, w.cluster))
		})
	}
}

func getsReady(t *testing.T, w *world, _ *Serving, namespace string) {
	a := w.create(t, namespace, "ready", nil)
	s := a.eventually(t, "the Service is ready", isReady)
	if want := "http://ready." + namespace + ".apps.example.test"; s.Status.URL.String() != want {
		t.Errorf("URL: got %s, want %s", s.Status.URL, want)
	}
	if s.Status.Address == nil || s.Status.LatestReadyRevisionName != s.Status.LatestCreatedRevisionName || len(s.Status.Traffic) != 1 {
		t.Errorf("status: %+v", s.Status)
	}
	a.pods(t, 1)
}

func crashes(t *testing.T, w *world, _ *Serving, namespace string) {
	a := w.create(t, namespace, "crashes", func(s *servingv1.Service) {
		s.Spec.Template.Annotations[deadline] = "10s"
		s.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "SIM_BEHAVIOR", Value: "crash-loop"}}
	})
	s := a.eventually(t, "the Service fails", func(s *servingv1.Service) string {
		if c := s.Status.GetCondition(apis.ConditionReady); !c.IsFalse() || c.Reason != "RevisionMissing" {
			return "not failed"
		}
		return ""
	})
	if c := a.revision(t, s).Status.GetCondition(apis.ConditionReady); !c.IsFalse() || c.Reason != "ExitCode1" {
		t.Errorf("the revision: %+v, want False because of ExitCode1", c)
	}
}

// An image that the simulated kubelets cannot pull, and one that the registry, which is simulated too, does not have.
func missesItsImage(t *testing.T, w *world, _ *Serving, namespace string) {
	for name, test := range map[string]struct{ image, reason string }{
		"pull":     {"registry.test/echo:missing", "ImagePullBackOff"},
		"registry": {"ghcr.io/shop/echo:missing", "ContainerMissing"},
	} {
		a := w.create(t, namespace, name, func(s *servingv1.Service) {
			s.Spec.Template.Annotations[deadline] = "10s"
			s.Spec.Template.Spec.Containers[0].Image = test.image
		})
		a.eventually(t, "the revision fails because of "+test.reason, func(s *servingv1.Service) string {
			if s.Status.LatestCreatedRevisionName == "" {
				return "no revision"
			}
			if c := a.revision(t, s).Status.GetCondition(apis.ConditionReady); !c.IsFalse() || c.Reason != test.reason {
				return fmt.Sprintf("the revision: %+v", c)
			}
			return ""
		})
	}
}

func hasADigest(t *testing.T, w *world, _ *Serving, namespace string) {
	a := w.create(t, namespace, "digest", func(s *servingv1.Service) { s.Spec.Template.Spec.Containers[0].Image = "ghcr.io/shop/echo:1" })
	s := a.eventually(t, "the Service is ready", isReady)
	statuses := a.revision(t, s).Status.ContainerStatuses
	if len(statuses) != 1 || !strings.HasPrefix(statuses[0].ImageDigest, "ghcr.io/shop/echo@sha256:") {
		t.Errorf("images of the revision: %+v, want a digest", statuses)
	}
}

func scales(t *testing.T, w *world, serving *Serving, namespace string) {
	a := w.create(t, namespace, "scales", nil)
	revision := a.eventually(t, "the Service is ready", isReady).Status.LatestReadyRevisionName
	for _, pods := range []int{3, 0, 2} {
		if err := serving.Scale(t.Context(), namespace, revision, pods); err != nil {
			t.Fatal(err)
		}
		a.pods(t, pods)
		a.eventually(t, "the Service is ready", isReady)
	}
}

func waitsForItsIngress(t *testing.T, w *world, _ *Serving, namespace string) {
	a := w.create(t, namespace, "stuck", func(s *servingv1.Service) { s.Annotations["sim.kwok/ingress"] = "stuck" })
	s := a.eventually(t, "only the ingress is missing", func(s *servingv1.Service) string {
		if !s.Status.GetCondition(servingv1.ServiceConditionConfigurationsReady).IsTrue() || s.Status.GetCondition(servingv1.ServiceConditionRoutesReady).GetReason() != "Uninitialized" {
			return "something else is"
		}
		return ""
	})
	if s.IsReady() {
		t.Error("ready without an ingress")
	}
	delete(s.Annotations, "sim.kwok/ingress")
	if err := w.client.Patch(t.Context(), s, client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"annotations":{"sim.kwok/ingress":null}}}`))); err != nil {
		t.Fatal(err)
	}
	a.eventually(t, "the Service is ready", isReady)
}

// Other programs and other clusters are on the same loopback.
func listensOnNothing(t *testing.T, w *world, s *Serving, namespace string) {
	w.create(t, namespace, "listens", nil).eventually(t, "the Service is ready", isReady)
	sockets, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", s.process.PID()))
	if err != nil || len(sockets) == 0 {
		t.Fatalf("no files of the program: %v", err)
	}
	mine := map[string]bool{}
	for _, socket := range sockets {
		if to, err := os.Readlink(socket); err == nil {
			mine[strings.TrimSuffix(strings.TrimPrefix(to, "socket:["), "]")] = true
		}
	}
	const stateField, listening, inodeField = 3, "0A", 9
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(table)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); len(f) > inodeField && f[stateField] == listening && mine[f[inodeField]] {
				t.Errorf("the program listens: %s", line)
			}
		}
	}
}
