package crm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/config"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	ctrlmanager "sigs.k8s.io/controller-runtime/pkg/manager"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"oaas.io/control-plane/crm/controller"
	"oaas.io/control-plane/crm/presence"
	"oaas.io/control-plane/crm/server"
)

const (
	leaseName = "oaas-crm"
	// agentName is who tells events about deliveries.
	agentName = "oaas-crm-agent"
	// A standby sees a renewal up to retryPeriod times 2.2 late, and that the lease
	// has run out as much later again: with these, it works 19 s after the leader was
	// killed at the latest. The leader stops well before the lease runs out.
	leaseDuration = 10 * time.Second
	renewDeadline = 7 * time.Second
	retryPeriod   = 2 * time.Second

	minRestartDelay = time.Second
	maxRestartDelay = 15 * time.Second
	shutdownTimeout = 10 * time.Second
	// Classes can run with Knative as soon as its API is there; nothing waits for a
	// metrics server.
	knativeInterval = time.Second
	metricsInterval = 30 * time.Second
)

// manager is one running class runtime manager.
type manager struct {
	opts     Options
	log      hclog.Logger
	scheme   *runtime.Scheme
	probe    *apiProbe
	rights   *rights
	apis     *presence.Watcher
	knative  knativeVersion
	server   *server.Server
	metrics  *controller.Metrics
	registry *prometheus.Registry
}

// Run serves and reconciles until ctx ends. It returns an error only when it
// cannot serve; an API server that is away, at the start or later, is waited for.
// Everything that Run started has ended when it returns.
func Run(ctx context.Context, opts Options) error {
	if err := opts.Validate(); err != nil {
		return err
	}
	m, err := newManager(opts)
	if err != nil {
		return err
	}
	redirectLogs(opts.Logger)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		m.probe.run(ctx)
		return nil
	})
	group.Go(func() error {
		m.apis.Run(ctx)
		return nil
	})
	group.Go(func() error {
		m.knative.follow(ctx, m.apis)
		return nil
	})
	group.Go(func() error {
		if err := m.server.Serve(ctx, opts.Listener); err != nil {
			return fmt.Errorf("serve gRPC on %s: %w", opts.Listener.Addr(), err)
		}
		return nil
	})
	if opts.Tunnel != nil {
		group.Go(func() error {
			if err := m.server.ServeTunnel(ctx, opts.Tunnel); err != nil {
				return fmt.Errorf("serve gRPC to the control plane: %w", err)
			}
			return nil
		})
		group.Go(func() error {
			opts.Tunnel.Run(ctx, m.server.ClusterUID)
			return nil
		})
	}
	if opts.MetricsListener != nil {
		group.Go(func() error { return m.serveMetrics(ctx, opts.MetricsListener) })
	}
	group.Go(func() error {
		m.supervise(ctx)
		return nil
	})
	opts.Logger.Info("serving", "cluster", opts.Name, "namespace", opts.Namespace,
		"grpc", opts.Listener.Addr().String(), "tls", opts.TLS != nil, "version", opts.Version)
	if opts.Serving != nil {
		opts.Serving(ctx)
	}
	err = group.Wait()
	// The transport to the API server is shared by all clients of one
	// configuration, and its idle connections have goroutines.
	m.probe.client.CloseIdleConnections()
	return err
}

