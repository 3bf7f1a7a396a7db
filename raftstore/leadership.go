package raftstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/proto/pmpb"
)

// term is one leadership of this node, from the moment that it has caught up
// with its predecessors until it ends.
type term struct {
	number uint64
	// ctx ends when the leadership does.
	ctx context.Context
	// pilot looks after the servers; nil until it has begun.
	pilot atomic.Pointer[pilot]
}

// leadership holds the current term for those who wait for one.
type leadership struct {
	mu      sync.Mutex
	current *term
	changed chan struct{} // closed and replaced with every change

	// restoring is held by the one restore that may run.
	restoring sync.Mutex
}

func (l *leadership) init() { l.changed = make(chan struct{}) }

func (l *leadership) set(t *term) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.current = t
	close(l.changed)
	l.changed = make(chan struct{})
}

// get gives the current term, nil when there is none, and a channel that is
// closed when that changes.
func (l *leadership) get() (*term, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current, l.changed
}

// monitorLeadership follows the library's notifications. They tell only the
// latest transition, so a second "leader" means that leadership was lost and
// won again in between; both steps are then made up for, in order. Nothing here
// may take long: reading the channel is what it is for.
func (n *Node) monitorLeadership() {
	end := func() {}
	defer func() { end() }()
	for {
		select {
		case <-n.ctx.Done():
			return
		case leads := <-n.raft.LeaderCh():
			end()
			end = func() {}
			if leads {
				end = n.beginTerm()
			}
		}
	}
}

