package agent

import (
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"oaas.io/control-plane/proto/oaaspb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var ordinary = Options{Name: "edge", Heartbeat: 20 * time.Millisecond}

func start(t *testing.T, options Options) (*Agent, *grpc.ClientConn) {
	t.Helper()
	a, err := Start(options)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(a.Address(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		if err := a.Stop(); err != nil {
			t.Error(err)
		}
	})
	return a, conn
}

func unit(id, uid string, epoch, fence uint64) *oaaspb.DeployRequest {
	return &oaaspb.DeployRequest{DeploymentUnit: &oaaspb.DeploymentUnit{Id: id, Delivery: &oaaspb.Delivery{
		Epoch: epoch, Fence: fence, DeploymentUid: uid, ControlPlaneId: "pm",
	}}}
}

func TestFences(t *testing.T) {
	_, conn := start(t, ordinary)
	client := oaaspb.NewDeploymentServiceClient(conn)
	deploy := func(uid string, epoch, fence uint64) codes.Code {
		_, err := client.Deploy(t.Context(), unit("u", uid, epoch, fence))
		return status.Code(err)
	}
	remove := func(epoch, fence uint64) codes.Code {
		_, err := client.DeleteDeployment(t.Context(), &oaaspb.DeleteDeploymentRequest{DeploymentId: "u", Delivery: &oaaspb.Delivery{Epoch: epoch, Fence: fence}})
		return status.Code(err)
	}
	for i, step := range []struct{ got, want codes.Code }{
		{deploy("a", 1, 5), codes.OK}, {deploy("a", 1, 5), codes.OK}, {deploy("a", 1, 4), codes.FailedPrecondition},
		{deploy("b", 1, 9), codes.AlreadyExists}, {deploy("a", 2, 1), codes.OK}, {remove(1, 99), codes.FailedPrecondition},
		{remove(2, 2), codes.OK}, {remove(2, 2), codes.NotFound}, {deploy("a", 2, 2), codes.FailedPrecondition}, {deploy("b", 2, 3), codes.OK},
	} {
		if step.got != step.want {
			t.Errorf("step %d: %s, want %s", i, step.got, step.want)
		}
	}
}

// next gives the next event that is no heartbeat.
func next(t *testing.T, stream grpc.ServerStreamingClient[oaaspb.RuntimeEvent]) *oaaspb.RuntimeEvent {
	t.Helper()
	for {
		e, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if e.GetHeartbeat() == nil {
			return e
		}
	}
}

func TestWatch(t *testing.T) {
	_, conn := start(t, ordinary)
	client := oaaspb.NewDeploymentServiceClient(conn)
	if _, err := client.Deploy(t.Context(), unit("u", "a", 1, 1)); err != nil {
		t.Fatal(err)
	}
	stream, err := oaaspb.NewAgentServiceClient(conn).WatchRuntimes(t.Context(), &oaaspb.WatchRuntimesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if e := next(t, stream); e.GetUpserted().GetStatus().GetCondition() != oaaspb.DeploymentCondition_RUNNING {
		t.Errorf("the inventory begins with %v", e)
	}
	if e := next(t, stream); e.GetInventoryComplete().GetCount() != 1 {
		t.Errorf("the inventory ends with %v", e)
	}
	if _, err := client.DeleteDeployment(t.Context(), &oaaspb.DeleteDeploymentRequest{DeploymentId: "u", Delivery: &oaaspb.Delivery{Epoch: 1, Fence: 2}}); err != nil {
		t.Fatal(err)
	}
	if e := next(t, stream); e.GetRemoved().GetDeploymentUnitId() != "u" {
		t.Errorf("a removal is told as %v", e)
	}
	e, err := stream.Recv()
	if err != nil || !e.GetHeartbeat().GetApiServerReady() {
		t.Errorf("in silence: %v, %v", e, err)
	}
}

// A reader that never reads holds nobody up, however much there is to tell.
func TestSlowWatcher(t *testing.T) {
	const count = 20_000
	a, conn := start(t, ordinary)
	for i := range count {
		if _, err := a.Deploy(t.Context(), unit(fmt.Sprintf("u-%d", i), "a", 1, 1)); err != nil {
			t.Fatal(err)
		}
	}
	agent := oaaspb.NewAgentServiceClient(conn)
	slow, err := agent.WatchRuntimes(t.Context(), &oaaspb.WatchRuntimesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	next(t, slow) // the watch is there
	for i := range count {
		if _, err := a.Deploy(t.Context(), unit(fmt.Sprintf("u-%d", i), "a", 1, 2)); err != nil {
			t.Fatal(err)
		}
	}
	// Then it reads on, and is told the newest of everything.
	newest := map[string]uint64{}
	complete := false
	for done := 0; done < count || !complete; {
		e := next(t, slow)
		complete = complete || e.GetInventoryComplete() != nil
		if u := e.GetUpserted(); u != nil {
			if u.GetDelivery().GetFence() == 2 && newest[u.GetId()] != 2 {
				done++
			}
			newest[u.GetId()] = u.GetDelivery().GetFence()
		}
	}
	if a.Objects() != count || a.Deploys() != 2*count {
		t.Errorf("%d objects after %d calls", a.Objects(), a.Deploys())
	}
}
