package raftstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"google.golang.org/grpc"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

const (
	// retainSnapshots keeps one to fall back on when the newest is damaged.
	retainSnapshots = 2
	// cachedLogs are kept in memory for replication.
	cachedLogs = 512
	// maxProposals bounds the commands that are in flight at once.
	maxProposals = 1024
)

// Node is one server of the cluster. Its methods are safe for concurrent use.
type Node struct {
	opts     Options
	timing   Timing
	log      hclog.Logger
	m        *metrics
	serverID string

	state   *fsm.State
	applied *appliedIndex
	fsm     *adapter

	dir   *dataDir // nil when in memory
	bolt  *raftboltdb.BoltStore
	store *guardedStore
	logs  raft.LogStore // store, with the latest entries in memory
	layer *streamLayer  // nil when in memory
	trans raft.Transport
	raft  *raft.Raft
	peers *directory

	snapshots raft.SnapshotStore

	disk            disk
	clockAnchor     atomic.Pointer[clockAnchor] // of the latest comparison, nil before
	clockCorrection time.Duration               // only for checkup
	tuning          sync.Mutex                  // one change at a time
	refusals        *refusalLog
	created         *watchedSnapshots
	installCount    installCount

	lead        leadership
	ownReads    *batcher // reads that this node answers as the leader
	leaderReads *batcher // reads here that the leader has to confirm
	joins       sync.Mutex
	slots       chan struct{}
	proposals   sync.WaitGroup
	gate        sync.Mutex // guards closing against proposals
	closing     bool

	started time.Time
	// ctx ends when the node starts to stop, stopped is closed when the library
	// has stopped.
	ctx      context.Context
	cancel   context.CancelFunc
	wg       sync.WaitGroup
	stopRaft func() raft.Future
	stopped  chan struct{}
	stop     sync.Once
	leave    sync.Once
	stopErr  error

	failOnce sync.Once
	failed   chan struct{}
	fatal    chan error
}

