package cluster

import (
	"errors"

	"oaas.io/control-plane/jepsen/netlab"
)

// The ports that every host uses for the same purpose. A cut of PortRaft alone leaves forwarding and gossip as they were.
const (
	PortHTTP    = 8080
	PortRaft    = 7401
	PortGRPC    = 7402
	PortTunnel  = 7403
	PortGossip  = 7946
	PortCRM     = 8088
	PortMetrics = 9090
	PortKube    = 6443
	PortAgent   = 8088
)

// Any stands for every other host where a host is named.
const Any = netlab.Any

// ClientHost is the host from which the clients of this process ask.
const ClientHost = "client"

// ErrUnavailable says that this machine, or this kind of network, cannot make a fault.
var ErrUnavailable = errors.New("this fault cannot be made here")

// Fault is a kind of fault that not every machine can make.
type Fault string

// Faults of the network and of nodes.
const (
	// FaultCut stops everything between two hosts, in one direction or both.
	FaultCut Fault = "cut"
	// FaultPorts limits faults to some ports.
	FaultPorts Fault = "ports"
	// FaultDatagrams are faults that reach UDP, which gossip uses beside TCP.
	FaultDatagrams Fault = "datagrams"
	// FaultDelay, FaultLoss and FaultRate are those of Shape.
	FaultDelay Fault = "delay"
	FaultLoss  Fault = "loss"
	FaultRate  Fault = "rate"
	// FaultMove gives nodes other addresses.
	FaultMove Fault = "move"
)

// Network is what lies between the hosts. Hosts are named as their processes; from and to may be Any. Faults add up: a pair
// can be cut for one port and slowed for all.
type Network interface {
	// Cut lets nothing through from one host to another, in that direction alone, until it is healed. With ports, only what
	// comes from or goes to one of them is cut.
	Cut(from, to string, ports ...int) error
	// Shape makes the way from one host to another worse. It replaces what an earlier Shape for the same pair and ports did.
	Shape(from, to string, shape netlab.Shape, ports ...int) error
	// Heal ends all faults of a pair, in that direction alone.
	Heal(from, to string) error
	// HealAll ends all faults.
	HealAll() error
	// Hosts are the names that Cut and the others know.
	Hosts() []string
	// Counts tells what a pair has carried since it is there.
	Counts(from, to string) netlab.Counts
}
