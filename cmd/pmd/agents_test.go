package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"oaas.io/control-plane/cmd/internal/tlsfiles"
	"oaas.io/control-plane/discovery"
	"oaas.io/control-plane/dispatch"
	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
	"oaas.io/control-plane/tunnel"
)

// gate is the port of a fleet that agents connect to.
type gate struct {
	*fleet
	hub     *tunnel.Hub
	metrics *prometheus.Registry
	address string
}

// openGate runs a leader whose clusters are all agents.
func openGate(t *testing.T, opts agentOptions) *gate {
	t.Helper()
	opts.Addr, opts.interval = "127.0.0.1:0", 2*time.Millisecond
	if opts.ClientName == "" {
		opts.ClientName = clusterMark
	}
	if err := opts.Validate(false); err != nil {
		t.Fatal(err)
	}
	g := &gate{fleet: newFleet(t), metrics: prometheus.NewRegistry()}
	g.raise(fsm.AgentsFrom)
	store := tlsfiles.New(tlsfiles.Options{Namespace: "oaas_pm", Interval: 2 * time.Millisecond})
	port, err := openAgentPort(&opts, store, g.logger)
	if err != nil {
		t.Fatal(err)
	}
	g.hub, err = tunnel.NewHub(tunnel.HubOptions{
		ServerID: "pm-0", Node: "pm-0", Peers: func() []tunnel.Peer { return nil },
		PeerConn:     func(context.Context, string) (*grpc.ClientConn, error) { return nil, os.ErrNotExist },
		Authenticate: port.authenticate, InContact: func() bool { return true },
		Registered: func(cluster string) string { return g.registry.State().Snapshot().Cluster(cluster).GetUid() },
		Logger:     g.logger, Metrics: g.metrics, DrainTime: time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", opts.Addr)
	if err != nil {
		t.Fatal(err)
	}
	g.address = listener.Addr().String()
	server := port.server(g.hub)
	directory := discovery.NewDirectory(nil, foundAgents{g.hub})
	connect, err := openClusterTLS(&crmOptions{}, nil, g.logger)
	if err != nil {
		t.Fatal(err)
	}
	g.run(directory, (&dialer{tls: connect, agents: g.hub.Dial}).dial,
		store.Run, port.run, g.hub.Run, directory.Run, func(ctx context.Context) {
			var serving sync.WaitGroup
			serving.Go(func() { _ = server.Serve(listener) })
			<-ctx.Done()
			server.Stop()
			serving.Wait()
		})
	return g
}

// raise raises the feature level.
func (f *fleet) raise(level uint32) {
	f.t.Helper()
	res, err := f.store.Apply(f.t.Context(), &pmpb.Command{Op: &pmpb.Command_RaiseFeatureLevel{RaiseFeatureLevel: &pmpb.RaiseFeatureLevel{Level: level}}})
	if err != nil || res.Err != nil {
		f.t.Fatal(err, res.Err)
	}
}

// connector is a manager that connects itself.
type connector struct {
	log  *lines
	stop func()
}

// connectManager runs a manager that connects to nodes with the given credentials.
func connectManager(t *testing.T, name, uid string, addresses []string, dial func() ([]grpc.DialOption, error)) *connector {
	t.Helper()
	c := &connector{log: &lines{}}
	server := newManager(t, name, uid, nil)
	agent, err := tunnel.NewAgent(tunnel.AgentOptions{
		Cluster: name, Version: "test", Addresses: addresses, DialOptions: dial, Connections: 2, RetryMin: 10 * time.Millisecond, RetryMax: 200 * time.Millisecond,
		Logger: hclog.New(&hclog.LoggerOptions{Output: c.log, Level: hclog.Debug}),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := server.ServeTunnel(ctx, agent); err != nil {
			t.Errorf("ServeTunnel: %v", err)
		}
	})
	running.Go(func() { agent.Run(ctx, server.ClusterUID) })
	c.stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(c.stop)
	return c
}

// shows makes the credentials of a manager from files and a token.
func shows(t *testing.T, files tlsfiles.Sides, serverName, token string) func() ([]grpc.DialOption, error) {
	t.Helper()
	certificate, roots, err := tlsfiles.New(tlsfiles.Options{Namespace: "oaas_crm"}).Load(files)
	if err != nil {
		t.Fatal(err)
	}
	client := tlsfiles.Client{Certificate: certificate, Roots: roots, ServerName: serverName}
	return func() ([]grpc.DialOption, error) {
		out := []grpc.DialOption{grpc.WithTransportCredentials(credentials.NewTLS(client.Config()))}
		if token != "" {
			out = append(out, grpc.WithPerRPCCredentials(testToken(token)))
		}
		return out, nil
	}
}

func plaintext() ([]grpc.DialOption, error) {
	return []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}, nil
}

type testToken string

func (b testToken) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

func (testToken) RequireTransportSecurity() bool { return true }

// refusedBecause waits until a manager is told why it is not let in.
func (c *connector) refusedBecause(t *testing.T, reason string) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !strings.Contains(c.log.String(), reason) {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("never told %q:\n%s", reason, c.log)
		}
	}
}

