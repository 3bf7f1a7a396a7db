package lifecycle

import (
	"time"

	"oaas.io/control-plane/crm/api/v1alpha1"
)

// Action is something the controller has to do.
type Action string

// Actions.
const (
	// EnsureFinalizer adds the finalizer. Nothing else is done before.
	EnsureFinalizer Action = "EnsureFinalizer"
	// Apply writes every intent that is not applied.
	Apply Action = "Apply"
	// Prune deletes the children that are no longer rendered.
	Prune Action = "Prune"
	// DeleteChildren deletes every child that is not yet being deleted.
	DeleteChildren Action = "DeleteChildren"
	// RemoveFinalizer lets the object go.
	RemoveFinalizer Action = "RemoveFinalizer"
)

// Event is a transition worth telling people about.
type Event struct {
	// Warning events are about faults.
	Warning bool
	// Reason is one of the documented reasons.
	Reason v1alpha1.Reason
	// Message for people.
	Message string
}

// Verdict is the outcome of an evaluation.
type Verdict struct {
	// Status is the complete new status. It equals the previous one, times
	// included, when there is nothing new to say.
	Status v1alpha1.ClassRuntimeStatus
	// Changed reports whether Status differs from the previous one.
	Changed bool
	// Actions in the order in which they are to be done.
	Actions []Action
	// RequeueAfter is when time alone may change the verdict; 0 is never.
	RequeueAfter time.Duration
	// Backoff asks for a retry at the controller's own growing intervals,
	// because something failed that may pass.
	Backoff bool
	// Events are told when Status is stored.
	Events []Event
}

// Has reports whether the verdict asks for the action.
func (v *Verdict) Has(action Action) bool {
	for _, a := range v.Actions {
		if a == action {
			return true
		}
	}
	return false
}
