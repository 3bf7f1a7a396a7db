package cluster

import (
	"errors"
	"io"
	"net"
	"time"
)

const (
	// pieceSize is how much of a stream is passed on at a time.
	pieceSize = 16 << 10
	// piecesUnderWay bounds what one direction of a connection holds.
	piecesUnderWay = 64
)

// proxy passes connections to a port of the host on to its server.
func (p *loopPlace) proxy(port int) error {
	listener, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: p.front, Port: port})
	if err != nil {
		return err
	}
	p.net.mu.Lock()
	p.proxies = append(p.proxies, listener)
	p.net.mu.Unlock()
	p.net.serving.Go(func() {
		for {
			conn, err := listener.AcceptTCP()
			if err != nil {
				return
			}
			p.net.serving.Go(func() { p.connect(conn, port) })
		}
	})
	return nil
}

// connect serves one connection until both of its directions have ended.
func (p *loopPlace) connect(client *net.TCPConn, port int) {
	l := p.net
	if !l.adopt(client) {
		return
	}
	defer l.drop(client)
	there := pair{l.owner(client), p.name}
	if !l.pass(there, port) {
		return
	}
	server, err := net.DialTCP("tcp4", nil, &net.TCPAddr{IP: p.real, Port: port})
	if err != nil {
		// As without a proxy, the one who connects is refused.
		_ = client.SetLinger(0)
		return
	}
	if !l.adopt(server) {
		return
	}
	defer l.drop(server)
	back := make(chan struct{})
	go func() {
		defer close(back)
		(&stream{l, pair{there.to, there.from}, port, server, client}).run()
	}()
	(&stream{l, there, port, client, server}).run()
	<-back
}

// adopt remembers a connection. It reports false, and closes it, when the network has ended.
func (l *loopback) adopt(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = c.Close() // nothing was said on it
		return false
	}
	l.conns[c] = true
	return true
}

func (l *loopback) drop(c net.Conn) {
	_ = c.Close() // both of its directions have ended
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// stream is one direction of a connection.
type stream struct {
	net      *loopback
	way      pair
	port     int
	from, to *net.TCPConn
}

// piece is a part of a stream that is under way.
type piece struct {
	due  time.Time
	data []byte
	err  error
}

// run passes on what is said, and at last how it ended.
func (s *stream) run() {
	pieces := make(chan piece, piecesUnderWay)
	done := make(chan struct{})
	go func() {
		defer close(pieces)
		s.read(pieces, done)
	}()
	s.write(pieces)
	close(done)
	for range pieces {
		// What was read meanwhile has nobody to go to; then the reader has ended.
	}
}

func (s *stream) read(pieces chan<- piece, done <-chan struct{}) {
	var due, free time.Time
	for {
		buffer := make([]byte, pieceSize)
		n, err := s.from.Read(buffer)
		now := time.Now()
		delay, transmission := s.net.shapes(s.way, s.port, n)
		if free.Before(now) {
			free = now
		}
		free = free.Add(transmission)
		if at := free.Add(delay); at.After(due) {
			due = at
		}
		select {
		case pieces <- piece{due, buffer[:n], err}:
		case <-done:
			return
		}
		if err != nil {
			return
		}
	}
}

func (s *stream) write(pieces <-chan piece) {
	for p := range pieces {
		if !s.net.wait(p.due) || !s.net.pass(s.way, s.port) {
			s.reset()
			return
		}
		if len(p.data) > 0 {
			if _, err := s.to.Write(p.data); err != nil {
				s.reset()
				return
			}
			s.net.count(s.way, len(p.data))
		}
		switch {
		case errors.Is(p.err, io.EOF):
			_ = s.to.CloseWrite() // the other direction goes on
			return
		case p.err != nil:
			s.reset()
			return
		}
	}
}

// reset ends both directions.
func (s *stream) reset() {
	for _, c := range []*net.TCPConn{s.from, s.to} {
		_ = c.SetLinger(0)
		_ = c.Close() // it is meant to break
	}
}
