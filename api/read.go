package api

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/raftstore"
	"oaas.io/control-plane/registry"
)

// read gives the view of the state that the request asks for: linearizable by
// default, or ?consistency=stale with ?max_staleness, or ?at_index.
func (s *Server) read(w http.ResponseWriter, r *http.Request) (*fsm.Snapshot, error) {
	want, err := consistencyOf(parseQuery(r.URL.RawQuery))
	if err != nil {
		return nil, err
	}
	snap, err := s.view(r.Context(), want)
	if err != nil {
		return nil, err
	}
	if want.AtIndex > 0 && raftstore.IndexGeneration(want.AtIndex) < raftstore.IndexGeneration(snap.Index()) {
		return nil, fail(registry.FailedPrecondition,
			"The cluster was recovered after index %d was given out; what was written then may be lost. Read without at_index", want.AtIndex)
	}
	// Term and contact may have moved while the request waited.
	s.stamp(w.Header())
	w.Header().Set("PM-Index", formatIndex(snap.Index()))
	w.Header().Set("PM-Consistency", consistencyName(want))
	return snap, nil
}

// view reads, waiting for a leader if one is needed and there is none.
func (s *Server) view(ctx context.Context, want registry.Consistency) (*fsm.Snapshot, error) {
	hold := s.newHold()
	for {
		snap, err := s.opts.Registry.Read(ctx, want)
		if err == nil {
			return snap, nil
		}
		if codeOf(err) != registry.NoLeader || !hold.wait(ctx) {
			return nil, err
		}
	}
}

func consistencyOf(q *query) (registry.Consistency, error) {
	out := registry.Consistency{AtIndex: q.index("at_index"), MaxStaleness: q.duration("max_staleness")}
	switch q.text("consistency") {
	case "", "linearizable", "default":
	case "stale":
		out.Stale = true
	default:
		q.wrong("consistency", "linearizable or stale")
	}
	if out.MaxStaleness > 0 && !out.Stale && q.err == nil {
		q.err = fail(registry.InvalidArgument, "Query parameter max_staleness needs consistency=stale")
	}
	if out.AtIndex > 0 && out.Stale && q.err == nil {
		q.err = fail(registry.InvalidArgument, "Query parameter at_index excludes consistency=stale")
	}
	return out, q.err
}

func consistencyName(c registry.Consistency) string {
	switch {
	case c.AtIndex > 0:
		return "at-index"
	case c.Stale:
		return "stale"
	default:
		return "linearizable"
	}
}

// writeJSON answers with value as compact JSON.
func writeJSON(w http.ResponseWriter, status int, value any) error {
	raw, err := json.Marshal(value)
	if err != nil {
		return err
	}
	writeRaw(w, status, raw)
	return nil
}

func writeRaw(w http.ResponseWriter, status int, raw []byte) {
	w.Header().Set(headerContentType, contentTypeJSON)
	writeBody(w, status, raw)
}

func writeBody(w http.ResponseWriter, status int, raw []byte) {
	w.Header().Set(headerContentLength, strconv.Itoa(len(raw)))
	w.WriteHeader(status)
	_, _ = w.Write(raw) // the client is gone if this fails
}
