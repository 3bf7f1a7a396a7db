package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"oaas.io/control-plane/deploy/local/process"
	"oaas.io/control-plane/jepsen/netlab"
)

// loopback is a network without namespaces. Each host has two addresses of loopback: its servers listen on one, and a proxy
// in front of them on the other, which is the one that all know. A proxy finds out who connects, so that faults are between
// two hosts in one direction here too: what passes a proxy is held back as long as it is cut. Datagrams have no proxy. To find out
// who connects takes milliseconds, so that short timeouts are not for this network.
type loopback struct {
	// real and front are the first three numbers of the addresses of servers and proxies.
	real, front [3]byte
	serving     sync.WaitGroup

	mu     sync.Mutex
	places []*loopPlace
	rules  []loopRule
	counts map[pair]netlab.Counts
	conns  map[net.Conn]bool
	closed bool
	// changed is closed when rules have changed, and replaced.
	changed chan struct{}
	// quit ends all that waits.
	quit chan struct{}
}

type pair struct{ from, to string }

// loopRule is a fault between hosts, which may be Any.
type loopRule struct {
	pair
	ports []int
	cut   bool
	shape netlab.Shape
}

func (r *loopRule) matches(p pair, port int) bool {
	return (r.from == Any || r.from == p.from) && (r.to == Any || r.to == p.to) && (len(r.ports) == 0 || slices.Contains(r.ports, port))
}

func newLoopback() (*loopback, error) {
	// Other clusters of this machine have other numbers, mostly.
	second, third := byte(2+rand.IntN(250)), byte(2*rand.IntN(120))
	l := &loopback{
		real: [3]byte{127, second, third}, front: [3]byte{127, second, third + 1},
		counts: map[pair]netlab.Counts{}, conns: map[net.Conn]bool{}, changed: make(chan struct{}), quit: make(chan struct{}),
	}
	if _, err := os.Stat(connectionTable); err != nil {
		return nil, fmt.Errorf("%w: who connects cannot be found out: %w", ErrUnavailable, err)
	}
	return l, nil
}

// Cut implements Network.
func (l *loopback) Cut(from, to string, ports ...int) error {
	return l.rule(loopRule{pair: pair{from, to}, ports: ports, cut: true})
}

// Shape implements Network.
func (l *loopback) Shape(from, to string, shape netlab.Shape, ports ...int) error {
	if shape.Loss > 0 {
		return fmt.Errorf("%w: loopback loses nothing", ErrUnavailable)
	}
	return l.rule(loopRule{pair: pair{from, to}, ports: ports, shape: shape})
}

func (l *loopback) rule(r loopRule) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.knownLocked(r.pair); err != nil {
		return err
	}
	slices.Sort(r.ports)
	l.rules = slices.DeleteFunc(l.rules, func(o loopRule) bool { return o.pair == r.pair && o.cut == r.cut && slices.Equal(o.ports, r.ports) })
	if r.cut || r.shape != (netlab.Shape{}) {
		l.rules = append(l.rules, r)
	}
	l.changeLocked()
	return nil
}

func (l *loopback) changeLocked() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// Heal implements Network.
func (l *loopback) Heal(from, to string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.knownLocked(pair{from, to}); err != nil {
		return err
	}
	l.rules = slices.DeleteFunc(l.rules, func(r loopRule) bool {
		return (from == Any || r.from == from) && (to == Any || r.to == to)
	})
	l.changeLocked()
	return nil
}

// HealAll implements Network.
func (l *loopback) HealAll() error { return l.Heal(Any, Any) }

func (l *loopback) knownLocked(p pair) error {
	for _, name := range []string{p.from, p.to} {
		if name != Any && l.findLocked(name) == nil {
			return fmt.Errorf("%w: %s", netlab.ErrUnknownHost, name)
		}
	}
	return nil
}

func (l *loopback) findLocked(name string) *loopPlace {
	for _, p := range l.places {
		if p.name == name && !p.removed {
			return p
		}
	}
	return nil
}

// Hosts implements Network.
func (l *loopback) Hosts() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for _, p := range l.places {
		if !p.removed {
			out = append(out, p.name)
		}
	}
	return out
}

// Counts implements Network.
func (l *loopback) Counts(from, to string) netlab.Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	var sum netlab.Counts
	for p, c := range l.counts {
		if (from == Any || p.from == from) && (to == Any || p.to == to) {
			sum.Packets, sum.Bytes = sum.Packets+c.Packets, sum.Bytes+c.Bytes
		}
	}
	return sum
}

