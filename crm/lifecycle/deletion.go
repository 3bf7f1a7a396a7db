package lifecycle

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"oaas.io/control-plane/crm/api/v1alpha1"
)

// deleting is the verdict on an object that is being deleted.
func (e *evaluation) deleting() {
	if e.o.Previous.Phase != v1alpha1.PhaseDeleting {
		e.tell(false, v1alpha1.ReasonDeleting, "Deleting the children")
	}
	e.status.Phase = v1alpha1.PhaseDeleting
	e.planDeletion()
	e.writeFunctions()
	message, blocked := e.remaining()
	gone := statement{false, v1alpha1.ReasonDeleting, message}
	degraded := statement{false, v1alpha1.ReasonHealthy, ""}
	if blocked {
		degraded = statement{true, v1alpha1.ReasonDeletionBlocked, message}
	}
	e.status.Message = message
	e.state(map[v1alpha1.ConditionType]statement{
		v1alpha1.ConditionAvailable:   gone,
		v1alpha1.ConditionReady:       gone,
		v1alpha1.ConditionProgressing: gone,
		v1alpha1.ConditionReconciling: {true, v1alpha1.ReasonDeleting, message},
		v1alpha1.ConditionDegraded:    degraded,
		v1alpha1.ConditionStalled:     {false, v1alpha1.ReasonHealthy, ""},
	})
}

// planDeletion lets the object go only when a complete list shows that nothing
// is left of it: no list and an empty list are different things.
func (e *evaluation) planDeletion() {
	switch {
	case !e.o.HasFinalizer:
		// Somebody else's finalizer holds the object. Our work is done.
	case !e.o.ChildrenListed:
		e.backoff = true
	case len(e.o.Children) == 0:
		e.actions = []Action{RemoveFinalizer}
	default:
		if slices.ContainsFunc(e.o.Children, func(c Child) bool { return c.Deleted.IsZero() }) {
			e.actions = []Action{DeleteChildren}
		}
	}
}

// remaining says what is left, and whether it is left for too long.
func (e *evaluation) remaining() (string, bool) {
	switch {
	case !e.o.HasFinalizer:
		return "The children are gone; the object is held by somebody else's finalizer", false
	case !e.o.ChildrenListed:
		return "The children could not be listed", false
	case len(e.o.Children) == 0:
		return "The children are gone", false
	}
	blocked := false
	deadline := e.o.Deleted.Add(e.options.DeletionDeadline)
	if e.now.Before(deadline) {
		e.wakeAt(deadline)
		e.wakeAt(e.now.Add(e.options.DeletionPoll))
	} else {
		blocked = true
		e.wakeAt(e.now.Add(min(e.options.StalledRetry, degradedPoll)))
	}
	return e.remainingText(blocked), blocked
}

func (e *evaluation) remainingText(blocked bool) string {
	const shown = 10
	names := make([]string, 0, len(e.o.Children))
	for _, c := range e.o.Children {
		name := c.Kind + " " + c.Name
		if by := holders(c.Finalizers, blocked); len(by) > 0 {
			name += " (held by " + strings.Join(by, ", ") + ")"
		}
		names = append(names, name)
	}
	slices.Sort(names)
	more := ""
	if len(names) > shown {
		more = fmt.Sprintf(" and %d more", len(names)-shown)
		names = names[:shown]
	}
	text := fmt.Sprintf("Waiting for %d objects to go: %s%s", len(e.o.Children), strings.Join(names, ", "), more)
	if blocked {
		doc, _ := v1alpha1.ReasonDeletionBlocked.Doc()
		text += fmt.Sprintf(". They are left for more than %s. %s", e.options.DeletionDeadline.Round(time.Second), doc.Recovery)
	}
	return clip(text)
}

// holders are the finalizers that keep an object. Those with which Kubernetes removes its
// dependents come and go by themselves, and are told only once it takes too long.
func holders(finalizers []string, blocked bool) []string {
	if blocked {
		return finalizers
	}
	return slices.DeleteFunc(slices.Clone(finalizers), func(f string) bool { return f == "foregroundDeletion" || f == "orphan" })
}
