package raftstore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/raft"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

// recheckEvery is the number of rounds after which the leader asks servers for
// their addresses although it has their rows.
const recheckEvery = 10

// mintClusterID gives a new cluster its identity. It reports false when the
// leadership ended before there was one.
func (n *Node) mintClusterID(ctx context.Context, number uint64) bool {
	for n.stateClusterID() == "" {
		id := n.ClusterID()
		if id == "" {
			id = n.opts.NewClusterID()
		}
		res, err := n.submit(ctx, &pmpb.Command{
			ExpectedTerm: number,
			Op:           &pmpb.Command_Found{Found: &pmpb.Found{ClusterId: id}},
		})
		if err = errors.Join(err, res.Err); err != nil {
			n.log.Warn("the cluster could not be given an identity", "error", err)
			if !pause(ctx, n.timing.Heartbeat/10) {
				return false
			}
			if n.raft.State() != raft.Leader {
				return false
			}
		}
	}
	return ctx.Err() == nil
}

// keepMembers is the leader's housekeeping: it keeps the members table true. It
// runs until ctx ends.
func (n *Node) keepMembers(ctx context.Context, number uint64) {
	for round := 0; ; round++ {
		n.tidyMembers(ctx, number, round%recheckEvery == 0)
		n.raiseFeatureLevel(ctx, number)
		if !pause(ctx, n.timing.Probe) {
			return
		}
	}
}

// tidyMembers brings the members table in line with the configuration and with
// what its servers say. Servers that have a row are asked only when all is set.
func (n *Node) tidyMembers(ctx context.Context, number uint64, all bool) {
	servers := n.servers()
	n.countMembers(servers)
	snap := n.state.Snapshot()
	known := make(map[string]bool, len(servers))
	var ask []raft.Server
	for _, s := range servers {
		id := string(s.ID)
		known[id] = true
		switch {
		case id == n.serverID:
			if string(s.Address) != n.peers.self.GetRaftAddress() {
				n.readdress(ctx, &s)
			}
			n.putMember(ctx, number, n.peers.self)
		case all || snap.Member(id) == nil:
			ask = append(ask, s)
		}
	}
	if len(ask) > 0 {
		actx, cancel := context.WithTimeout(ctx, n.timing.Heartbeat)
		for i, a := range n.identifyServers(actx, ask) {
			if a == nil && n.peers.lookup(string(ask[i].ID)) == nil {
				n.identifyAll(actx, n.opts.Peers)
			}
		}
		cancel()
	}
	for _, s := range ask {
		if m := n.peers.lookup(string(s.ID)); m != nil {
			n.putMember(ctx, number, m)
		}
	}
	for _, m := range snap.Members() {
		if !known[m.GetServerId()] {
			n.submitLogged(ctx, "member not removed", &pmpb.Command{
				ExpectedTerm: number,
				Op:           &pmpb.Command_RemoveMember{RemoveMember: &pmpb.RemoveMember{ServerId: m.GetServerId()}},
			})
		}
	}
}

// readdress makes the configuration say where this node, the leader, is now.
func (n *Node) readdress(ctx context.Context, own *raft.Server) {
	n.joins.Lock()
	defer n.joins.Unlock()
	address := raft.ServerAddress(n.peers.self.GetRaftAddress())
	for _, s := range n.servers() {
		if s.Address != address || s.ID == own.ID {
			continue
		}
		if err := n.park(ctx, s); err != nil && ctx.Err() == nil {
			n.log.Warn("the leader's new address was not recorded", "error", err)
			return
		}
	}
	if err := n.configure(ctx, own, own.ID, address); err != nil && ctx.Err() == nil {
		n.log.Warn("the leader's new address was not recorded", "error", err)
	}
}

// putMember commits a member's row if it says something new.
func (n *Node) putMember(ctx context.Context, number uint64, m *pmpb.Member) {
	if sameMember(n.state.Snapshot().Member(m.GetServerId()), m) {
		return
	}
	n.submitLogged(ctx, "member not recorded", &pmpb.Command{
		ExpectedTerm: number,
		Op:           &pmpb.Command_PutMember{PutMember: &pmpb.PutMember{Member: m}},
	})
}

func (n *Node) submitLogged(ctx context.Context, what string, cmd *pmpb.Command) {
	ctx, cancel := context.WithTimeout(ctx, n.timing.RPC)
	defer cancel()
	res, err := n.submit(ctx, cmd)
	if err = errors.Join(err, res.Err); err != nil && !errors.Is(err, fsm.ErrTermMismatch) && ctx.Err() == nil {
		n.log.Warn(what, "error", err)
	}
}

