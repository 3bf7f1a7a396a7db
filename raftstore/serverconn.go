package raftstore

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
)

// ServerConn gives the connection to the internal port of another server. It
// belongs to the node: callers must not close it, and should ask again for every
// request. Whoever answers there may meanwhile be another server; what is said
// through it must name whom it is for.
func (n *Node) ServerConn(ctx context.Context, id string) (*grpc.ClientConn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if id == n.serverID {
		return nil, fmt.Errorf("raftstore: %s is this server", id)
	}
	return n.peers.connTo(id)
}
