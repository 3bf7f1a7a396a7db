package dispatch

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
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

// run commits until ctx ends.
func (r *reporter) run(ctx context.Context) {
	for {
		batch, ok := r.gather(ctx)
		if !ok || !r.commit(ctx, batch) {
			return
		}
	}
}

// commit stores a batch, or reports false when ctx ended first. What failed is
// repeated: the updates are facts, and the state machine ignores those that are
// no longer about the unit's wish. What is refused for good is halved until the
// update that is at fault stands alone; that one is given up, because all
// clusters' reports wait behind it.
func (r *reporter) commit(ctx context.Context, batch []*pmpb.UnitUpdate) bool {
	for failures := 1; ; failures++ {
		err := r.opts.Registry.UpdateUnits(ctx, r.term, batch)
		if err == nil {
			r.metrics.updates.Add(float64(len(batch)))
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		switch code := registry.CodeOf(err); {
		case code != registry.TooLarge && code != registry.InvalidArgument:
		case len(batch) > 1:
			half := len(batch) / 2
			return r.commit(ctx, batch[:half]) && r.commit(ctx, batch[half:])
		default:
			r.opts.Logger.Error("report given up", "unit", batch[0].GetId(), "bytes", proto.Size(batch[0]), "error", err)
			return true
		}
		r.opts.Logger.Warn("reports not committed, trying again", "updates", len(batch), "error", err)
		if !sleep(ctx, backoff(failures, r.opts.RetryMin, r.opts.RetryMax)) {
			return false
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
	for size := proto.Size(batch[0]); len(batch) < r.opts.BatchSize && size < r.opts.BatchBytes; {
		select {
		case <-ctx.Done():
			return nil, false
		case u := <-r.in:
			batch = append(batch, u)
			size += proto.Size(u)
		case <-window.C:
			return batch, true
		}
	}
	return batch, true
}
