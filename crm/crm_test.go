package crm

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"oaas.io/control-plane/crm/template"
	"oaas.io/control-plane/deploy/local"
	"oaas.io/control-plane/deploy/local/localtest"
	"oaas.io/control-plane/proto/oaaspb"
)

func TestMain(m *testing.M) {
	ctrllog.SetLogger(logr.Discard())
	localtest.Main(m)
}

// patience bounds every wait of these tests.
const patience = 2 * time.Minute

// running is a whole manager with a client of its gRPC port.
type running struct {
	t           *testing.T
	namespace   string
	deployments oaaspb.DeploymentServiceClient
	agent       oaaspb.AgentServiceClient
	info        oaaspb.CrmInfoServiceClient
	metrics     string
	stop        func() // ends the manager and waits for it
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func start(t *testing.T, config *rest.Config, namespace string, change ...func(*Options)) *running {
	t.Helper()
	grpcListener, metricsListener := listen(t), listen(t)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	serving := make(chan struct{})
	opts := Options{
		RESTConfig: config, Listener: grpcListener, MetricsListener: metricsListener,
		Name: "edge-1", Namespace: namespace, InstallCRD: true, CreateNamespace: true,
		Environment: template.Environment{Profile: "dev"}, Version: "test", Logger: hclog.NewNullLogger(),
		Serving: func(context.Context) { close(serving) },
	}
	for _, f := range change {
		f(&opts)
	}
	go func() { ended <- Run(ctx, opts) }()
	select {
	case <-serving:
	case err := <-ended:
		t.Fatalf("Run: %v", err)
	}
	conn, err := grpc.NewClient(grpcListener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	stop := sync.OnceFunc(func() {
		_ = conn.Close()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return &running{
		t: t, stop: stop, namespace: namespace, metrics: "http://" + metricsListener.Addr().String(),
		deployments: oaaspb.NewDeploymentServiceClient(conn),
		agent:       oaaspb.NewAgentServiceClient(conn),
		info:        oaaspb.NewCrmInfoServiceClient(conn),
	}
}

func (r *running) ctx() context.Context {
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	r.t.Cleanup(cancel)
	return ctx
}

func (r *running) eventually(what string, condition func() bool) {
	r.t.Helper()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(patience)
	for !condition() {
		select {
		case <-ticker.C:
		case <-deadline:
			r.t.Fatalf("timed out: %s", what)
		}
	}
}

func (r *running) deploy(id string, fence uint64, image string) error {
	_, err := r.deployments.Deploy(r.ctx(), &oaaspb.DeployRequest{DeploymentUnit: &oaaspb.DeploymentUnit{
		Id: id, PackageName: "example", ClassKey: "Record", TargetEnv: "edge-1",
		Functions: []*oaaspb.FunctionDeploymentSpec{{
			FunctionKey: "Record.echo", ProvisionConfig: &oaaspb.ProvisionConfig{ContainerImage: proto.String(image)},
		}},
		Delivery: delivery(fence, image),
	}})
	return err
}

func delivery(fence uint64, hash string) *oaaspb.Delivery {
	return &oaaspb.Delivery{Epoch: 1, Fence: fence, DeploymentUid: "uid-1", ControlPlaneId: "pm-1", ContentHash: hash}
}

// available waits until the unit runs with that fence.
func (r *running) available(id string, fence uint64) {
	r.t.Helper()
	r.eventually(id+" is available", func() bool {
		answer, err := r.deployments.GetClassRuntime(r.ctx(), &oaaspb.GetClassRuntimeRequest{DeploymentId: id})
		summary := answer.GetDeployment()
		return err == nil && summary.GetDelivery().GetFence() == fence &&
			summary.GetStatus().GetCondition() == oaaspb.DeploymentCondition_RUNNING && summary.GetStatus().GetMessage() == "Available"
	})
}

// A unit's whole life, from an empty cluster to an empty cluster.
func TestLifeOfAUnit(t *testing.T) {
	cluster := localtest.Cluster(t)
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		// The test's own client keeps a connection to the API server.
		goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction("golang.org/x/net/http2.(*clientConnReadLoop).run"))
	})
	// Tombstones outlive a test, so each run has a namespace of its own.
	r := start(t, cluster.RESTConfig(), fmt.Sprintf("life-%d", time.Now().UnixNano()))
	r.eventually("the manager is ready", func() bool {
		info, err := r.agent.GetClusterInfo(r.ctx(), &oaaspb.GetClusterInfoRequest{})
		return err == nil && info.GetApiServerReady() && info.GetReadyNodes() > 0 && strings.HasPrefix(info.GetKubernetesVersion(), "v1.")
	})
	r.eventually("the first deploy is taken", func() bool { return r.deploy("record-1", 10, "echo:1") == nil })
	r.available("record-1", 10)

	if err := r.deploy("record-1", 11, "echo:2"); err != nil {
		t.Fatal(err)
	}
	r.available("record-1", 11)
	if code := status.Code(r.deploy("record-1", 10, "echo:1")); code != codes.FailedPrecondition {
		t.Errorf("a stale deploy answered %v", code)
	}

	stream, err := r.agent.WatchRuntimes(r.ctx(), &oaaspb.WatchRuntimesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	request := &oaaspb.DeleteDeploymentRequest{DeploymentId: "record-1", Delivery: delivery(12, "")}
	if _, err := r.deployments.DeleteDeployment(r.ctx(), request); err != nil {
		t.Fatal(err)
	}
	deleting := false
	for {
		event, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		deleting = deleting || event.GetUpserted().GetDeleting()
		if event.GetRemoved().GetDeploymentUnitId() == "record-1" {
			break
		}
	}
	if !deleting {
		t.Error("the stream did not show the deletion before the end")
	}
	kube, err := client.New(cluster.RESTConfig(), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range []client.ObjectList{&appsv1.DeploymentList{}, &corev1.ServiceList{}, &corev1.PodList{}} {
		if err := kube.List(r.ctx(), list, client.InNamespace(r.namespace)); err != nil {
			t.Fatal(err)
		}
		if n := items(list); n != 0 {
			t.Errorf("%d objects of %T are left", n, list)
		}
	}
	if _, err := r.deployments.DeleteDeployment(r.ctx(), request); status.Code(err) != codes.NotFound {
		t.Errorf("a repeated delete answered %v", err)
	}
	if code := status.Code(r.deploy("record-1", 11, "echo:2")); code != codes.FailedPrecondition {
		t.Errorf("a late create answered %v", code)
	}
	for path, want := range map[string]string{"/metrics": "oaas_crm_deliveries_total", "/readyz": "ok", "/healthz": "ok"} {
		if body := r.get(path); !strings.Contains(body, want) {
			t.Errorf("GET %s: %.200q", path, body)
		}
	}
}

func items(list client.ObjectList) int {
	switch l := list.(type) {
	case *appsv1.DeploymentList:
		return len(l.Items)
	case *corev1.ServiceList:
		return len(l.Items)
	case *corev1.PodList:
		return len(l.Items)
	}
	return -1
}

func (r *running) get(path string) string {
	r.t.Helper()
	request, err := http.NewRequestWithContext(r.ctx(), http.MethodGet, r.metrics+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(body)
}

// The manager starts without an API server, says so, begins to work when it
// comes up, and says so again while it hangs.
func TestAPIServerComesAndGoes(t *testing.T) {
	cluster := localtest.Own(t, local.Options{Name: "flaky"})
	if err := cluster.KillAPIServer(); err != nil {
		t.Fatal(err)
	}
	r := start(t, cluster.RESTConfig(), "default")
	if code := status.Code(r.deploy("record-1", 10, "echo:1")); code != codes.Unavailable {
		t.Fatalf("deploy without an API server answered %v", code)
	}
	if err := cluster.RestartAPIServer(r.ctx()); err != nil {
		t.Fatal(err)
	}
	r.eventually("the deploy is taken", func() bool { return r.deploy("record-1", 10, "echo:1") == nil })
	r.available("record-1", 10)

	if err := cluster.PauseAPIServer(); err != nil {
		t.Fatal(err)
	}
	r.eventually("the outage is told", func() bool {
		info, err := r.agent.GetClusterInfo(r.ctx(), &oaaspb.GetClusterInfoRequest{})
		return err == nil && !info.GetApiServerReady() && info.GetUid() != ""
	})
	if health, err := r.info.GetEnvHealth(r.ctx(), &oaaspb.CrmEnvRequest{}); err != nil || health.GetStatus() == "Healthy" {
		t.Errorf("health %v (%v)", health, err)
	}
	if _, err := r.deployments.ListClassRuntimes(r.ctx(), &oaaspb.ListClassRuntimesRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("list answered %v", err)
	}
	if err := cluster.ResumeAPIServer(); err != nil {
		t.Fatal(err)
	}
	r.eventually("the update is taken", func() bool { return r.deploy("record-1", 11, "echo:2") == nil })
	r.available("record-1", 11)
}

func TestOptionsNameEveryMistake(t *testing.T) {
	availability := 2.0
	o := Options{Name: "Not A Name", Namespace: "", Availability: &availability, Concurrency: -1,
		Environment: template.Environment{ODGM: template.ODGMOptions{PullPolicy: "Sometimes"}}}
	err := o.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"RESTConfig", "Listener", "Logger", "cluster name", "namespace", "availability", "concurrency", "pull policy"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
}
