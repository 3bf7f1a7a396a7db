package api

import (
	"net"
	"sync"
	"sync/atomic"
)

// limitListener accepts no more than a number of connections at a time. Unlike
// x/net/netutil.LimitListener its connections can be closed for writing alone,
// which net/http needs in order to deliver an answer to a client that is still
// sending.
type limitListener struct {
	net.Listener
	slots chan struct{}
	done  chan struct{}
	once  sync.Once
}

func newLimitListener(ln net.Listener, most int) *limitListener {
	return &limitListener{Listener: ln, slots: make(chan struct{}, most), done: make(chan struct{})}
}

func (l *limitListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	c := &limitedConn{Conn: conn, release: sync.OnceFunc(func() { <-l.slots })}
	c.waiting.Store(true)
	return c, nil
}

// open counts the accepted connections that are not closed. The slot that Accept
// waits with is none of them.
func (l *limitListener) open() int { return max(len(l.slots)-1, 0) }

func (l *limitListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

type limitedConn struct {
	net.Conn
	release func()
	// waiting: net/http is reading a request, no handler has it yet; idle: the last
	// one was answered and nothing has come since.
	waiting, idle atomic.Bool
	// late: reading has met its deadline. That alone is no fault of an idle peer.
	late atomic.Bool
	// refusal is why net/http will give up, as far as reading and writing tell.
	refusal atomic.Pointer[string]
}

func (c *limitedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}

// CloseWrite sends the end of the stream and leaves reading open.
func (c *limitedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
