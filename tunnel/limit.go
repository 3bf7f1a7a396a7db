package tunnel

import (
	"container/list"
	"net"
	"sync"
)

const (
	// spareConnections are those that the port takes beside the ones of agents: half made,
	// or just about to be closed.
	spareConnections = 256
	// maxTCPOfCluster bounds the TCP connections of the agents of one cluster. What an agent
	// that reads nothing leaves in the buffers of ended streams stays there until its
	// connection is closed.
	maxTCPOfCluster = 16
)

// Limit wraps the listener of the agents' port, so that it has no more connections than
// agents may have. Beyond that a new one takes the place of the oldest of those that no
// agent has proven to be his: strangers who hold connections keep nobody away for longer
// than they need to open that many again. It is to be called once.
func (h *Hub) Limit(l net.Listener) net.Listener {
	p := &port{
		Listener: l, hub: h, slots: make(chan struct{}, h.opts.MaxConnections+spareConnections),
		conns: map[string]*portConn{}, ofCluster: map[string]int{},
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.port = p
	return p
}

// port is a listener that keeps count.
type port struct {
	net.Listener
	hub   *Hub
	slots chan struct{}

	mu sync.Mutex
	// conns are the open connections by where they come from, and strangers those of them
	// that are no cluster's yet, the oldest first.
	conns     map[string]*portConn
	strangers list.List
	ofCluster map[string]int
}

// Accept gives the next connection for which there is room.
func (p *port) Accept() (net.Conn, error) {
	for {
		conn, err := p.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c := p.admit(conn); c != nil {
			return c, nil
		}
		p.refuse(conn)
	}
}

// admit gives a connection a place, that of a stranger if there is no other; nil when all
// are agents'.
func (p *port) admit(conn net.Conn) *portConn {
	for {
		select {
		case p.slots <- struct{}{}:
			c := &portConn{Conn: conn, port: p, clusters: map[string]bool{}}
			p.mu.Lock()
			defer p.mu.Unlock()
			p.conns[conn.RemoteAddr().String()] = c
			c.stranger = p.strangers.PushBack(c)
			return c
		default:
		}
		oldest := p.oldestStranger()
		if oldest == nil {
			return nil
		}
		p.refuse(oldest)
	}
}

func (p *port) oldestStranger() *portConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.strangers.Front()
	if e == nil {
		return nil
	}
	c := e.Value.(*portConn) //nolint:forcetypeassert // nothing else is put there
	p.knownLocked(c)
	return c
}

// knownLocked takes a connection out of the strangers'.
func (p *port) knownLocked(c *portConn) {
	if c.stranger != nil {
		p.strangers.Remove(c.stranger)
		c.stranger = nil
	}
}

func (p *port) refuse(conn net.Conn) {
	p.hub.Refused(conn.RemoteAddr().String(), "", Refuse(reasonLimit, "the port has %d connections already", cap(p.slots)))
	_ = conn.Close() // nothing was said
}

// claim counts a connection as one of a cluster's, and says whether it may be. Behind a
// proxy one may be of several.
func (p *port) claim(remote, cluster string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.conns[remote]
	if c == nil || c.clusters[cluster] {
		return true // it is gone already, or counted
	}
	if p.ofCluster[cluster] >= maxTCPOfCluster {
		return false
	}
	p.knownLocked(c)
	c.clusters[cluster] = true
	p.ofCluster[cluster]++
	return true
}

func (p *port) release(c *portConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if remote := c.RemoteAddr().String(); p.conns[remote] == c {
		delete(p.conns, remote)
	}
	p.knownLocked(c)
	for cluster := range c.clusters {
		if p.ofCluster[cluster]--; p.ofCluster[cluster] == 0 {
			delete(p.ofCluster, cluster)
		}
	}
	<-p.slots
}

// portConn gives its place to another connection when it is closed.
type portConn struct {
	net.Conn
	port *port
	// clusters are those whose agents it carries, guarded by the port's lock.
	clusters map[string]bool
	// stranger is its place among those that are no cluster's.
	stranger *list.Element
	once     sync.Once
}

// Close implements net.Conn.
func (c *portConn) Close() error {
	c.once.Do(func() { c.port.release(c) })
	return c.Conn.Close()
}
