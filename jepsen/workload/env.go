package workload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"oaas.io/control-plane/api/client"
	"oaas.io/control-plane/jepsen/history"
)

// Workload is something that users do.
type Workload interface {
	// Name is one of those in package history.
	Name() string
	// Run does it until ctx ends, which is no error. An error means that it could not be
	// done as it was meant, not that the cluster failed.
	Run(ctx context.Context, env *Env) error
}

// All are the workloads, in the order in which they should be started: what only looks
// comes first.
func All() []Workload {
	return []Workload{Probe{}, Watch{}, Register{}, Set{}, Idempotent{}, Sessions{}, Lifecycle{}}
}

// Endpoint is how a node's REST API is reached.
type Endpoint struct {
	// URL is the base, such as http://10.0.0.1:8080.
	URL string
	// Transport sends the requests, the same for the same URL; nil is one of Env's own that
	// keeps connections alive. It must not send anything twice by itself.
	Transport http.RoundTripper
}

// Options describe an Env.
type Options struct {
	Recorder *history.Recorder
	// Nodes are the names of those that can be asked. It is called often, and may tell others
	// each time.
	Nodes func() []string
	// Endpoint of a node, as of now.
	Endpoint func(node string) Endpoint
	// Clusters are the environments to which deployments go. With none, the workloads that
	// need one do nothing.
	Clusters []string
	// Seed of all that is random.
	Seed uint64
	// Processes of a workload; default 8.
	Processes int
	// Rate is how many operations a second a workload begins at most; 0 is no bound.
	Rate float64
	// Timeout of a request. Default 4 s.
	Timeout time.Duration
	// Log is of what went wrong with the harness itself.
	Log hclog.Logger
}

// Validate reports what is missing or out of range.
func (o *Options) Validate() error {
	switch {
	case o.Recorder == nil:
		return errors.New("workload: Recorder is required")
	case o.Nodes == nil || o.Endpoint == nil:
		return errors.New("workload: Nodes and Endpoint are required")
	case o.Processes < 0 || o.Rate < 0 || o.Timeout < 0:
		return fmt.Errorf("workload: Processes %d, Rate %g and Timeout %s must not be negative", o.Processes, o.Rate, o.Timeout)
	}
	return nil
}

// Env is the cluster as users see it. It is safe for concurrent use.
type Env struct {
	options Options
	shared  *shared
}

// shared is what an Env has in common with those that were derived from it.
type shared struct {
	processes atomic.Int64
	values    atomic.Int64

	mu         sync.Mutex
	transports map[string]*http.Transport
	clients    map[string]*client.Client
}

// New makes an Env. Close ends it.
func New(o Options) (*Env, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Processes == 0 {
		o.Processes = 8
	}
	if o.Timeout == 0 {
		o.Timeout = 4 * time.Second
	}
	if o.Log == nil {
		o.Log = hclog.NewNullLogger()
	}
	return &Env{options: o, shared: &shared{transports: map[string]*http.Transport{}, clients: map[string]*client.Client{}}}, nil
}

// Paced is the same Env for a workload with its own number of processes and rate.
func (e *Env) Paced(processes int, rate float64) *Env {
	o := e.options
	o.Processes, o.Rate = processes, rate
	return &Env{options: o, shared: e.shared}
}

// Close closes the connections that are not in use.
func (e *Env) Close() {
	e.shared.mu.Lock()
	defer e.shared.mu.Unlock()
	for _, t := range e.shared.transports {
		t.CloseIdleConnections()
	}
}

// Recorder takes down what happens.
func (e *Env) Recorder() *history.Recorder { return e.options.Recorder }

// Nodes that can be asked.
func (e *Env) Nodes() []string { return e.options.Nodes() }

// Clusters to which deployments go.
func (e *Env) Clusters() []string { return e.options.Clusters }

// endpoint of a node, with a transport.
func (e *Env) endpoint(node string) Endpoint {
	at := e.options.Endpoint(node)
	if at.Transport == nil {
		e.shared.mu.Lock()
		defer e.shared.mu.Unlock()
		t := e.shared.transports[at.URL]
		if t == nil {
			t = &http.Transport{MaxIdleConnsPerHost: 256, IdleConnTimeout: 30 * time.Second, DisableCompression: true}
			e.shared.transports[at.URL] = t
		}
		at.Transport = t
	}
	return at
}

// Client speaks to one node and tries once.
func (e *Env) Client(node string) (*client.Client, error) {
	at := e.endpoint(node)
	e.shared.mu.Lock()
	defer e.shared.mu.Unlock()
	if c := e.shared.clients[at.URL]; c != nil {
		return c, nil
	}
	c, err := client.New(client.Options{
		Servers: []string{at.URL}, HTTPClient: &http.Client{Transport: at.Transport}, RetryFor: -1,
		AttemptTimeout: e.options.Timeout, UserAgent: "oaas-chaos",
	})
	if err != nil {
		return nil, fmt.Errorf("workload: node %s: %w", node, err)
	}
	e.shared.clients[at.URL] = c
	return c, nil
}

// random is the source of the process with that place in a workload.
func (e *Env) random(workload string, place int) *rand.Rand {
	var of uint64
	for _, b := range []byte(workload) {
		of = of*131 + uint64(b)
	}
	return rand.New(rand.NewPCG(e.options.Seed, of<<16|uint64(place))) //nolint:gosec // repeatable on purpose
}
