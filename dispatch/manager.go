package dispatch

import (
	"context"
	"fmt"
	"sync"

	"google.golang.org/grpc"

	"oaas.io/control-plane/proto/pmpb"
)

// Manager runs the leader's loops.
type Manager struct {
	opts     Options
	metrics  *metrics
	rollouts *rolloutMetrics
	moves    *moveMetrics
}

// New makes a Manager. It does nothing before Run.
func New(opts Options) (*Manager, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	opts.setDefaults()
	m, err := newMetrics(opts.Metrics)
	if err != nil {
		return nil, fmt.Errorf("dispatch: register metrics: %w", err)
	}
	rollouts, err := newRolloutMetrics(opts.Metrics)
	if err != nil {
		return nil, fmt.Errorf("dispatch: register metrics: %w", err)
	}
	moves, err := newMoveMetrics(opts.Metrics)
	if err != nil {
		return nil, fmt.Errorf("dispatch: register metrics: %w", err)
	}
	return &Manager{opts: opts, metrics: m, rollouts: rollouts, moves: moves}, nil
}

// Run works as the leader of term until ctx ends. When it returns, all of its
// goroutines have ended. It may be run again for a later term.
func (m *Manager) Run(ctx context.Context, term uint64) error {
	var loops sync.WaitGroup
	defer loops.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	rep := newReporter(m, term)
	places := make(chan struct{}, m.opts.MaxInFlightTotal)
	loops.Go(func() { rep.run(ctx) })
	loops.Go(func() { (&fleet{m: m, term: term, busy: map[string]bool{}}).run(ctx) })
	patience := m.opts.Now().Add(m.opts.RolloutPatience)
	loops.Go(func() { (&rollouts{m: m, term: term, patience: patience, metrics: m.rollouts}).run(ctx) })
	loops.Go(func() { newMoves(m, term).run(ctx) })
	return m.supervise(ctx, term, rep, places)
}

// running is a lane that was started.
type running struct {
	address string
	conn    *grpc.ClientConn
	stop    context.CancelFunc
	done    chan struct{}
}

func (r *running) end() {
	r.stop()
	<-r.done
	_ = r.conn.Close() // its lane has ended; nothing is in flight
}

// supervise keeps exactly one lane per registered cluster, and a new one when a
// cluster's address changes.
func (m *Manager) supervise(ctx context.Context, term uint64, rep *reporter, places chan struct{}) error {
	lanes := map[string]*running{}
	defer func() {
		for _, r := range lanes {
			r.end()
		}
	}()
	for {
		snap := m.opts.Registry.State().Snapshot()
		changed := snap.WatchClusters()
		wantedLanes := map[string]*pmpb.Cluster{}
		for _, c := range snap.Clusters() {
			wantedLanes[c.GetName()] = c
		}
		for name, r := range lanes {
			if c := wantedLanes[name]; c == nil || c.GetAddress() != r.address {
				r.end()
				delete(lanes, name)
			}
		}
		for name, c := range wantedLanes {
			if lanes[name] != nil {
				continue
			}
			r, err := m.launch(ctx, term, c, rep, places)
			if err != nil {
				m.opts.Logger.Error("cluster cannot be dialled", "cluster", name, "address", c.GetAddress(), "error", err)
				continue
			}
			lanes[name] = r
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

func (m *Manager) launch(ctx context.Context, term uint64, c *pmpb.Cluster, rep *reporter, places chan struct{}) (*running, error) {
	conn, err := m.opts.Dial(c.GetName(), c.GetAddress())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &running{address: c.GetAddress(), conn: conn, stop: cancel, done: make(chan struct{})}
	l := newLane(m, term, c.GetName(), c.GetAddress(), conn, rep, places)
	go func() {
		defer close(r.done)
		l.run(ctx)
	}()
	return r, nil
}
