package crm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/rest"

	"oaas.io/control-plane/crm/server"
)

const (
	probeInterval = 2 * time.Second
	// troubledInterval is that while the namespace is not there: what waits for it
	// waits no longer than that when it is back.
	troubledInterval = 500 * time.Millisecond
	// deniedInterval is how long an identity that may not read the namespace does not
	// try again.
	deniedInterval = time.Minute
	probeTimeout   = 2 * time.Second
	maxProbeBytes  = 64 << 10
)

var errNotAsked = errors.New("not asked yet")

// apiProbe asks the Kubernetes API server for its version every few seconds.
// One small request that every server answers to every identity is enough to
// tell a server that answers from one that is gone or hangs. A second one asks for the
// namespace, without which nothing can be stored.
type apiProbe struct {
	url       string
	namespace string
	client    *http.Client
	log       hclog.Logger
	now       func() time.Time

	deniedUntil time.Time // of the goroutine that probes

	mu    sync.Mutex
	state server.APIState
}

func newAPIProbe(config *rest.Config, namespace string, log hclog.Logger, now func() time.Time) (*apiProbe, error) {
	shared, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("http client for the Kubernetes API server: %w", err)
	}
	client := *shared // may be http.DefaultClient, whose timeout is not ours to set
	client.Timeout = probeTimeout
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("url of the Kubernetes API server: %w", err)
	}
	return &apiProbe{
		url:       strings.TrimSuffix(base.String(), "/"),
		namespace: namespace,
		client:    &client,
		log:       log,
		now:       now,
		state:     server.APIState{Err: errNotAsked},
	}, nil
}

// Observe implements server.APIObserver.
func (p *apiProbe) Observe() server.APIState {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

// run probes until ctx ends.
func (p *apiProbe) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		p.probe(ctx)
		interval := probeInterval
		if p.Observe().Problem != nil {
			interval = troubledInterval
		}
		timer.Reset(interval)
	}
}

func (p *apiProbe) probe(ctx context.Context) {
	began := time.Now()
	text, err := p.askVersion(ctx)
	took := time.Since(began)
	var problem error
	if err == nil {
		problem, err = p.askNamespace(ctx)
	}
	if ctx.Err() != nil {
		return
	}
	p.mu.Lock()
	before := p.state
	if err != nil {
		p.state.Ready, p.state.Problem, p.state.Err = false, nil, err
	} else {
		p.state = server.APIState{Ready: true, Version: text, LastContact: p.now(), Latency: took, Problem: problem}
	}
	p.mu.Unlock()
	switch {
	case err != nil && (before.Ready || errors.Is(before.Err, errNotAsked)):
		p.log.Warn("the Kubernetes API server cannot be reached", "error", err)
	case err == nil && !before.Ready:
		p.log.Info("the Kubernetes API server answers", "version", text)
	}
	switch {
	case problem != nil && before.Problem == nil:
		p.log.Warn("nothing can be stored", "error", problem)
	case err == nil && problem == nil && before.Problem != nil:
		p.log.Info("the namespace is there", "namespace", p.namespace)
	}
}

func (p *apiProbe) askVersion(ctx context.Context) (string, error) {
	info := version.Info{}
	code, err := p.get(ctx, "/version", &info)
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("%s/version answered %s", p.url, http.StatusText(code))
	}
	return info.GitVersion, err
}

// askNamespace says what is the matter with the namespace. An identity that may not
// read it does not learn of it, and neither does one whose API server has other troubles.
func (p *apiProbe) askNamespace(ctx context.Context) (problem, err error) {
	if p.now().Before(p.deniedUntil) {
		return nil, nil
	}
	namespace := corev1.Namespace{}
	code, err := p.get(ctx, "/api/v1/namespaces/"+p.namespace, &namespace)
	switch {
	case err != nil:
		return nil, err
	case code == http.StatusNotFound:
		return fmt.Errorf("the namespace %s does not exist", p.namespace), nil
	case code == http.StatusForbidden, code == http.StatusUnauthorized:
		p.deniedUntil = p.now().Add(deniedInterval)
	case namespace.DeletionTimestamp != nil, namespace.Status.Phase == corev1.NamespaceTerminating:
		return fmt.Errorf("the namespace %s is being deleted", p.namespace), nil
	}
	return nil, nil
}

// get decodes an answer that is OK into out, and gives its status code.
func (p *apiProbe) get(ctx context.Context, path string, out any) (code int, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+path, nil)
	if err != nil {
		return 0, err
	}
	response, err := p.client.Do(request)
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxProbeBytes))
	if err != nil || response.StatusCode != http.StatusOK {
		return response.StatusCode, err
	}
	if err := json.Unmarshal(body, out); err != nil {
		return 0, fmt.Errorf("%s: %w", p.url+path, err)
	}
	return response.StatusCode, nil
}
