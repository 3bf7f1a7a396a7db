package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"

	"oaas.io/control-plane/api/client"
	"oaas.io/control-plane/deploy/local"
	"oaas.io/control-plane/deploy/local/workdir"
)

// connectionsPerNode is how many connections to a node are kept for later requests.
const connectionsPerNode = 256

// Cluster is a running control plane. Its methods may be called from several goroutines.
type Cluster struct {
	options  Options
	work     *workdir.Dir
	fabric   fabric
	http     *http.Client
	settings string
	// founders are the hosts of the first nodes, which all later ones ask to be let in.
	founders []place
	// kubernetes was started here, if it is there.
	kubernetes *local.Cluster

	mu       sync.Mutex
	nodes    []*Node
	numbered int
	managers []*Manager
	agents   []*Agent
	clients  map[string]*client.Client
	stopped  bool
}

// Nodes are the pmd that are there, running or not, in the order in which they came.
func (c *Cluster) Nodes() []*Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.nodes)
}

// Node is the node of that name, or nil.
func (c *Cluster) Node(name string) *Node {
	for _, n := range c.Nodes() {
		if n.name == name {
			return n
		}
	}
	return nil
}

// Managers are the crm processes.
func (c *Cluster) Managers() []*Manager { return slices.Clone(c.managers) }

// Agents are the managers in this process.
func (c *Cluster) Agents() []*Agent { return slices.Clone(c.agents) }

// Network is what lies between all of them.
func (c *Cluster) Network() Network { return c.fabric }

// Faults says for each kind of fault why it cannot be made here (ErrUnavailable), or nil.
func (c *Cluster) Faults() map[Fault]error {
	out := map[Fault]error{}
	for _, f := range []Fault{FaultCut, FaultPorts, FaultDatagrams, FaultDelay, FaultLoss, FaultRate, FaultMove} {
		out[f] = c.fabric.faults()[f]
	}
	return out
}

// Dir has a directory per process.
func (c *Cluster) Dir() string { return c.work.Path }

// HTTP sends requests from the host ClientHost to the URL of a node.
func (c *Cluster) HTTP() *http.Client { return c.http }

// newHTTPClient keeps connections, which are what a user of the API has. They do not go through proxies.
func (c *Cluster) newHTTPClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			return c.fabric.dial(ctx, ClientHost, address)
		},
		MaxIdleConnsPerHost: connectionsPerNode, DisableCompression: true,
	}}
}

// Client asks one node, from the host ClientHost, and makes one attempt for each call. Its connections are shared with all
// other clients of the cluster.
func (c *Cluster) Client(node string) *client.Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	if have := c.clients[node]; have != nil {
		return have
	}
	made, err := client.New(client.Options{
		Servers: []string{"http://" + net.JoinHostPort(node, strconv.Itoa(PortHTTP))}, HTTPClient: c.http, RetryFor: -1,
	})
	if err != nil {
		// Names of nodes are those of hosts. Of any other one, the first request says that nobody has it.
		made, _ = client.New(client.Options{Servers: []string{"http://no-such-node"}, HTTPClient: c.http, RetryFor: -1})
	}
	c.clients[node] = made
	return made
}

// Err says which node or manager has ended, nil while all run. It does not know which were asked to end.
func (c *Cluster) Err() error {
	for _, s := range c.servers() {
		if err := s.Err(); err != nil {
			return err
		}
	}
	return nil
}

// servers are all processes, the nodes first.
func (c *Cluster) servers() []*Server {
	var all []*Server
	for _, n := range c.Nodes() {
		all = append(all, &n.Server)
	}
	for _, m := range c.managers {
		all = append(all, &m.Server)
	}
	return all
}

// Stop ends everything. It keeps Options.Dir, and removes a temporary one. Faults of the network are healed before, so that
// processes end in order.
func (c *Cluster) Stop(ctx context.Context) error {
	c.mu.Lock()
	stopped := c.stopped
	c.stopped = true
	c.mu.Unlock()
	if stopped {
		return nil
	}
	problems := []error{c.fabric.HealAll()}
	servers := c.servers()
	ended := make([]error, len(servers))
	var group sync.WaitGroup
	for i, s := range servers {
		group.Go(func() { ended[i] = s.Stop(ctx) })
	}
	group.Wait()
	return errors.Join(append(append(problems, ended...), c.release())...)
}

// abandon gives up a start.
func (c *Cluster) abandon() {
	for _, s := range c.servers() {
		_ = s.Kill()
	}
	_ = c.release()
}

// release ends all but the processes, which have ended.
func (c *Cluster) release() error {
	var problems []error
	for _, a := range c.agents {
		problems = append(problems, a.Stop())
	}
	for _, m := range c.managers {
		problems = append(problems, m.gate.Close())
	}
	if c.kubernetes != nil {
		problems = append(problems, c.kubernetes.Stop())
	}
	for _, n := range c.Nodes() {
		if err := n.disk.Close(); err != nil {
			problems = append(problems, fmt.Errorf("disk of %s: %w", n.name, err))
		}
	}
	c.http.CloseIdleConnections()
	if c.fabric != nil {
		c.fabric.close()
	}
	if c.options.Dir != "" {
		c.work.Keep()
	} else if err := c.work.Remove(); err != nil {
		problems = append(problems, fmt.Errorf("remove %s: %w", c.Dir(), err))
	}
	return errors.Join(problems...)
}
