package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"

	"oaas.io/control-plane/proto/oaaspb"
)

// events reads a stream in the background until the test ends.
type events struct {
	t      *testing.T
	events chan *oaaspb.RuntimeEvent
	err    chan error
}

func (h *harness) watch() *events {
	h.t.Helper()
	ctx, cancel := context.WithCancel(h.t.Context())
	stream, err := h.agent.WatchRuntimes(ctx, &oaaspb.WatchRuntimesRequest{ControlPlaneId: "pm-1"})
	if err != nil {
		h.t.Fatal(err)
	}
	e := &events{t: h.t, events: make(chan *oaaspb.RuntimeEvent), err: make(chan error, 1)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			event, err := stream.Recv()
			if err != nil {
				e.err <- err
				return
			}
			select {
			case e.events <- event:
			case <-ctx.Done():
				e.err <- ctx.Err()
				return
			}
		}
	}()
	h.t.Cleanup(func() { cancel(); <-done })
	return e
}

// next is the next event that is not a heartbeat.
func (e *events) next() *oaaspb.RuntimeEvent {
	e.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case event := <-e.events:
			if event.GetHeartbeat() == nil {
				return event
			}
		case err := <-e.err:
			e.t.Fatalf("stream ended: %v", err)
		case <-deadline:
			e.t.Fatal("no event")
		}
	}
}

func TestWatchSendsInventoryThenChanges(t *testing.T) {
	h := attachedServer(t)
	for i := range 3 {
		h.mustDeploy(unitOf(fmt.Sprintf("unit-%d", i), 10, "a:1"))
	}
	stream := h.watch()
	var inventory []string
	for {
		event := stream.next()
		if complete := event.GetInventoryComplete(); complete != nil {
			if complete.GetCount() != 3 {
				t.Errorf("count %d", complete.GetCount())
			}
			break
		}
		inventory = append(inventory, event.GetUpserted().GetId())
	}
	if diff := cmp.Diff([]string{"unit-0", "unit-1", "unit-2"}, inventory); diff != "" {
		t.Error(diff)
	}

	h.mustDeploy(unitOf("unit-1", 11, "b:1"))
	changed := stream.next().GetUpserted()
	if changed.GetId() != "unit-1" || changed.GetDelivery().GetFence() != 11 || changed.GetResourceVersion() == "" {
		t.Errorf("change %v", changed)
	}
	if err := h.delete("unit-1", deliveryAt(12, "")); err != nil {
		t.Fatal(err)
	}
	removed := stream.next().GetRemoved()
	if removed.GetDeploymentUnitId() != "unit-1" || removed.GetDelivery().GetFence() != 11 {
		t.Errorf("removal %v", removed)
	}
	h.mustDeploy(unitOf("unit-1", 13, "c:1"))
	if again := stream.next().GetUpserted(); again.GetId() != "unit-1" || again.GetDelivery().GetFence() != 13 {
		t.Errorf("created again: %v", again)
	}
}

func TestWatchHeartbeatTellsTheAPIServer(t *testing.T) {
	h := attachedServer(t)
	stream := h.watch()
	stream.next() // inventory complete
	h.api.set(APIState{Err: errors.New("gone")})
	eventually(t, "a heartbeat says that the API server is away", func() bool {
		return !(<-stream.events).GetHeartbeat().GetApiServerReady()
	})
	h.api.set(APIState{Ready: true})
	eventually(t, "a heartbeat says that it is back", func() bool {
		return (<-stream.events).GetHeartbeat().GetApiServerReady()
	})
}

func TestWatchEndsWhenTheSourceGoes(t *testing.T) {
	h := attachedServer(t)
	stream := h.watch()
	stream.next()
	h.detach()
	deadline := time.After(patience)
	for {
		select {
		case <-stream.events:
			continue
		case err := <-stream.err:
			wantCode(t, err, codes.Aborted)
		case <-deadline:
			t.Fatal("the stream stays open")
		}
		break
	}
	_, err := h.deploy(unitOf("record-1", 1, "a:1"))
	wantCode(t, err, codes.Unavailable)
}

func TestWithoutKubernetes(t *testing.T) {
	h := unattached(t, "default")
	h.api.set(APIState{Err: errors.New("connection refused")})
	_, err := h.deploy(unitOf("record-1", 1, "a:1"))
	wantCode(t, err, codes.Unavailable)
	wantCode(t, h.delete("record-1", nil), codes.Unavailable)
	_, err = h.deployments.ListClassRuntimes(h.ctx(), &oaaspb.ListClassRuntimesRequest{})
	wantCode(t, err, codes.Unavailable)
	_, err = h.agent.GetClusterInfo(h.ctx(), &oaaspb.GetClusterInfoRequest{})
	wantCode(t, err, codes.Unavailable)
	stream, err := h.agent.WatchRuntimes(h.ctx(), &oaaspb.WatchRuntimesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	wantCode(t, err, codes.Unavailable)
	env, err := h.info.GetEnvHealth(h.ctx(), &oaaspb.CrmEnvRequest{})
	if err != nil || env.GetStatus() != "Unhealthy" || env.LastSeen != nil {
		t.Errorf("health %v (%v)", env, err)
	}
	check, err := h.health.Check(h.ctx(), &oaaspb.HealthCheckRequest{})
	if err != nil || check.GetStatus() != oaaspb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("check %v (%v)", check, err)
	}
}

