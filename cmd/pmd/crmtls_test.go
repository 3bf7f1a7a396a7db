package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/cache/informertest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"oaas.io/control-plane/cmd/internal/tlsfiles"
	"oaas.io/control-plane/crm/api/v1alpha1"
	crmserver "oaas.io/control-plane/crm/server"
	"oaas.io/control-plane/deploy/local/pki"
	"oaas.io/control-plane/discovery"
	"oaas.io/control-plane/dispatch"
	"oaas.io/control-plane/dispatch/liveness"
	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
	"oaas.io/control-plane/registry/registrytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

// certificates are made for one test.
type certificates struct {
	t         *testing.T
	authority *pki.Pair
	dir       string
}

func newCertificates(t *testing.T, name string) *certificates {
	t.Helper()
	authority, err := pki.NewAuthority(name, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c := &certificates{t: t, authority: authority, dir: t.TempDir()}
	c.put("ca.crt", authority.CertPEM)
	return c
}

func (c *certificates) put(name string, text []byte) string {
	c.t.Helper()
	path := filepath.Join(c.dir, name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		c.t.Fatal(err)
	}
	return path
}

func (c *certificates) ca() string { return filepath.Join(c.dir, "ca.crt") }

// issue writes a certificate for a host that is valid for a time.
func (c *certificates) issue(host string, valid time.Duration) tlsfiles.Sides {
	c.t.Helper()
	pair, err := pki.Issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(valid),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, c.authority)
	if err != nil {
		c.t.Fatal(err)
	}
	cert, key, err := pair.Write(c.dir, host)
	if err != nil {
		c.t.Fatal(err)
	}
	return tlsfiles.Sides{Cert: cert, Key: key, CA: c.ca()}
}

type apiUp struct{}

func (apiUp) Observe() crmserver.APIState {
	return crmserver.APIState{Ready: true, Version: "v1.37.2", LastContact: time.Now()}
}

// newManager makes the gRPC side of a class runtime manager over an API server in
// memory, with TLS unless there is no configuration.
func newManager(t *testing.T, name, uid string, config *tls.Config) *crmserver.Server {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	system := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kube-system", UID: types.UID(uid)}}
	objects := fake.NewClientBuilder().WithScheme(scheme).WithObjects(system).WithInterceptorFuncs(interceptor.Funcs{
		// The library in memory cannot keep our objects; that they are taken is enough.
		Create: func(context.Context, client.WithWatch, client.Object, ...client.CreateOption) error { return nil },
	}).Build()
	server, err := crmserver.New(crmserver.Options{
		ClusterName: name, Namespace: "oaas", API: apiUp{}, Logger: hclog.New(&hclog.LoggerOptions{Output: os.Stderr, Level: hclog.Error}), HeartbeatInterval: 50 * time.Millisecond, TLS: config,
	})
	if err != nil {
		t.Fatal(err)
	}
	detach, err := server.Attach(t.Context(), crmserver.Backend{Client: objects, Live: objects, Informers: &informertest.FakeInformers{Scheme: scheme}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(detach)
	return server
}

// serveManager serves one on a port of its own.
func serveManager(t *testing.T, name string, config *tls.Config) string {
	t.Helper()
	server := newManager(t, name, "uid-of-"+name, config)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return listener.Addr().String()
}

// quick are deadlines for tests.
var quick = liveness.Limits{
	Renewal: 10 * time.Millisecond, Suspect: 25 * time.Millisecond, Unreachable: 50 * time.Millisecond, Eligible: time.Hour, Return: 20 * time.Millisecond,
}

// fleet is a leader without Raft, and what it knows of its clusters.
type fleet struct {
	t        *testing.T
	store    *registrytest.Store
	registry *registry.Registry
	manager  *dispatch.Manager
	dial     dispatch.Dialer
	logger   hclog.Logger
	log      *lines
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

// newFleet makes a leader without clusters.
func newFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{t: t, log: &lines{}}
	f.logger = hclog.New(&hclog.LoggerOptions{Output: f.log, Level: hclog.Debug})
	var err error
	if f.store, err = registrytest.New(); err != nil {
		t.Fatal(err)
	}
	if f.registry, err = registry.New(registry.Options{Store: f.store, NewUID: func() string { return "uid-1" }}); err != nil {
		t.Fatal(err)
	}
	return f
}

// run runs the leader's loops, and what else is given, until the test ends.
func (f *fleet) run(candidates dispatch.Candidates, dial dispatch.Dialer, further ...func(context.Context)) {
	f.t.Helper()
	f.dial = dial
	var err error
	f.manager, err = dispatch.New(dispatch.Options{
		Registry: f.registry, Candidates: candidates, Dial: dial, Logger: f.logger,
		RetryMin: 5 * time.Millisecond, RetryMax: 50 * time.Millisecond, Health: quick, BatchWindow: time.Millisecond,
	})
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := f.manager.Run(ctx, 1); err != nil {
			f.t.Error(err)
		}
	})
	for _, more := range further {
		running.Go(func() { more(ctx) })
	}
	f.t.Cleanup(func() { cancel(); running.Wait() })
}

