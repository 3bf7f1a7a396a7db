package api

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
)

// What is no request never reaches a handler: net/http answers it by itself, or not
// at all, and tells nobody. So the connection notes what happens to it for as long as
// no handler has its request, and what was refused is told of once it is closed.

type connKey struct{}

func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// noteHandled marks the connections of the requests that come to next.
func noteHandled(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(connKey{}).(*limitedConn); ok {
			c.waiting.Store(false)
			c.idle.Store(false)
		}
		next.ServeHTTP(w, r)
	})
}

// watchConn follows a connection through net/http's states.
func (s *Server) watchConn(conn net.Conn, state http.ConnState) {
	c, ok := conn.(*limitedConn)
	if !ok {
		return
	}
	if state == http.StateIdle {
		// Whoever says nothing more has done nothing wrong.
		c.late.Store(false)
		c.idle.Store(true)
	}
	if state == http.StateClosed {
		if why := c.refusal.Load(); why != nil {
			s.metrics.refused.WithLabelValues(*why).Inc()
			s.tellRefusal("a connection to the HTTP port", c.RemoteAddr().String(), *why, nil)
		}
	}
}

// Why connections are refused.
var (
	refusedLate     = "no request in time"
	refusedHeader   = "header too large"
	refusedProtocol = "not this protocol"
)

// Read notes that the peer began to speak again, or took too long.
func (c *limitedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && c.idle.CompareAndSwap(true, false) {
		c.waiting.Store(true)
	}
	var timeout net.Error
	if err != nil && errors.As(err, &timeout) && timeout.Timeout() {
		c.late.Store(true)
		if c.waiting.Load() {
			c.refusal.CompareAndSwap(nil, &refusedLate)
		}
	}
	return n, err
}

// Write notes that net/http answers by itself.
func (c *limitedConn) Write(p []byte) (int, error) {
	if c.waiting.Load() || c.idle.Load() {
		why := &refusedProtocol
		if bytes.HasPrefix(p, []byte("HTTP/1.1 431")) {
			why = &refusedHeader
		} else if c.late.Load() {
			why = &refusedLate
		}
		c.refusal.Store(why)
	}
	return c.Conn.Write(p)
}
