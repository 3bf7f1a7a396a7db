package api

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"oaas.io/control-plane/registry"
)

// serve runs the server on loopback and gives its URL.
func serve(t *testing.T, h *harness) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- h.server.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return "http://" + ln.Addr().String()
}

func client(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// fetched is what remains of an answer when its body was read.
type fetched struct {
	StatusCode int
	Header     http.Header
}

func fetch(t *testing.T, c *http.Client, method, target string, body io.Reader) (fetched, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, target, body)
	if err != nil {
		t.Fatal(err)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }() // read to its end
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fetched{resp.StatusCode, resp.Header}, string(raw)
}

func TestServeAndStop(t *testing.T) {
	h := shop(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- h.server.Serve(ctx, ln) }()
	base := "http://" + ln.Addr().String()
	c := client(t)
	if resp, body := fetch(t, c, http.MethodGet, base+"/api/v1/packages/shop", nil); resp.StatusCode != 200 || !strings.Contains(body, "Cart.add") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	// A request that waits is answered when the server stops, not cut.
	waiting := whenDeployed(h, 2, cancel)
	resp, body := fetch(t, c, http.MethodPost, base+"/api/v1/deployments?wait=5m", strings.NewReader(change))
	if resp.StatusCode != http.StatusAccepted || !strings.Contains(body, "stopping") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	<-waiting
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// TestKeepAliveSurvivesDeadlines: deadlines of one request must not hit the next
// one on the connection.
func TestKeepAliveSurvivesDeadlines(t *testing.T) {
	h := newHarness(t)
	base, c := serve(t, h), client(t)
	for i := range 3 {
		body := fmt.Sprintf(`{"name":"p%d"}`, i)
		if resp, text := fetch(t, c, http.MethodPost, base+"/api/v1/packages", strings.NewReader(body)); resp.StatusCode != http.StatusCreated {
			t.Errorf("%d %s", resp.StatusCode, text)
		}
		if resp, text := fetch(t, c, http.MethodGet, base+"/api/v1/packages", nil); resp.StatusCode != 200 {
			t.Errorf("%d %s", resp.StatusCode, text)
		}
	}
}

func TestLimits(t *testing.T) {
	h := newHarness(t, func(h *harness) {
		h.opts.MaxHeaderBytes = 8 << 10
		h.opts.MaxBodyBytes = 256 << 10
		h.opts.RequestTimeout = 100 * time.Millisecond
	})
	base, c := serve(t, h), client(t)
	if resp, _ := fetch(t, c, http.MethodGet, base+"/api/v1/packages?name_pattern="+strings.Repeat("a", 20<<10), nil); resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("long request line: %d", resp.StatusCode)
	}
	// Without Content-Length, so that the limit is met while reading.
	endless := io.MultiReader(strings.NewReader(`{"name":"`), io.LimitReader(zeros{}, 1<<20))
	if resp, body := fetch(t, c, http.MethodPost, base+"/api/v1/packages", endless); resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("long body: %d %s", resp.StatusCode, body)
	}
	// A body that never comes ends with the request's time.
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "POST /api/v1/packages HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("stalled body: %d", resp.StatusCode)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '0'
	}
	return len(p), nil
}

// TestLargeBodiesShareAMemoryBudget: a body that does not fit beside the others
// is refused as overload, and its share comes back.
func TestLargeBodiesShareAMemoryBudget(t *testing.T) {
	h := newHarness(t, func(h *harness) { h.opts.MaxBodyBytes, h.opts.MaxBufferedBytes = 1<<20, 1<<20 })
	big := `{"name":` + strings.Repeat(" ", 100<<10) + `"a"}`
	if !h.server.buffered.TryAcquire(1 << 20) {
		t.Fatal("the budget is not free")
	}
	w := h.do(http.MethodPost, "/api/v1/packages", big)
	if p := h.problem(w); w.Code != http.StatusTooManyRequests || !p.Retryable || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	h.server.buffered.Release(1 << 20)
	h.must(http.StatusCreated, http.MethodPost, "/api/v1/packages", big)
	for range 20 {
		h.must(http.StatusConflict, http.MethodPost, "/api/v1/packages", big)
	}
	if !h.server.buffered.TryAcquire(1 << 20) {
		t.Error("shares were not given back")
	}
}

func TestOptions(t *testing.T) {
	h := newHarness(t)
	bad := map[string]func(*Options){
		"Registry":    func(o *Options) { o.Registry = nil },
		"Cluster":     func(o *Options) { o.Cluster = nil },
		"Metrics":     func(o *Options) { o.Metrics = nil },
		"gateway":     func(o *Options) { o.GatewayURL = &url.URL{Scheme: "ftp", Host: "x"} },
		"host":        func(o *Options) { o.GatewayURL = &url.URL{Scheme: "http"} },
		"MaxWait":     func(o *Options) { o.MaxWait = -1 },
		"static file": func(o *Options) { o.StaticDir = filepath.Join(t.TempDir(), "none") },
	}
	for want, change := range bad {
		opts := h.opts
		opts.Metrics = prometheus.NewRegistry()
		change(&opts)
		if s, err := New(opts); err == nil || !strings.Contains(err.Error(), strings.Fields(want)[0]) {
			t.Errorf("%s: %v %v", want, s, err)
		}
	}
}

