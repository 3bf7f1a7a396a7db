package api

import (
	"context"
	"net/http"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/registry"
)

// replanRequest is the body of a replan; none is the same as {}.
type replanRequest struct {
	// Rebalance moves the deployment to something better where that is worth while.
	Rebalance bool `json:"rebalance"`
}

// replanned is the answer to a replan.
type replanned struct {
	Message      string               `json:"message"`
	ID           string               `json:"id"`
	Change       registry.Change      `json:"change"`
	Environments []registry.EnvChange `json:"environments"`
	// Summary of the plan.
	Summary string `json:"summary"`
}

// replan plans a deployment anew. With ?dry_run it only tells, as for posting it.
func (s *Server) replan(w http.ResponseWriter, r *http.Request) error {
	key := pathVar(r, "key")
	callOf(r.Context()).deployment = key
	var in replanRequest
	body, err := readWish(w, r, &in)
	if err != nil {
		return err
	}
	q := parseQuery(r.URL.RawQuery)
	dry := q.flag("dry_run")
	if q.err != nil {
		return q.err
	}
	if dry {
		return s.tellPreview(w, r, func(snap *fsm.Snapshot, pre registry.Precondition) (*registry.Preview, error) {
			return s.opts.Registry.PreviewReplan(snap, key, in.Rebalance, pre)
		})
	}
	ans, err := s.write(r, operation{
		body: body,
		run: func(ctx context.Context, ri registry.RequestInfo) (any, uint64, error) {
			return flat(s.opts.Registry.Replan(ctx, ri, key, in.Rebalance))
		},
		reply: func(outcome any) (int, []byte) {
			out := replanned{Message: "Deployment planned anew", ID: key, Environments: []registry.EnvChange{}}
			if p, ok := outcome.(*registry.Preview); ok {
				out.Change, out.Environments, out.Summary = p.Change, p.Envs, p.Plan.Summary
			}
			return encoded(http.StatusOK, out)
		},
		tag: s.deploymentTagAt(key),
	})
	if err != nil {
		return err
	}
	ans.send(w)
	return nil
}