// A cluster whose manager has connected itself is served like one that is dialled: it is
// registered, watched, sent units, asked for previews, told of deletions, and shown as
// unreachable when it is gone.
func TestAgentIsServedLikeAnyCluster(t *testing.T) {
	ours := newCertificates(t, "ours")
	files := ours.issue("pmd.test", time.Hour)
	g := openGate(t, agentOptions{Sides: files, ClientName: "{cluster}.crm.test"})
	dial := shows(t, ours.issue("edge-1.crm.test", time.Hour), "pmd.test", "")
	c := connectManager(t, "edge-1", "uid-1", []string{g.address}, dial)
	g.awaitHealthy("edge-1")
	row := g.store.State().Snapshot().Cluster("edge-1")
	if row.GetSource() != pmpb.ClusterSource_CLUSTER_SOURCE_AGENT || row.GetAddress() != "agent://uid-1" || row.GetUid() != "uid-1" || row.GetKubernetesVersion() == "" {
		t.Errorf("registered as %v", row)
	}
	shown := shownAgents{g.hub}.Connections("edge-1", row.GetAddress())
	if len(shown) == 0 || shown[0].Node != "pm-0" || shown[0].ServerID != "pm-0" {
		t.Errorf("shown as %v", shown)
	}
	if got := g.probe("edge-1"); !got.GetReachable() || !got.GetReady() {
		t.Errorf("another node finds %v", got)
	}
	g.deploy("edge-1")
	g.await("it has its unit", acked("edge-1"))
	// What cannot be rendered is refused by the cluster, over the same connections.
	if _, err := g.manager.Preview(t.Context(), "edge-1", row.GetAddress(), &oaaspb.DeploymentUnit{}); err == nil || !strings.Contains(err.Error(), dispatch.WaitRefused) {
		t.Errorf("a preview of nothing: %v", err)
	}
	if _, _, err := g.registry.DeleteDeployment(t.Context(), registry.RequestInfo{}, "shop.Cart"); err != nil {
		t.Fatal(err)
	}
	g.await("the cluster has confirmed the removal", func(s *fsm.Snapshot) bool { return len(s.Units()) == 0 && len(s.Deletions()) == 0 })

	c.stop()
	g.awaitUnreachable("edge-1", "no agent of the cluster is connected to the control plane")
	if got := g.probe("edge-1"); got.GetReachable() || !strings.Contains(got.GetError(), "no agent") {
		t.Errorf("another node finds %v", got)
	}
	// One that comes back, as another process, is the same cluster.
	modified := g.store.State().Snapshot().Cluster("edge-1").GetCreateIndex()
	connectManager(t, "edge-1", "uid-1", []string{g.address}, dial)
	g.awaitHealthy("edge-1")
	if row := g.store.State().Snapshot().Cluster("edge-1"); row.GetCreateIndex() != modified || row.GetAddress() != "agent://uid-1" {
		t.Errorf("it came back as %v", row)
	}
}

