package discovery

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"oaas.io/control-plane/proto/pmpb"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// patience is how long a test waits for what should take a fraction of it.
const patience = 20 * time.Second

func options(name string, join ...string) Options {
	return Options{
		Name: name, BindAddress: "127.0.0.1:0", GRPCAddress: "127.0.0.1:8088", Version: "test", Join: join,
		RetryInterval: 20 * time.Millisecond, RejoinInterval: 200 * time.Millisecond,
		Timing: Timing{
			GossipInterval: 10 * time.Millisecond, ProbeInterval: 100 * time.Millisecond, ProbeTimeout: 50 * time.Millisecond,
			PushPullInterval: 500 * time.Millisecond, SuspicionMult: 2,
		},
	}
}

func observer(t *testing.T, o Options) *Observer {
	t.Helper()
	n, err := NewObserver(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeNode(t, n.node) })
	return n
}

func announcer(t *testing.T, o Options) *Announcer {
	t.Helper()
	n, err := NewAnnouncer(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeNode(t, n.node) })
	return n
}

func closeNode(t *testing.T, n *node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := n.Close(ctx); err != nil {
		t.Error(err)
	}
}

// crash stops a member as a kill does: the others get no farewell.
func crash(t *testing.T, n *node) {
	t.Helper()
	n.closing.Do(func() {
		n.stop()
		if err := n.list.Shutdown(); err != nil {
			t.Error(err)
		}
		n.joined.Wait()
	})
}

// await follows the signals of the observer until it lists exactly the wanted
// clusters, as name@address.
func await(t *testing.T, o *Observer, want ...string) []Candidate {
	t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		all := o.Candidates()
		var got []string
		for _, c := range all {
			got = append(got, c.Name+"@"+c.Address)
		}
		if slices.Equal(got, want) {
			return all
		}
		select {
		case <-o.Changed():
		case <-timeout.C:
			t.Fatalf("candidates are %q, want %q", got, want)
		}
	}
}

// watchLog lets a test wait for a line in the log.
type watchLog struct {
	mu    sync.Mutex
	text  bytes.Buffer
	wrote chan struct{}
}

func newWatchLog() *watchLog { return &watchLog{wrote: make(chan struct{}, 1)} }

func (w *watchLog) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	signal(w.wrote)
	return w.text.Write(p)
}

func (w *watchLog) logger() hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Output: w, Level: hclog.Debug})
}

func (w *watchLog) await(t *testing.T, part string) {
	t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		w.mu.Lock()
		text := w.text.String()
		w.mu.Unlock()
		if strings.Contains(text, part) {
			return
		}
		select {
		case <-w.wrote:
		case <-timeout.C:
			t.Fatalf("%q is not in the log:\n%s", part, text)
		}
	}
}

