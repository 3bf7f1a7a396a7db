package crm

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	coordinationv1 "k8s.io/api/coordination/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"oaas.io/control-plane/deploy/local/localtest"
	"oaas.io/control-plane/proto/oaaspb"
)

// Two replicas share one cluster: both answer and watch, one reconciles, and the
// other goes on when that one leaves or loses its lease.
func TestReplicasShareACluster(t *testing.T) {
	config := localtest.Cluster(t).RESTConfig()
	namespace := fmt.Sprintf("replicas-%d", time.Now().UnixNano())
	elected := func(o *Options) { o.LeaderElection = true }
	replicas := []*running{start(t, config, namespace, elected), start(t, config, namespace, elected)}
	for i, r := range replicas {
		r.eventually(fmt.Sprintf("replica %d is ready", i), func() bool { return r.ready() })
	}
	a, b := replicas[0], replicas[1]
	streams := []*told{a.watch(), b.watch()}

	a.eventually("the first deploy is taken", func() bool { return a.deploy("record-1", 10, "echo:1") == nil })
	b.available("record-1", 10)
	if err := b.deploy("record-1", 11, "echo:2"); err != nil {
		t.Fatal(err)
	}
	a.available("record-1", 11)
	for i, s := range streams {
		s.sees(fmt.Sprintf("replica %d tells of the change", i), func(e *oaaspb.RuntimeEvent) bool {
			return e.GetUpserted().GetDelivery().GetFence() == 11 && e.GetUpserted().GetStatus().GetMessage() == "Available"
		})
	}

	// The leader leaves.
	leader, rest := a, b
	if b.reconciles() > 0 {
		leader, rest = b, a
	}
	if leader.reconciles() == 0 || rest.reconciles() > 0 {
		t.Fatalf("passes: %v and %v, want one replica to reconcile", a.reconciles(), b.reconciles())
	}
	leader.stop()
	if err := rest.deploy("record-1", 12, "echo:3"); err != nil {
		t.Fatal(err)
	}
	rest.available("record-1", 12)

	// The one that is left loses its lease: its streams end, since their source is
	// replaced, and it goes on once it is elected again.
	stream := rest.watch()
	kube, err := client.New(config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	give := func(holder string) {
		rest.eventually("the lease is given to "+holder, func() bool {
			lease := &coordinationv1.Lease{}
			if err := kube.Get(rest.ctx(), client.ObjectKey{Namespace: namespace, Name: leaseName}, lease); err != nil {
				t.Fatal(err)
			}
			lease.Spec.HolderIdentity = &holder
			return kube.Update(rest.ctx(), lease) == nil
		})
	}
	give("somebody")
	if err := stream.end(); status.Code(err) != codes.Aborted {
		t.Errorf("the stream ended with %v", err)
	}
	give("")
	rest.eventually("a deploy is taken", func() bool { return rest.deploy("record-1", 13, "echo:4") == nil })
	rest.available("record-1", 13)
}

func (r *running) ready() bool {
	request, err := http.NewRequestWithContext(r.ctx(), http.MethodGet, r.metrics+"/readyz", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode == http.StatusOK
}

// reconciles is how many status writes this replica made.
func (r *running) reconciles() float64 {
	r.t.Helper()
	for line := range strings.Lines(r.get("/metrics")) {
		if text, found := strings.CutPrefix(line, "oaas_crm_status_writes_total "); found {
			var n float64
			if _, err := fmt.Sscan(text, &n); err != nil {
				r.t.Fatal(err)
			}
			return n
		}
	}
	r.t.Fatal("no count of status writes")
	return 0
}

// told is an open stream of events.
type told struct {
	t      *testing.T
	stream grpc.ServerStreamingClient[oaaspb.RuntimeEvent]
}

// watch opens a stream and reads its inventory.
func (r *running) watch() *told {
	r.t.Helper()
	stream, err := r.agent.WatchRuntimes(r.ctx(), &oaaspb.WatchRuntimesRequest{})
	if err != nil {
		r.t.Fatal(err)
	}
	s := &told{t: r.t, stream: stream}
	s.sees("the inventory is complete", func(e *oaaspb.RuntimeEvent) bool { return e.GetInventoryComplete() != nil })
	return s
}

func (s *told) sees(what string, is func(*oaaspb.RuntimeEvent) bool) {
	s.t.Helper()
	for {
		event, err := s.stream.Recv()
		if err != nil {
			s.t.Fatalf("%s: %v", what, err)
		}
		if is(event) {
			return
		}
	}
}

// end reads until the stream ends and says how.
func (s *told) end() error {
	for {
		if _, err := s.stream.Recv(); err != nil {
			return err
		}
	}
}
