package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"oaas.io/control-plane/cmd/internal/daemon"
	"oaas.io/control-plane/cmd/internal/version"
	"oaas.io/control-plane/crm"
	"oaas.io/control-plane/crm/template"
	"oaas.io/control-plane/discovery"
)

// leaveTimeout bounds the farewell to the gossip pool.
const leaveTimeout = 3 * time.Second

// run starts a manager and returns when ctx ended and everything has stopped, or
// when a part failed.
func run(ctx context.Context, opts *options) error {
	log := opts.Log.Logger("crm", os.Stderr)
	daemon.WarnIneffective(log, ineffective, os.LookupEnv)
	if !slices.Contains(profiles, strings.ToLower(opts.Profile)) {
		log.Warn("no template knows the profile; it is taken for dev", "profile", opts.Profile, "known", strings.Join(profiles, ", "))
	}
	pods, err := opts.Pods.options()
	if err != nil {
		return daemon.Usage(err)
	}
	restConfig, err := kubernetes(opts)
	if err != nil {
		return daemon.Usage(err)
	}
	secured, err := openTLS(opts, log)
	if err != nil {
		return daemon.Usage(err)
	}
	agent, err := openTunnel(opts, secured.store, log)
	if err != nil {
		return daemon.Usage(err)
	}
	listener, metrics, err := listen(opts)
	if err != nil {
		return err
	}
	defer secured.follow(ctx)()
	gossip := &gossip{opts: opts, log: log, grpc: listener.Addr()}
	crmOpts := crm.Options{
		RESTConfig: restConfig, Listener: listener, MetricsListener: metrics, TLS: secured.config,
		Collectors: append(collectorsOf(agent), secured.store),
		Name:       opts.Name, Namespace: opts.Namespace, Region: opts.Region, Zone: opts.Zone,
		Labels: opts.Labels, Availability: opts.declared(), Version: version.Version,
		Environment: template.Environment{
			Profile: opts.Profile, Datacenter: opts.Datacenter, Edge: opts.Edge, HPA: opts.HPA,
			ODGM:      template.ODGMOptions{Image: opts.ODGMImage, PullPolicy: opts.ODGMPullPolicy, HealthPath: opts.ODGMHealthPath},
			Telemetry: template.TelemetryOptions{Enabled: opts.OTEL, Endpoint: opts.OTELEndpoint},
			Pods:      pods,
		},
		DisableODGM: !opts.ODGM, DisableKnative: !opts.Knative, Concurrency: opts.Concurrency, ProgressDeadline: opts.Deadline,
		LeaderElection: opts.LeaderElect, InstallCRD: opts.InstallCRD, CreateNamespace: opts.CreateNamespace,
		Logger: log, Serving: gossip.start,
	}
	if agent != nil {
		crmOpts.Tunnel = agent
	}
	err = crm.Run(ctx, crmOpts)
	gossip.stop(ctx)
	if err == nil {
		log.Info("stopped")
	}
	return err
}

// listen opens the ports before anything else is done, so that a port that is
// taken is told at once.
func listen(opts *options) (grpc, metrics net.Listener, err error) {
	if grpc, err = net.Listen("tcp", opts.GRPCAddr); err != nil {
		return nil, nil, fmt.Errorf("open --grpc-addr: %w", err)
	}
	if opts.MetricsAddr == "" {
		return grpc, nil, nil
	}
	if metrics, err = net.Listen("tcp", opts.MetricsAddr); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open --metrics-addr: %w", err), grpc.Close())
	}
	return grpc, metrics, nil
}

// kubernetes finds the API server the way kubectl does, and falls back to the
// pod's service account.
func kubernetes(opts *options) (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = opts.Kubeconfig
	overrides := &clientcmd.ConfigOverrides{CurrentContext: opts.Context}
	restConfig, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("find the Kubernetes cluster: %w", err)
	}
	return restConfig, nil
}

// gossip announces the cluster, if it is told where.
type gossip struct {
	opts *options
	log  hclog.Logger
	grpc net.Addr

	mu        sync.Mutex
	announcer *discovery.Announcer
}

// start announces the cluster. A failure is no reason to stop serving: the
// package manager can be told the address otherwise.
func (g *gossip) start(ctx context.Context) {
	if len(g.opts.Join) == 0 {
		if len(g.opts.ControlPlane.Addresses) == 0 {
			g.log.Info("not announced: neither --join nor --control-plane")
		}
		return
	}
	keys, err := discovery.ParseKeys(g.opts.GossipKey)
	if err != nil {
		g.log.Error("not announced", "error", err)
		return
	}
	address := g.opts.AdvertiseAddress
	if address == "" {
		address = g.grpc.String()
	}
	announcer, err := discovery.NewAnnouncer(ctx, discovery.Options{
		Name: g.opts.Name, BindAddress: g.opts.GossipAddr, AdvertiseAddress: g.opts.GossipAdvertise,
		GRPCAddress: address, GRPCTLS: g.opts.TLS.Cert != "", Region: g.opts.Region, Zone: g.opts.Zone, Version: version.Version,
		Join: g.opts.Join, Keys: keys, Logger: g.log.Named("gossip"),
	})
	if err != nil {
		g.log.Error("not announced", "error", err)
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.announcer = announcer
	g.log.Info("announced", "grpc", address, "gossip", announcer.Address(), "join", strings.Join(g.opts.Join, ","))
}

// stop says farewell, so that the pool does not take the manager for dead.
func (g *gossip) stop(ctx context.Context) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.announcer == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	if err := g.announcer.Close(ctx); err != nil {
		g.log.Warn("left the gossip pool without a farewell", "error", err)
	}
}