// beginTerm runs this node's leadership in a goroutine and returns what ends it
// and waits for its end.
func (n *Node) beginTerm() (end func()) {
	ctx, cancel := context.WithCancel(n.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.runTerm(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

// runTerm makes the node a ready leader, keeps the members in order and takes
// everything back when ctx ends.
func (n *Node) runTerm(ctx context.Context) {
	number, ok := n.establish(ctx)
	if !ok {
		return
	}
	if !n.mintClusterID(ctx, number) {
		return
	}
	if !n.settleRecovery(ctx, number) {
		return
	}
	n.dropStaged(ctx, number)
	// Reads and writes may come from here on.
	t := &term{number: number, ctx: ctx}
	n.lead.set(t)
	n.m.ready.Set(1)
	n.m.established.Inc()
	n.log.Info("this node leads", "term", number, "applied", n.applied.get())
	defer func() {
		n.lead.set(nil)
		n.m.ready.Set(0)
		n.log.Info("this node no longer leads", "term", number)
	}()
	var flight sync.WaitGroup
	defer flight.Wait()
	flight.Go(func() { n.flyWhile(ctx, t) })
	n.keepMembers(ctx, number)
}

// establish commits a barrier in the node's own term, after which the state
// holds everything that earlier leaders acknowledged. It reports false when the
// leadership is over before that.
func (n *Node) establish(ctx context.Context) (uint64, bool) {
	var stuckSince time.Time
	for {
		number := n.raft.CurrentTerm()
		if n.raft.State() != raft.Leader {
			return 0, false
		}
		err := n.await(ctx, func() raft.Future { return n.raft.Barrier(n.timing.RPC) })
		switch {
		case ctx.Err() != nil:
			return 0, false
		case err == nil && n.raft.State() == raft.Leader && n.raft.CurrentTerm() == number:
			return number, true
		case errors.Is(err, raft.ErrLeadershipTransferInProgress):
			if stuckSince.IsZero() {
				stuckSince = time.Now()
			} else if time.Since(stuckSince) > 2*n.timing.Election+n.timing.Heartbeat {
				n.fail(fmt.Errorf("%w: a new leader refuses writes for %v", ErrStuckTransfer, time.Since(stuckSince).Round(time.Millisecond)))
				return 0, false
			}
		case err != nil:
			n.log.Warn("the first barrier of a leadership failed", "term", number, "error", err)
		}
		if !pause(ctx, n.timing.Heartbeat/10) {
			return 0, false
		}
	}
}

// readyTerm gives the term in which this node is a ready leader, as far as it
// knows; nil otherwise.
func (n *Node) readyTerm() *term {
	t, _ := n.lead.get()
	if t == nil || t.ctx.Err() != nil || n.raft.State() != raft.Leader || n.raft.CurrentTerm() != t.number {
		return nil
	}
	return t
}

// IsLeader reports whether this node believes to lead and has caught up with
// its predecessors. It is no proof: another node may lead already. Writes and
// read barriers find that out.
func (n *Node) IsLeader() bool { return n.readyTerm() != nil }

// RunWhileLeader runs fn each time that this node becomes the leader, until ctx
// ends or the node stops. fn's context ends with the leadership, and fn runs
// again only after it has returned. When fn returns an error although its
// leadership goes on, RunWhileLeader returns that error; when it returns nil,
// it is run again in the next leadership.
func (n *Node) RunWhileLeader(ctx context.Context, fn func(ctx context.Context, term uint64) error) error {
	var last uint64
	for {
		t, changed := n.lead.get()
		if t != nil && t.number != last && t.ctx.Err() == nil {
			last = t.number
			if err := n.runOnce(ctx, t, fn); err != nil {
				return err
			}
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-n.ctx.Done():
			return ErrShutdown
		case <-changed:
		}
	}
}

func (n *Node) runOnce(ctx context.Context, t *term, fn func(context.Context, uint64) error) error {
	fctx, cancel := context.WithCancel(ctx)
	defer cancel()
	unlink := context.AfterFunc(t.ctx, cancel) //nolint:contextcheck // the work ends with the caller's context and with the term
	defer unlink()
	err := fn(fctx, t.number)
	if err != nil && fctx.Err() == nil {
		return fmt.Errorf("raftstore: work of the leader in term %d: %w", t.number, err)
	}
	return nil
}

// Transfer is a leadership that was handed over.
type Transfer struct {
	From, To string
	// Took is the time until this node no longer led.
	Took time.Duration
}

// TransferLeadership makes the best follower the leader. It returns nil once
// this node no longer leads.
func (n *Node) TransferLeadership(ctx context.Context) error {
	_, err := n.TransferTo(ctx, "")
	return err
}

// TransferTo makes a voter the leader, the best one when id is empty. The target
// must have the whole log, because the library, given a follower that lags, can
// keep refusing writes for good.
func (n *Node) TransferTo(ctx context.Context, id string) (*Transfer, error) {
	done, err := n.transferTo(ctx, id)
	outcome := "done"
	if err != nil {
		outcome = "failed"
	}
	n.m.transfers.WithLabelValues(outcome).Inc()
	return done, err
}

func (n *Node) transferTo(ctx context.Context, id string) (*Transfer, error) {
	if n.readyTerm() == nil {
		return nil, ErrNotLeader
	}
	if id == n.serverID {
		return nil, fmt.Errorf("raftstore: server %s leads already: %w", id, ErrIsLeader)
	}
	target, err := n.transferTarget(ctx, id)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*n.timing.Election+n.timing.Heartbeat)
	defer cancel()
	began := time.Now()
	err = n.await(ctx, func() raft.Future { return n.raft.LeadershipTransferToServer(target.ID, target.Address) })
	if n.raft.State() != raft.Leader {
		took := time.Since(began)
		n.log.Info("leadership handed over", "to", target.ID, "took", took)
		return &Transfer{From: n.serverID, To: string(target.ID), Took: took}, nil
	}
	if errors.Is(err, context.DeadlineExceeded) {
		n.checkStuck() //nolint:contextcheck // the caller's time is over, the node's is not
	}
	return nil, fmt.Errorf("raftstore: leadership was not taken by %s: %w", target.ID, err)
}

// HandOver makes another voter the leader before this node stops, so that clients
// notice a pause of an exchange or two rather than an election. On a loaded machine
// the others may not answer within a heartbeat timeout; what they do not do now they
// may do a moment later. So it is tried again for as long as a request is held
// without a leader (Timing.Hold). Only the first call does something; Shutdown makes
// one.
func (n *Node) HandOver(ctx context.Context) {
	n.leave.Do(func() { n.handOver(ctx) })
}

func (n *Node) handOver(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, n.timing.Hold)
	defer cancel()
	for n.IsLeader() && n.hasOtherVoter() {
		_, err := n.TransferTo(ctx, "")
		if err == nil {
			n.awaitSuccessor(ctx)
			return
		}
		n.log.Info("leadership could not be handed over yet", "error", err)
		if !pause(ctx, n.timing.Heartbeat/4) {
			n.log.Warn("the leader stops without a successor", "error", err)
			return
		}
	}
}

// awaitSuccessor waits until another server leads. A leader steps down when its
// successor asks for votes, before that one has won. If it went at that moment, the
// others would find it dead, one of them might ask for votes as well, and the votes
// would be split until the next election.
func (n *Node) awaitSuccessor(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, n.timing.Election)
	defer cancel()
	for {
		if _, id := n.raft.LeaderWithID(); id != "" && string(id) != n.serverID {
			return
		}
		if !pause(ctx, n.timing.Heartbeat/100) {
			return
		}
	}
}

