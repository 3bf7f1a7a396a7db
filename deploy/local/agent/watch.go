package agent

import (
	"time"

	"google.golang.org/grpc"

	"oaas.io/control-plane/proto/oaaspb"
)

// watcher holds the ids of the objects that changed and that its reader has not been told of. What they are now is looked up
// when they are sent.
type watcher struct {
	changed map[string]bool
	// wake has room for one: it says that changed is not empty.
	wake chan struct{}
}

func (a *Agent) publishLocked(id string) {
	for w := range a.watchers {
		w.changed[id] = true
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

// inventory gives all objects, and registers w with the same view of them.
func (a *Agent) inventory(w *watcher) []*oaaspb.ClassRuntimeSummary {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := make([]*oaaspb.ClassRuntimeSummary, 0, len(a.objects))
	for _, s := range a.objects {
		all = append(all, s)
	}
	if w != nil {
		a.watchers[w] = true
	}
	return all
}

// drain takes what w has not been told of.
func (a *Agent) drain(w *watcher) []*oaaspb.RuntimeEvent {
	a.mu.Lock()
	defer a.mu.Unlock()
	events := make([]*oaaspb.RuntimeEvent, 0, len(w.changed))
	for id := range w.changed {
		if s := a.objects[id]; s != nil {
			events = append(events, upserted(s))
			continue
		}
		events = append(events, &oaaspb.RuntimeEvent{Event: &oaaspb.RuntimeEvent_Removed{Removed: &oaaspb.RuntimeRemoved{DeploymentUnitId: id}}})
	}
	clear(w.changed)
	return events
}

func upserted(s *oaaspb.ClassRuntimeSummary) *oaaspb.RuntimeEvent {
	return &oaaspb.RuntimeEvent{Event: &oaaspb.RuntimeEvent_Upserted{Upserted: s}}
}

// WatchRuntimes sends the inventory and then every change, and a heartbeat when there is none.
func (a *Agent) WatchRuntimes(_ *oaaspb.WatchRuntimesRequest, stream grpc.ServerStreamingServer[oaaspb.RuntimeEvent]) error {
	w := &watcher{changed: map[string]bool{}, wake: make(chan struct{}, 1)}
	all := a.inventory(w)
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.watchers, w)
	}()
	for _, s := range all {
		if err := stream.Send(upserted(s)); err != nil {
			return err
		}
	}
	complete := &oaaspb.InventoryComplete{Count: uint32(len(all))} //nolint:gosec // no machine holds more
	if err := stream.Send(&oaaspb.RuntimeEvent{Event: &oaaspb.RuntimeEvent_InventoryComplete{InventoryComplete: complete}}); err != nil {
		return err
	}
	a.mu.Lock()
	a.inventories++
	a.mu.Unlock()
	heartbeat := time.NewTicker(a.options.Heartbeat)
	defer heartbeat.Stop()
	for {
		events := []*oaaspb.RuntimeEvent{{Event: &oaaspb.RuntimeEvent_Heartbeat{Heartbeat: &oaaspb.Heartbeat{ApiServerReady: true}}}}
		select {
		case <-stream.Context().Done():
			return nil
		case <-w.wake:
			events = a.drain(w)
		case <-heartbeat.C:
		}
		for _, e := range events {
			if err := stream.Send(e); err != nil {
				return err
			}
		}
	}
}
