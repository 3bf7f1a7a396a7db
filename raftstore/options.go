package raftstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"oaas.io/control-plane/fsm"
)

// MaxCommandSize is the largest encoded command, in bytes. Larger entries
// delay heartbeats enough to depose a healthy leader.
const MaxCommandSize = 512 << 10

// Profile names a set of timings.
type Profile string

const (
	// Standard suits nodes in one region on ordinary disks.
	Standard Profile = "standard"
	// Fast halves the time to a new leader; for fast disks and networks.
	Fast Profile = "fast"
	// SlowDisk tolerates disks that stall for a second or two.
	SlowDisk Profile = "slow-disk"
)

// Timing is how a node waits and how much it batches. Zero fields take the
// profile's value.
type Timing struct {
	// Heartbeat is how long a follower goes without news from the leader before
	// it stands for election. A leader that cannot reach a quorum for as long
	// steps down.
	Heartbeat time.Duration
	// Election is how long a candidate waits for votes. At least Heartbeat, which
	// is its default.
	Election time.Duration
	// Commit bounds how late an idle follower learns what is committed.
	Commit time.Duration
	// RPC bounds one exchange between nodes, on both ports.
	RPC time.Duration
	// Hold is how long reads wait for a leader to be elected.
	Hold time.Duration
	// SnapshotInterval is how often the log is checked against SnapshotThreshold.
	SnapshotInterval time.Duration
	// SnapshotThreshold is the number of entries after which a snapshot is taken.
	SnapshotThreshold uint64
	// TrailingLogs is the number of entries kept behind a snapshot for followers
	// that lag.
	TrailingLogs uint64
	// Probe is how often a node that has no cluster yet asks its peers, and how
	// often the leader looks after its members.
	Probe time.Duration
	// Stabilization is how long a new server must keep up before it gets a vote.
	Stabilization time.Duration
	// StorageStall is how long one write to disk may take before the node gives
	// up its role.
	StorageStall time.Duration
	// Checkup is how often a node compares its history and its clock with those of
	// the others and looks how much space its disk has left.
	Checkup time.Duration
}

func (p Profile) timing() (Timing, error) {
	t := Timing{
		Heartbeat: time.Second, Commit: 25 * time.Millisecond,
		RPC: 10 * time.Second, Hold: 5 * time.Second,
		SnapshotInterval: time.Minute, SnapshotThreshold: 8192, TrailingLogs: 20480,
		Probe: time.Second, Stabilization: 10 * time.Second, StorageStall: 20 * time.Second,
		Checkup: 5 * time.Second,
	}
	switch p {
	case "", Standard:
	case Fast:
		t.Heartbeat = 500 * time.Millisecond
		t.Probe = 500 * time.Millisecond
	case SlowDisk:
		t.Heartbeat = 3 * time.Second
		t.StorageStall = time.Minute
	default:
		return t, fmt.Errorf("raftstore: unknown profile %q, want %q, %q or %q", p, Standard, Fast, SlowDisk)
	}
	return t, nil
}

func (t Timing) or(d Timing) Timing {
	dur := func(v, def time.Duration) time.Duration {
		if v == 0 {
			return def
		}
		return v
	}
	num := func(v, def uint64) uint64 {
		if v == 0 {
			return def
		}
		return v
	}
	t.Heartbeat = dur(t.Heartbeat, d.Heartbeat)
	t.Election = dur(t.Election, t.Heartbeat)
	t.Commit = dur(t.Commit, d.Commit)
	t.RPC = dur(t.RPC, d.RPC)
	t.Hold = dur(t.Hold, d.Hold)
	t.SnapshotInterval = dur(t.SnapshotInterval, d.SnapshotInterval)
	t.SnapshotThreshold = num(t.SnapshotThreshold, d.SnapshotThreshold)
	t.TrailingLogs = num(t.TrailingLogs, d.TrailingLogs)
	t.Probe = dur(t.Probe, d.Probe)
	t.Stabilization = dur(t.Stabilization, d.Stabilization)
	t.StorageStall = dur(t.StorageStall, d.StorageStall)
	t.Checkup = dur(t.Checkup, d.Checkup)
	return t
}

// DialFunc opens one TCP connection. Every outgoing connection of a node goes
// through it; addresses are host:port and resolved at the time of the call.
type DialFunc func(ctx context.Context, address string) (net.Conn, error)

