package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// lockedBuffer is a log that is written and read at once.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// What is no request is counted, and told of once per peer, although no handler sees
// it; what is merely over is not.
func TestRefusedConnections(t *testing.T) {
	log := &lockedBuffer{}
	h := newHarness(t, func(h *harness) {
		h.opts.MaxHeaderBytes = 4 << 10
		h.opts.ReadHeaderTimeout, h.opts.IdleTimeout = 100*time.Millisecond, 100*time.Millisecond
		h.opts.Logger = hclog.New(&hclog.LoggerOptions{Output: log, Level: hclog.Warn})
	})
	base := serve(t, h)
	const good = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
	// say sends a text and waits until the server closes the connection.
	say := func(text string, half bool) {
		t.Helper()
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, text) // the server may have enough before the end
		if half {
			_ = conn.(*net.TCPConn).CloseWrite()
		}
		_, _ = io.Copy(io.Discard, conn) // an end or a reset, both will do
	}
	counted := func() string {
		var out []string
		for _, why := range []string{refusedProtocol, refusedHeader, refusedLate} {
			out = append(out, fmt.Sprintf("%s: %v", why, testutil.ToFloat64(h.server.metrics.refused.WithLabelValues(why))))
		}
		return strings.Join(out, ", ")
	}
	for _, tt := range []struct {
		name, text string
		half       bool
		want       [3]int // protocol, header, late: in all
	}{
		{name: "nothing, and an end", half: true},
		{name: "a request, and an end", text: good, half: true},
		{name: "a request, and silence", text: good},
		{name: "a refused request", text: "GET /nothing/here HTTP/1.1\r\nHost: x\r\n\r\n"},
		{name: "random bytes", text: "\x00\xff\x8a\x13\r\n\r\n", want: [3]int{1, 0, 0}},
		{name: "a TLS hello", text: "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03\n\n", want: [3]int{2, 0, 0}},
		{name: "a request, and noise", text: good + "\x00\xff\r\n\r\n", want: [3]int{3, 0, 0}},
		{name: "a long header", text: "GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("a", 64<<10), want: [3]int{3, 1, 0}},
		{name: "half a header", text: "GET / HTTP/1.1\r\nHost", want: [3]int{3, 1, 1}},
		{name: "half a header and no more", text: "GET / HTTP/1.1\r\nHost", half: true, want: [3]int{4, 1, 1}},
		{name: "silence", want: [3]int{4, 1, 2}},
		{name: "a request, and half a one", text: good + "GET /", want: [3]int{4, 1, 3}},
	} {
		say(tt.text, tt.half)
		want := fmt.Sprintf("%s: %d, %s: %d, %s: %d", refusedProtocol, tt.want[0], refusedHeader, tt.want[1], refusedLate, tt.want[2])
		// The connection is closed a moment before it is counted.
		soon(t, tt.name, func() error {
			if have := counted(); have != want {
				return errors.New(have + ", want " + want)
			}
			return nil
		})
	}
	if lines := strings.Count(log.String(), "refused a connection"); lines != 3 || !strings.Contains(log.String(), "peer=127.0.0.1") {
		t.Errorf("%d lines for one peer and three reasons: %s", lines, log)
	}
	if resp, _ := fetch(t, client(t), http.MethodGet, base+"/health", nil); resp.StatusCode != http.StatusOK {
		t.Errorf("afterwards: %d", resp.StatusCode)
	}
}

func soon(t *testing.T, what string, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for err := check(); err != nil; err = check() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, err)
		}
	}
}
