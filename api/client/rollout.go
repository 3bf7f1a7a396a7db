package client

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"oaas.io/control-plane/model"
)

// The phases of a rollout.
const (
	// RolloutNone: the deployment's changes go to all environments at once.
	RolloutNone        = "None"
	RolloutProgressing = "Progressing"
	RolloutPaused      = "Paused"
	// RolloutRollingBack: it is being taken back.
	RolloutRollingBack = "RollingBack"
	RolloutComplete    = "Complete"
	// RolloutFailed: it has stopped; environments have different revisions.
	RolloutFailed     = "Failed"
	RolloutRolledBack = "RolledBack"
)

// Rollout is how a deployment comes to its present revision.
type Rollout struct {
	Key   string `json:"key"`
	Phase string `json:"phase"`
	// Reason is why it has failed or is taken back, for programs; Message says more, or
	// what it waits for.
	Reason  string `json:"reason"`
	Message string `json:"message"`
	// Revision is what all environments are to have, StableRevision what they had.
	Revision       uint64                 `json:"revision"`
	StableRevision uint64                 `json:"stable_revision"`
	Strategy       *model.RolloutStrategy `json:"strategy"`
	// Canary and MaxUnavailable are in numbers of environments.
	Canary         uint32 `json:"canary"`
	MaxUnavailable uint32 `json:"max_unavailable"`
	// Wave is the one that has its turn, from 1 on; 0 before the first.
	Wave         int          `json:"wave"`
	Waves        int          `json:"waves"`
	StartedAt    *time.Time   `json:"started_at"`
	WaveAt       *time.Time   `json:"wave_started_at"`
	Deadline     *time.Time   `json:"deadline"`
	PausedAt     *time.Time   `json:"paused_at"`
	EndedAt      *time.Time   `json:"ended_at"`
	Environments []RolloutEnv `json:"environments"`
}

// RolloutEnv is one environment of a rollout.
type RolloutEnv struct {
	Env      string `json:"env"`
	Wave     int    `json:"wave"`
	Revision uint64 `json:"revision"`
	// State is Pending before its turn, Updating, Settling or Updated.
	State string `json:"state"`
	// Phase is that of its unit.
	Phase          string     `json:"phase"`
	UpdatedAt      *time.Time `json:"updated_at"`
	AvailableSince *time.Time `json:"available_since"`
	Detail         string     `json:"detail"`
}

// RolloutChanged is the answer to what was done to a rollout.
type RolloutChanged struct {
	ID       string `json:"id"`
	Phase    string `json:"phase"`
	Revision uint64 `json:"revision"`
	Message  string `json:"message"`
}

// Revision is one of the last revisions of a deployment.
type Revision struct {
	Number     uint64     `json:"revision"`
	Present    bool       `json:"present"`
	Time       *time.Time `json:"time"`
	Principal  string     `json:"principal"`
	Agent      string     `json:"agent"`
	RequestID  string     `json:"request_id"`
	Summary    string     `json:"summary"`
	RollbackOf uint64     `json:"rollback_of"`
	// Outcome is complete, superseded or failed for a past one that went out in waves.
	Outcome string `json:"outcome"`
}

// TimelineEvent is something that has happened to a deployment.
type TimelineEvent struct {
	// ID is the same in every answer.
	ID         string     `json:"id"`
	Index      uint64     `json:"index"`
	Time       *time.Time `json:"time"`
	Type       string     `json:"type"`
	Env        string     `json:"env"`
	Reason     string     `json:"reason"`
	Message    string     `json:"message"`
	UID        string     `json:"uid"`
	Generation uint64     `json:"generation"`
	Revision   uint64     `json:"revision"`
}

// Rollout tells how far the last rollout of a deployment is.
func (c *Client) Rollout(ctx context.Context, key string) (*Rollout, error) {
	return get[*Rollout](ctx, c, path("deployments", key)+"/rollout", nil)
}

// PauseRollout lets no further environment have its turn.
func (c *Client) PauseRollout(ctx context.Context, key string) (*RolloutChanged, error) {
	return c.changeRollout(ctx, key, "/rollout/pause", nil)
}

// ResumeRollout lets a paused rollout go on, or a failed one try once more.
func (c *Client) ResumeRollout(ctx context.Context, key string) (*RolloutChanged, error) {
	return c.changeRollout(ctx, key, "/rollout/resume", nil)
}

// AbortRollout ends a rollout as if it had failed.
func (c *Client) AbortRollout(ctx context.Context, key string) (*RolloutChanged, error) {
	return c.changeRollout(ctx, key, "/rollout/abort", nil)
}

// Rollback gives a deployment the content of a kept revision again; 0 is the last that
// worked.
func (c *Client) Rollback(ctx context.Context, key string, revision uint64) (*RolloutChanged, error) {
	body := json.RawMessage(`{}`)
	if revision > 0 {
		body = json.RawMessage(`{"revision":` + strconv.FormatUint(revision, 10) + `}`)
	}
	return c.changeRollout(ctx, key, "/rollback", body)
}

func (c *Client) changeRollout(ctx context.Context, key, what string, body json.Marshaler) (*RolloutChanged, error) {
	return write[RolloutChanged](ctx, c, http.MethodPost, path("deployments", key)+what, body)
}

// Revisions lists the revisions that are kept of a deployment, the newest first.
func (c *Client) Revisions(ctx context.Context, key string) ([]Revision, error) {
	return get[[]Revision](ctx, c, path("deployments", key)+"/revisions", nil)
}

// Timeline tells what has happened to a deployment, the oldest first; env may limit it to
// one environment.
func (c *Client) Timeline(ctx context.Context, key, env string) ([]TimelineEvent, error) {
	return get[[]TimelineEvent](ctx, c, path("deployments", key)+"/events", params("env", env))
}
