package cluster

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"oaas.io/control-plane/api/client"
	"oaas.io/control-plane/deploy/local"
	"oaas.io/control-plane/deploy/local/agent"
	"oaas.io/control-plane/deploy/local/gate"
	"oaas.io/control-plane/deploy/local/process"
	"oaas.io/control-plane/deploy/local/workdir"
)

// gossipKeySize is that of AES-256.
const gossipKeySize = 32

// Start runs a cluster and returns when it can be used (WaitReady). The context limits the start only.
func Start(ctx context.Context, options Options) (*Cluster, error) {
	if err := options.Validate(); err != nil {
		return nil, fmt.Errorf("start cluster: %w", err)
	}
	work, err := workdir.New(options.Dir, "cluster")
	if err != nil {
		return nil, fmt.Errorf("start cluster: %w", err)
	}
	c := &Cluster{options: options.withDefaults(), work: work, clients: map[string]*client.Client{}}
	c.http = c.newHTTPClient()
	if err := c.start(ctx); err != nil {
		c.abandon()
		return nil, fmt.Errorf("start cluster: %w", err)
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context) error {
	if err := c.weave(); err != nil {
		return err
	}
	key := make([]byte, gossipKeySize)
	if _, err := rand.Read(key); err != nil {
		return fmt.Errorf("make gossip key: %w", err)
	}
	// The key goes through files that only the owner can read: command lines are visible to everyone on the machine.
	c.settings = "gossip-key: " + base64.StdEncoding.EncodeToString(key) + "\n"
	if _, err := c.fabric.place(ClientHost); err != nil {
		return err
	}
	if err := c.addAgents(); err != nil {
		return err
	}
	// The hosts of all founders are there before anybody asks for one of them.
	for i := range c.options.Nodes {
		p, err := c.nodePlace(nodeName(i + 1))
		if err != nil {
			return err
		}
		c.founders = append(c.founders, p)
	}
	if err := c.addManagers(ctx); err != nil {
		return err
	}
	for i, p := range c.founders {
		if _, err := c.addNode(nodeName(i+1), p); err != nil {
			return err
		}
	}
	c.numbered = len(c.founders)
	for _, s := range c.servers() {
		if err := s.Start(ctx); err != nil {
			return err
		}
	}
	return c.WaitReady(ctx)
}

// weave makes the network: the best that this machine can have.
func (c *Cluster) weave() error {
	if !c.options.Loopback {
		lab, err := newLaboratory(c.options.Seed)
		if err == nil {
			c.fabric = lab
			return nil
		}
		c.options.Logger.Warn("hosts are addresses of loopback, which few faults can be made on", "reason", err)
	}
	loop, err := newLoopback()
	if err != nil {
		return err
	}
	c.fabric = loop
	return nil
}

func nodeName(n int) string { return "pm-" + strconv.Itoa(n) }

func (c *Cluster) nodePlace(name string) (place, error) {
	return c.fabric.place(name, PortHTTP, PortRaft, PortGRPC, PortTunnel)
}

func at(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

// all gives the addresses of one port on many hosts.
func all(places []place, port int) string {
	var out []string
	for _, p := range places {
		out = append(out, at(p.known(), port))
	}
	return strings.Join(out, ",")
}

// addNode prepares a node that is not started yet.
func (c *Cluster) addNode(name string, p place) (*Node, error) {
	n := &Node{}
	args := []string{
		"--name=" + name, "--advertise-host=" + p.known(),
		"--http-addr=" + at(p.bind(), PortHTTP), "--grpc-addr=" + at(p.bind(), PortGRPC), "--raft-addr=" + at(p.bind(), PortRaft),
		"--peers=" + all(c.founders, PortGRPC),
		// Nobody wants to wait for as long as in a real installation. A renewal is half of what a crm sends at least.
		"--cluster-renewal=2500ms", "--cluster-suspect-after=3s", "--cluster-unreachable-after=5s", "--cluster-return-after=2s",
	}
	if c.fabric.gossips() {
		args = append(args, "--gossip-addr="+at(p.bind(), PortGossip), "--gossip-join="+all(c.founders, PortGossip))
	} else {
		args = append(args, "--gossip-addr=")
	}
	if err := c.equip(&n.Server, name, programPM, p); err != nil {
		return nil, err
	}
	n.ready = n.URL() + "/readyz"
	var err error
	if n.disk, err = c.disk(name, n.dir); err != nil {
		return nil, err
	}
	configured, err := c.configured()
	if err != nil {
		return nil, errors.Join(err, n.disk.Close())
	}
	n.spec.Env = append(n.spec.Env, "CRM_CLUSTERS_JSON="+configured)
	n.spec.Args = append(append(append(n.spec.Args, "--data-dir="+n.disk.Path()), args...), c.options.PMArgs...)
	c.mu.Lock()
	c.nodes = append(c.nodes, n)
	c.mu.Unlock()
	return n, nil
}

// disk makes the data directory of a node.
func (c *Cluster) disk(node, dir string) (Disk, error) {
	path := filepath.Join(dir, "data")
	if c.options.Disk == nil {
		return directory(path), os.MkdirAll(path, 0o700)
	}
	d, err := c.options.Disk(node, dir)
	if err != nil {
		return nil, fmt.Errorf("disk of %s: %w", node, err)
	}
	return d, nil
}

// configured is what the nodes are told about clusters that do not announce themselves.
func (c *Cluster) configured() (string, error) {
	clusters := map[string]map[string]string{}
	for _, a := range c.agents {
		clusters[a.Name()] = map[string]string{"url": "http://" + at(a.place.known(), PortAgent)}
	}
	if !c.fabric.gossips() {
		for _, m := range c.managers {
			clusters[m.name] = map[string]string{"url": "http://" + at(m.place.known(), PortCRM)}
		}
	}
	if len(clusters) == 0 {
		return "", nil
	}
	raw, err := json.Marshal(clusters)
	if err != nil {
		return "", fmt.Errorf("configured clusters: %w", err)
	}
	return string(raw), nil
}

// equip fills in what all processes share.
func (c *Cluster) equip(s *Server, name, program string, p place) error {
	s.name, s.place, s.dir, s.http, s.wrap = name, p, filepath.Join(c.Dir(), name), c.http, c.options.Wrap
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("directory of %s: %w", name, err)
	}
	file := filepath.Join(s.dir, "settings.yaml")
	if err := os.WriteFile(file, []byte(c.settings), 0o600); err != nil {
		return fmt.Errorf("settings of %s: %w", name, err)
	}
	path := c.options.Binary[name]
	if path == "" {
		path = filepath.Join(c.options.Bin, program)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("program of %s: %w", name, err)
	}
	s.spec = process.Spec{
		Name: name, Path: path, Args: []string{"--config=" + file}, Dir: s.dir, LogFile: filepath.Join(s.dir, program+".log"),
		Env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "TMPDIR=" + os.TempDir()},
	}
	return nil
}

