package tunnel

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/proto/tunnelpb"
)

// table is what a node knows of the agents: those that are connected to it, with their
// streams, and what the other nodes say of theirs.
type table struct {
	limits limits
	now    func() time.Time

	mu sync.Mutex
	// changed is closed and replaced with every change; waiting has the same for those
	// who wait for one cluster, which after an outage of all are many.
	changed chan struct{}
	waiting map[string]chan struct{}
	lastID  uint64
	own     map[uint64]*connection
	peers   map[string]map[uint64]*known
	// named are all of them by the name of their cluster.
	named map[string]map[place]*pmpb.AgentConnection
}

// place is a connection among those of all nodes; empty is this one.
type place struct {
	server string
	id     uint64
}

// limits bound what agents may hold of a node.
type limits struct {
	// connections of all agents, and those of one cluster.
	connections, ofCluster int
	// waiting and active streams of one connection.
	waiting, active int
}

// connection is one that an agent has made to this node. The message in it never changes;
// the other fields are guarded by the table's lock.
type connection struct {
	*pmpb.AgentConnection
	// waiting are the streams that carry nothing yet, the newest last; active is how
	// many carry a connection.
	waiting []*offer
	active  int
	offers  map[*offer]struct{}
}

// known is a connection to another node.
type known struct {
	*pmpb.AgentConnection
	// heard is when this node learned of it, by its own clock.
	heard time.Time
}

// offer is one stream.
type offer struct {
	of *connection
	// taken gets the end of the pipe that the stream is to be joined with.
	taken chan *end
	// evicted gets the reason why the stream has to end.
	evicted chan error
	// entitled says why whoever offers it may not any more.
	entitled func() error
}

func newTable(l limits, now func() time.Time) *table {
	return &table{
		limits: l, now: now, changed: make(chan struct{}), waiting: map[string]chan struct{}{},
		own: map[uint64]*connection{}, peers: map[string]map[uint64]*known{}, named: map[string]map[place]*pmpb.AgentConnection{},
	}
}

// alterLocked tells those who wait for a change, of a cluster or of any.
func (t *table) alterLocked(cluster string) {
	close(t.changed)
	t.changed = make(chan struct{})
	if waiting := t.waiting[cluster]; waiting != nil {
		close(waiting)
		delete(t.waiting, cluster)
	}
}

// nameLocked and unnameLocked keep the index by name.
func (t *table) nameLocked(at place, c *pmpb.AgentConnection) {
	if t.named[c.GetCluster()] == nil {
		t.named[c.GetCluster()] = map[place]*pmpb.AgentConnection{}
	}
	t.named[c.GetCluster()][at] = c
	t.alterLocked(c.GetCluster())
}

func (t *table) unnameLocked(at place, c *pmpb.AgentConnection) {
	delete(t.named[c.GetCluster()], at)
	if len(t.named[c.GetCluster()]) == 0 {
		delete(t.named, c.GetCluster())
	}
	t.alterLocked(c.GetCluster())
}

// find gives the connection to this node that a stream is of, nil if it is a new one's.
func (t *table) find(hello *tunnelpb.Hello) *connection {
	t.mu.Lock()
	defer t.mu.Unlock()
	of, _ := t.findLocked(hello)
	return of
}

// findLocked is find, and counts the connections of the cluster to this node.
func (t *table) findLocked(hello *tunnelpb.Hello) (of *connection, ofCluster int) {
	for at := range t.named[hello.GetCluster()] {
		if at.server != "" {
			continue
		}
		ofCluster++
		c := t.own[at.id]
		if c.GetClusterUid() == hello.GetClusterUid() && c.GetInstance() == hello.GetInstance() && c.GetConnection() == hello.GetConnection() {
			of = c
		}
	}
	return of, ofCluster
}

// add takes in a stream, and says whether it is the first one of its connection.
func (t *table) add(hello *tunnelpb.Hello, remote string, entitled func() error) (o *offer, first bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	of, ofCluster := t.findLocked(hello)
	switch {
	case of != nil && len(of.waiting) >= t.limits.waiting:
		return nil, false, Refuse(reasonLimit, "%d streams of this connection wait already", len(of.waiting))
	case of == nil && ofCluster >= t.limits.ofCluster:
		return nil, false, Refuse(reasonLimit, "cluster %s has %d connections to this node already", hello.GetCluster(), ofCluster)
	case of == nil && len(t.own) >= t.limits.connections:
		return nil, false, Refuse(reasonLimit, "this node has %d connections of agents already", len(t.own))
	}
	if of == nil {
		first = true
		t.lastID++
		of = &connection{offers: map[*offer]struct{}{}, AgentConnection: &pmpb.AgentConnection{
			Id: t.lastID, Cluster: hello.GetCluster(), ClusterUid: hello.GetClusterUid(), Instance: hello.GetInstance(),
			Connection: hello.GetConnection(), Version: hello.GetVersion(), RemoteAddress: remote, Since: timestamppb.New(t.now()),
		}}
		t.own[of.GetId()] = of
		t.nameLocked(place{id: of.GetId()}, of.AgentConnection)
	}
	o = &offer{of: of, taken: make(chan *end, 1), evicted: make(chan error, 1), entitled: entitled}
	of.offers[o] = struct{}{}
	of.waiting = append(of.waiting, o)
	t.alterLocked(hello.GetCluster())
	return o, first, nil
}

