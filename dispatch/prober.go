package dispatch

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
)

const (
	// probeLimit bounds one attempt to reach a cluster for the leader. A connection that
	// cannot be made says why within three seconds.
	probeLimit = 4 * time.Second
	// maxProbes bounds the attempts at a time.
	maxProbes = 64
)

// Prober tries to reach clusters for the leader. It answers pmpb.ProbeService.
type Prober struct {
	pmpb.UnimplementedProbeServiceServer
	state    *fsm.State
	dial     Dialer
	serverID string
	room     chan struct{}
}

// NewProber makes the Prober of the server with that id. It dials as the leader does, so
// that the same proofs are asked for, and only clusters that are registered in state.
func NewProber(state *fsm.State, dial Dialer, serverID string) *Prober {
	return &Prober{state: state, dial: dial, serverID: serverID, room: make(chan struct{}, maxProbes)}
}

// Register registers the service.
func (p *Prober) Register(s grpc.ServiceRegistrar) { pmpb.RegisterProbeServiceServer(s, p) }

// ProbeCluster implements pmpb.ProbeServiceServer. An error means that nothing was found out.
func (p *Prober) ProbeCluster(ctx context.Context, req *pmpb.ProbeClusterRequest) (*pmpb.ProbeClusterResponse, error) {
	snap := p.state.Snapshot()
	if id := snap.Meta().GetClusterId(); req.GetClusterId() != id || req.GetServerId() != p.serverID {
		return nil, status.Errorf(codes.FailedPrecondition, "this is server %s of control plane %q", p.serverID, id)
	}
	row := snap.Cluster(req.GetName())
	if row == nil || row.GetAddress() != req.GetAddress() {
		// The state here may be older than the leader's.
		return nil, status.Errorf(codes.FailedPrecondition, "this server does not know cluster %.64q at that address", req.GetName())
	}
	select {
	case p.room <- struct{}{}:
		defer func() { <-p.room }()
	default:
		return nil, status.Errorf(codes.ResourceExhausted, "this server tries to reach %d clusters already", maxProbes)
	}
	return p.probe(ctx, row), nil
}

// probe asks the manager of a cluster who it is, over a connection of its own: one that
// stands may be broken without anybody knowing it.
func (p *Prober) probe(ctx context.Context, row *pmpb.Cluster) *pmpb.ProbeClusterResponse {
	missed := func(err error) *pmpb.ProbeClusterResponse {
		return &pmpb.ProbeClusterResponse{Error: reasonOf(err)}
	}
	conn, err := p.dial(row.GetName(), row.GetAddress())
	if err != nil {
		return missed(err)
	}
	defer func() { _ = conn.Close() }() // it was only for this question
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	info, err := identify(ctx, conn)
	switch {
	case err == nil:
		return answered(row, info)
	case occupied(conn, err):
		// It is there, if not well.
		return &pmpb.ProbeClusterResponse{Reachable: true, Error: reasonOf(err)}
	default:
		return missed(err)
	}
}

func answered(row *pmpb.Cluster, info *oaaspb.ClusterInfo) *pmpb.ProbeClusterResponse {
	if uid := info.GetUid(); uid != "" && row.GetUid() != "" && uid != row.GetUid() {
		return &pmpb.ProbeClusterResponse{Error: errOtherCluster.Error()}
	}
	return &pmpb.ProbeClusterResponse{Reachable: true, Ready: info.GetApiServerReady()}
}

// occupied reports that a call failed although a manager is at the other end of the
// connection: it has refused, or not answered in time. Who is not trusted is nobody, and a
// proxy that has no manager behind it answers in its stead.
func occupied(conn *grpc.ClientConn, err error) bool {
	if _, untrusted := untrustedBecause(err); untrusted {
		return false
	}
	return conn.GetState() == connectivity.Ready && !strings.Contains(status.Convert(err).Message(), "unexpected HTTP status code")
}
