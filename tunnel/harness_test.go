package tunnel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// plane is a control plane without a log: nodes that know one another.
type plane struct {
	t *testing.T

	mu    sync.Mutex
	nodes map[string]*node
	// registered are the UIDs of clusters, by name.
	registered map[string]string
}

// node is a package manager node, as far as agents are concerned.
type node struct {
	id     string
	plane  *plane
	hub    *Hub
	reg    *prometheus.Registry
	log    *lines
	agents string // address of the agents' port
	peers  string // address of the internal port
	conns  map[string]*grpc.ClientConn
	orphan atomic.Bool
	net    *ice // what its connections go through
	down   func()
}

func newPlane(t *testing.T, n int, edit ...func(*HubOptions)) *plane {
	t.Helper()
	p := &plane{t: t, nodes: map[string]*node{}, registered: map[string]string{}}
	for i := range n {
		p.start(fmt.Sprintf("pm-%d", i), edit...)
	}
	return p
}

func (p *plane) register(cluster, uid string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.registered[cluster] = uid
}

func (p *plane) node(id string) *node {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.nodes[id]
}

func (p *plane) start(id string, edit ...func(*HubOptions)) *node {
	p.t.Helper()
	n := &node{id: id, plane: p, reg: prometheus.NewRegistry(), log: &lines{}, conns: map[string]*grpc.ClientConn{}, net: newIce()}
	opts := HubOptions{
		ServerID: id, Node: "node-" + id,
		Peers: func() []Peer {
			p.mu.Lock()
			defer p.mu.Unlock()
			var out []Peer
			for id := range p.nodes {
				out = append(out, Peer{ID: id, Name: "node-" + id})
			}
			return out
		},
		PeerConn: n.conn,
		Registered: func(cluster string) string {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.registered[cluster]
		},
		InContact: func() bool { return !n.orphan.Load() },
		Logger:    hclog.New(&hclog.LoggerOptions{Output: n.log, Level: hclog.Debug}), Metrics: n.reg,
		PingInterval: time.Minute, Settle: 10 * time.Millisecond, DrainTime: time.Millisecond, linger: 500 * time.Millisecond,
	}
	for _, e := range edit {
		e(&opts)
	}
	var err error
	if n.hub, err = NewHub(opts); err != nil {
		p.t.Fatal(err)
	}
	agents, internal := grpc.NewServer(AgentServerOptions()...), grpc.NewServer()
	n.hub.RegisterAgents(agents)
	n.hub.RegisterPeers(internal)
	var running sync.WaitGroup
	serve := func(s *grpc.Server, limit func(net.Listener) net.Listener) string {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			p.t.Fatal(err)
		}
		running.Go(func() { _ = s.Serve(limit(n.net.listener(ln))) })
		return ln.Addr().String()
	}
	n.agents, n.peers = serve(agents, n.hub.Limit), serve(internal, func(l net.Listener) net.Listener { return l })
	ctx, cancel := context.WithCancel(context.Background())
	running.Go(func() { n.hub.Run(ctx) })
	n.down = sync.OnceFunc(func() {
		p.mu.Lock()
		delete(p.nodes, id)
		p.mu.Unlock()
		n.net.thaw()
		agents.Stop()
		internal.Stop()
		cancel()
		running.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, c := range n.conns {
			_ = c.Close()
		}
	})
	p.mu.Lock()
	p.nodes[id] = n
	p.mu.Unlock()
	p.t.Cleanup(n.down)
	return n
}

// conn is the connection to the internal port of another node.
func (n *node) conn(_ context.Context, id string) (*grpc.ClientConn, error) {
	n.plane.mu.Lock()
	defer n.plane.mu.Unlock()
	to := n.plane.nodes[id]
	if to == nil {
		return nil, errors.New("no such node")
	}
	if c := n.conns[to.peers]; c != nil {
		return c, nil
	}
	c, err := grpc.NewClient("passthrough:///"+to.peers, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(n.net.dial))
	if err == nil {
		n.conns[to.peers] = c
	}
	return c, err
}

// lines is what was logged.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// echo is an agent whose connections give back what they get.
type echo struct {
	*Agent
	log  *lines
	stop func()
}

func plaintext() ([]grpc.DialOption, error) {
	return []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}, nil
}

// attach runs an agent of a cluster. Its instance is given, so that tests say which one
// is newer.
func (p *plane) attach(of Cluster, instance string, addresses []string, edit ...func(*AgentOptions)) *echo {
	p.t.Helper()
	return p.serve(of, instance, addresses, func(conn net.Conn) {
		_, _ = fmt.Fprintf(conn, "%s\n", instance)
		_, _ = io.Copy(conn, conn)
	}, edit...)
}

// serve is attach with something else than an echo on each connection, which is closed
// afterwards.
func (p *plane) serve(of Cluster, instance string, addresses []string, handle func(net.Conn), edit ...func(*AgentOptions)) *echo {
	p.t.Helper()
	e := &echo{log: &lines{}}
	opts := AgentOptions{
		Cluster: of.Name, Version: "test", Addresses: addresses, DialOptions: plaintext, Connections: 1,
		RetryMin: 5 * time.Millisecond, RetryMax: 50 * time.Millisecond, DrainTime: time.Second, linger: 500 * time.Millisecond,
		Logger: hclog.New(&hclog.LoggerOptions{Output: e.log, Level: hclog.Debug}),
	}
	for _, f := range edit {
		f(&opts)
	}
	var err error
	if e.Agent, err = NewAgent(opts); err != nil {
		p.t.Fatal(err)
	}
	e.instance = instance
	ctx, cancel := context.WithCancel(context.Background())
	var running, connections sync.WaitGroup
	running.Go(func() { e.Run(ctx, func(context.Context) (string, error) { return of.UID, nil }) })
	running.Go(func() {
		for {
			conn, err := e.Accept()
			if err != nil {
				return
			}
			connections.Go(func() {
				defer conn.Close() //nolint:errcheck // a pipe
				handle(conn)
			})
		}
	})
	e.stop = sync.OnceFunc(func() {
		cancel()
		_ = e.Close()
		running.Wait()
		connections.Wait()
	})
	p.t.Cleanup(e.stop)
	return e
}

// dial opens a connection from a node and gives the instance that answers.
func (n *node) dial(to Cluster) (net.Conn, string) {
	n.plane.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		conn, err := n.hub.Dial(ctx, to)
		if err != nil {
			n.plane.t.Fatalf("%s: dial %s: %v", n.id, to, err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		var who []byte
		one := make([]byte, 1)
		for {
			if _, err = conn.Read(one); err != nil || one[0] == '\n' {
				break
			}
			who = append(who, one[0])
		}
		if err == nil {
			n.plane.t.Cleanup(func() { _ = conn.Close() })
			return conn, string(who)
		}
		_ = conn.Close() // what it went through is gone
	}
}

// exchange sends bytes and wants them back.
func exchange(t *testing.T, conn net.Conn, size int) {
	t.Helper()
	if err := exchanged(conn, size); err != nil {
		t.Fatal(err)
	}
}

func exchanged(conn net.Conn, size int) error {
	want := make([]byte, size)
	for i := range want {
		want[i] = byte(rand.Uint32())
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	sent := make(chan error, 1)
	go func() {
		_, err := conn.Write(want)
		sent <- err
	}()
	got := make([]byte, size)
	_, err := io.ReadFull(conn, got)
	if err := errors.Join(err, <-sent); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errors.New("other bytes came back than were sent")
	}
	return nil
}

// eventually waits until ok, which looks at things that cannot be watched.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("never: %s", what)
		}
	}
}
