package cluster

import (
	"context"
	"net"

	"oaas.io/control-plane/deploy/local/process"
)

// fabric makes hosts and is the network between them: a laboratory, or loopback.
type fabric interface {
	Network
	// place makes a host that serves the given ports.
	place(name string, ports ...int) (place, error)
	// dial connects from a host to "name:port".
	dial(ctx context.Context, from, address string) (net.Conn, error)
	// gossips reports whether hosts reach one another by datagrams.
	gossips() bool
	// faults says which faults cannot be made.
	faults() map[Fault]error
	close()
}

// place is a host.
type place interface {
	// address is the one that the host has now.
	address() string
	// bind is the host part of addresses that a process of the host listens on.
	bind() string
	// known is the host as others address it.
	known() string
	// start runs a process.
	start(spec process.Spec) (*process.Process, error)
	// listen accepts connections of this process's own servers.
	listen(port int) (net.Listener, error)
	// move gives the host another address.
	move() error
	// remove takes the host out of the network.
	remove()
}
