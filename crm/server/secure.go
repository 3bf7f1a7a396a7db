package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

const (
	// tlsRecord begins every connection with TLS, and no HTTP request.
	tlsRecord = 0x16
	// hangUpTimeout and maxUnread bound how long, and how much of, what a refused peer
	// still says is waited for.
	hangUpTimeout = time.Second
	maxUnread     = 64 << 10
	// plainRefused tells those that come without TLS what to change. A package manager
	// knows by the first words that somebody has to act.
	plainRefused = "no trusted connection: this port takes connections with TLS only: the URL of this manager begins with https://"
)

// Outcomes of opening a connection on a port with TLS.
const (
	handshakeDone    = "ok"
	handshakeRefused = "refused"
	handshakePlain   = "plain"
)

// guard makes the handshakes of a port with TLS. The port makes them, and not gRPC,
// since it has to look into the connection to know which protocol is spoken.
type guard struct {
	config   *tls.Config
	outcomes *prometheus.CounterVec
	refusals *refusals
}

// enter makes the handshake. What it gives is to be sniffed anew.
func (g *guard) enter(conn net.Conn) (net.Conn, error) {
	secured := tls.Server(conn, g.config)
	// The deadline of the connection bounds it.
	if err := secured.Handshake(); err != nil {
		g.outcomes.WithLabelValues(handshakeRefused).Inc()
		if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) { // somebody who hangs up was not refused
			g.refusals.tell(conn.RemoteAddr(), handshakeRefused, err)
		}
		return nil, err
	}
	g.outcomes.WithLabelValues(handshakeDone).Inc()
	return secured, nil
}

// plain tells of a connection without TLS.
func (g *guard) plain(conn net.Conn) {
	g.outcomes.WithLabelValues(handshakePlain).Inc()
	g.refusals.tell(conn.RemoteAddr(), handshakePlain, errors.New("it speaks without TLS"))
}

// hangUp closes a connection so that what was said last arrives: closed with something
// unread in it, it would be reset, and the peer would not learn why.
func hangUp(conn net.Conn) {
	defer conn.Close() //nolint:errcheck // there is nothing left to do
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || conn.SetReadDeadline(time.Now().Add(hangUpTimeout)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, conn, maxUnread)
}

// answerPlain answers an HTTP/1.1 request that came without TLS, and hangs up.
func answerPlain(conn net.Conn) {
	// An error only means that nobody waits for the answer.
	_, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"+plainRefused+"\n")
	hangUp(conn)
}

// newPlainServer answers every gRPC call that came without TLS with the reason, which
// a connection that is merely closed would not tell.
func newPlainServer() *grpc.Server {
	return grpc.NewServer(
		grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error { return status.Error(codes.Unavailable, plainRefused) }),
		grpc.MaxConcurrentStreams(16),
		grpc.MaxRecvMsgSize(1<<10),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: sniffTimeout, MaxConnectionAge: time.Minute, MaxConnectionAgeGrace: time.Second}),
	)
}

// established is the transport security of connections whose handshake is done.
type established struct{}

// ServerHandshake implements credentials.TransportCredentials.
func (established) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	info := credentials.TLSInfo{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}
	sniffed, ok := conn.(*sniffedConn)
	if !ok {
		return nil, nil, errors.New("a connection that did not come through the port")
	}
	secured, ok := sniffed.Conn.(*tls.Conn)
	if !ok {
		return nil, nil, errors.New("a connection without TLS")
	}
	info.State = secured.ConnectionState()
	return conn, info, nil
}

// ClientHandshake implements credentials.TransportCredentials; this side never dials.
func (established) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("this side never dials")
}

// Info implements credentials.TransportCredentials.
func (established) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone implements credentials.TransportCredentials.
func (e established) Clone() credentials.TransportCredentials { return e }

// OverrideServerName implements credentials.TransportCredentials.
func (established) OverrideServerName(string) error { return nil }

// clientName is whom the caller's certificate is for; empty without one.
func clientName(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ""
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 {
		return ""
	}
	return nameOf(info.State.PeerCertificates[0])
}

func nameOf(cert *x509.Certificate) string {
	switch {
	case len(cert.URIs) > 0:
		return cert.URIs[0].String()
	case len(cert.DNSNames) > 0:
		return cert.DNSNames[0]
	default:
		return cert.Subject.CommonName
	}
}

// refusals tells of refused peers without letting them fill the log: each once per
// interval and reason.
type refusals struct {
	log   hclog.Logger
	clock func() time.Time

	mu   sync.Mutex
	told map[[2]string]time.Time
}

const (
	refusalInterval = time.Minute
	// maxRefusals bounds the peers that are remembered. Beyond it nothing is told before
	// the interval is over; the counters go on.
	maxRefusals = 256
)

func newRefusals(log hclog.Logger, clock func() time.Time) *refusals {
	return &refusals{log: log, clock: clock, told: map[[2]string]time.Time{}}
}

func (r *refusals) tell(from net.Addr, reason string, err error) {
	who := from.String()
	if host, _, splitErr := net.SplitHostPort(who); splitErr == nil {
		who = host
	}
	if r.due([2]string{who, reason}) {
		r.log.Warn("refused a connection", "peer", who, "reason", reason, "error", err)
	}
}

// due says whether it is time to tell.
func (r *refusals) due(key [2]string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock()
	if at, ok := r.told[key]; ok && now.Sub(at) < refusalInterval {
		return false
	}
	if len(r.told) >= maxRefusals {
		for k, at := range r.told {
			if now.Sub(at) >= refusalInterval {
				delete(r.told, k)
			}
		}
		if len(r.told) >= maxRefusals {
			return false
		}
	}
	r.told[key] = now
	return true
}
