package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/credentials"

	"oaas.io/control-plane/cmd/internal/tlsfiles"
	"oaas.io/control-plane/dispatch"
)

// trusting makes every handshake with what the files hold at that time, and says in
// words why one is refused, by either side.
type trusting struct{ client tlsfiles.Client }

// ClientHandshake implements credentials.TransportCredentials.
func (t trusting) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secured, info, err := credentials.NewTLS(t.client.Config()).ClientHandshake(ctx, authority, conn)
	if err != nil {
		return nil, nil, explain(err)
	}
	return explaining{secured}, info, nil
}

// ServerHandshake implements credentials.TransportCredentials; this side only dials.
func (trusting) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("this side only dials")
}

// Info implements credentials.TransportCredentials.
func (trusting) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone implements credentials.TransportCredentials.
func (t trusting) Clone() credentials.TransportCredentials { return t }

// OverrideServerName implements credentials.TransportCredentials; the name comes from
// the configuration alone.
func (trusting) OverrideServerName(string) error { return errors.New("the name is configured") }

// refusing lets no connection without TLS come about.
type refusing struct{ trusting }

// ClientHandshake implements credentials.TransportCredentials.
func (refusing) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, fmt.Errorf("%w: it does not speak TLS, and --crm-tls-required is set", dispatch.ErrUntrusted)
}

// Clone implements credentials.TransportCredentials.
func (r refusing) Clone() credentials.TransportCredentials { return r }

// explaining says why the other side ends a connection. With TLS 1.3 it looks at the
// client's certificate after the client is done, so that a refusal comes with the
// first read.
type explaining struct{ net.Conn }

// Read implements net.Conn.
func (c explaining) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil && refusedByPeer(err) {
		err = explain(err)
	}
	return n, err
}

// explain says why there is no trusted connection. What is no matter of trust, such as
// a connection that was cut, stays as it is.
func explain(err error) error {
	var (
		noTLS     tls.RecordHeaderError
		invalid   x509.CertificateInvalidError
		stranger  x509.UnknownAuthorityError
		otherName x509.HostnameError
		untrusted *tls.CertificateVerificationError
		why       string
	)
	switch {
	case errors.As(err, &noTLS):
		why = "it does not speak TLS; its URL should begin with http://, or it needs --tls-cert"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		// The library's words have the present time in them.
		why = fmt.Sprintf("the certificate of %s is valid from %s to %s and not now: renew it, or set the clock",
			namesOf(invalid.Cert), invalid.Cert.NotBefore.UTC().Format(time.RFC3339), invalid.Cert.NotAfter.UTC().Format(time.RFC3339))
	case errors.As(err, &stranger):
		why = "its certificate is signed by an authority that is not trusted here (--crm-tls-ca)"
	case errors.As(err, &otherName):
		why = fmt.Sprintf("its certificate is for %s, not for %s (--crm-tls-server-name)", namesOf(otherName.Certificate), otherName.Host)
	case errors.As(err, &untrusted):
		why = untrusted.Err.Error()
	case refusedByPeer(err):
		why = fmt.Sprintf("it refuses this node's certificate, or misses one (--crm-tls-cert): %v; its log says why", err)
	default:
		return err
	}
	return fmt.Errorf("%w: %s", dispatch.ErrUntrusted, why)
}

// refusedByPeer is an alert of TLS from the other side.
func refusedByPeer(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// namesOf says whom a certificate is for.
func namesOf(cert *x509.Certificate) string {
	names := slices.Clone(cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return fmt.Sprintf("%q, which is no name of a host", cert.Subject.CommonName)
	}
	const most = 5
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}
