package tlsfiles

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
)

// alpn are the protocols of a gRPC port: HTTP/2 for calls, HTTP/1.1 for probes.
var alpn = []string{"h2", "http/1.1"}

// Server is the side that is connected to.
type Server struct {
	// Certificate that is shown. Required.
	Certificate *KeyPair
	// Clients are the authorities of the clients' certificates; nil asks for none.
	Clients *Pool
	// Names are those of the clients that may connect: DNS names, URIs (SPIFFE) or the
	// common name. Empty lets in whoever the authorities vouch for.
	Names []string
}

// Config makes a configuration that follows the files.
func (s Server) Config() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		NextProtos:         alpn,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.handshake(), nil },
	}
}

// handshake is the configuration of one connection.
func (s Server) handshake() *tls.Config {
	c := &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: alpn,
		Certificates: []tls.Certificate{*s.Certificate.certificate()},
		// Connections last for days; what resuming them would save is not worth trusting
		// for longer than the files say.
		SessionTicketsDisabled: true,
	}
	if s.Clients != nil {
		c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, s.Clients.pool()
	}
	if len(s.Names) > 0 {
		c.VerifyConnection = s.checkName
	}
	return c
}

// checkName refuses clients that are vouched for and not meant.
func (s Server) checkName(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return fmt.Errorf("client without a certificate")
	}
	shown := state.PeerCertificates[0]
	for _, want := range s.Names {
		if HasName(shown, want) {
			return nil
		}
	}
	return fmt.Errorf("client %q is none of those that may connect", strings.Join(namesOf(shown), ", "))
}

// HasName says whether a certificate is for a DNS name, a URI (SPIFFE) or a common name.
func HasName(cert *x509.Certificate, want string) bool {
	return slices.ContainsFunc(namesOf(cert), func(name string) bool { return sameName(name, want) })
}

// HasExactName is HasName with upper and lower case told apart, for names of which some
// are only different in that.
func HasExactName(cert *x509.Certificate, want string) bool {
	return slices.Contains(namesOf(cert), want)
}

// sameName compares hosts as DNS does, and URIs as they are.
func sameName(a, b string) bool {
	return a == b || !strings.Contains(a, "://") && strings.EqualFold(a, b)
}

// namesOf are the names of whom a certificate is for.
func namesOf(cert *x509.Certificate) []string {
	names := slices.Clone(cert.DNSNames)
	for _, uri := range cert.URIs {
		names = append(names, uri.String())
	}
	if cn := cert.Subject.CommonName; cn != "" && !slices.Contains(names, cn) {
		names = append(names, cn)
	}
	return names
}

// Client is the side that connects.
type Client struct {
	// Roots are the authorities of the server's certificate; nil means the system's.
	Roots *Pool
	// Certificate that is shown when the server asks; nil shows none.
	Certificate *KeyPair
	// ServerName that the certificate must have; empty means the host that is dialled.
	ServerName string
	// Insecure accepts any certificate.
	Insecure bool
}

// Config makes the configuration of one handshake with what the files hold now.
func (c Client) Config() *tls.Config {
	out := &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: alpn[:1], ServerName: c.ServerName,
		InsecureSkipVerify: c.Insecure, //nolint:gosec // only when an operator asks for it, who is warned
	}
	if c.Roots != nil {
		out.RootCAs = c.Roots.pool()
	}
	if c.Certificate != nil {
		// Certificates would be left out in silence when the server does not name their
		// authority; its refusal says more.
		out.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return c.Certificate.certificate(), nil
		}
	}
	return out
}