// Whoever cannot prove to be the cluster that it names is not let in, is told what to
// do, and changes nothing for the others.
func TestAgentsMustProveWhoTheyAre(t *testing.T) {
	ours, theirs := newCertificates(t, "ours"), newCertificates(t, "theirs")
	token := strings.Repeat("s3cret-", 6)
	tokens := ours.put("tokens", []byte(fmt.Sprintf("# of the test\nedge-1 %s\nedge-1 %s\nedge-2 %s\n", strings.Repeat("old", 20), token, strings.Repeat("other", 20))))
	files := ours.issue("pmd.test", time.Hour)
	g := openGate(t, agentOptions{Sides: files, ClientName: "{cluster}.crm.test", TokenFile: tokens})
	own := ours.issue("edge-1.crm.test", time.Hour)
	foreign := theirs.issue("edge-1.crm.test", time.Hour)
	foreign.CA = ours.ca()
	distrusting := ours.issue("edge-1.crm.test", time.Hour)
	distrusting.CA = theirs.ca()
	bare := tlsfiles.Sides{CA: ours.ca()}
	for what, tc := range map[string]struct {
		dial   func() ([]grpc.DialOption, error)
		reason string
	}{
		"another cluster's certificate": {shows(t, ours.issue("edge-2.crm.test", time.Hour), "pmd.test", token), "it has shown one for edge-2.crm.test"},
		"another authority's":           {shows(t, foreign, "pmd.test", token), "unknown certificate authority"},
		"an expired one":                {shows(t, ours.issue("old.edge-1.crm.test", -time.Minute), "pmd.test", token), "expired certificate"},
		"none":                          {shows(t, bare, "pmd.test", token), "certificate required"},
		"no TLS":                        {plaintext, "no connection to the control plane"},
		"no token":                      {shows(t, own, "pmd.test", ""), "no token for cluster edge-1 was shown"},
		"another's token":               {shows(t, own, "pmd.test", strings.Repeat("other", 20)), "the token that was shown is none of cluster edge-1"},
		"a name in capitals":            {shows(t, ours.issue("EDGE-1.crm.test", time.Hour), "pmd.test", token), "it has shown one for EDGE-1.crm.test"},
		"it does not trust the node":    {shows(t, distrusting, "pmd.test", token), "certificate signed by unknown authority"},
		"it wants another node":         {shows(t, own, "pm.elsewhere", token), "not pm.elsewhere"},
	} {
		t.Run(what, func(t *testing.T) {
			c := connectManager(t, "edge-1", "uid-1", []string{g.address}, tc.dial)
			c.refusedBecause(t, tc.reason)
			if got := g.hub.Attached(); len(got) != 0 {
				t.Errorf("attached: %v", got)
			}
		})
	}
	connectManager(t, "edge-1", "uid-1", []string{g.address}, shows(t, own, "pmd.test", token))
	g.awaitHealthy("edge-1")
	if log := g.log.String(); strings.Contains(log, token) || strings.Contains(log, "other"+"other") {
		t.Error("the log has a token in it")
	}
	for _, reason := range []string{tunnel.ReasonCertificate, tunnel.ReasonToken, tunnel.ReasonHandshake} {
		if counted(t, g.metrics, "oaas_pm_agent_refused_total", reason) == 0 {
			t.Errorf("no refusal is counted because of a %s", reason)
		}
	}
}

