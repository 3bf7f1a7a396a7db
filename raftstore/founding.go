package raftstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"oaas.io/control-plane/proto/pmpb"
)

// foundAlone makes this node a cluster of one, if it holds nothing yet.
func (n *Node) foundAlone() error {
	if !n.virgin() {
		return nil
	}
	return n.bootstrap([]raft.Server{{ID: raft.ServerID(n.serverID), Address: raft.ServerAddress(n.peers.self.GetRaftAddress())}})
}

func (n *Node) bootstrap(servers []raft.Server) error {
	err := n.await(n.ctx, func() raft.Future { return n.raft.BootstrapCluster(raft.Configuration{Servers: servers}) })
	if err != nil && !errors.Is(err, raft.ErrCantBootstrap) {
		return fmt.Errorf("raftstore: founding the cluster: %w", err)
	}
	n.log.Info("cluster founded", "servers", len(servers))
	return nil
}

// settle brings a node that belongs to no cluster into one: it founds it with
// the other founders, or joins the one that they have. It returns when the node
// is in a configuration.
func (n *Node) settle() {
	var last string
	for len(n.servers()) == 0 {
		d := n.survey(n.ctx)
		switch d.action {
		case foundCluster:
			if err := n.bootstrap(d.servers); err != nil {
				d.reason = err.Error()
			}
		case joinCluster:
			if !n.noteJoining(true) {
				return
			}
			if err := n.joinThrough(n.ctx, d.members, ""); err != nil {
				d.reason = err.Error()
			}
		case waitForPeers:
		}
		if d.reason != last && d.reason != "" {
			n.log.Info("this node is not in a cluster yet", "reason", d.reason)
			last = d.reason
		}
		if !pause(n.ctx, min(n.timing.Probe, settleEvery)) {
			return
		}
	}
}

// settleEvery is how often a node without a cluster looks around; it has nothing
// else to do, and somebody waits for it.
const settleEvery = 250 * time.Millisecond

type foundingAction int

const (
	waitForPeers foundingAction = iota
	foundCluster
	joinCluster
)

// decision is what a node without a cluster does next.
type decision struct {
	action foundingAction
	// reason is what is waited for, for the log.
	reason string
	// servers is the configuration to found with.
	servers []raft.Server
	// members are the internal addresses of nodes that are in a cluster.
	members []string
}

// survey asks all peers who they are and decides.
func (n *Node) survey(ctx context.Context) decision {
	ctx, cancel := context.WithTimeout(ctx, max(2*n.timing.Probe, n.timing.Heartbeat))
	defer cancel()
	answers := n.identifyAll(ctx, n.opts.Peers)
	byPeer := make(map[string]*pmpb.IdentifyResponse, len(answers))
	for i, a := range answers {
		if a != nil {
			byPeer[n.opts.Peers[i]] = a
		}
	}
	return decide(n.serverID, n.ClusterID(), n.opts.Peers, byPeer)
}

// decide is the founding rule. peers are sorted; answers holds what those said
// that could be reached. A cluster is founded by the first peer only, and only
// when each peer answers, is another server, holds nothing, and expects the
// same founders. So a node that lost its disk can found nothing as long as one
// other founder remembers. cluster is the cluster that this node's directory
// belonged to before its log was lost, if any; then it joins that one or none.
func decide(self, cluster string, peers []string, answers map[string]*pmpb.IdentifyResponse) decision {
	wait := func(format string, args ...any) decision {
		return decision{action: waitForPeers, reason: fmt.Sprintf(format, args...)}
	}
	var members []string
	for _, p := range peers {
		a := answers[p]
		if a == nil || a.GetServerId() == self || a.GetClusterId() == "" {
			continue
		}
		if cluster != "" && a.GetClusterId() != cluster {
			return wait("peer %s is in cluster %s, this directory belongs to cluster %s", p, a.GetClusterId(), cluster)
		}
		members = append(members, p)
	}
	if len(members) > 0 {
		return decision{action: joinCluster, members: members}
	}
	if cluster != "" {
		return wait("this directory belongs to cluster %s, of which no peer knows", cluster)
	}
	byID := make(map[string]string, len(peers))
	byAddress := make(map[string]string, len(peers))
	var servers []raft.Server
	for _, p := range peers {
		a := answers[p]
		switch {
		case a == nil:
			return wait("peer %s does not answer", p)
		case !a.GetVirgin():
			return wait("peer %s is being founded or remembers a cluster without a leader", p)
		case byID[a.GetServerId()] != "":
			return wait("peers %s and %s are the same server", byID[a.GetServerId()], p)
		case byAddress[a.GetRaftAddress()] != "":
			return wait("peers %s and %s advertise the same address %s", byAddress[a.GetRaftAddress()], p, a.GetRaftAddress())
		case strings.Join(a.GetPeers(), ",") != strings.Join(peers, ","):
			return wait("peer %s expects other founders: %s", p, strings.Join(a.GetPeers(), ","))
		}
		byID[a.GetServerId()], byAddress[a.GetRaftAddress()] = p, p
		servers = append(servers, raft.Server{ID: raft.ServerID(a.GetServerId()), Address: raft.ServerAddress(a.GetRaftAddress())})
	}
	if byID[self] == "" {
		return wait("this node is not among its peers and no peer has a cluster to join")
	}
	if string(servers[0].ID) != self {
		return wait("peer %s founds the cluster", peers[0])
	}
	return decision{action: foundCluster, servers: servers}
}

