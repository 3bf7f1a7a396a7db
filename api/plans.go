package api

import (
	"encoding/json"
	"net/http"
	"strconv"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/registry"
)

// planEntry is one of the last plans of a deployment.
type planEntry struct {
	// Index of the write that made it, which names it.
	Index      uint64   `json:"index"`
	Generation uint64   `json:"generation"`
	Present    bool     `json:"present"`
	Clusters   []string `json:"clusters"`
	TargetMet  bool     `json:"target_met"`
	Summary    string   `json:"summary"`
}

// plansOf gives the plans of a deployment, the newest first.
func plansOf(snap *fsm.Snapshot, key string) []*fsm.Plan {
	past := snap.PastPlans(key)
	if now := snap.Plan(key); now != nil {
		return append([]*fsm.Plan{now}, past...)
	}
	return past
}

// listPlans tells the last plans of a deployment in short.
func (s *Server) listPlans(w http.ResponseWriter, r *http.Request) error {
	snap, dep, err := s.readDeployment(w, r)
	if err != nil {
		return err
	}
	list := []planEntry{}
	for i, p := range plansOf(snap, dep.Doc.Key) {
		e := planEntry{Clusters: []string{}}
		if len(p.Document) > 0 {
			// The document is the scheduler's; one of another release may lack some of it.
			if err := json.Unmarshal(p.Document, &e); err != nil {
				return err
			}
		}
		e.Index, e.Generation, e.Present = p.ModifyIndex, p.Generation, i == 0
		list = append(list, e)
	}
	return writeJSON(w, http.StatusOK, list)
}

// getPastPlan gives one of the last plans with its explanation.
func (s *Server) getPastPlan(w http.ResponseWriter, r *http.Request) error {
	index, err := strconv.ParseUint(pathVar(r, "index"), 10, 64)
	if err != nil {
		return fail(registry.InvalidArgument, "A plan is named by the index of its write, not by %q", pathVar(r, "index"))
	}
	snap, dep, err := s.readDeployment(w, r)
	if err != nil {
		return err
	}
	for _, p := range plansOf(snap, dep.Doc.Key) {
		if p.ModifyIndex == index {
			sendPlan(w, p)
			return nil
		}
	}
	return fail(registry.NotFound, "Plan not found: %s has none of the index %d among its last %d", dep.Doc.Key, index, fsm.MaxPlans)
}

// sendPlan writes a plan as the scheduler wrote it.
func sendPlan(w http.ResponseWriter, p *fsm.Plan) {
	w.Header().Set("ETag", etag(p.DeploymentUID, p.ModifyIndex))
	w.Header().Set("PM-Deployment-UID", p.DeploymentUID)
	w.Header().Set("PM-Deployment-Generation", formatIndex(p.Generation))
	writeRaw(w, http.StatusOK, p.Document)
}
