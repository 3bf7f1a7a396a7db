package netlab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"

	"oaas.io/control-plane/deploy/local/process"
)

// Host is one host of a laboratory.
type Host struct {
	lab   *Lab
	name  string
	index int
	space *space
	// address changes when the host moves.
	address atomic.Pointer[netip.Addr]
	// ways lead to the hosts, by their index. It is replaced, never changed.
	ways atomic.Pointer[[]*link]
	// links are the first ways.
	links []*link
}

// Name of the host.
func (h *Host) Name() string { return h.name }

// Addr is the address of the host.
func (h *Host) Addr() netip.Addr { return *h.address.Load() }

func (h *Host) waysLocked() []*link { return *h.ways.Load() }

// Move gives the host another address under the same name. All its connections are dead then, without being closed.
func (h *Host) Move() error { return h.lab.move(h) }

// Remove takes the host out of the laboratory and ends the processes that were started on it.
func (h *Host) Remove() { h.lab.remove(h) }

// Do runs fn on the thread of the host: sockets that it makes, and processes that it starts, are on the host. fn must not
// block, as all of the host's own work waits for it.
func (h *Host) Do(fn func() error) error { return h.space.do(fn) }

// Start runs a process on the host, which finds all hosts by name, sees what is mounted at this moment, and ends with the
// host at the latest.
func (h *Host) Start(spec process.Spec) (*process.Process, error) {
	return h.lab.records.start(h.space, spec)
}

// Dial connects from the host. The address may name a host.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	target, err := h.lab.resolve(address)
	if err != nil {
		return nil, err
	}
	var conn net.Conn
	err = h.space.visit(func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, network, target)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.name, err)
	}
	return conn, nil
}

// Listen accepts connections to a port on all addresses of the host, also on those that it moves to. Port 0 is a free one.
func (h *Host) Listen(port int) (net.Listener, error) {
	var listener net.Listener
	err := h.space.visit(func() (err error) {
		listener, err = net.ListenTCP("tcp4", &net.TCPAddr{Port: port})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.name, err)
	}
	return listener, nil
}

// ListenPacket receives datagrams at a port of the host.
func (h *Host) ListenPacket(port int) (net.PacketConn, error) {
	var conn net.PacketConn
	err := h.space.visit(func() (err error) {
		conn, err = net.ListenUDP("udp4", &net.UDPAddr{Port: port})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.name, err)
	}
	return conn, nil
}

// resolve replaces a host's name by its address.
func (l *Lab) resolve(address string) (string, error) {
	name, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("address %q: %w", address, err)
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return address, nil
	}
	h := l.Host(name)
	if h == nil {
		return "", fmt.Errorf("%w: %s", ErrUnknownHost, name)
	}
	return net.JoinHostPort(h.Addr().String(), port), nil
}
