package cluster

import (
	"context"
	"net"
	"time"

	"oaas.io/control-plane/deploy/local/process"
	"oaas.io/control-plane/jepsen/netlab"
)

// dialTimeout bounds how long a connection may take that a cut does not let through.
const dialTimeout = 5 * time.Second

// laboratory is the network of namespaces.
type laboratory struct{ lab *netlab.Lab }

func newLaboratory(seed uint64) (*laboratory, error) {
	lab, err := netlab.New(netlab.Options{Seed: seed})
	if err != nil {
		return nil, err
	}
	return &laboratory{lab}, nil
}

// Cut implements Network.
func (l *laboratory) Cut(from, to string, ports ...int) error { return l.lab.Cut(from, to, ports...) }

// Shape implements Network.
func (l *laboratory) Shape(from, to string, shape netlab.Shape, ports ...int) error {
	return l.lab.Shape(from, to, shape, ports...)
}

// Heal implements Network.
func (l *laboratory) Heal(from, to string) error { return l.lab.Heal(from, to) }

// HealAll implements Network.
func (l *laboratory) HealAll() error {
	l.lab.HealAll()
	return nil
}

// Hosts implements Network.
func (l *laboratory) Hosts() []string { return l.lab.Hosts() }

// Counts implements Network.
func (l *laboratory) Counts(from, to string) netlab.Counts {
	counts, err := l.lab.Counts(from, to)
	if err != nil {
		return netlab.Counts{} // nothing goes to or from a host that is not there
	}
	return counts
}

func (l *laboratory) place(name string, _ ...int) (place, error) {
	host, err := l.lab.AddHost(name)
	if err != nil {
		return nil, err
	}
	return &labPlace{host}, nil
}

func (l *laboratory) dial(ctx context.Context, from, address string) (net.Conn, error) {
	host := l.lab.Host(from)
	if host == nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: netlab.ErrUnknownHost}
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return host.Dial(ctx, "tcp", address)
}

func (l *laboratory) gossips() bool { return true }

func (l *laboratory) faults() map[Fault]error { return nil }

func (l *laboratory) close() { l.lab.Close() }

// labPlace is a host of the laboratory.
type labPlace struct{ host *netlab.Host }

func (p *labPlace) address() string { return p.host.Addr().String() }

func (p *labPlace) bind() string { return "" }

func (p *labPlace) known() string { return p.host.Name() }

func (p *labPlace) start(spec process.Spec) (*process.Process, error) {
	// The resolver of the C library would remember the configuration of the network; that of Go looks at /etc/hosts again.
	spec.Env = append([]string{"GODEBUG=netdns=go"}, spec.Env...)
	return p.host.Start(spec)
}

func (p *labPlace) listen(port int) (net.Listener, error) { return p.host.Listen(port) }

func (p *labPlace) move() error { return p.host.Move() }

func (p *labPlace) remove() { p.host.Remove() }
