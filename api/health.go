package api

import (
	"context"
	"net/http"
	"time"

	"oaas.io/control-plane/registry"
)

// readyTimeout bounds a readiness probe; probes give up after a few seconds.
const readyTimeout = 2 * time.Second

type healthBody struct {
	Status    string        `json:"status"`
	Service   string        `json:"service"`
	Version   string        `json:"version"`
	Timestamp string        `json:"timestamp"`
	Storage   storageHealth `json:"storage"`
}

type storageHealth struct {
	Status  string `json:"status"`
	Message string `json:"message,omitempty"`
}

// health says whether the node knows a leader, without asking it.
func (s *Server) health(w http.ResponseWriter, _ *http.Request) error {
	body := healthBody{
		Status: "healthy", Service: "oprc-pm", Version: s.opts.Version, Timestamp: offsetForm(s.opts.Now()),
		Storage: storageHealth{Status: "ok"},
	}
	if _, known := s.opts.Cluster.Leader(); !known {
		body.Status, body.Storage = "unhealthy", storageHealth{Status: "error", Message: "no leader is known"}
		return writeJSON(w, http.StatusServiceUnavailable, body)
	}
	return writeJSON(w, http.StatusOK, body)
}

// livez says that the process answers; nothing that a restart cannot cure makes it fail.
func (s *Server) livez(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

// readyz succeeds if the node can answer a linearizable read now: it knows the
// leader, the leader has a quorum, and the node has caught up.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) error {
	if s.draining.Load() {
		return fail(registry.Unavailable, "This node is stopping")
	}
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	snap, err := s.opts.Registry.Read(ctx, registry.Consistency{})
	if err != nil {
		return err
	}
	w.Header().Set("PM-Index", formatIndex(snap.Index()))
	return writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}
