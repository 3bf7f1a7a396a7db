package tunnel

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// maxData bounds the bytes of one message. What a stream buffers is bounded by its
// window (windowSize), not by this.
const (
	maxData    = 32 << 10
	maxMessage = maxData + 1<<10
)

// lingerTime is how long what was said before the end of a connection may take to get to
// the other side.
const lingerTime = 5 * time.Second

// errTooLong: a message that holds more than maxData. The library refuses one that is
// longer than maxMessage as a whole.
var errTooLong = errors.New("a message has too many bytes in it")

// errUnread: the connection was closed, and the other side does not read what was said.
var errUnread = errors.New("the connection was closed, and what was sent before is not read")

// pipe gives the two ends of a connection within the process. near is what a user gets;
// far is to be joined with a stream. They buffer nothing, so that whoever does not read
// stops who writes.
func pipe(local, remote string) (near, far *end) {
	a, b := net.Pipe()
	near = &end{Conn: a, local: name(local), remote: name(remote), closed: make(chan struct{})}
	far = &end{Conn: b, local: name(remote), remote: name(local), closed: make(chan struct{}), gone: near.closed}
	near.gone = far.closed
	return near, far
}

// end is one end of a pipe. It says in logs what it connects, and tells that the other
// end was closed: whoever waits for a stream neither reads nor writes, and would not
// notice otherwise.
type end struct {
	net.Conn
	local, remote name

	once   sync.Once
	closed chan struct{}
	// gone is closed with the other end.
	gone <-chan struct{}
}

// Close implements net.Conn.
func (e *end) Close() error {
	e.once.Do(func() { close(e.closed) })
	return e.Conn.Close()
}

// LocalAddr implements net.Conn.
func (e *end) LocalAddr() net.Addr { return e.local }

// RemoteAddr implements net.Conn.
func (e *end) RemoteAddr() net.Addr { return e.remote }

// name is the address of an end of a tunnel.
type name string

// Network implements net.Addr.
func (name) Network() string { return "tunnel" }

// String implements net.Addr.
func (n name) String() string { return string(n) }

// errEnded: the stream has ended; what it says when it is read is why. It is not io.EOF,
// which the library says and which is the end of a connection here.
var errEnded = errors.New("the stream has ended")

// send puts what is read from conn into a stream until either ends. Its error is io.EOF
// when all was put.
func send(conn net.Conn, put func(data []byte) error, sent prometheus.Counter) error {
	buf := make([]byte, maxData)
	for {
		n, err := conn.Read(buf)
		if n > 0 {
			// The stream may keep what it is given.
			err := put(append([]byte(nil), buf[:n]...))
			if errors.Is(err, io.EOF) {
				return errEnded
			}
			if err != nil {
				return err
			}
			count(sent, n)
		}
		if err != nil {
			return err
		}
	}
}

// receive writes what comes from a stream to conn until either ends.
func receive(conn net.Conn, get func() (data []byte, err error), received prometheus.Counter) error {
	for {
		data, err := get()
		if err != nil {
			return err
		}
		if err := deliver(conn, data, received); err != nil {
			return err
		}
	}
}

// deliver writes one message to conn.
func deliver(conn net.Conn, data []byte, received prometheus.Counter) error {
	if len(data) > maxData {
		return errTooLong
	}
	n, err := conn.Write(data)
	count(received, n)
	return err
}

// drop reads a stream to its end, for as much as can have been under way. Of a peer that
// goes on regardless nothing more is read.
func drop(get func() (data []byte, err error)) error {
	for dropped := 0; dropped <= 8*windowSize; {
		data, err := get()
		if err != nil {
			return err
		}
		dropped += len(data)
	}
	return io.ErrClosedPipe
}

// traffic counts bytes; the zero value counts none.
type traffic struct{ sent, received prometheus.Counter }

// count adds to one of its counters.
func count(c prometheus.Counter, bytes int) {
	if c != nil {
		c.Add(float64(bytes))
	}
}

// carrier is a stream that carries the bytes of a connection.
type carrier struct {
	// ctx is that of the stream.
	ctx context.Context
	put func(data []byte) error
	get func() (data []byte, err error)
	// finish says that nothing more is put; the other side ends the stream when it has
	// everything. Nil where the stream ends in that order when the call returns.
	finish func() error
	// linger is how long the last bytes may take, and stop ends whatever goes on.
	linger time.Duration
	stop   <-chan struct{}
}

// splice joins conn with a stream until the connection is over. conn is closed then; what
// carries the bytes ends when the caller has ended the stream.
func splice(conn *end, over carrier, bytes traffic, crew *crew) error {
	received, finished := make(chan error, 1), make(chan struct{})
	receiving := func() {
		err := receive(conn, over.get, bytes.received)
		if over.finish != nil && errors.Is(err, io.ErrClosedPipe) {
			// The end of the stream comes after what nobody wants any more.
			select {
			case <-finished:
				err = drop(over.get)
			case <-over.ctx.Done():
				err = over.ctx.Err()
			}
		}
		received <- err
	}
	if finish := over.finish; finish != nil {
		over.finish = func() error { defer close(finished); return finish() }
	}
	if !crew.start(receiving) {
		_ = conn.Close() // a pipe that nothing was joined with
		return errStopped
	}
	return carried{carrier: over, conn: conn, received: received}.run(bytes, crew)
}

// carried is a connection that a stream carries, which is received already.
type carried struct {
	carrier
	conn *end
	// received gets what has ended that direction.
	received <-chan error
	// evicted gets the reason why the connection has to end.
	evicted <-chan error
}

// run returns when the connection is over, and closes it: when the stream has ended and
// what it brought is delivered, or its user has closed it and the other side has what was
// said before. Neither direction can be relied on to notice, as each may be waiting for
// somebody who does not read; so that there is a limit to how long the last bytes may take.
func (c carried) run(bytes traffic, crew *crew) error {
	defer c.conn.Close() //nolint:errcheck // a pipe of which nothing more is wanted
	sent := make(chan error, 1)
	if !crew.start(func() { sent <- send(c.conn, c.put, bytes.sent) }) {
		return errStopped
	}
	received, gone, broken := c.received, c.conn.gone, c.ctx.Done()
	late := time.NewTimer(c.linger)
	defer late.Stop()
	late.Stop()
	last := sync.OnceFunc(func() { late.Reset(c.linger) })
	for {
		select {
		case err := <-sent:
			switch {
			case !errors.Is(err, io.EOF) && received != nil:
				last() // the stream has ended, and may have brought something before
			case c.finish == nil || !errors.Is(err, io.EOF):
				return err
			default:
				if err := c.finish(); err != nil {
					return err
				}
			}
		case err := <-received:
			if !errors.Is(err, io.ErrClosedPipe) {
				return err
			}
			received = nil // the user has closed it, and may have said something before
		case <-gone:
			gone = nil
			last()
		case <-broken:
			broken = nil
			last()
		case <-late.C:
			if err := c.ctx.Err(); err != nil {
				return err
			}
			return errUnread
		case err := <-c.evicted:
			return err
		case <-c.stop:
			return errStopped
		}
	}
}
