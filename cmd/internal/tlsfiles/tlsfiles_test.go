package tlsfiles

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"oaas.io/control-plane/deploy/local/pki"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of these tests.
const patience = 20 * time.Second

// authority signs what a test needs.
type authority struct {
	t *testing.T
	*pki.Pair
}

func newAuthority(t *testing.T, name string) authority {
	t.Helper()
	pair, err := pki.NewAuthority(name, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return authority{t, pair}
}

// issue makes a certificate for a host, which may be a client too.
func (a authority) issue(host string, edit ...func(*x509.Certificate)) *pki.Pair {
	a.t.Helper()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, e := range edit {
		e(template)
	}
	pair, err := pki.Issue(template, a.Pair)
	if err != nil {
		a.t.Fatal(err)
	}
	return pair
}

// files are those of one side in a directory.
type files struct {
	t             *testing.T
	cert, key, ca string
}

func newFiles(t *testing.T, pair *pki.Pair, trusted ...*pki.Pair) files {
	t.Helper()
	dir := t.TempDir()
	f := files{t: t, cert: filepath.Join(dir, "tls.crt"), key: filepath.Join(dir, "tls.key"), ca: filepath.Join(dir, "ca.crt")}
	f.write(pair)
	f.trust(trusted...)
	return f
}

func (f files) put(path string, text []byte) {
	f.t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		f.t.Fatal(err)
	}
}

func (f files) write(pair *pki.Pair) {
	f.t.Helper()
	f.put(f.cert, pair.CertPEM)
	f.put(f.key, pair.KeyPEM)
}

func (f files) trust(authorities ...*pki.Pair) {
	f.t.Helper()
	var text []byte
	for _, a := range authorities {
		text = append(text, a.CertPEM...)
	}
	f.put(f.ca, text)
}

// log collects what is logged.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// newStore makes a store that looks all the time, until the test ends.
func newStore(t *testing.T) (*Store, *log) {
	t.Helper()
	s, lines := newIdleStore()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return s, lines
}

// newIdleStore makes a store that looks when it is told to.
func newIdleStore() (*Store, *log) {
	lines := &log{}
	return New(Options{Namespace: "oaas_test", Logger: hclog.New(&hclog.LoggerOptions{Output: lines}), Interval: 2 * time.Millisecond}), lines
}

func (s *Store) lookAtAll() {
	for _, e := range s.all() {
		e.look()
	}
}

func (f files) load(s *Store) (*KeyPair, *Pool) {
	f.t.Helper()
	pair, pool, err := s.Load(Sides{Cert: f.cert, Key: f.key, CA: f.ca})
	if err != nil {
		f.t.Fatal(err)
	}
	return pair, pool
}

// shake connects a client with a server, lets a byte pass each way, and tells what
// went wrong on either side.
func shake(t *testing.T, server, client *tls.Config) (state tls.ConnectionState, serverErr, clientErr error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // the test is over
	done := make(chan error, 1)
	go func() {
		raw, err := listener.Accept()
		if err != nil {
			done <- err
			return
		}
		conn := tls.Server(raw, server)
		defer conn.Close() //nolint:errcheck // the test is over
		_, err = io.CopyN(conn, conn, 1)
		done <- err
	}()
	raw, err := net.DialTimeout("tcp", listener.Addr().String(), patience)
	if err != nil {
		t.Fatal(err)
	}
	conn := tls.Client(raw, client)
	defer conn.Close() //nolint:errcheck // the test is over
	_, clientErr = conn.Write([]byte{1})
	if clientErr == nil {
		_, clientErr = io.ReadFull(conn, make([]byte, 1))
	}
	state = conn.ConnectionState()
	_ = conn.Close()
	return state, <-done, clientErr
}

// eventually looks until the condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(patience)
	for !condition() {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("timed out: %s", what)
		}
	}
}

