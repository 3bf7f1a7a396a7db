package raftstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/raft"

	"oaas.io/control-plane/proto/pmpb"
)

// Succession shortens the time without a leader when the leader's process has
// died. Followers would notice by the silence only, after one to three heartbeat
// timeouts, and the first of them would then be refused by those that have not
// noticed yet. But a process that dies leaves its mark at once: its connections
// close, and the operating system refuses new ones.
//
// So a follower that loses a connection looks whether the leader still listens.
// If it does not, it asks the other voters to look for themselves. When a
// majority of the voters has seen it, the one with the longest log stands for
// election at once, and the next one a moment later in case that fails. No
// answer at all, as from a host that is down or beyond a partition, is no proof;
// and a follower that alone cannot reach the leader does not find a majority.
//
// Nothing here is needed for safety. An election is decided by terms, votes and
// logs, whenever and however often it is held.

// succession watches for the death of the leader until the node stops.
func (n *Node) succession() {
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-n.layer.lost:
			n.considerSuccession(n.ctx)
		}
	}
}

// considerSuccession stands for election if the leader's process is gone and it
// is this node's turn.
func (n *Node) considerSuccession(ctx context.Context) {
	_, leader := n.raft.LeaderWithID()
	if leader == "" || string(leader) == n.serverID || n.raft.State() != raft.Follower {
		return
	}
	began := time.Now()
	if !n.isGone(ctx, string(leader)) {
		return
	}
	rank, err := n.rank(ctx, string(leader))
	if err != nil {
		n.log.Info("the leader does not listen any more, but there is no majority to say so", "leader", leader, "reason", err)
		return
	}
	if !n.leaderless(ctx, leader, time.Duration(rank)*n.timing.Heartbeat/5) {
		return
	}
	n.log.Warn("the leader's process is gone, standing for election at once", "leader", leader, "noticed_in", time.Since(began), "rank", rank)
	n.m.successions.Inc()
	if err := n.standForElection(); err != nil {
		n.log.Warn("standing for election failed", "error", err)
	}
}

// isGone reports whether the system at the server's address says that nobody
// listens there. The connections of a dying process close a moment before its
// listener does, on a busy machine several, so one that is still accepted is tried
// again for up to a heartbeat timeout, until the leader is heard again.
func (n *Node) isGone(ctx context.Context, id string) bool {
	const attempts = 50
	before := n.raft.LastContact()
	for range attempts {
		var address raft.ServerAddress
		for _, s := range n.servers() {
			if string(s.ID) == id {
				address = s.Address
			}
		}
		if address == "" || n.layer == nil {
			return false
		}
		conn, err := n.layer.Dial(target(raft.ServerID(id), address), n.timing.Heartbeat/4) //nolint:contextcheck // the library's interface; the time is bounded
		if err != nil {
			return errors.Is(err, syscall.ECONNREFUSED)
		}
		_ = conn.Close()
		if n.raft.LastContact() != before || !pause(ctx, min(n.timing.Heartbeat/50, 100*time.Millisecond)) {
			return false
		}
	}
	return false
}

// rank gives this node's place among the voters that can succeed, 0 for the one
// with the longest log. It fails unless a majority of all voters, this node
// included, has found the leader gone.
func (n *Node) rank(ctx context.Context, leader string) (int, error) {
	var others []raft.Server
	voters, votes := 0, false
	for _, s := range n.servers() {
		if s.Suffrage != raft.Voter {
			continue
		}
		voters++
		switch id := string(s.ID); id {
		case n.serverID:
			votes = true
		case leader:
		default:
			others = append(others, s)
		}
	}
	if !votes {
		return 0, errors.New("this node has no vote")
	}
	ctx, cancel := context.WithTimeout(ctx, n.timing.Heartbeat)
	defer cancel()
	confirmed, ahead := 1, 0
	own := n.logPosition()
	for _, a := range n.askGone(ctx, others, leader) {
		if !a.GetGone() {
			continue
		}
		confirmed++
		if position(a).compare(own) > 0 {
			ahead++
		}
	}
	if confirmed < voters/2+1 {
		return 0, fmt.Errorf("%d of %d voters found it gone", confirmed, voters)
	}
	return ahead, nil
}

func (n *Node) askGone(ctx context.Context, servers []raft.Server, leader string) []*pmpb.GoneResponse {
	out := make([]*pmpb.GoneResponse, len(servers))
	var wg sync.WaitGroup
	for i, s := range servers {
		wg.Go(func() {
			conn, err := n.peers.connTo(string(s.ID))
			if err != nil {
				return
			}
			resp, err := pmpb.NewPeerServiceClient(conn).Gone(ctx, &pmpb.GoneRequest{ClusterId: n.ClusterID(), ServerId: leader})
			if err == nil && resp.GetServerId() == string(s.ID) {
				out[i] = resp
			}
		})
	}
	wg.Wait()
	return out
}

// Gone answers another node that found the leader gone.
func (s *peerServer) Gone(ctx context.Context, r *pmpb.GoneRequest) (*pmpb.GoneResponse, error) {
	if err := s.checkCluster(ctx, r.GetClusterId()); err != nil {
		return nil, err
	}
	n := s.n
	at := n.logPosition()
	return &pmpb.GoneResponse{
		ServerId: n.serverID, LastLogTerm: at.term, LastLogIndex: at.index,
		Gone: r.GetServerId() != n.serverID && n.isGone(ctx, r.GetServerId()),
	}, nil
}

// logPosition is how far a server's log reaches. Elections compare it in the
// same order; the id only breaks ties.
type logPosition struct {
	term, index uint64
	id          string
}

func position(r *pmpb.GoneResponse) logPosition {
	return logPosition{term: r.GetLastLogTerm(), index: r.GetLastLogIndex(), id: r.GetServerId()}
}

func (p logPosition) compare(q logPosition) int {
	return cmp.Or(cmp.Compare(p.term, q.term), cmp.Compare(p.index, q.index), cmp.Compare(p.id, q.id))
}

func (n *Node) logPosition() logPosition {
	stats := n.raft.Stats()
	number := func(key string) uint64 {
		v, _ := strconv.ParseUint(stats[key], 10, 64) // the library's own number
		return v
	}
	return logPosition{term: number("last_log_term"), index: number("last_log_index"), id: n.serverID}
}

// leaderless waits for d and reports whether the cluster is still without
// another leader then, as far as this node knows.
func (n *Node) leaderless(ctx context.Context, gone raft.ServerID, d time.Duration) bool {
	deadline := time.Now().Add(d)
	for {
		if _, id := n.raft.LeaderWithID(); id != "" && id != gone || n.raft.State() != raft.Follower {
			return false
		}
		if !time.Now().Before(deadline) {
			return true
		}
		if !pause(ctx, max(d/20, time.Millisecond)) {
			return false
		}
	}
}

// standForElection makes the library start an election now. Its one way to do
// that is the message that ends a leadership transfer, so this node sends it to
// itself.
func (n *Node) standForElection() error {
	self := n.peers.self.GetRaftAddress()
	header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(n.serverID), Addr: []byte(self)}
	var resp raft.TimeoutNowResponse
	return n.trans.TimeoutNow(raft.ServerID(n.serverID), raft.ServerAddress(self), &raft.TimeoutNowRequest{RPCHeader: header}, &resp)
}
