package agent

import (
	"net"
	"sync"

	"google.golang.org/grpc"

	"oaas.io/control-plane/proto/oaaspb"
)

// services is what a manager serves.
type services interface {
	oaaspb.DeploymentServiceServer
	oaaspb.AgentServiceServer
	oaaspb.CrmInfoServiceServer
	oaaspb.HealthServiceServer
}

// endpoint is a listener and what serves it.
type endpoint struct {
	listener *listener
	// stop ends what serves.
	stop func()
	done chan struct{}
	err  error
}

// serve answers on a listener. Without services connections are accepted and nothing is ever said on them.
func serve(l net.Listener, s services) *endpoint {
	e := &endpoint{listener: &listener{Listener: l, open: map[*conn]bool{}}, done: make(chan struct{})}
	answer := e.mute
	if s != nil {
		server := grpc.NewServer()
		oaaspb.RegisterDeploymentServiceServer(server, s)
		oaaspb.RegisterAgentServiceServer(server, s)
		oaaspb.RegisterCrmInfoServiceServer(server, s)
		oaaspb.RegisterHealthServiceServer(server, s)
		answer, e.stop = func() error { return server.Serve(e.listener) }, server.Stop
	}
	go func() {
		defer close(e.done)
		if err := answer(); !e.listener.wasCut() {
			e.err = err
		}
	}()
	return e
}

// mute accepts connections and keeps them.
func (e *endpoint) mute() error {
	for {
		if _, err := e.listener.Accept(); err != nil {
			return err
		}
	}
}

func (e *endpoint) close() error {
	e.listener.cut()
	if e.stop != nil {
		e.stop()
	}
	<-e.done
	return e.err
}

// listener knows its connections. A server that is stopped waits for those that have not said anything yet, for minutes.
type listener struct {
	net.Listener

	mu    sync.Mutex
	open  map[*conn]bool
	ended bool
}

type conn struct {
	net.Conn
	of *listener
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c := &conn{accepted, l}
	if l.ended {
		_ = accepted.Close() // nothing was said on it
	} else {
		l.open[c] = true
	}
	return c, nil
}

func (l *listener) wasCut() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ended
}

// cut closes the listener and all connections.
func (l *listener) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	_ = l.Close() // whoever serves is told by the end of Accept
	for c := range l.open {
		_ = c.Conn.Close() // it is meant to be cut off
	}
	clear(l.open)
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.of.mu.Lock()
	delete(c.of.open, c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}
