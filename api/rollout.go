package api

import (
	"context"
	"net/http"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
)

// rolloutView is how a deployment comes to its present revision.
type rolloutView struct {
	Key string `json:"key"`
	// Phase is None without a rollout, else Progressing, Paused, RollingBack, Complete,
	// Failed or RolledBack.
	Phase string `json:"phase"`
	// Reason is why it has failed or is taken back; Message says more, or what it waits
	// for.
	Reason  string `json:"reason"`
	Message string `json:"message"`
	// Revision is what all environments are to have, StableRevision what they had.
	Revision       uint64                 `json:"revision"`
	StableRevision uint64                 `json:"stable_revision"`
	Strategy       *model.RolloutStrategy `json:"strategy"`
	// Canary and MaxUnavailable are those of the strategy in numbers of environments.
	Canary         uint32 `json:"canary"`
	MaxUnavailable uint32 `json:"max_unavailable"`
	// Wave is the one that has its turn, from 1 on; 0 before the first.
	Wave         int          `json:"wave"`
	Waves        int          `json:"waves"`
	StartedAt    *string      `json:"started_at"`
	WaveAt       *string      `json:"wave_started_at"`
	Deadline     *string      `json:"deadline"`
	PausedAt     *string      `json:"paused_at"`
	EndedAt      *string      `json:"ended_at"`
	Environments []rolloutEnv `json:"environments"`
}

// rolloutEnv is one environment of a rollout.
type rolloutEnv struct {
	Env  string `json:"env"`
	Wave int    `json:"wave"`
	// Revision is what it is to run now.
	Revision uint64 `json:"revision"`
	// State is Pending before its turn, Updating, Settling while it has not been available
	// for long enough, and Updated.
	State string `json:"state"`
	// Phase is that of its unit, empty when there is none.
	Phase          string  `json:"phase"`
	UpdatedAt      *string `json:"updated_at"`
	AvailableSince *string `json:"available_since"`
	// Detail is why it is not available.
	Detail string `json:"detail"`
}

func (s *Server) getRollout(w http.ResponseWriter, r *http.Request) error {
	snap, dep, err := s.readDeployment(w, r)
	if err != nil {
		return err
	}
	w.Header().Set("PM-Deployment-UID", dep.UID)
	return writeJSON(w, http.StatusOK, newRolloutView(dep, s.opts.Registry.RolloutStatusOf(snap, dep)))
}

func newRolloutView(dep *fsm.Deployment, st *registry.RolloutStatus) rolloutView {
	row := st.Row
	out := rolloutView{
		Key: dep.Doc.Key, Phase: registry.PhaseName(row.GetPhase()), Reason: row.GetReason(), Message: st.Message,
		Revision: dep.RevisionNumber(), StableRevision: row.GetStable(), Strategy: dep.Doc.Rollout,
		Canary: row.GetCanary(), MaxUnavailable: row.GetMaxUnavailable(), Waves: st.Waves,
		StartedAt: stampText(row.GetStarted()), WaveAt: stampText(row.GetWaveStarted()), Deadline: stampText(row.GetDeadline()),
		PausedAt: stampText(row.GetPaused()), EndedAt: stampText(row.GetEnded()), Environments: []rolloutEnv{},
	}
	if row.GetWaveStarted() != nil {
		out.Wave = int(row.GetWave()) + 1
	}
	for _, e := range st.Envs {
		one := rolloutEnv{
			Env: e.Env, Wave: e.Wave + 1, Revision: e.Revision, State: envState(e), UpdatedAt: timeText(e.Since), Detail: e.Detail,
			AvailableSince: timeText(e.AvailableSince),
		}
		if e.Unit != nil {
			one.Phase = fsm.UnitPhase(e.Unit)
		}
		out.Environments = append(out.Environments, one)
	}
	return out
}

func envState(e registry.RolloutEnvStatus) string {
	switch {
	case !e.Updated:
		return "Pending"
	case e.Settled:
		return "Updated"
	case !e.AvailableSince.IsZero():
		return "Settling"
	default:
		return "Updating"
	}
}

func timeText(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	return stampText(timestamppb.New(t))
}

// rolloutChanged is the answer to what was done to a rollout.
type rolloutChanged struct {
	ID       string `json:"id"`
	Phase    string `json:"phase"`
	Revision uint64 `json:"revision"`
	Message  string `json:"message"`
}

func (s *Server) pauseRollout(w http.ResponseWriter, r *http.Request) error {
	return s.changeRollout(w, r, nil, "Rollout paused", s.opts.Registry.PauseRollout)
}

