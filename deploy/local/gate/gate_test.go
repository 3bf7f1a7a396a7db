package gate

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 10 * time.Second

// backend is what stands in for an API server. A watch sends a line per word that is put in.
type backend struct {
	*httptest.Server
	words chan string
	seen  atomic.Int32
	token atomic.Value
}

func newBackend(t *testing.T) *backend {
	t.Helper()
	b := &backend{words: make(chan string)}
	b.Server = httptest.NewUnstartedServer(http.HandlerFunc(b.serve))
	b.EnableHTTP2 = true
	b.StartTLS()
	t.Cleanup(b.Close)
	return b
}

func (b *backend) serve(w http.ResponseWriter, r *http.Request) {
	b.seen.Add(1)
	b.token.Store(r.Header.Get("Authorization"))
	if r.URL.Query().Get("watch") == "" {
		_, _ = io.Copy(w, r.Body)
		return
	}
	flush := http.NewResponseController(w)
	_ = flush.Flush()
	for {
		select {
		case word := <-b.words:
			_, _ = fmt.Fprintln(w, word)
			_ = flush.Flush()
		case <-r.Context().Done():
			return
		}
	}
}

func (b *backend) config() *rest.Config {
	return &rest.Config{Host: b.URL, BearerToken: "of the cluster", TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
}

func open(t *testing.T, config *rest.Config) *Gate {
	t.Helper()
	g, err := Start(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

// through is a client of the gate, with HTTP/2 as programs have it.
func through(t *testing.T, g *Gate) *http.Client {
	t.Helper()
	client, err := rest.HTTPClientFor(g.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	return client
}

func ask(ctx context.Context, client *http.Client, method, url, body string) (int, string, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, string(text), err
}

func TestCounts(t *testing.T) {
	b := newBackend(t)
	g := open(t, b.config())
	client := through(t, g)
	for _, r := range []string{
		"GET /api/v1/namespaces/x/pods", "GET /version", "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
		"PATCH /apis/apps/v1/namespaces/x/deployments/one", "POST /apis/events.k8s.io/v1/namespaces/x/events",
		"PATCH /apis/oaas.io/v1alpha1/namespaces/x/classruntimes/one/status",
		"PUT /apis/coordination.k8s.io/v1/namespaces/x/leases/me", "PATCH /apis/apps/v1/namespaces/x/deployments/two?dryRun=All",
	} {
		method, path, _ := strings.Cut(r, " ")
		status, text, err := ask(t.Context(), client, method, g.URL()+path, "body")
		if err != nil || status != http.StatusOK || text != "body" {
			t.Fatalf("%s: %d %q %v", r, status, text, err)
		}
	}
	counts := g.Counts()
	if counts.Reads != 4 || counts.Writes != 3 || counts.LeaseWrites != 1 || counts.Watches != 0 || counts.Refused != 0 {
		t.Errorf("counted %+v", counts)
	}
	if counts.FirstWrite.IsZero() || counts.LastWrite.Before(counts.FirstWrite) || counts.LastLease.IsZero() {
		t.Errorf("times %+v", counts)
	}
	if n := counts.ByRequest["patch classruntimes/status"]; n != 1 {
		t.Errorf("by request: %v", counts.ByRequest)
	}
	if recent := g.Recent(); len(recent) != 3 || !strings.Contains(recent[0], "PATCH /apis/apps/v1/namespaces/x/deployments/one") || !strings.HasSuffix(recent[0], ": 200") {
		t.Errorf("recent writes: %q", recent)
	}
	if got := b.token.Load(); got != "Bearer of the cluster" {
		t.Errorf("the API server is shown %q", got)
	}
	g.Reset()
	if counts := g.Counts(); counts.Reads+counts.Writes+counts.LeaseWrites != 0 || len(g.Recent()) != 0 {
		t.Errorf("after Reset: %+v", counts)
	}
}

func TestClassify(t *testing.T) {
	tests := []struct {
		method, url, content, what string
		kind                       kind
		resumed                    bool
	}{
		{"GET", "/api/v1/nodes", "", "list nodes", kindRead, false},
		{"GET", "/api/v1/namespaces/x", "", "get namespaces", kindRead, false},
		{"GET", "/api/v1/namespaces/x/services/y", "", "get services", kindRead, false},
		{"GET", "/apis/apps/v1/namespaces/x/deployments?watch=true&resourceVersion=7", "", "watch deployments", kindWatch, true},
		{"GET", "/apis/apps/v1/deployments?watch=1&resourceVersion=0", "", "watch deployments", kindWatch, false},
		{"GET", "/apis/apps/v1/deployments?watch=true&resourceVersion=7&sendInitialEvents=true", "", "watch deployments", kindWatch, false},
		{"PATCH", "/apis/apps/v1/namespaces/x/deployments/y", "application/apply-patch+yaml", "apply deployments", kindWrite, false},
		{"PATCH", "/apis/oaas.io/v1/namespaces/x/classruntimes/y/status", "application/merge-patch+json", "patch classruntimes/status", kindWrite, false},
		{"DELETE", "/api/v1/namespaces/x/services/y", "", "delete services", kindWrite, false},
		{"GET", "/apis", "", "get /apis", kindRead, false},
		{"GET", "/", "", "get /", kindRead, false},
	}
	for _, tc := range tests {
		r := httptest.NewRequest(tc.method, tc.url, nil)
		r.Header.Set("Content-Type", tc.content)
		if q := classify(r); q.what != tc.what || q.kind != tc.kind || q.resumed != tc.resumed {
			t.Errorf("%s %s is %q, kind %d, resumed %v", tc.method, tc.url, q.what, q.kind, q.resumed)
		}
	}
}

func TestStrangersAreRefused(t *testing.T) {
	b := newBackend(t)
	g := open(t, b.config())
	config := g.RESTConfig()
	config.BearerToken = "guessed"
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	if status, _, err := ask(t.Context(), client, http.MethodGet, g.URL()+"/version", ""); err != nil || status != http.StatusUnauthorized {
		t.Errorf("answered %d, %v", status, err)
	}
	if n := b.seen.Load(); n != 0 {
		t.Errorf("%d requests came through", n)
	}
}

func TestKubeconfig(t *testing.T) {
	b := newBackend(t)
	g := open(t, b.config())
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := g.WriteKubeconfig(path); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	if status, _, err := ask(t.Context(), client, http.MethodGet, g.URL()+"/version", ""); err != nil || status != http.StatusOK {
		t.Errorf("answered %d, %v", status, err)
	}
}

func TestThrottle(t *testing.T) {
	b := newBackend(t)
	g := open(t, b.config())
	client := through(t, g)
	g.Throttle(1500 * time.Millisecond)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, g.URL()+"/api/v1/namespaces/x/services/y", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusTooManyRequests || response.Header.Get("Retry-After") != "2" {
		t.Errorf("answered %s, Retry-After %q", response.Status, response.Header.Get("Retry-After"))
	}
	if counts := g.Counts(); counts.Refused != 1 || counts.Writes != 1 || !counts.FirstWrite.IsZero() || b.seen.Load() != 0 {
		t.Errorf("counted %+v", counts)
	}
	g.Heal()
	if status, _, err := ask(t.Context(), client, http.MethodGet, g.URL()+"/version", ""); err != nil || status != http.StatusOK {
		t.Errorf("after healing: %d, %v", status, err)
	}
}

// stream begins a watch.
func stream(t *testing.T, client *http.Client, url string) (*bufio.Reader, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	return bufio.NewReader(response.Body), response.StatusCode
}

func TestWatches(t *testing.T) {
	b := newBackend(t)
	g := open(t, b.config())
	client := through(t, g)
	const path = "/api/v1/namespaces/x/pods?watch=true"
	lines, _ := stream(t, client, g.URL()+path+"&resourceVersion=5")
	b.words <- "added"
	// What was written comes while the watch goes on.
	if line, err := lines.ReadString('\n'); err != nil || line != "added\n" {
		t.Fatalf("read %q, %v", line, err)
	}
	g.ExpireWatches()
	if line, err := lines.ReadString('\n'); !errors.Is(err, io.EOF) {
		t.Fatalf("the watch goes on: %q, %v", line, err)
	}
	lines, status := stream(t, client, g.URL()+path+"&resourceVersion=5")
	if text, _ := io.ReadAll(lines); status != http.StatusGone || !strings.Contains(string(text), `"reason":"Expired"`) {
		t.Errorf("answered %d %s", status, text)
	}
	lines, status = stream(t, client, g.URL()+path+"&resourceVersion=5")
	if text, _ := io.ReadAll(lines); status != http.StatusOK || !strings.Contains(string(text), `"type":"ERROR"`) || !strings.Contains(string(text), `"code":410`) {
		t.Errorf("answered %d %s", status, text)
	}
	// One that begins anew is served, and after healing all are.
	lines, _ = stream(t, client, g.URL()+path+"&resourceVersion=5&sendInitialEvents=true")
	b.words <- "anew"
	if line, err := lines.ReadString('\n'); err != nil || line != "anew\n" {
		t.Errorf("read %q, %v", line, err)
	}
	g.ExpireWatches()
	if _, err := lines.ReadString('\n'); !errors.Is(err, io.EOF) {
		t.Errorf("the second watch goes on: %v", err)
	}
	g.Heal()
	lines, _ = stream(t, client, g.URL()+path+"&resourceVersion=5")
	b.words <- "healed"
	if line, err := lines.ReadString('\n'); err != nil || line != "healed\n" {
		t.Errorf("read %q, %v", line, err)
	}
	if counts := g.Counts(); counts.Watches != 5 || counts.Refused != 2 {
		t.Errorf("counted %+v", counts)
	}
}

// While the network is lost nothing is answered, on old connections and on new ones; then what was under way goes on.
func TestLose(t *testing.T) {
	b := newBackend(t)
	g := open(t, b.config())
	client := through(t, g)
	if _, _, err := ask(t.Context(), client, http.MethodGet, g.URL()+"/version", ""); err != nil {
		t.Fatal(err)
	}
	g.Lose()
	for _, c := range []*http.Client{client, through(t, g)} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_, _, err := ask(ctx, c, http.MethodGet, g.URL()+"/version", "")
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("while lost: %v", err)
		}
	}
	seen := b.seen.Load()
	answered := make(chan error, 1)
	go func() {
		_, _, err := ask(t.Context(), client, http.MethodPut, g.URL()+"/late", "body")
		answered <- err
	}()
	select {
	case err := <-answered:
		t.Fatalf("answered while lost: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	if n := b.seen.Load(); n != seen {
		t.Errorf("%d requests came through", n-seen)
	}
	g.Heal()
	select {
	case err := <-answered:
		if err != nil {
			t.Errorf("after healing: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the request was not answered after healing")
	}
}

// An API server that is away is a broken connection, not an answer.
func TestServerAway(t *testing.T) {
	b := newBackend(t)
	g := open(t, b.config())
	client := through(t, g)
	b.Close()
	status, _, err := ask(t.Context(), client, http.MethodPut, g.URL()+"/api/v1/namespaces/x/services/y", "body")
	if err == nil {
		t.Errorf("answered %d", status)
	}
	if counts := g.Counts(); !counts.FirstWrite.IsZero() || counts.Writes == 0 {
		t.Errorf("counted %+v", counts)
	}
}

// Whoever gives up a request keeps the connection, and the requests of others on it.
func TestGivingUpKeepsTheConnection(t *testing.T) {
	b := newBackend(t)
	g := open(t, b.config())
	client := through(t, g)
	lines, _ := stream(t, client, g.URL()+"/api/v1/pods?watch=true")
	ctx, cancel := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, g.URL()+"/api/v1/nodes?watch=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	_ = response.Body.Close()
	// The backend gives words to either watch; the one that was given up may take one with it.
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for range 2 {
			select {
			case b.words <- "on":
			case <-time.After(patience):
			}
		}
	}()
	if line, err := lines.ReadString('\n'); err != nil || line != "on\n" {
		t.Errorf("read %q, %v", line, err)
	}
	<-sent
}