func newManager(opts Options) (*manager, error) {
	// The token bucket of the client is there against mistakes; fairness between
	// clients is the API server's own business.
	opts.RESTConfig = rest.CopyConfig(opts.RESTConfig)
	opts.RESTConfig.QPS, opts.RESTConfig.Burst = 400, 800
	if opts.RESTConfig.UserAgent == "" {
		opts.RESTConfig.UserAgent = "oaas-crm/" + opts.Version
	}
	m := &manager{opts: opts, log: opts.Logger, registry: prometheus.NewRegistry()}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, c := range opts.Collectors {
		if err := m.registry.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	var err error
	if m.scheme, err = newScheme(); err != nil {
		return nil, err
	}
	if m.probe, err = newAPIProbe(opts.RESTConfig, opts.Namespace, opts.Logger.Named("probe"), opts.Clock); err != nil {
		return nil, err
	}
	m.rights = newRights(opts.Clock, opts.Logger.Named("rights"))
	if m.metrics, err = controller.NewMetrics(m.registry); err != nil {
		return nil, err
	}
	m.apis, err = presence.New(opts.RESTConfig, presence.Options{
		APIs:   map[presence.API]time.Duration{presence.KnativeServices: knativeInterval, presence.PodMetrics: metricsInterval},
		Logger: opts.Logger.Named("presence"),
	})
	if err != nil {
		return nil, err
	}
	if m.knative.client, err = metadata.NewForConfig(opts.RESTConfig); err != nil {
		return nil, fmt.Errorf("client for the definitions of Knative: %w", err)
	}
	m.server, err = server.New(server.Options{
		ClusterName: opts.Name, Namespace: opts.Namespace, Region: opts.Region, Zone: opts.Zone,
		Labels: opts.Labels, Capabilities: m.capabilities, KnativeVersion: m.knative.get, Availability: opts.Availability, Version: opts.Version,
		TLS: opts.TLS, API: observer{m.probe, m.rights}, Denied: m.rights.denied, Logger: opts.Logger.Named("server"), Registerer: m.registry, Clock: opts.Clock,
	})
	if err != nil {
		return nil, err
	}
	return m, nil
}

// capabilities are what classes can have in this cluster now.
func (m *manager) capabilities() []string {
	var out []string
	if !m.opts.DisableODGM {
		out = append(out, "odgm")
	}
	if !m.opts.DisableKnative && m.apis.Has(presence.KnativeServices) {
		out = append(out, "knative")
	}
	if m.opts.Environment.HPA && m.apis.Has(presence.PodMetrics) {
		out = append(out, "hpa")
	}
	return out
}

var redirectOnce sync.Once

// redirectLogs sends what the Kubernetes libraries log to our log. They keep it
// in globals, so the first manager of a process decides.
func redirectLogs(log hclog.Logger) {
	redirectOnce.Do(func() {
		sink := newLogr(log.Named("kubernetes"))
		ctrllog.SetLogger(sink)
		klog.SetLogger(sink.V(1)) // what is info to the libraries is detail to us
	})
}

// supervise keeps the Kubernetes side running. It ends by itself when leadership
// or a definition is lost; then it is built anew, so that nothing of the old one
// is trusted.
func (m *manager) supervise(ctx context.Context) {
	delay := minRestartDelay
	for {
		started := m.opts.Clock()
		err := m.attempt(ctx)
		if ctx.Err() != nil {
			return
		}
		if m.opts.Clock().Sub(started) > time.Minute {
			delay = minRestartDelay
		}
		m.log.Warn("the Kubernetes side ended and is started again", "error", err, "in", delay.String())
		timer := time.NewTimer(delay)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		delay = min(2*delay, maxRestartDelay)
	}
}

// attempt prepares the cluster and runs the controller until it ends.
func (m *manager) attempt(ctx context.Context) error {
	if err := m.awaitAPI(ctx); err != nil {
		return err
	}
	if err := m.prepare(ctx); err != nil {
		return err
	}
	nodes, err := m.mayWatchNodes(ctx)
	if err != nil {
		return err
	}
	if !nodes {
		m.log.Warn("no right to read nodes: the cluster report has no node counts")
	}
	if m.opts.Environment.Pods.Reserved, err = m.ownAccount(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	mgr, err := m.newControllerManager(ctx)
	if err != nil {
		return err
	}
	counting := &census{cached: mgr.GetClient(), live: mgr.GetAPIReader(), interval: m.opts.CensusInterval, log: m.log.Named("census")}
	if nodes {
		if err := mgr.Add(counting); err != nil {
			return fmt.Errorf("add the census: %w", err)
		}
	}
	ended := make(chan error, 1)
	go func() {
		defer cancel() // nobody waits for the caches of a manager that ended
		ended <- mgr.Start(ctx)
	}()
	detach, err := m.attach(ctx, mgr, nodes, counting)
	if err != nil {
		cancel()
		return errors.Join(err, <-ended)
	}
	defer detach()
	m.log.Info("caches are synced")
	if err := <-ended; err != nil {
		return fmt.Errorf("controller manager: %w", err)
	}
	return errors.New("the controller manager ended")
}

// awaitAPI waits until the probe has reached the API server.
func (m *manager) awaitAPI(ctx context.Context) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for !m.probe.Observe().Ready {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
	return nil
}

// newControllerManager builds what runs until ctx ends.
func (m *manager) newControllerManager(ctx context.Context) (ctrlmanager.Manager, error) {
	cacheOptions, err := controller.CacheOptions(m.opts.Namespace)
	if err != nil {
		return nil, err
	}
	timeout, lease, renew, retry := shutdownTimeout, leaseDuration, renewDeadline, retryPeriod
	again := true // a restart within the process uses the same controller name
	mgr, err := ctrl.NewManager(m.opts.RESTConfig, ctrlmanager.Options{
		Scheme:                        m.scheme,
		Cache:                         cacheOptions,
		NewCache:                      endingWith(ctx),
		Logger:                        newLogr(m.log.Named("kubernetes")),
		Metrics:                       metricsserver.Options{BindAddress: "0"},
		HealthProbeBindAddress:        "0",
		LeaderElection:                m.opts.LeaderElection,
		LeaderElectionID:              leaseName,
		LeaderElectionNamespace:       m.opts.Namespace,
		LeaderElectionReleaseOnCancel: true,
		LeaseDuration:                 &lease,
		RenewDeadline:                 &renew,
		RetryPeriod:                   &retry,
		GracefulShutdownTimeout:       &timeout,
		Controller:                    config.Controller{SkipNameValidation: &again},
	})
	if err != nil {
		return nil, fmt.Errorf("controller manager: %w", err)
	}
	if err := controller.Setup(ctx, mgr, m.controllerOptions()); err != nil {
		return nil, err
	}
	return mgr, nil
}

func (m *manager) controllerOptions() controller.Options {
	return controller.Options{
		Namespace: m.opts.Namespace, Environment: m.opts.Environment, DisableODGM: m.opts.DisableODGM,
		Concurrency: m.opts.Concurrency, ProgressDeadline: m.opts.ProgressDeadline,
		Presence: m.apis, DisableKnative: m.opts.DisableKnative,
		Metrics: m.metrics, Denied: m.rights.forbidden, Clock: m.opts.Clock, Logger: m.log.Named("controller"),
	}
}

// attach waits for the caches and lets the server use them.
func (m *manager) attach(ctx context.Context, mgr ctrlmanager.Manager, nodes bool, counting *census) (func(), error) {
	if nodes {
		if _, err := mgr.GetCache().GetInformer(ctx, &corev1.Node{}); err != nil {
			return nil, fmt.Errorf("watch nodes: %w", err)
		}
	}
	if err := m.awaitCache(ctx, mgr.GetClient()); err != nil {
		return nil, err
	}
	previewer, err := controller.NewPreviewer(mgr.GetClient(), mgr.GetAPIReader(), m.controllerOptions())
	if err != nil {
		return nil, err
	}
	detach, err := m.server.Attach(ctx, server.Backend{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Informers: mgr.GetCache(), Nodes: nodes, Children: previewer, Census: counting,
		Events: mgr.GetEventRecorder(agentName),
	})
	if err != nil {
		return nil, err
	}
	return detach, nil
}

// serveMetrics answers Prometheus and readiness until ctx ends.
func (m *manager) serveMetrics(ctx context.Context, listener net.Listener) error {
	mux := http.NewServeMux()
	gatherers := prometheus.Gatherers{m.registry, withoutProcess{ctrlmetrics.Registry}}
	mux.Handle("GET /metrics", promhttp.HandlerFor(gatherers, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := m.server.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok"))
	})
	httpServer := &http.Server{
		Handler: mux, ReadHeaderTimeout: shutdownTimeout, IdleTimeout: time.Minute,
		ErrorLog: m.log.Named("metrics").StandardLogger(nil),
	}
	ended := make(chan error, 1)
	go func() { ended <- httpServer.Serve(listener) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve metrics on %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := httpServer.Shutdown(stop); err != nil {
		_ = httpServer.Close()
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics on %s: %w", listener.Addr(), err)
	}
	return nil
}
