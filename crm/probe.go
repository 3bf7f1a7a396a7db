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
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/rest"

	"oaas.io/control-plane/crm/server"
)

const (
	probeInterval = 2 * time.Second
	probeTimeout  = 2 * time.Second
	maxProbeBytes = 64 << 10
)

var errNotAsked = errors.New("not asked yet")

// apiProbe asks the Kubernetes API server for its version every few seconds.
// One small request that every server answers to every identity is enough to
// tell a server that answers from one that is gone or hangs.
type apiProbe struct {
	url    string
	client *http.Client
	log    hclog.Logger
	now    func() time.Time

	mu    sync.Mutex
	state server.APIState
}

func newAPIProbe(config *rest.Config, log hclog.Logger, now func() time.Time) (*apiProbe, error) {
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
		url:    strings.TrimSuffix(base.String(), "/") + "/version",
		client: &client,
		log:    log,
		now:    now,
		state:  server.APIState{Err: errNotAsked},
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
	ticker := time.NewTicker(probeInterval)
	defer ticker.Stop()
	for {
		p.probe(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (p *apiProbe) probe(ctx context.Context) {
	began := time.Now()
	text, err := p.ask(ctx)
	took := time.Since(began)
	if ctx.Err() != nil {
		return
	}
	p.mu.Lock()
	before := p.state
	if err != nil {
		p.state.Ready, p.state.Err = false, err
	} else {
		p.state = server.APIState{Ready: true, Version: text, LastContact: p.now(), Latency: took}
	}
	p.mu.Unlock()
	switch {
	case err != nil && (before.Ready || errors.Is(before.Err, errNotAsked)):
		p.log.Warn("the Kubernetes API server cannot be reached", "error", err)
	case err == nil && !before.Ready:
		p.log.Info("the Kubernetes API server answers", "version", text)
	}
}

func (p *apiProbe) ask(ctx context.Context) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url, nil)
	if err != nil {
		return "", err
	}
	response, err := p.client.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxProbeBytes))
	if err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s answered %s", p.url, response.Status)
	}
	info := version.Info{}
	if err := json.Unmarshal(body, &info); err != nil {
		return "", fmt.Errorf("%s: %w", p.url, err)
	}
	return info.GitVersion, nil
}
