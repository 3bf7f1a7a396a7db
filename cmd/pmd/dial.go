package main

import (
	"context"
	"errors"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"oaas.io/control-plane/discovery"
	"oaas.io/control-plane/dispatch"
	"oaas.io/control-plane/tunnel"
)

// dialer opens the connections to the clusters' managers. It is the one place where
// such connections are made.
type dialer struct {
	tls *clusterTLS
	// agents opens connections to managers that have connected themselves.
	agents func(ctx context.Context, to tunnel.Cluster) (net.Conn, error)
}

// dial never fails for what a file holds or who answers: the connection tells, so that
// the cluster is shown with the reason.
func (d *dialer) dial(cluster, address string) (*grpc.ClientConn, error) {
	options := []grpc.DialOption{
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		// A cluster that comes back is to be served within seconds.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 3 * time.Second,
		}),
	}
	if uid, agent := discovery.AgentUID(address); agent {
		// Who is there was found out, and TLS made, when the agent connected.
		to := tunnel.Cluster{Name: cluster, UID: uid}
		options = append(append(options, tunnel.ClientOptions()...), grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
				conn, err := d.agents(ctx, to)
				if errors.Is(err, tunnel.ErrNoAgent) {
					err = dispatch.ErrNoAgent
				}
				return conn, err
			}))
		return grpc.NewClient("passthrough:///"+cluster, options...)
	}
	hostPort, _ := discovery.SplitAddress(address)
	creds := d.tls.credentials(cluster, address)
	options = append(options, grpc.WithTransportCredentials(creds))
	if secured, ok := creds.(trusting); ok && secured.client.ServerName != "" {
		// What stands between tells managers behind one address apart by this name.
		options = append(options, grpc.WithAuthority(secured.client.ServerName))
	}
	return grpc.NewClient("passthrough:///"+hostPort, options...)
}
