package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	k8sevents "k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"oaas.io/control-plane/proto/oaaspb"
)

// Defaults of Options.
const (
	DefaultHeartbeatInterval = 5 * time.Second
	DefaultCallBudget        = 10 * time.Second
	DefaultGracePeriod       = 5 * time.Second
)

// APIState is what is known about the Kubernetes API server.
type APIState struct {
	// Ready is true while the API server answers.
	Ready bool
	// Version is what the server said of itself last, such as "v1.37.2"; empty
	// until it was reached once.
	Version string
	// Latency of the last answer.
	Latency time.Duration
	// LastContact is when it answered last; zero when it never did.
	LastContact time.Time
	// Err says why it is not ready.
	Err error
	// Problem says why nothing can be stored although the API server answers, such as
	// that the namespace does not exist.
	Problem error
}

// Usable reports why the manager cannot do its work with the API server, or nil.
func (s APIState) Usable() error {
	if !s.Ready {
		return fmt.Errorf("the Kubernetes API server cannot be reached: %w", cmpErr(s.Err))
	}
	return s.Problem
}

// APIObserver tells whether the Kubernetes API server can be reached.
type APIObserver interface {
	Observe() APIState
}

// Options configures a Server.
type Options struct {
	// ClusterName is the environment name. Required.
	ClusterName string
	// Namespace holds the class runtimes. Required.
	Namespace string
	// Region, Zone and Labels say where the cluster is.
	Region, Zone string
	Labels       map[string]string
	// Capabilities are what classes can have in the cluster now: "odgm", "knative", "hpa".
	// nil is none.
	Capabilities func() []string
	// KnativeVersion is that of Knative Serving, empty for none; nil is none.
	KnativeVersion func() string
	// Availability is the declared availability of the cluster within 0..1; nil
	// when none was declared.
	Availability *float64
	// Version of this program.
	Version string
	// Denied is told of every call that failed because the manager lacks a right; nil tells
	// nobody. It must not block.
	Denied func(err error)
	// API observes the API server. Required.
	API APIObserver
	// TLS makes the port speak TLS only; nil makes it speak without. It is asked anew for
	// every connection, so that certificates can change (GetConfigForClient).
	TLS *tls.Config
	// HeartbeatInterval is after how much silence a watch stream gets a heartbeat.
	HeartbeatInterval time.Duration
	// CallBudget bounds a call whose caller set no deadline.
	CallBudget time.Duration
	// GracePeriod bounds how long running calls may take at shutdown.
	GracePeriod time.Duration
	// Logger gets one line per change and per refused call. Required.
	Logger hclog.Logger
	// Registerer gets the metrics; nil keeps them unregistered.
	Registerer prometheus.Registerer
	// Clock defaults to time.Now.
	Clock func() time.Time
}

