package server

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc"
)

// sniffTimeout bounds how long a new connection may stay silent before it is
// dropped. A gRPC client sends the HTTP/2 preface at once.
const sniffTimeout = 10 * time.Second

// http2Preface is how every HTTP/2 connection with prior knowledge begins. No
// HTTP/1.1 method begins with the same three letters.
const http2Preface = "PRI"

// splitListener serves two protocols on one TCP port: connections that begin
// with the HTTP/2 preface go to the gRPC listener, all others to the HTTP/1.1
// one. gRPC keeps its own transport this way (keepalive, GOAWAY, graceful stop),
// which it would lose behind net/http.
//
// With a guard both are inside of TLS. What comes without TLS is told so: gRPC by the
// plain listener's server, HTTP at once.
type splitListener struct {
	root  net.Listener
	guard *guard
	grpc  *chanListener
	http  *chanListener
	plain *chanListener

	mu    sync.Mutex
	conns map[net.Conn]struct{} // connections that are being sniffed
	wg    sync.WaitGroup
}

func newSplitListener(root net.Listener, g *guard) *splitListener {
	return &splitListener{
		root:  root,
		guard: g,
		plain: newChanListener(root.Addr()),
		grpc:  newChanListener(root.Addr()),
		http:  newChanListener(root.Addr()),
		conns: map[net.Conn]struct{}{},
	}
}

// run accepts until the root listener is closed, and returns once every
// connection was handed over or dropped.
func (s *splitListener) run() error {
	defer s.shutdown()
	var pause time.Duration
	for {
		conn, err := s.root.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			// Running out of file descriptors passes; a tight loop would not help it.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			timer := time.NewTimer(pause)
			select {
			case <-timer.C:
			case <-s.grpc.closed:
				timer.Stop()
				return err
			}
			continue
		}
		pause = 0
		s.track(conn)
		s.wg.Add(1)
		go func() {
			defer s.wg.Done()
			s.route(conn)
		}()
	}
}

func (s *splitListener) track(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[conn] = struct{}{}
}

func (s *splitListener) untrack(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
}

// route reads the first bytes of a connection and hands it to its protocol.
func (s *splitListener) route(conn net.Conn) {
	defer s.untrack(conn)
	if err := conn.SetDeadline(time.Now().Add(sniffTimeout)); err != nil {
		_ = conn.Close()
		return
	}
	sniffed, head, err := sniff(conn)
	if err != nil {
		_ = conn.Close()
		return
	}
	grpcTo, secured := s.grpc, s.guard == nil
	if s.guard != nil && head[0] == tlsRecord {
		inner, err := s.guard.enter(sniffed)
		if err == nil {
			sniffed, head, err = sniff(inner)
		}
		if err != nil {
			hangUp(conn)
			return
		}
		secured = true
	}
	if !secured {
		s.guard.plain(conn)
		grpcTo = s.plain
	}
	isGRPC := string(head) == http2Preface
	if !secured && !isGRPC {
		answerPlain(conn)
		return
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		_ = conn.Close()
		return
	}
	target := s.http
	if isGRPC {
		target = grpcTo
	}
	target.deliver(sniffed)
}

// sniff looks at the first bytes of a connection.
func sniff(conn net.Conn) (*sniffedConn, []byte, error) {
	reader := bufio.NewReaderSize(conn, 512)
	head, err := reader.Peek(len(http2Preface))
	return &sniffedConn{Conn: conn, reader: reader}, head, err
}