func TestClusterIsDiscovered(t *testing.T) {
	pm := observer(t, options("pm-0"))
	o := options("edge-1", pm.Address())
	o.GRPCAddress, o.Region, o.Zone, o.Instance = "0.0.0.0:9088", "eu", "eu-1", "7"
	announcer(t, o)
	got := await(t, pm, "edge-1@127.0.0.1:9088")
	want := []Candidate{{
		Name: "edge-1", Address: "127.0.0.1:9088", Source: SourceGossip, RetryAttempts: 3,
		Region: "eu", Zone: "eu-1", Version: "test", Instance: "7",
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if diff := cmp.Diff(want, NewDirectory(nil, pm).Candidates()); diff != "" {
		t.Errorf("directory (-want +got):\n%s", diff)
	}
}

func TestClusterSaysThatItSpeaksTLS(t *testing.T) {
	pm := observer(t, options("pm-0"))
	o := options("edge-1", pm.Address())
	o.GRPCTLS = true
	announcer(t, o)
	got := await(t, pm, "edge-1@https://127.0.0.1:8088")
	if address, secure := SplitAddress(got[0].Address); address != "127.0.0.1:8088" || !secure {
		t.Errorf("%q becomes %q, TLS %t", got[0].Address, address, secure)
	}
}

func TestEveryNodeLearnsOfAClusterThatKnowsOne(t *testing.T) {
	first := observer(t, options("pm-0"))
	second := observer(t, options("pm-1", first.Address()))
	third := observer(t, options("pm-2", first.Address(), second.Address()))
	announcer(t, options("edge-1", "127.0.0.1:1", third.Address()))
	for _, pm := range []*Observer{first, second, third} {
		await(t, pm, "edge-1@127.0.0.1:8088")
	}
}

func TestClusterThatLeavesIsForgotten(t *testing.T) {
	pm := observer(t, options("pm-0"))
	crm := announcer(t, options("edge-1", pm.Address()))
	await(t, pm, "edge-1@127.0.0.1:8088")
	closeNode(t, crm.node)
	await(t, pm)
	closeNode(t, crm.node) // a second time does nothing
}

func TestClusterThatCrashesIsForgotten(t *testing.T) {
	pm := observer(t, options("pm-0"))
	crm := announcer(t, options("edge-1", pm.Address()))
	await(t, pm, "edge-1@127.0.0.1:8088")
	crash(t, crm.node)
	await(t, pm)
}

func TestClusterComesBackUnderAnotherAddress(t *testing.T) {
	pm := observer(t, options("pm-0"))
	o := options("edge-1", pm.Address())
	o.Instance = "0001"
	before := announcer(t, o)
	await(t, pm, "edge-1@127.0.0.1:8088")
	o.Instance, o.GRPCAddress = "0002", "127.0.0.1:8089"
	announcer(t, o)
	// Both are alive, or seem to be: the newer one is first.
	await(t, pm, "edge-1@127.0.0.1:8089", "edge-1@127.0.0.1:8088")
	crash(t, before.node)
	await(t, pm, "edge-1@127.0.0.1:8089")
}

// freeAddress is a loopback port that nobody uses for TCP and UDP.
func freeAddress(t *testing.T) string {
	t.Helper()
	pm, err := NewObserver(t.Context(), options("probe"))
	if err != nil {
		t.Fatal(err)
	}
	closeNode(t, pm.node)
	return pm.Address()
}

func TestClusterMayStartBeforeAnyNode(t *testing.T) {
	address := freeAddress(t)
	log := newWatchLog()
	o := options("edge-1", address)
	o.Logger = log.logger()
	announcer(t, o)
	log.await(t, "no PM node is reached by gossip")
	p := options("pm-0")
	p.BindAddress = address
	await(t, observer(t, p), "edge-1@127.0.0.1:8088")
}

func TestNodeThatCrashedIsFoundAgain(t *testing.T) {
	p := options("pm-0")
	p.BindAddress = freeAddress(t)
	before := observer(t, p)
	o := options("edge-1", before.Address())
	// Only the loss of the node can bring the next attempt about.
	o.RejoinInterval = time.Hour
	announcer(t, o)
	await(t, before, "edge-1@127.0.0.1:8088")
	crash(t, before.node)
	await(t, observer(t, p), "edge-1@127.0.0.1:8088")
}

// counting resolves every name to one address and tells how often it was asked.
type counting struct {
	mu    sync.Mutex
	ip    netip.Addr
	err   error
	calls int
	asked chan int
}

func (c *counting) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	select {
	case c.asked <- c.calls:
	default:
	}
	return []netip.Addr{c.ip}, c.err
}

func (c *counting) set(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

func (c *counting) await(t *testing.T, calls int) {
	t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		select {
		case n := <-c.asked:
			if n >= calls {
				return
			}
		case <-timeout.C:
			t.Fatalf("not asked %d times", calls)
		}
	}
}

func newCounting(err error) *counting {
	return &counting{ip: netip.MustParseAddr("127.0.0.1"), err: err, asked: make(chan int, 1)}
}

func TestNamesAreResolvedAnew(t *testing.T) {
	pm := observer(t, options("pm-0"))
	_, port, err := net.SplitHostPort(pm.Address())
	if err != nil {
		t.Fatal(err)
	}
	dns := newCounting(errors.New("no such host"))
	o := options("edge-1", "pm.example:"+port)
	o.Resolver = dns
	announcer(t, o)
	dns.await(t, 3)
	if got := pm.Candidates(); len(got) != 0 {
		t.Fatalf("found without an address: %v", got)
	}
	dns.set(nil)
	await(t, pm, "edge-1@127.0.0.1:8088")
}

func key(b byte) [][]byte { return [][]byte{bytes.Repeat([]byte{b}, 32)} }

func TestOutsidersStayOutside(t *testing.T) {
	for _, tc := range []struct {
		name        string
		pm, in, out func(*Options)
	}{
		{name: "other key", pm: func(o *Options) { o.Keys = key(1) }, in: func(o *Options) { o.Keys = key(1) }, out: func(o *Options) { o.Keys = key(2) }},
		{name: "no key", pm: func(o *Options) { o.Keys = key(1) }, in: func(o *Options) { o.Keys = key(1) }, out: func(*Options) {}},
		{name: "key where there is none", pm: func(*Options) {}, in: func(*Options) {}, out: func(o *Options) { o.Keys = key(1) }},
		{name: "other label", pm: func(o *Options) { o.Label = "a" }, in: func(o *Options) { o.Label = "a" }, out: func(o *Options) { o.Label = "b" }},
		{name: "key in rotation", pm: func(o *Options) { o.Keys = append(key(1), key(2)...) }, in: func(o *Options) { o.Keys = append(key(2), key(1)...) }, out: func(o *Options) { o.Keys = key(3) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := options("pm-0")
			tc.pm(&p)
			pm := observer(t, p)
			_, port, err := net.SplitHostPort(pm.Address())
			if err != nil {
				t.Fatal(err)
			}
			dns := newCounting(nil)
			o := options("outsider", "pm.example:"+port)
			o.Resolver = dns
			tc.out(&o)
			outsider := announcer(t, o)
			i := options("insider", pm.Address())
			tc.in(&i)
			announcer(t, i)
			await(t, pm, "insider@127.0.0.1:8088")
			// The fourth round begins after three whole attempts.
			dns.await(t, 4)
			await(t, pm, "insider@127.0.0.1:8088")
			if got := outsider.Members(); len(got) != 0 {
				t.Errorf("the outsider sees %v", got)
			}
		})
	}
}

// rogue is a member that is not made by this package.
func rogue(t *testing.T, name string, meta []byte, join string) {
	t.Helper()
	c := memberlist.DefaultLocalConfig()
	c.Name, c.BindAddr, c.BindPort = name, "127.0.0.1", 0
	c.Delegate = delegate{meta: meta}
	c.Logger = hclog.NewNullLogger().StandardLogger(nil)
	m, err := memberlist.Create(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Shutdown(); err != nil {
			t.Error(err)
		}
	})
	if _, err := m.Join([]string{join}); err != nil {
		t.Fatal(err)
	}
}

