package agent

import (
	"context"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"oaas.io/control-plane/deploy/local/port"
	"oaas.io/control-plane/proto/oaaspb"
)

// watched counts what a watch of an agent with one unit brings until enough has come or it ends.
type watched struct {
	upserts, completes int
	first              *oaaspb.RuntimeEvent
	ended              bool
}

func watch(t *testing.T, conn *grpc.ClientConn, enough int) (w watched) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	stream, err := oaaspb.NewAgentServiceClient(conn).WatchRuntimes(ctx, &oaaspb.WatchRuntimesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for w.upserts+w.completes < enough {
		e, err := stream.Recv()
		if err != nil {
			w.ended = true
			return w
		}
		if w.first == nil {
			w.first = e
		}
		if e.GetUpserted() != nil {
			w.upserts++
		}
		if e.GetInventoryComplete() != nil {
			w.completes++
		}
	}
	return w
}

func TestMisbehaviours(t *testing.T) {
	for _, b := range Misbehaviours() {
		t.Run(string(b), func(t *testing.T) {
			a, conn := start(t, Options{Name: "edge", Heartbeat: 20 * time.Millisecond, Behaviour: b})
			if _, err := a.Deploy(t.Context(), unit("u", "a", 1, 1)); err != nil {
				t.Fatal(err)
			}
			soon, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			switch b {
			case Mute:
				if _, err := oaaspb.NewAgentServiceClient(conn).GetClusterInfo(soon, nil); status.Code(err) != codes.DeadlineExceeded {
					t.Errorf("it answers %v", err)
				}
			case Hanging:
				if _, err := oaaspb.NewDeploymentServiceClient(conn).Deploy(soon, unit("u", "a", 1, 2)); status.Code(err) != codes.DeadlineExceeded {
					t.Errorf("it answers %v", err)
				}
			case Garbling:
				info, err := oaaspb.NewAgentServiceClient(conn).GetClusterInfo(t.Context(), &oaaspb.GetClusterInfoRequest{})
				if err != nil || len(info.GetLabels()) < 1000 {
					t.Errorf("it describes itself with %d labels, %v", len(info.GetLabels()), err)
				}
			case Flooding:
				if w := watch(t, conn, 1000); w.upserts < 900 || w.completes != 1 {
					t.Errorf("%+v", w)
				}
			case Endless:
				if w := watch(t, conn, 1000); w.upserts < 1000 || w.completes != 0 {
					t.Errorf("%+v", w)
				}
			case Dropping:
				if w := watch(t, conn, 1000); !w.ended || w.completes != 1 {
					t.Errorf("%+v", w)
				}
			case Vanishing:
				if w := watch(t, conn, 1); w.first.GetInventoryComplete() == nil {
					t.Errorf("it has %v", w.first)
				}
			case Doubling:
				if w := watch(t, conn, 3); w.completes != 2 {
					t.Errorf("%+v", w)
				}
			default:
				t.Errorf("nothing is known of what %q does", b)
			}
		})
	}
}

func TestUnpluggedAgentKeepsWhatItHas(t *testing.T) {
	// A port that no outgoing connection takes while nobody listens there.
	lease, err := port.Reserve(1)
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Release()
	a, conn := start(t, Options{Name: "edge", Address: fmt.Sprintf("127.0.0.1:%d", lease.Port(0))})
	client := oaaspb.NewDeploymentServiceClient(conn)
	if _, err := client.Deploy(t.Context(), unit("u", "a", 1, 1)); err != nil {
		t.Fatal(err)
	}
	if w := watch(t, conn, 2); w.completes != 1 {
		t.Errorf("%+v", w)
	}
	if err := a.Unplug(); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Deploy(t.Context(), unit("u", "a", 1, 2)); status.Code(err) != codes.Unavailable {
		t.Errorf("unplugged: %v", err)
	}
	if err := a.Plug(); err != nil {
		t.Fatal(err)
	}
	list, err := client.ListClassRuntimes(t.Context(), &oaaspb.ListClassRuntimesRequest{}, grpc.WaitForReady(true))
	if err != nil || len(list.GetItems()) != 1 || a.Deliveries()["u"].GetFence() != 1 {
		t.Errorf("plugged in again: %v, %v", list, err)
	}
	if err := a.Unplug(); err != nil {
		t.Fatal(err)
	}
	if a.Wipe(); a.Objects() != 0 {
		t.Error("it has something after it was wiped")
	}
}
