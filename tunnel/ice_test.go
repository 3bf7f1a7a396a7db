package tunnel

import (
	"context"
	"net"
	"sync"
)

// ice is a network that can be frozen: nothing is lost and nothing ends, but nothing
// moves either, as with a process that is stopped or a cable that is pulled.
type ice struct {
	mu    sync.Mutex
	water chan struct{} // closed unless it is frozen
	conns map[*slowConn]struct{}
}

func newIce() *ice {
	i := &ice{water: make(chan struct{}), conns: map[*slowConn]struct{}{}}
	close(i.water)
	return i
}

func (i *ice) freeze() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.water = make(chan struct{})
}

func (i *ice) thaw() {
	i.mu.Lock()
	defer i.mu.Unlock()
	select {
	case <-i.water:
	default:
		close(i.water)
	}
}

// cut ends all connections.
func (i *ice) cut() {
	i.mu.Lock()
	var all []*slowConn
	for c := range i.conns {
		all = append(all, c)
	}
	i.mu.Unlock()
	for _, c := range all {
		_ = c.Close() // that is what it is for
	}
}

func (i *ice) state() <-chan struct{} {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.water
}

func (i *ice) through(conn net.Conn) net.Conn {
	c := &slowConn{Conn: conn, ice: i, closed: make(chan struct{})}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.conns[c] = struct{}{}
	return c
}

func (i *ice) dial(ctx context.Context, address string) (net.Conn, error) {
	select {
	case <-i.state():
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return i.through(conn), nil
}

func (i *ice) listener(l net.Listener) net.Listener { return &slowListener{l, i} }

type slowListener struct {
	net.Listener
	ice *ice
}

func (l *slowListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.ice.through(conn), nil
}

type slowConn struct {
	net.Conn
	ice    *ice
	once   sync.Once
	closed chan struct{}
}

func (c *slowConn) wait() error {
	select {
	case <-c.ice.state():
		return nil
	case <-c.closed:
		return net.ErrClosed
	}
}

func (c *slowConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if frozen := c.wait(); frozen != nil {
		return 0, frozen
	}
	return n, err
}

func (c *slowConn) Write(p []byte) (int, error) {
	if err := c.wait(); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

func (c *slowConn) Close() error {
	c.once.Do(func() {
		close(c.closed)
		c.ice.mu.Lock()
		delete(c.ice.conns, c)
		c.ice.mu.Unlock()
	})
	return c.Conn.Close()
}
