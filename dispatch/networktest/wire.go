// Package networktest runs the loops of dispatch on three real nodes, whose wires to a cluster
// are cut one by one. It has a process of its own: the nodes are real ones, and slow to start.
package networktest

import (
	"context"
	"errors"
	"net"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// Wire is a node's way to clusters, which a test can cut. The zero value is whole.
type Wire struct {
	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
}

// Dial opens a connection to the manager of a cluster, as dispatch.Dialer does.
func (w *Wire) Dial(_, address string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(w.open))
}

func (w *Wire) open(ctx context.Context, address string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut {
		_ = conn.Close()
		return nil, errors.New("the wire is cut")
	}
	if w.conns == nil {
		w.conns = map[net.Conn]bool{}
	}
	w.conns[conn] = true
	return conn, nil
}

// Cut ends all connections and refuses new ones, or makes the wire whole again.
func (w *Wire) Cut(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = cut
	for c := range w.conns {
		if cut {
			_ = c.Close()
			delete(w.conns, c)
		}
	}
}
