package dispatch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"oaas.io/control-plane/proto/oaaspb"
)

// report is what a session tells its lane. Exactly one member is set.
type report struct {
	// upserted is a runtime that is there now.
	upserted *oaaspb.ClassRuntimeSummary
	// removed is the id of a runtime that is gone.
	removed string
	// begin starts a new inventory; complete ends it.
	begin, complete bool
	// alive says that the manager answered, and whether its API server does.
	alive *bool
	// down says why the session ended.
	down error
}

// errSilent ends a stream that brought nothing for too long.
var errSilent = errors.New("no message from the cluster's manager, not even a heartbeat")

// follower keeps one manager's reports coming until ctx ends, reconnecting with
// backoff. emit blocks while the lane is busy, which slows the stream down; it
// returns false when the lane is gone.
type follower struct {
	conn         *grpc.ClientConn
	controlPlane func() string
	// verify asks who answers at the address. A stranger gets no session.
	verify func(context.Context) error
	opts   *Options
	emit   func(report) bool
}

func (s *follower) run(ctx context.Context) {
	failures := 0
	for ctx.Err() == nil {
		started := s.opts.Now()
		err := s.verify(ctx)
		if err == nil {
			err = s.stream(ctx)
		}
		if status.Code(err) == codes.Unimplemented {
			err = s.poll(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		if !s.emit(report{down: err}) {
			return
		}
		if s.opts.Now().Sub(started) > s.opts.SilenceLimit {
			failures = 0
		}
		failures++
		if !sleep(ctx, backoff(failures, s.opts.RetryMin, min(s.opts.RetryMax, 2*time.Second))) {
			return
		}
	}
}

// stream follows WatchRuntimes until it fails.
func (s *follower) stream(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(s.opts.SilenceLimit, func() { cancel(errSilent) })
	defer silence.Stop()
	events, err := oaaspb.NewAgentServiceClient(s.conn).WatchRuntimes(ctx, &oaaspb.WatchRuntimesRequest{ControlPlaneId: s.controlPlane()})
	if err != nil {
		return err
	}
	first := true
	for {
		event, err := events.Recv()
		if err != nil {
			if errors.Is(context.Cause(ctx), errSilent) {
				return errSilent
			}
			return err
		}
		silence.Reset(s.opts.SilenceLimit)
		if first && !s.emit(report{begin: true}) {
			return ctx.Err()
		}
		first = false
		if r, ok := reportOf(event); ok && !s.emit(r) {
			return ctx.Err()
		}
	}
}

func reportOf(event *oaaspb.RuntimeEvent) (report, bool) {
	switch e := event.GetEvent().(type) {
	case *oaaspb.RuntimeEvent_Upserted:
		return report{upserted: e.Upserted}, e.Upserted.GetDeploymentUnitId() != ""
	case *oaaspb.RuntimeEvent_Removed:
		return report{removed: e.Removed.GetDeploymentUnitId()}, e.Removed.GetDeploymentUnitId() != ""
	case *oaaspb.RuntimeEvent_InventoryComplete:
		return report{complete: true}, true
	case *oaaspb.RuntimeEvent_Heartbeat:
		ready := e.Heartbeat.GetApiServerReady()
		return report{alive: &ready}, true
	default:
		return report{}, false // an event of a newer manager
	}
}

// poll asks a manager that has no stream for its whole inventory, again and again.
func (s *follower) poll(ctx context.Context) error {
	client := oaaspb.NewDeploymentServiceClient(s.conn)
	for {
		// Before the question: what a call confirms while the answer is on its way is
		// not in it, and is not to be taken for lost.
		if !s.emit(report{begin: true}) {
			return ctx.Err()
		}
		items, err := s.list(ctx, client)
		if err != nil {
			return err
		}
		ready := true
		reports := []report{{alive: &ready}}
		for _, item := range items {
			reports = append(reports, report{upserted: item})
		}
		for _, r := range append(reports, report{complete: true}) {
			if !s.emit(r) {
				return ctx.Err()
			}
		}
		if !sleep(ctx, s.opts.PollInterval) {
			return ctx.Err()
		}
	}
}

func (s *follower) list(ctx context.Context, client oaaspb.DeploymentServiceClient) ([]*oaaspb.ClassRuntimeSummary, error) {
	ctx, cancel := context.WithTimeout(ctx, s.opts.CallTimeout)
	defer cancel()
	resp, err := client.ListClassRuntimes(ctx, &oaaspb.ListClassRuntimesRequest{})
	if err != nil {
		return nil, fmt.Errorf("list class runtimes: %w", err)
	}
	return resp.GetItems(), nil
}

// sleep pauses for d, or returns false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