func TestWhoMayConnect(t *testing.T) {
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	spiffe, err := url.Parse("spiffe://oaas.io/pmd")
	if err != nil {
		t.Fatal(err)
	}
	past := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }
	store, _ := newStore(t)
	server := newFiles(t, ours.issue("crm.oaas"), ours.Pair)
	for name, tc := range map[string]struct {
		server *pki.Pair
		// client is nil for one without a certificate.
		client *pki.Pair
		trusts *pki.Pair
		names  []string
		asks   string
		// serverSays and clientSays are parts of the errors; both empty: they connect.
		serverSays, clientSays string
	}{
		"both trusted":             {client: ours.issue("pmd"), trusts: ours.Pair},
		"a name that may":          {client: ours.issue("pm-0.pm"), trusts: ours.Pair, names: []string{"x", "PM-0.pm"}},
		"a URI that may":           {client: ours.issue("", func(c *x509.Certificate) { c.URIs, c.DNSNames = []*url.URL{spiffe}, nil }), trusts: ours.Pair, names: []string{"spiffe://oaas.io/pmd"}},
		"a common name that may":   {client: ours.issue("pmd", func(c *x509.Certificate) { c.DNSNames = nil }), trusts: ours.Pair, names: []string{"pmd"}},
		"a name that may not":      {client: ours.issue("crm.oaas"), trusts: ours.Pair, names: []string{"pmd"}, serverSays: `client "crm.oaas" is none of those`, clientSays: "bad certificate"},
		"a URI in other letters":   {client: ours.issue("", func(c *x509.Certificate) { c.URIs, c.DNSNames = []*url.URL{spiffe}, nil }), trusts: ours.Pair, names: []string{"spiffe://oaas.io/PMD"}, serverSays: "none of those", clientSays: "bad certificate"},
		"client without one":       {trusts: ours.Pair, serverSays: "didn't provide a certificate", clientSays: "certificate required"},
		"client of others":         {client: theirs.issue("pmd"), trusts: ours.Pair, serverSays: "unknown authority", clientSays: "unknown certificate authority"},
		"client's has expired":     {client: ours.issue("pmd", past), trusts: ours.Pair, serverSays: "expired", clientSays: "expired certificate"},
		"client's is for a server": {client: ours.issue("pmd", func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] }), trusts: ours.Pair, serverSays: "incompatible key usage", clientSays: "bad certificate"},
		"server of others":         {client: ours.issue("pmd"), trusts: theirs.Pair, serverSays: "bad certificate", clientSays: "unknown authority"},
		"server of another name":   {client: ours.issue("pmd"), trusts: ours.Pair, asks: "crm.other", serverSays: "bad certificate", clientSays: "not crm.other"},
		"server's has expired":     {server: ours.issue("crm.oaas", past), client: ours.issue("pmd"), trusts: ours.Pair, serverSays: "bad certificate", clientSays: "expired"},
		"server's is for a client": {server: ours.issue("crm.oaas", func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[1:] }), client: ours.issue("pmd"), trusts: ours.Pair, serverSays: "bad certificate", clientSays: "incompatible key usage"},
	} {
		t.Run(name, func(t *testing.T) {
			pair, pool := server.load(store)
			if tc.server != nil {
				pair, _ = newFiles(t, tc.server, ours.Pair).load(store)
			}
			who := tc.client
			if who == nil {
				who = ours.issue("nobody")
			}
			client := Client{ServerName: "crm.oaas"}
			client.Certificate, client.Roots = newFiles(t, who, tc.trusts).load(store)
			if tc.client == nil {
				client.Certificate = nil
			}
			if tc.asks != "" {
				client.ServerName = tc.asks
			}
			state, serverErr, clientErr := shake(t, Server{Certificate: pair, Clients: pool, Names: tc.names}.Config(), client.Config())
			for side, said := range map[string]struct {
				err  error
				want string
			}{"server": {serverErr, tc.serverSays}, "client": {clientErr, tc.clientSays}} {
				if said.want == "" && said.err != nil || said.want != "" && (said.err == nil || !strings.Contains(said.err.Error(), said.want)) {
					t.Errorf("the %s says %v, want %q", side, said.err, said.want)
				}
			}
			if tc.clientSays == "" && (state.Version != tls.VersionTLS13 || state.NegotiatedProtocol != "h2" || state.DidResume) {
				t.Errorf("connected with %s, %q", tls.VersionName(state.Version), state.NegotiatedProtocol)
			}
		})
	}
}

func TestOldVersionsAreRefused(t *testing.T) {
	ours := newAuthority(t, "ours")
	store, _ := newStore(t)
	pair, pool := newFiles(t, ours.issue("crm"), ours.Pair).load(store)
	client := Client{Roots: pool, ServerName: "crm"}.Config()
	client.MinVersion, client.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if _, _, err := shake(t, Server{Certificate: pair}.Config(), client); err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("TLS 1.1: %v", err)
	}
	client.MaxVersion = tls.VersionTLS12
	if _, _, err := shake(t, Server{Certificate: pair}.Config(), client); err != nil {
		t.Errorf("TLS 1.2: %v", err)
	}
}

func TestWithoutFilesOfItsOwn(t *testing.T) {
	ours := newAuthority(t, "ours")
	store, _ := newStore(t)
	pair, _ := newFiles(t, ours.issue("crm"), ours.Pair).load(store)
	if _, _, err := shake(t, Server{Certificate: pair}.Config(), Client{ServerName: "crm"}.Config()); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("the system's authorities vouch for ours: %v", err)
	}
	if _, _, err := shake(t, Server{Certificate: pair}.Config(), Client{Insecure: true}.Config()); err != nil {
		t.Errorf("insecure: %v", err)
	}
}