func TestGateway(t *testing.T) {
	var seen *http.Request
	var seenBody []byte
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r
		seenBody, _ = io.ReadAll(r.Body)
		w.Header().Set("Access-Control-Allow-Origin", "http://elsewhere")
		w.Header().Set("X-Upstream", "yes")
		w.WriteHeader(http.StatusTeapot)
		_, _ = w.Write([]byte("answer"))
	}))
	t.Cleanup(upstream.Close)
	base, err := url.Parse(upstream.URL + "/base/")
	if err != nil {
		t.Fatal(err)
	}
	h := newHarness(t, func(h *harness) { h.opts.GatewayURL, h.opts.MaxBodyBytes = base, 1<<10 })
	server, c := serve(t, h), client(t)
	resp, body := fetch(t, c, http.MethodPut, server+"/api/gateway/api/class/a%2Fb/0/objects/x?q=1&q=2;3", strings.NewReader("hello"))
	if resp.StatusCode != http.StatusTeapot || body != "answer" || resp.Header.Get("X-Upstream") != "yes" {
		t.Errorf("%d %v %s", resp.StatusCode, resp.Header, body)
	}
	if got := resp.Header.Values("Access-Control-Allow-Origin"); len(got) != 1 || got[0] != "*" {
		t.Errorf("Access-Control-Allow-Origin: %q", got)
	}
	if got, want := seen.RequestURI, "/base/api/class/a%2Fb/0/objects/x?q=1&q=2;3"; got != want || string(seenBody) != "hello" || seen.Method != http.MethodPut {
		t.Errorf("upstream saw %s %s %q, want %s", seen.Method, got, seenBody, want)
	}
	resp, body = fetch(t, c, http.MethodPost, server+"/api/gateway/x", io.LimitReader(zeros{}, 2<<10))
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("long body: %d %s", resp.StatusCode, body)
	}
	if resp, _ := fetch(t, c, http.MethodPatch, server+"/api/gateway/x", nil); resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") == "" {
		t.Errorf("PATCH: %d", resp.StatusCode)
	}
	upstream.Close()
	w := h.do(http.MethodGet, "/api/gateway/x", "")
	if p := h.problem(w); w.Code != http.StatusServiceUnavailable || !strings.HasPrefix(p.Error, "Gateway request failed: ") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestGatewayStreams: the first part of an answer arrives before the second is made.
func TestGatewayStreams(t *testing.T) {
	next := make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "first")
		_ = http.NewResponseController(w).Flush()
		<-next
		_, _ = io.WriteString(w, "second")
	}))
	t.Cleanup(upstream.Close)
	base, err := url.Parse(upstream.URL)
	if err != nil {
		t.Fatal(err)
	}
	h := newHarness(t, func(h *harness) { h.opts.GatewayURL = base })
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, serve(t, h)+"/api/gateway/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client(t).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	first := make([]byte, 5)
	if _, err := io.ReadFull(resp.Body, first); err != nil || string(first) != "first" {
		t.Fatalf("%q %v", first, err)
	}
	close(next)
	if rest, err := io.ReadAll(resp.Body); err != nil || string(rest) != "second" {
		t.Errorf("%q %v", rest, err)
	}
}

func TestStatic(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"index.html": "top", "packages/index.html": "packages", "app.js": "js"} {
		file := filepath.Join(dir, "static", name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "secret"), filepath.Join(dir, "static", "link")); err != nil {
		t.Fatal(err)
	}
	h := newHarness(t, func(h *harness) { h.opts.StaticDir = filepath.Join(dir, "static") })
	tests := []struct {
		method, target string
		status         int
		body           string
	}{
		{"GET", "/", 200, "top"}, {"GET", "/index.html", 200, "top"}, {"GET", "/packages/", 200, "packages"}, {"GET", "/app.js", 200, "js"},
		{"GET", "/packages?a=1", 307, ""}, {"GET", "/missing", 404, "top"}, {"GET", "/missing/", 404, "top"},
		{"GET", "/../secret", 404, "top"}, {"GET", "/%2e%2e/secret", 404, "top"}, {"GET", "/..%2fsecret", 404, "top"}, {"GET", "/link", 404, ""},
		{"POST", "/", 405, ""}, {"GET", "/api/v1/missing", 404, ""}, {"GET", "/%00", 404, ""},
	}
	for _, tt := range tests {
		w := h.do(tt.method, tt.target, "")
		if w.Code != tt.status || tt.body != "" && w.Body.String() != tt.body || strings.Contains(w.Body.String(), "secret\n") || w.Body.String() == "secret" {
			t.Errorf("%s %s: %d %s", tt.method, tt.target, w.Code, w.Body)
		}
	}
	if got := h.do("GET", "/packages?a=1", "").Header().Get("Location"); got != "/packages/?a=1" {
		t.Errorf("Location %q", got)
	}
}