func (n *Node) hasOtherVoter() bool {
	return slices.ContainsFunc(n.servers(), func(s raft.Server) bool {
		return s.Suffrage == raft.Voter && string(s.ID) != n.serverID
	})
}

// checkStuck ends the node when, long after a transfer should have been over,
// the library still refuses writes because of it.
func (n *Node) checkStuck() {
	deadline := time.Now().Add(2 * n.timing.Election)
	for time.Now().Before(deadline) {
		ctx, cancel := context.WithTimeout(n.ctx, n.timing.Election)
		err := n.await(ctx, func() raft.Future { return n.raft.Barrier(n.timing.Election) })
		cancel()
		if !errors.Is(err, raft.ErrLeadershipTransferInProgress) {
			return
		}
		if !pause(n.ctx, n.timing.Election/10) {
			return
		}
	}
	n.fail(fmt.Errorf("%w: in term %d", ErrStuckTransfer, n.raft.CurrentTerm()))
}

// transferTarget finds the voter with the longest log, which must be in this
// term; or the one with that id, if it is as far.
func (n *Node) transferTarget(ctx context.Context, id string) (raft.Server, error) {
	ctx, cancel := context.WithTimeout(ctx, n.timing.Heartbeat)
	defer cancel()
	var others []raft.Server
	for _, s := range n.servers() {
		if s.Suffrage == raft.Voter && string(s.ID) != n.serverID && (id == "" || id == string(s.ID)) {
			others = append(others, s)
		}
	}
	if id != "" && len(others) == 0 {
		if slices.ContainsFunc(n.servers(), func(s raft.Server) bool { return string(s.ID) == id }) {
			return raft.Server{}, fmt.Errorf("%w: %s", ErrNoVote, id)
		}
		return raft.Server{}, fmt.Errorf("raftstore: no voter to hand leadership to: %w", &UnknownServerError{ID: id})
	}
	own := n.raft.LastIndex()
	answers := n.identifyServers(ctx, others)
	var best raft.Server
	var bestIndex uint64
	for i, a := range answers {
		if a != nil && a.GetTerm() == n.raft.CurrentTerm() && a.GetLastLogIndex() >= bestIndex {
			best, bestIndex = others[i], a.GetLastLogIndex()
		}
	}
	if best.ID == "" || bestIndex+closeEnough < own {
		return raft.Server{}, ErrNotCaughtUp
	}
	return best, nil
}

// closeEnough is how many entries a server may lag to count as caught up.
const closeEnough = 100

// servers gives the latest configuration, which may not be committed yet.
func (n *Node) servers() []raft.Server {
	f := n.raft.GetConfiguration()
	if f.Error() != nil {
		return nil
	}
	return f.Configuration().Servers
}

// identity is what this node says about itself.
func (n *Node) identity() *pmpb.IdentifyResponse {
	_, leader := n.raft.LeaderWithID()
	self := n.peers.self
	disk := n.Disk()
	return &pmpb.IdentifyResponse{
		DiskFree: disk.Free, DiskTotal: disk.Total, DiskWriteP99: durationpb.New(disk.WriteP99), Time: n.ownTime(),
		ServerId: n.serverID, RaftAddress: self.GetRaftAddress(), GrpcAddress: self.GetGrpcAddress(),
		HttpAddress: self.GetHttpAddress(), Version: self.GetVersion(),
		ClusterId: n.ClusterID(), Virgin: n.virgin(), LeaderId: string(leader), Term: n.raft.CurrentTerm(),
		Name: self.GetName(), Zone: self.GetZone(), LastContact: durationpb.New(n.LastContact()), CommitIndex: n.raft.CommitIndex(),
		SnapshotIndex: n.snapshotIndex(), LastLogTerm: n.logPosition().term, StartedAt: timestamppb.New(n.started),
		Peers: n.opts.Peers, LastLogIndex: n.raft.LastIndex(), AppliedIndex: n.applied.get(), FeatureLevel: n.opts.featureLevel,
	}
}

// virgin reports whether nothing was ever stored here: no entry and no vote.
func (n *Node) virgin() bool { return n.raft.LastIndex() == 0 && n.raft.CurrentTerm() == 0 }

// pause waits for d and reports whether ctx is still alive then.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