func (n *Node) countMembers(servers []raft.Server) {
	voters := 0
	for _, s := range servers {
		if s.Suffrage == raft.Voter {
			voters++
		}
	}
	n.m.members.WithLabelValues("voter").Set(float64(voters))
	n.m.members.WithLabelValues("nonvoter").Set(float64(len(servers) - voters))
}

func (n *Node) changeConfig(ctx context.Context, start func() raft.Future) error {
	ctx, cancel := context.WithTimeout(ctx, n.timing.RPC)
	defer cancel()
	return n.await(ctx, start)
}

// admit lets a server into the cluster, or takes note of its new addresses. A
// new server never has a vote at first. A new server whose log address was that of
// another one has replaced it: the former can no longer be reached by anybody,
// and its disk is gone or has moved. One that moved there replaces nobody.
func (n *Node) admit(ctx context.Context, number uint64, m *pmpb.Member, member bool) error {
	n.joins.Lock()
	defer n.joins.Unlock()
	id, address := raft.ServerID(m.GetServerId()), raft.ServerAddress(m.GetRaftAddress())
	var have, holder *raft.Server
	for _, s := range n.servers() {
		if s.ID == id {
			have = &s
		} else if s.Address == address {
			holder = &s
		}
	}
	if have == nil && member {
		return n.confirmRemoved(ctx)
	}
	if holder != nil {
		if err := n.vacate(ctx, *holder, id, have == nil); err != nil {
			return err
		}
	}
	if err := n.configure(ctx, have, id, address); err != nil {
		return err
	}
	n.peers.hear(m)
	n.putMember(ctx, number, m)
	return nil
}

// confirmRemoved gives ErrRemoved if the removal of a server that this node's
// configuration lacks is committed. It may be the last act of a leader that nobody
// follows any more; its successor would still count on the server, which must not
// be told to give up its disk.
func (n *Node) confirmRemoved(ctx context.Context) error {
	if err := n.changeConfig(ctx, func() raft.Future { return n.raft.Barrier(n.timing.RPC) }); err != nil {
		return fmt.Errorf("%w: the removal is not confirmed: %w", ErrNotLeader, err)
	}
	return ErrRemoved
}

func (n *Node) configure(ctx context.Context, have *raft.Server, id raft.ServerID, address raft.ServerAddress) error {
	switch {
	case have == nil:
		n.log.Info("a server joins", "server_id", id, "address", address)
		return n.changeConfig(ctx, func() raft.Future { return n.raft.AddNonvoter(id, address, 0, n.timing.RPC) })
	case have.Address == address:
		return nil
	case have.Suffrage == raft.Voter:
		return n.changeConfig(ctx, func() raft.Future { return n.raft.AddVoter(id, address, 0, n.timing.RPC) })
	default:
		return n.changeConfig(ctx, func() raft.Future { return n.raft.AddNonvoter(id, address, 0, n.timing.RPC) })
	}
}

var (
	errBadJoin = errors.New("the server cannot join")
)

// keepInTouch founds or joins a cluster when there is none, and then keeps the
// addresses of the others, and theirs of this node, up to date.
func (n *Node) keepInTouch() {
	admitted := len(n.servers()) > 0 && !n.joining()
	n.settle()
	var last, cluster string
	if n.dir != nil {
		cluster = n.dir.clusterID
	}
	for pause(n.ctx, n.timing.Probe) {
		cluster = n.noteCluster(cluster)
		n.learn()
		n.forgetOthers()
		if !admitted && n.configured() && !n.configurationPending() {
			admitted = n.noteJoining(false)
		}
		err := n.announce(admitted)
		switch {
		case err == nil:
			last = ""
			continue
		case errors.Is(err, ErrRemoved), errors.Is(err, ErrCopied):
			n.fail(err)
			return
		}
		if text := err.Error(); text != last && n.ctx.Err() == nil {
			n.log.Warn("the leader was not told this node's addresses", "error", err)
			last = text
		}
	}
}

// forgottenAfter is the number of heartbeat timeouts without a leader after which
// a node wonders whether it was removed.
const forgottenAfter = 4

