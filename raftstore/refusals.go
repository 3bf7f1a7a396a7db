package raftstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// refusalLog tells of refused peers without letting them fill the log: each peer
// once per interval and reason, however often it tries.
type refusalLog struct {
	log hclog.Logger
	now func() time.Time

	mu   sync.Mutex
	told map[refusalKey]*refusal
}

type refusalKey struct{ peer, reason string }

type refusal struct {
	at time.Time
	// since counts the refusals that were not told.
	since int
}

const (
	refusalInterval = time.Minute
	// maxRefusals bounds the peers that are remembered. Beyond it nothing is told
	// before the interval is over for some of them; the counters go on.
	maxRefusals = 256
)

func newRefusalLog(log hclog.Logger) *refusalLog {
	return &refusalLog{log: log, now: time.Now, told: make(map[refusalKey]*refusal)}
}

// TellRefusals gives what tells of refused peers on another port, each once per
// minute and reason. It is safe for concurrent use.
func TellRefusals(log hclog.Logger) func(what, peer, reason string, err error) {
	return newRefusalLog(log).tell
}

// tell logs that something of peer, an address or a name, was refused.
func (r *refusalLog) tell(what, peer, reason string, err error) {
	if host, _, serr := net.SplitHostPort(peer); serr == nil {
		peer = host
	}
	key := refusalKey{peer, reason}
	now := r.now()
	r.mu.Lock()
	have := r.told[key]
	if have != nil && now.Sub(have.at) < refusalInterval {
		have.since++
		r.mu.Unlock()
		return
	}
	since := 0
	if have != nil {
		since = have.since
	} else if len(r.told) >= maxRefusals {
		for k, v := range r.told {
			if now.Sub(v.at) >= refusalInterval {
				delete(r.told, k)
			}
		}
		if len(r.told) >= maxRefusals {
			r.mu.Unlock()
			return
		}
	}
	r.told[key] = &refusal{at: now}
	r.mu.Unlock()
	r.log.Warn("refused "+what, "peer", peer, "reason", reason, "error", err, "not_told_before", since)
}

// checkMessage finds what the library would take for granted in a message and
// answer with a panic, or write to the log, if it is not so.
func checkMessage(command any) error {
	switch m := command.(type) {
	case *raft.AppendEntriesRequest:
		return checkEntries(m)
	case *raft.InstallSnapshotRequest:
		if m.Size < 0 {
			return fmt.Errorf("a snapshot of %d bytes", m.Size)
		}
		if m.SnapshotVersion > 0 {
			_, err := decodeConfiguration(m.Configuration)
			return err
		}
	}
	return nil
}

func checkEntries(m *raft.AppendEntriesRequest) error {
	next, term := m.PrevLogEntry+1, m.PrevLogTerm
	for _, e := range m.Entries {
		switch {
		case e == nil:
			return errors.New("an entry is missing")
		case e.Index != next:
			return fmt.Errorf("entry %d comes where %d should", e.Index, next)
		case e.Term < term || e.Term > m.Term:
			return fmt.Errorf("entry %d is of term %d, after one of term %d, from a leader of term %d", e.Index, e.Term, term, m.Term)
		case len(e.Data) > maxMessage:
			return fmt.Errorf("entry %d has %d bytes", e.Index, len(e.Data))
		}
		switch e.Type {
		case raft.LogCommand, raft.LogNoop, raft.LogBarrier:
		case raft.LogConfiguration:
			if _, err := decodeConfiguration(e.Data); err != nil {
				return fmt.Errorf("entry %d: %w", e.Index, err)
			}
		default:
			return fmt.Errorf("entry %d is of the unknown type %d", e.Index, e.Type)
		}
		next, term = next+1, e.Term
	}
	return nil
}

// maxInternalConnections bounds those to the internal port.
const maxInternalConnections = 512

// http2Preface is what every gRPC client says first.
const http2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// GuardListener wraps the listener of the internal port: connections beyond a
// bound, and those that do not speak the protocol, are refused before gRPC sees
// them, counted, and logged once per peer. Whoever says nothing at all is given
// up by the gRPC server; see ServerOptions.
func (n *Node) GuardListener(l net.Listener) net.Listener {
	return &guardedListener{
		Listener: l, slots: make(chan struct{}, maxInternalConnections),
		refuse: func(peer net.Addr, reason string, err error) {
			n.m.refusedCalls.WithLabelValues(reason).Inc()
			n.refusals.tell("a connection to the internal port", peer.String(), reason, err)
		},
	}
}

type guardedListener struct {
	net.Listener
	slots  chan struct{}
	refuse func(peer net.Addr, reason string, err error)
}

// Accept gives the next connection for which there is room.
func (l *guardedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.slots <- struct{}{}:
			return &guardedConn{Conn: conn, l: l, want: []byte(http2Preface)}, nil
		default:
			l.refuse(conn.RemoteAddr(), "too many connections", nil)
			_ = conn.Close()
		}
	}
}

// guardedConn looks at the first bytes that come in.
type guardedConn struct {
	net.Conn
	l    *guardedListener
	want []byte // what has yet to come; only its reader uses it
	once sync.Once
}

func (c *guardedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if len(c.want) == 0 {
		return n, err
	}
	k := min(n, len(c.want))
	if !bytes.Equal(p[:k], c.want[:k]) {
		c.l.refuse(c.RemoteAddr(), "not this protocol", nil)
		return 0, errNotHTTP2
	}
	c.want = c.want[k:]
	var timeout net.Error
	if len(c.want) > 0 && errors.As(err, &timeout) && timeout.Timeout() {
		c.l.refuse(c.RemoteAddr(), "no greeting in time", err)
	}
	return n, err
}

var errNotHTTP2 = errors.New("the peer does not speak HTTP/2")

// Close gives the connection's place to another one.
func (c *guardedConn) Close() error {
	c.once.Do(func() { <-c.l.slots })
	return c.Conn.Close()
}

// refuseCluster tells of a peer that takes this cluster for another one. It goes by
// where the peer is: what it claims is its own choice, and could be another cluster
// every time.
func (n *Node) refuseCluster(ctx context.Context, theirs, own string) error {
	n.m.refusedCalls.WithLabelValues("another cluster").Inc()
	from := "unknown"
	if p, ok := peer.FromContext(ctx); ok {
		from = p.Addr.String()
	}
	n.refusals.tell("a message", from, "another cluster", fmt.Errorf("it is for cluster %.64q", theirs))
	return status.Errorf(codes.FailedPrecondition, "this node belongs to cluster %s, not %s", own, theirs)
}
