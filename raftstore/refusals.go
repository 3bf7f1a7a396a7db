package raftstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/stats"
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
			return &guardedConn{Conn: conn, l: l}, nil
		default:
			l.refuse(conn.RemoteAddr(), "too many connections", nil)
			_ = conn.Close()
		}
	}
}

// guardedConn looks at the first bytes that come in: the preface, and the head of
// the SETTINGS frame that must be next (RFC 9113 §3.4).
type guardedConn struct {
	net.Conn
	l    *guardedListener
	head []byte // what has come of them; only the reader uses it
	once sync.Once
}

// frameHead is the length of the head of an HTTP/2 frame.
const frameHead = 9

func (c *guardedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	missing := len(http2Preface) + frameHead - len(c.head)
	if missing == 0 {
		return n, err
	}
	c.head = append(c.head, p[:min(n, missing)]...)
	if !beginsHTTP2(c.head) {
		c.l.refuse(c.RemoteAddr(), "not this protocol", nil)
		return 0, errNotHTTP2
	}
	var timeout net.Error
	if n < missing && errors.As(err, &timeout) && timeout.Timeout() {
		c.l.refuse(c.RemoteAddr(), "no greeting in time", err)
	}
	return n, err
}

var errNotHTTP2 = errors.New("the peer does not speak HTTP/2")

// beginsHTTP2 reports whether a client may go on after head, as far as it has come.
func beginsHTTP2(head []byte) bool {
	k := min(len(head), len(http2Preface))
	if string(head[:k]) != http2Preface[:k] {
		return false
	}
	frame := head[k:]
	if len(frame) < frameHead {
		return true
	}
	const settings, settingSize, maxFrame = 4, 6, 1 << 14
	size := int(frame[0])<<16 | int(frame[1])<<8 | int(frame[2])
	return size <= maxFrame && size%settingSize == 0 && bytes.Equal(frame[3:], []byte{settings, 0, 0, 0, 0, 0})
}

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
	n.refusals.tell("a message", caller(ctx), "another cluster", fmt.Errorf("it is for cluster %.64q", theirs))
	return status.Errorf(codes.FailedPrecondition, "this node belongs to cluster %s, not %s", own, theirs)
}

// callStats counts and tells of the calls to the internal port whose message could
// not be read: one beyond maxMessage, or one that is not of its type.
type callStats struct{ n *Node }

type messageRead struct{}

func (*callStats) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (*callStats) HandleConn(context.Context, stats.ConnStats)                       {}

func (*callStats) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, messageRead{}, new(atomic.Bool))
}

func (c *callStats) HandleRPC(ctx context.Context, s stats.RPCStats) {
	read, ok := ctx.Value(messageRead{}).(*atomic.Bool)
	if !ok {
		return
	}
	switch s := s.(type) {
	case *stats.InPayload:
		read.Store(true)
	case *stats.End:
		if code := status.Code(s.Error); !read.Load() && (code == codes.ResourceExhausted || code == codes.Internal) {
			c.n.m.refusedCalls.WithLabelValues("malformed").Inc()
			c.n.refusals.tell("a message to the internal port", caller(ctx), "malformed", s.Error)
		}
	}
}

// caller gives the address that a call comes from.
func caller(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok {
		return p.Addr.String()
	}
	return "unknown"
}
