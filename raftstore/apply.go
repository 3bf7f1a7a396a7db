package raftstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

// Apply proposes cmd and returns once it is applied here. The result's Err is
// the state machine's verdict; the returned error is about the log, see the
// package's invariants. cmd itself is not changed: version and leader_time are
// set in what is proposed, expected_term is the caller's.
func (n *Node) Apply(ctx context.Context, cmd *pmpb.Command) (fsm.Result, error) {
	began := time.Now()
	res, err := n.apply(ctx, cmd)
	n.m.proposals.WithLabelValues(outcome(err)).Inc()
	if err == nil {
		n.m.proposeTime.Observe(time.Since(began).Seconds())
	}
	return res, err
}

func outcome(err error) string {
	switch {
	case err == nil:
		return "applied"
	case errors.Is(err, ErrOutcomeUnknown):
		return "unknown"
	default:
		return "refused"
	}
}

func (n *Node) apply(ctx context.Context, cmd *pmpb.Command) (fsm.Result, error) {
	if n.ctx.Err() != nil {
		return fsm.Result{}, ErrShutdown
	}
	if err := ctx.Err(); err != nil {
		return fsm.Result{}, fmt.Errorf("raftstore: nothing was proposed: %w", err)
	}
	if !n.IsLeader() {
		return fsm.Result{}, ErrNotLeader
	}
	return n.submit(ctx, cmd)
}

// submit encodes and proposes cmd without asking whether the node is ready.
func (n *Node) submit(ctx context.Context, cmd *pmpb.Command) (fsm.Result, error) {
	cmd = n.stamp(ctx, cmd)
	if err := n.checkLevel(cmd); err != nil {
		return fsm.Result{}, err
	}
	data, err := fsm.EncodeCommand(cmd)
	if err != nil {
		return fsm.Result{}, fmt.Errorf("raftstore: encoding a command: %w", err)
	}
	if len(data) > MaxCommandSize {
		return fsm.Result{}, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(data), MaxCommandSize)
	}
	return n.propose(ctx, data)
}

// Now gives the time that a command would be stamped with if this node led: by the
// middle of all servers' clocks, and never before the log's.
func (n *Node) Now() time.Time {
	now := n.clock()
	if last := n.state.Snapshot().Meta().GetTime(); last != nil && last.AsTime().After(now) {
		return last.AsTime()
	}
	return now
}

// stamp gives a copy of cmd's envelope with what only the leader knows. Time
// never runs backwards in the log, whatever the clocks of successive leaders say,
// and a leader whose clock is not that of the others is corrected, see clock. A
// cluster with servers that do not know notes goes without.
func (n *Node) stamp(ctx context.Context, cmd *pmpb.Command) *pmpb.Command {
	origin := originOf(ctx)
	out := &pmpb.Command{
		Version: fsm.Version, LeaderTime: timestamppb.New(n.Now()),
		RequestId: cmp.Or(cmd.GetRequestId(), origin.RequestID), ExpectedTerm: cmd.GetExpectedTerm(),
		Principal: cmp.Or(cmd.GetPrincipal(), origin.Principal),
		Guards:    cmd.GetGuards(), Idempotency: cmd.GetIdempotency(), Note: cmd.GetNote(), Op: cmd.GetOp(),
	}
	if fsm.NotesFrom > n.state.Snapshot().FeatureLevel() {
		out.Note = nil
	}
	return out
}

// propose hands data to Raft and waits for its future no longer than ctx.
func (n *Node) propose(ctx context.Context, data []byte) (fsm.Result, error) {
	select {
	case n.slots <- struct{}{}:
	case <-ctx.Done():
		return fsm.Result{}, fmt.Errorf("raftstore: too many writes are in flight, nothing was proposed: %w", ctx.Err())
	}
	type answer struct {
		res fsm.Result
		err error
	}
	done := make(chan answer, 1)
	timeout := enqueueTimeout(ctx)
	if !n.begin() {
		<-n.slots
		return fsm.Result{}, ErrShutdown
	}
	go func() {
		defer n.proposals.Done()
		defer func() { <-n.slots }()
		future := n.raft.Apply(data, timeout)
		if err := future.Error(); err != nil {
			done <- answer{err: err}
			return
		}
		res, ok := future.Response().(fsm.Result)
		if !ok {
			done <- answer{err: fmt.Errorf("unexpected answer %T of the state machine", future.Response())}
			return
		}
		done <- answer{res: res}
	}()
	select {
	case a := <-done:
		return a.res, classify(a.err)
	case <-ctx.Done():
		// A refusal that came in time is worth more than "unknown".
		select {
		case a := <-done:
			return a.res, classify(a.err)
		default:
		}
		return fsm.Result{}, fmt.Errorf("%w: %w", ErrOutcomeUnknown, ctx.Err())
	case <-n.stopped:
		return fsm.Result{}, fmt.Errorf("%w: the node was shut down", ErrOutcomeUnknown)
	}
}

// classify tells refusals, after which the command can have no effect, from
// failures after which it may.
func classify(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return ErrNotLeader
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return fmt.Errorf("raftstore: the leader is too busy, nothing was proposed: %w", context.DeadlineExceeded)
	default:
		// Leadership lost while committing, a shutdown, a failed write of a batch:
		// the entry may be on some disk and survive.
		return fmt.Errorf("%w: %s", ErrOutcomeUnknown, err.Error())
	}
}

// enqueueTimeout is how long the library may wait before it takes the command;
// 0 is without limit.
func enqueueTimeout(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return 0
	}
	return max(time.Until(deadline), time.Millisecond)
}

// await waits for a future no longer than ctx.
func (n *Node) await(ctx context.Context, start func() raft.Future) error {
	if !n.begin() {
		return ErrShutdown
	}
	done := make(chan error, 1)
	go func() {
		defer n.proposals.Done()
		done <- start().Error()
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-n.stopped:
		return ErrShutdown
	}
}

// begin registers a goroutine that waits for the library; it must end with
// proposals.Done. False: the node no longer takes any.
func (n *Node) begin() bool {
	n.gate.Lock()
	defer n.gate.Unlock()
	if n.closing {
		return false
	}
	n.proposals.Add(1)
	return true
}