// remove takes out a stream, and says whether it was the last one of its connection.
// Who has taken it meanwhile finds his connection closed.
func (t *table) remove(o *offer) (last bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := o.of
	delete(c.offers, o)
	before := len(c.waiting)
	c.waiting = slices.DeleteFunc(c.waiting, func(w *offer) bool { return w == o })
	if len(c.waiting) == before {
		c.active--
	}
	select {
	case far := <-o.taken:
		_ = far.Close() // a pipe that nothing was joined with
	default:
	}
	if len(c.offers) > 0 {
		t.alterLocked(c.GetCluster())
		return false
	}
	delete(t.own, c.GetId())
	t.unnameLocked(place{id: c.GetId()}, c.AgentConnection)
	return true
}

// take gives a waiting stream of a connection the end of a pipe to carry.
func (t *table) take(id uint64, of Cluster, far *end) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.own[id]
	switch {
	case c == nil || c.GetCluster() != of.Name || c.GetClusterUid() != of.UID:
		return errGone
	case c.active >= t.limits.active:
		return errTooMany
	case len(c.waiting) == 0:
		return errBusy
	}
	o := c.waiting[len(c.waiting)-1]
	c.waiting = c.waiting[:len(c.waiting)-1]
	c.active++
	o.taken <- far // it has room: a stream is taken once
	return nil
}

// evict ends the streams for which there is a reason, and says how many they are. Reasons
// are asked for while nobody waits for the table.
func (t *table) evict(reason func(*offer) error) (evicted int) {
	for _, o := range t.offers() {
		err := reason(o)
		if err == nil {
			continue
		}
		select {
		case o.evicted <- err:
			evicted++
		default: // it has a reason already
		}
	}
	return evicted
}

// offers are all streams of agents.
func (t *table) offers() []*offer {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []*offer
	for _, c := range t.own {
		out = slices.AppendSeq(out, maps.Keys(c.offers))
	}
	return out
}

// learn takes in what a node says of its connections.
func (t *table) learn(server string, added []*pmpb.AgentConnection, removed []uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.peers[server] == nil {
		t.peers[server] = map[uint64]*known{}
	}
	for _, id := range removed {
		t.dropLocked(server, id)
	}
	for _, c := range added {
		t.dropLocked(server, c.GetId())
		t.peers[server][c.GetId()] = &known{AgentConnection: c, heard: t.now()}
		t.nameLocked(place{server, c.GetId()}, c)
	}
}

// forget drops what a node has said.
func (t *table) forget(server string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id := range t.peers[server] {
		t.dropLocked(server, id)
	}
	delete(t.peers, server)
}

func (t *table) dropLocked(server string, id uint64) {
	if c := t.peers[server][id]; c != nil {
		delete(t.peers[server], id)
		t.unnameLocked(place{server, id}, c.AgentConnection)
	}
}

// local gives the connections to this node by id, and a channel that is closed when
// that may have changed.
func (t *table) local() (map[uint64]*pmpb.AgentConnection, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make(map[uint64]*pmpb.AgentConnection, len(t.own))
	for id, c := range t.own {
		out[id] = c.AgentConnection
	}
	return out, t.changed
}

// counts gives the connections to this node and their streams.
func (t *table) counts() (connections, waiting, active int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.own {
		connections, waiting, active = connections+1, waiting+len(c.waiting), active+c.active
	}
	return connections, waiting, active
}

// route is a way to an agent.
type route struct {
	// server has the connection; empty is this node.
	server string
	*pmpb.AgentConnection
	// heard is since when this node knows of it.
	heard time.Time
}

// routes gives the ways to a cluster, the best first: the newest instance, and of its
// connections the newest, since an older one may be broken and not known to be so. The
// channel is closed when they may have changed. Without a UID they are those to all
// clusters of the name, and without a name to all there are.
func (t *table) routes(to Cluster) ([]route, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if to.Name == "" {
		var out []route
		for name := range t.named {
			out = t.collectLocked(out, Cluster{Name: name})
		}
		return inOrder(out), t.changed
	}
	if t.waiting[to.Name] == nil {
		t.waiting[to.Name] = make(chan struct{})
	}
	return inOrder(t.collectLocked(nil, to)), t.waiting[to.Name]
}

func (t *table) collectLocked(out []route, to Cluster) []route {
	for at, c := range t.named[to.Name] {
		if to.UID != "" && c.GetClusterUid() != to.UID {
			continue
		}
		heard := c.GetSince().AsTime()
		if at.server != "" {
			heard = t.peers[at.server][at.id].heard
		}
		out = append(out, route{server: at.server, AgentConnection: c, heard: heard})
	}
	return out
}

func inOrder(routes []route) []route {
	slices.SortFunc(routes, func(a, b route) int {
		return cmp.Or(
			strings.Compare(b.GetInstance(), a.GetInstance()),
			cmp.Compare(b.GetConnection(), a.GetConnection()),
			strings.Compare(a.server, b.server),
			cmp.Compare(a.GetId(), b.GetId()),
		)
	})
	return routes
}
