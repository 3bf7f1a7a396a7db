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

// barrierQueue collects readers for the next round.
type barrierQueue struct {
	mu      sync.Mutex
	waiting []chan<- barrierAnswer
	wake    chan struct{}
}

type barrierAnswer struct {
	index uint64
	term  uint64
	err   error
}

func (q *barrierQueue) init() { q.wake = make(chan struct{}, 1) }

func (q *barrierQueue) add() <-chan barrierAnswer {
	c := make(chan barrierAnswer, 1)
	q.mu.Lock()
	q.waiting = append(q.waiting, c)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return c
}

func (q *barrierQueue) take() []chan<- barrierAnswer {
	q.mu.Lock()
	defer q.mu.Unlock()
	w := q.waiting
	q.waiting = nil
	return w
}

// serveReads runs one round after the other while there are readers.
func (n *Node) serveReads() {
	for {
		select {
		case <-n.ctx.Done():
			for _, c := range n.reads.take() {
				c <- barrierAnswer{err: ErrShutdown}
			}
			return
		case <-n.reads.wake:
		}
		readers := n.reads.take()
		if len(readers) == 0 {
			continue
		}
		began := time.Now()
		a := n.barrierRound(n.ctx)
		n.m.barrierBatch.Observe(float64(len(readers)))
		n.m.barrierTime.Observe(time.Since(began).Seconds())
		if a.err != nil {
			n.m.barriers.WithLabelValues("failed").Inc()
		} else {
			n.m.barriers.WithLabelValues("passed").Inc()
		}
		for _, c := range readers {
			c <- a
		}
	}
}

// barrierRound asks the voters for their terms. All who wait for its answer
// have arrived before it is called.
func (n *Node) barrierRound(ctx context.Context) barrierAnswer {
	t := n.readyTerm()
	if t == nil {
		return barrierAnswer{err: ErrNotLeader}
	}
	index := n.applied.get()
	ctx, cancel := context.WithTimeout(ctx, 2*n.timing.Heartbeat)
	defer cancel()
	if err := n.confirmTerm(ctx, t.number); err != nil {
		return barrierAnswer{err: err}
	}
	if n.readyTerm() != t {
		return barrierAnswer{err: ErrNotLeader}
	}
	return barrierAnswer{index: index, term: t.number}
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
	select {
	case a := <-n.reads.add():
		return a.index, a.term, a.err
	case <-ctx.Done():
		return 0, 0, ctx.Err()
	case <-n.ctx.Done():
		return 0, 0, ErrShutdown
	}
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
	conn, err := n.LeaderConn(ctx)
	if err != nil {
		return 0, err
	}
	resp, err := pmpb.NewPeerServiceClient(conn).ReadIndex(ctx, &pmpb.ReadIndexRequest{ClusterId: n.ClusterID()})
	if err != nil {
		return 0, err
	}
	if err := n.WaitApplied(ctx, resp.GetIndex()); err != nil {
		return 0, err
	}
	return resp.GetIndex(), nil
}
