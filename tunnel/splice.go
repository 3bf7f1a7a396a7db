package tunnel

import (
	"errors"
	"net"

	"github.com/prometheus/client_golang/prometheus"
)

// maxData bounds the bytes of one message. What a stream buffers is bounded by its
// window (windowSize), not by this.
const (
	maxData    = 32 << 10
	maxMessage = maxData + 1<<10
)

// errTooLong: a message that holds more than maxData. The library refuses one that is
// longer than maxMessage as a whole.
var errTooLong = errors.New("a message has too many bytes in it")

// pipe gives the two ends of a connection within the process. near is what a user gets;
// far is to be joined with a stream. They buffer nothing, so that whoever does not read
// stops who writes.
func pipe(local, remote string) (near, far net.Conn) {
	near, far = net.Pipe()
	return &namedConn{Conn: near, local: name(local), remote: name(remote)}, far
}

// namedConn says in logs what it connects.
type namedConn struct {
	net.Conn
	local, remote name
}

func (c *namedConn) LocalAddr() net.Addr  { return c.local }
func (c *namedConn) RemoteAddr() net.Addr { return c.remote }

// name is the address of an end of a tunnel.
type name string

// Network implements net.Addr.
func (name) Network() string { return "tunnel" }

// String implements net.Addr.
func (n name) String() string { return string(n) }

// send puts what is read from conn into a stream until either ends.
func send(conn net.Conn, stream func(data []byte) error, sent prometheus.Counter) error {
	buf := make([]byte, maxData)
	for {
		n, err := conn.Read(buf)
		if n > 0 {
			// The stream may keep what it is given.
			if err := stream(append([]byte(nil), buf[:n]...)); err != nil {
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
func receive(conn net.Conn, stream func() (data []byte, err error), received prometheus.Counter) error {
	for {
		data, err := stream()
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
	count(received, len(data))
	_, err := conn.Write(data)
	return err
}

// traffic counts bytes; the zero value counts none.
type traffic struct{ sent, received prometheus.Counter }

// count adds to one of its counters.
func count(c prometheus.Counter, bytes int) {
	if c != nil {
		c.Add(float64(bytes))
	}
}

// splice joins conn with a stream: it starts what carries the bytes, and returns when
// one direction has ended. conn is closed then; the other direction ends when the
// caller has ended the stream, since one that its peer does not read can only be cut.
func splice(conn net.Conn, put func([]byte) error, get func() ([]byte, error), bytes traffic, crew *crew) error {
	defer conn.Close() //nolint:errcheck // a pipe or a connection of which nothing more is wanted
	ended := make(chan error, 2)
	for _, direction := range []func() error{
		func() error { return send(conn, put, bytes.sent) },
		func() error { return receive(conn, get, bytes.received) },
	} {
		if !crew.start(func() { ended <- direction() }) {
			return errStopped
		}
	}
	return <-ended
}
