package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"oaas.io/control-plane/api"
	"oaas.io/control-plane/cmd/internal/daemon"
	"oaas.io/control-plane/cmd/internal/version"
	"oaas.io/control-plane/discovery"
	"oaas.io/control-plane/dispatch"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/raftstore"
	"oaas.io/control-plane/raftstore/backup"
	"oaas.io/control-plane/registry"
	"oaas.io/control-plane/tunnel"
)

// stopTimeout bounds how long a node may take to stop.
const stopTimeout = 15 * time.Second

// node is a running Package Manager: its parts in the order in which they are
// started. They are stopped in the reverse order.
type node struct {
	opts    *options
	log     hclog.Logger
	logs    *api.LogBuffer
	metrics *prometheus.Registry
	tls     *clusterTLS
	// agentPort is for managers that connect themselves, agents where they are.
	agentPort *agentPort
	agents    *tunnel.Hub
	directory *discovery.Directory

	raft     *raftstore.Node
	registry *registry.Registry
	dispatch *dispatch.Manager
	prober   *dispatch.Prober
	api      *api.Server
	observer *discovery.Observer
	backups  *backup.Manager // nil when none are made
}

// run starts a node and returns when ctx ended and everything has stopped, or
// when a part failed.
func run(ctx context.Context, opts *options) (err error) {
	logger, logs := opts.Log.Logger("pmd", os.Stderr), api.NewLogBuffer(hclog.LevelFromString(opts.Log.Level))
	logger.RegisterSink(logs)
	n := &node{opts: opts, log: logger.With("node", opts.nodeName()), logs: logs, metrics: prometheus.NewRegistry()}
	n.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	daemon.WarnIneffective(n.log, ineffective, os.LookupEnv)
	if err := raftstore.InstallTelemetry(n.metrics); err != nil {
		return err
	}
	static, err := discovery.Static(os.Getenv)
	if err != nil {
		return daemon.Usage(err)
	}
	for _, w := range static.Warnings {
		n.log.Warn(w)
	}
	if n.tls, err = openClusterTLS(&opts.CRM, static.Candidates, n.log); err != nil {
		return daemon.Usage(err)
	}
	if n.agentPort, err = openAgentPort(&opts.Agents, n.tls.store, n.log); err != nil {
		return daemon.Usage(err)
	}
	if err := n.metrics.Register(n.tls.store); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	target, err := openBackupTarget(opts)
	if err != nil {
		return daemon.Usage(err)
	}
	lns, err := listen(opts)
	if err != nil {
		return err
	}
	defer lns.close()
	if n.raft, err = raftstore.Open(ctx, n.raftOptions()); err != nil {
		return err
	}
	// Stopped last: the API drains and the leader's loops end before the log goes.
	defer func() {
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		err = errors.Join(err, n.raft.Shutdown(stopCtx))
		n.log.Info("stopped")
	}()
	if err := n.startGossip(ctx); err != nil {
		return err
	}
	defer n.stopGossip(ctx)
	if err := n.assemble(static, target); err != nil {
		return err
	}
	return n.serve(ctx, lns)
}

func (n *node) raftOptions() raftstore.Options {
	return raftstore.Options{
		DataDir:     n.opts.DataDir,
		InMemory:    n.opts.Dev,
		RaftListen:  n.opts.RaftAddr,
		RaftAddress: n.opts.advertise(n.opts.RaftAddr),
		GRPCAddress: n.opts.advertise(n.opts.GRPCAddr),
		HTTPAddress: n.opts.advertise(n.opts.HTTPAddr),
		Peers:       n.opts.Peers,
		Profile:     raftstore.Profile(n.opts.Profile),
		Watermark:   n.opts.Watermark,
		Compaction:  n.opts.Compaction,
		Version:     version.Version,
		Name:        n.opts.nodeName(),
		Zone:        n.opts.Zone,
		Logger:      n.log.Named("raft"),
		Registerer:  n.metrics,
	}
}

