package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/semaphore"

	"oaas.io/control-plane/raftstore"
)

// Server is the REST interface of one node. It is safe for concurrent use.
type Server struct {
	opts     Options
	log      hclog.Logger
	metrics  *metrics
	handler  http.Handler
	static   *os.Root
	buffered *semaphore.Weighted
	watchers *semaphore.Weighted

	// tellRefusal logs a connection that was refused, once per peer and minute.
	tellRefusal func(what, peer, reason string, err error)

	started  time.Time
	settings map[string]string

	// draining is true once clients are to go elsewhere.
	draining atomic.Bool
	// life ends when the server begins to stop: long waits and relays end with it.
	life context.Context
	end  context.CancelFunc
}

// New makes a Server. Close it when it is not served.
func New(opts Options) (*Server, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	opts.setDefaults()
	m, err := newMetrics(opts.Metrics)
	if err != nil {
		return nil, err
	}
	s := &Server{
		opts: opts, log: opts.Logger, metrics: m,
		buffered: semaphore.NewWeighted(opts.MaxBufferedBytes),
		watchers: semaphore.NewWeighted(int64(opts.MaxWatchers)),
	}
	s.tellRefusal = raftstore.TellRefusals(opts.Logger)
	s.started, s.settings = opts.Now(), redact(opts.Settings)
	s.life, s.end = context.WithCancel(context.Background())
	if opts.StaticDir != "" {
		if s.static, err = os.OpenRoot(opts.StaticDir); err != nil {
			return nil, fmt.Errorf("api: static files: %w", err)
		}
	}
	s.handler = s.observe(cors(s.router()))
	return s, nil
}

// Handler gives the server's handler, for a listener of the caller's.
func (s *Server) Handler() http.Handler { return s.handler }

// Serve answers requests on ln until ctx ends, then drains and lets open requests
// finish for Options.ShutdownTimeout. It closes ln. The error is nil after an orderly end.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	defer s.stop()
	httpServer := &http.Server{
		Handler:           noteHandled(s.handler),
		ConnContext:       withConn,
		ConnState:         s.watchConn,
		ReadHeaderTimeout: s.opts.ReadHeaderTimeout,
		IdleTimeout:       s.opts.IdleTimeout,
		MaxHeaderBytes:    s.opts.MaxHeaderBytes,
		ErrorLog:          s.log.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}),
	}
	limited := newLimitListener(ln, s.opts.MaxConnections)
	served := make(chan error, 1)
	go func() { served <- httpServer.Serve(limited) }()
	select {
	case err := <-served:
		return errors.Join(fmt.Errorf("api: serve: %w", err), s.Close())
	case <-ctx.Done():
	}
	s.Drain()
	s.awaitDrain(limited)
	s.stop()
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.opts.ShutdownTimeout)
	defer cancel()
	err := httpServer.Shutdown(grace)
	if errors.Is(err, context.DeadlineExceeded) {
		s.log.Warn("requests still open at the end of the grace period are cut", "grace", s.opts.ShutdownTimeout)
		err = httpServer.Close()
	}
	if serveErr := <-served; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	if err != nil {
		return fmt.Errorf("api: shut down: %w", err)
	}
	return s.Close()
}

// Close ends waiting requests and releases what New opened.
func (s *Server) Close() error {
	s.stop()
	if s.static != nil {
		return s.static.Close()
	}
	return nil
}

func (s *Server) stop() {
	s.Drain()
	s.end()
}

// writeTimeout bounds how long a client may take to receive an answer, after the
// time for making it.
const writeTimeout = time.Minute

// cors allows everything to everyone, as the contract has it.
func cors(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Access-Control-Expose-Headers", "*")
		if r.Method == http.MethodOptions {
			callOf(r.Context()).quiet = true
			h.Set("Access-Control-Allow-Methods", "*")
			h.Set("Access-Control-Allow-Headers", "*")
			w.WriteHeader(http.StatusOK)
			return
		}
		next.ServeHTTP(w, r)
	})
}