// counted gives the value of a counter with a label.
func counted(t *testing.T, from *prometheus.Registry, name, label string) float64 {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == name && m.GetLabel()[0].GetValue() == label {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// Tokens are followed, and a file that is broken changes nothing.
func TestTokensAreFollowed(t *testing.T) {
	ours := newCertificates(t, "ours")
	token := strings.Repeat("new", 20)
	file := ours.put("tokens", []byte("edge-2 "+token+"\n"))
	files := ours.issue("pmd.test", time.Hour)
	files.CA = ""
	g := openGate(t, agentOptions{Sides: files, TokenFile: file})
	c := connectManager(t, "edge-1", "uid-1", []string{g.address}, shows(t, tlsfiles.Sides{CA: ours.ca()}, "pmd.test", token))
	c.refusedBecause(t, "the token that was shown is none of cluster edge-1")
	ours.put("tokens", []byte("edge-1\n"))
	g.logged("tokens of agents cannot be used")
	ours.put("tokens", []byte("edge-1 "+token+"\n"))
	g.awaitHealthy("edge-1")
}

// Whose token or authority is taken out of the files is sent away within moments, with
// the reason, and comes back when it is there again. The others notice nothing.
func TestWhoIsNotEntitledAnyMoreIsSentAway(t *testing.T) {
	ours, theirs := newCertificates(t, "ours"), newCertificates(t, "theirs")
	first, second := strings.Repeat("one", 20), strings.Repeat("two", 20)
	file := ours.put("tokens", []byte("edge-1 "+first+"\nedge-2 "+second+"\n"))
	both := append(slices.Clone(ours.authority.CertPEM), theirs.authority.CertPEM...)
	files := ours.issue("pmd.test", time.Hour)
	files.CA = ours.put("clients.crt", both)
	g := openGate(t, agentOptions{Sides: files, ClientName: "{cluster}.crm.test", TokenFile: file})
	shown := theirs.issue("edge-1.crm.test", time.Hour)
	shown.CA = ours.ca()
	c := connectManager(t, "edge-1", "uid-1", []string{g.address}, shows(t, shown, "pmd.test", first))
	connectManager(t, "edge-2", "uid-2", []string{g.address}, shows(t, ours.issue("edge-2.crm.test", time.Hour), "pmd.test", second))
	g.awaitHealthy("edge-1")
	g.awaitHealthy("edge-2")
	untouched := func() map[string]time.Time {
		out := map[string]time.Time{}
		for _, c := range g.hub.Connections(tunnel.Cluster{Name: "edge-2", UID: "uid-2"}) {
			out[c.RemoteAddress] = c.Since
		}
		return out
	}
	eventually(t, "both its connections stand", func() bool { return len(untouched()) == 2 })
	before := untouched()
	// A stream that stands is ended with more words than one that is just being offered.
	for _, step := range []struct {
		what, file, revoked, restored, reason string
	}{
		{"the token", file, "edge-2 " + second + "\n", "edge-1 " + first + "\nedge-2 " + second + "\n", "the token that was shown is none of cluster edge-1"},
		{"the authority", files.CA, string(ours.authority.CertPEM), string(both), "the certificate for cluster edge-1 is not good any more: its authority is none of those"},
	} {
		ours.put(filepath.Base(step.file), []byte(step.revoked))
		c.refusedBecause(t, step.reason)
		eventually(t, "it is gone without "+step.what, func() bool { return len(g.hub.Connections(tunnel.Cluster{Name: "edge-1", UID: "uid-1"})) == 0 })
		ours.put(filepath.Base(step.file), []byte(step.restored))
		eventually(t, "it is back with "+step.what, func() bool { return len(g.hub.Connections(tunnel.Cluster{Name: "edge-1", UID: "uid-1"})) == 2 })
	}
	if diff := cmp.Diff(before, untouched()); diff != "" {
		t.Errorf("connections of the other cluster: %s", diff)
	}
	// No token at all is nobody at all.
	ours.put("tokens", nil)
	g.logged(nobodyNow)
	eventually(t, "nobody is left", func() bool { return len(g.hub.Attached()) == 0 })
}

// A change counts when it is found twice: between two writes a file may be empty, or end
// after the half of its lines.
func TestTokensThatAreBeingWritten(t *testing.T) {
	dir, token := newCertificates(t, "ours"), strings.Repeat("new", 20)
	full := []byte("edge-1 " + token + "\nedge-2 " + token + "\n")
	out := &lines{}
	tokens, err := openTokens(dir.put("tokens", full), time.Minute, hclog.New(&hclog.LoggerOptions{Output: out}))
	if err != nil {
		t.Fatal(err)
	}
	clusters := func() int { return len(tokens.now.Load().byCluster) }
	for _, text := range []string{"", "edge-1 " + token + "\n", "edge-1 " + token + "\nedge-"} {
		dir.put("tokens", []byte(text))
		if again := tokens.look(); again > time.Minute {
			t.Errorf("looks again after %s", again)
		}
		if clusters() != 2 {
			t.Errorf("%q is believed at once", text)
		}
	}
	for _, step := range []struct {
		text string
		want int
	}{{"", 0}, {string(full), 2}, {"# nobody\n", 0}} {
		dir.put("tokens", []byte(step.text))
		if again := tokens.look(); again != time.Second {
			t.Errorf("looks again after %s", again)
		}
		if tokens.look(); clusters() != step.want {
			t.Errorf("%q is not taken in", step.text)
		}
	}
	if n := strings.Count(out.String(), nobodyNow); n != 2 {
		t.Errorf("%d warnings:\n%s", n, out)
	}
	if _, err := openTokens(dir.put("tokens", nil), 0, hclog.New(&hclog.LoggerOptions{Output: out})); err != nil || strings.Count(out.String(), nobodyNow) != 3 {
		t.Errorf("without a token at the start: %v\n%s", err, out)
	}
}

// eventually waits until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("never: %s", what)
		}
	}
}

