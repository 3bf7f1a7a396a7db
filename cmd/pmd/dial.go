package main

import (
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/keepalive"

	"oaas.io/control-plane/discovery"
)

// dial opens the connection to a cluster's manager. It is the one place where
// connections to clusters are made. It never fails for what a file holds or who
// answers: the connection tells, so that the cluster is shown with the reason.
func (t *clusterTLS) dial(cluster, address string) (*grpc.ClientConn, error) {
	hostPort, _ := discovery.SplitAddress(address)
	creds := t.credentials(cluster, address)
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		// A cluster that comes back is to be served within seconds.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 3 * time.Second,
		}),
	}
	if secured, ok := creds.(trusting); ok && secured.client.ServerName != "" {
		// What stands between tells managers behind one address apart by this name.
		options = append(options, grpc.WithAuthority(secured.client.ServerName))
	}
	return grpc.NewClient("passthrough:///"+hostPort, options...)
}
