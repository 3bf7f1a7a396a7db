package raftstore

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"oaas.io/control-plane/proto/pmpb"
)

// parkedSuffix ends the address that a server has in the configuration from the
// time that another server was found at its former one until it says where it is.
// The configuration can hold no address twice, and servers may have exchanged
// theirs, as pods that are known by their IPs do.
const parkedSuffix = ".moved.invalid:1"

func parked(address raft.ServerAddress) bool {
	return strings.HasSuffix(string(address), parkedSuffix)
}

// park makes the configuration forget where a server is. It keeps its vote.
func (n *Node) park(ctx context.Context, s raft.Server) error {
	n.log.Warn("another server is at the address of this one, which is looked for elsewhere", "address", s.Address, "server_id", s.ID)
	if err := n.configure(ctx, &s, s.ID, raft.ServerAddress(s.ID)+parkedSuffix); err != nil {
		return fmt.Errorf("taking the address %s from server %s, which is not there any more: %w", s.Address, s.ID, err)
	}
	return nil
}

// vacate frees the address that holder has in the configuration for a server that is
// there now: one that is new, or one of the configuration that moved. Whoever moved
// says nothing about the disk of the server whose place it took; a new one does.
func (n *Node) vacate(ctx context.Context, holder raft.Server, by raft.ServerID, isNew bool) error {
	if string(holder.ID) == n.serverID {
		if string(holder.Address) == n.peers.self.GetRaftAddress() {
			return fmt.Errorf("%w: %s is the leader's own address", errBadJoin, holder.Address)
		}
		return n.park(ctx, holder)
	}
	ctx2, cancel := context.WithTimeout(ctx, 2*n.timing.Heartbeat)
	who := n.identifyServers(ctx2, []raft.Server{holder})[0]
	cancel()
	switch {
	case who != nil && who.GetRaftAddress() == string(holder.Address):
		return fmt.Errorf("%w: %s is the address of server %s, which is alive at %s", errBadJoin, holder.Address, holder.ID, who.GetGrpcAddress())
	case who != nil || !isNew:
		return n.park(ctx, holder)
	case n.layer != nil && time.Since(n.layer.contacts.last(holder.ID)) < 2*n.timing.Heartbeat:
		return fmt.Errorf("%w: %s is the address of server %s, which answered there a moment ago", errBadJoin, holder.Address, holder.ID)
	}
	n.log.Warn("a server was replaced at its address", "address", holder.Address, "old", holder.ID, "new", by)
	if err := n.changeConfig(ctx, func() raft.Future { return n.raft.RemoveServer(holder.ID, 0, n.timing.RPC) }); err != nil {
		return fmt.Errorf("removing server %s, which had the address: %w", holder.ID, err)
	}
	return nil
}

// refuseTwin refuses a server that says it has moved while it still answers where it
// was: then its data directory was copied, and there are two processes that could
// vote in its name. An answer of the same process under another name is none: it
// started when the other one did.
func (n *Node) refuseTwin(ctx context.Context, who *pmpb.IdentifyResponse) error {
	at := n.state.Snapshot().Member(who.GetServerId()).GetGrpcAddress()
	if who.GetServerId() == n.serverID {
		at = n.peers.self.GetGrpcAddress()
	}
	if at == "" || at == who.GetGrpcAddress() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, n.timing.Heartbeat)
	defer cancel()
	twin, err := n.peers.ask(ctx, at)
	if err != nil || twin.GetServerId() != who.GetServerId() || twin.GetStartedAt().AsTime().Equal(who.GetStartedAt().AsTime()) {
		return nil
	}
	err = fmt.Errorf("server %s runs at %s already, since %s; the one at %s has a copy of its data directory",
		who.GetServerId(), at, twin.GetStartedAt().AsTime().Format(time.RFC3339), who.GetGrpcAddress())
	n.refusals.tell("an announcement", who.GetGrpcAddress(), "copied data directory", err)
	return status.Error(codes.AlreadyExists, err.Error())
}
