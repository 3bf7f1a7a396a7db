package netlab

import (
	"encoding/binary"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// link is the way from one host to another.
type link struct {
	lab      *Lab
	from, to *Host

	packets, bytes, lost atomic.Uint64
	// rules are replaced, never changed; nil where there are none.
	rules atomic.Pointer[[]rule]
	// waiting counts the packets that are held back. Those without rules wait too while there are any, to keep the order.
	waiting atomic.Int64

	mu     sync.Mutex
	random *rand.Rand
	// last is when the last packet that was held back is due.
	last time.Time
	// queued is the size of what is held back.
	queued int
}

// lane is the bottleneck of a shape.
type lane struct {
	// free is when it has carried all that it was given.
	free time.Time
}

func (l *Lab) newLink(from, to *Host) *link {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(from.name + "\x00" + to.name)) // it cannot fail
	return &link{lab: l, from: from, to: to, random: rand.New(rand.NewPCG(l.options.Seed, hash.Sum64()))}
}

func (k *link) counts() Counts {
	return Counts{Packets: k.packets.Load(), Bytes: k.bytes.Load(), Lost: k.lost.Load()}
}

// add adds a rule or replaces the one of its kind. Callers hold the laboratory's lock.
func (k *link) add(r rule) {
	var rules []rule
	if have := k.rules.Load(); have != nil {
		rules = slices.Clone(*have)
	}
	r.lane = &lane{}
	rules = slices.DeleteFunc(rules, func(o rule) bool { return o.same(&r) })
	if r.cut || r.shape != (Shape{}) {
		rules = append(rules, r)
	}
	if len(rules) == 0 {
		k.rules.Store(nil)
		return
	}
	k.rules.Store(&rules)
}

// heal ends all rules. Callers hold the laboratory's lock.
func (k *link) heal() { k.rules.Store(nil) }

// carry takes a packet from the sender. It does not keep it.
func (k *link) carry(packet []byte) {
	rules := k.rules.Load()
	if rules == nil && k.waiting.Load() == 0 {
		k.deliver(packet)
		return
	}
	if rules == nil {
		rules = &[]rule{}
	}
	due, passes := k.judge(*rules, packet)
	switch {
	case !passes:
		k.lose(packet)
	case due.IsZero():
		k.deliver(packet)
	default:
		k.lab.held.hold(k, due, packet)
	}
}

// judge says when a packet is due, zero for now, and whether it passes at all.
func (k *link) judge(rules []rule, packet []byte) (due time.Time, passes bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	from, to := ports(packet)
	var now time.Time
	var delay time.Duration
	for i := range rules {
		r := &rules[i]
		if !r.matches(from, to) {
			continue
		}
		if r.cut || (r.shape.Loss > 0 && k.random.Float64() < r.shape.Loss) {
			return due, false
		}
		if now.IsZero() {
			now = time.Now()
		}
		delay += r.shape.Delay
		if r.shape.Jitter > 0 {
			delay += time.Duration(k.random.Int64N(int64(r.shape.Jitter)))
		}
		if r.shape.Rate > 0 {
			delay += r.lane.take(now, len(packet), r.shape.Rate)
		}
	}
	if delay <= 0 && k.waiting.Load() == 0 {
		return due, true
	}
	if k.queued+len(packet) > k.lab.options.QueueBytes {
		return due, false
	}
	if now.IsZero() {
		now = time.Now()
	}
	due = now.Add(delay)
	if due.Before(k.last) {
		due = k.last
	}
	k.last = due
	k.queued += len(packet)
	k.waiting.Add(1)
	return due, true
}

// take gives how long a packet waits for the bottleneck.
func (a *lane) take(now time.Time, size int, rate int64) time.Duration {
	if a.free.Before(now) {
		a.free = now
	}
	a.free = a.free.Add(time.Duration(int64(size) * int64(time.Second) / rate))
	return a.free.Sub(now)
}

// release hands over a packet that was held back, unless the way was cut meanwhile.
func (k *link) release(packet []byte) {
	if k.cutNow(packet) {
		k.lose(packet)
	} else {
		k.deliver(packet)
	}
	k.mu.Lock()
	k.queued -= len(packet)
	k.mu.Unlock()
	// Only now may one that came later go by itself.
	k.waiting.Add(-1)
}

func (k *link) cutNow(packet []byte) bool {
	rules := k.rules.Load()
	if rules == nil {
		return false
	}
	from, to := ports(packet)
	return slices.ContainsFunc(*rules, func(r rule) bool { return r.cut && r.matches(from, to) })
}

func (k *link) deliver(packet []byte) {
	if o := k.lab.observer.Load(); o != nil {
		(*o)(k.from.name, k.to.name, packet, true)
	}
	if _, err := k.to.space.tun.Write(packet); err != nil {
		// The receiver is just being removed.
		k.lost.Add(1)
		return
	}
	k.packets.Add(1)
	k.bytes.Add(uint64(len(packet)))
}

func (k *link) lose(packet []byte) {
	k.lost.Add(1)
	if o := k.lab.observer.Load(); o != nil {
		(*o)(k.from.name, k.to.name, packet, false)
	}
}

func (r *rule) matches(from, to uint16) bool {
	if len(r.ports) == 0 {
		return true
	}
	return slices.Contains(r.ports, from) || slices.Contains(r.ports, to)
}

const (
	minimalHeader = 20
	protocolTCP   = 6
	protocolUDP   = 17
)

// ports are those of a packet of TCP or UDP; 0 for others, and for all but the first fragment.
func ports(packet []byte) (from, to uint16) {
	header := int(packet[0]&0x0f) * 4
	fragment := binary.BigEndian.Uint16(packet[6:]) & 0x1fff
	if p := packet[9]; (p != protocolTCP && p != protocolUDP) || fragment != 0 || len(packet) < header+4 {
		return 0, 0
	}
	return binary.BigEndian.Uint16(packet[header:]), binary.BigEndian.Uint16(packet[header+2:])
}

// forward is the goroutine that reads what a host sends. It ends with the host.
func (h *Host) forward() {
	buffer := make([]byte, h.lab.options.MTU)
	for {
		n, err := h.space.tun.Read(buffer)
		if err != nil {
			return
		}
		packet := buffer[:n]
		if n < minimalHeader || packet[0]>>4 != 4 {
			continue
		}
		to := (*h.lab.byAddress.Load())[binary.BigEndian.Uint32(packet[16:])]
		if to == nil {
			// Nobody has this address, or nobody any more.
			continue
		}
		(*h.ways.Load())[to.index].carry(packet)
	}
}
