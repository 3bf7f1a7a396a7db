package raftstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"oaas.io/control-plane/proto/pmpb"
)

// The read barrier. A leader that is ready in term T has applied everything
// that leaders of earlier terms acknowledged. What it has to find out is that
// no later leader has acknowledged anything yet. So, after the readers have
// arrived, it asks the voters for their current term. An election needs a
// majority whose terms were raised before it; terms never sink; so when a
// majority still answers T, nobody had been elected in a later term when the
// round began, and the state here holds every write acknowledged until then.
//
// A round costs one exchange and no disk write, serves all who wait for it, and
// needs no clock. An answer counts only from the server that was asked for: an
// address may have passed to another one.
//
// The terms are asked for over the internal ports. Where these cannot be reached,
// although the log's port can, the leader goes on leading and nobody replaces it;
// then an entry that it commits proves the same, see confirm.

// batcher answers readers in rounds: all who had come before a round began get
// its answer, the others that of the next one.
type batcher struct {
	round func(context.Context) barrierAnswer
	m     *metrics

	mu      sync.Mutex
	waiting []chan<- barrierAnswer
	wake    chan struct{}
}

type barrierAnswer struct {
	index uint64
	term  uint64
	err   error
}

func newBatcher(m *metrics, round func(context.Context) barrierAnswer) *batcher {
	return &batcher{round: round, m: m, wake: make(chan struct{}, 1)}
}

// ask waits for the next round that begins. Its error is the round's, ctx's, or
// ErrShutdown once closed is closed.
func (b *batcher) ask(ctx context.Context, closed <-chan struct{}) (uint64, uint64, error) {
	c := make(chan barrierAnswer, 1)
	b.mu.Lock()
	b.waiting = append(b.waiting, c)
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
	select {
	case a := <-c:
		return a.index, a.term, a.err
	case <-ctx.Done():
		return 0, 0, ctx.Err()
	case <-closed:
		return 0, 0, ErrShutdown
	}
}

func (b *batcher) take() []chan<- barrierAnswer {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := b.waiting
	b.waiting = nil
	return w
}

// run holds rounds, while there are readers, until ctx ends.
func (b *batcher) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.wake:
		}
		readers := b.take()
		if len(readers) == 0 {
			continue
		}
		began := time.Now()
		a := b.round(ctx)
		b.m.barrierBatch.Observe(float64(len(readers)))
		b.m.barrierTime.Observe(time.Since(began).Seconds())
		outcome := "passed"
		if a.err != nil {
			outcome = "failed"
		}
		b.m.barriers.WithLabelValues(outcome).Inc()
		for _, c := range readers {
			c <- a
		}
	}
}

// ownBarrier asks the voters for their terms. All who wait for its answer
// have arrived before it is called.
func (n *Node) ownBarrier(ctx context.Context) barrierAnswer {
	t := n.readyTerm()
	if t == nil {
		return barrierAnswer{err: ErrNotLeader}
	}
	index := n.applied.get()
	ctx, cancel := context.WithTimeout(ctx, 2*n.timing.Heartbeat)
	defer cancel()
	if err := n.confirm(ctx, t.number); err != nil {
		return barrierAnswer{err: err}
	}
	if n.readyTerm() != t {
		return barrierAnswer{err: ErrNotLeader}
	}
	return barrierAnswer{index: index, term: t.number}
}

// confirm returns nil once it is certain that nobody had been elected in a later
// term than number when it was called. Voters whose internal port does not answer
// are made to say so by an entry: a majority that stores one in this term has not
// gone on to a later one. That costs a disk write, so it is for the case that the
// terms are not known soon.
func (n *Node) confirm(ctx context.Context, number uint64) error {
	ctx, cancel := context.WithCancel(ctx)
	asked := make(chan error, 1)
	var asking sync.WaitGroup
	asking.Go(func() { asked <- n.confirmTerm(ctx, number) })
	defer asking.Wait()
	defer cancel()
	soon := time.NewTimer(n.timing.Heartbeat / 4)
	defer soon.Stop()
	var unconfirmed error
	select {
	case err := <-asked:
		if err == nil || errors.Is(err, ErrNotLeader) {
			return err
		}
		unconfirmed = err
	case <-soon.C:
	}
	committed := make(chan error, 1)
	asking.Go(func() {
		committed <- n.await(ctx, func() raft.Future { return n.raft.Barrier(n.timing.RPC) })
	})
	for range 2 {
		if unconfirmed != nil {
			// Only the entry can help now.
			asked = nil
		}
		select {
		case err := <-committed:
			if err == nil {
				return nil
			}
			if unconfirmed != nil {
				return errors.Join(unconfirmed, err)
			}
			committed = nil
		case err := <-asked:
			if err == nil || errors.Is(err, ErrNotLeader) || committed == nil {
				return err
			}
			unconfirmed = err
		}
	}
	return unconfirmed
}

