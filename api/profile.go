package api

import (
	"context"
	"net/http"
	"runtime/pprof"
	"runtime/trace"
	"strconv"
	"time"

	"oaas.io/control-plane/registry"
)

const (
	defaultProfileTime = 5 * time.Second
	maxProfileTime     = time.Minute
)

// getProfile gives a profile of a node's process in the format of pprof. The
// profiles cpu and trace take ?seconds; of each, only one is taken at a time.
func (s *Server) getProfile(w http.ResponseWriter, r *http.Request) error {
	q := parseQuery(r.URL.RawQuery)
	name, debug := pathVar(r, "profile"), max(q.number("debug"), 0)
	span := defaultProfileTime
	if n := q.number("seconds"); n > 0 {
		span = time.Duration(n) * time.Second
	}
	if span > maxProfileTime && q.err == nil {
		q.err = fail(registry.InvalidArgument, "Query parameter seconds must be at most %d", int(maxProfileTime.Seconds()))
	}
	if q.err != nil {
		return q.err
	}
	header := func() {
		w.Header().Set(headerContentType, "application/octet-stream")
		w.Header().Set("Content-Disposition", `attachment; filename="`+name+`.pprof"`)
	}
	switch name {
	case "cpu", "profile":
		header()
		if err := pprof.StartCPUProfile(w); err != nil {
			w.Header().Del("Content-Disposition")
			return fail(codeOverloaded, "A CPU profile is being taken already")
		}
		wait(r.Context(), span)
		pprof.StopCPUProfile()
	case "trace":
		header()
		if err := trace.Start(w); err != nil {
			w.Header().Del("Content-Disposition")
			return fail(codeOverloaded, "A trace is being taken already")
		}
		wait(r.Context(), span)
		trace.Stop()
	default:
		p := pprof.Lookup(name)
		if p == nil {
			return fail(registry.NotFound, "Profile not found: %s; there are cpu, trace, heap, allocs, goroutine, block, mutex, threadcreate", name)
		}
		header()
		w.Header().Set("PM-Profile-Count", strconv.Itoa(p.Count()))
		if p.WriteTo(w, debug) != nil {
			callOf(r.Context()).cut = true
		}
	}
	return nil
}

// wait returns after d, or when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
