package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"oaas.io/control-plane/deploy/local/system"
)

const (
	// probeEvery is how often the balancer asks each node whether it is ready.
	probeEvery = 100 * time.Millisecond
	// loadWorkers is the number of writers, and of readers.
	loadWorkers = 4
	// loadEvery is the time between two requests of one worker.
	loadEvery = 40 * time.Millisecond
	// loadDeadline bounds a request, retries included.
	loadDeadline = 30 * time.Second
)

// balancer sends requests to the nodes that say that they are ready, in turn,
// over connections that it keeps: what any load balancer does.
type balancer struct {
	client *http.Client
	nodes  []*system.PM
	ready  []atomic.Bool
	turn   atomic.Uint64
}

func newBalancer(nodes []*system.PM) *balancer {
	b := &balancer{client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4 * loadWorkers}}, nodes: nodes, ready: make([]atomic.Bool, len(nodes))}
	for i := range b.ready {
		b.ready[i].Store(true)
	}
	return b
}

// probe follows the nodes until ctx ends.
func (b *balancer) probe(ctx context.Context) {
	var group sync.WaitGroup
	for i, pm := range b.nodes {
		group.Go(func() {
			ticker := time.NewTicker(probeEvery)
			defer ticker.Stop()
			for {
				b.ready[i].Store(b.answers(ctx, pm.URL()+"/readyz"))
				select {
				case <-ctx.Done():
					return
				case <-ticker.C:
				}
			}
		})
	}
	group.Wait()
}

func (b *balancer) answers(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	response, err := b.client.Do(request)
	if err != nil {
		return false
	}
	_, _ = io.Copy(io.Discard, response.Body) // only the status counts
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// pick gives the next ready node other than not; any node when none is ready.
func (b *balancer) pick(not int) int {
	for range b.nodes {
		i := int(b.turn.Add(1) % uint64(len(b.nodes))) //nolint:gosec // below the number of nodes
		if i != not && b.ready[i].Load() {
			return i
		}
	}
	return (not + 1) % len(b.nodes)
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a *answer) ok() bool { return a.status >= 200 && a.status <= 299 }

func (a *answer) err() error { return fmt.Errorf("%d: %.300s", a.status, a.body) }

// send makes one request, and a second one to another node only if the first
// found nobody listening.
func (b *balancer) send(ctx context.Context, method, path string, body []byte, key string) (*answer, error) {
	i := b.pick(-1)
	got, err := b.sendTo(ctx, i, method, path, body, key)
	if errors.Is(err, syscall.ECONNREFUSED) {
		got, err = b.sendTo(ctx, b.pick(i), method, path, body, key)
	}
	return got, err
}

func (b *balancer) sendTo(ctx context.Context, i int, method, path string, body []byte, key string) (*answer, error) {
	request, err := http.NewRequestWithContext(ctx, method, b.nodes[i].URL()+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		request.Header.Set("Idempotency-Key", key)
	}
	response, err := b.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", b.nodes[i].Name, err)
	}
	defer func() { _ = response.Body.Close() }() // read to its end below
	data, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", b.nodes[i].Name, err)
	}
	return &answer{status: response.StatusCode, header: response.Header, body: data}, nil
}

// sendPatiently does what the answers tell: it repeats what is retryable, with
// the same key, after as long as they say. Without an answer nothing is known,
// which the key makes safe to repeat.
func (b *balancer) sendPatiently(ctx context.Context, method, path string, body []byte, key string) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, loadDeadline)
	defer cancel()
	for {
		got, err := b.send(ctx, method, path, body, key)
		wait := 100 * time.Millisecond
		if err == nil {
			var problem struct {
				Retryable bool `json:"retryable"`
			}
			if got.ok() || json.Unmarshal(got.body, &problem) != nil || !problem.Retryable {
				return got, nil
			}
			if seconds, err := strconv.Atoi(got.header.Get("Retry-After")); err == nil {
				wait = time.Duration(seconds) * time.Second
			}
		}
		select {
		case <-ctx.Done():
			return got, err
		case <-time.After(wait):
		}
	}
}

// load is continuous reading and writing, and what came of it.
type load struct {
	balancer *balancer
	// name begins the keys of the deployments that are written.
	name string
	// patient clients retry as told, with a key.
	patient bool

	stop context.CancelFunc
	done sync.WaitGroup

	mu       sync.Mutex
	requests int
	// written are the acknowledged deployments, with the time of the answer.
	written map[string]time.Time
	failed  []error
}

// startLoad works until the load is ended.
func startLoad(ctx context.Context, s *haStack, name string, patient bool) *load {
	ctx, stop := context.WithCancel(ctx)
	l := &load{balancer: newBalancer(s.system.PMs), name: name, patient: patient, stop: stop, written: map[string]time.Time{}}
	l.done.Go(func() { l.balancer.probe(ctx) })
	for i := range loadWorkers {
		l.done.Go(func() { l.each(ctx, func(n int) { l.write(ctx, fmt.Sprintf("%s-%d-%d", name, i, n)) }) })
		l.done.Go(func() { l.each(ctx, func(int) { l.request(ctx, http.MethodGet, "/api/v1/packages/bench", nil, "") }) })
	}
	return l
}

// end lets what is under way finish.
func (l *load) end() {
	l.stop()
	l.done.Wait()
	l.balancer.client.CloseIdleConnections()
}

func (l *load) each(ctx context.Context, do func(n int)) {
	ticker := time.NewTicker(loadEvery)
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			do(n)
		}
	}
}

func (l *load) write(ctx context.Context, key string) {
	if l.request(ctx, http.MethodPost, "/api/v1/deployments", deploymentBody(key), key) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.written[key] = time.Now()
	}
}

// request is not bound to the time of the load: what was begun is finished.
func (l *load) request(ctx context.Context, method, path string, body []byte, key string) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loadDeadline)
	defer cancel()
	var got *answer
	var err error
	if l.patient {
		got, err = l.balancer.sendPatiently(ctx, method, path, body, key)
	} else {
		got, err = l.balancer.send(ctx, method, path, body, "")
	}
	if err == nil && !got.ok() {
		err = got.err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests++
	if err != nil {
		l.failed = append(l.failed, fmt.Errorf("%s %s at %s: %w", method, path, time.Now().Format(time.TimeOnly+".000"), err))
	}
	return err == nil
}

// pause gives the longest time between two successive acknowledged writes that
// touches the span from one time to another.
func (l *load) pause(from, to time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	var times []time.Time
	for _, at := range l.written {
		times = append(times, at)
	}
	slices.SortFunc(times, time.Time.Compare)
	var longest time.Duration
	for i := 1; i < len(times); i++ {
		if times[i].After(from) && times[i-1].Before(to) {
			longest = max(longest, times[i].Sub(times[i-1]))
		}
	}
	return longest
}
