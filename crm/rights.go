package crm

import (
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"oaas.io/control-plane/crm/server"
)

// deniedFor is how long a right counts as missing after it was denied. The controller
// tries again at least twice in that time, so that it is missing until it is given.
const deniedFor = time.Minute

// rights remembers that the API server denied the manager a right that it cannot work
// without. What only one class needs is told in that class's status instead; where the
// status cannot be written, this is all that tells of it.
type rights struct {
	now func() time.Time
	log hclog.Logger

	mu   sync.Mutex
	last time.Time
	err  error
}

func newRights(now func() time.Time, log hclog.Logger) *rights { return &rights{now: now, log: log} }

// forbidden notes what the API server forbade the controller, if it is for lack of a right.
func (r *rights) forbidden(err error) {
	if server.RightMissing(err) {
		r.denied(err)
	}
}

// denied notes that a right was missing.
func (r *rights) denied(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.missingLocked() == nil {
		r.log.Warn("a right is missing, see deploy/crm/rbac.yaml", "error", err)
	}
	r.last, r.err = r.now(), err
}

// missing tells which right was denied lately, or nil.
func (r *rights) missing() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.missingLocked()
}

func (r *rights) missingLocked() error {
	if r.err == nil || r.now().Sub(r.last) >= deniedFor {
		return nil
	}
	return fmt.Errorf("the manager lacks a right: %w", r.err)
}

// observer is what the server is told of the API server: what the probe sees, and what
// the controller is denied.
type observer struct {
	probe  *apiProbe
	rights *rights
}

// Observe implements server.APIObserver.
func (o observer) Observe() server.APIState {
	state := o.probe.Observe()
	if state.Problem == nil {
		state.Problem = o.rights.missing()
	}
	return state
}