func TestMalformedMembersAreRefused(t *testing.T) {
	crm, err := EncodeMeta(&pmpb.NodeMeta{Role: pmpb.NodeMeta_ROLE_CRM, Name: "edge-1", GrpcAddress: "h:1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, node string
		meta       []byte
		text       string
	}{
		{"no meta", "crm/edge-1/1", nil, "role 0 is unknown"},
		{"garbage", "crm/edge-1/1", []byte("garbage"), "ignoring alive message"},
		{"foreign name", "crm/edge-2/1", crm, "does not fit"},
		{"foreign role", "pm/edge-1/1", crm, "does not fit"},
		{"no instance", "crm/edge-1/", crm, "instance"},
		{"wild instance", "crm/edge-1/a b", crm, "instance"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			log := newWatchLog()
			o := options("pm-0")
			o.Logger = log.logger()
			pm := observer(t, o)
			rogue(t, tc.node, tc.meta, pm.Address())
			log.await(t, tc.text)
			if got := pm.Members(); len(got) != 0 {
				t.Errorf("members: %v", got)
			}
			if testutil.ToFloat64(pm.stats.refused.WithLabelValues("malformed")) == 0 {
				t.Error("nothing was counted")
			}
		})
	}
}

func TestTheNumberOfMembersIsBounded(t *testing.T) {
	log := newWatchLog()
	o := options("pm-0")
	o.MaxMembers, o.Logger = 2, log.logger()
	pm := observer(t, o)
	announcer(t, options("edge-1", pm.Address()))
	await(t, pm, "edge-1@127.0.0.1:8088")
	announcer(t, options("edge-2", pm.Address()))
	log.await(t, `crm "edge-2" is refused`)
	await(t, pm, "edge-1@127.0.0.1:8088")
}

func TestTheFirstOfTwoWithTheSameNameStays(t *testing.T) {
	log := newWatchLog()
	p := options("pm-0")
	p.Logger = log.logger()
	pm := observer(t, p)
	o := options("edge-1", pm.Address())
	o.Instance = "1"
	announcer(t, o)
	await(t, pm, "edge-1@127.0.0.1:8088")
	meta, err := EncodeMeta(&pmpb.NodeMeta{Role: pmpb.NodeMeta_ROLE_CRM, Name: "edge-1", GrpcAddress: "127.0.0.1:666"})
	if err != nil {
		t.Fatal(err)
	}
	rogue(t, "crm/edge-1/1", meta, pm.Address())
	log.await(t, "two members have the same name")
	await(t, pm, "edge-1@127.0.0.1:8088")
}

