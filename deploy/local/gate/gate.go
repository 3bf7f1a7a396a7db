package gate

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

const (
	// clusterName is that of the only cluster in a kubeconfig of a gate.
	clusterName = "gate"
	// handshakeTimeout bounds how long a connection may take to say what it wants.
	handshakeTimeout = 10 * time.Second
	// validity is longer than any gate lives.
	validity = 24 * time.Hour
)

// Gate is one proxy before one API server. Its methods may be called from several goroutines.
type Gate struct {
	url    string
	token  string
	caPEM  []byte
	target *url.URL

	// valve has the connections of the program, outgoing those to the API server. Only the former are ever shut.
	valve, outgoing *valve
	server          *http.Server
	proxy           *httputil.ReverseProxy
	transport       *http.Transport
	// serving is the loop that accepts connections, connected what serves each of them.
	serving, connected sync.WaitGroup
	// underWay are the requests; an HTTP/2 connection does not wait for its own.
	underWay requests

	tally  tally
	faults faults
}

// Start opens a gate on loopback before the API server that config leads to, with the rights that config has.
func Start(config *rest.Config) (*Gate, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start gate: %w", err)
	}
	return Serve(listener, listener.Addr().String(), config)
}

// Serve is Start on a listener that programs reach at address, a host:port. The gate closes it, also when it cannot start.
func Serve(listener net.Listener, address string, config *rest.Config) (*Gate, error) {
	g, err := serveOn(listener, address, config)
	if err != nil {
		_ = listener.Close() // nobody was accepted
		return nil, fmt.Errorf("start gate: %w", err)
	}
	return g, nil
}

func serveOn(listener net.Listener, address string, config *rest.Config) (*Gate, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	g := &Gate{token: rand.Text(), url: "https://" + address}
	if err := g.connect(config); err != nil {
		return nil, err
	}
	certificate, caPEM, err := newCertificate(host)
	if err != nil {
		return nil, err
	}
	g.caPEM = caPEM
	g.valve = newValve(listener)
	g.tally.reset()
	g.faults.watches = map[*watch]bool{}
	silent := log.New(io.Discard, "", 0) // connections that break are what a gate is for
	g.proxy = &httputil.ReverseProxy{
		Rewrite: g.rewrite, Transport: g.wrap(config), FlushInterval: -1,
		ModifyResponse: g.answered, ErrorHandler: g.failed, ErrorLog: silent,
	}
	g.server = &http.Server{
		Handler: http.HandlerFunc(g.serve), ErrorLog: silent, ReadHeaderTimeout: handshakeTimeout,
		TLSConfig:   &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
		ConnContext: withConnection, ConnState: g.connection,
	}
	g.serving.Go(func() {
		// It ends with ErrServerClosed, by Close; without a listener there is nobody to tell anything else.
		_ = g.server.ServeTLS(g.valve, "", "")
	})
	return g, nil
}

// connect prepares the way to the API server. The transport is of this gate alone, so that its connections end with it.
func (g *Gate) connect(config *rest.Config) error {
	target, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return fmt.Errorf("url of the API server: %w", err)
	}
	tlsConfig, err := rest.TLSConfigFor(config)
	if err != nil {
		return fmt.Errorf("credentials of the API server: %w", err)
	}
	g.target, g.outgoing = target, newValve(nil)
	dialer := &net.Dialer{Timeout: handshakeTimeout}
	g.transport = &http.Transport{
		TLSClientConfig: tlsConfig, ForceAttemptHTTP2: true, DisableCompression: true,
		TLSHandshakeTimeout: handshakeTimeout, MaxIdleConnsPerHost: 100,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return g.outgoing.adopt(c), nil
		},
	}
	return nil
}

// wrap adds what config says beyond TLS: tokens and the like. A configuration whose wrappers cannot be made is used without
// them, and the API server says what is missing.
func (g *Gate) wrap(config *rest.Config) http.RoundTripper {
	wrapped, err := rest.HTTPWrappersForConfig(config, g.transport)
	if err != nil {
		return g.transport
	}
	return wrapped
}

// URL is where the gate listens.
func (g *Gate) URL() string { return g.url }

// RESTConfig leads through the gate.
func (g *Gate) RESTConfig() *rest.Config {
	return &rest.Config{Host: g.url, BearerToken: g.token, TLSClientConfig: rest.TLSClientConfig{CAData: g.caPEM}}
}