func (l *loopback) count(p pair, size int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.counts[p]
	c.Packets, c.Bytes = c.Packets+1, c.Bytes+uint64(size)
	l.counts[p] = c
}

// shapes gives how long a piece of a stream is on its way, without what waits before it.
func (l *loopback) shapes(p pair, port, size int) (delay, transmission time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.rules {
		r := &l.rules[i]
		if !r.matches(p, port) {
			continue
		}
		delay += r.shape.Delay
		if r.shape.Jitter > 0 {
			delay += rand.N(r.shape.Jitter)
		}
		if r.shape.Rate > 0 {
			transmission += time.Duration(int64(size) * int64(time.Second) / r.shape.Rate)
		}
	}
	return delay, transmission
}

// pass waits until nothing is cut. It reports false when the network ends before.
func (l *loopback) pass(p pair, port int) bool {
	for {
		l.mu.Lock()
		cut := slices.ContainsFunc(l.rules, func(r loopRule) bool { return r.cut && r.matches(p, port) })
		changed := l.changed
		l.mu.Unlock()
		if !cut {
			return true
		}
		select {
		case <-changed:
		case <-l.quit:
			return false
		}
	}
}

// wait waits for a time. It reports false when the network ends before.
func (l *loopback) wait(until time.Time) bool {
	d := time.Until(until)
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.quit:
		return false
	}
}

func (l *loopback) place(name string, ports ...int) (place, error) {
	l.mu.Lock()
	number := byte(len(l.places) + 1)
	full := len(l.places) >= 250
	p := &loopPlace{
		net: l, name: name,
		real:  net.IPv4(l.real[0], l.real[1], l.real[2], number),
		front: net.IPv4(l.front[0], l.front[1], l.front[2], number),
	}
	if full {
		l.mu.Unlock()
		return nil, netlab.ErrNoAddress
	}
	l.places = append(l.places, p)
	l.mu.Unlock()
	for _, port := range ports {
		if err := p.proxy(port); err != nil {
			p.remove()
			return nil, fmt.Errorf("proxy of %s: %w", name, err)
		}
	}
	return p, nil
}

func (l *loopback) dial(ctx context.Context, from, address string) (net.Conn, error) {
	name, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	source, target := l.findLocked(from), l.findLocked(name)
	l.mu.Unlock()
	if source == nil || target == nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: netlab.ErrUnknownHost}
	}
	// The address tells the proxy who this is.
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: source.real}, Timeout: dialTimeout}
	return dialer.DialContext(ctx, "tcp", net.JoinHostPort(target.front.String(), port))
}

func (l *loopback) gossips() bool { return false }

func (l *loopback) faults() map[Fault]error {
	reason := fmt.Errorf("%w: hosts are addresses of loopback", ErrUnavailable)
	return map[Fault]error{FaultDatagrams: reason, FaultLoss: reason, FaultMove: reason}
}

func (l *loopback) close() {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	l.closed = true
	places := slices.Clone(l.places)
	l.mu.Unlock()
	close(l.quit)
	for _, p := range places {
		p.remove()
	}
	l.mu.Lock()
	for c := range l.conns {
		_ = c.Close() // it goes either way
	}
	l.mu.Unlock()
	l.serving.Wait()
}

// loopPlace is a host on loopback.
type loopPlace struct {
	net         *loopback
	name        string
	real, front net.IP
	removed     bool
	proxies     []net.Listener
	// process is the last one that was started here.
	process *process.Process
}

func (p *loopPlace) address() string { return p.front.String() }

func (p *loopPlace) bind() string { return p.real.String() }

func (p *loopPlace) known() string { return p.front.String() }

func (p *loopPlace) start(spec process.Spec) (*process.Process, error) {
	started, err := process.Start(spec)
	if err != nil {
		return nil, err
	}
	p.net.mu.Lock()
	defer p.net.mu.Unlock()
	p.process = started
	return started, nil
}

func (p *loopPlace) listen(port int) (net.Listener, error) {
	return net.ListenTCP("tcp4", &net.TCPAddr{IP: p.real, Port: port})
}

func (p *loopPlace) move() error {
	return fmt.Errorf("%w: hosts on loopback are addressed by number", ErrUnavailable)
}

func (p *loopPlace) remove() {
	p.net.mu.Lock()
	defer p.net.mu.Unlock()
	p.removed = true
	for _, listener := range p.proxies {
		_ = listener.Close() // nobody is accepted any more
	}
}
