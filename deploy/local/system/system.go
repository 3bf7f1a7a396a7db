package system

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"oaas.io/control-plane/deploy/local/port"
	"oaas.io/control-plane/deploy/local/process"
	"oaas.io/control-plane/deploy/local/workdir"
)

// startAttempts is how often a start is repeated with other ports after a foreign program took one of them.
const startAttempts = 3

// PM is one Package Manager node.
type PM struct {
	Server
	// HTTPAddress, GRPCAddress, RaftAddress and GossipAddress are host:port on loopback.
	HTTPAddress, GRPCAddress, RaftAddress, GossipAddress string
	// DataDir has the node's log, snapshots and identity.
	DataDir string
}

// URL is the base of the node's REST API.
func (p *PM) URL() string { return "http://" + p.HTTPAddress }

// Client speaks to this node.
func (p *PM) Client() *Client { return &Client{Base: p.URL(), HTTP: p.client} }

// CRM is the Class Runtime Manager of one cluster.
type CRM struct {
	Server
	// Cluster that it works for.
	Cluster Cluster
	// GRPCAddress, MetricsAddress and GossipAddress are host:port on loopback.
	GRPCAddress, MetricsAddress, GossipAddress string
}

// System is a running product.
type System struct {
	// PMs are the Package Manager nodes.
	PMs []*PM
	// CRMs are in the order of Options.Clusters.
	CRMs []*CRM
	// Dir has a directory per process.
	Dir string
	// Namespace in which every crm works.
	Namespace string

	bin    string
	work   *workdir.Dir
	keep   bool
	lease  *port.Lease
	client *http.Client
}

// Start runs the system and returns when it can be used: all nodes are ready, one of them leads, and every cluster was
// discovered and is healthy. The context limits the start only.
func Start(ctx context.Context, options Options) (*System, error) {
	if err := options.Validate(); err != nil {
		return nil, fmt.Errorf("start system: %w", err)
	}
	options = options.withDefaults()
	for attempt := 1; ; attempt++ {
		s, err := launch(ctx, options)
		if err == nil {
			return s, nil
		}
		if s != nil {
			s.abandon()
		}
		if attempt == startAttempts || ctx.Err() != nil || !strings.Contains(err.Error(), "address already in use") {
			return nil, fmt.Errorf("start system: %w", err)
		}
		// The data of the failed attempt names its ports.
		if err := s.forget(); err != nil {
			return nil, fmt.Errorf("start system: %w", err)
		}
	}
}

// launch makes one attempt. The system is returned with the error when there is something to clean up.
func launch(ctx context.Context, options Options) (*System, error) {
	s := &System{Namespace: options.Namespace, bin: options.Bin, client: newHTTPClient()}
	dir, err := workdir.New(options.Dir, "system")
	if err != nil {
		return nil, err
	}
	s.Dir, s.work, s.keep = dir.Path, dir, options.Dir != ""
	if err := s.configure(options); err != nil {
		return s, err
	}
	for _, server := range s.Servers() {
		if err := server.Start(); err != nil {
			return s, err
		}
	}
	return s, s.WaitReady(ctx)
}

// newHTTPClient does not keep connections: a test that kills servers must not see the end of an old connection as the answer
// to a new request.
func newHTTPClient() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
}

// The ports of a process, as offsets into its share of the lease.
const (
	portHTTP = iota
	portGRPC
	portRaft
	portGossip
	portAgents
	portsPerPM
)

const portsPerCRM = 3

