package gate

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// faults are what the gate does instead of passing on.
type faults struct {
	mu sync.Mutex
	// retryAfter is what a throttled request is told; 0 is no throttling.
	retryAfter time.Duration
	expired    bool
	// refusals counts the watches that were refused: every other one is refused in its stream.
	refusals int
	watches  map[*watch]bool
}

// watch is one that is under way.
type watch struct {
	cancel context.CancelFunc
	cut    atomic.Bool
}

// end closes the stream in order: the program sees a watch that is over, as after the server's own timeout.
func (w *watch) end() {
	w.cut.Store(true)
	w.cancel()
}

// watchBody is the stream of a watch.
type watchBody struct {
	io.ReadCloser
	watch *watch
}

// Read implements io.Reader.
func (b *watchBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && b.watch.cut.Load() {
		err = io.EOF
	}
	return n, err
}

// Throttle answers every request with 429 until Heal. Watches that are under way go on, as they do at an API server.
func (g *Gate) Throttle(retryAfter time.Duration) {
	g.faults.mu.Lock()
	defer g.faults.mu.Unlock()
	g.faults.retryAfter = retryAfter
}

// ExpireWatches ends all watches, and refuses until Heal those that go on from a version: with 410 and, every other time,
// with an event that says the same. It can be called again to end the watches that were begun meanwhile.
func (g *Gate) ExpireWatches() {
	g.faults.mu.Lock()
	g.faults.expired = true
	g.faults.mu.Unlock()
	g.cutWatches()
}

// Lose lets nothing through until Heal, in neither direction.
func (g *Gate) Lose() { g.valve.close() }

// Heal ends all faults.
func (g *Gate) Heal() {
	g.faults.mu.Lock()
	g.faults.retryAfter, g.faults.expired = 0, false
	g.faults.mu.Unlock()
	g.valve.reopen()
}

func (g *Gate) enter(w *watch) {
	g.faults.mu.Lock()
	defer g.faults.mu.Unlock()
	g.faults.watches[w] = true
}

func (g *Gate) leave(w *watch) {
	g.faults.mu.Lock()
	defer g.faults.mu.Unlock()
	delete(g.faults.watches, w)
}

func (g *Gate) cutWatches() {
	g.faults.mu.Lock()
	defer g.faults.mu.Unlock()
	for w := range g.faults.watches {
		w.end()
	}
}

// refuse answers a request that is not to pass and gives the status, 0 for one that passes.
func (g *Gate) refuse(w http.ResponseWriter, q *request) int {
	g.faults.mu.Lock()
	retryAfter, expired := g.faults.retryAfter, g.faults.expired && q.resumed
	if expired {
		g.faults.refusals++
	}
	inStream := g.faults.refusals%2 == 0
	g.faults.mu.Unlock()
	switch {
	case retryAfter > 0:
		seconds := max(int((retryAfter+time.Second-1)/time.Second), 1)
		w.Header().Set("Retry-After", strconv.Itoa(seconds))
		answer(w, http.StatusTooManyRequests, failure(http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests, "too many requests, try again later"))
		return http.StatusTooManyRequests
	case expired && inStream:
		answer(w, http.StatusOK, map[string]any{"type": "ERROR", "object": gone()})
		return http.StatusGone
	case expired:
		answer(w, http.StatusGone, gone())
		return http.StatusGone
	}
	return 0
}

func gone() *metav1.Status {
	return failure(http.StatusGone, metav1.StatusReasonExpired, "too old resource version")
}

func failure(code int32, reason metav1.StatusReason, message string) *metav1.Status {
	return &metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure,
		Code: code, Reason: reason, Message: message,
	}
}

// answer writes what an API server would. One that has gone is not told.
func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
