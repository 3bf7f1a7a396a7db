package tunnel

import (
	"context"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
)

// steady is how long a connection must have stood for the next attempt to come without
// a long pause.
const steady = 10 * time.Second

// Agent keeps the connections of a cluster's manager to the control plane. It is a
// listener: what the control plane opens through them is accepted from it.
type Agent struct {
	opts      AgentOptions
	log       hclog.Logger
	metrics   *agentMetrics
	instance  string
	addresses *addresses
	numbers   atomic.Uint64
	crew      crew

	conns  chan net.Conn
	closed chan struct{}
	close  sync.Once
}

// NewAgent makes an Agent. It connects while Run runs.
func NewAgent(opts AgentOptions) (*Agent, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	instance, err := newInstance(opts.Now())
	if err != nil {
		return nil, err
	}
	return &Agent{
		opts: opts, log: opts.Logger, metrics: newAgentMetrics(), instance: instance, addresses: newAddresses(opts.Addresses),
		conns: make(chan net.Conn), closed: make(chan struct{}),
	}, nil
}

// Collectors are the agent's metrics.
func (a *Agent) Collectors() []prometheus.Collector { return a.metrics.collectors() }

// Accept implements net.Listener.
func (a *Agent) Accept() (net.Conn, error) {
	select {
	case conn := <-a.conns:
		return conn, nil
	case <-a.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. Connections that were accepted are not touched.
func (a *Agent) Close() error {
	a.close.Do(func() { close(a.closed) })
	return nil
}

// Addr implements net.Listener.
func (a *Agent) Addr() net.Addr { return name("agent of " + a.opts.Cluster) }

// Run keeps the connections until ctx ends. The cluster's UID is asked for until it is
// known; before that nobody could tell whose agent this is. When Run returns, every
// connection and every goroutine of the agent has ended; those that carry something
// have had the drain time to end by themselves.
func (a *Agent) Run(ctx context.Context, identify func(context.Context) (uid string, err error)) {
	// What is open outlives ctx, so that whoever accepted it can end it in good order.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	uid, known := a.identify(ctx, identify)
	if !known {
		return
	}
	a.log.Info("connecting to the control plane", "addresses", a.opts.Addresses, "uid", uid, "instance", a.instance)
	var links sync.WaitGroup
	for range a.opts.Connections {
		links.Go(func() { a.keepLink(ctx, life, uid) })
	}
	links.Wait()
	timer := time.AfterFunc(a.opts.DrainTime, end)
	defer timer.Stop()
	a.crew.join()
}

func (a *Agent) identify(ctx context.Context, identify func(context.Context) (string, error)) (string, bool) {
	for told := ""; ; {
		uid, err := identify(ctx)
		if err == nil {
			err = CheckUID(uid)
		}
		if err == nil {
			return uid, true
		}
		if told != err.Error() && ctx.Err() == nil {
			told = err.Error()
			a.log.Info("not connecting to the control plane before the cluster's uid is known", "error", err)
		}
		if !pause(ctx, a.opts.RetryMin) {
			return "", false
		}
	}
}

// keepLink keeps one connection until ctx ends. One whose node asks to go is used until
// the next one stands.
func (a *Agent) keepLink(ctx, life context.Context, uid string) {
	failures, last, told := 0, "", complaint{}
	retire := func() {}
	for ctx.Err() == nil {
		address := a.addresses.acquire(last)
		last = address
		began := a.opts.Now()
		waiting, stop := context.WithCancel(ctx)
		l := &link{agent: a, address: address, number: a.numbers.Add(1), uid: uid, relieve: retire, drained: make(chan struct{})}
		ended := make(chan error, 1)
		if !a.crew.start(func() { ended <- l.run(waiting, life) }) {
			stop()
			return
		}
		select {
		case err := <-ended:
			stop()
			if l.stood && a.opts.Now().Sub(began) >= steady {
				failures = 0
			}
			if ctx.Err() == nil {
				told.tell(a, l, err)
			}
		case <-l.drained:
			a.log.Info("the node asks to connect elsewhere", "address", address, "node", l.node)
			failures, retire = 0, stop
		}
		a.addresses.release(address)
		if !pause(ctx, jittered(backoff(failures, a.opts.RetryMin, a.opts.RetryMax))) {
			return
		}
		failures++
	}
}

// backoff doubles from min to max.
func backoff(failures int, least, most time.Duration) time.Duration {
	return min(least<<min(failures, 16), most)
}

// jittered spreads the attempts of agents that have lost the same node at one moment.
func jittered(d time.Duration) time.Duration {
	return d/2 + rand.N(d) //nolint:gosec // no secret
}

// complaint keeps the log from filling with one reason.
type complaint struct {
	text string
	at   time.Time
}

func (c *complaint) tell(a *Agent, l *link, err error) {
	now := a.opts.Now()
	if l.stood || err.Error() != c.text || now.Sub(c.at) >= tellInterval {
		c.text, c.at = err.Error(), now
		a.log.Warn("no connection to the control plane", "address", l.address, "error", err)
		return
	}
	a.log.Debug("no connection to the control plane", "address", l.address, "error", err)
}

// handOver gives a connection to whoever accepts.
func (a *Agent) handOver(ctx context.Context, conn net.Conn) error {
	select {
	case a.conns <- conn:
		return nil
	case <-a.closed:
		return net.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// addresses spreads the links over what there is.
type addresses struct {
	mu   sync.Mutex
	list []string
	used map[string]int
	next int
}

func newAddresses(list []string) *addresses {
	list = slices.Clone(list)
	slices.Sort(list)
	list = slices.Compact(list)
	// Agents that are told the same list do not all begin at its head.
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return &addresses{list: list, used: map[string]int{}}
}

// acquire gives the address that the fewest links use, in turn, and not the one that has
// just been tried unless it is the only one.
func (a *addresses) acquire(tried string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	best := -1
	for i := range a.list {
		at := (a.next + i) % len(a.list)
		if a.list[at] == tried && len(a.list) > 1 {
			continue
		}
		if best < 0 || a.used[a.list[at]] < a.used[a.list[best]] {
			best = at
		}
	}
	a.next = (best + 1) % len(a.list)
	a.used[a.list[best]]++
	return a.list[best]
}

func (a *addresses) release(address string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.used[address]--
}
