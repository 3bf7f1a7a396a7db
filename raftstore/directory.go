package raftstore

import (
	"context"
	"fmt"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

// directory knows where the cluster's servers can be reached and keeps one
// connection to each. The members table in the state is the common knowledge;
// what a server said about itself later than its row was written goes before.
type directory struct {
	self *pmpb.Member
	dial DialFunc
	view func() *fsm.Snapshot

	mu     sync.Mutex
	heard  map[string]heard            // by server id
	conns  map[string]*grpc.ClientConn // by internal address
	closed bool
}

// heard is what a server said about itself.
type heard struct {
	member *pmpb.Member
	// row is the modify index that the server's row had then.
	row uint64
}

func newDirectory(self *pmpb.Member, dial DialFunc, view func() *fsm.Snapshot) *directory {
	return &directory{
		self: self, dial: dial, view: view,
		heard: make(map[string]heard), conns: make(map[string]*grpc.ClientConn),
	}
}

// lookup gives what is known about a server, nil when nothing is.
func (d *directory) lookup(id string) *pmpb.Member {
	if id == d.self.GetServerId() {
		return d.self
	}
	row := d.view().Member(id)
	d.mu.Lock()
	defer d.mu.Unlock()
	if h, ok := d.heard[id]; ok && h.row >= row.GetModifyIndex() {
		return h.member
	}
	return row
}

// hear notes what a server said about itself.
func (d *directory) hear(m *pmpb.Member) {
	if m.GetServerId() == "" || m.GetServerId() == d.self.GetServerId() {
		return
	}
	row := d.view().Member(m.GetServerId())
	d.mu.Lock()
	defer d.mu.Unlock()
	d.heard[m.GetServerId()] = heard{member: m, row: row.GetModifyIndex()}
}

// forget drops what a server once said, because somebody else answers there now.
func (d *directory) forget(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.heard, id)
}

// connTo gives the connection to a server.
func (d *directory) connTo(id string) (*grpc.ClientConn, error) {
	m := d.lookup(id)
	if m.GetGrpcAddress() == "" {
		return nil, fmt.Errorf("%w: the address of server %s is not known yet", ErrNoLeader, id)
	}
	return d.conn(m.GetGrpcAddress())
}

// conn gives the connection to an internal address, making it if needed.
func (d *directory) conn(address string) (*grpc.ClientConn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, ErrShutdown
	}
	if c, ok := d.conns[address]; ok {
		return c, nil
	}
	c, err := dialGRPC(address, d.dial)
	if err != nil {
		return nil, fmt.Errorf("raftstore: connection to %s: %w", address, err)
	}
	d.conns[address] = c
	return c, nil
}

// identify asks who answers at an internal address, and remembers it.
func (d *directory) identify(ctx context.Context, address string) (*pmpb.IdentifyResponse, error) {
	resp, err := d.ask(ctx, address)
	if err == nil {
		d.hear(memberOf(resp))
	}
	return resp, err
}

// ask is identify for an answer that may have to be refused.
func (d *directory) ask(ctx context.Context, address string) (*pmpb.IdentifyResponse, error) {
	conn, err := d.conn(address)
	if err != nil {
		return nil, err
	}
	resp, err := pmpb.NewPeerServiceClient(conn).Identify(ctx, &pmpb.IdentifyRequest{})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", address, err)
	}
	return resp, nil
}

// prune closes the connections to addresses that no server has any more.
func (d *directory) prune(keep map[string]bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for address, c := range d.conns {
		if !keep[address] {
			_ = c.Close()
			delete(d.conns, address)
		}
	}
}

func (d *directory) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for _, c := range d.conns {
		_ = c.Close()
	}
	d.conns = nil
}

func memberOf(r *pmpb.IdentifyResponse) *pmpb.Member {
	return &pmpb.Member{
		ServerId: r.GetServerId(), RaftAddress: r.GetRaftAddress(), GrpcAddress: r.GetGrpcAddress(),
		HttpAddress: r.GetHttpAddress(), Version: r.GetVersion(), FeatureLevel: r.GetFeatureLevel(),
		Name: r.GetName(), Zone: r.GetZone(),
	}
}

// sameMember compares what the members say, not when it was written.
func sameMember(a, b *pmpb.Member) bool {
	if a == nil || b == nil {
		return a == b
	}
	x, y := proto.Clone(a).(*pmpb.Member), proto.Clone(b).(*pmpb.Member)
	x.ModifyIndex, y.ModifyIndex = 0, 0
	return proto.Equal(x, y)
}
