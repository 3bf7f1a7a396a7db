package tunnel

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"

	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/proto/tunnelpb"
)

const (
	// maxConnectionsOfCluster bounds the connections of one cluster to one node: a few
	// replicas with a few connections each, some of them broken and not known to be so.
	maxConnectionsOfCluster = 16
	// maxWaiting and maxActive bound the streams of one connection.
	maxWaiting, maxActive = 4, 16
	// housekeeping is between two looks at what changes without a message.
	housekeeping = time.Second
	// maxRated bounds the clusters whose rate of streams is remembered.
	maxRated = 8192
)

// Hub is the side of one package manager node: it takes in agents, and opens
// connections to those of all nodes.
type Hub struct {
	opts     HubOptions
	log      hclog.Logger
	metrics  *hubMetrics
	refusals *refusals
	table    *table
	crew     crew
	// changed is signalled when there may be other clusters than before.
	changed chan struct{}

	// life ends with Run; nothing that a peer or an agent does outlives it.
	life context.Context
	end  context.CancelFunc
	// draining is closed when agents should go elsewhere.
	draining chan struct{}
	drain    sync.Once
	// several are the agents of which it is known that they are not alone; only look
	// uses them.
	several rivals

	mu sync.Mutex
	// contact is when this node was last in contact with the leader.
	contact time.Time
	rates   map[string]*rate.Limiter
	// dialled are this node's own connections that stand.
	dialled map[*dialled]struct{}
	// port is the agents' one, nil if nothing counts its connections.
	port *port
}

// NewHub makes a Hub. It takes in agents from now on, if it is registered on a server,
// and looks after them while Run runs.
func NewHub(opts HubOptions) (*Hub, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	opts.setDefaults()
	h := &Hub{
		opts: opts, log: opts.Logger, refusals: newRefusals(opts.Logger, opts.Now), changed: make(chan struct{}, 1), draining: make(chan struct{}),
		rates: map[string]*rate.Limiter{}, dialled: map[*dialled]struct{}{},
		table: newTable(limits{connections: opts.MaxConnections, ofCluster: maxConnectionsOfCluster, waiting: maxWaiting, active: maxActive}, opts.Now),
	}
	// Not of a call: streams live until Run ends.
	h.life, h.end = context.WithCancel(context.Background())
	var err error
	if h.metrics, err = newHubMetrics(opts.Metrics, h.table.counts); err != nil {
		return nil, err
	}
	return h, nil
}

// RegisterAgents puts the agents' service on the server of the agents' port.
func (h *Hub) RegisterAgents(on grpc.ServiceRegistrar) {
	tunnelpb.RegisterTunnelServiceServer(on, &agentsService{hub: h})
}

// RegisterPeers puts the service of the other nodes on the server of the internal port.
func (h *Hub) RegisterPeers(on grpc.ServiceRegistrar) {
	pmpb.RegisterAgentRelayServiceServer(on, &relayService{hub: h})
}

