package dispatch

import (
	"context"
	"time"

	"oaas.io/control-plane/proto/pmpb"
)

// reporter commits what the lanes learned, in batches, so that a thousand
// runtimes that become ready together cost a handful of log entries.
type reporter struct {
	opts    *Options
	term    uint64
	metrics *metrics
	in      chan *pmpb.UnitUpdate
}

func newReporter(m *Manager, term uint64) *reporter {
	return &reporter{opts: &m.opts, term: term, metrics: m.metrics, in: make(chan *pmpb.UnitUpdate, 4*m.opts.BatchSize)}
}

// add queues an update. It blocks while the queue is full, which slows the lanes
// down to the speed of the log, and gives up when ctx ends.
func (r *reporter) add(ctx context.Context, u *pmpb.UnitUpdate) {
	select {
	case r.in <- u:
	case <-ctx.Done():
	}
}

// run commits until ctx ends. A failed commit is repeated: the updates are
// facts, and the state machine ignores those that are no longer about the
// unit's wish.
func (r *reporter) run(ctx context.Context) {
	for {
		batch, ok := r.gather(ctx)
		if !ok {
			return
		}
		for failures := 1; ; failures++ {
			err := r.opts.Registry.UpdateUnits(ctx, r.term, batch)
			if err == nil {
				r.metrics.updates.Add(float64(len(batch)))
				break
			}
			if ctx.Err() != nil {
				return
			}
			r.opts.Logger.Warn("reports not committed, trying again", "updates", len(batch), "error", err)
			if !sleep(ctx, backoff(failures, r.opts.RetryMin, r.opts.RetryMax)) {
				return
			}
		}
	}
}

// gather waits for one update and takes what else comes within the window.
func (r *reporter) gather(ctx context.Context) ([]*pmpb.UnitUpdate, bool) {
	var batch []*pmpb.UnitUpdate
	select {
	case <-ctx.Done():
		return nil, false
	case u := <-r.in:
		batch = append(batch, u)
	}
	window := time.NewTimer(r.opts.BatchWindow)
	defer window.Stop()
	for len(batch) < r.opts.BatchSize {
		select {
		case <-ctx.Done():
			return nil, false
		case u := <-r.in:
			batch = append(batch, u)
		case <-window.C:
			return batch, true
		}
	}
	return batch, true
}
