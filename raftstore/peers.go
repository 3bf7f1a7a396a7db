package raftstore

import (
	"context"
	"errors"
	"slices"

	"github.com/google/uuid"
	"github.com/hashicorp/raft"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"oaas.io/control-plane/proto/pmpb"
)

// forwardedKey marks a Join that a follower has passed on. It is passed on once.
const forwardedKey = "oaas-forwarded"

// peerServer answers the other nodes.
type peerServer struct {
	pmpb.UnimplementedPeerServiceServer
	n *Node
}

// Identify says who this node is; it needs no cluster.
func (s *peerServer) Identify(context.Context, *pmpb.IdentifyRequest) (*pmpb.IdentifyResponse, error) {
	return s.n.identity(), nil
}

// CurrentTerm answers a leader's read barrier.
func (s *peerServer) CurrentTerm(ctx context.Context, r *pmpb.CurrentTermRequest) (*pmpb.CurrentTermResponse, error) {
	if err := s.checkCluster(ctx, r.GetClusterId()); err != nil {
		return nil, err
	}
	return &pmpb.CurrentTermResponse{Term: s.n.raft.CurrentTerm(), ServerId: s.n.serverID}, nil
}

// ReadIndex runs the read barrier for a follower. It is never passed on.
func (s *peerServer) ReadIndex(ctx context.Context, r *pmpb.ReadIndexRequest) (*pmpb.ReadIndexResponse, error) {
	if err := s.checkCluster(ctx, r.GetClusterId()); err != nil {
		return nil, err
	}
	index, term, err := s.n.leaderBarrier(ctx)
	if err != nil {
		return nil, toStatus(err)
	}
	return &pmpb.ReadIndexResponse{Index: index, Term: term}, nil
}

// Join lets a server in, or takes note of a member's new addresses.
func (s *peerServer) Join(ctx context.Context, r *pmpb.JoinRequest) (*pmpb.JoinResponse, error) {
	n := s.n
	if err := checkJoin(r); err != nil {
		return nil, err
	}
	if err := s.checkCluster(ctx, r.GetClusterId()); err != nil {
		return nil, err
	}
	t := n.readyTerm()
	if t == nil {
		return s.forwardJoin(ctx, r)
	}
	if r.GetServerId() == n.serverID && r.GetGrpcAddress() == n.peers.self.GetGrpcAddress() {
		return nil, status.Error(codes.InvalidArgument, "the server is the leader itself")
	}
	// Whoever asks must be reachable where it says that it is.
	ictx, cancel := context.WithTimeout(ctx, 2*n.timing.Heartbeat)
	who, err := n.peers.ask(ictx, r.GetGrpcAddress())
	cancel()
	if err != nil {
		return nil, status.Errorf(codes.FailedPrecondition, "server %s cannot be reached at %s: %v", r.GetServerId(), r.GetGrpcAddress(), err)
	}
	if who.GetServerId() != r.GetServerId() || who.GetRaftAddress() != r.GetRaftAddress() {
		return nil, status.Errorf(codes.FailedPrecondition, "at %s answers server %s of %s, not %s of %s",
			r.GetGrpcAddress(), who.GetServerId(), who.GetRaftAddress(), r.GetServerId(), r.GetRaftAddress())
	}
	if err := n.refuseTwin(ctx, who); err != nil {
		return nil, err
	}
	n.peers.hear(memberOf(who))
	if have := n.state.Snapshot().FeatureLevel(); max(who.GetFeatureLevel(), 1) < have {
		return nil, status.Errorf(codes.FailedPrecondition, "the cluster uses feature level %d, the program of server %s knows %d: start a newer one",
			have, r.GetServerId(), max(who.GetFeatureLevel(), 1))
	}
	if err := n.admit(ctx, t.number, memberOf(who), r.GetClusterId() != ""); err != nil {
		return nil, toStatus(err)
	}
	return &pmpb.JoinResponse{ClusterId: n.ClusterID()}, nil
}

func (s *peerServer) forwardJoin(ctx context.Context, r *pmpb.JoinRequest) (*pmpb.JoinResponse, error) {
	if md, ok := metadata.FromIncomingContext(ctx); ok && len(md.Get(forwardedKey)) > 0 {
		return nil, toStatus(ErrNotLeader)
	}
	conn, err := s.n.LeaderConn(ctx)
	if err != nil {
		if twin := s.hearMoved(ctx, r); twin != nil {
			return nil, twin
		}
		return nil, toStatus(err)
	}
	return pmpb.NewPeerServiceClient(conn).Join(metadata.AppendToOutgoingContext(ctx, forwardedKey, "1"), r)
}

// hearMoved takes note of where a member is that cannot tell a leader, as there is
// none: without this node's vote there may never be one. What counts is what is
// answered at the address, not what the request says. The error is about a copy.
func (s *peerServer) hearMoved(ctx context.Context, r *pmpb.JoinRequest) error {
	if !slices.ContainsFunc(s.n.servers(), func(have raft.Server) bool { return string(have.ID) == r.GetServerId() }) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*s.n.timing.Heartbeat)
	defer cancel()
	who, err := s.n.peers.ask(ctx, r.GetGrpcAddress())
	if err != nil {
		return nil // the request is refused in any case
	}
	if err := s.n.refuseTwin(ctx, who); err != nil {
		return err
	}
	s.n.peers.hear(memberOf(who))
	return nil
}

// checkCluster refuses members of another cluster. Before either side knows its
// cluster there is nothing to compare.
func (s *peerServer) checkCluster(ctx context.Context, id string) error {
	if own := s.n.ClusterID(); id != "" && own != "" && id != own {
		return s.n.refuseCluster(ctx, id, own)
	}
	return nil
}

func checkJoin(r *pmpb.JoinRequest) error {
	if _, err := uuid.Parse(r.GetServerId()); err != nil {
		return status.Errorf(codes.InvalidArgument, "server_id %.64q is not a UUID", r.GetServerId())
	}
	if err := checkAddress(r.GetRaftAddress()); err != nil {
		return status.Errorf(codes.InvalidArgument, "raft_address: %v", err)
	}
	if err := checkAddress(r.GetGrpcAddress()); err != nil {
		return status.Errorf(codes.InvalidArgument, "grpc_address: %v", err)
	}
	if len(r.GetHttpAddress()) > 255 || len(r.GetVersion()) > 255 {
		return status.Error(codes.InvalidArgument, "http_address and version may have 255 bytes each")
	}
	return nil
}

func toStatus(err error) error {
	switch {
	case errors.Is(err, ErrNotLeader), errors.Is(err, ErrNoLeader), errors.Is(err, ErrShutdown):
		return status.Error(codes.Unavailable, err.Error())
	case errors.Is(err, ErrRemoved):
		return status.Error(codes.NotFound, err.Error())
	case errors.Is(err, errBadJoin):
		return status.Error(codes.FailedPrecondition, err.Error())
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return status.FromContextError(err).Err()
	default:
		return status.Error(codes.Unavailable, err.Error())
	}
}