// What changes on disk counts for the next handshake, and not for connections that
// stand.
func TestRotation(t *testing.T) {
	first, second := newAuthority(t, "first"), newAuthority(t, "second")
	store, lines := newStore(t)
	serverFiles, clientFiles := newFiles(t, first.issue("crm"), first.Pair), newFiles(t, first.issue("pmd"), first.Pair)
	server, client := Server{}, Client{ServerName: "crm"}
	server.Certificate, server.Clients = serverFiles.load(store)
	client.Certificate, client.Roots = clientFiles.load(store)
	config := server.Config()
	connects := func() bool {
		_, serverErr, clientErr := shake(t, config, client.Config())
		return serverErr == nil && clientErr == nil
	}
	if !connects() {
		t.Fatal("does not connect at first")
	}
	standing := client.Config()
	// As an authority is replaced: both are trusted, then all have new ones, then the
	// old one is no longer trusted.
	serverFiles.trust(first.Pair, second.Pair)
	clientFiles.trust(first.Pair, second.Pair)
	renewed := second.issue("crm", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(2 * time.Hour) })
	serverFiles.write(renewed)
	clientFiles.write(second.issue("pmd"))
	serverFiles.trust(second.Pair)
	clientFiles.trust(second.Pair)
	eventually(t, "only the new ones are trusted", func() bool {
		state, _, err := shake(t, config, client.Config())
		return err == nil && bytes.Equal(state.PeerCertificates[0].Raw, renewed.Cert.Raw) && connects()
	})
	if _, _, err := shake(t, config, standing); err == nil {
		t.Error("a configuration of before the change trusts the new server")
	}
	want := float64(renewed.Cert.NotAfter.Unix())
	if got := gauge(t, store, "oaas_test_tls_certificate_expiry_timestamp_seconds", serverFiles.cert); got != want {
		t.Errorf("expiry %f, want %f", got, want)
	}
	if testutil.ToFloat64(store.reload.WithLabelValues(serverFiles.cert, outcomeLoaded)) == 0 {
		t.Error("a reload was not counted")
	}
	secretsStayOut(t, lines, renewed)
}