// Validate fills in defaults and reports what is missing or out of bounds.
func (o *Options) Validate() error {
	var errs []error
	require := func(ok bool, text string) {
		if !ok {
			errs = append(errs, errors.New(text))
		}
	}
	require(o.ClusterName != "", "ClusterName is required")
	require(o.Namespace != "", "Namespace is required")
	require(o.API != nil, "API is required")
	require(o.Logger != nil, "Logger is required")
	if a := o.Availability; a != nil {
		require(!math.IsNaN(*a) && *a >= 0 && *a <= 1, "Availability must be within 0..1")
	}
	for _, d := range []struct {
		value    *time.Duration
		fallback time.Duration
		name     string
	}{
		{&o.HeartbeatInterval, DefaultHeartbeatInterval, "HeartbeatInterval"},
		{&o.CallBudget, DefaultCallBudget, "CallBudget"},
		{&o.GracePeriod, DefaultGracePeriod, "GracePeriod"},
	} {
		if *d.value == 0 {
			*d.value = d.fallback
		}
		require(*d.value > 0, d.name+" must be positive")
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Denied == nil {
		o.Denied = func(error) {}
	}
	if o.Capabilities == nil {
		o.Capabilities = func() []string { return nil }
	}
	if o.KnativeVersion == nil {
		o.KnativeVersion = func() string { return "" }
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("crm server options: %w", err)
	}
	return nil
}

// Census tells the last known resources of the cluster, nil when there are none yet.
type Census interface {
	Resources() *oaaspb.ClusterResources
}

// Backend is the server's way to Kubernetes. It may come and go while the
// server runs.
type Backend struct {
	// Client reads from the cache and writes to the API server.
	Client client.Client
	// Live reads from the API server. Whatever decides on a write reads here.
	Live client.Reader
	// Informers is the cache that tells of changes.
	Informers Informers
	// Nodes says whether the cache may read the cluster's nodes.
	Nodes bool
	// Children previews what the controller would do; nil when nothing does.
	Children ChildPreviewer
	// Census knows the room in the cluster; nil when nobody may count.
	Census Census
	// Events tells people what was done to their objects; nil tells nothing.
	Events k8sevents.EventRecorder
}

// Server answers a package manager. It needs no Kubernetes to start: until a
// backend is attached, calls that need one answer UNAVAILABLE.
type Server struct {
	opts    Options
	log     hclog.Logger
	metrics *serverMetrics
	health  *health.Server
	guard   *guard // nil without TLS

	uid      atomic.Pointer[string]
	current  atomic.Pointer[attached]
	closing  chan struct{}
	closeOne sync.Once
}

// New makes a server.
func New(opts Options) (*Server, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	metrics, err := newServerMetrics(opts.Registerer)
	if err != nil {
		return nil, err
	}
	s := &Server{
		opts:    opts,
		log:     opts.Logger,
		metrics: metrics,
		health:  health.NewServer(),
		closing: make(chan struct{}),
	}
	if opts.TLS != nil {
		s.guard = &guard{config: opts.TLS, outcomes: metrics.handshakes, refusals: newRefusals(opts.Logger, opts.Clock)}
	}
	s.health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	return s, nil
}

// attached is a backend with what the server keeps for it.
type attached struct {
	Backend
	hub   *hub
	state *stateStore
}

// Attach gives the server its way to Kubernetes. The cache must be synced. The
// returned function takes it away again, ends the open watch streams, and
// must be called before another backend is attached.
func (s *Server) Attach(ctx context.Context, backend Backend) (detach func(), err error) {
	a := &attached{
		Backend: backend,
		hub:     newHub(maxPending),
		state:   newStateStore(s.opts.Namespace, backend.Client, backend.Live, s.opts.Clock),
	}
	stop, err := follow(ctx, backend.Informers, a.hub)
	if err != nil {
		return nil, err
	}
	if !s.current.CompareAndSwap(nil, a) {
		stop()
		return nil, errors.New("a backend is attached already")
	}
	s.health.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
	// Known from now on, the UID can be told while the API server is away.
	if _, err := s.readUID(ctx, a); err != nil {
		s.log.Warn("the cluster's UID cannot be read yet", "error", err)
	}
	return func() {
		s.health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
		s.current.CompareAndSwap(a, nil)
		stop()
		a.hub.end(errResync)
	}, nil
}

func (s *Server) backend() (*attached, error) {
	if a := s.current.Load(); a != nil {
		return a, nil
	}
	return nil, errUnavailable(s.opts.API.Observe().Err)
}

// ready is the readiness of the process: caches synced, API server reachable and usable.
func (s *Server) ready() error {
	if _, err := s.backend(); err != nil {
		return errors.New("caches are not synced")
	}
	return s.opts.API.Observe().Usable()
}

// Ready reports why the server cannot do its work now, or nil.
func (s *Server) Ready() error { return s.ready() }

func cmpErr(err error) error {
	if err == nil {
		return errors.New("no answer yet")
	}
	return err
}

// endStreams makes every open watch stream return.
func (s *Server) endStreams() {
	s.closeOne.Do(func() { close(s.closing) })
	s.health.Shutdown()
}

// newGRPCServer builds the transport with every service on it. further are the options
// of its kind of connections.
func (s *Server) newGRPCServer(further ...grpc.ServerOption) *grpc.Server {
	options := []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(s.observeUnary, s.recoverUnary, s.budgetUnary),
		grpc.ChainStreamInterceptor(s.observeStream, s.recoverStream),
		grpc.MaxConcurrentStreams(256),
		grpc.MaxRecvMsgSize(4 << 20),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	}
	server := grpc.NewServer(append(options, further...)...)
	s.Register(server)
	reflection.Register(server)
	return server
}

// Register puts every service of the contract on a registrar.
func (s *Server) Register(registrar grpc.ServiceRegistrar) {
	oaaspb.RegisterDeploymentServiceServer(registrar, deploymentService{Server: s})
	oaaspb.RegisterHealthServiceServer(registrar, healthService{Server: s})
	oaaspb.RegisterCrmInfoServiceServer(registrar, infoService{Server: s})
	oaaspb.RegisterTopologyServiceServer(registrar, topologyService{Server: s})
	oaaspb.RegisterAgentServiceServer(registrar, agentService{Server: s})
	healthpb.RegisterHealthServer(registrar, s.health)
}
