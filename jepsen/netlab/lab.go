package netlab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
)

// Defaults of Options.
const (
	DefaultMTU        = 9000
	DefaultQueueBytes = 4 << 20
)

// defaultSubnet has room for all hosts and addresses of a long run.
var defaultSubnet = netip.MustParsePrefix("10.99.0.0/16")

// Errors of a laboratory.
var (
	// ErrUnknownHost says that no host has that name.
	ErrUnknownHost = errors.New("no such host in the laboratory")
	// ErrNoAddress says that all addresses of the subnet were used.
	ErrNoAddress = errors.New("no address of the laboratory is left")
	// ErrClosed says that the laboratory or the host is gone.
	ErrClosed = errors.New("the laboratory is closed")
)

// Options describe a laboratory. All have defaults.
type Options struct {
	// Subnet of all hosts, IPv4. Default 10.99.0.0/16.
	Subnet netip.Prefix
	// MTU of all devices. A large one makes fewer packets. Default DefaultMTU.
	MTU int
	// QueueBytes is how much one direction of a pair holds back at most; what comes then is lost. Default DefaultQueueBytes.
	QueueBytes int
	// Seed decides about loss and jitter.
	Seed uint64
}

// Validate checks what New cannot work with.
func (o *Options) Validate() error {
	var problems []error
	if o.Subnet.IsValid() && (!o.Subnet.Addr().Is4() || o.Subnet.Bits() > 29) {
		problems = append(problems, fmt.Errorf("subnet %v: want one of IPv4 with room for hosts", o.Subnet))
	}
	if o.MTU != 0 && (o.MTU < 1280 || o.MTU > 65535) {
		problems = append(problems, fmt.Errorf("mtu %d: want 1280 to 65535", o.MTU))
	}
	if o.QueueBytes < 0 {
		problems = append(problems, fmt.Errorf("queue of %d bytes: want 0 or more", o.QueueBytes))
	}
	return errors.Join(problems...)
}

// Lab is a laboratory. Its methods may be called from several goroutines.
type Lab struct {
	options Options
	held    *held
	// observer, if any, sees all packets.
	observer atomic.Pointer[Observer]
	// byAddress is replaced, never changed: the switch reads it for each packet.
	byAddress atomic.Pointer[map[uint32]*Host]
	switching sync.WaitGroup

	mu      sync.Mutex
	hosts   []*Host // in the order of their indexes; nil where one was removed
	next    netip.Addr
	closed  bool
	rules   []wildcard
	records *names
}

// Observer is told of a packet and whether it goes on. It is called by the goroutines of the switch, must not keep the
// packet, and holds the traffic up.
type Observer func(from, to string, packet []byte, passes bool)

// New makes a laboratory without hosts.
func New(options Options) (*Lab, error) {
	if err := options.Validate(); err != nil {
		return nil, fmt.Errorf("network laboratory: %w", err)
	}
	if err := Available(); err != nil {
		return nil, err
	}
	if !options.Subnet.IsValid() {
		options.Subnet = defaultSubnet
	}
	if options.MTU == 0 {
		options.MTU = DefaultMTU
	}
	if options.QueueBytes == 0 {
		options.QueueBytes = DefaultQueueBytes
	}
	l := &Lab{options: options, next: options.Subnet.Masked().Addr(), held: newHeld(), records: &names{}}
	l.byAddress.Store(&map[uint32]*Host{})
	l.switching.Go(l.held.run)
	return l, nil
}

