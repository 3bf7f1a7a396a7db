package discovery

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"

	"oaas.io/control-plane/proto/pmpb"
)

// Defaults of Options.
const (
	DefaultPort           = 7946
	DefaultRetryInterval  = time.Second
	DefaultRejoinInterval = 30 * time.Second
	DefaultLeaveTimeout   = 2 * time.Second
	DefaultMaxMembers     = 2048
)

const (
	// deadNodeReclaim is when a member that died without leaving may come back
	// under the same name and another address.
	deadNodeReclaim = 30 * time.Second
	// tcpTimeout bounds one attempt to join, and thereby how long Close can
	// wait for one.
	tcpTimeout = 3 * time.Second
)

// Resolver finds the addresses of a host; *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Options describe one member of the gossip pool. Zero values take the
// defaults where one is named.
type Options struct {
	// Name of the cluster (CRM) or of the node (PM); required.
	Name string
	// BindAddress is host:port for TCP and UDP; required. Port 0 takes any free
	// one, no host means all interfaces.
	BindAddress string
	// AdvertiseAddress is the host, or host:port, at which other members reach
	// this one. It is resolved once, at the start. Default: the host it binds
	// to, or a private address of the machine.
	AdvertiseAddress string
	// GRPCAddress is host:port of the service that is announced; required for a
	// CRM. Without a host, or with an unspecified one such as 0.0.0.0, it means
	// the host that the member gossips from.
	GRPCAddress string
	// GRPCTLS announces that the service speaks TLS.
	GRPCTLS bool
	// Region, Zone and Version are announced as they are.
	Region  string
	Zone    string
	Version string
	// Join are the gossip addresses of members to enter the pool through,
	// host:port or host. None of them has to be up.
	Join []string
	// Keys encrypt gossip: the first one is used, all are accepted. 16, 24 or 32
	// bytes each, the same for all members; see ParseKeys. Without a key gossip
	// is readable and forgeable by anyone who reaches the port.
	Keys [][]byte
	// Label keeps pools apart that reach each other.
	Label string

	// RetryInterval is between attempts to join while the member is alone.
	RetryInterval time.Duration
	// RejoinInterval is between attempts to join addresses that no live member
	// has.
	RejoinInterval time.Duration
	// LeaveTimeout bounds the farewell in Close.
	LeaveTimeout time.Duration
	// MaxMembers bounds the pool; more are refused.
	MaxMembers int
	// Timing of the failure detector; zero values are right for one network.
	Timing Timing

	// Instance tells apart the starts of one member; later ones must compare
	// greater. Default: made from the time and a random number.
	Instance string
	Clock    func() time.Time
	Resolver Resolver
	Logger   hclog.Logger
	// Registerer of the metrics; nil for none.
	Registerer prometheus.Registerer
}

// Timing is how fast gossip spreads and failures are noticed. Zero values take
// memberlist's values for a local network.
type Timing struct {
	GossipInterval   time.Duration
	ProbeInterval    time.Duration
	ProbeTimeout     time.Duration
	PushPullInterval time.Duration
	SuspicionMult    int
}

// Validate reports every mistake at once.
func (o Options) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.Name == "" {
		bad("a name is required")
	}
	if host, port, err := net.SplitHostPort(o.BindAddress); err != nil {
		bad("bind address %q is not host:port", o.BindAddress)
	} else if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		bad("bind address %q has no port within 0..65535", o.BindAddress)
	} else if ip, err := netip.ParseAddr(host); err == nil && ip.Is6() && ip.IsUnspecified() && o.AdvertiseAddress == "" {
		bad("bind address %q needs an advertise address", o.BindAddress)
	}
	if a := o.AdvertiseAddress; a != "" {
		if _, _, err := splitDefaultPort(a); err != nil {
			bad("advertise address: %w", err)
		}
	}
	for _, a := range o.Join {
		if _, _, err := splitDefaultPort(a); err != nil {
			bad("join address: %w", err)
		}
	}
	for i, key := range o.Keys {
		if err := memberlist.ValidateKey(key); err != nil {
			bad("key %d has %d bytes, not 16, 24 or 32", i+1, len(key))
		}
	}
	if len(o.Label) > memberlist.LabelMaxSize {
		bad("the label has more than %d bytes", memberlist.LabelMaxSize)
	}
	if o.RetryInterval < 0 || o.RejoinInterval < 0 || o.LeaveTimeout < 0 || o.MaxMembers < 0 {
		bad("intervals and limits must not be negative")
	}
	if o.Instance != "" {
		if err := validInstance(o.Instance); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("gossip: %w", errors.Join(errs...))
	}
	return nil
}