// Who was let in is asked about again: by a bundle that has changed, and as time goes by.
func TestVouches(t *testing.T) {
	first, second := newAuthority(t, "first"), newAuthority(t, "second")
	now := time.Now()
	store, _ := newIdleStore()
	store.opts.Clock = func() time.Time { return now }
	f := newFiles(t, first.issue("pmd"), first.Pair, second.Pair)
	server := Server{}
	server.Certificate, server.Clients = f.load(store)
	client := Client{Insecure: true}
	client.Certificate, _ = newFiles(t, second.issue("crm"), second.Pair).load(store)
	var chains [][]*x509.Certificate
	config := server.handshake()
	config.VerifyConnection = func(state tls.ConnectionState) error {
		chains = state.VerifiedChains
		return nil
	}
	if _, serverErr, clientErr := shake(t, config, client.Config()); serverErr != nil || clientErr != nil {
		t.Fatal(serverErr, clientErr)
	}
	vouches := func(want string) {
		t.Helper()
		if err := server.Clients.Vouches(chains); (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	vouches("")
	f.trust(first.Pair)
	store.lookAtAll()
	vouches("its authority is none of those that are trusted now")
	f.trust(first.Pair, second.Pair)
	store.lookAtAll()
	vouches("")
	now = now.Add(2 * time.Hour)
	vouches(`the certificate of "crm" is not valid after`)
	chains = nil
	vouches("no chain")
}

// The files of a Kubernetes volume are links into a directory that is swapped.
func TestSwappedLinks(t *testing.T) {
	ours := newAuthority(t, "ours")
	root := t.TempDir()
	publish := func(version string, pair *pki.Pair) {
		t.Helper()
		dir := filepath.Join(root, version)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if _, _, err := pair.Write(dir, "tls"); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(version, filepath.Join(root, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(root, "..data_tmp"), filepath.Join(root, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	publish("1", ours.issue("crm"))
	for _, name := range []string{"tls.crt", "tls.key"} {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	store, _ := newStore(t)
	pair, err := store.KeyPair(filepath.Join(root, "tls.crt"), filepath.Join(root, "tls.key"))
	if err != nil {
		t.Fatal(err)
	}
	next := ours.issue("crm")
	publish("2", next)
	eventually(t, "the second version is in use", func() bool {
		return bytes.Equal(pair.certificate().Certificate[0], next.Cert.Raw)
	})
}

func TestWhatIsBrokenReplacesNothing(t *testing.T) {
	ours := newAuthority(t, "ours")
	good := ours.issue("crm")
	for name, spoil := range map[string]func(files){
		"garbage":        func(f files) { f.put(f.cert, []byte("no certificate")) },
		"key of another": func(f files) { f.put(f.key, ours.issue("crm").KeyPEM) },
		"gone":           func(f files) { f.remove(f.cert) },
		"empty":          func(f files) { f.put(f.cert, nil) },
		"expired": func(f files) {
			f.write(ours.issue("crm", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }))
		},
		"not valid yet": func(f files) {
			f.write(ours.issue("crm", func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }))
		},
		"huge":                 func(f files) { f.put(f.cert, make([]byte, maxFile+1)) },
		"bundle of garbage":    func(f files) { f.put(f.ca, []byte("none")) },
		"bundle with a key":    func(f files) { f.put(f.ca, append(bytes.Clone(ours.CertPEM), good.KeyPEM...)) },
		"bundle that is empty": func(f files) { f.put(f.ca, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			store, lines := newIdleStore()
			f := newFiles(t, good, ours.Pair)
			pair, pool := f.load(store)
			config, client := Server{Certificate: pair, Clients: pool}.Config(), Client{Roots: pool, Certificate: pair, ServerName: "crm"}
			spoil(f)
			failed := func() (n float64) {
				for _, file := range []string{f.cert, f.ca} {
					n += testutil.ToFloat64(store.reload.WithLabelValues(file, outcomeFailed))
				}
				return n
			}
			store.lookAtAll()
			if failed() != 0 {
				t.Error("what may be half written is told of")
			}
			store.lookAtAll()
			store.lookAtAll()
			if _, serverErr, clientErr := shake(t, config, client.Config()); serverErr != nil || clientErr != nil {
				t.Errorf("the old one is no longer used: %v, %v", serverErr, clientErr)
			}
			f.write(ours.issue("crm"))
			f.trust(ours.Pair)
			store.lookAtAll()
			if bytes.Equal(pair.certificate().Certificate[0], good.Cert.Raw) {
				t.Error("what is whole again is not taken")
			}
			if n := failed(); n != 1 {
				t.Errorf("counted %f times", n)
			}
			if n := strings.Count(lines.String(), "cannot be used"); n != 1 {
				t.Errorf("told %d times:\n%s", n, lines)
			}
			secretsStayOut(t, lines, good)
		})
	}
}

func (f files) remove(path string) {
	f.t.Helper()
	if err := os.Remove(path); err != nil {
		f.t.Fatal(err)
	}
}

func TestWhatCannotBeUsedAtTheStart(t *testing.T) {
	ours := newAuthority(t, "ours")
	store, lines := newStore(t)
	f := newFiles(t, ours.issue("crm"), ours.Pair)
	missing := filepath.Join(t.TempDir(), "missing")
	if _, _, err := store.Load(Sides{Cert: missing, Key: f.key}); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), missing) {
		t.Errorf("a missing file: %v", err)
	}
	if _, _, err := store.Load(Sides{Cert: f.cert, Key: f.ca}); err == nil || !strings.Contains(err.Error(), f.cert) {
		t.Errorf("no key: %v", err)
	}
	if _, _, err := store.Load(Sides{CA: f.key}); err == nil || !strings.Contains(err.Error(), "EC PRIVATE KEY") {
		t.Errorf("a key for a bundle: %v", err)
	}
	// One that has expired may be replaced at any time.
	f.write(ours.issue("crm", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }))
	pair, _ := f.load(store)
	if !strings.Contains(lines.String(), "not valid now") {
		t.Errorf("nothing is said of an expired one:\n%s", lines)
	}
	next := ours.issue("crm")
	f.write(next)
	eventually(t, "the renewed one is taken", func() bool { return bytes.Equal(pair.certificate().Certificate[0], next.Cert.Raw) })
}

func TestOneFileIsReadOnce(t *testing.T) {
	ours := newAuthority(t, "ours")
	store, _ := newStore(t)
	f := newFiles(t, ours.issue("crm"), ours.Pair)
	pair, pool := f.load(store)
	if again, bundle := f.load(store); again != pair || bundle != pool {
		t.Error("the same files are read twice")
	}
	// A file may be both, and the metrics are whole all the same.
	if _, err := store.Pool(f.cert); err != nil {
		t.Fatal(err)
	}
	if n := testutil.CollectAndCount(store, "oaas_test_tls_certificate_expiry_timestamp_seconds"); n != 2 {
		t.Errorf("%d files have an expiry", n)
	}
}

// gauge reads one metric by its file.
func gauge(t *testing.T, s *Store, name, file string) float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(s); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == name && m.GetLabel()[0].GetValue() == file {
				return m.GetGauge().GetValue()
			}
		}
	}
	t.Fatalf("no %s of %s", name, file)
	return 0
}

func secretsStayOut(t *testing.T, lines *log, pair *pki.Pair) {
	t.Helper()
	text := lines.String()
	for _, line := range strings.Split(string(pair.KeyPEM), "\n") {
		if line != "" && strings.Contains(text, line) {
			t.Errorf("the log has %q in it", line)
		}
	}
}
