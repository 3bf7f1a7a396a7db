package api

import (
	"context"
	"net/http"

	"oaas.io/control-plane/registry"
)

// autopilotIncarnation stands in the ETag of the settings, of which there is one.
const autopilotIncarnation = "autopilot"

// getAutopilot tells how the leader sees the cluster, and why.
func (s *Server) getAutopilot(w http.ResponseWriter, _ *http.Request) error {
	if s.opts.Membership == nil {
		return fail(codeNotConfigured, "This node does not look after its cluster")
	}
	state, err := s.opts.Membership.Autopilot()
	if err != nil {
		return operatorProblem(err)
	}
	return writeJSON(w, http.StatusOK, state)
}

// getAutopilotConfig gives the settings with the defaults filled in.
func (s *Server) getAutopilotConfig(w http.ResponseWriter, r *http.Request) error {
	if s.opts.Membership == nil {
		return fail(codeNotConfigured, "This node does not look after its cluster")
	}
	if _, err := s.read(w, r); err != nil {
		return err
	}
	c := s.opts.Membership.AutopilotConfig()
	w.Header().Set("ETag", etag(autopilotIncarnation, c.ModifyIndex))
	return writeJSON(w, http.StatusOK, c)
}

// putAutopilotConfig replaces the settings. What is left out gets its default.
func (s *Server) putAutopilotConfig(w http.ResponseWriter, r *http.Request) error {
	var c AutopilotConfig
	body, err := readWish(w, r, &c)
	if err != nil {
		return err
	}
	if body == nil {
		return fail(codeSchema, "The settings are missing")
	}
	pre, err := precondition(r.Header)
	if err != nil {
		return err
	}
	if pre.MustNotExist {
		return fail(registry.InvalidArgument, "There are always settings; If-None-Match has no meaning here")
	}
	if pre.ModifyIndex != nil {
		c.ModifyIndex = *pre.ModifyIndex
	}
	for i, name := range c.NonVoters {
		id, err := s.resolveNode(name)
		if err != nil {
			return err
		}
		c.NonVoters[i] = id
	}
	return s.operate(w, r, body, pre.ModifyIndex == nil, func(ctx context.Context) (any, error) {
		if err := s.opts.Membership.SetAutopilotConfig(ctx, c); err != nil {
			return nil, err
		}
		return s.opts.Membership.AutopilotConfig(), nil
	})
}

// getFeatureLevel tells which commands the cluster may use, and whom it waits for.
func (s *Server) getFeatureLevel(w http.ResponseWriter, r *http.Request) error {
	if s.opts.Inspection == nil {
		return errNoInspection()
	}
	if _, err := s.read(w, r); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, s.opts.Inspection.FeatureLevels())
}

// raiseFeatureLevel raises the level to what all servers know. The leader does
// that by itself; asking for it is for those who do not want to wait.
func (s *Server) raiseFeatureLevel(w http.ResponseWriter, r *http.Request) error {
	var wish struct {
		Level uint32 `json:"level"`
	}
	body, err := readWish(w, r, &wish)
	if err != nil {
		return err
	}
	if s.opts.Inspection == nil {
		return errNoInspection()
	}
	return s.operate(w, r, body, true, func(ctx context.Context) (any, error) {
		have := s.opts.Inspection.FeatureLevels()
		want := wish.Level
		if want == 0 {
			want = have.Possible
		}
		switch {
		case want > have.Possible:
			return nil, fail(registry.FailedPrecondition, "Level %d cannot be reached: all servers know level %d; behind are %v", want, have.Possible, have.Behind)
		case want < have.Level:
			return nil, fail(registry.FailedPrecondition, "The cluster is at level %d; there is no way back", have.Level)
		case want > have.Level:
			if err := s.opts.Membership.RaiseFeatureLevel(ctx, want); err != nil {
				return nil, err
			}
		}
		return s.opts.Inspection.FeatureLevels(), nil
	})
}

func errNoInspection() error { return fail(codeNotConfigured, "This node cannot be looked into") }
