package raftstore

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func testLayer(t *testing.T, serverID, clusterID string) (*streamLayer, *metrics) {
	t.Helper()
	m, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	l := listen(t, "127.0.0.1:0")
	s := newStreamLayer(l, l.Addr().String(), serverID, dialTCP, func() string { return clusterID }, testLogger(serverID), m)
	t.Cleanup(func() { _ = s.Close() })
	return s, m
}

// Heartbeats must arrive where all other messages do, whatever handler Raft
// installs for them.
func TestHeartbeatsGoThroughTheMainLoop(t *testing.T) {
	a, _ := testLayer(t, "A", "")
	b, _ := testLayer(t, "B", "")
	ta, tb := newTransport(a, testTiming, testLogger("a")), newTransport(b, testTiming, testLogger("b"))
	t.Cleanup(func() { closeTransport(ta); closeTransport(tb) })
	tb.SetHeartbeatHandler(func(raft.RPC) { t.Error("the shortcut was taken") })
	heartbeat := &raft.AppendEntriesRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: 3, ID: []byte("A"), Addr: []byte("a")}, Term: 1,
	}
	sent := make(chan error, 1)
	go func() {
		var resp raft.AppendEntriesResponse
		sent <- ta.AppendEntries("B", raft.ServerAddress(b.Addr().String()), heartbeat, &resp)
	}()
	select {
	case rpc := <-tb.Consumer():
		rpc.Respond(&raft.AppendEntriesResponse{Term: 1, Success: true}, nil)
	case <-time.After(patience):
		t.Fatal("no message")
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if _, ok := ta.(raft.WithPreVote); !ok {
		t.Error("pre-vote is lost")
	}
	if _, ok := ta.(raft.WithClose); !ok {
		t.Error("closing is lost")
	}
}

// A message for a server is not taken by another one at its address.
func TestMessagesAreForOneServer(t *testing.T) {
	a, _ := testLayer(t, "A", "")
	b, m := testLayer(t, "B", "")
	ta, tb := newTransport(a, testTiming, testLogger("a")), newTransport(b, testTiming, testLogger("b"))
	t.Cleanup(func() { closeTransport(ta); closeTransport(tb) })
	var resp raft.RequestVoteResponse
	err := ta.RequestVote("the one before B", raft.ServerAddress(b.Addr().String()), &raft.RequestVoteRequest{}, &resp)
	if err == nil {
		t.Error("a vote was asked of another server")
	}
	select {
	case <-tb.Consumer():
		t.Error("the message arrived")
	default:
	}
	if got := testutil.ToFloat64(m.refused.WithLabelValues("another server meant")); got != 1 {
		t.Errorf("refusals = %v", got)
	}
	if _, err := a.Dial("127.0.0.1:1", time.Second); err == nil {
		t.Error("dialled without saying which server is meant")
	}
}

func TestStreamLayerRefuses(t *testing.T) {
	s, m := testLayer(t, "S", "own")
	for name, tc := range map[string]struct {
		sent   []byte
		reason string
	}{
		"noise":           {bytes.Repeat([]byte{0xff}, 4096), "no valid greeting"},
		"http":            {[]byte("GET / HTTP/1.1\r\n\r\n"), "no valid greeting"},
		"nothing":         {nil, "no valid greeting"},
		"half a greeting": {greeting{"own", "S"}.encode()[:15], "no valid greeting"},
		"another cluster": {greeting{"other", "S"}.encode(), "another cluster"},
		"another server":  {greeting{"own", "T"}.encode(), "another server meant"},
	} {
		t.Run(name, func(t *testing.T) {
			before := testutil.ToFloat64(m.refused.WithLabelValues(tc.reason))
			conn, err := net.Dial("tcp", s.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			_, _ = conn.Write(tc.sent)
			_ = conn.(*net.TCPConn).CloseWrite()
			_ = conn.SetReadDeadline(time.Now().Add(patience))
			if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, net.ErrClosed) {
				t.Errorf("read = %v, want the end of the connection", err)
			}
			eventually(t, "the refusal is counted", func() error {
				if testutil.ToFloat64(m.refused.WithLabelValues(tc.reason)) == before {
					return errors.New("no")
				}
				return nil
			})
		})
	}
	for _, cluster := range []string{"", "own"} {
		conn, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if _, err := conn.Write(greeting{cluster, "S"}.encode()); err != nil {
			t.Fatal(err)
		}
		got, err := s.Accept()
		if err != nil {
			t.Fatalf("a peer of cluster %q is refused: %v", cluster, err)
		}
		_ = got.Close()
	}
}

func TestStreamLayerBoundsConnections(t *testing.T) {
	s, m := testLayer(t, "S", "")
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	for range maxConnections + 1 {
		conn, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	eventually(t, "one too many is refused", func() error {
		if testutil.ToFloat64(m.refused.WithLabelValues("too many connections")) != 1 {
			return errors.New("no")
		}
		return nil
	})
	// Their places are free again once they are gone.
	for _, c := range conns {
		_ = c.Close()
	}
	eventually(t, "a peer gets through", func() error {
		conn, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		_, _ = conn.Write(greeting{"", "S"}.encode())
		select {
		case c := <-s.accepted:
			return c.Close()
		case <-time.After(50 * time.Millisecond):
			return errors.New("not accepted")
		}
	})
}

func FuzzReadGreeting(f *testing.F) {
	f.Add(greeting{"cluster", "server"}.encode())
	f.Add([]byte(preamble))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		g, err := readGreeting(r)
		if err != nil {
			return
		}
		read := data[:len(data)-r.Len()]
		if d := cmp.Diff(read, g.encode()); d != "" {
			t.Errorf("reads other bytes than it writes (-read +written):\n%s", d)
		}
		if _, err := readGreeting(io.LimitReader(bytes.NewReader(read), int64(len(read)-1))); err == nil {
			t.Error("a truncated greeting is accepted")
		}
	})
}