// Open recovers the node's state and starts it. Founding or joining a cluster
// goes on in the background and needs the services of RegisterServices to be
// served; Open does not wait for it. ctx bounds the start only.
func Open(ctx context.Context, opts Options) (*Node, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	opts = opts.withDefaults()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m, err := newMetrics(opts.Registerer)
	if err != nil {
		return nil, err
	}
	state, err := fsm.NewState()
	if err != nil {
		return nil, fmt.Errorf("raftstore: %w", err)
	}
	n := &Node{
		opts: opts, timing: opts.Timing, log: opts.Logger, m: m, state: state,
		applied:  &appliedIndex{},
		refusals: newRefusalLog(opts.Logger),
		slots:    make(chan struct{}, maxProposals),
		stopped:  make(chan struct{}),
		started:  opts.Now(),
		failed:   make(chan struct{}),
		fatal:    make(chan error, 1),
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.lead.init()
	n.ownReads = newBatcher(m, n.ownBarrier)
	n.leaderReads = newBatcher(m, n.askLeader)
	n.fsm = &adapter{state: state, applied: n.applied, log: n.log, m: m, level: opts.featureLevel, fail: n.fail, written: make(chan struct{}, 1), stopping: n.ctx.Done()}
	if err := n.start(); err != nil {
		n.cancel()
		_ = n.release()
		if opts.RaftListener != nil {
			_ = opts.RaftListener.Close()
		}
		return nil, err
	}
	return n, nil
}

// start opens what the node stands on and runs its goroutines.
func (n *Node) start() error {
	snapshots, trans, err := n.openStores()
	if err != nil {
		return err
	}
	n.peers = newDirectory(&pmpb.Member{
		ServerId: n.serverID, RaftAddress: string(trans.LocalAddr()),
		GrpcAddress: n.opts.GRPCAddress, HttpAddress: n.opts.HTTPAddress, Version: n.opts.Version,
		FeatureLevel: n.opts.featureLevel, Name: n.opts.Name, Zone: n.opts.Zone,
	}, n.opts.Dial, n.state.Snapshot)
	if n.layer != nil {
		n.layer.whereabouts = func(id string) string { return n.peers.lookup(id).GetRaftAddress() }
	}
	n.created = &watchedSnapshots{SnapshotStore: snapshots}
	n.snapshots, n.trans = n.created, trans
	logs, err := raft.NewLogCache(cachedLogs, n.store)
	if err != nil {
		return fmt.Errorf("raftstore: %w", err)
	}
	n.logs = logs
	if n.raft, err = newRaft(n.raftConfig(), n.fsm, logs, n.store, n.snapshots, trans); err != nil {
		closeTransport(trans)
		return errors.Join(n.fsm.startError, err)
	}
	n.fsm.started.Store(true)
	n.store.started.Store(true)
	n.stopRaft = sync.OnceValue(n.raft.Shutdown)
	if n.opts.InMemory || len(n.opts.Peers) == 0 {
		if err := n.foundAlone(); err != nil {
			return errors.Join(err, n.stopRaft().Error())
		}
	}
	n.run(n.monitorLeadership)
	n.run(func() { n.ownReads.run(n.ctx) })
	n.run(func() { n.leaderReads.run(n.ctx) })
	n.run(n.superviseStorage)
	if n.layer != nil {
		n.run(n.succession)
	}
	n.run(n.keepInTouch)
	n.run(n.checkup)
	n.run(n.verifySnapshots)
	if n.bolt != nil {
		n.run(func() { n.bolt.RunMetrics(n.ctx, 10*time.Second) })
	}
	n.log.Info("node started", "server_id", n.serverID, "raft_address", trans.LocalAddr(), "applied", n.applied.get())
	return nil
}

func (n *Node) run(f func()) {
	n.wg.Add(1)
	go func() {
		defer n.wg.Done()
		f()
	}()
}

func (n *Node) openStores() (raft.SnapshotStore, raft.Transport, error) {
	if n.opts.InMemory {
		n.serverID = newUUID()
		n.store = n.guard(raft.NewInmemStore())
		address := n.opts.RaftAddress
		if address == "" {
			address = n.serverID
		}
		_, trans := raft.NewInmemTransport(raft.ServerAddress(address))
		return raft.NewInmemSnapshotStore(), trans, nil
	}
	var err error
	if n.dir, err = openDataDir(n.opts.DataDir); err != nil {
		return nil, nil, err
	}
	if err := checkQuarantine(n.dir.path); err != nil {
		return nil, nil, err
	}
	content, err := prepareLogFile(n.dir.path, n.dir.logPath(), n.opts.Compaction, n.log, n.opts.atStep)
	if err != nil {
		return nil, nil, err
	}
	if n.bolt, err = openBolt(n.dir.logPath()); err != nil {
		return nil, nil, err
	}
	var disk logStore = n.bolt
	if n.opts.wrapStore != nil {
		disk = n.opts.wrapStore(disk)
	}
	if n.serverID, err = n.dir.identify(disk, n.log); err != nil {
		return nil, nil, err
	}
	n.store = n.guard(disk)
	snapshots, err := openSnapshots(n.dir, n.log.Named("snapshot"))
	if err != nil {
		return nil, nil, err
	}
	if err := prepareSnapshots(n.dir.path, snapshots.FileSnapshotStore, content, n.log); err != nil {
		return nil, nil, err
	}
	trans, err := n.openTransport()
	return snapshots, trans, err
}

func (n *Node) guard(s logStore) *guardedStore {
	g := &guardedStore{next: s, fail: n.fail, base: time.Now(), m: n.m, installed: n.snapshotInstalled}
	if n.dir != nil {
		g.dir, g.path = n.dir.path, n.dir.logPath()
	}
	return g
}

func (n *Node) openTransport() (raft.Transport, error) {
	l := n.opts.RaftListener
	if l == nil {
		var err error
		if l, err = net.Listen("tcp", n.opts.RaftListen); err != nil {
			return nil, fmt.Errorf("raftstore: the log's port: %w", err)
		}
	}
	address := n.opts.RaftAddress
	if address == "" {
		address = l.Addr().String()
		if err := checkAddress(address); err != nil {
			_ = l.Close()
			return nil, fmt.Errorf("raftstore: no address to tell to peers was configured: %w", err)
		}
	}
	n.layer = newStreamLayer(l, address, n.serverID, n.opts.Dial, n.ClusterID, n.log.Named("transport"), n.m)
	return newTransport(n.layer, n.timing, n.log.Named("transport")), nil
}

// newRaft starts the library, which answers some unreadable logs with a panic.
func newRaft(c *raft.Config, f raft.FSM, l raft.LogStore, s raft.StableStore, snaps raft.SnapshotStore, t raft.Transport) (r *raft.Raft, err error) {
	defer func() {
		if p := recover(); p != nil {
			r, err = nil, fmt.Errorf("raftstore: the log cannot be recovered: %v", p)
		}
	}()
	r, err = raft.NewRaft(c, f, l, s, snaps, t)
	if err != nil {
		return nil, fmt.Errorf("raftstore: the state cannot be recovered: %w", err)
	}
	return r, nil
}

func (n *Node) raftConfig() *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(n.serverID)
	c.Logger = n.log.Named("raft")
	c.HeartbeatTimeout = n.timing.Heartbeat
	c.ElectionTimeout = n.timing.Election
	// A follower answers heartbeats between its disk writes, so the lease must
	// not be shorter than what followers themselves tolerate.
	c.LeaderLeaseTimeout = n.timing.Heartbeat
	c.CommitTimeout = n.timing.Commit
	c.MaxAppendEntries = 256
	c.SnapshotInterval = n.timing.SnapshotInterval
	c.SnapshotThreshold = n.timing.SnapshotThreshold
	c.TrailingLogs = n.timing.TrailingLogs
	c.ShutdownOnRemove = false
	c.NoLegacyTelemetry = true
	return c
}

