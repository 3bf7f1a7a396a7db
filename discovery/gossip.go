package discovery

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/memberlist"

	"oaas.io/control-plane/proto/pmpb"
)

// Announcer makes a CRM known to the PM nodes.
type Announcer struct {
	*node
}

// NewAnnouncer starts to gossip as a CRM and keeps trying to enter the pool
// until Close. That no PM node is up is no error.
func NewAnnouncer(ctx context.Context, o Options) (*Announcer, error) {
	n, err := newNode(ctx, pmpb.NodeMeta_ROLE_CRM, o)
	if err != nil {
		return nil, err
	}
	return &Announcer{n}, nil
}

// Observer watches for CRMs; PM nodes run it.
type Observer struct {
	*node
}

// NewObserver starts to gossip as a PM node, see NewAnnouncer.
func NewObserver(ctx context.Context, o Options) (*Observer, error) {
	n, err := newNode(ctx, pmpb.NodeMeta_ROLE_PM, o)
	if err != nil {
		return nil, err
	}
	return &Observer{n}, nil
}

// Candidates is the CRMs that are alive, sorted by name and the newest first.
func (o *Observer) Candidates() []Candidate {
	var out []Candidate
	for _, m := range o.table.list() {
		if m.Role != roleNames[pmpb.NodeMeta_ROLE_CRM] {
			continue
		}
		out = append(out, Candidate{
			Name: m.Name, Address: joinAddress(m.GRPCAddress, m.GRPCTLS), Source: SourceGossip, RetryAttempts: defaultRetryAttempts,
			Region: m.Region, Zone: m.Zone, Version: m.Version, Instance: m.Instance,
		})
	}
	sortCandidates(out)
	return out
}

// Changed is signalled after members came, went or changed. Signals are
// coalesced, and each goes to one receiver.
func (o *Observer) Changed() <-chan struct{} {
	return o.table.changed
}

// node is one member of the pool.
type node struct {
	opts    Options
	log     hclog.Logger
	list    *memberlist.Memberlist
	address string
	table   *table
	stats   *metrics

	stop       context.CancelFunc
	joined     sync.WaitGroup
	unregister func()
	closing    sync.Once
	closeErr   error
}

func newNode(ctx context.Context, role pmpb.NodeMeta_Role, o Options) (*node, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	description := o.meta(role)
	meta, err := EncodeMeta(description)
	if err != nil {
		return nil, err
	}
	if o.Instance == "" {
		if o.Instance, err = newInstance(o.Clock()); err != nil {
			return nil, err
		}
	}
	config, err := o.config(ctx)
	if err != nil {
		return nil, fmt.Errorf("gossip: %w", err)
	}
	n := &node{opts: o, log: o.Logger, stats: newMetrics(roleNames[role])}
	lines := newMemberLog(n.log, n.stats.refused, o.Clock)
	config.Logger = log.New(lines, "", 0)
	config.Name = nodeName(description, o.Instance)
	n.table = newTable(config.Name, o.MaxMembers, lines, n.stats)
	config.Delegate = delegate{meta: meta}
	config.Alive, config.Events, config.Conflict = n.table, n.table, n.table
	if n.list, err = memberlist.Create(config); err != nil {
		return nil, fmt.Errorf("gossip on %s: %w", o.BindAddress, err)
	}
	local := n.list.LocalNode()
	ip, _ := netip.AddrFromSlice(local.Addr)
	n.address = netip.AddrPortFrom(ip.Unmap(), local.Port).String()
	if n.unregister, err = n.stats.register(o.Registerer, roleNames[role], n.table, n.list.GetHealthScore); err != nil {
		_ = n.list.Shutdown() // the first error says more
		return nil, fmt.Errorf("gossip metrics: %w", err)
	}
	if len(o.Keys) == 0 {
		n.log.Warn("gossip is not encrypted: anyone who reaches the port can announce clusters", "address", n.address)
	}
	n.log.Info("gossiping", "member", config.Name, "address", n.address, "join", o.Join)

	// The life of the member is not the life of the call that created it.
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	n.stop = stop
	n.joined.Go(func() { n.keepJoined(run) })
	return n, nil
}

// newInstance begins with the time, so that a later start compares greater.
func newInstance(now time.Time) (string, error) {
	var random [4]byte
	if _, err := rand.Read(random[:]); err != nil {
		return "", fmt.Errorf("gossip instance: %w", err)
	}
	return fmt.Sprintf("%012x-%s", max(now.UnixMilli(), 0), hex.EncodeToString(random[:])), nil
}

// Address is host:port where this member gossips, as it tells the others.
func (n *node) Address() string {
	return n.address
}

// Members are the live members other than this one, sorted by role and name.
func (n *node) Members() []Member {
	return n.table.list()
}

// Close says farewell, so that the others need not find out, and stops. It is
// done within the leave timeout or ctx, whichever ends first, and what an
// attempt to join may still take. Later calls do nothing and give the same
// answer.
func (n *node) Close(ctx context.Context) error {
	n.closing.Do(func() { n.closeErr = n.close(ctx) })
	return n.closeErr
}

func (n *node) close(ctx context.Context) error {
	n.stop()
	farewell := n.opts.LeaveTimeout
	if deadline, ok := ctx.Deadline(); ok {
		farewell = min(farewell, time.Until(deadline))
	}
	// memberlist takes no timeout at all for "forever".
	if err := n.list.Leave(max(farewell, time.Millisecond)); err != nil {
		// The others will find out by themselves, only later.
		n.log.Warn("leaving the gossip pool", "error", err)
	}
	err := n.list.Shutdown()
	n.joined.Wait()
	n.unregister()
	if err != nil {
		return fmt.Errorf("gossip shutdown: %w", err)
	}
	return nil
}