func (s *System) configure(options Options) error {
	lease, err := port.Reserve(options.Nodes*portsPerPM + len(options.Clusters)*portsPerCRM)
	if err != nil {
		return err
	}
	s.lease = lease
	address := func(i int) string { return "127.0.0.1:" + strconv.Itoa(lease.Port(i)) }
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return fmt.Errorf("make gossip key: %w", err)
	}
	// The key goes through files that only the owner can read: command lines are visible to everyone on the machine.
	settings := "gossip-key: " + base64.StdEncoding.EncodeToString(key) + "\n"

	proof := plaintext()
	if options.TLS {
		if proof, err = certificates(filepath.Join(s.Dir, "tls")); err != nil {
			return err
		}
	}
	edge := slices.ContainsFunc(options.Clusters, func(c Cluster) bool { return c.Edge })

	var peers, gossip, agents []string
	for i := range options.Nodes {
		peers = append(peers, address(i*portsPerPM+portGRPC))
		gossip = append(gossip, address(i*portsPerPM+portGossip))
		agents = append(agents, address(i*portsPerPM+portAgents))
	}
	for i := range options.Nodes {
		at := func(offset int) string { return address(i*portsPerPM + offset) }
		pm := &PM{HTTPAddress: at(portHTTP), GRPCAddress: at(portGRPC), RaftAddress: at(portRaft), GossipAddress: at(portGossip)}
		name := "pm-" + strconv.Itoa(i+1)
		pm.DataDir = filepath.Join(s.Dir, name, "data")
		args := append([]string{
			"--name=" + name, "--data-dir=" + pm.DataDir, "--advertise-host=127.0.0.1",
			"--http-addr=" + pm.HTTPAddress, "--grpc-addr=" + pm.GRPCAddress, "--raft-addr=" + pm.RaftAddress, "--gossip-addr=" + pm.GossipAddress,
			"--peers=" + strings.Join(peers, ","), "--gossip-join=" + strings.Join(gossip, ","),
			// Nobody wants to wait for as long as on a network. A renewal is half of what a crm sends at least.
			"--cluster-renewal=2500ms", "--cluster-suspect-after=3s", "--cluster-unreachable-after=5s", "--cluster-return-after=2s",
		}, proof.pm...)
		if edge {
			args = append(append(args, "--agent-addr="+at(portAgents)), proof.agents...)
		}
		args = append(args, options.PMArgs...)
		if err := s.server(&pm.Server, name, programPM, settings, pm.URL()+"/readyz", args); err != nil {
			return err
		}
		pm.spec.Env = append(pm.spec.Env, options.PMEnv...)
		s.PMs = append(s.PMs, pm)
	}
	for i, cluster := range options.Clusters {
		first := options.Nodes*portsPerPM + i*portsPerCRM
		crm := &CRM{Cluster: cluster, GRPCAddress: address(first), MetricsAddress: address(first + 1), GossipAddress: address(first + 2)}
		args := []string{
			"--kubeconfig=" + cluster.Kubeconfig, "--name=" + cluster.Name, "--namespace=" + options.Namespace,
			"--region=" + cluster.Region, "--zone=" + cluster.Zone,
			"--grpc-addr=" + crm.GRPCAddress, "--metrics-addr=" + crm.MetricsAddress,
		}
		prove := proof.crm
		if cluster.Edge {
			args, prove = append(args, "--gossip-addr=", "--control-plane="+strings.Join(agents, ",")), proof.edge
		} else {
			args = append(args, "--gossip-addr="+crm.GossipAddress, "--join="+strings.Join(gossip, ","))
		}
		secured, err := prove(cluster.Name)
		if err != nil {
			return err
		}
		// A port with TLS asks probes for a certificate too.
		probed := crm.GRPCAddress
		if options.TLS {
			probed = crm.MetricsAddress
		}
		args = slices.Concat(args, options.CRMArgs, secured)
		if err := s.server(&crm.Server, "crm-"+cluster.Name, programCRM, settings, "http://"+probed+"/healthz", args); err != nil {
			return err
		}
		s.CRMs = append(s.CRMs, crm)
	}
	return nil
}

// server fills in what all processes share.
func (s *System) server(into *Server, name, program, settings, ready string, args []string) error {
	dir := filepath.Join(s.Dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	file := filepath.Join(dir, "settings.yaml")
	if err := os.WriteFile(file, []byte(settings), 0o600); err != nil {
		return err
	}
	bin, err := filepath.Abs(filepath.Join(s.bin, program))
	if err != nil {
		return err
	}
	into.Name, into.LogFile, into.ready, into.client = name, filepath.Join(dir, program+".log"), ready, s.client
	into.spec = process.Spec{
		Name: name, Path: bin, Args: append(args, "--config="+file), Dir: dir, LogFile: into.LogFile,
		Env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + os.TempDir()},
	}
	return nil
}