// addAgents starts the managers that this process has.
func (c *Cluster) addAgents() error {
	for i := range c.options.Agents {
		options := agent.Options{}
		if c.options.Agent != nil {
			c.options.Agent(i, &options)
		}
		options.Name = "agent-" + strconv.Itoa(i+1)
		p, err := c.fabric.place(options.Name, PortAgent)
		if err != nil {
			return err
		}
		options.Address = at("", PortAgent)
		options.Listen = func(string) (net.Listener, error) { return p.listen(PortAgent) }
		a, err := agent.Start(options)
		if err != nil {
			return err
		}
		c.agents = append(c.agents, &Agent{Agent: a, place: p, faithful: options.Behaviour == agent.Faithful})
	}
	return nil
}

// addManagers prepares the crm processes, each with a gate before its API server.
func (c *Cluster) addManagers(ctx context.Context) error {
	if c.options.CRMs == 0 {
		return nil
	}
	if len(c.options.Kubernetes) == 0 {
		own, err := startKubernetes(ctx)
		if err != nil {
			return err
		}
		c.kubernetes, c.options.Kubernetes = own, []Kubernetes{{Config: own.RESTConfig()}}
	}
	for i := range c.options.CRMs {
		number := strconv.Itoa(i + 1)
		m := &Manager{kubeHost: "kube-" + number, namespace: "oaas-" + number, kubernetes: c.options.Kubernetes[i%len(c.options.Kubernetes)]}
		if err := c.prepareManager(m, "crm-"+number); err != nil {
			return err
		}
	}
	return nil
}

func startKubernetes(ctx context.Context) (*local.Cluster, error) {
	root, err := local.SourceRoot()
	if err != nil {
		return nil, err
	}
	return local.Start(ctx, local.Options{Name: "oaas", CRDs: []string{filepath.Join(root, "deploy", "crd")}})
}

func (c *Cluster) prepareManager(m *Manager, name string) error {
	p, err := c.fabric.place(name, PortCRM, PortMetrics)
	if err != nil {
		return err
	}
	if err := c.equip(&m.Server, name, programCRM, p); err != nil {
		return err
	}
	kube, err := c.fabric.place(m.kubeHost, PortKube)
	if err != nil {
		return err
	}
	listener, err := kube.listen(PortKube)
	if err != nil {
		return err
	}
	if m.gate, err = gate.Serve(listener, at(kube.known(), PortKube), m.kubernetes.Config); err != nil {
		return err
	}
	c.managers = append(c.managers, m)
	kubeconfig := filepath.Join(m.dir, "kubeconfig")
	if err := m.gate.WriteKubeconfig(kubeconfig); err != nil {
		return err
	}
	m.ready = "http://" + at(name, PortMetrics) + "/readyz"
	args := []string{
		"--name=" + name, "--kubeconfig=" + kubeconfig, "--namespace=" + m.namespace, "--create-namespace", "--install-crd",
		"--grpc-addr=" + at(p.bind(), PortCRM), "--metrics-addr=" + at(p.bind(), PortMetrics),
	}
	if c.fabric.gossips() {
		args = append(args, "--advertise-address="+at(p.known(), PortCRM), "--gossip-addr="+at(p.bind(), PortGossip),
			"--gossip-advertise="+p.known(), "--join="+all(c.founders, PortGossip))
	} else {
		args = append(args, "--gossip-addr=")
	}
	m.spec.Args = append(append(m.spec.Args, args...), c.options.CRMArgs...)
	return nil
}