// shutdown closes what has not been handed over yet and waits for it.
func (s *splitListener) shutdown() {
	_ = s.grpc.Close()
	_ = s.http.Close()
	_ = s.plain.Close()
	s.mu.Lock()
	for conn := range s.conns {
		_ = conn.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// sniffedConn gives back the bytes that were peeked at.
type sniffedConn struct {
	net.Conn
	reader io.Reader
}

// Read implements net.Conn.
func (c *sniffedConn) Read(p []byte) (int, error) { return c.reader.Read(p) }

// chanListener is a net.Listener that is fed by deliver.
type chanListener struct {
	addr   net.Addr
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newChanListener(addr net.Addr) *chanListener {
	return &chanListener{addr: addr, conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *chanListener) deliver(conn net.Conn) {
	select {
	case l.conns <- conn:
	case <-l.closed:
		_ = conn.Close()
	}
}

// Accept implements net.Listener.
func (l *chanListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. The root listener stays open.
func (l *chanListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener.
func (l *chanListener) Addr() net.Addr { return l.addr }

// healthHandler answers the two paths that Kubernetes probes and oaas-rs charts
// ask for. They say that the process serves, not that it can reach anything.
func healthHandler(ready func() error) http.Handler {
	mux := http.NewServeMux()
	alive := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, "ok")
	}
	mux.HandleFunc("GET /health", alive)
	mux.HandleFunc("GET /healthz", alive)
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if err := ready(); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, err.Error())
			return
		}
		_, _ = io.WriteString(w, "ok")
	})
	return mux
}

// Serve answers gRPC and HTTP on one listener until ctx ends, then drains: new
// calls are refused, running ones get the grace period, streams are ended. It
// returns after every goroutine it started has ended.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	split := newSplitListener(listener, s.guard)
	httpServer := &http.Server{
		Handler:           healthHandler(s.ready),
		ReadHeaderTimeout: sniffTimeout,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          s.log.Named("http").StandardLogger(nil),
	}
	var further []grpc.ServerOption
	if s.guard != nil {
		further = append(further, grpc.Creds(established{}))
	}
	rpc, plain := s.newGRPCServer(further...), newPlainServer()
	var refusing sync.WaitGroup
	if s.guard != nil {
		refusing.Go(func() { _ = plain.Serve(split.plain) }) // it ends with the port, whose error counts
	}

	type exit struct {
		part string
		err  error
	}
	exits := make(chan exit, 3)
	go func() { exits <- exit{"port", split.run()} }()
	go func() { exits <- exit{"grpc", rpc.Serve(split.grpc)} }()
	go func() { exits <- exit{"http", httpServer.Serve(split.http)} }()

	var failure error
	pending := 3
	select {
	case <-ctx.Done():
	case e := <-exits:
		pending--
		failure = e.err
		if failure == nil {
			failure = errors.New(e.part + " stopped unexpectedly")
		}
	}
	_ = listener.Close()
	s.endStreams()
	plain.Stop()
	refusing.Wait()
	s.drain(context.WithoutCancel(ctx), rpc)
	s.drainHTTP(context.WithoutCancel(ctx), httpServer)
	for ; pending > 0; pending-- {
		<-exits
	}
	return failure
}

// gracefulStopper is what drain needs of a grpc.Server.
type gracefulStopper interface {
	GracefulStop()
	Stop()
}

func (s *Server) drain(ctx context.Context, rpc gracefulStopper) {
	ctx, cancel := context.WithTimeout(ctx, s.opts.GracePeriod)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		rpc.GracefulStop()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		rpc.Stop()
		<-done
	}
}

func (s *Server) drainHTTP(ctx context.Context, httpServer *http.Server) {
	ctx, cancel := context.WithTimeout(ctx, s.opts.GracePeriod)
	defer cancel()
	if err := httpServer.Shutdown(ctx); err != nil {
		_ = httpServer.Close()
	}
}

// ServeTunnel answers gRPC on the connections that the control plane opens through
// those that this manager has made to it. It ends as Serve does. Who is at the other end
// was found out when those were made.
func (s *Server) ServeTunnel(ctx context.Context, listener net.Listener) error {
	rpc := s.newGRPCServer()
	ended := make(chan error, 1)
	go func() { ended <- rpc.Serve(listener) }()
	select {
	case err := <-ended:
		if err == nil {
			err = errors.New("the tunnel's listener was closed")
		}
		return err
	case <-ctx.Done():
	}
	s.endStreams()
	s.drain(context.WithoutCancel(ctx), rpc)
	<-ended //nolint:errcheck // it was asked to end
	return nil
}