func (n *node) startGossip(ctx context.Context) error {
	if n.opts.GossipAddr == "" {
		return nil
	}
	keys, err := discovery.ParseKeys(n.opts.GossipKey)
	if err != nil {
		return daemon.Usage(fmt.Errorf("--gossip-key: %w", err))
	}
	n.observer, err = discovery.NewObserver(ctx, discovery.Options{
		Name:             n.opts.nodeName(),
		BindAddress:      n.opts.GossipAddr,
		AdvertiseAddress: n.opts.AdvertiseHost,
		GRPCAddress:      n.opts.advertise(n.opts.GRPCAddr),
		Region:           n.opts.Region,
		Zone:             n.opts.Zone,
		Version:          version.Version,
		Join:             n.opts.gossipPeers(),
		Keys:             keys,
		Logger:           n.log.Named("gossip"),
		Registerer:       n.metrics,
	})
	if err != nil {
		return fmt.Errorf("start gossip: %w", err)
	}
	return nil
}

func (n *node) stopGossip(ctx context.Context) {
	if n.observer == nil {
		return
	}
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := n.observer.Close(stopCtx); err != nil {
		n.log.Warn("gossip did not stop cleanly", "error", err)
	}
}

// assemble makes the parts that work on the log.
func (n *node) assemble(static *discovery.StaticConfig, target backup.Target) error {
	var err error
	n.registry, err = registry.New(registry.Options{
		Store: n.raft, Logger: n.log.Named("registry"), NewUID: uuid.NewString, DeleteCascade: n.opts.DeleteCascade,
	})
	if err != nil {
		return err
	}
	if n.agents, err = n.newHub(); err != nil {
		return err
	}
	finders := []discovery.Finder{foundAgents{n.agents}}
	if n.observer != nil {
		finders = append(finders, n.observer)
	}
	n.directory = discovery.NewDirectory(static.Candidates, finders...)
	dial := (&dialer{tls: n.tls, agents: n.agents.Dial}).dial
	n.prober = dispatch.NewProber(n.raft.State(), dial, n.raft.ServerID())
	n.dispatch, err = dispatch.New(dispatch.Options{
		Registry:   n.registry,
		Candidates: n.directory,
		Dial:       dial,
		Logger:     n.log.Named("dispatch"),
		Metrics:    n.metrics,
		StrayGrace: n.opts.StrayGrace,
		Clock:      n.raft.Now,
		Health:     n.opts.Health,
		Node:       n.opts.nodeName(),
		Observers:  observers{n.raft},
	})
	if err != nil {
		return err
	}
	apiOpts := api.Options{
		Registry: n.registry, Cluster: n.raft, Metrics: n.metrics, Logger: n.log.Named("api"), Logs: n.logs,
		Membership: api.NodeMembership{Node: n.raft}, Inspection: api.NodeInspection{Node: n.raft}, Snapshots: api.NodeSnapshots{Node: n.raft}, Audit: n.raft, Clusters: n.dispatch, Agents: shownAgents{n.agents}, Settings: n.opts.settings, DataDir: n.opts.DataDir, Version: version.Version,
		MaxBodyBytes: n.opts.MaxBodyBytes, RequestTimeout: n.opts.RequestTimeout,
		GatewayTimeout: n.opts.GatewayTimeout, StaticDir: n.opts.StaticDir,
	}
	if target != nil {
		if n.backups, err = n.backupManager(target); err != nil {
			return err
		}
		apiOpts.Backups = api.StoredBackups{Manager: n.backups, Leads: n.raft.IsLeader}
	}
	if n.opts.GatewayURL != "" {
		if apiOpts.GatewayURL, err = url.Parse(n.opts.GatewayURL); err != nil {
			return daemon.Usage(fmt.Errorf("--gateway-url: %w", err))
		}
	}
	n.api, err = api.New(apiOpts)
	return err
}