func TestClusterReport(t *testing.T) {
	h := attachedServer(t)
	var info *oaaspb.ClusterInfo
	eventually(t, "the nodes are ready", func() bool {
		var err error
		if info, err = h.agent.GetClusterInfo(h.ctx(), &oaaspb.GetClusterInfoRequest{}); err != nil {
			t.Fatal(err)
		}
		return info.GetReadyNodes() == local3
	})
	if info.GetUid() == "" || info.GetName() != "edge-1" || info.GetRegion() != "eu" || info.GetZone() != "eu-a" ||
		info.GetNamespace() != h.namespace || !info.GetApiServerReady() || info.GetNodeCount() != local3 ||
		info.Availability != nil || info.GetLabels()["tier"] != "edge" {
		t.Errorf("info %v", info)
	}
	env, err := h.info.GetEnvHealth(h.ctx(), &oaaspb.CrmEnvRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if env.GetEnvName() != "edge-1" || env.GetStatus() != "Healthy" || env.GetNodeCount() != local3 ||
		env.GetReadyNodes() != local3 || env.Availability != nil || env.LastSeen == nil {
		t.Errorf("health %v", env)
	}
	named, err := h.info.GetEnvHealth(h.ctx(), &oaaspb.CrmEnvRequest{Env: "other-name"})
	if err != nil || named.GetEnvName() != "other-name" {
		t.Errorf("health %v (%v)", named, err)
	}
}

// local3 is the number of nodes of the test cluster.
const local3 = 3

// One port speaks gRPC, with reflection and the standard health service, and
// HTTP/1.1.
func TestOnePortForBoth(t *testing.T) {
	h := attachedServer(t)
	for path, want := range map[string]int{"/health": 200, "/healthz": 200, "/readyz": 200, "/other": 404} {
		request, err := http.NewRequestWithContext(h.ctx(), http.MethodGet, "http://"+h.conn.Target()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultTransport.(*http.Transport).Clone().RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != want || want == 200 && string(body) != "ok" {
			t.Errorf("GET %s: %d %q %v", path, response.StatusCode, body, err)
		}
	}
	standard, err := healthpb.NewHealthClient(h.conn).Check(h.ctx(), &healthpb.HealthCheckRequest{})
	if err != nil || standard.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("grpc.health.v1: %v (%v)", standard, err)
	}
	stream, err := reflectionpb.NewServerReflectionClient(h.conn).ServerReflectionInfo(h.ctx())
	if err != nil {
		t.Fatal(err)
	}
	request := &reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{
		FileContainingSymbol: "oaas.agent.AgentService",
	}}
	if err := stream.Send(request); err != nil {
		t.Fatal(err)
	}
	answer, err := stream.Recv()
	if err != nil || len(answer.GetFileDescriptorResponse().GetFileDescriptorProto()) == 0 {
		t.Errorf("reflection: %v (%v)", answer, err)
	}
}

func TestTopologyNamesClassesAndEnvironment(t *testing.T) {
	h := attachedServer(t)
	h.mustDeploy(unitOf("record-1", 1, "a:1"))
	topology := oaaspb.NewTopologyServiceClient(h.conn)
	var ids []string
	eventually(t, "the class shows", func() bool {
		snapshot, err := topology.GetTopology(h.ctx(), &oaaspb.TopologyRequest{})
		if err != nil {
			t.Fatal(err)
		}
		ids = nil
		for _, node := range snapshot.GetNodes() {
			ids = append(ids, node.GetId())
		}
		return len(ids) == 2
	})
	if diff := cmp.Diff([]string{"class::example.Record", "env::edge-1"}, ids); diff != "" {
		t.Error(diff)
	}
}

// A caller without a deadline is not left hanging by an API server that hangs.
func TestBudgetEndsACall(t *testing.T) {
	h := unattached(t, "default")
	h.server.opts.CallBudget = 10 * time.Millisecond
	_, err := h.server.budgetUnary(context.Background(), nil, &grpc.UnaryServerInfo{}, func(ctx context.Context, _ any) (any, error) {
		<-ctx.Done()
		return nil, fromKubernetes(ctx, "read", ctx.Err())
	})
	wantCode(t, err, codes.Unavailable)
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	_, err = h.server.budgetUnary(ctx, nil, &grpc.UnaryServerInfo{}, func(ctx context.Context, _ any) (any, error) {
		<-ctx.Done()
		return nil, fromKubernetes(ctx, "read", ctx.Err())
	})
	wantCode(t, err, codes.DeadlineExceeded)
}

func TestPanicIsAnswered(t *testing.T) {
	h := unattached(t, "default")
	_, err := h.server.recoverUnary(context.Background(), nil, &grpc.UnaryServerInfo{FullMethod: "/x"},
		func(context.Context, any) (any, error) { return []int{}[len(t.Name())], nil })
	wantCode(t, err, codes.Internal)
}