// WriteKubeconfig writes the way through the gate to a file that its owner alone can read.
func (g *Gate) WriteKubeconfig(path string) error {
	config := clientcmdapi.NewConfig()
	config.Clusters[clusterName] = &clientcmdapi.Cluster{Server: g.url, CertificateAuthorityData: g.caPEM}
	config.AuthInfos[clusterName] = &clientcmdapi.AuthInfo{Token: g.token}
	config.Contexts[clusterName] = &clientcmdapi.Context{Cluster: clusterName, AuthInfo: clusterName}
	config.CurrentContext = clusterName
	// clientcmd writes with mode 0600.
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return fmt.Errorf("write kubeconfig of a gate: %w", err)
	}
	return nil
}

// Close ends all connections and returns when nothing of the gate runs any more.
func (g *Gate) Close() error {
	g.Heal()
	g.underWay.end()
	err := g.server.Close()
	g.serving.Wait()
	g.valve.drain()
	g.outgoing.drain()
	g.underWay.wait()
	g.connected.Wait()
	g.transport.CloseIdleConnections()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close gate: %w", err)
	}
	return nil
}

// rewrite sends a request on with our credentials in place of the token of the gate.
func (g *Gate) rewrite(r *httputil.ProxyRequest) {
	r.SetURL(g.target)
	r.Out.Header.Del("Authorization")
}

// connection counts the connections that are served.
func (g *Gate) connection(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		g.connected.Add(1)
	case http.StateClosed, http.StateHijacked:
		g.connected.Done()
	case http.StateActive, http.StateIdle:
	}
}

// requests are those that are under way.
type requests struct {
	mu    sync.Mutex
	ended bool
	group sync.WaitGroup
}

// begin reports whether a request may still be served.
func (r *requests) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ended {
		r.group.Add(1)
	}
	return !r.ended
}

func (r *requests) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
}

func (r *requests) wait() { r.group.Wait() }

// serve is one request of the program.
func (g *Gate) serve(w http.ResponseWriter, r *http.Request) {
	if !g.underWay.begin() {
		return
	}
	defer g.underWay.group.Done()
	if r.Header.Get("Authorization") != "Bearer "+g.token {
		http.Error(w, "this gate has a token of its own", http.StatusUnauthorized)
		return
	}
	q := classify(r)
	g.tally.asked(q)
	if status := g.refuse(w, q); status != 0 {
		g.tally.refused(q, status)
		return
	}
	ctx, cancel := context.WithCancel(context.WithValue(r.Context(), requestKey{}, q))
	defer cancel()
	if q.kind == kindWatch {
		q.watch = &watch{cancel: cancel}
		g.enter(q.watch)
		defer g.leave(q.watch)
	}
	g.proxy.ServeHTTP(w, r.WithContext(ctx))
}

// requestKey finds the request in a context.
type requestKey struct{}

// answered notes the answer of the API server, and lets a watch be ended in its middle.
func (g *Gate) answered(response *http.Response) error {
	q, ok := response.Request.Context().Value(requestKey{}).(*request)
	if !ok {
		return nil
	}
	g.tally.answered(q, response.StatusCode)
	if q.watch != nil {
		response.Body = &watchBody{ReadCloser: response.Body, watch: q.watch}
	}
	return nil
}

// failed is called when the API server gave no answer. Who asked loses the connection, as without the gate, unless it was
// the one who gave up, or the gate that ended a watch.
func (g *Gate) failed(_ http.ResponseWriter, r *http.Request, _ error) {
	if q, ok := r.Context().Value(requestKey{}).(*request); ok {
		g.tally.answered(q, 0)
	}
	if r.Context().Err() != nil {
		return
	}
	if c, ok := r.Context().Value(connectionKey{}).(*conn); ok {
		c.reset()
	}
}

// newCertificate makes a certificate for a host, by name or address, that only those trust who are given it.
func newCertificate(host string) (tls.Certificate, []byte, error) {
	fail := func(err error) (tls.Certificate, []byte, error) {
		return tls.Certificate{}, nil, fmt.Errorf("make certificate: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fail(err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: clusterName},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(validity),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA: true, BasicConstraintsValid: true,
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return fail(err)
	}
	caPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, caPEM, nil
}
