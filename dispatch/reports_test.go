package dispatch_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"oaas.io/control-plane/dispatch"
	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/raftstore"
	"oaas.io/control-plane/registry"
)

// limited makes the store refuse what the log would.
func limited(w *world) {
	w.store.BeforeApply = func(cmd *pmpb.Command) error {
		if size := proto.Size(cmd); size > raftstore.MaxCommandSize {
			return fmt.Errorf("%w: %d bytes", raftstore.ErrTooLarge, size)
		}
		return nil
	}
}

// deployMany makes n deployments in one cluster and gives their unit ids.
func (w *world) deployMany(n int, env string) []string { return w.deployAs("shop.Cart", n, env) }

// deployAs is deployMany with keys that begin as given.
func (w *world) deployAs(key string, n int, env string) []string {
	w.t.Helper()
	var ids []string
	for i := range n {
		out, _, err := w.registry.Deploy(context.Background(), registry.RequestInfo{}, &model.OClassDeployment{
			Key: fmt.Sprintf("%s-%d", key, i), PackageName: "shop", ClassKey: "Cart", TargetEnvs: []string{env},
		})
		if err != nil {
			w.t.Fatal(err)
		}
		ids = append(ids, out.UnitID)
	}
	return ids
}

// say makes the runtime of a unit running, with a message.
func (m *manager) say(id, message string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := proto.CloneOf(m.objects[id])
	s.Status = &oaaspb.ClassRuntimeStatus{Condition: oaaspb.DeploymentCondition_RUNNING, Message: &message}
	m.objects[id] = s
	m.publish(&oaaspb.RuntimeEvent{Event: &oaaspb.RuntimeEvent_Upserted{Upserted: s}})
}

func running(id string) func(*fsm.Snapshot) bool {
	return func(s *fsm.Snapshot) bool { return fsm.UnitCondition(s.Unit(id)) == model.ConditionRunning }
}

// TestReportsLargerThanACommand lets many clusters' worth of long reports arrive
// together: they are committed in as many commands as it takes.
func TestReportsLargerThanACommand(t *testing.T) {
	w := newWorld(t, func(o *dispatch.Options) { o.BatchWindow = 20 * time.Millisecond })
	m := newManager("oaas-1")
	addr, _ := m.serve(t, "127.0.0.1:0", false)
	w.found.set(gossiped("oaas-1", addr))
	w.awaitHealthy("oaas-1")
	ids := w.deployMany(30, "oaas-1")
	w.await("acknowledged", allAcked)
	w.stop()
	limited(w)
	for _, id := range ids {
		m.say(id, strings.Repeat("x", 60<<10))
	}
	w.lead(w.store.NextTerm())
	for _, id := range ids {
		w.await(id+" runs", running(id))
	}
}

// TestReportThatFitsNowhere: what one cluster says without measure hinders
// nobody else, and what decides about the unit is kept.
func TestReportThatFitsNowhere(t *testing.T) {
	w := newWorld(t)
	m := newManager("oaas-1")
	addr, _ := m.serve(t, "127.0.0.1:0", false)
	w.found.set(gossiped("oaas-1", addr))
	w.awaitHealthy("oaas-1")
	ids := w.deployMany(2, "oaas-1")
	w.await("acknowledged", allAcked)
	w.stop()
	limited(w)
	m.say(ids[0], strings.Repeat("x", 2*raftstore.MaxCommandSize))
	m.say(ids[1], "ready")
	w.lead(w.store.NextTerm())
	w.await("the modest one runs", running(ids[1]))
	w.await("the other one, too", running(ids[0]))
}

// TestFailureWithoutMeasure: the text of a failure is cut before it is kept.
func TestFailureWithoutMeasure(t *testing.T) {
	w := newWorld(t)
	limited(w)
	m := newManager("oaas-1")
	addr, _ := m.serve(t, "127.0.0.1:0", false)
	w.found.set(gossiped("oaas-1", addr))
	w.awaitHealthy("oaas-1")
	m.set(func() { m.fail = status.Error(codes.InvalidArgument, strings.Repeat("é", 20<<10)) })
	out := w.deploy("cart:1", "oaas-1")
	w.await("the refusal is shown", func(s *fsm.Snapshot) bool {
		waiting := s.Unit(out.UnitID).GetWaiting()
		return waiting.GetCode() == dispatch.WaitRefused && len(waiting.GetMessage()) < 2<<10
	})
}
