package gate

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
)

// valve has connections that can be made to stand still. It is a listener too, if it was made of one.
type valve struct {
	net.Listener

	mu sync.Mutex
	// shut is there while the network is lost; it is closed when it is healed.
	shut  chan struct{}
	conns map[*conn]bool
}

func newValve(listener net.Listener) *valve {
	return &valve{Listener: listener, conns: map[*conn]bool{}}
}

// Accept implements net.Listener. A connection that comes while the network is lost is taken from the kernel, which has
// answered already, and stands still like the others.
func (v *valve) Accept() (net.Conn, error) {
	accepted, err := v.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return v.adopt(accepted), nil
}

func (v *valve) adopt(c net.Conn) *conn {
	adopted := &conn{Conn: c, valve: v, closed: make(chan struct{})}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.conns[adopted] = true
	return adopted
}

// close lets nothing through from now on.
func (v *valve) close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.shut == nil {
		v.shut = make(chan struct{})
	}
}

// reopen lets everything through that was held back.
func (v *valve) reopen() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.shut != nil {
		close(v.shut)
		v.shut = nil
	}
}

// wait returns when bytes may pass. It fails when the connection is closed meanwhile.
func (v *valve) wait(closed <-chan struct{}) error {
	for {
		v.mu.Lock()
		shut := v.shut
		v.mu.Unlock()
		if shut == nil {
			return nil
		}
		select {
		case <-shut:
		case <-closed:
			return net.ErrClosed
		}
	}
}

// drain closes what is left.
func (v *valve) drain() {
	v.mu.Lock()
	left := make([]*conn, 0, len(v.conns))
	for c := range v.conns {
		left = append(left, c)
	}
	v.mu.Unlock()
	for _, c := range left {
		_ = c.Close() // it goes either way
	}
}

// conn is a connection that stands still while its valve is shut.
type conn struct {
	net.Conn
	valve  *valve
	once   sync.Once
	closed chan struct{}
}

// Read implements net.Conn. What has arrived is held back while the valve is shut.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if waited := c.valve.wait(c.closed); waited != nil {
		return 0, waited
	}
	return n, err
}

// Write implements net.Conn.
func (c *conn) Write(b []byte) (int, error) {
	if err := c.valve.wait(c.closed); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// Close implements net.Conn.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		close(c.closed)
		c.valve.mu.Lock()
		defer c.valve.mu.Unlock()
		delete(c.valve.conns, c)
	})
	return err
}

// reset breaks the connection as the end of a process does.
func (c *conn) reset() {
	if stream, ok := c.Conn.(*net.TCPConn); ok {
		_ = stream.SetLinger(0) // else it ends in order, which is no worse
	}
	_ = c.Close()
}

// connectionKey finds the connection of a request in its context.
type connectionKey struct{}

func withConnection(ctx context.Context, c net.Conn) context.Context {
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn()
	}
	return context.WithValue(ctx, connectionKey{}, c)
}