// Servers are all processes, the nodes first.
func (s *System) Servers() []*Server {
	var all []*Server
	for _, pm := range s.PMs {
		all = append(all, &pm.Server)
	}
	for _, crm := range s.CRMs {
		all = append(all, &crm.Server)
	}
	return all
}

// WaitReady waits until all processes are ready, a node leads and all clusters are healthy.
func (s *System) WaitReady(ctx context.Context) error {
	for _, server := range s.Servers() {
		if err := server.WaitReady(ctx); err != nil {
			return err
		}
	}
	leader, err := s.Leader(ctx)
	if err != nil {
		return err
	}
	return Poll(ctx, "all clusters are discovered and healthy", func(ctx context.Context) (bool, error) {
		if err := s.Err(); err != nil {
			return false, Fatal(err)
		}
		envs, err := leader.Client().Envs(ctx)
		if err != nil {
			return false, err
		}
		health := map[string]string{}
		for _, env := range envs {
			health[env.Name] = env.Health.Status
		}
		for _, crm := range s.CRMs {
			if status := health[crm.Cluster.Name]; status != "Healthy" {
				return false, fmt.Errorf("cluster %s is %q", crm.Cluster.Name, status)
			}
		}
		return true, nil
	})
}

// Leader waits until a running node leads, according to itself and with its writes ready, and returns it.
func (s *System) Leader(ctx context.Context) (*PM, error) {
	var leader *PM
	err := Poll(ctx, "a node leads", func(ctx context.Context) (bool, error) {
		last := errors.New("no node is running")
		for _, pm := range s.PMs {
			if !pm.Running() {
				continue
			}
			found, err := s.leaderAccordingTo(ctx, pm)
			if err != nil {
				last = err
				continue
			}
			leader = found
			return true, nil
		}
		return false, last
	})
	return leader, err
}

// leaderAccordingTo asks one node who leads. A node that was killed can still be named for a moment, so it must run.
func (s *System) leaderAccordingTo(ctx context.Context, asked *PM) (*PM, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	members, err := asked.Client().Members(ctx)
	if err != nil {
		return nil, err
	}
	for _, member := range members {
		if !member.Leader {
			continue
		}
		for _, pm := range s.PMs {
			if pm.GRPCAddress == member.GRPCAddress && pm.Running() {
				return pm, nil
			}
		}
	}
	return nil, fmt.Errorf("%s knows no leader that runs", asked.Name)
}

// Follower returns a running node that does not lead, or nil.
func (s *System) Follower(leader *PM) *PM {
	for _, pm := range s.PMs {
		if pm != leader && pm.Running() {
			return pm
		}
	}
	return nil
}

// CLI is the path of pmctl.
func (s *System) CLI() string { return filepath.Join(s.bin, programCLI) }

// Err says how a process has ended, nil while all run. It does not know which were asked to end: call it only while all should
// run.
func (s *System) Err() error {
	for _, server := range s.Servers() {
		if err := server.Err(); err != nil {
			return err
		}
	}
	return nil
}

// Stop ends all processes, in order if that is quick, and removes what Start has made.
func (s *System) Stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopGrace)
	defer cancel()
	s.each(func(server *Server) {
		// A paused process cannot answer SIGTERM.
		_ = server.Resume()
		server.Stop(ctx)
	})
	return s.release()
}

// abandon gives up a start.
func (s *System) abandon() {
	s.each((*Server).Kill)
	_ = s.release()
}

// forget removes the directories of the processes.
func (s *System) forget() error {
	for _, server := range s.Servers() {
		if err := os.RemoveAll(filepath.Join(s.Dir, server.Name)); err != nil {
			return err
		}
	}
	return nil
}

func (s *System) each(do func(*Server)) {
	var group sync.WaitGroup
	for _, server := range s.Servers() {
		group.Go(func() { do(server) })
	}
	group.Wait()
}

func (s *System) release() error {
	s.client.CloseIdleConnections()
	if s.lease != nil {
		s.lease.Release()
	}
	if s.keep {
		s.work.Keep()
		return nil
	}
	if err := s.work.Remove(); err != nil {
		return fmt.Errorf("remove %s: %w", s.Dir, err)
	}
	return nil
}