// State gives the replicated state as this node has applied it.
func (n *Node) State() *fsm.State { return n.state }

// ServerID gives the identity of this node's disk.
func (n *Node) ServerID() string { return n.serverID }

// ClusterID gives the identity of the cluster, empty before it is known here.
// It is known at once after a restart, before the state is.
func (n *Node) ClusterID() string {
	if id := n.stateClusterID(); id != "" {
		return id
	}
	if n.dir == nil {
		return ""
	}
	return n.dir.clusterID
}

func (n *Node) stateClusterID() string { return n.state.Snapshot().Meta().GetClusterId() }

// noteCluster keeps the identity of the cluster next to the log, once. It ends
// the node when the log turns out to be that of another cluster.
func (n *Node) noteCluster(noted string) string {
	id := n.stateClusterID()
	if n.dir == nil || id == "" || id == noted {
		return noted
	}
	if noted != "" {
		n.fail(fmt.Errorf("%w: the log is that of cluster %s, the file %s says %s; put back the file or the log that belongs to it, or empty the data directory to come back as a new server", ErrClusterMismatch, id, filepath.Join(n.dir.path, clusterIDFile), noted))
		return noted
	}
	if err := n.dir.noteCluster(id); err != nil {
		n.fail(err)
	}
	return id
}

// RaftAddress gives the address under which peers reach this node's log.
func (n *Node) RaftAddress() string { return n.peers.self.GetRaftAddress() }

// Term gives the latest term that this node knows of.
func (n *Node) Term() uint64 { return n.raft.CurrentTerm() }

// WaitApplied returns once the state contains the command at index, which is an
// index that Apply or ReadBarrier gave out. It waits as long as ctx allows.
func (n *Node) WaitApplied(ctx context.Context, index uint64) error {
	return n.applied.wait(ctx, index, n.stopped)
}

// AppliedIndex gives the index of the last command in the state.
func (n *Node) AppliedIndex() uint64 { return n.applied.get() }

