package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/pflag"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"oaas.io/control-plane/api"
	"oaas.io/control-plane/cmd/internal/tlsfiles"
	"oaas.io/control-plane/discovery"
	"oaas.io/control-plane/tunnel"
)

// contactLimit is how old the leader's last message may be for a node to count as one
// that hears from it.
const contactLimit = 5 * time.Second

// agentOptions are the settings of the port that agents connect to.
type agentOptions struct {
	// Addr of the port; empty opens none.
	Addr string
	tlsfiles.Sides
	// ClientName that an agent's certificate must have, with clusterMark in it.
	ClientName string
	// TokenFile has the tokens of agents; empty asks for none.
	TokenFile string
	// Plaintext lets in agents that neither speak TLS nor prove who they are.
	Plaintext bool

	// interval is between two looks at the file of tokens; 0 is the usual one.
	interval time.Duration
}

func (o *agentOptions) bind(fs *pflag.FlagSet) {
	fs.StringVar(&o.Addr, "agent-addr", "", "address on which crm may connect that cannot be dialled; empty opens none")
	fs.StringVar(&o.Cert, "agent-tls-cert", "", "PEM file with the certificate of --agent-addr, and those between it and its authority. Read again when it changes")
	fs.StringVar(&o.Key, "agent-tls-key", "", "PEM file with the key of --agent-tls-cert")
	fs.StringVar(&o.CA, "agent-tls-client-ca", "", "PEM file with the authorities of the certificates that crm show on --agent-addr; each must show one")
	fs.StringVar(&o.ClientName, "agent-tls-client-name", clusterMark, "DNS name, URI or common name that the certificate of a crm must have there, with {cluster} for the cluster's name")
	fs.StringVar(&o.TokenFile, "agent-token-file", "", "file with lines of a cluster's name and a token that a crm of it must show on --agent-addr. Read again when it changes")
	fs.BoolVar(&o.Plaintext, "agent-plaintext", false, "let in crm on --agent-addr without TLS and without proof of which cluster they are")
}

// Validate refuses half a configuration, and one that lets in everybody by omission.
func (o *agentOptions) Validate(tlsRequired bool) error {
	if o.Addr == "" {
		return nil
	}
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if _, _, err := net.SplitHostPort(o.Addr); err != nil {
		bad("--agent-addr: %q is not host:port", o.Addr)
	}
	switch {
	case o.Cert != "" && o.Key == "":
		bad("--agent-tls-cert: needs --agent-tls-key")
	case o.Cert == "" && o.Key != "":
		bad("--agent-tls-key: needs --agent-tls-cert")
	case o.Plaintext && (o.Cert != "" || o.CA != "" || o.TokenFile != ""):
		bad("--agent-plaintext: excludes --agent-tls-cert, --agent-tls-client-ca and --agent-token-file")
	case o.Plaintext && tlsRequired:
		bad("--agent-plaintext: --crm-tls-required is set")
	case !o.Plaintext && o.Cert == "":
		bad("--agent-addr: needs --agent-tls-cert, or --agent-plaintext on networks that you trust")
	case !o.Plaintext && o.CA == "" && o.TokenFile == "":
		bad("--agent-addr: needs --agent-tls-client-ca or --agent-token-file, since without them anybody could be any cluster")
	}
	if !strings.Contains(o.ClientName, clusterMark) {
		bad("--agent-tls-client-name: %q has no %s in it, so that one certificate would do for all clusters", o.ClientName, clusterMark)
	}
	return errors.Join(errs...)
}

// agentPort knows whom it lets in.
type agentPort struct {
	opts    *agentOptions
	config  *tls.Config    // nil without TLS
	clients *tlsfiles.Pool // authorities of certificates; nil when none are asked for
	tokens  *tokens        // nil when none are asked for
}

// openAgentPort reads all files.
func openAgentPort(opts *agentOptions, store *tlsfiles.Store, log hclog.Logger) (*agentPort, error) {
	p := &agentPort{opts: opts}
	if opts.Addr == "" {
		return p, nil
	}
	if opts.Plaintext {
		log.Warn("agents are let in without TLS and without proof: anyone who reaches the port can be any cluster", "address", opts.Addr)
		return p, nil
	}
	certificate, clients, err := store.Load(opts.Sides)
	if err != nil {
		return nil, fmt.Errorf("--agent-tls-cert, --agent-tls-key, --agent-tls-client-ca: %w", err)
	}
	p.clients = clients
	p.config = tlsfiles.Server{Certificate: certificate, Clients: clients}.Config()
	if opts.TokenFile != "" {
		if p.tokens, err = openTokens(opts.TokenFile, opts.interval, log.Named("tokens")); err != nil {
			return nil, fmt.Errorf("--agent-token-file: %w", err)
		}
	}
	return p, nil
}