func (o Options) withDefaults() Options {
	if o.RetryInterval == 0 {
		o.RetryInterval = DefaultRetryInterval
	}
	if o.RejoinInterval == 0 {
		o.RejoinInterval = DefaultRejoinInterval
	}
	if o.LeaveTimeout == 0 {
		o.LeaveTimeout = DefaultLeaveTimeout
	}
	if o.MaxMembers == 0 {
		o.MaxMembers = DefaultMaxMembers
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Resolver == nil {
		o.Resolver = net.DefaultResolver
	}
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	return o
}

// meta is what the member says about itself.
func (o Options) meta(role pmpb.NodeMeta_Role) *pmpb.NodeMeta {
	address := o.GRPCAddress
	if host, port, err := net.SplitHostPort(address); err == nil {
		if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
			address = ":" + port
		}
	}
	return &pmpb.NodeMeta{
		Role: role, Name: o.Name, GrpcAddress: address, GrpcTls: o.GRPCTLS, Region: o.Region, Zone: o.Zone, Version: o.Version,
	}
}

// config translates the options. Everything that memberlist would look up
// itself is resolved here, where ctx applies.
func (o Options) config(ctx context.Context) (*memberlist.Config, error) {
	c := memberlist.DefaultLANConfig()
	c.Label = o.Label
	c.DeadNodeReclaimTime = deadNodeReclaim
	c.TCPTimeout = tcpTimeout
	c.LogOutput = nil
	o.Timing.apply(c)

	host, port, err := net.SplitHostPort(o.BindAddress)
	if err != nil {
		return nil, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, err
	}
	c.BindPort, c.AdvertisePort = int(n), int(n)
	if c.BindAddr = "0.0.0.0"; host != "" {
		// memberlist would take a name for "all interfaces".
		ip, err := resolveOne(ctx, o.Resolver, host)
		if err != nil {
			return nil, fmt.Errorf("bind address: %w", err)
		}
		c.BindAddr = ip.String()
	}
	if o.AdvertiseAddress != "" {
		if err := o.advertise(ctx, c); err != nil {
			return nil, fmt.Errorf("advertise address: %w", err)
		}
	}
	if len(o.Keys) > 0 {
		if c.Keyring, err = memberlist.NewKeyring(o.Keys, o.Keys[0]); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (o Options) advertise(ctx context.Context, c *memberlist.Config) error {
	host, port, err := splitDefaultPort(o.AdvertiseAddress)
	if err != nil {
		return err
	}
	ip, err := resolveOne(ctx, o.Resolver, host)
	if err != nil {
		// The name of a pod often appears only once the pod is ready. Its own
		// address is as good.
		o.Logger.Warn("advertise address cannot be resolved, the machine's own address is used", "host", host, "error", err)
		return nil
	}
	c.AdvertiseAddr = ip.String()
	if _, _, err := net.SplitHostPort(o.AdvertiseAddress); err == nil {
		c.AdvertisePort = int(port)
	}
	return nil
}

func (t Timing) apply(c *memberlist.Config) {
	for to, v := range map[*time.Duration]time.Duration{
		&c.GossipInterval: t.GossipInterval, &c.ProbeInterval: t.ProbeInterval,
		&c.ProbeTimeout: t.ProbeTimeout, &c.PushPullInterval: t.PushPullInterval,
	} {
		if v > 0 {
			*to = v
		}
	}
	if t.SuspicionMult > 0 {
		c.SuspicionMult = t.SuspicionMult
	}
}

// ParseKeys reads a comma list of base64 keys of 16, 24 or 32 bytes. The empty
// string has no keys.
func ParseKeys(text string) ([][]byte, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	var keys [][]byte
	for i, part := range strings.Split(text, ",") {
		// What is wrong is told without the key itself.
		key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(part))
		if err != nil {
			return nil, fmt.Errorf("gossip key %d is not base64", i+1)
		}
		if err := memberlist.ValidateKey(key); err != nil {
			return nil, fmt.Errorf("gossip key %d has %d bytes, not 16, 24 or 32", i+1, len(key))
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// splitDefaultPort reads host:port or host.
func splitDefaultPort(address string) (host string, port uint16, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		host, text = strings.Trim(address, "[]"), strconv.Itoa(DefaultPort)
	}
	if err := validAddress(net.JoinHostPort(host, text)); err != nil {
		return "", 0, fmt.Errorf("%q: %w", address, err)
	}
	n, err := strconv.ParseUint(text, 10, 16)
	return host, uint16(n), err
}

// resolve gives all addresses of a host.
func resolve(ctx context.Context, r Resolver, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip.Unmap()}, nil
	}
	found, err := r.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("resolve %q: %w", host, err)
	}
	for i := range found {
		found[i] = found[i].Unmap()
	}
	return found, nil
}

// resolveOne prefers IPv4, as memberlist's sockets usually are.
func resolveOne(ctx context.Context, r Resolver, host string) (netip.Addr, error) {
	found, err := resolve(ctx, r, host)
	if err != nil {
		return netip.Addr{}, err
	}
	for _, ip := range found {
		if ip.Is4() {
			return ip, nil
		}
	}
	if len(found) == 0 {
		return netip.Addr{}, fmt.Errorf("resolve %q: no address", host)
	}
	return found[0], nil
}
