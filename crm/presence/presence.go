package presence

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
)

// API is one resource of an API server.
type API struct {
	// GroupVersion such as "apps/v1".
	GroupVersion string
	// Resource is the plural name.
	Resource string
}

// Optional APIs that the manager makes use of.
var (
	// KnativeServices run functions that scale to zero.
	KnativeServices = API{"serving.knative.dev/v1", "services"}
	// PodMetrics tell autoscalers how busy pods are.
	PodMetrics = API{"metrics.k8s.io/v1beta1", "pods"}
)

// Options of a Watcher.
type Options struct {
	// APIs with the interval at which each is asked for. Required.
	APIs map[API]time.Duration
	// Logger is required.
	Logger hclog.Logger
}

// Watcher knows which of its APIs are there.
type Watcher struct {
	client *discovery.DiscoveryClient
	opts   Options

	mu      sync.Mutex
	known   map[API]bool
	changed chan struct{}
}

// New makes a Watcher. It asks for nothing before Run.
func New(config *rest.Config, opts Options) (*Watcher, error) {
	for api, every := range opts.APIs {
		if every <= 0 {
			return nil, fmt.Errorf("presence of %s: the interval must be positive, got %s", api.GroupVersion, every)
		}
	}
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("presence of APIs: %w", err)
	}
	return &Watcher{client: client, opts: opts, known: map[API]bool{}, changed: make(chan struct{})}, nil
}

// Has reports whether the API is there, as far as is known.
func (w *Watcher) Has(api API) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.known[api]
}

// Known reports whether the API server was heard on the API.
func (w *Watcher) Known(api API) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, known := w.known[api]
	return known
}

// Changed is closed at the next difference.
func (w *Watcher) Changed() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changed
}

// Run asks until ctx ends.
func (w *Watcher) Run(ctx context.Context) {
	var running sync.WaitGroup
	for api, every := range w.opts.APIs {
		running.Go(func() { w.follow(ctx, api, every) })
	}
	running.Wait()
}

func (w *Watcher) follow(ctx context.Context, api API, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		w.ask(ctx, api)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// ask learns whether the API is there. What fails otherwise than with "not found" says
// nothing about it.
func (w *Watcher) ask(ctx context.Context, api API) {
	list, err := w.client.ServerResourcesForGroupVersionWithContext(ctx, api.GroupVersion)
	if err != nil && !apierrors.IsNotFound(err) {
		if ctx.Err() == nil {
			w.opts.Logger.Debug("optional API not known", "api", api.GroupVersion, "error", err)
		}
		return
	}
	found := false
	if err == nil {
		for i := range list.APIResources {
			found = found || list.APIResources[i].Name == api.Resource
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if before, known := w.known[api]; known && before == found {
		return
	}
	w.known[api] = found
	w.opts.Logger.Info("optional API", "api", api.GroupVersion, "resource", api.Resource, "present", found)
	close(w.changed)
	w.changed = make(chan struct{})
}
