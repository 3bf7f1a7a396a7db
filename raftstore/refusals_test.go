package raftstore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"

	"oaas.io/control-plane/proto/pmpb"
)

func TestRefusalLog(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(0, 0)
	r := newRefusalLog(hclog.New(&hclog.LoggerOptions{Output: &out}))
	r.now = func() time.Time { return now }
	lines := func() int { return strings.Count(out.String(), "\n") }
	for port := range 50 {
		r.tell("a connection", fmt.Sprintf("192.0.2.1:%d", port), "noise", nil)
	}
	if lines() != 1 || !strings.Contains(out.String(), "192.0.2.1") {
		t.Errorf("one peer is told of %d times: %s", lines(), &out)
	}
	r.tell("a connection", "192.0.2.2:1", "noise", nil)
	r.tell("a connection", "192.0.2.1:1", "another reason", nil)
	if lines() != 3 {
		t.Errorf("other peers and reasons are told of %d times", lines()-1)
	}
	now = now.Add(refusalInterval)
	r.tell("a connection", "192.0.2.1:1", "noise", nil)
	if lines() != 4 || !strings.Contains(out.String(), "not_told_before=49") {
		t.Errorf("after the interval: %s", &out)
	}
	for i := range 10 * maxRefusals {
		r.tell("a connection", fmt.Sprintf("peer %d", i), "noise", nil)
	}
	if len(r.told) > maxRefusals || lines() > maxRefusals+4 {
		t.Errorf("%d peers are remembered, %d lines written", len(r.told), lines())
	}
	now = now.Add(refusalInterval)
	before := lines()
	r.tell("a connection", "a new one", "noise", nil)
	if lines() != before+1 {
		t.Error("old peers keep new ones from being told of")
	}
}