// lead runs the leader's loops with clusters that are configured in JSON.
func lead(t *testing.T, opts crmOptions, clusters map[string]map[string]any) *fleet {
	t.Helper()
	if err := opts.Validate(); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(clusters)
	if err != nil {
		t.Fatal(err)
	}
	static, err := discovery.Static(func(key string) string { return map[string]string{"CRM_CLUSTERS_JSON": string(text)}[key] })
	if err != nil {
		t.Fatal(err)
	}
	f := newFleet(t)
	opts.interval = 2 * time.Millisecond
	connect, err := openClusterTLS(&opts, static.Candidates, f.logger)
	if err != nil {
		t.Fatal(err)
	}
	f.run(discovery.NewDirectory(static.Candidates), (&dialer{tls: connect}).dial, connect.store.Run)
	return f
}

// await waits until the state satisfies ok.
func (f *fleet) await(what string, ok func(*fsm.Snapshot) bool) {
	f.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		snap := f.store.State().Snapshot()
		changed := snap.WatchAll()
		if ok(snap) {
			return
		}
		select {
		case <-changed:
		case <-deadline.C:
			f.t.Fatalf("never: %s; units %v, clusters %v", what, snap.Units(), snap.Clusters())
		}
	}
}

// probe tries to reach a cluster as a node that does not lead does for the leader.
func (f *fleet) probe(name string) *pmpb.ProbeClusterResponse {
	f.t.Helper()
	snap := f.store.State().Snapshot()
	resp, err := dispatch.NewProber(f.store.State(), f.dial, "pm-9").ProbeCluster(f.t.Context(), &pmpb.ProbeClusterRequest{
		ClusterId: snap.Meta().GetClusterId(), ServerId: "pm-9", Name: name, Address: snap.Cluster(name).GetAddress(),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return resp
}

func (f *fleet) awaitHealthy(name string) {
	f.t.Helper()
	f.await(name+" is healthy", func(s *fsm.Snapshot) bool {
		return s.Cluster(name).GetHealth() == pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY
	})
}

// awaitUnreachable waits until a cluster is unreachable for a reason.
func (f *fleet) awaitUnreachable(name, reason string) {
	f.t.Helper()
	f.await(fmt.Sprintf("%s is unreachable because of %q", name, reason), func(s *fsm.Snapshot) bool {
		c := s.Cluster(name)
		return c.GetHealth() == pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE && strings.Contains(c.GetHealthMessage(), reason)
	})
}

func (f *fleet) deploy(envs ...string) {
	f.t.Helper()
	pkg, err := model.DecodePackage([]byte(`{"name":"shop","classes":[{"key":"Cart","function_bindings":[{"name":"add","function_key":"Cart.add","access_modifier":"PUBLIC"}]}],
		"functions":[{"key":"Cart.add","provision_config":{"container_image":"registry.local/cart:1"}}]}`))
	if err != nil {
		f.t.Fatal(err)
	}
	if _, _, err := f.registry.CreatePackage(f.t.Context(), registry.RequestInfo{}, pkg); err != nil {
		f.t.Fatal(err)
	}
	image := "registry.local/cart:1"
	if _, _, err := f.registry.Deploy(f.t.Context(), registry.RequestInfo{}, &model.OClassDeployment{
		Key: "shop.Cart", PackageName: "shop", ClassKey: "Cart", TargetEnvs: envs,
		Functions: []model.FunctionDeploymentSpec{{FunctionKey: "Cart.add", ProvisionConfig: &model.ProvisionConfig{ContainerImage: &image}}},
	}); err != nil {
		f.t.Fatal(err)
	}
}

// acked says whether a cluster has confirmed its unit.
func acked(name string) func(*fsm.Snapshot) bool {
	return func(s *fsm.Snapshot) bool {
		for _, u := range s.Units() {
			if u.GetEnv() == name {
				return fsm.Acknowledged(u)
			}
		}
		return false
	}
}

// port makes the TLS of a manager from files.
func port(t *testing.T, files tlsfiles.Sides, names ...string) *tls.Config {
	t.Helper()
	store := tlsfiles.New(tlsfiles.Options{Namespace: "oaas_crm", Interval: 2 * time.Millisecond})
	pair, clients, err := store.Load(files)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { store.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return tlsfiles.Server{Certificate: pair, Clients: clients, Names: names}.Config()
}

// With both sides proving who they are, a deployment reaches the cluster. Managers
// that are not to be trusted, or do not trust this node, are each shown with what is
// wrong, and harm no other.
func TestMutualTLS(t *testing.T) {
	ours, theirs := newCertificates(t, "ours"), newCertificates(t, "theirs")
	clusters := map[string]map[string]any{}
	add := func(name, scheme string, config *tls.Config, settings map[string]any) {
		clusters[name] = map[string]any{"url": scheme + "://" + serveManager(t, name, config)}
		if settings != nil {
			clusters[name]["tls"] = settings
		}
	}
	one := func(name string) tlsfiles.Sides { return ours.issue(name+".crm.test", time.Hour) }
	add("good", "https", port(t, one("good"), "pmd.test"), nil)
	add("named", "grpcs", port(t, ours.issue("elsewhere.test", time.Hour)), map[string]any{"server_name": "elsewhere.test"})
	foreign := theirs.issue("other-ca.crm.test", time.Hour)
	foreign.CA = ours.ca()
	add("other-ca", "https", port(t, foreign), map[string]any{"ca_cert": theirs.ca()})
	add("plain", "http", nil, nil)

	unknown := theirs.issue("unknown.crm.test", time.Hour)
	unknown.CA = ours.ca()
	add("unknown", "https", port(t, unknown), nil)
	add("expired", "https", port(t, ours.issue("expired.crm.test", -time.Minute)), nil)
	add("disguised", "https", port(t, one("somebody")), nil)
	distrusting := one("distrusting")
	distrusting.CA = theirs.ca()
	add("distrusting", "https", port(t, distrusting), nil)
	add("choosy", "https", port(t, one("choosy"), "another.test"), nil)
	add("without", "https", nil, nil)
	add("only-tls", "http", port(t, one("only-tls")), nil)

	client := ours.issue("pmd.test", time.Hour)
	f := lead(t, crmOptions{Sides: client, ServerName: "{cluster}.crm.test"}, clusters)
	for name, reason := range map[string]string{
		"unknown":     "no trusted connection to the manager: its certificate is signed by an authority that is not trusted here",
		"expired":     "no trusted connection to the manager: the certificate of expired.crm.test is valid from",
		"disguised":   "no trusted connection to the manager: its certificate is for somebody.crm.test, not for disguised.crm.test",
		"distrusting": "it refuses this node's certificate, or misses one (--crm-tls-cert): remote error: tls: unknown certificate authority",
		"choosy":      "it refuses this node's certificate, or misses one (--crm-tls-cert): remote error: tls: bad certificate",
		"without":     "it does not speak TLS",
		"only-tls":    "no trusted connection to the manager: this port takes connections with TLS only",
	} {
		f.awaitUnreachable(name, reason)
		_, because, _ := strings.Cut(reason, ": ")
		if got := f.probe(name); got.GetReachable() || !strings.Contains(got.GetError(), because) {
			t.Errorf("%s: another node finds %v", name, got)
		}
	}
	for _, name := range []string{"good", "named", "other-ca", "plain"} {
		f.awaitHealthy(name)
		if got := f.probe(name); !got.GetReachable() || !got.GetReady() {
			t.Errorf("%s: another node finds %v", name, got)
		}
	}
	f.deploy("good", "expired", "only-tls")
	f.await("the one that is trusted has its unit", acked("good"))
	for _, u := range f.store.State().Snapshot().Units() {
		if u.GetEnv() != "good" && fsm.Acknowledged(u) {
			t.Errorf("%s has a unit", u.GetEnv())
		}
	}
	key, err := os.ReadFile(client.Key)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(key)), "\n") {
		if strings.Contains(f.log.String(), line) {
			t.Errorf("the log has a line of the key: %q", line)
		}
	}
}

func TestManagerWantsACertificate(t *testing.T) {
	ours := newCertificates(t, "ours")
	address := serveManager(t, "edge-1", port(t, ours.issue("edge-1.test", time.Hour)))
	f := lead(t, crmOptions{Sides: tlsfiles.Sides{CA: ours.ca()}, ServerName: "edge-1.test"}, map[string]map[string]any{"edge-1": {"url": "https://" + address}})
	f.awaitUnreachable("edge-1", "misses one (--crm-tls-cert): remote error: tls: certificate required")
}

// A bundle that gets the missing authority makes a cluster reachable, without a
// restart.
func TestAuthoritiesAreFollowed(t *testing.T) {
	ours, theirs := newCertificates(t, "ours"), newCertificates(t, "theirs")
	address := serveManager(t, "edge-1", port(t, ours.issue("edge-1.test", time.Hour)))
	client := ours.issue("pmd.test", time.Hour)
	client.CA = theirs.ca()
	opts := crmOptions{Sides: client, ServerName: "{cluster}.test"}
	f := lead(t, opts, map[string]map[string]any{"edge-1": {"url": "https://" + address}})
	f.awaitUnreachable("edge-1", "not trusted here")
	theirs.put("ca.crt", append(bytes.Clone(theirs.authority.CertPEM), ours.authority.CertPEM...))
	f.awaitHealthy("edge-1")
}

// Renewed certificates count for new connections, and those that stand go on.
func TestRenewalEndsNoConnection(t *testing.T) {
	ours := newCertificates(t, "ours")
	address := serveManager(t, "edge-1", port(t, ours.issue("edge-1.test", time.Hour)))
	client := ours.issue("pmd.test", time.Hour)
	f := lead(t, crmOptions{Sides: client, ServerName: "{cluster}.test"}, map[string]map[string]any{"edge-1": {"url": "https://" + address}})
	f.awaitHealthy("edge-1")
	shown := func() string {
		t.Helper()
		pair, err := tls.LoadX509KeyPair(client.Cert, client.Key)
		if err != nil {
			t.Fatal(err)
		}
		pool := x509.NewCertPool()
		pool.AddCert(ours.authority.Cert)
		conn, err := tls.Dial("tcp", address, &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, ServerName: "edge-1.test", Certificates: []tls.Certificate{pair}})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close() //nolint:errcheck // only its certificate counts
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	before := shown()
	ours.issue("edge-1.test", time.Hour)
	ours.issue("pmd.test", time.Hour)
	for deadline := time.Now().Add(patience); shown() == before; {
		if time.Now().After(deadline) {
			t.Fatal("the renewed certificate is never shown")
		}
	}
	f.deploy("edge-1")
	f.await("the unit goes over the old connection", acked("edge-1"))
	if strings.Contains(f.log.String(), "session ended") {
		t.Errorf("the connection ended:\n%s", f.log)
	}
}

func TestWithoutTLSWhenItIsRequired(t *testing.T) {
	opts := crmOptions{Required: true}
	static := []discovery.Candidate{{Name: "edge-1", Address: "127.0.0.1:1", Source: discovery.SourceStatic}}
	if _, err := openClusterTLS(&opts, static, hclog.NewNullLogger()); err == nil || !strings.Contains(err.Error(), `"edge-1"`) {
		t.Errorf("a configured cluster without TLS: %v", err)
	}
	connect, err := openClusterTLS(&opts, nil, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	// An announced one is refused when it is connected to.
	if _, _, err := connect.credentials("edge-1", "127.0.0.1:1").ClientHandshake(t.Context(), "127.0.0.1:1", nil); err == nil || !strings.Contains(err.Error(), "--crm-tls-required") {
		t.Errorf("an announced cluster without TLS: %v", err)
	}
}

// Settings of a configured cluster are of its configured address only.
func TestSettingsAreOfOneAddress(t *testing.T) {
	static := []discovery.Candidate{{Name: "edge-1", Address: "https://a:1", Source: discovery.SourceStatic, TLS: &discovery.TLS{Insecure: true}}}
	connect, err := openClusterTLS(&crmOptions{}, static, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]bool{"https://a:1": true, "https://b:1": false} {
		if got := connect.credentials("edge-1", address).(trusting).client.Insecure; got != want {
			t.Errorf("%s: any certificate is accepted: %t", address, got)
		}
	}
}

func TestMissingFilesAreTold(t *testing.T) {
	static := []discovery.Candidate{{Name: "edge-1", Address: "https://a:1", Source: discovery.SourceStatic, TLS: &discovery.TLS{CACert: "/nowhere/ca.crt"}}}
	if _, err := openClusterTLS(&crmOptions{}, static, hclog.NewNullLogger()); err == nil || !strings.Contains(err.Error(), `"edge-1"`) || !strings.Contains(err.Error(), "/nowhere/ca.crt") {
		t.Errorf("%v", err)
	}
}