// LastContact gives the age of the last message from the leader: 0 on the
// leader, the largest duration when there never was one.
func (n *Node) LastContact() time.Duration {
	if n.IsLeader() {
		return 0
	}
	last := n.raft.LastContact()
	if last.IsZero() {
		return math.MaxInt64
	}
	return max(time.Since(last), 0)
}

// Fatal delivers at most one error, after which the node takes no further part
// in the cluster and the process should end with that message.
func (n *Node) Fatal() <-chan error { return n.fatal }

// fail ends the node's part in the cluster. It is called from the library's
// goroutines and does not block.
func (n *Node) fail(err error) {
	n.failOnce.Do(func() {
		n.log.Error("the node cannot go on", "error", err)
		n.fatal <- err
		close(n.failed)
	})
}

// superviseStorage watches for writes that do not end and takes the node out of
// the cluster after a failure.
func (n *Node) superviseStorage() {
	watch := stallWatch{every: max(n.timing.StorageStall/8, 10*time.Millisecond)}
	tick := time.NewTicker(watch.every)
	defer tick.Stop()
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-n.failed:
			// Heartbeats have goroutines of their own: closing the connections is
			// what lets the others elect a new leader.
			n.stopRaft()
			closeTransport(n.trans)
			return
		case <-tick.C:
			took := watch.see(time.Now(), n.store.stalled())
			n.m.storageStall.Set(took.Seconds())
			if took > n.timing.StorageStall {
				n.fail(&StorageError{
					Op: "write", Path: n.store.path, Remedy: "the disk hangs; look after it, then start the node again",
					Err: fmt.Errorf("a write has not ended for %v", took.Round(time.Millisecond)),
				})
			}
		}
	}
}

// Shutdown hands leadership over if this node has it, stops all goroutines and
// releases the data directory. It is idempotent; ctx bounds the wait.
func (n *Node) Shutdown(ctx context.Context) error {
	n.stop.Do(func() { n.stopErr = n.shutdown(ctx) })
	return n.stopErr
}

func (n *Node) shutdown(ctx context.Context) error {
	n.HandOver(ctx)
	n.cancel()
	n.gate.Lock()
	n.closing = true
	n.gate.Unlock()
	raftDone, answered := make(chan struct{}), make(chan struct{})
	go func() {
		n.wg.Wait()
		_ = n.stopRaft().Error()
		if n.layer != nil {
			_ = n.layer.Close()
		}
		close(n.stopped)
		close(raftDone)
		n.proposals.Wait()
		close(answered)
	}()
	select {
	case <-raftDone:
	case <-ctx.Done():
		// The log file stays open: a write may still be going on.
		return fmt.Errorf("raftstore: the node did not stop in time: %w", ctx.Err())
	}
	// The library may drop futures of entries that it had committed but not yet
	// applied. Their callers have their answer; waiting for them has no end.
	lost := time.NewTimer(time.Second)
	defer lost.Stop()
	select {
	case <-answered:
	case <-lost.C:
		n.log.Warn("some writes were never answered by the log")
	}
	n.log.Info("node stopped", "server_id", n.serverID)
	return n.release()
}

// release closes what start opened, as far as it came.
func (n *Node) release() error {
	var errs []error
	if n.peers != nil {
		n.peers.close()
	}
	if n.layer != nil {
		errs = append(errs, n.layer.Close())
	}
	if n.bolt != nil && (n.store == nil || !n.store.lost.Load()) {
		errs = append(errs, n.bolt.Close())
	}
	if n.dir != nil {
		errs = append(errs, n.dir.close())
	}
	return errors.Join(errs...)
}

func closeTransport(t raft.Transport) {
	if c, ok := t.(raft.WithClose); ok {
		_ = c.Close()
	}
}

// RegisterServices puts the node's PeerService on s, which must serve
// GRPCAddress.
func (n *Node) RegisterServices(s grpc.ServiceRegistrar) {
	pmpb.RegisterPeerServiceServer(s, &peerServer{n: n})
}
