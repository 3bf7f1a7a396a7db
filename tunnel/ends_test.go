package tunnel

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// plenty is more than all windows on the way take.
const plenty = 4 << 20

// Whoever closes a connection has said everything before: a server that stops gracefully
// closes one right after the last answer. Nothing of that may be lost, whichever side
// closes, and whether the other one is sending at the time or not.
func TestNothingIsLostAtTheEnd(t *testing.T) {
	for _, dialler := range []string{"pm-0", "pm-1"} { // beside the agent, and through another node
		t.Run("the agent closes first, dialled from "+dialler, func(t *testing.T) {
			p := newPlane(t, 2, patiently)
			p.serve(edge, "i-1", []string{p.node("pm-0").agents}, func(conn net.Conn) { _, _ = conn.Write(make([]byte, plenty)) },
				func(o *AgentOptions) { o.linger = patience })
			conn := p.node(dialler).mustDial(edge)
			go func() { _, _ = io.Copy(conn, endless{}) }()
			if got, err := io.Copy(io.Discard, conn); got != plenty || err != nil {
				t.Errorf("%d bytes of %d came, %v", got, plenty, err)
			}
		})
		t.Run("the dialler closes first, from "+dialler, func(t *testing.T) {
			p := newPlane(t, 2, patiently)
			got := make(chan int64, 1)
			p.serve(edge, "i-1", []string{p.node("pm-0").agents}, func(conn net.Conn) {
				stop := make(chan struct{})
				go func() { defer close(stop); _, _ = io.Copy(conn, endless{}) }()
				n, _ := io.Copy(io.Discard, conn)
				_ = conn.Close()
				<-stop
				got <- n
			})
			conn := p.node(dialler).mustDial(edge)
			if _, err := conn.Write(make([]byte, plenty)); err != nil {
				t.Fatal(err)
			}
			_ = conn.Close()
			if n := <-got; n != plenty {
				t.Errorf("%d bytes of %d came", n, plenty)
			}
		})
	}
}

// patiently waits for the last bytes on a slow machine.
func patiently(o *HubOptions) { o.linger = patience }

// A connection that one side has closed is over within moments, although the other side
// reads nothing of what waits for it and says nothing.
func TestClosedConnectionToStalledAgentEnds(t *testing.T) {
	for _, dialler := range []string{"pm-0", "pm-1"} {
		t.Run(dialler, func(t *testing.T) {
			t.Parallel()
			p := newPlane(t, 2)
			newRaw(t, p.node("pm-0")).welcomed(edge, "i-1")
			conn := p.node(dialler).mustDial(edge)
			fill(t, conn)
			_ = conn.Close()
			eventually(t, "the node is done with it", func() bool {
				_, _, active := p.node("pm-0").hub.table.counts()
				return active == 0
			})
		})
	}
}

// The same for an agent whose connection is closed by its server, while the control
// plane reads nothing.
func TestClosedConnectionToStalledDiallerEnds(t *testing.T) {
	for _, dialler := range []string{"pm-0", "pm-1"} {
		t.Run(dialler, func(t *testing.T) {
			t.Parallel()
			p := newPlane(t, 2)
			e := p.serve(edge, "i-1", []string{p.node("pm-0").agents}, func(conn net.Conn) { fill(t, conn) })
			conn := p.node(dialler).mustDial(edge)
			eventually(t, "the agent is done with it", func() bool {
				_, _, active := p.node("pm-0").hub.table.counts()
				return active == 0 && testutil.ToFloat64(e.metrics.active) == 0
			})
			// What was on its way and is read after all ends with the connection.
			_ = conn.SetReadDeadline(time.Now().Add(patience))
			if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the connection does not end")
			}
		})
	}
}

// fill writes until no more is taken.
func fill(t *testing.T, conn net.Conn) {
	_ = conn.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
	if _, err := io.Copy(conn, endless{}); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("writing without a reader ends with %v", err)
	}
}

// mustDial opens a connection without a look at who answers.
func (n *node) mustDial(to Cluster) net.Conn {
	n.plane.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := n.hub.Dial(ctx, to)
	if err != nil {
		n.plane.t.Fatalf("%s: dial %s: %v", n.id, to, err)
	}
	n.plane.t.Cleanup(func() { _ = conn.Close() })
	return conn
}
