package discovery

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/memberlist"

	"oaas.io/control-plane/proto/pmpb"
)

// Member is a live member of the pool.
type Member struct {
	// Role is "pm" or "crm".
	Role string
	// Name of the node or cluster.
	Name     string
	Instance string
	// GossipAddress and GRPCAddress are host:port; a PM may have no gRPC
	// address.
	GossipAddress string
	GRPCAddress   string
	// GRPCTLS says that TLS is spoken there.
	GRPCTLS bool
	Region  string
	Zone    string
	Version string
}

// table is this node's picture of the pool, made from memberlist's events.
//
// memberlist's own list cannot serve: the nodes in it change while they are
// read. Its event delegates are called under its lock, hence the order of locks
// is memberlist's first, ours second; nothing here calls memberlist.
type table struct {
	self    string
	max     int
	lines   *memberLog
	metrics *metrics

	mu      sync.Mutex
	members map[string]Member
	changed chan struct{}
	// left is signalled after a member went.
	left chan struct{}
}

func newTable(self string, limit int, lines *memberLog, m *metrics) *table {
	return &table{
		self: self, max: limit, lines: lines, metrics: m,
		members: map[string]Member{},
		// One signal says it all: readers look at the whole table.
		changed: make(chan struct{}, 1),
		left:    make(chan struct{}, 1),
	}
}

// NotifyAlive refuses members before memberlist believes in them.
func (t *table) NotifyAlive(n *memberlist.Node) error {
	m, err := describe(n)
	if err != nil {
		t.metrics.refused.WithLabelValues("malformed").Inc()
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.members[n.Name]; !known && n.Name != t.self && len(t.members) >= t.max {
		t.metrics.refused.WithLabelValues("full").Inc()
		return fmt.Errorf("%s %q is refused: the pool has %d members already", m.Role, m.Name, len(t.members))
	}
	return nil
}

// NotifyJoin, NotifyUpdate and NotifyLeave are memberlist's event delegate.
func (t *table) NotifyJoin(n *memberlist.Node)   { t.put(n) }
func (t *table) NotifyUpdate(n *memberlist.Node) { t.put(n) }

func (t *table) NotifyLeave(n *memberlist.Node) {
	t.mu.Lock()
	delete(t.members, n.Name)
	t.mu.Unlock()
	signal(t.changed)
	signal(t.left)
}

// NotifyConflict is memberlist's conflict delegate: a name that is alive is
// claimed from another address. The member that was there first stays.
func (t *table) NotifyConflict(existing, other *memberlist.Node) {
	t.metrics.conflicts.Inc()
	t.lines.conflict(existing.Name, existing.Address(), other.Address())
}

func (t *table) put(n *memberlist.Node) {
	m, err := describe(n)
	if err != nil {
		// NotifyAlive has seen the same bytes.
		return
	}
	t.mu.Lock()
	t.members[n.Name] = m
	t.mu.Unlock()
	signal(t.changed)
}

// signal never waits: a signal that was not received yet covers this one.
func signal(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// list is the live members but this one, sorted.
func (t *table) list() []Member {
	t.mu.Lock()
	out := make([]Member, 0, len(t.members))
	for name, m := range t.members {
		if name != t.self {
			out = append(out, m)
		}
	}
	t.mu.Unlock()
	slices.SortFunc(out, func(a, b Member) int {
		return cmp.Or(strings.Compare(a.Role, b.Role), strings.Compare(a.Name, b.Name), strings.Compare(b.Instance, a.Instance))
	})
	return out
}

func (t *table) count(role string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for _, m := range t.members {
		if m.Role == role {
			n++
		}
	}
	return n
}

// describe copies what a node says; the node itself belongs to memberlist.
func describe(n *memberlist.Node) (Member, error) {
	meta, err := DecodeMeta(n.Meta)
	if err != nil {
		return Member{}, err
	}
	instance, err := instanceOf(n.Name, meta)
	if err != nil {
		return Member{}, err
	}
	ip, ok := netip.AddrFromSlice(n.Addr)
	if !ok {
		return Member{}, fmt.Errorf("%d bytes are no address", len(n.Addr))
	}
	gossip := netip.AddrPortFrom(ip.Unmap(), n.Port)
	return Member{
		Role: roleNames[meta.GetRole()], Name: meta.GetName(), Instance: instance,
		GossipAddress: gossip.String(), GRPCAddress: reachable(meta, gossip.Addr()), GRPCTLS: meta.GetGrpcTls(),
		Region: meta.GetRegion(), Zone: meta.GetZone(), Version: meta.GetVersion(),
	}, nil
}

// reachable completes an address without a host by the one that gossips.
func reachable(meta *pmpb.NodeMeta, gossip netip.Addr) string {
	address := meta.GetGrpcAddress()
	if port, ok := strings.CutPrefix(address, ":"); ok {
		return net.JoinHostPort(gossip.String(), port)
	}
	return address
}

// delegate says who we are. There are no user messages in this pool.
type delegate struct {
	meta []byte
}

func (d delegate) NodeMeta(limit int) []byte {
	if len(d.meta) > limit {
		// Checked against the same limit before memberlist was created.
		return nil
	}
	return d.meta
}

func (delegate) NotifyMsg([]byte)                {}
func (delegate) GetBroadcasts(_, _ int) [][]byte { return nil }
func (delegate) LocalState(bool) []byte          { return nil }
func (delegate) MergeRemoteState([]byte, bool)   {}
