package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"oaas.io/control-plane/discovery"
	"oaas.io/control-plane/dispatch"
	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
)

// doubtful are credentials that trust nobody while there is a reason.
type doubtful struct {
	credentials.TransportCredentials
	reason *atomic.Pointer[string]
}

func (d doubtful) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if why := d.reason.Load(); why != nil {
		return nil, nil, fmt.Errorf("%w: %s", dispatch.ErrUntrusted, *why)
	}
	return d.TransportCredentials.ClientHandshake(ctx, authority, conn)
}

func (d doubtful) Clone() credentials.TransportCredentials { return d }

// A manager that cannot be trusted is told of with the reason, also when it was not
// reached before, and harms nobody else.
func TestUntrustedManagerIsUnreachableWithTheReason(t *testing.T) {
	var reason atomic.Pointer[string]
	w := newWorld(t, func(o *dispatch.Options) {
		o.Dial = func(cluster, address string) (*grpc.ClientConn, error) {
			creds := insecure.NewCredentials()
			if cluster == "oaas-1" {
				creds = doubtful{creds, &reason}
			}
			return grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(creds))
		}
	})
	one, two := newManager("oaas-1"), newManager("oaas-2")
	addr1, stop := one.serve(t, "127.0.0.1:0", false)
	addr2, _ := two.serve(t, "127.0.0.1:0", false)
	w.found.set(gossiped("oaas-1", addr1), gossiped("oaas-2", addr2))
	w.awaitHealthy("oaas-1", "oaas-2")
	says := func(what, text string) {
		t.Helper()
		w.await(what, func(s *fsm.Snapshot) bool {
			c := s.Cluster("oaas-1")
			return c.GetHealth() == pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE && strings.Contains(c.GetHealthMessage(), text)
		})
	}
	stop()
	says("it does not answer", "the manager does not answer")
	why := `its certificate is "odd"`
	reason.Store(&why)
	_, stop = one.serve(t, addr1, false)
	says("it is not trusted", `no trusted connection to the manager: its certificate is "odd"`)
	w.deploy("cart:1", "oaas-1", "oaas-2")
	w.await("one waits with the reason, the other has it", func(s *fsm.Snapshot) bool {
		acked, waiting := 0, 0
		for _, u := range s.Units() {
			switch {
			case fsm.Acknowledged(u):
				acked++
			case u.GetWaiting().GetCode() == dispatch.WaitUnreachable && strings.Contains(u.GetWaiting().GetMessage(), why):
				waiting++
			}
		}
		return acked == 1 && waiting == 1
	})
	_, err := w.manager.Preview(t.Context(), "oaas-1", addr1, &oaaspb.DeploymentUnit{Id: "u-1"})
	var preview *dispatch.PreviewError
	if !errors.As(err, &preview) || preview.Code() != dispatch.WaitUnreachable || !strings.Contains(preview.Message(), why) {
		t.Errorf("a preview says %v", err)
	}
	reason.Store(nil)
	w.awaitHealthy("oaas-1")
	w.await("both have it", allAcked)
	stop()
}

// What gossip proposes and cannot be trusted does not get registered.
func TestUntrustedCandidateIsNotRegistered(t *testing.T) {
	var reason atomic.Pointer[string]
	why := "odd"
	reason.Store(&why)
	w := newWorld(t, func(o *dispatch.Options) {
		o.Dial = func(_, address string) (*grpc.ClientConn, error) {
			return grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(doubtful{insecure.NewCredentials(), &reason}))
		}
	})
	addr, _ := newManager("oaas-1").serve(t, "127.0.0.1:0", false)
	other, _ := newManager("oaas-2").serve(t, "127.0.0.1:0", false)
	w.found.set(gossiped("oaas-1", addr), discovery.Candidate{Name: "oaas-2", Address: other, Source: discovery.SourceStatic})
	w.await("what is configured is registered", func(s *fsm.Snapshot) bool { return s.Cluster("oaas-2") != nil })
	if w.store.State().Snapshot().Cluster("oaas-1") != nil {
		t.Error("registered without trust")
	}
	reason.Store(nil)
	w.found.set(gossiped("oaas-1", addr))
	w.awaitHealthy("oaas-1")
}
