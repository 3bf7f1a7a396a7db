package server

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/deploy/local"
	"oaas.io/control-plane/deploy/local/localtest"
	"oaas.io/control-plane/proto/oaaspb"
)

func TestMain(m *testing.M) { localtest.Main(m) }

// patience bounds every wait of these tests.
const patience = 20 * time.Second

var definitions sync.Once

// cluster is the shared cluster with our definition in it.
func cluster(t *testing.T) *local.Cluster {
	t.Helper()
	c := localtest.Cluster(t)
	definitions.Do(func() {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := c.InstallCRDs(ctx, "../../deploy/crd/oaas.io_classruntimes.yaml"); err != nil {
			t.Fatal(err)
		}
	})
	return c
}

// switchable is an API observer under the control of a test.
type switchable struct {
	mu    sync.Mutex
	state APIState
}

func (s *switchable) Observe() APIState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

func (s *switchable) set(state APIState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = state
}

// harness is a server on a real port over a real API server.
type harness struct {
	t         *testing.T
	server    *Server
	namespace string
	api       *switchable
	admin     client.Client // straight to the API server
	conn      *grpc.ClientConn
	detach    func()

	deployments oaaspb.DeploymentServiceClient
	agent       oaaspb.AgentServiceClient
	info        oaaspb.CrmInfoServiceClient
	health      oaaspb.HealthServiceClient
}

func scheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(s); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// unattached is a server that has no way to Kubernetes.
func unattached(t *testing.T, namespace string) *harness {
	t.Helper()
	h := &harness{t: t, namespace: namespace, api: &switchable{}}
	h.api.set(APIState{Ready: true, Version: "v0.0.0", LastContact: time.Now()})
	var err error
	h.server, err = New(Options{
		ClusterName: "edge-1", Namespace: namespace, Region: "eu", Zone: "eu-a", Version: "test",
		Labels: map[string]string{"tier": "edge"}, Capabilities: func() []string { return []string{"odgm"} },
		API: h.api, Logger: hclog.NewNullLogger(), HeartbeatInterval: 50 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- h.server.Serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	h.conn, err = grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.conn.Close() })
	h.deployments = oaaspb.NewDeploymentServiceClient(h.conn)
	h.agent = oaaspb.NewAgentServiceClient(h.conn)
	h.info = oaaspb.NewCrmInfoServiceClient(h.conn)
	h.health = oaaspb.NewHealthServiceClient(h.conn)
	return h
}

// attachedServer is a server with a cache over the shared cluster.
func attachedServer(t *testing.T) *harness {
	t.Helper()
	c := cluster(t)
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
	h := unattached(t, localtest.Namespace(t, c))
	h.attach(c.RESTConfig())
	return h
}

func (h *harness) attach(config *rest.Config) {
	h.t.Helper()
	h.attachTo(config, true)
}

// attachTo is attach for an identity that may have no right to read nodes.
func (h *harness) attachTo(config *rest.Config, nodes bool) {
	h.t.Helper()
	t := h.t
	s := scheme(t)
	config.QPS, config.Burst = 500, 1000
	informers, err := cache.New(config, cache.Options{Scheme: s, DefaultNamespaces: map[string]cache.Config{h.namespace: {}}})
	if err != nil {
		t.Fatal(err)
	}
	live, err := client.New(config, client.Options{Scheme: s})
	if err != nil {
		t.Fatal(err)
	}
	cached, err := client.New(config, client.Options{Scheme: s, Cache: &client.CacheOptions{Reader: informers}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- informers.Start(ctx) }()
	if nodes {
		if _, err := informers.GetInformer(ctx, &corev1.Node{}); err != nil {
			t.Fatal(err)
		}
	}
	detach, err := h.server.Attach(ctx, Backend{Client: cached, Live: live, Informers: informers, Nodes: nodes})
	if err != nil {
		t.Fatal(err)
	}
	h.admin = live
	h.detach = sync.OnceFunc(func() {
		detach()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("cache: %v", err)
		}
	})
	t.Cleanup(h.detach)
}

func (h *harness) ctx() context.Context {
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	h.t.Cleanup(cancel)
	return ctx
}

func (h *harness) deploy(unit *oaaspb.DeploymentUnit) (*oaaspb.DeployResponse, error) {
	return h.deployments.Deploy(h.ctx(), &oaaspb.DeployRequest{DeploymentUnit: unit})
}

func (h *harness) mustDeploy(unit *oaaspb.DeploymentUnit) {
	h.t.Helper()
	if _, err := h.deploy(unit); err != nil {
		h.t.Fatalf("Deploy %s: %v", unit.GetId(), err)
	}
}

func (h *harness) delete(id string, delivery *oaaspb.Delivery) error {
	_, err := h.deployments.DeleteDeployment(h.ctx(), &oaaspb.DeleteDeploymentRequest{DeploymentId: id, Delivery: delivery})
	return err
}

func (h *harness) object(name string) *v1alpha1.ClassRuntime {
	h.t.Helper()
	object := &v1alpha1.ClassRuntime{}
	if err := h.admin.Get(h.ctx(), client.ObjectKey{Namespace: h.namespace, Name: name}, object); err != nil {
		h.t.Fatal(err)
	}
	return object
}

func (h *harness) exists(name string) bool {
	h.t.Helper()
	err := h.admin.Get(h.ctx(), client.ObjectKey{Namespace: h.namespace, Name: name}, &v1alpha1.ClassRuntime{})
	if client.IgnoreNotFound(err) != nil {
		h.t.Fatal(err)
	}
	return err == nil
}

// eventually polls until the condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(patience)
	for !condition() {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("timed out: %s", what)
		}
	}
}

func wantCode(t *testing.T, err error, want codes.Code) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Fatalf("code = %v (%v), want %v", got, err, want)
	}
}

// unitOf is a small valid unit; a fence of 0 leaves out the delivery.
func unitOf(id string, fence uint64, image string) *oaaspb.DeploymentUnit {
	unit := &oaaspb.DeploymentUnit{
		Id: id, PackageName: "example", ClassKey: "Record", TargetEnv: "edge-1",
		Functions: []*oaaspb.FunctionDeploymentSpec{{
			FunctionKey:     "Record.echo",
			ProvisionConfig: &oaaspb.ProvisionConfig{ContainerImage: proto.String(image), MinScale: proto.Uint32(1)},
		}},
	}
	if fence > 0 {
		unit.Delivery = deliveryAt(fence, image)
	}
	return unit
}

func deliveryAt(fence uint64, hash string) *oaaspb.Delivery {
	return &oaaspb.Delivery{
		Epoch: 1, Fence: fence, Generation: 1, DeploymentUid: "uid-1", DeploymentKey: "example.Record",
		ControlPlaneId: "pm-1", ContentHash: hash,
	}
}