// serve runs everything until ctx ends or a part fails.
func (n *node) serve(ctx context.Context, lns *listeners) error {
	internal := grpc.NewServer(n.raft.ServerOptions()...)
	n.raft.RegisterServices(internal)
	pmpb.RegisterForwardServiceServer(internal, api.NewForwardServer(n.api))
	n.agents.RegisterPeers(internal)
	n.prober.Register(internal)

	// The parts outlive the signal by the time it takes to hand leadership over:
	// until then the other nodes need this one's internal port.
	asked := ctx.Done()
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group, ctx := errgroup.WithContext(running)
	group.Go(func() error {
		select {
		case <-asked:
			n.api.Drain()
			n.agents.Drain()
			n.raft.HandOver(ctx)
			stop()
		case <-ctx.Done():
		}
		return nil
	})
	group.Go(func() error {
		followHeap(ctx)
		return nil
	})
	group.Go(func() error {
		n.tls.store.Run(ctx)
		return nil
	})
	group.Go(func() error { return n.api.Serve(ctx, lns.http) })
	group.Go(func() error { return internal.Serve(n.raft.GuardListener(lns.grpc)) })
	group.Go(func() error {
		<-ctx.Done()
		stopGRPC(internal)
		return nil
	})
	group.Go(func() error {
		n.agents.Run(ctx)
		return nil
	})
	group.Go(func() error {
		n.directory.Run(ctx)
		return nil
	})
	if lns.agents != nil {
		n.serveAgents(ctx, group, lns.agents)
	}
	group.Go(func() error { return n.raft.RunWhileLeader(ctx, n.dispatch.Run) })
	if n.backups != nil {
		group.Go(func() error { return n.raft.RunWhileLeader(ctx, n.backups.Schedule) })
	}
	group.Go(func() error {
		select {
		case err := <-n.raft.Fatal():
			return err
		case <-ctx.Done():
			return nil
		}
	})
	n.log.Info("started", "version", version.Version, "http", lns.http.Addr(), "grpc", lns.grpc.Addr(), "server_id", n.raft.ServerID(), "dev", n.opts.Dev)
	err := group.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// serveAgents answers managers that connect themselves.
func (n *node) serveAgents(ctx context.Context, group *errgroup.Group, ln net.Listener) {
	server := n.agentPort.server(n.agents)
	n.log.Info("agents may connect", "address", ln.Addr(), "tls", n.agentPort.config != nil)
	group.Go(func() error { return server.Serve(ln) })
	group.Go(func() error {
		n.agentPort.run(ctx)
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		stopGRPC(server)
		return nil
	})
}

// stopGRPC lets calls under way finish for a moment and then cuts them off.
func stopGRPC(s *grpc.Server) {
	timer := time.AfterFunc(3*time.Second, s.Stop)
	defer timer.Stop()
	s.GracefulStop()
}

// listeners are the bound ports, so that a port in use is reported before
// anything is started.
type listeners struct{ http, grpc, agents net.Listener }

func listen(opts *options) (*listeners, error) {
	var l listeners
	for _, b := range []struct {
		flag, addr string
		to         *net.Listener
	}{{"http-addr", opts.HTTPAddr, &l.http}, {"grpc-addr", opts.GRPCAddr, &l.grpc}, {"agent-addr", opts.Agents.Addr, &l.agents}} {
		if b.addr == "" {
			continue
		}
		ln, err := net.Listen("tcp", b.addr)
		if err != nil {
			l.close()
			return nil, fmt.Errorf("--%s: %w", b.flag, err)
		}
		*b.to = ln
	}
	return &l, nil
}

// close releases what is not closed by its server already.
func (l *listeners) close() {
	for _, ln := range []net.Listener{l.http, l.grpc, l.agents} {
		if ln != nil {
			_ = ln.Close() // an error only says that its server was faster
		}
	}
}