// logged waits for a line.
func (f *fleet) logged(text string) {
	f.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !strings.Contains(f.log.String(), text) {
		select {
		case <-tick.C:
		case <-deadline.C:
			f.t.Fatalf("never logged %q:\n%s", text, f.log)
		}
	}
}

// Two clusters of one name never take turns: the one that is registered stays.
func TestAgentOfAnotherClusterIsSentAway(t *testing.T) {
	g := openGate(t, agentOptions{Plaintext: true})
	connectManager(t, "edge-1", "uid-1", []string{g.address}, plaintext)
	g.awaitHealthy("edge-1")
	stranger := connectManager(t, "edge-1", "uid-2", []string{g.address}, plaintext)
	stranger.refusedBecause(t, "the name edge-1 is that of the cluster with uid uid-1, this one has uid-2")
	g.deploy("edge-1")
	g.await("the registered one has its unit", acked("edge-1"))
	if got := g.hub.Attached(); len(got) != 1 || got[0].UID != "uid-1" {
		t.Errorf("attached: %v", got)
	}
	if row := g.store.State().Snapshot().Cluster("edge-1"); row.GetUid() != "uid-1" {
		t.Errorf("registered: %v", row)
	}
}

// While there are servers that could not dial it, a cluster is not reached that way.
func TestAgentsWaitForTheFeatureLevel(t *testing.T) {
	g := openGate(t, agentOptions{Plaintext: true})
	older := newFleet(t)
	older.raise(fsm.AgentsFrom - 1)
	directory := discovery.NewDirectory(nil, foundAgents{g.hub})
	older.run(directory, (&dialer{agents: g.hub.Dial}).dial)
	connectManager(t, "edge-1", "uid-1", []string{g.address}, plaintext)
	g.awaitHealthy("edge-1")
	older.logged("agents are not registered before all servers know how to reach them")
	if n := len(older.store.State().Snapshot().Clusters()); n != 0 {
		t.Errorf("%d clusters are registered", n)
	}
	older.raise(fsm.AgentsFrom)
	older.awaitHealthy("edge-1")
}

func TestParseTokens(t *testing.T) {
	token := strings.Repeat("x", minToken)
	for text, want := range map[string]string{
		"":                                    "",
		"# nobody\n":                          "",
		"edge-1":                              "line 1: want a cluster's name and a token",
		"\n# a\nedge-1 short":                 "line 3: a token has 32 to 512 characters",
		"edge-1 " + token + " more":           "line 1: want",
		"e " + strings.Repeat("x", 1<<20):     "a line is too long",
		strings.Repeat("#\n", maxTokenFile):   "has more than",
		"edge-1 " + token + "\nedge-2\n":      "line 2: want",
		"  edge-1\t" + token + "\r\n# c \n\n": "",
	} {
		table, err := parseTokens([]byte(text))
		switch {
		case want == "" && (err != nil || len(table.byCluster["edge-1"]) != strings.Count(text, token)):
			t.Errorf("%q: %v, %v", text, table, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%.40q: %v, want %q", text, err, want)
		case err != nil && strings.Contains(err.Error(), token):
			t.Errorf("the error has a token in it: %v", err)
		}
	}
}

func FuzzParseTokens(f *testing.F) {
	f.Add([]byte("edge-1 " + strings.Repeat("x", 40) + "\n# c\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		table, err := parseTokens(text)
		if (table == nil) == (err == nil) {
			t.Fatalf("%v, %v", table, err)
		}
		if err == nil && len(table.byCluster) == 0 && len(bytes.TrimSpace(text)) > 0 && !bytes.Contains(text, []byte("#")) {
			t.Fatal("lines were passed over")
		}
	})
}