func (s *Server) resumeRollout(w http.ResponseWriter, r *http.Request) error {
	return s.changeRollout(w, r, nil, "Rollout resumed", s.opts.Registry.ResumeRollout)
}

func (s *Server) abortRollout(w http.ResponseWriter, r *http.Request) error {
	return s.changeRollout(w, r, nil, "Rollout aborted", s.opts.Registry.AbortRollout)
}

// rollbackRequest is the body of a rollback; none is the same as {}.
type rollbackRequest struct {
	// Revision to go back to; 0: the last that worked.
	Revision uint64 `json:"revision"`
}

func (s *Server) rollback(w http.ResponseWriter, r *http.Request) error {
	var in rollbackRequest
	body, err := readWish(w, r, &in)
	if err != nil {
		return err
	}
	return s.changeRollout(w, r, body, "Deployment goes back", func(ctx context.Context, ri registry.RequestInfo, key string) (*registry.RolloutOutcome, uint64, error) {
		return s.opts.Registry.Rollback(ctx, ri, key, in.Revision)
	})
}

// changeRollout runs what is to be done to the rollout that the path names.
func (s *Server) changeRollout(
	w http.ResponseWriter, r *http.Request, body []byte, done string,
	change func(ctx context.Context, ri registry.RequestInfo, key string) (*registry.RolloutOutcome, uint64, error),
) error {
	if err := noDryRun(r); err != nil {
		return err
	}
	key := pathVar(r, "key")
	callOf(r.Context()).deployment = key
	ans, err := s.write(r, operation{
		body: body,
		run: func(ctx context.Context, ri registry.RequestInfo) (any, uint64, error) {
			return flat(change(ctx, ri, key))
		},
		reply: func(outcome any) (int, []byte) {
			out := rolloutChanged{ID: key, Message: done}
			if did, ok := outcome.(*registry.RolloutOutcome); ok {
				out.Phase, out.Revision = registry.PhaseName(did.Phase), did.Revision
			}
			return encoded(http.StatusOK, out)
		},
	})
	if err != nil {
		return err
	}
	ans.send(w)
	return nil
}

// revision is one of the last revisions of a deployment.
type revision struct {
	Number  uint64 `json:"revision"`
	Present bool   `json:"present"`
	// Time is null where it is not known.
	Time      *string `json:"time"`
	Principal string  `json:"principal"`
	Agent     string  `json:"agent"`
	RequestID string  `json:"request_id"`
	// Summary is what was changed.
	Summary string `json:"summary"`
	// RollbackOf is the revision whose content it has again; 0: of none.
	RollbackOf uint64 `json:"rollback_of"`
	// Outcome is complete, superseded or failed for a past one that went out in waves.
	Outcome string `json:"outcome"`
}

func newRevision(note *pmpb.RevisionNote) revision {
	return revision{
		Number: max(note.GetNumber(), 1), Time: stampText(note.GetTime()), Principal: note.GetPrincipal(), Agent: note.GetAgent(),
		RequestID: note.GetRequestId(), Summary: note.GetSummary(), RollbackOf: note.GetRollbackOf(),
	}
}

// listRevisions tells the revisions that are kept of a deployment, the newest first.
func (s *Server) listRevisions(w http.ResponseWriter, r *http.Request) error {
	snap, dep, err := s.readDeployment(w, r)
	if err != nil {
		return err
	}
	now := newRevision(dep.Revision)
	now.Present = true
	list := []revision{now}
	for _, past := range snap.Revisions(dep.Doc.Key) {
		one := newRevision(past.GetNote())
		one.Outcome = past.GetOutcome()
		list = append(list, one)
	}
	return writeJSON(w, http.StatusOK, list)
}

// rolloutTrouble says why a deployment is not at its revision everywhere; empty when it is,
// or on its way.
func rolloutTrouble(row *pmpb.Rollout) string {
	switch row.GetPhase() {
	case pmpb.RolloutPhase_ROLLOUT_PHASE_FAILED:
		return "the rollout of revision " + formatIndex(row.GetRevision()) + " has failed: " + reasonText(row)
	case pmpb.RolloutPhase_ROLLOUT_PHASE_ROLLING_BACK:
		return "a rollout is being taken back: " + reasonText(row)
	default:
		return ""
	}
}

func reasonText(row *pmpb.Rollout) string {
	if row.GetMessage() == "" {
		return row.GetReason()
	}
	return row.GetMessage()
}
