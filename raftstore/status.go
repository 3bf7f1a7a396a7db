package raftstore

import (
	"context"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc"
)

// LeaderInfo says who leads and where. Addresses are empty while they are not
// known here.
type LeaderInfo struct {
	ServerID    string
	GRPCAddress string
	HTTPAddress string
	Term        uint64
}

// Leader gives the leader as far as this node knows, which may be late, and the term in which
// it leads. False: none is known in that term.
func (n *Node) Leader() (LeaderInfo, bool) {
	id, term := n.leaderAndTerm()
	if id == "" {
		return LeaderInfo{Term: term}, false
	}
	m := n.peers.lookup(string(id))
	return LeaderInfo{ServerID: string(id), GRPCAddress: m.GetGrpcAddress(), HTTPAddress: m.GetHttpAddress(), Term: term}, true
}

// leaderAndTerm gives a leader and a term that belong together, although the library tells them
// one by one. It forgets the leader before it raises the term and learns of the next one
// afterwards, so that a leader that is read between two looks at the same term leads in it.
func (n *Node) leaderAndTerm() (raft.ServerID, uint64) {
	for {
		term := n.raft.CurrentTerm()
		_, id := n.raft.LeaderWithID()
		if n.raft.CurrentTerm() == term {
			return id, term
		}
	}
}

// WaitLeader waits until a leader is known that can be reached: this node,
// ready, or another one whose address is known.
func (n *Node) WaitLeader(ctx context.Context) (LeaderInfo, error) {
	for {
		info, ok := n.Leader()
		if ok && (info.ServerID == n.serverID && n.IsLeader() || info.ServerID != n.serverID && info.GRPCAddress != "") {
			return info, nil
		}
		// Three things have to come together (the library's leader, readiness, an
		// address); looking again is simpler than waiting for each.
		if !pause(ctx, max(n.timing.Heartbeat/50, 5*time.Millisecond)) {
			return info, n.noLeader(ctx.Err())
		}
		if n.ctx.Err() != nil {
			return info, ErrShutdown
		}
	}
}

// LeaderConn gives the connection to the leader's internal port. It belongs to
// the node: callers must not close it, and should ask again for every request.
// It does not wait for an election; ErrIsLeader on the leader itself.
func (n *Node) LeaderConn(ctx context.Context) (*grpc.ClientConn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	info, ok := n.Leader()
	switch {
	case !ok:
		return nil, ErrNoLeader
	case info.ServerID == n.serverID && n.IsLeader():
		return nil, ErrIsLeader
	case info.ServerID == n.serverID:
		return nil, ErrNoLeader // elected, not ready
	}
	return n.peers.connTo(info.ServerID)
}

// Server is one entry of the cluster's configuration.
type Server struct {
	ID          string
	Name, Zone  string
	RaftAddress string
	GRPCAddress string
	HTTPAddress string
	Version     string
	Voter       bool
	Leader      bool
	// FeatureLevel is the highest that its program knows, 0 while it has not said.
	FeatureLevel uint32
}

// Servers gives the latest configuration that this node knows.
func (n *Node) Servers() []Server {
	_, leader := n.raft.LeaderWithID()
	var out []Server
	for _, s := range n.servers() {
		m := n.peers.lookup(string(s.ID))
		out = append(out, Server{
			ID: string(s.ID), RaftAddress: string(s.Address), GRPCAddress: m.GetGrpcAddress(), HTTPAddress: m.GetHttpAddress(),
			Name: m.GetName(), Zone: m.GetZone(), FeatureLevel: m.GetFeatureLevel(),
			Version: m.GetVersion(), Voter: s.Suffrage == raft.Voter, Leader: s.ID == leader,
		})
	}
	return out
}

// Stats are a node's numbers at one moment, not all of the same instant.
type Stats struct {
	// State is Follower, Candidate, Leader or Shutdown.
	State        string
	Term         uint64
	Ready        bool
	LastLogIndex uint64
	CommitIndex  uint64
	// AppliedIndex is the index of the last command in the state.
	AppliedIndex  uint64
	SnapshotIndex uint64
	LastContact   time.Duration
	Servers       []Server
}

// snapshotIndex gives the log index of the newest snapshot, 0 when there is none.
func (n *Node) snapshotIndex() uint64 {
	list, err := n.snapshots.List()
	if err != nil || len(list) == 0 {
		return 0
	}
	return list[0].Index
}

// Stats gives the node's numbers.
func (n *Node) Stats() Stats {
	return Stats{
		State: n.raft.State().String(), Term: n.raft.CurrentTerm(), Ready: n.IsLeader(),
		LastLogIndex: n.raft.LastIndex(), CommitIndex: n.raft.CommitIndex(), AppliedIndex: n.applied.get(),
		SnapshotIndex: n.snapshotIndex(), LastContact: n.LastContact(), Servers: n.Servers(),
	}
}
