package api

import (
	"net/http"

	"oaas.io/control-plane/registry"
	"oaas.io/control-plane/scheduler"
)

// The deployments that one simulation plans. The rest is only counted.
const (
	defaultSimulated = 100
	maxSimulated     = 1000
	// maxSelectors bounds the selectors and the keys of one scenario.
	maxSelectors = 1000
)

// scenario is the body of a simulation.
type scenario struct {
	Lose        []string `json:"lose"`
	Drain       []string `json:"drain"`
	Target      *float64 `json:"target"`
	Deployments []string `json:"deployments"`
	Limit       *int     `json:"limit"`
}

type simulation struct {
	// Lost environments by name.
	Lost []string `json:"lost"`
	// Drained environments by name, without those that are lost.
	Drained []string `json:"drained"`
	// Affected deployments, those beyond the limit included.
	Affected int `json:"affected"`
	// Changed, Missed and Failed count the deployments below: those that would move,
	// those whose target would not be met, and those that could not be planned.
	Changed     int         `json:"changed"`
	Missed      int         `json:"missed"`
	Failed      int         `json:"failed"`
	Deployments []simulated `json:"deployments"`
}

type simulated struct {
	Key    string          `json:"key"`
	Before []string        `json:"before"`
	Plan   *scheduler.Plan `json:"plan,omitempty"`
	// Error says why there is no plan.
	Error string `json:"error,omitempty"`
}

// simulate plans deployments as if something had happened.
func (s *Server) simulate(w http.ResponseWriter, r *http.Request) error {
	var in scenario
	if _, err := readWish(w, r, &in); err != nil {
		return err
	}
	want := registry.Scenario{Lose: in.Lose, Drain: in.Drain, Target: in.Target, Keys: in.Deployments, Limit: defaultSimulated}
	if in.Limit != nil {
		want.Limit = *in.Limit
	}
	switch {
	case want.Limit < 1 || want.Limit > maxSimulated:
		return fail(registry.InvalidArgument, "limit is within 1..%d", maxSimulated)
	case len(want.Lose) > maxSelectors || len(want.Drain) > maxSelectors || len(want.Keys) > maxSelectors:
		return fail(registry.InvalidArgument, "At most %d selectors and %d deployments at a time", maxSelectors, maxSelectors)
	case len(want.Lose)+len(want.Drain) == 0 && want.Target == nil && len(want.Keys) == 0:
		return fail(registry.InvalidArgument, "The scenario is empty: say what is lost or drained, another target, or which deployments to plan again")
	}
	snap, err := s.read(w, r)
	if err != nil {
		return err
	}
	got, err := s.opts.Registry.Simulate(snap, want)
	if err != nil {
		return err
	}
	out := simulation{Lost: got.Lost, Drained: got.Drained, Affected: got.Affected, Deployments: []simulated{}}
	for _, d := range got.Deployments {
		one := simulated{Key: d.Key, Before: d.Before, Plan: d.Plan}
		switch {
		case d.Err != nil:
			one.Error, out.Failed = d.Err.Error(), out.Failed+1
		case !d.Plan.TargetMet:
			out.Missed++
		}
		if d.Plan != nil && len(d.Plan.Changes.Add)+len(d.Plan.Changes.Remove) > 0 {
			out.Changed++
		}
		out.Deployments = append(out.Deployments, one)
	}
	return writeJSON(w, http.StatusOK, out)
}