// learn asks the configured peers who they are while there is a server that
// nothing is known about, or no leader: the others may have moved.
func (n *Node) learn() {
	_, leader := n.raft.LeaderWithID()
	if leader != "" && !slices.ContainsFunc(n.servers(), func(s raft.Server) bool { return n.peers.lookup(string(s.ID)) == nil }) {
		return
	}
	ctx, cancel := context.WithTimeout(n.ctx, n.timing.Heartbeat)
	defer cancel()
	n.identifyAll(ctx, n.opts.Peers)
}

// announce tells the leader this node's addresses when its row or the configuration
// is not right, and asks whether it still belongs to the cluster when no leader
// speaks to it. A node that came back elsewhere hears from no leader, as the leader
// cannot find it; then any peer passes the message on.
//
// A new server whose admission was never committed asks for it again: the leader
// that let it in may have lost its place before, and its successor knows nothing of
// a server that seems to be a removed one.
func (n *Node) announce(admitted bool) error {
	if n.raft.State() == raft.Leader || n.peers.self.GetGrpcAddress() == "" ||
		sameMember(n.state.Snapshot().Member(n.serverID), n.peers.self) && !n.misplaced() && n.LastContact() < forgottenAfter*n.timing.Heartbeat {
		return nil
	}
	clusterID := n.ClusterID()
	if clusterID == "" {
		if clusterID = n.clusterOfPeers(); clusterID == "" {
			return nil
		}
	}
	var through []string
	if info, ok := n.Leader(); ok && info.GRPCAddress != "" {
		through = append(through, info.GRPCAddress)
	} else {
		for _, p := range n.opts.Peers {
			if p != n.opts.GRPCAddress {
				through = append(through, p)
			}
		}
	}
	err := n.joinThrough(n.ctx, through, clusterID)
	if errors.Is(err, ErrRemoved) && !admitted && n.configured() && n.configurationPending() {
		n.log.Info("the leader that let this server in was replaced before that was committed; it joins again")
		return n.joinThrough(n.ctx, through, "")
	}
	return err
}

// keyJoining is where the log of a new server remembers, until that is known to be
// committed, that it asked to be let in: it may be restarted in between.
var keyJoining = []byte("oaas/joining")

func (n *Node) joining() bool {
	if n.store == nil {
		return false
	}
	mark, _ := n.store.Get(keyJoining) // an error is that there is none, or ends the node
	return len(mark) > 0
}

// noteJoining reports whether the log holds now that this server asks to be let in, or
// that it does not.
func (n *Node) noteJoining(asks bool) bool {
	if n.store == nil || n.joining() == asks {
		return true
	}
	var mark []byte
	if asks {
		mark = []byte("asked")
	}
	return n.store.Set(keyJoining, mark) == nil // the store ends the node
}

// configured reports whether this server is in its own configuration. One that was
// told of its removal is not.
func (n *Node) configured() bool {
	return slices.ContainsFunc(n.servers(), func(s raft.Server) bool { return string(s.ID) == n.serverID })
}

// configurationPending reports whether a configuration is not known to be committed:
// one that follows the commit index in the log. (The library does not tell the index
// of its configuration.)
func (n *Node) configurationPending() bool {
	for i := n.raft.CommitIndex() + 1; i <= n.raft.LastIndex(); i++ {
		var entry raft.Log
		if err := n.store.peek(i, &entry); err == nil && entry.Type == raft.LogConfiguration {
			return true
		}
	}
	return false
}

// misplaced reports whether the configuration has this node at another address.
func (n *Node) misplaced() bool {
	return slices.ContainsFunc(n.servers(), func(s raft.Server) bool {
		return string(s.ID) == n.serverID && string(s.Address) != n.peers.self.GetRaftAddress()
	})
}

// clusterOfPeers asks the servers of this node's configuration which cluster
// they are in. It is for a node that was stopped before it could note that.
func (n *Node) clusterOfPeers() string {
	configured := make(map[string]bool)
	for _, s := range n.servers() {
		configured[string(s.ID)] = true
	}
	ctx, cancel := context.WithTimeout(n.ctx, n.timing.Heartbeat)
	defer cancel()
	for _, a := range n.identifyAll(ctx, n.opts.Peers) {
		if configured[a.GetServerId()] && a.GetClusterId() != "" {
			return a.GetClusterId()
		}
	}
	return ""
}

// forgetOthers closes the connections to addresses that no server has.
func (n *Node) forgetOthers() {
	keep := make(map[string]bool)
	for _, p := range n.opts.Peers {
		keep[p] = true
	}
	for _, s := range n.servers() {
		keep[n.peers.lookup(string(s.ID)).GetGrpcAddress()] = true
	}
	n.peers.prune(keep)
}
