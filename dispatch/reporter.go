package dispatch

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
)

// reporter commits what the lanes learned, in batches, so that a thousand
// runtimes that become ready together cost a handful of log entries. The lanes
// stand in line at its channel and each hands over a small batch when it is its
// turn: one that has much to tell delays the others by no more than that.
type reporter struct {
	opts    *Options
	term    uint64
	metrics *metrics
	in      chan []*pmpb.UnitUpdate
}

func newReporter(m *Manager, term uint64) *reporter {
	return &reporter{opts: &m.opts, term: term, metrics: m.metrics, in: make(chan []*pmpb.UnitUpdate)}
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
// no longer about the unit's wish. What is refused for what it is, is halved until
// the update that is at fault stands alone; that one is given up, because all
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
		switch {
		case !refused(err, failures):
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

// patience is how often an internal error is taken for one that passes.
const patience = 3

// refused reports that a batch will not be taken however often it is proposed. An
// internal error that stays is one of those, such as a text that cannot be encoded.
func refused(err error, failures int) bool {
	switch registry.CodeOf(err) {
	case registry.TooLarge, registry.InvalidArgument:
		return true
	case registry.Internal:
		return failures >= patience
	default:
		return false
	}
}

// gather waits for one batch and takes what else comes within the window.
func (r *reporter) gather(ctx context.Context) ([]*pmpb.UnitUpdate, bool) {
	var all []*pmpb.UnitUpdate
	size := 0
	take := func(batch []*pmpb.UnitUpdate) {
		all = append(all, batch...)
		for _, u := range batch {
			size += proto.Size(u)
		}
	}
	select {
	case <-ctx.Done():
		return nil, false
	case batch := <-r.in:
		take(batch)
	}
	window := time.NewTimer(r.opts.BatchWindow)
	defer window.Stop()
	for len(all) < r.opts.BatchSize && size < r.opts.BatchBytes {
		select {
		case <-ctx.Done():
			return nil, false
		case batch := <-r.in:
			take(batch)
		case <-window.C:
			return all, true
		}
	}
	return all, true
}