// FuzzRequest: no method, path, query or body makes the server panic or answer
// with a server error. What needs a peer or a service that is not there is 501 or 503.
func FuzzRequest(f *testing.F) {
	for _, method := range []string{"GET", "POST", "PUT", "DELETE", "HEAD"} {
		f.Add(method, "/api/v1/packages/shop?limit=1", []byte(shopPackage))
		f.Add(method, "/api/v1/deployments?wait=0s", []byte(shopCart))
		f.Add(method, "/api/v1/deployments/shop.Cart/units?at_index=1", []byte(`{"key":`))
		f.Add(method, "/api/v1/class-runtimes?offset=1&status=x", []byte{0xff, 0x00})
		f.Add(method, "/api/v1/envs/%2f/health?a=%zz", bytes.Repeat([]byte("["), 100))
		f.Add(method, "/api/v1/watch?from=oldest&topics=units:shop.*,audit&format=sse", []byte(nil))
		f.Add(method, "/api/v1/deployments/shop.Cart/rollback", []byte(`{"revision":1}`))
		f.Add(method, "/api/v1/deployments/shop.Cart/rollout/pause", []byte(nil))
		f.Add(method, "/api/v1/deployments/shop.Cart/events?limit=3&env=oaas-1", []byte(nil))
		f.Add(method, "/api/v1/deletions/u?force=true&orphan=true&env=oaas-2", []byte(nil))
		f.Add(method, "/api/v1/operator/audit?before=7&limit=1&action=*", []byte(nil))
	}
	h := shop(f)
	h.server.opts.RequestTimeout = 100 * time.Millisecond
	h.server.opts.MaxWait = 10 * time.Millisecond
	f.Fuzz(func(t *testing.T, method, target string, body []byte) {
		u, err := url.ParseRequestURI(target)
		if err != nil || u.Host != "" || len(method) > 20 {
			return
		}
		// A stream has no end of its own.
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, method, "http://x"+u.RequestURI(), bytes.NewReader(body))
		if err != nil {
			return
		}
		r.RequestURI = u.RequestURI()
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.server.Handler().ServeHTTP(w, r)
		switch w.Code {
		case http.StatusNotImplemented:
		case http.StatusServiceUnavailable:
			if code := h.problem(w).Code; code != codeNotConfigured && code != registry.DeadlineExceeded {
				t.Errorf("%s %s: %s", method, target, w.Body)
			}
		default:
			if w.Code >= http.StatusInternalServerError {
				t.Errorf("%s %s %q: %d %s", method, target, body, w.Code, w.Body)
			}
		}
	})
}

// TestConnectionLimit: the connection over the limit is served once another one
// is closed, and closing the listener frees who waits for a slot.
func TestConnectionLimit(t *testing.T) {
	h := newHarness(t, func(h *harness) { h.opts.MaxConnections = 1 })
	base := serve(t, h)
	get := func() net.Conn {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	read := func(conn net.Conn, within time.Duration) error {
		if err := conn.SetReadDeadline(time.Now().Add(within)); err != nil {
			return err
		}
		_, err := conn.Read(make([]byte, 1))
		return err
	}
	first := get()
	if err := read(first, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	second := get()
	defer func() { _ = second.Close() }()
	if err := read(second, 50*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("over the limit: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := read(second, 10*time.Second); err != nil {
		t.Errorf("after the first was closed: %v", err)
	}
}

// TestDrain: a node that is about to stop answers on, and says that it is time to
// go elsewhere; then it does not wait for clients that have gone.
func TestDrain(t *testing.T) {
	h := shop(t, func(h *harness) { h.opts.DrainTime = time.Hour })
	base, c := serve(t, h), client(t)
	if resp, _ := fetch(t, c, http.MethodGet, base+"/readyz", nil); resp.StatusCode != http.StatusOK {
		t.Fatalf("readyz %d", resp.StatusCode)
	}
	h.server.Drain()
	for range 2 { // the first one comes on the connection that was open before
		resp, body := fetch(t, c, http.MethodGet, base+"/api/v1/packages/shop", nil)
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("while draining: %d %s", resp.StatusCode, body)
		}
	}
	resp, body := fetch(t, c, http.MethodGet, base+"/readyz", nil)
	if resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, "stopping") {
		t.Fatalf("readyz while draining: %d %s", resp.StatusCode, body)
	}
	// All connections were closed by their last answers, so the end of the context
	// in the cleanup ends Serve long before DrainTime is over.
}
