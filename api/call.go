package api

import (
	"context"
	"errors"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/hashicorp/go-hclog"

	"oaas.io/control-plane/registry"
)

const (
	headerRequestID = "X-Request-Id"
	maxRequestID    = 128
	// unmatched is the route label of requests for which there is no route.
	unmatched = "unmatched"
)

// call is what one request carries along, for its log line and its problems.
type call struct {
	id string
	// route is the template of the matched route.
	route string
	// deployment is the key of the deployment that the request is about, if any.
	deployment string
	// quiet keeps the log line at debug level: probes and scrapes.
	quiet bool
	// hop is set when a peer forwarded the request to this node.
	hop *hop
	// cut says that the answer is not whole although its status was sent: the
	// connection has to be cut.
	cut bool
}

// hop describes the forwarding of a request to this node, and takes back what
// cannot be said by an HTTP answer.
type hop struct {
	// by is the server id of the forwarding node.
	by string
	// refused says that nothing was done because this node does not lead.
	refused bool
	// unknown says that the leader proposed the change and does not know what became
	// of it: the forwarding node may try again if the request has a key.
	unknown bool
	// broken says that the handler failed after the answer had begun.
	broken bool
}

type callKey struct{}

// callOf gives the request's call. Outside of a request it gives an empty one.
func callOf(ctx context.Context) *call {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		return c
	}
	return &call{route: unmatched}
}

type hopKey struct{}

func hopOf(ctx context.Context) *hop {
	h, _ := ctx.Value(hopKey{}).(*hop)
	return h
}

// observe is the outermost layer: it gives every request an id and the headers
// that every answer has, and accounts for it however it ends.
func (s *Server) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := time.Now()
		c := &call{id: requestID(r, s.opts.NewRequestID), route: unmatched, hop: hopOf(r.Context())}
		r = r.WithContext(context.WithValue(r.Context(), callKey{}, c))
		sw := &statusWriter{ResponseWriter: w}
		sw.Header().Set(headerRequestID, c.id)
		s.stamp(sw.Header())
		if c.hop == nil && s.draining.Load() {
			sw.Header().Set("Connection", "close")
		}
		s.metrics.inFlight.Inc()
		defer func() {
			s.metrics.inFlight.Dec()
			abort := s.recovered(sw, r, recover()) || s.severed(c)
			limitUnreadBody(sw, r)
			s.account(sw, r, c, time.Since(started))
			if abort {
				panic(http.ErrAbortHandler) //nolint:forbidigo // net/http's way to cut a connection whose answer cannot be completed
			}
		}()
		next.ServeHTTP(sw, r)
	})
}

// recovered answers a request whose handler panicked. It reports that the
// connection has to be cut because the answer had already begun.
func (s *Server) recovered(w *statusWriter, r *http.Request, cause any) (abort bool) {
	if cause == nil {
		return false
	}
	c := callOf(r.Context())
	// A proxied answer that breaks off is the proxy's normal way to say so.
	if err, ok := cause.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
		s.metrics.panics.Inc()
		s.log.Error("handler panicked", "request_id", c.id, "method", r.Method, "route", c.route, "panic", cause,
			"stack", hclog.Fmt("%s", debug.Stack()))
	}
	if w.status == 0 {
		s.writeProblem(w, r, &problem{code: registry.Internal, detail: "Internal error; the log has more under the request id"})
		return false
	}
	if c.hop != nil {
		c.hop.broken = true
		return false
	}
	return true
}

// severed reports that the connection has to be cut, and tells a peer instead
// when the request came from one.
func (s *Server) severed(c *call) bool {
	if c.cut && c.hop != nil {
		c.hop.broken = true
		return false
	}
	return c.cut
}

// account writes the metrics and the access log line.
func (s *Server) account(w *statusWriter, r *http.Request, c *call, took time.Duration) {
	status := w.status
	if status == 0 {
		status = http.StatusOK // net/http's own answer for a handler that wrote nothing
	}
	method := methodLabel(r.Method)
	s.metrics.requests.WithLabelValues(c.route, method, strconv.Itoa(status)).Inc()
	s.metrics.duration.WithLabelValues(c.route, method).Observe(took.Seconds())
	level := hclog.Info
	if c.quiet {
		level = hclog.Debug
	}
	if !s.log.IsInfo() && level == hclog.Info || !s.log.IsDebug() && level == hclog.Debug {
		return
	}
	args := []any{"method", r.Method, "route", c.route, "path", r.URL.EscapedPath(), "status", status,
		"duration", took.Round(time.Microsecond), "bytes", w.bytes, "request_id", c.id, "remote", r.RemoteAddr}
	if c.deployment != "" {
		args = append(args, "deployment", c.deployment)
	}
	if c.hop != nil {
		args = append(args, "forwarded_by", c.hop.by)
	}
	s.log.Log(level, "request", args...)
}

// stamp sets the headers that say where an answer comes from. Handlers overwrite
// PM-Index with the index that their answer was made at.
func (s *Server) stamp(h http.Header) {
	h.Set("PM-Index", formatIndex(s.opts.Registry.State().Snapshot().Index()))
	// Term and leader are of one look: who compares answers must not find two leaders in a term.
	leader, known := s.opts.Cluster.Leader()
	h.Set("PM-Term", formatIndex(leader.Term))
	if known {
		h.Set("PM-Leader", leader.ServerID)
	}
	h.Set("PM-Served-By", s.opts.Cluster.ServerID())
	h.Set("PM-Last-Contact-Ms", strconv.FormatInt(s.opts.Cluster.LastContact().Milliseconds(), 10))
}

func formatIndex(n uint64) string { return strconv.FormatUint(n, 10) }

// requestID takes the client's id if it can stand in a log line, else a new one.
func requestID(r *http.Request, fresh func() string) string {
	id := r.Header.Get(headerRequestID)
	if id == "" || len(id) > maxRequestID || !visibleASCII(id) {
		return fresh()
	}
	return id
}

func visibleASCII(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// methodLabel keeps the label's values few, whatever clients send.
func methodLabel(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	default:
		return "other"
	}
}

// limitUnreadBody bounds how long net/http may wait for the rest of a body that
// no handler wanted.
func limitUnreadBody(w http.ResponseWriter, r *http.Request) {
	if r.Body == nil || r.Body == http.NoBody {
		return
	}
	// Writers without deadlines, such as a forwarded request's, have no body to wait for.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(unreadBodyTimeout))
}

// statusWriter remembers what was answered.
type statusWriter struct {
	http.ResponseWriter
	status int
	bytes  int64
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader passes the status on. Informational ones are not the answer.
func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}