func TestMetricsFollowTheMember(t *testing.T) {
	registry := prometheus.NewRegistry()
	o := options("pm-0")
	o.Registerer = registry
	pm := observer(t, o)
	announcer(t, options("edge-1", pm.Address()))
	await(t, pm, "edge-1@127.0.0.1:8088")
	const want = `
# HELP oaas_pm_gossip_members Live members of the pool as this node sees it, itself included, by role.
# TYPE oaas_pm_gossip_members gauge
oaas_pm_gossip_members{role="crm"} 1
oaas_pm_gossip_members{role="pm"} 1
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "oaas_pm_gossip_members"); err != nil {
		t.Error(err)
	}
	if _, err := NewObserver(t.Context(), o); err == nil {
		t.Fatal("two members share their metrics")
	}
	closeNode(t, pm.node)
	observer(t, o) // the metrics are free again
}

func TestCloseDoesNotWaitLongerThanAsked(t *testing.T) {
	pm := observer(t, options("pm-0"))
	o := options("edge-1", pm.Address())
	o.LeaveTimeout = time.Hour
	crm := announcer(t, o)
	await(t, pm, "edge-1@127.0.0.1:8088")
	crash(t, pm.node) // nobody is left to say farewell to
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	expired, cancel := context.WithDeadline(ctx, time.Now())
	defer cancel()
	if err := crm.Close(expired); err != nil {
		t.Error(err)
	}
}

func TestTheCallersContextIsNotTheMembersLife(t *testing.T) {
	address := freeAddress(t)
	ctx, cancel := context.WithCancel(t.Context())
	crm, err := NewAnnouncer(ctx, options("edge-1", address))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeNode(t, crm.node) })
	cancel()
	p := options("pm-0")
	p.BindAddress = address
	await(t, observer(t, p), "edge-1@127.0.0.1:8088")
}

func TestOptionsMistakes(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Options)
		text   string
	}{
		"no name":          {func(o *Options) { o.Name = "" }, "a name is required"},
		"no bind address":  {func(o *Options) { o.BindAddress = "" }, "bind address"},
		"bind port":        {func(o *Options) { o.BindAddress = "127.0.0.1:x" }, "no port"},
		"IPv6 everywhere":  {func(o *Options) { o.BindAddress = "[::]:0" }, "needs an advertise address"},
		"bind host":        {func(o *Options) { o.BindAddress = "nowhere.invalid:0" }, "bind address: resolve"},
		"join":             {func(o *Options) { o.Join = []string{"http://a:1"} }, "join address"},
		"advertise":        {func(o *Options) { o.AdvertiseAddress = "a b" }, "advertise address"},
		"key":              {func(o *Options) { o.Keys = [][]byte{make([]byte, 31)} }, "key 1 has 31 bytes"},
		"label":            {func(o *Options) { o.Label = strings.Repeat("l", 256) }, "label"},
		"negative":         {func(o *Options) { o.RetryInterval = -1 }, "negative"},
		"instance":         {func(o *Options) { o.Instance = "a/b" }, "instance"},
		"no gRPC address":  {func(o *Options) { o.GRPCAddress = "" }, "needs a gRPC address"},
		"name of no CRM":   {func(o *Options) { o.Name = "a.b" }, "contains '.'"},
		"address in use":   {func(o *Options) { o.BindAddress = "192.0.2.1:0" }, "gossip on 192.0.2.1:0"},
		"region too long":  {func(o *Options) { o.Region = strings.Repeat("r", 64) }, "region"},
		"several mistakes": {func(o *Options) { o.Name, o.BindAddress = "", "" }, "a name is required\nbind address"},
	} {
		t.Run(name, func(t *testing.T) {
			o := options("edge-1")
			o.Resolver = newCounting(errors.New("no such host"))
			tc.change(&o)
			n, err := NewAnnouncer(t.Context(), o)
			if err == nil {
				closeNode(t, n.node)
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), tc.text) {
				t.Errorf("%q is not in %q", tc.text, err)
			}
		})
	}
}

func TestAdvertisedAddress(t *testing.T) {
	_, port, err := net.SplitHostPort(freeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		advertise string
		dns       error
		want      string
	}{
		"bound":              {"", nil, "127.0.0.1:" + port},
		"name":               {"pm.example", nil, "127.0.0.1:" + port},
		"other port":         {"192.0.2.7:4000", nil, "192.0.2.7:4000"},
		"name not yet known": {"pm.example:4000", errors.New("no such host"), "127.0.0.1:" + port},
	} {
		t.Run(name, func(t *testing.T) {
			o := options("pm-0")
			o.BindAddress, o.AdvertiseAddress, o.Resolver = "127.0.0.1:"+port, tc.advertise, newCounting(tc.dns)
			if got := observer(t, o).Address(); got != tc.want {
				t.Errorf("address %s, want %s", got, tc.want)
			}
		})
	}
}

func TestParseKeys(t *testing.T) {
	got, err := ParseKeys(" AAAAAAAAAAAAAAAAAAAAAA==, AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE= ")
	if diff := cmp.Diff([][]byte{make([]byte, 16), bytes.Repeat([]byte{1}, 32)}, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	if got, err := ParseKeys(" "); got != nil || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	for _, text := range []string{"AAAA", "secret!", "AAAAAAAAAAAAAAAAAAAAAA==,"} {
		if _, err := ParseKeys(text); err == nil || strings.Contains(err.Error(), text) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestLaterInstancesCompareGreater(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	one, err := newInstance(at)
	if err != nil {
		t.Fatal(err)
	}
	two, err := newInstance(at.Add(time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	if one >= two || validInstance(one) != nil {
		t.Errorf("%q, %q", one, two)
	}
}
