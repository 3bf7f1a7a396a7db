package client

import (
	"context"
	"time"
)

// The states of a move.
const (
	MoveNone   = "None"
	MoveMoving = "Moving"
	// MoveHeld: it does not go on, or does not begin; Held says why.
	MoveHeld = "Held"
)

// Move is how a deployment leaves environments: what runs there stays until others take its
// place.
type Move struct {
	Key       string     `json:"key"`
	State     string     `json:"state"`
	StartedAt *time.Time `json:"started_at"`
	Leaving   []Leaving  `json:"leaving"`
	// Joining are the environments that have come with it.
	Joining []string `json:"joining"`
	// Voters hold votes meanwhile; empty: those of the plan.
	Voters []string `json:"voters"`
	Held   *Held    `json:"held"`
	// Failovers are when it was moved because an environment was lost, the oldest first.
	Failovers []time.Time `json:"failovers"`
	// Lost are the environments that it goes back to when they are well again.
	Lost []LostEnv `json:"lost"`
}

// Leaving is an environment that a deployment leaves.
type Leaving struct {
	Env string `json:"env"`
	// Reason is Update, Replan, Drain, Failover or Return.
	Reason string `json:"reason"`
	// Replacement is empty when any other one does.
	Replacement string     `json:"replacement"`
	Since       *time.Time `json:"since"`
}

// Held is why a deployment does not leave an environment now.
type Held struct {
	Code    string     `json:"code"`
	Message string     `json:"message"`
	Env     string     `json:"env"`
	Reason  string     `json:"reason"`
	Since   *time.Time `json:"since"`
}

// LostEnv is an environment that a deployment was moved away from.
type LostEnv struct {
	Env    string     `json:"env"`
	LeftAt *time.Time `json:"left_at"`
}

// Drain is how far the draining of an environment is.
type Drain struct {
	Reason string     `json:"reason"`
	Since  *time.Time `json:"since"`
	// Deployments ran there when it began, and Moved of them do not any more. Moving have
	// begun to leave.
	Deployments int  `json:"deployments"`
	Moved       int  `json:"moved"`
	Moving      int  `json:"moving"`
	Done        bool `json:"done"`
	// Held are those that do not leave now, by key; the first of HeldCount.
	Held      []HeldDeployment `json:"held"`
	HeldCount int              `json:"held_count"`
}

// HeldDeployment is a deployment that does not leave an environment now.
type HeldDeployment struct {
	Key     string     `json:"key"`
	Code    string     `json:"code"`
	Message string     `json:"message"`
	Since   *time.Time `json:"since"`
}

// Fleet is whether the fleet looks as if the control plane were cut off from it.
type Fleet struct {
	Clusters           int    `json:"clusters"`
	Lost               int    `json:"lost"`
	PartitionSuspected bool   `json:"partition_suspected"`
	Reason             string `json:"reason"`
}

// Move tells how a deployment leaves environments.
func (c *Client) Move(ctx context.Context, key string) (*Move, error) {
	return get[*Move](ctx, c, path("deployments", key)+"/move", nil)
}

// Drain tells how far the draining of an environment is.
func (c *Client) Drain(ctx context.Context, env string) (*Drain, error) {
	return get[*Drain](ctx, c, path("envs", env)+"/drain", nil)
}

// Fleet tells whether so many environments are lost that nothing is moved by itself.
func (c *Client) Fleet(ctx context.Context) (*Fleet, error) {
	return get[*Fleet](ctx, c, path("fleet"), nil)
}
