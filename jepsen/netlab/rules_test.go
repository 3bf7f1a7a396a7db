package netlab

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// datagram is a packet of UDP without what the rules do not look at.
func datagram(from, to uint16) []byte {
	p := make([]byte, 28)
	p[0], p[9] = 0x45, protocolUDP
	binary.BigEndian.PutUint16(p[20:], from)
	binary.BigEndian.PutUint16(p[22:], to)
	return p
}

func bareLink(rules ...rule) *link {
	l := &Lab{options: Options{QueueBytes: 1000, Seed: 1}}
	k := l.newLink(&Host{name: "a"}, &Host{name: "b"})
	for _, r := range rules {
		k.add(r)
	}
	return k
}

func TestRulesAddUp(t *testing.T) {
	k := bareLink(
		rule{shape: Shape{Delay: time.Second}},
		rule{ports: []uint16{7401}, shape: Shape{Delay: 2 * time.Second}},
		rule{ports: []uint16{7946}, cut: true},
	)
	tests := []struct {
		packet []byte
		delay  time.Duration
		passes bool
	}{
		{datagram(40000, 80), time.Second, true},
		{datagram(40000, 7401), 3 * time.Second, true},
		{datagram(7401, 40000), 3 * time.Second, true},
		{datagram(7946, 7946), 0, false},
	}
	for _, test := range tests {
		k.last = time.Time{}
		due, passes := k.judge(*k.rules.Load(), test.packet)
		if wait := time.Until(due); passes != test.passes || passes && (wait < test.delay-100*time.Millisecond || wait > test.delay) {
			t.Errorf("%v: due in %v, passes %v; want %v, %v", test.packet[20:24], wait, passes, test.delay, test.passes)
		}
	}
	k.add(rule{shape: Shape{}})
	k.add(rule{ports: []uint16{7401}, shape: Shape{}})
	if got := *k.rules.Load(); len(got) != 1 || !got[0].cut {
		t.Errorf("perfect shapes are kept: %+v", got)
	}
	k.heal()
	if k.rules.Load() != nil {
		t.Error("rules outlive heal")
	}
}

func TestQueuesAreBounded(t *testing.T) {
	k := bareLink(rule{shape: Shape{Delay: time.Hour}})
	passed := 0
	for range 100 {
		if _, passes := k.judge(*k.rules.Load(), datagram(1, 2)); passes {
			passed++
		}
	}
	if want := 1000 / 28; passed != want {
		t.Errorf("%d packets were held, want %d", passed, want)
	}
}

func TestPortsOfPackets(t *testing.T) {
	fragment := datagram(1, 2)
	fragment[7] = 9
	other := datagram(1, 2)
	other[9] = 1
	options := append([]byte{0x46}, make([]byte, 27)...)
	options[9] = protocolTCP
	options[25] = 5
	options[27] = 6
	tests := map[string]struct {
		packet   []byte
		from, to uint16
	}{
		"udp": {datagram(7, 65535), 7, 65535}, "fragment": {fragment, 0, 0}, "icmp": {other, 0, 0},
		"options": {options, 5, 6}, "short": {datagram(1, 2)[:23], 0, 0},
	}
	for name, test := range tests {
		if from, to := ports(test.packet); from != test.from || to != test.to {
			t.Errorf("%s: got %d, %d, want %d, %d", name, from, to, test.from, test.to)
		}
	}
}

func TestAddressesAreUsedOnce(t *testing.T) {
	l := &Lab{options: Options{Subnet: netip.MustParsePrefix("10.1.0.0/23")}}
	l.next = l.options.Subnet.Addr()
	var got []string
	for {
		a, err := l.addressLocked()
		if err != nil {
			break
		}
		got = append(got, a.String())
	}
	if len(got) != 508 || slices.Contains(got, "10.1.0.255") || slices.Contains(got, "10.1.1.0") || slices.Contains(got, "10.1.1.255") {
		t.Errorf("%d addresses: %v", len(got), got)
	}
}

func TestRecordsKeepTheirPlaces(t *testing.T) {
	n := &names{}
	host := func(name, address string) *Host {
		h := &Host{name: name}
		a := netip.MustParseAddr(address)
		h.address.Store(&a)
		return h
	}
	n.set([]*Host{host("a", "10.0.0.1"), host(strings.Repeat("b", 63), "10.200.100.200")})
	first := string(n.content)
	if len(first) != 3*recordSize || !strings.HasPrefix(first[recordSize:], "10.0.0.1 a ") {
		t.Errorf("got %q", first)
	}
	n.set([]*Host{host("a", "10.0.0.100")})
	if got := string(n.content); len(got) != len(first) || strings.Contains(got, "bbb") || !strings.Contains(got, "10.0.0.100 a ") {
		t.Errorf("got %q", got)
	}
}

func TestOptions(t *testing.T) {
	for _, bad := range []Options{{Subnet: netip.MustParsePrefix("fd00::/64")}, {Subnet: netip.MustParsePrefix("10.0.0.0/30")}, {MTU: 100}, {MTU: 1 << 17}, {QueueBytes: -1}} {
		if err := bad.Validate(); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
	if err := (&Options{}).Validate(); err != nil {
		t.Error(err)
	}
}