// Options configure a Node.
type Options struct {
	// DataDir is created when missing. Ignored when InMemory.
	DataDir string
	// InMemory keeps nothing on disk and forms a cluster of one.
	InMemory bool

	// RaftListen is the host:port that the log's port binds. Unused when
	// RaftListener is set or InMemory.
	RaftListen string
	// RaftListener, when set, is used instead of binding RaftListen. The node
	// closes it.
	RaftListener net.Listener
	// RaftAddress is the host:port under which peers reach this node's log. It
	// may be a DNS name and should stay the same for the life of the node.
	// Default: the address that was bound.
	RaftAddress string
	// GRPCAddress is the host:port under which peers reach PeerService here.
	GRPCAddress string
	// HTTPAddress is the host:port of this node's API, told to peers.
	HTTPAddress string
	// Peers are the GRPCAddresses of all expected founders, this node's
	// included, in any order but the same set on each. Empty: the node founds a
	// cluster of its own.
	Peers []string

	// Profile selects the timings; Timing overrides single ones.
	Profile Profile
	Timing  Timing

	// Watermark is how much of the data directory's file system must stay free.
	Watermark Watermark
	// DiskUsage measures it. Default: the operating system.
	DiskUsage DiskUsage

	// Compaction is when the log's file is made smaller at the start.
	Compaction Compaction

	// Name is what people call the node, and Zone its failure domain: autopilot
	// spreads the votes over the zones. Both may be empty.
	Name, Zone string
	// Version of the program, told to peers.
	Version string
	// NewClusterID mints the identity of a new cluster. Default: a random UUID.
	NewClusterID func() string
	// Now stamps commands. Default: time.Now.
	Now func() time.Time
	// Dial opens connections to peers. Default: plain TCP.
	Dial DialFunc

	Logger     hclog.Logger
	Registerer prometheus.Registerer

	// featureLevel is what the node says that it knows. Tests play older releases
	// with it. Default: fsm.Level.
	featureLevel uint32
	// wrapStore lets tests put a fault between Raft and the disk.
	wrapStore func(logStore) logStore
	// atStep lets tests end the start before a step.
	atStep func(step string) error
}

// Validate reports what is missing or contradictory.
func (o *Options) Validate() error {
	profile, err := o.Profile.timing()
	if err != nil {
		return err
	}
	t := o.Timing.or(profile)
	if t.Heartbeat < 20*time.Millisecond {
		return fmt.Errorf("raftstore: heartbeat %v is below 20ms", t.Heartbeat)
	}
	if t.Election < t.Heartbeat {
		return fmt.Errorf("raftstore: election timeout %v is below the heartbeat timeout %v", t.Election, t.Heartbeat)
	}
	if err := o.Watermark.Validate(); err != nil {
		return err
	}
	if err := o.Compaction.Validate(); err != nil {
		return err
	}
	if o.InMemory {
		if len(o.Peers) > 1 {
			return errors.New("raftstore: a node that keeps nothing on disk cannot have peers")
		}
		return nil
	}
	if o.DataDir == "" {
		return errors.New("raftstore: a data directory is required")
	}
	if o.RaftListener == nil && o.RaftListen == "" {
		return errors.New("raftstore: an address for the log's port is required")
	}
	if o.RaftAddress != "" {
		if err := checkAddress(o.RaftAddress); err != nil {
			return fmt.Errorf("raftstore: advertised log address: %w", err)
		}
	}
	return o.validatePeers()
}

func (o *Options) validatePeers() error {
	if len(o.Peers) == 0 {
		return nil
	}
	if err := checkAddress(o.GRPCAddress); err != nil {
		return fmt.Errorf("raftstore: advertised internal address: %w", err)
	}
	seen := make(map[string]bool, len(o.Peers))
	for _, p := range o.Peers {
		if err := checkAddress(p); err != nil {
			return fmt.Errorf("raftstore: peer %q: %w", p, err)
		}
		if seen[p] {
			return fmt.Errorf("raftstore: peer %q is listed twice", p)
		}
		seen[p] = true
	}
	return nil
}

// withDefaults gives a copy that is complete. o must be valid.
func (o Options) withDefaults() Options {
	profile, _ := o.Profile.timing()
	o.Timing = o.Timing.or(profile)
	o.Peers = slices.Sorted(slices.Values(o.Peers))
	if o.featureLevel == 0 {
		o.featureLevel = fsm.Level
	}
	if o.NewClusterID == nil {
		o.NewClusterID = newUUID
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Dial == nil {
		o.Dial = dialTCP
	}
	o.Watermark = o.Watermark.withDefaults()
	o.Compaction = o.Compaction.withDefaults()
	if o.DiskUsage == nil {
		o.DiskUsage = statDisk
	}
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	return o
}

// checkAddress accepts host:port that another node can dial.
func checkAddress(a string) error {
	if len(a) > 255 {
		return errors.New("address is longer than 255 bytes")
	}
	host, port, err := net.SplitHostPort(a)
	if err != nil {
		return fmt.Errorf("want host:port: %w", err)
	}
	if host == "" {
		return fmt.Errorf("%q names no host", a)
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		return fmt.Errorf("%q is not an address that others can reach", a)
	}
	if p, err := strconv.ParseUint(port, 10, 16); err != nil || p == 0 {
		return fmt.Errorf("%q has no valid port", a)
	}
	return nil
}
