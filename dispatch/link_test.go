//go:build histories

package dispatch_test

import (
	"io"
	"net"
	"sync"
	"testing"
)

// link is a network between the control plane and one cluster. It can be cut, which
// both sides notice, and stalled, which nobody is told.
type link struct {
	listener net.Listener
	to       string

	mu      sync.Mutex
	ended   bool
	conns   map[net.Conn]bool
	stalled chan struct{} // closed when bytes flow
	done    sync.WaitGroup
}

func newLink(t *testing.T, to string) *link {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{listener: ln, to: to, conns: map[net.Conn]bool{}, stalled: make(chan struct{})}
	close(l.stalled)
	l.done.Go(l.accept)
	t.Cleanup(func() {
		l.resume()
		l.mu.Lock()
		l.ended = true
		l.mu.Unlock()
		_ = ln.Close()
		l.cut()
		l.done.Wait()
	})
	return l
}

func (l *link) address() string { return l.listener.Addr().String() }

func (l *link) accept() {
	for {
		near, err := l.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", l.to)
		if err != nil {
			_ = near.Close()
			continue
		}
		if !l.keep(near, far) {
			return
		}
		l.done.Go(func() { l.pump(near, far) })
		l.done.Go(func() { l.pump(far, near) })
	}
}

func (l *link) keep(conns ...net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range conns {
		if l.ended {
			_ = c.Close()
			continue
		}
		l.conns[c] = true
	}
	return !l.ended
}

func (l *link) pump(from, to net.Conn) {
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, c := range []net.Conn{from, to} {
			_ = c.Close()
			delete(l.conns, c)
		}
	}()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		l.mu.Lock()
		flows := l.stalled
		l.mu.Unlock()
		<-flows
		if _, werr := to.Write(buffer[:n]); werr != nil || err != nil {
			_, _ = io.Copy(io.Discard, from) // nothing more is passed on
			return
		}
	}
}

// cut ends all connections; new ones are made.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		_ = c.Close()
	}
}

// stall lets no byte through until resume.
func (l *link) stall() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.stalled:
		l.stalled = make(chan struct{})
	default:
	}
}

func (l *link) resume() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.stalled:
	default:
		close(l.stalled)
	}
}