// Run follows the other nodes and looks after the agents until ctx ends; then it asks
// them to go elsewhere, and waits for that for a moment. When it returns, every goroutine
// of the hub has ended, and every connection with it.
func (h *Hub) Run(ctx context.Context) {
	following, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var peers sync.WaitGroup
	peers.Go(func() { h.followPeers(following) })
	tick := time.NewTicker(housekeeping)
	defer tick.Stop()
	for ctx.Err() == nil {
		h.look()
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	h.Drain()
	h.awaitDrained()
	h.end()
	stop()
	peers.Wait()
	h.crew.join()
}

// Drain asks the agents to connect to other nodes, because this one is about to stop.
// Until it does, they are served.
func (h *Hub) Drain() { h.drain.Do(func() { close(h.draining) }) }

// awaitDrained waits until no agent waits here any more, or the drain time is over.
func (h *Hub) awaitDrained() {
	timer := time.NewTimer(h.opts.DrainTime)
	defer timer.Stop()
	for {
		_, changed := h.table.local()
		if _, waiting, _ := h.table.counts(); waiting == 0 {
			return
		}
		select {
		case <-changed:
		case <-timer.C:
			return
		}
	}
}

// look does what no message asks for.
func (h *Hub) look() {
	if !h.hasContact() {
		err := Refuse(reasonNoLeader, "this node has not heard from the leader for %s; connect to another one", h.opts.NoLeaderLimit)
		if n := h.table.evict(func(*offer) error { return err }); n > 0 {
			h.log.Warn("agents are sent away: this node has lost the leader", "streams", n)
		}
	}
	h.table.evict(func(o *offer) error {
		if err := h.checkIdentity(Cluster{o.of.GetCluster(), o.of.GetClusterUid()}); err != nil {
			return err
		}
		return o.entitled()
	})
	h.noteRivals()
	h.moveToNewer()
	h.mu.Lock()
	defer h.mu.Unlock()
	for cluster, limiter := range h.rates {
		if limiter.TokensAt(h.opts.Now()) >= helloBurst {
			delete(h.rates, cluster)
		}
	}
}

// hasContact says whether this node has heard from the leader recently enough to keep
// agents.
func (h *Hub) hasContact() bool {
	now := h.opts.Now()
	in := h.opts.InContact()
	h.mu.Lock()
	defer h.mu.Unlock()
	if in {
		h.contact = now
	}
	return !h.contact.IsZero() && now.Sub(h.contact) < h.opts.NoLeaderLimit
}

// checkIdentity refuses a cluster whose name is registered with another UID.
func (h *Hub) checkIdentity(c Cluster) error {
	if uid := h.opts.Registered(c.Name); uid != "" && uid != c.UID {
		return Refuse(reasonIdentity, "the name %s is that of the cluster with uid %s, this one has %s; if it replaces that one, remove the environment first (pmctl delete env %s)",
			c.Name, uid, c.UID, c.Name)
	}
	return nil
}

// allow bounds the TCP connections that agents of one cluster use, and the rate of
// streams that they offer.
func (h *Hub) allow(cluster, remote string) error {
	h.mu.Lock()
	port := h.port
	h.mu.Unlock()
	if port != nil && !port.claim(remote, cluster) {
		return Refuse(reasonLimit, "agents of cluster %s use %d TCP connections to this node already", cluster, maxTCPOfCluster)
	}
	if !h.allowRate(cluster) {
		return Refuse(reasonRate, "agents of cluster %s offer streams too fast", cluster)
	}
	return nil
}

func (h *Hub) allowRate(cluster string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	limiter := h.rates[cluster]
	if limiter == nil {
		if len(h.rates) >= maxRated {
			return false
		}
		limiter = rate.NewLimiter(helloRate, helloBurst)
		h.rates[cluster] = limiter
	}
	return limiter.AllowN(h.opts.Now(), 1)
}

// Attached is a cluster that has an agent.
type Attached struct {
	Cluster
	// Instance and Version are those of the newest one.
	Instance, Version string
}

// Attached gives the clusters that have an agent at any node, by name.
func (h *Hub) Attached() []Attached {
	routes, _ := h.table.routes(Cluster{})
	seen := map[Cluster]bool{}
	var out []Attached
	for _, r := range routes { // the newest first
		if c := (Cluster{r.GetCluster(), r.GetClusterUid()}); !seen[c] {
			seen[c] = true
			out = append(out, Attached{Cluster: c, Instance: r.GetInstance(), Version: r.GetVersion()})
		}
	}
	slices.SortStableFunc(out, func(a, b Attached) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Changed is signalled after Attached may have changed. Signals are coalesced, and each
// goes to one receiver.
func (h *Hub) Changed() <-chan struct{} { return h.changed }

// signal never waits: a signal that was not received yet covers this one.
func (h *Hub) signal() {
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

// Connection is one of an agent's, for people to look at.
type Connection struct {
	Cluster
	// ServerID and Node are the node that the agent is connected to.
	ServerID, Node string
	Instance       string
	Version        string
	RemoteAddress  string
	Since          time.Time
}

// Connections gives those of the agents of a cluster, the one that is used first.
func (h *Hub) Connections(cluster Cluster) []Connection {
	routes, _ := h.table.routes(cluster)
	names := map[string]string{"": h.opts.Node}
	for _, p := range h.opts.Peers() {
		names[p.ID] = p.Name
	}
	var out []Connection
	for _, r := range routes {
		c := Connection{
			Cluster: Cluster{r.GetCluster(), r.GetClusterUid()}, ServerID: r.server, Node: names[r.server], Instance: r.GetInstance(),
			Version: r.GetVersion(), RemoteAddress: r.GetRemoteAddress(), Since: r.GetSince().AsTime(),
		}
		if r.server == "" {
			c.ServerID = h.opts.ServerID
		}
		if c.Node == "" {
			c.Node = c.ServerID
		}
		out = append(out, c)
	}
	return out
}

// ErrNoAgent says that no agent of the cluster is connected to any node.
var ErrNoAgent = errors.New("tunnel: no agent of the cluster is connected to any node of the control plane")
