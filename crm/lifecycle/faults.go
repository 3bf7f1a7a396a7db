package lifecycle

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"oaas.io/control-plane/crm/api/v1alpha1"
)

// located is a fault and the part that has it.
type located struct {
	subject string
	fault   Fault
}

func (l *located) text() string {
	if l.subject == "" {
		return l.fault.Message
	}
	return l.subject + ": " + l.fault.Message
}

func functionSubject(key string) string { return fmt.Sprintf("function %q", key) }

// findFaults collects the faults that lasted long enough and asks to be woken
// when a younger one will have.
func (e *evaluation) findFaults() {
	if f := e.o.RenderFault; f != nil {
		e.faults = append(e.faults, located{"", *f})
	}
	for i := range e.o.Intents {
		if intent := &e.o.Intents[i]; intent.Fault != nil {
			e.ripen(located{intent.Kind + " " + intent.Name, *intent.Fault}, e.grace(intent.Fault.Reason))
		}
	}
	for _, s := range e.units() {
		e.unitFaults(s)
	}
	if len(e.faults) == 0 {
		e.deadlineFault()
	}
	if len(e.faults) == 0 {
		return
	}
	slices.SortStableFunc(e.faults, func(a, b located) int {
		return cmp.Compare(severity(a.fault.Reason), severity(b.fault.Reason))
	})
	e.top = &e.faults[0]
}

// unitFaults looks at a unit whose rollout is not over. A pod that fails while
// enough others serve is the workload's own business.
func (e *evaluation) unitFaults(s subject) {
	if s.unit.settled() {
		return
	}
	w := &s.unit.Workload
	for _, f := range w.Faults {
		if !e.outdated(w, f) {
			e.ripen(located{s.name, f}, e.grace(f.Reason))
		}
	}
	// The unit was ready with this very content and is not any more.
	lost := e.recorded && e.unreadySince.After(e.appliedAt)
	if lost && !s.unit.callable() {
		e.ripen(located{s.name, Fault{
			Reason:  v1alpha1.ReasonReplicasUnavailable,
			Message: unitState(s.unit),
			Since:   e.unreadySince,
		}}, e.options.LossGrace)
	}
}

// outdated reports whether a fault belongs to a pod of the previous content,
// which is about to be replaced.
func (e *evaluation) outdated(w *Workload, f Fault) bool {
	replacing := w.ObservedGeneration < w.Generation || w.Total > w.Updated
	return replacing && e.recorded && !f.Created.IsZero() && f.Created.Before(e.appliedAt)
}

// deadlineFault degrades a class that is not ready in time without a fault to
// name.
func (e *evaluation) deadlineFault() {
	if !e.o.HasFinalizer || (e.complete && e.recorded) {
		return
	}
	start := e.unreadySince
	if e.recorded && e.appliedAt.After(start) {
		start = e.appliedAt
	}
	e.ripen(located{"", Fault{
		Reason:  v1alpha1.ReasonProgressDeadlineExceeded,
		Message: "not ready in time: " + e.firstUnready(),
		Since:   start,
	}}, e.options.ProgressDeadline)
}

// ripen adds the fault if it lasted longer than grace, else it asks to be woken
// when it will have.
func (e *evaluation) ripen(l located, grace time.Duration) {
	since := l.fault.Since
	if since.IsZero() {
		since = e.unreadySince
	}
	due := since.Add(grace)
	if grace <= 0 || !e.now.Before(due) {
		e.faults = append(e.faults, l)
		return
	}
	e.wakeAt(due)
}

// grace is how long a fault of the reason is tolerated, because it may pass by
// itself.
func (e *evaluation) grace(reason v1alpha1.Reason) time.Duration {
	switch reason {
	case v1alpha1.ReasonInsufficientCapacity:
		return e.options.CapacityGrace
	case v1alpha1.ReasonApplyFailed, v1alpha1.ReasonNameTaken, v1alpha1.ReasonKnativeFailed, v1alpha1.ReasonImagePullFailed, v1alpha1.ReasonCrashLoop,
		v1alpha1.ReasonContainerConfigError,
		v1alpha1.ReasonQuotaExceeded, v1alpha1.ReasonPodsRejected:
		return e.options.FaultGrace
	case v1alpha1.ReasonProbeFailed:
		return e.options.ProbeGrace
	default:
		return 0
	}
}

// severities rank the reasons by their place in the documented table.
var severities = func() map[v1alpha1.Reason]int {
	out := map[v1alpha1.Reason]int{}
	for i, doc := range v1alpha1.ReasonDocs() {
		out[doc.Reason] = i
	}
	return out
}()

func severity(reason v1alpha1.Reason) int {
	if rank, known := severities[reason]; known {
		return rank
	}
	return len(severities)
}

// faultsText names the worst faults and what to do about the worst one.
func (e *evaluation) faultsText() string {
	const shown = 3
	texts := make([]string, 0, shown+1)
	for i := range e.faults {
		if i == shown {
			texts = append(texts, fmt.Sprintf("and %d more", len(e.faults)-shown))
			break
		}
		texts = append(texts, strings.TrimRight(e.faults[i].text(), ". "))
	}
	text := strings.Join(texts, "; ") + "."
	if doc, ok := e.top.fault.Reason.Doc(); ok {
		text += " " + doc.Recovery
	}
	return clip(text)
}

// clip bounds a message, on a character boundary.
func clip(text string) string {
	const limit = 1024
	if len(text) <= limit {
		return text
	}
	cut := limit - len("…")
	for cut > 0 && text[cut]&0xC0 == 0x80 {
		cut--
	}
	return text[:cut] + "…"
}
