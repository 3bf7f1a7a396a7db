package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"oaas.io/control-plane/deploy/local/pki"
	"oaas.io/control-plane/proto/oaaspb"
)

// secured is a server whose port speaks TLS and asks for certificates, with what a
// client needs.
type secured struct {
	server  *Server
	address string
	log     *syncBuffer
	client  *tls.Config
}

func securedServer(t *testing.T) *secured {
	t.Helper()
	authority, err := pki.NewAuthority("test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(authority.Cert)
	issue := func(name string) tls.Certificate {
		t.Helper()
		pair, err := pki.Issue(&x509.Certificate{
			Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}, authority)
		if err != nil {
			t.Fatal(err)
		}
		out, err := tls.X509KeyPair(pair.CertPEM, pair.KeyPEM)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	s := &secured{
		log:    &syncBuffer{},
		client: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, ServerName: "crm.test", Certificates: []tls.Certificate{issue("pmd.test")}},
	}
	s.server, err = New(Options{
		ClusterName: "edge-1", Namespace: "oaas", API: &switchable{}, Logger: hclog.New(&hclog.LoggerOptions{Output: s.log}),
		TLS: &tls.Config{
			MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, Certificates: []tls.Certificate{issue("crm.test")},
			ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = listener.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.server.Serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return s
}

// check asks for the health over gRPC.
func (s *secured) check(t *testing.T, creds credentials.TransportCredentials) (*oaaspb.HealthCheckResponse, error) {
	t.Helper()
	conn, err := grpc.NewClient(s.address, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // the test is over
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return oaaspb.NewHealthServiceClient(conn).Check(ctx, &oaaspb.HealthCheckRequest{})
}

func (s *secured) get(t *testing.T, url string, config *tls.Config) (int, string, error) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close() //nolint:errcheck // it was only read
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

func (s *secured) count(outcome string) int {
	return int(testutil.ToFloat64(s.server.metrics.handshakes.WithLabelValues(outcome)))
}

// Both protocols of the port are inside of TLS.
func TestPortWithTLS(t *testing.T) {
	s := securedServer(t)
	if answer, err := s.check(t, credentials.NewTLS(s.client)); err != nil || answer.GetStatus() != oaaspb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("gRPC: %v (%v)", answer, err)
	}
	if code, body, err := s.get(t, "https://"+s.address+"/healthz", s.client); err != nil || code != http.StatusOK || body != "ok" {
		t.Errorf("HTTP: %d %q %v", code, body, err)
	}
	if s.count(handshakeDone) != 2 || s.count(handshakeRefused)+s.count(handshakePlain) != 0 {
		t.Error("connections are counted wrongly")
	}
}

// A call that fails is logged with the name of who made it.
func TestCallerIsNamedByItsCertificate(t *testing.T) {
	s := securedServer(t)
	conn, err := grpc.NewClient(s.address, grpc.WithTransportCredentials(credentials.NewTLS(s.client)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // the test is over
	if _, err := oaaspb.NewAgentServiceClient(conn).GetClusterInfo(t.Context(), &oaaspb.GetClusterInfoRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("%v", err)
	}
	eventually(t, "the caller is named", func() bool { return strings.Contains(s.log.String(), "client=pmd.test") })
}

// Who comes without TLS is told what to change, and gets nothing else.
func TestPlainConnectionsAreToldToUseTLS(t *testing.T) {
	s := securedServer(t)
	if _, err := s.check(t, insecure.NewCredentials()); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "https://") {
		t.Errorf("gRPC: %v", err)
	}
	if code, body, err := s.get(t, "http://"+s.address+"/healthz", nil); err != nil || code != http.StatusBadRequest || !strings.Contains(body, "https://") {
		t.Errorf("HTTP: %d %q %v", code, body, err)
	}
	if s.count(handshakePlain) != 2 {
		t.Errorf("%d plain connections are counted", s.count(handshakePlain))
	}
	if n := strings.Count(s.log.String(), "refused a connection"); n != 1 {
		t.Errorf("told %d times of one peer:\n%s", n, s.log)
	}
}

func TestClientsWithoutCertificateAreRefused(t *testing.T) {
	s := securedServer(t)
	anonymous := s.client.Clone()
	anonymous.Certificates = nil
	if _, err := s.check(t, credentials.NewTLS(anonymous)); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("gRPC: %v", err)
	}
	if _, _, err := s.get(t, "https://"+s.address+"/healthz", anonymous); err == nil {
		t.Error("HTTP was answered")
	}
	eventually(t, "the refusal is told with its reason", func() bool {
		return s.count(handshakeRefused) >= 2 && strings.Contains(s.log.String(), "didn't provide a certificate")
	})
}

// Whatever arrives on the port, the next connection is served, and what is half a
// handshake does not outlive the server.
func TestGarbageOnThePortWithTLS(t *testing.T) {
	s := securedServer(t)
	for _, garbage := range []string{"", "P", "\x16", "\x16\x03\x01", "\x16\x03\x01\x00\x05hello", "\x16\x03\x01\xff\xff" + strings.Repeat("x", 1<<17), "\x00\x01\x02", "PRI garbage"} {
		conn, err := net.Dial("tcp", s.address)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write([]byte(garbage))
		_ = conn.Close()
	}
	hanging, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hanging.Close() })
	if _, err := hanging.Write([]byte("\x16\x03\x01")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.check(t, credentials.NewTLS(s.client)); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestRefusalsDoNotFillTheLog(t *testing.T) {
	now := time.Unix(0, 0)
	var lines bytes.Buffer
	r := newRefusals(hclog.New(&hclog.LoggerOptions{Output: &lines}), func() time.Time { return now })
	from := func(i int) net.Addr { return &net.TCPAddr{IP: net.IPv4(10, 0, byte(i>>8), byte(i)), Port: i} }
	for i := range 2 * maxRefusals {
		r.tell(from(i), handshakePlain, io.EOF)
		r.tell(from(i), handshakePlain, io.EOF)
	}
	if n := strings.Count(lines.String(), "\n"); n != maxRefusals || len(r.told) != maxRefusals {
		t.Errorf("%d lines, %d peers are remembered", n, len(r.told))
	}
	now = now.Add(refusalInterval)
	r.tell(from(1), handshakePlain, io.EOF)
	if n := strings.Count(lines.String(), "\n"); n != maxRefusals+1 || len(r.told) != 1 {
		t.Errorf("a minute later: %d lines, %d peers are remembered", n, len(r.told))
	}
}

// syncBuffer is a buffer for what several goroutines write.
type syncBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
