package tunnel

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

const (
	// windowSize bounds the bytes of one stream that wait to be read, and so the memory
	// that an agent can make a node use. It is fixed: a window that grows with what the
	// network carries would leave that to the agent.
	windowSize = 128 << 10
	// maxStreams bounds the streams of one TCP connection: those that wait or carry
	// something, and some that are about to end.
	maxStreams = maxWaiting + maxActive + 8
	// handshakeTimeout is how long a connection may take to become one.
	handshakeTimeout = 10 * time.Second
	// idleTimeout ends connections without any stream.
	idleTimeout = 30 * time.Second
	// helloRate and helloBurst bound the streams that the agents of one cluster may
	// offer in a second. Each connection that is opened takes one.
	helloRate, helloBurst = 50, 200
)

// Peer is another package manager node.
type Peer struct{ ID, Name string }

// HubOptions configure a Hub. Zero durations and counts take the defaults.
type HubOptions struct {
	// ServerID and Node are the id and the name of this node. Required.
	ServerID, Node string
	// Peers gives the other nodes. Required.
	Peers func() []Peer
	// PeerConn gives a pooled connection to the internal port of another node. Required.
	PeerConn func(ctx context.Context, id string) (*grpc.ClientConn, error)
	// Authenticate says whether the caller is entitled to be the agent of a cluster. It is
	// asked when a stream is offered, and again and again while it stands: who is not
	// entitled any more is sent away. It must not wait for anything. Its errors are of
	// Refuse. Nil lets in everybody.
	Authenticate func(ctx context.Context, cluster string) error
	// Registered gives the UID that a cluster is registered with, empty for none.
	// Required.
	Registered func(cluster string) string
	// InContact says whether this node leads, or hears from who does. Required.
	InContact func() bool

	Logger  hclog.Logger
	Metrics prometheus.Registerer
	// Now is the clock. Default time.Now.
	Now func() time.Time

	// HelloTimeout is how long an agent may take to say who it is. Default 10 s.
	HelloTimeout time.Duration
	// PingInterval is between two pings of a stream that waits; after three without an
	// answer the stream is lost. Default 5 s.
	PingInterval time.Duration
	// NoLeaderLimit is how long this node may be out of contact with the leader before
	// it sends its agents away. Default 10 s.
	NoLeaderLimit time.Duration
	// Settle is how long a newer instance of an agent must have been connected before
	// connections to older ones are moved to it. Default 5 s.
	Settle time.Duration
	// PeerSilence is how long another node may say nothing before its agents are taken
	// for lost. Default 6 s.
	PeerSilence time.Duration
	// OpenTimeout bounds how long another node may take to open a connection. Default 2 s.
	OpenTimeout time.Duration
	// DrainTime is how long agents may take to go elsewhere before Run ends. Default 2 s.
	DrainTime time.Duration
	// MaxConnections bounds the connections of all agents to this node. Default 4096.
	MaxConnections int

	// linger is lingerTime, unless a test says otherwise.
	linger time.Duration
}

// Validate reports what is missing or out of range.
func (o *HubOptions) Validate() error {
	var errs []error
	require := func(ok bool, what string) {
		if !ok {
			errs = append(errs, errors.New("tunnel: "+what))
		}
	}
	require(o.ServerID != "" && o.Node != "", "ServerID and Node are required")
	require(o.Peers != nil && o.PeerConn != nil, "Peers and PeerConn are required")
	require(o.Registered != nil, "Registered is required")
	require(o.InContact != nil, "InContact is required")
	for name, d := range map[string]time.Duration{
		"HelloTimeout": o.HelloTimeout, "PingInterval": o.PingInterval, "NoLeaderLimit": o.NoLeaderLimit, "Settle": o.Settle, "PeerSilence": o.PeerSilence, "OpenTimeout": o.OpenTimeout,
		"DrainTime": o.DrainTime,
	} {
		require(d >= 0, name+" must not be negative")
	}
	require(o.MaxConnections >= 0, "MaxConnections must not be negative")
	return errors.Join(errs...)
}

func (o *HubOptions) setDefaults() {
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	if o.Metrics == nil {
		o.Metrics = prometheus.NewRegistry()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Authenticate == nil {
		o.Authenticate = func(context.Context, string) error { return nil }
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&o.HelloTimeout, 10 * time.Second},
		{&o.PingInterval, 5 * time.Second},
		{&o.NoLeaderLimit, 10 * time.Second},
		{&o.Settle, 5 * time.Second},
		{&o.PeerSilence, 6 * time.Second},
		{&o.OpenTimeout, 2 * time.Second},
		{&o.DrainTime, 2 * time.Second},
		{&o.linger, lingerTime},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if o.MaxConnections == 0 {
		o.MaxConnections = 4096
	}
}

// AgentServerOptions are what the gRPC server of the agents' port should be made with,
// beside its credentials: what bounds an agent, and notices one that is gone.
func AgentServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxHeaderListSize(16 << 10),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.StaticStreamWindowSize(windowSize), grpc.StaticConnWindowSize(8 * windowSize),
		grpc.ReadBufferSize(16 << 10),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 5 * time.Second, MaxConnectionIdle: idleTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	}
}

// ClientOptions are what connections to agents are to be made with: windows that do not
// grow with what an agent sends.
func ClientOptions() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithStaticStreamWindowSize(8 * windowSize), grpc.WithStaticConnWindowSize(16 * windowSize)}
}

// AgentOptions configure an Agent. Zero durations and counts take the defaults.
type AgentOptions struct {
	// Cluster is the name of the cluster. Required.
	Cluster string
	// Version of the program.
	Version string
	// Addresses are host:port of the agents' ports of package manager nodes. One is
	// enough, be it that of a load balancer. Required.
	Addresses []string
	// DialOptions give the credentials, anew for every attempt. Required.
	DialOptions func() ([]grpc.DialOption, error)
	// Connections is how many are kept, to different addresses where there are. Default 2.
	Connections int
	// RetryMin and RetryMax bound the pause between attempts. Defaults 250 ms and 10 s.
	RetryMin, RetryMax time.Duration
	// DrainTime is how long connections may go on after the end of Run's context.
	// Default 10 s.
	DrainTime time.Duration

	Logger hclog.Logger
	// Now is the clock. Default time.Now.
	Now func() time.Time

	// linger is lingerTime, unless a test says otherwise.
	linger time.Duration
}

// Validate fills in defaults and reports what is missing or out of range.
func (o *AgentOptions) Validate() error {
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Connections == 0 {
		o.Connections = 2
	}
	if o.RetryMin == 0 {
		o.RetryMin = 250 * time.Millisecond
	}
	if o.RetryMax == 0 {
		o.RetryMax = 10 * time.Second
	}
	if o.DrainTime == 0 {
		o.DrainTime = 10 * time.Second
	}
	if o.linger == 0 {
		o.linger = lingerTime
	}
	switch {
	case len(o.Addresses) == 0:
		return errors.New("tunnel: Addresses are required")
	case o.DialOptions == nil:
		return errors.New("tunnel: DialOptions is required")
	case o.Connections < 1 || o.Connections > maxConnectionsOfCluster/2:
		return fmt.Errorf("tunnel: %d connections are not within 1..%d", o.Connections, maxConnectionsOfCluster/2)
	case o.RetryMin <= 0 || o.RetryMax < o.RetryMin:
		return fmt.Errorf("tunnel: the pause between attempts cannot be %s to %s", o.RetryMin, o.RetryMax)
	case o.DrainTime < 0:
		return errors.New("tunnel: DrainTime must not be negative")
	}
	return checkWord("cluster", o.Cluster, maxName, "-_")
}
