package dispatch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"oaas.io/control-plane/proto/oaaspb"
)

// report is what a session tells its lane. Exactly one member is set.
type report struct {
	// upserted is a runtime that is there now.
	upserted *oaaspb.ClassRuntimeSummary
	// removed is the id of a runtime that is gone.
	removed string
	// begin starts a new inventory; complete ends it. mute says that the manager tells of no
	// deliveries, so that what it has is known by name only.
	begin, complete, mute bool
	// alive says that the manager answered, and whether anything can be stored there.
	alive *oaaspb.Heartbeat
}

var (
	// errSilent ends a stream that brought nothing for too long.
	errSilent = errors.New("no message from the cluster's manager, not even a heartbeat")
	// errEndless ends a stream whose inventory does not end.
	errEndless = errors.New("the inventory of the cluster's manager does not end")
)

// follower keeps one manager's reports coming until ctx ends, reconnecting with
// backoff. It waits while the lane does not take reports, which slows the stream
// down.
type follower struct {
	conn         *grpc.ClientConn
	controlPlane func() string
	// verify asks who answers at the address. A stranger gets no session.
	verify  func(context.Context) error
	opts    *Options
	reports chan<- report
	downs   chan<- error
}

// emit hands a report to the lane, or returns false when ctx ended first.
func (s *follower) emit(ctx context.Context, r report) bool {
	select {
	case s.reports <- r:
		return true
	case <-ctx.Done():
		return false
	}
}

// reconnectPause is the longest pause between two attempts at a session.
const reconnectPause = 2 * time.Second

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
		select {
		case s.downs <- err:
		case <-ctx.Done():
			return
		}
		if s.opts.Now().Sub(started) > s.opts.SilenceLimit {
			failures = 0
		}
		failures++
		s.rest(ctx, backoff(failures, s.opts.RetryMin, min(s.opts.RetryMax, reconnectPause)))
	}
}

// rest pauses for d, but not longer than until there is a connection where there was
// none: what was away for an hour is to be served at once.
func (s *follower) rest(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	if s.conn.GetState() == connectivity.Ready {
		<-ctx.Done()
		return
	}
	for state := s.conn.GetState(); state != connectivity.Ready; state = s.conn.GetState() {
		s.conn.Connect()
		if !s.conn.WaitForStateChange(ctx, state) {
			return
		}
	}
}

// stream follows WatchRuntimes until it fails. Only the manager's silence is held
// against it, not the time that the lane takes to digest.
func (s *follower) stream(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(s.opts.SilenceLimit, func() { cancel(errSilent) })
	defer silence.Stop()
	endless := time.AfterFunc(s.opts.InventoryLimit, func() { cancel(errEndless) })
	defer endless.Stop()
	events, err := oaaspb.NewAgentServiceClient(s.conn).WatchRuntimes(ctx, &oaaspb.WatchRuntimesRequest{ControlPlaneId: s.controlPlane()})
	if err != nil {
		return err
	}
	var order framing
	for first := true; ; first = false {
		event, err := events.Recv()
		if err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		}
		silence.Stop()
		if err := order.next(event); err != nil {
			return err
		}
		if order.complete {
			endless.Stop()
		}
		if first && !s.emit(ctx, report{begin: true}) {
			return context.Cause(ctx)
		}
		if r, ok := reportOf(event); ok && !s.emit(ctx, r) {
			return context.Cause(ctx)
		}
		silence.Reset(s.opts.SilenceLimit)
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
		return report{alive: e.Heartbeat}, e.Heartbeat != nil
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
		if !s.emit(ctx, report{begin: true, mute: true}) {
			return ctx.Err()
		}
		items, err := s.list(ctx, client)
		if err != nil {
			return err
		}
		for _, item := range items {
			if item.GetDeploymentUnitId() != "" && !s.emit(ctx, report{upserted: item}) {
				return ctx.Err()
			}
		}
		if !s.emit(ctx, report{complete: true}) {
			return ctx.Err()
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