// AddHost makes a host. Names are unique.
func (l *Lab) AddHost(name string) (*Host, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return nil, ErrClosed
	case !validName(name):
		return nil, fmt.Errorf("host name %q: want a DNS label", name)
	case l.findLocked(name) != nil:
		return nil, fmt.Errorf("host %s is there already", name)
	}
	address, err := l.addressLocked()
	if err != nil {
		return nil, err
	}
	space, err := openSpace(netip.PrefixFrom(address, l.options.Subnet.Bits()), l.options.MTU)
	if err != nil {
		return nil, fmt.Errorf("host %s: %w", name, err)
	}
	h := &Host{lab: l, name: name, index: len(l.hosts), space: space}
	h.address.Store(&address)
	l.hosts = append(l.hosts, h)
	l.connectLocked(h)
	l.announceLocked()
	l.switching.Go(h.forward)
	return h, nil
}

// addressLocked gives the next address that nobody has had.
func (l *Lab) addressLocked() (netip.Addr, error) {
	for {
		l.next = l.next.Next()
		if !l.options.Subnet.Contains(l.next) || !l.options.Subnet.Contains(l.next.Next()) {
			return netip.Addr{}, ErrNoAddress
		}
		// The ends of smaller networks are legal here, and look wrong to readers of logs.
		if last := l.next.As4()[3]; last != 0 && last != 255 {
			return l.next, nil
		}
	}
}

// connectLocked makes the ways from and to a new host, with the rules that were made for any.
func (l *Lab) connectLocked(h *Host) {
	for _, other := range l.hosts {
		if other == nil {
			h.links = append(h.links, nil)
			continue
		}
		h.links = append(h.links, l.newLink(h, other))
		if other != h {
			links := append(slices.Clone(other.waysLocked()), l.newLink(other, h))
			other.ways.Store(&links)
		}
	}
	h.ways.Store(&h.links)
	for _, w := range l.rules {
		for _, link := range l.matchLocked(w.from, w.to) {
			if link.from == h || link.to == h {
				link.add(w.rule)
			}
		}
	}
}

// announceLocked tells the switch and all processes which addresses there are.
func (l *Lab) announceLocked() {
	table := make(map[uint32]*Host, len(l.hosts))
	var present []*Host
	for _, h := range l.hosts {
		if h != nil {
			table[key(h.Addr())] = h
			present = append(present, h)
		}
	}
	l.byAddress.Store(&table)
	l.records.set(present)
}

func key(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func (l *Lab) findLocked(name string) *Host {
	for _, h := range l.hosts {
		if h != nil && h.name == name {
			return h
		}
	}
	return nil
}

// Host is the host of that name, or nil.
func (l *Lab) Host(name string) *Host {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.findLocked(name)
}

// Hosts are the names of all hosts, in the order in which they came.
func (l *Lab) Hosts() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for _, h := range l.hosts {
		if h != nil {
			out = append(out, h.name)
		}
	}
	return out
}

// Observe has all packets shown to an observer, or none if that is nil.
func (l *Lab) Observe(o Observer) {
	if o == nil {
		l.observer.Store(nil)
		return
	}
	l.observer.Store(&o)
}

// Close removes all hosts, ends the processes that were started on them, and returns when nothing of the laboratory runs.
func (l *Lab) Close() {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	l.closed = true
	hosts := slices.Clone(l.hosts)
	l.mu.Unlock()
	l.held.close()
	for _, h := range hosts {
		if h != nil {
			h.space.close()
		}
	}
	l.switching.Wait()
	l.records.close()
}

// remove takes a host out.
func (l *Lab) remove(h *Host) {
	l.mu.Lock()
	if l.closed || l.hosts[h.index] != h {
		l.mu.Unlock()
		return
	}
	l.hosts[h.index] = nil
	l.announceLocked()
	l.mu.Unlock()
	h.space.close()
}

// move gives a host another address.
func (l *Lab) move(h *Host) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.hosts[h.index] != h {
		return ErrClosed
	}
	address, err := l.addressLocked()
	if err != nil {
		return err
	}
	if err := h.space.move(netip.PrefixFrom(address, l.options.Subnet.Bits())); err != nil {
		return fmt.Errorf("move %s: %w", h.name, err)
	}
	h.address.Store(&address)
	l.announceLocked()
	return nil
}
