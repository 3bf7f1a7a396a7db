package lifecycle

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"oaas.io/control-plane/crm/api/v1alpha1"
)

// statement is a condition before it gets its times.
type statement struct {
	status  bool
	reason  v1alpha1.Reason
	message string
}

// writeConditions states everything anew about an object that is wanted.
func (e *evaluation) writeConditions(ready bool) {
	progress := e.progress(ready)
	available := e.available()
	complete := statement{true, v1alpha1.ReasonReady, "The current generation runs completely"}
	reconciling := statement{false, v1alpha1.ReasonReady, ""}
	degraded := statement{false, v1alpha1.ReasonHealthy, ""}
	stalled := statement{false, v1alpha1.ReasonHealthy, ""}
	if !ready {
		complete = statement{false, progress.reason, progress.message}
		reconciling = statement{true, progress.reason, progress.message}
	}
	if e.top != nil {
		degraded = statement{true, e.top.fault.Reason, e.faultsText()}
		if stalls(e.top.fault.Reason) {
			stalled = degraded
			reconciling.status = false
		}
	}
	statements := map[v1alpha1.ConditionType]statement{
		v1alpha1.ConditionAvailable:   available,
		v1alpha1.ConditionReady:       complete,
		v1alpha1.ConditionProgressing: progress,
		v1alpha1.ConditionReconciling: reconciling,
		v1alpha1.ConditionDegraded:    degraded,
		v1alpha1.ConditionStalled:     stalled,
	}
	e.stateTelemetry(statements)
	e.state(statements)
}

// progress states whether a change is on its way and nothing is known to stop it.
func (e *evaluation) progress(ready bool) statement {
	switch {
	case e.top != nil:
		return statement{false, e.top.fault.Reason, e.faultsText()}
	case e.status.Phase == v1alpha1.PhasePending:
		return statement{false, v1alpha1.ReasonPending, "Awaiting apply"}
	case e.status.Phase == v1alpha1.PhaseApplying:
		return statement{true, v1alpha1.ReasonApplying, clip(e.applyState())}
	case !ready:
		return statement{true, v1alpha1.ReasonProgressing, clip("Waiting for " + e.firstUnready())}
	}
	return statement{false, v1alpha1.ReasonReady, "The current generation runs completely"}
}

// available states whether every function can be called now. Before the first
// complete application it is not, even if nothing is there that could fail.
func (e *evaluation) available() statement {
	if e.callable && e.o.Previous.Applied != nil {
		return statement{true, v1alpha1.ReasonReady, "All readiness rules satisfied"}
	}
	for _, s := range e.units() {
		if s.unit.callable() {
			continue
		}
		reason, message := v1alpha1.ReasonNotReady, unitState(s.unit)
		if f := e.worstFault(&s.unit.Workload); f != nil {
			reason, message = f.Reason, f.Message
		}
		return statement{false, reason, clip(s.name + ": " + message)}
	}
	return statement{false, v1alpha1.ReasonPending, "Nothing is applied yet"}
}

// stateTelemetry adds the statements about telemetry.
func (e *evaluation) stateTelemetry(statements map[v1alpha1.ConditionType]statement) {
	switch e.o.Telemetry {
	case TelemetryOn:
		statements[v1alpha1.ConditionTelemetryConfigured] = statement{true, v1alpha1.ReasonTelemetryEnabled, ""}
	case TelemetryNoEndpoint:
		const message = "Telemetry is wanted, but the manager has no collector endpoint"
		statements[v1alpha1.ConditionTelemetryConfigured] = statement{false, v1alpha1.ReasonNoEndpoint, message}
		statements[v1alpha1.ConditionTelemetryDegraded] = statement{true, v1alpha1.ReasonNoEndpoint, message}
	case TelemetryOff:
		statements[v1alpha1.ConditionTelemetryConfigured] = statement{false, v1alpha1.ReasonTelemetryDisabled, ""}
	}
}

// state writes the statements, keeps the conditions that others own, and tells
// the transitions. A condition that is neither stated nor somebody else's goes.
func (e *evaluation) state(statements map[v1alpha1.ConditionType]statement) {
	previous := e.o.Previous.Conditions
	out := make([]v1alpha1.Condition, 0, len(statements)+1)
	for _, t := range v1alpha1.ConditionOrder() {
		old := v1alpha1.FindCondition(previous, t)
		s, ours := statements[t]
		switch {
		case ours:
			out = append(out, e.condition(t, s, old))
		case old != nil && e.keeps(t):
			out = append(out, *old)
		}
	}
	e.status.Conditions = out
	e.tellTransitions(previous)
}

// keeps reports whether a condition that is not stated stays as it is: the one
// that the measuring of requirements owns, and on the way out telemetry.
func (e *evaluation) keeps(t v1alpha1.ConditionType) bool {
	switch t {
	case v1alpha1.ConditionNfrObserved:
		return true
	case v1alpha1.ConditionTelemetryConfigured, v1alpha1.ConditionTelemetryDegraded:
		return !e.o.Deleted.IsZero()
	default:
		return false
	}
}

func (e *evaluation) condition(t v1alpha1.ConditionType, s statement, old *v1alpha1.Condition) v1alpha1.Condition {
	c := v1alpha1.Condition{
		Type: t, Status: metav1.ConditionFalse, ObservedGeneration: e.o.Generation,
		Reason: s.reason, Message: s.message,
	}
	if s.status {
		c.Status = metav1.ConditionTrue
	}
	if old != nil && old.Status == c.Status && old.LastTransitionTime != nil {
		c.LastTransitionTime = old.LastTransitionTime
		return c
	}
	at := metav1.NewTime(e.now.Truncate(time.Second))
	c.LastTransitionTime = &at
	return c
}

// tellTransitions turns changes of the conditions into events.
func (e *evaluation) tellTransitions(previous []v1alpha1.Condition) {
	now := e.status.Conditions
	degraded := v1alpha1.FindCondition(now, v1alpha1.ConditionDegraded)
	before := v1alpha1.FindCondition(previous, v1alpha1.ConditionDegraded)
	isDegraded := degraded != nil && degraded.Status == metav1.ConditionTrue
	wasDegraded := before != nil && before.Status == metav1.ConditionTrue
	switch {
	case isDegraded && (!wasDegraded || before.Reason != degraded.Reason):
		e.tell(true, degraded.Reason, degraded.Message)
	case !isDegraded && e.o.Deleted.IsZero() &&
		v1alpha1.IsConditionTrue(previous, v1alpha1.ConditionAvailable) && !v1alpha1.IsConditionTrue(now, v1alpha1.ConditionAvailable):
		c := v1alpha1.FindCondition(now, v1alpha1.ConditionAvailable)
		e.tell(true, c.Reason, c.Message)
	}
	if v1alpha1.IsConditionTrue(now, v1alpha1.ConditionReady) && !v1alpha1.IsConditionTrue(previous, v1alpha1.ConditionReady) {
		e.tell(false, v1alpha1.ReasonReady, e.counts())
	}
}
