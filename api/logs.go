package api

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	contentTypeLines = "application/x-ndjson"
	// defaultLogLines is how many remembered lines are told without ?lines.
	defaultLogLines = 200
	// logKeepAlive is how often a quiet stream says that it is alive.
	logKeepAlive = 15 * time.Second
)

// lostLines stands in a stream where lines are missing.
type lostLines struct {
	Lost uint64 `json:"lost"`
}

// getLogs tells the newest lines of a node's log and, with ?follow, goes on with
// the new ones, for ?for or until the client goes away.
func (s *Server) getLogs(w http.ResponseWriter, r *http.Request) error {
	if s.opts.Logs == nil {
		return fail(codeNotConfigured, "This node keeps no log to read")
	}
	q := parseQuery(r.URL.RawQuery)
	filter := logFilter{level: hclog.Info, subsystem: q.text("subsystem")}
	if text := q.text("level"); text != "" {
		if filter.level = hclog.LevelFromString(text); filter.level == hclog.NoLevel || filter.level == hclog.Off {
			q.wrong("level", "trace, debug, info, warn or error")
		}
	}
	most, follow, limit := q.number("lines"), q.flag("follow"), q.duration("for")
	if most < 0 {
		most = defaultLogLines
	}
	if q.err != nil {
		return q.err
	}
	lines, follower := s.opts.Logs.last(filter, most, follow)
	if follow && follower == nil {
		return fail(codeOverloaded, "%d readers follow this node's log already", maxLogFollowers)
	}
	w.Header().Set(headerContentType, contentTypeLines)
	enc := json.NewEncoder(w)
	for i := range lines {
		if enc.Encode(&lines[i]) != nil {
			break // the client is gone
		}
	}
	if follower == nil {
		return nil
	}
	defer s.opts.Logs.leave(follower)
	ctx := r.Context()
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	s.followLog(ctx, w, enc, follower)
	return nil
}

// followLog writes lines as they come until ctx ends or the client is gone.
func (s *Server) followLog(ctx context.Context, w http.ResponseWriter, enc *json.Encoder, f *logFollower) {
	control := http.NewResponseController(w)
	alive := time.NewTicker(logKeepAlive)
	defer alive.Stop()
	for {
		if control.Flush() != nil && ctx.Err() != nil {
			return
		}
		var err error
		select {
		case <-ctx.Done():
			return
		case <-alive.C:
			_, err = w.Write([]byte("\n"))
		case line := <-f.lines:
			if lost := f.lost.Swap(0); lost > 0 {
				err = enc.Encode(lostLines{Lost: lost})
			}
			if err == nil {
				err = enc.Encode(&line)
			}
		}
		if err != nil {
			return
		}
	}
}