// joinThrough asks nodes of a cluster, one after the other, to let this node in,
// or, when it is in clusterID already, to take note of its addresses.
func (n *Node) joinThrough(ctx context.Context, members []string, clusterID string) error {
	var errs []error
	for _, address := range members {
		if err := n.join(ctx, address, clusterID); err != nil {
			errs = append(errs, err)
			continue
		}
		return nil
	}
	return errors.Join(errs...)
}

func (n *Node) join(ctx context.Context, address, clusterID string) error {
	ctx, cancel := context.WithTimeout(ctx, n.timing.RPC)
	defer cancel()
	conn, err := n.peers.conn(address)
	if err != nil {
		return err
	}
	self := n.peers.self
	resp, err := pmpb.NewPeerServiceClient(conn).Join(ctx, &pmpb.JoinRequest{
		ServerId: self.GetServerId(), RaftAddress: self.GetRaftAddress(), GrpcAddress: self.GetGrpcAddress(),
		HttpAddress: self.GetHttpAddress(), Version: self.GetVersion(), ClusterId: clusterID,
	})
	if status.Code(err) == codes.NotFound && clusterID != "" {
		return fmt.Errorf("%w: server %s; to let it come back as a new server, remove its data directory %s first", ErrRemoved, n.serverID, n.opts.DataDir)
	}
	if status.Code(err) == codes.AlreadyExists && clusterID != "" {
		return fmt.Errorf("%w: %s; two processes must not vote as one server: keep the one that is to stay, and empty the data directory of the other, here %s, to start it as a new server",
			ErrCopied, status.Convert(err).Message(), n.opts.DataDir)
	}
	if err != nil {
		return fmt.Errorf("joining through %s: %w", address, err)
	}
	if clusterID == "" {
		n.log.Info("joined a cluster", "cluster_id", resp.GetClusterId(), "through", address)
	}
	return nil
}

// identifyAll asks all addresses at once. The answer has their order, nil for
// those that did not answer.
func (n *Node) identifyAll(ctx context.Context, addresses []string) []*pmpb.IdentifyResponse {
	out := make([]*pmpb.IdentifyResponse, len(addresses))
	var wg sync.WaitGroup
	for i, a := range addresses {
		if a == n.opts.GRPCAddress {
			out[i] = n.identity()
			continue
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			if resp, err := n.peers.identify(ctx, a); err == nil {
				out[i] = resp
			}
		}()
	}
	wg.Wait()
	return out
}

// identifyServers asks servers whose address is known. An answer of somebody
// else counts as none.
func (n *Node) identifyServers(ctx context.Context, servers []raft.Server) []*pmpb.IdentifyResponse {
	addresses := make([]string, len(servers))
	for i, s := range servers {
		addresses[i] = n.peers.lookup(string(s.ID)).GetGrpcAddress()
	}
	out := make([]*pmpb.IdentifyResponse, len(servers))
	var wg sync.WaitGroup
	for i, a := range addresses {
		if a == "" {
			continue
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			resp, err := n.peers.identify(ctx, a)
			if err != nil {
				return
			}
			if id := string(servers[i].ID); resp.GetServerId() != id {
				n.peers.forget(id)
				return
			}
			out[i] = resp
		}()
	}
	wg.Wait()
	return out
}