// confirmTerm returns nil once a majority of the voters, this node included if
// it is one, says that the current term is number.
func (n *Node) confirmTerm(ctx context.Context, number uint64) error {
	var others []string
	voters, same := 0, 0
	for _, s := range n.servers() {
		switch {
		case s.Suffrage != raft.Voter:
			continue
		case string(s.ID) == n.serverID:
			same++
		default:
			others = append(others, string(s.ID))
		}
		voters++
	}
	if voters == 0 {
		return ErrNotLeader
	}
	majority := voters/2 + 1
	if same >= majority {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	var asked sync.WaitGroup
	defer asked.Wait()
	defer cancel()
	type answer struct {
		term uint64
		err  error
	}
	answers := make(chan answer, len(others))
	clusterID := n.ClusterID()
	for _, id := range others {
		asked.Add(1)
		go func() {
			defer asked.Done()
			term, err := n.askTerm(ctx, id, clusterID)
			answers <- answer{term, err}
		}()
	}
	var errs []error
	for range others {
		a := <-answers
		switch {
		case a.err != nil:
			errs = append(errs, a.err)
		case a.term > number:
			return fmt.Errorf("%w: term %d has begun", ErrNotLeader, a.term)
		case a.term == number:
			if same++; same >= majority {
				return nil
			}
		}
	}
	return fmt.Errorf("%w: only %d of %d voters confirm term %d: %w", ErrNoLeader, same, voters, number, errors.Join(errs...))
}

func (n *Node) askTerm(ctx context.Context, id, clusterID string) (uint64, error) {
	conn, err := n.peers.connTo(id)
	if err != nil {
		return 0, err
	}
	resp, err := pmpb.NewPeerServiceClient(conn).CurrentTerm(ctx, &pmpb.CurrentTermRequest{ClusterId: clusterID})
	if err != nil {
		return 0, fmt.Errorf("server %s: %w", id, err)
	}
	if resp.GetServerId() != id {
		n.peers.forget(id)
		return 0, fmt.Errorf("server %s: its address is now that of %s", id, resp.GetServerId())
	}
	return resp.GetTerm(), nil
}

// leaderBarrier runs the barrier on this node, which must lead.
func (n *Node) leaderBarrier(ctx context.Context) (index, term uint64, err error) {
	return n.ownReads.ask(ctx, n.ctx.Done())
}

// askLeader is a round of a follower's readers: one question to the leader
// serves them all.
func (n *Node) askLeader(ctx context.Context) barrierAnswer {
	ctx, cancel := context.WithTimeout(ctx, 3*n.timing.Heartbeat)
	defer cancel()
	conn, err := n.LeaderConn(ctx)
	if err != nil {
		return barrierAnswer{err: err}
	}
	resp, err := pmpb.NewPeerServiceClient(conn).ReadIndex(ctx, &pmpb.ReadIndexRequest{ClusterId: n.ClusterID()})
	if err != nil {
		return barrierAnswer{err: fmt.Errorf("%w: asking the leader: %w", ErrNoLeader, err)}
	}
	return barrierAnswer{index: resp.GetIndex(), term: resp.GetTerm()}
}

// ReadBarrier returns once the local state holds every write that any node had
// acknowledged before the call, and gives the command index that proves it. It
// works on every node and rides out an election for Timing.Hold.
func (n *Node) ReadBarrier(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, n.timing.Hold)
	defer cancel()
	wait := n.timing.Heartbeat / 50
	for {
		index, err := n.tryBarrier(ctx)
		if err == nil || errors.Is(err, ErrShutdown) {
			return index, err
		}
		if !pause(ctx, wait) {
			return 0, n.noLeader(err)
		}
		wait = min(2*wait, n.timing.Heartbeat/4)
	}
}

// noLeader gives the reason of a read that got nowhere. An ended context alone
// says nothing about the cluster, so the last failure is kept with it.
func (n *Node) noLeader(last error) error {
	if n.ctx.Err() != nil {
		return ErrShutdown
	}
	if errors.Is(last, ErrNoLeader) {
		return last
	}
	return fmt.Errorf("%w: %w", ErrNoLeader, last)
}

func (n *Node) tryBarrier(ctx context.Context) (uint64, error) {
	if n.IsLeader() {
		index, _, err := n.leaderBarrier(ctx)
		return index, err
	}
	index, _, err := n.leaderReads.ask(ctx, n.ctx.Done())
	if err != nil {
		return 0, err
	}
	return index, n.WaitApplied(ctx, index)
}