func TestCheckMessage(t *testing.T) {
	config := raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: "a", Address: "b:1"}}})
	entries := func(logs ...*raft.Log) *raft.AppendEntriesRequest {
		return &raft.AppendEntriesRequest{Term: 5, PrevLogEntry: 9, PrevLogTerm: 3, Entries: logs}
	}
	for name, tc := range map[string]struct {
		message any
		ok      bool
	}{
		"heartbeat":          {&raft.AppendEntriesRequest{Term: 5}, true},
		"entries":            {entries(&raft.Log{Index: 10, Term: 3}, &raft.Log{Index: 11, Term: 5, Type: raft.LogConfiguration, Data: config}), true},
		"vote":               {&raft.RequestVoteRequest{}, true},
		"snapshot":           {&raft.InstallSnapshotRequest{SnapshotVersion: 1, Configuration: config, Size: 1}, true},
		"no entry":           {entries(nil), false},
		"gap":                {entries(&raft.Log{Index: 12, Term: 3}), false},
		"twice":              {entries(&raft.Log{Index: 10, Term: 3}, &raft.Log{Index: 10, Term: 3}), false},
		"term of the past":   {entries(&raft.Log{Index: 10, Term: 2}), false},
		"term to come":       {entries(&raft.Log{Index: 10, Term: 6}), false},
		"configuration":      {entries(&raft.Log{Index: 10, Term: 3, Type: raft.LogConfiguration, Data: []byte("noise")}), false},
		"unknown entry":      {entries(&raft.Log{Index: 10, Term: 3, Type: 77}), false},
		"huge entry":         {entries(&raft.Log{Index: 10, Term: 3, Data: make([]byte, maxMessage+1)}), false},
		"snapshot of noise":  {&raft.InstallSnapshotRequest{SnapshotVersion: 1, Configuration: []byte("noise")}, false},
		"snapshot below 0":   {&raft.InstallSnapshotRequest{SnapshotVersion: 1, Configuration: config, Size: -1}, false},
		"snapshot of nobody": {&raft.InstallSnapshotRequest{SnapshotVersion: 1}, false},
	} {
		if err := checkMessage(tc.message); (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A node goes on through everything that can arrive on its two ports.
func TestGarbageOnThePorts(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.nodes[0]
	c.start()
	c.write("k", "before")
	hello := greeting{n.ClusterID(), n.ServerID()}.encode()
	noise := bytes.Repeat([]byte{0xff, 0x00, 0xc1}, 40_000)
	huge := append([]byte{0 /* append entries */, 0x81, 0xa7}, append([]byte("Entries"), 0xdd, 0xff, 0xff, 0xff, 0xff)...)
	snapshot := append([]byte{2 /* install snapshot */, 0x82, 0xaf}, append([]byte("SnapshotVersion"), 1, 0xad)...)
	snapshot = append(snapshot, append([]byte("Configuration"), 0xc4, 2, 0xff, 0xff)...)
	tlsHello := append([]byte{0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03}, make([]byte, 505)...)
	frame := func(head ...byte) []byte { return append([]byte(http2Preface), head...) }
	for _, tc := range []struct {
		name   string
		port   string
		data   []byte
		reason string
	}{
		{"log: noise", n.raftAddr, noise, "no valid greeting"},
		{"log: TLS", n.raftAddr, tlsHello, "no valid greeting"},
		{"log: a greeting that breaks off", n.raftAddr, hello[:len(hello)-3], "no valid greeting"},
		{"log: an array without end", n.raftAddr, append(bytes.Clone(hello), huge...), ""},
		{"log: noise from a member", n.raftAddr, append(bytes.Clone(hello), noise...), ""},
		{"log: a configuration of noise", n.raftAddr, append(bytes.Clone(hello), snapshot...), "malformed"},
		{"internal: noise", n.grpcAddr, noise, "not this protocol"},
		{"internal: TLS", n.grpcAddr, tlsHello, "not this protocol"},
		{"internal: http/1", n.grpcAddr, []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "not this protocol"},
		{"internal: oversized frame", n.grpcAddr, frame(0xff, 0xff, 0xff, 4, 0, 0, 0, 0, 0), "not this protocol"},
		{"internal: another frame first", n.grpcAddr, frame(0, 0, 0, 1, 0, 0, 0, 0, 1), "not this protocol"},
		{"internal: noise after the preface", n.grpcAddr, frame(noise...), "not this protocol"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			count := func() float64 {
				if strings.HasPrefix(tc.name, "log") && tc.reason != "malformed" {
					return testutil.ToFloat64(n.m.refused.WithLabelValues(tc.reason))
				}
				return testutil.ToFloat64(n.m.refusedCalls.WithLabelValues(tc.reason))
			}
			before := count()
			conn, err := net.Dial("tcp", tc.port)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			_ = conn.SetDeadline(time.Now().Add(patience))
			_, _ = conn.Write(tc.data)
			_ = conn.(*net.TCPConn).CloseWrite()
			if _, err := io.Copy(io.Discard, conn); err != nil && isTimeout(err) {
				t.Errorf("the connection stays open: %v", err)
			}
			// The library ends a connection whose message it cannot decode, and counts nothing.
			if tc.reason != "" && count() != before+1 {
				t.Errorf("%q was counted %v times", tc.reason, count()-before)
			}
		})
	}
	conn, err := n.peers.conn(n.grpcAddr)
	if err != nil {
		t.Fatal(err)
	}
	_, err = pmpb.NewPeerServiceClient(conn).CurrentTerm(t.Context(), &pmpb.CurrentTermRequest{ClusterId: newUUID()})
	if err == nil || testutil.ToFloat64(n.m.refusedCalls.WithLabelValues("another cluster")) != 1 {
		t.Errorf("a message of another cluster: %v", err)
	}
	malformed := testutil.ToFloat64(n.m.refusedCalls.WithLabelValues("malformed"))
	for name, call := range map[string]func(out any) error{
		"a message beyond the limit": func(out any) error {
			return conn.Invoke(t.Context(), pmpb.PeerService_CurrentTerm_FullMethodName, &pmpb.CurrentTermRequest{ClusterId: strings.Repeat("x", maxMessage)}, out,
				grpc.MaxCallSendMsgSize(2*maxMessage))
		},
		"a message of noise": func(out any) error {
			return conn.Invoke(t.Context(), pmpb.PeerService_CurrentTerm_FullMethodName, &noise, out, grpc.ForceCodec(rawCodec{}))
		},
	} {
		if err := call(&pmpb.CurrentTermResponse{}); err == nil {
			t.Errorf("%s is taken", name)
		}
		malformed++
		eventually(t, name+" is counted", func() error {
			if got := testutil.ToFloat64(n.m.refusedCalls.WithLabelValues("malformed")); got != malformed {
				return fmt.Errorf("%v, want %v", got, malformed)
			}
			return nil
		})
	}
	// However many clusters one peer claims to be of, it is told of once.
	for range 5 {
		if _, err := pmpb.NewPeerServiceClient(conn).CurrentTerm(t.Context(), &pmpb.CurrentTermRequest{ClusterId: newUUID()}); err == nil {
			t.Error("a message of another cluster is taken")
		}
	}
	claims := 0
	n.refusals.mu.Lock()
	for key := range n.refusals.told {
		if key.reason == "another cluster" {
			claims++
		}
	}
	n.refusals.mu.Unlock()
	if claims != 1 {
		t.Errorf("one peer that claims many clusters is told of %d times", claims)
	}
	c.write("k", "after")
	select {
	case err := <-n.Fatal():
		t.Errorf("the node gave up: %v", err)
	default:
	}
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

// Those who open a connection and say nothing, or say it slowly, hold neither
// port.
func TestSlowPeersOnTheInternalPort(t *testing.T) {
	var mu sync.Mutex
	reasons := map[string]int{}
	inner := listen(t, "127.0.0.1:0")
	l := &guardedListener{Listener: inner, slots: make(chan struct{}, 2), refuse: func(_ net.Addr, reason string, _ error) {
		mu.Lock()
		defer mu.Unlock()
		reasons[reason]++
	}}
	accepted := make(chan net.Conn)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	t.Cleanup(func() { _ = inner.Close(); <-done })
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	slow := dial()
	_, _ = slow.Write([]byte(http2Preface[:5]))
	first := <-accepted
	_ = first.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	buf := make([]byte, 100)
	var err error
	for err == nil {
		_, err = first.Read(buf)
	}
	if !isTimeout(err) {
		t.Errorf("err = %v", err)
	}
	_ = dial()
	second := <-accepted
	third := dial() // there is room for two
	_ = third.SetReadDeadline(time.Now().Add(patience))
	if _, err := third.Read(buf); err == nil || isTimeout(err) {
		t.Errorf("one too many is held: %v", err)
	}
	_ = first.Close()
	_ = first.Close() // gives back one place, not two
	fourth := dial()
	_, _ = fourth.Write([]byte(http2Preface + "frames"))
	good := <-accepted
	_ = good.SetReadDeadline(time.Now().Add(patience))
	got := make([]byte, len(http2Preface)+6)
	if _, err := io.ReadFull(good, got); err != nil || string(got) != http2Preface+"frames" {
		t.Errorf("a peer that speaks the protocol is read as %q, %v", got, err)
	}
	_, _ = second.Close(), good.Close()
	mu.Lock()
	defer mu.Unlock()
	if reasons["too many connections"] != 1 || reasons["no greeting in time"] != 1 || len(reasons) != 2 {
		t.Errorf("refused for %v", reasons)
	}
}

// FuzzPeerMessages sends bytes to the log's port behind a valid greeting: what
// reaches Raft has passed the check, and nothing panics.
func FuzzPeerMessages(f *testing.F) {
	m, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		f.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	layer := newStreamLayer(l, l.Addr().String(), "S", dialTCP, func() string { return "" }, hclog.NewNullLogger(), m)
	trans := newTransport(layer, testTiming, hclog.NewNullLogger())
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case rpc := <-trans.Consumer():
				if err := checkMessage(rpc.Command); err != nil {
					panic(err)
				}
				if rpc.Reader != nil {
					_, _ = io.Copy(io.Discard, rpc.Reader)
				}
				rpc.Respond(&raft.AppendEntriesResponse{}, nil)
			case <-stop:
				return
			}
		}
	}()
	f.Cleanup(func() { close(stop); <-done; closeTransport(trans); _ = layer.Close() })
	f.Add([]byte{})
	f.Add([]byte{0, 0x81, 0xa4, 'T', 'e', 'r', 'm', 5})
	f.Add([]byte{0, 0x81, 0xa7, 'E', 'n', 't', 'r', 'i', 'e', 's', 0x91, 0xc0})
	f.Add([]byte{2, 0x81, 0xa4, 'S', 'i', 'z', 'e', 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			return // out of ports
		}
		defer func() { _ = conn.Close() }()
		_ = conn.SetDeadline(time.Now().Add(patience))
		_, _ = conn.Write(append(greeting{"", "S"}.encode(), data...))
		_ = conn.(*net.TCPConn).CloseWrite()
		if _, err := io.Copy(io.Discard, conn); isTimeout(err) {
			t.Fatal("the connection stays open")
		}
	})
}

// rawCodec sends bytes as they are.
type rawCodec struct{}

func (rawCodec) Name() string                  { return "proto" }
func (rawCodec) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }
func (rawCodec) Unmarshal([]byte, any) error   { return nil }