// authenticate says whether a caller is entitled to be the agent of a cluster, by what
// the files say now.
func (p *agentPort) authenticate(ctx context.Context, cluster string) error {
	if p.clients != nil {
		if err := p.checkCertificate(ctx, cluster); err != nil {
			return err
		}
	}
	if p.tokens != nil {
		return p.tokens.allow(ctx, cluster)
	}
	return nil
}

func (p *agentPort) checkCertificate(ctx context.Context, cluster string) error {
	caller, _ := peer.FromContext(ctx)
	if caller == nil {
		return tunnel.Refuse(tunnel.ReasonCertificate, "no certificate was shown")
	}
	info, ok := caller.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 {
		return tunnel.Refuse(tunnel.ReasonCertificate, "no certificate was shown")
	}
	want := strings.ReplaceAll(p.opts.ClientName, clusterMark, cluster)
	// Names of clusters may be different in upper and lower case only, and no certificate
	// is for two of them.
	if shown := info.State.PeerCertificates[0]; !tlsfiles.HasExactName(shown, want) {
		return tunnel.Refuse(tunnel.ReasonCertificate, "the agent says it is cluster %s, which takes a certificate for %s (--agent-tls-client-name); it has shown one for %s", cluster, want, namesOf(shown))
	}
	if err := p.clients.Vouches(info.State.VerifiedChains); err != nil {
		return tunnel.Refuse(tunnel.ReasonCertificate, "the certificate for cluster %s is not good any more: %v", cluster, err)
	}
	return nil
}

// server makes the gRPC server of the port.
func (p *agentPort) server(hub *tunnel.Hub) *grpc.Server {
	options := tunnel.AgentServerOptions()
	if p.config != nil {
		options = append(options, grpc.Creds(countingRefusals{credentials.NewTLS(p.config), hub}))
	}
	s := grpc.NewServer(options...)
	hub.RegisterAgents(s)
	return s
}

// run follows the files until ctx ends.
func (p *agentPort) run(ctx context.Context) {
	if p.tokens != nil {
		p.tokens.run(ctx)
	}
}

// countingRefusals tells of handshakes that fail, which the library keeps to itself.
type countingRefusals struct {
	credentials.TransportCredentials
	hub *tunnel.Hub
}

// ServerHandshake implements credentials.TransportCredentials.
func (c countingRefusals) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secured, info, err := c.TransportCredentials.ServerHandshake(conn)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) { // somebody who hangs up was not refused
		c.hub.Refused(conn.RemoteAddr().String(), "", tunnel.Refuse(tunnel.ReasonHandshake, "%v", err))
	}
	return secured, info, err
}

// Clone implements credentials.TransportCredentials.
func (c countingRefusals) Clone() credentials.TransportCredentials {
	return countingRefusals{c.TransportCredentials.Clone(), c.hub}
}

// newHub makes the node's part in reaching agents.
func (n *node) newHub() (*tunnel.Hub, error) {
	return tunnel.NewHub(tunnel.HubOptions{
		ServerID: n.raft.ServerID(), Node: n.opts.nodeName(),
		Peers: func() []tunnel.Peer {
			var out []tunnel.Peer
			for _, s := range n.raft.Servers() {
				if s.ID != n.raft.ServerID() {
					out = append(out, tunnel.Peer{ID: s.ID, Name: s.Name})
				}
			}
			return out
		},
		PeerConn:     n.raft.ServerConn,
		Authenticate: n.agentPort.authenticate,
		Registered:   func(cluster string) string { return n.registry.State().Snapshot().Cluster(cluster).GetUid() },
		InContact: func() bool {
			_, known := n.raft.Leader()
			return n.raft.IsLeader() || known && n.raft.LastContact() < contactLimit
		},
		Logger: n.log.Named("agents"), Metrics: n.metrics,
	})
}

// foundAgents are the clusters of agents, as candidates.
type foundAgents struct{ *tunnel.Hub }

// Candidates implements discovery.Finder.
func (f foundAgents) Candidates() []discovery.Candidate {
	var out []discovery.Candidate
	for _, a := range f.Attached() {
		out = append(out, discovery.Candidate{Name: a.Name, Address: discovery.AgentAddress(a.UID), Source: discovery.SourceAgent, Version: a.Version})
	}
	return out
}

// shownAgents are the connections of agents, for people to look at.
type shownAgents struct{ *tunnel.Hub }

// Connections implements api.Agents.
func (s shownAgents) Connections(cluster, address string) []api.AgentConnection {
	uid, agent := discovery.AgentUID(address)
	if !agent {
		return nil
	}
	var out []api.AgentConnection
	for _, c := range s.Hub.Connections(tunnel.Cluster{Name: cluster, UID: uid}) {
		out = append(out, api.AgentConnection{
			Node: c.Node, ServerID: c.ServerID, Instance: c.Instance, Version: c.Version, RemoteAddress: c.RemoteAddress, Since: c.Since,
		})
	}
	return out
}
