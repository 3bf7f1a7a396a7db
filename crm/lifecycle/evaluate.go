package lifecycle

import (
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"oaas.io/control-plane/crm/api/v1alpha1"
)

const (
	// recordDelay is the pause before a class that is complete is judged again
	// because its application was recorded only now.
	recordDelay = 50 * time.Millisecond
	// progressPoll is how often pods of an unfinished rollout are looked at:
	// their faults do not always show in the workload that is watched.
	progressPoll = 5 * time.Second
	// degradedPoll is the same for a class that is degraded already.
	degradedPoll = 30 * time.Second
)

// Evaluate judges what was observed. options must hold no negative time; zero
// times mean their defaults. It changes nothing it is given.
func Evaluate(o Observed, options Options, now time.Time) Verdict {
	e := &evaluation{o: &o, options: options.WithDefaults(), now: now}
	e.status = *o.Previous.DeepCopy()
	if o.Template != "" {
		e.status.Template = o.Template
	}
	e.assess()
	if !o.Deleted.IsZero() {
		e.deleting()
	} else {
		e.running()
	}
	return e.finish()
}

// evaluation is one call of Evaluate. The fields under "assessment" are set by
// assess and only read afterwards.
type evaluation struct {
	o       *Observed
	options Options
	now     time.Time

	// assessment
	applied      bool      // every intent stands as rendered
	recorded     bool      // an earlier verdict recorded that
	callable     bool      // every function can be called
	complete     bool      // applied, and every rollout is over
	appliedAt    time.Time // when this content was first applied completely
	unreadySince time.Time // since when Ready is False; now if it is not
	faults       []located // that lasted long enough to degrade
	top          *located  // the worst of them, nil if there is none

	// verdict
	status  v1alpha1.ClassRuntimeStatus
	actions []Action
	wake    time.Time // earliest moment at which time alone matters
	backoff bool
	events  []Event
}

// assess derives the facts that all later steps share.
func (e *evaluation) assess() {
	o := e.o
	e.applied = o.RenderFault == nil
	for i := range o.Intents {
		e.applied = e.applied && o.Intents[i].State == IntentApplied
	}
	last := o.Previous.Applied
	e.recorded = e.applied && last != nil && last.Generation == o.Generation && last.IntentHash == o.IntentHash
	e.appliedAt = e.now
	if e.recorded && last.AppliedAt != nil {
		e.appliedAt = last.AppliedAt.Time
	}
	e.callable, e.complete = true, e.applied
	for _, u := range e.units() {
		e.callable = e.callable && u.unit.callable()
		e.complete = e.complete && u.unit.complete()
	}
	e.unreadySince = e.now
	ready := v1alpha1.FindCondition(o.Previous.Conditions, v1alpha1.ConditionReady)
	if ready != nil && ready.Status != metav1.ConditionTrue && ready.LastTransitionTime != nil {
		e.unreadySince = ready.LastTransitionTime.Time
	}
}

// subject is a unit with the words for it.
type subject struct {
	name string
	unit *Unit
}

// units are the parts that have to run: the object store first, because the
// functions lean on it. WASM functions have no part of their own.
func (e *evaluation) units() []subject {
	out := make([]subject, 0, len(e.o.Functions)+1)
	if e.o.ODGM != nil {
		out = append(out, subject{"object store", e.o.ODGM})
	}
	for i := range e.o.Functions {
		if f := &e.o.Functions[i]; !f.WASM {
			out = append(out, subject{functionSubject(f.Key), &f.Unit})
		}
	}
	return out
}

// running is the verdict on an object that is wanted.
func (e *evaluation) running() {
	e.recordApplication()
	e.findFaults()
	ready := e.complete && e.recorded && e.top == nil && e.o.HasFinalizer
	e.status.Phase = e.phase(ready)
	e.planActions(ready)
	e.writeFunctions()
	e.writeConditions(ready)
	e.status.Message = e.summary()
	e.schedule(ready)
}

// recordApplication notes in the status what is now applied completely. What
// was applied before stays noted while a newer generation is on its way.
func (e *evaluation) recordApplication() {
	if !e.applied || !e.o.HasFinalizer {
		return
	}
	at := metav1.NewTime(e.appliedAt.Truncate(time.Second))
	record := &v1alpha1.AppliedDelivery{Generation: e.o.Generation, AppliedAt: &at, IntentHash: e.o.IntentHash}
	if d := e.o.Delivery; d != nil {
		record.Epoch, record.Fence, record.ContentHash = d.Epoch, d.Fence, d.ContentHash
	}
	if !e.recorded && e.status.Applied != nil {
		// Of a new class only the end is news.
		e.tell(false, v1alpha1.ReasonApplySuccessful, "All objects of the new version are applied")
	}
	e.status.Applied = record
}

func (e *evaluation) phase(ready bool) v1alpha1.Phase {
	switch {
	case e.top != nil:
		return v1alpha1.PhaseDegraded
	case !e.o.HasFinalizer || !e.tried():
		return v1alpha1.PhasePending
	case !e.applied:
		return v1alpha1.PhaseApplying
	case !ready:
		return v1alpha1.PhaseProgressing
	}
	return v1alpha1.PhaseAvailable
}

// tried reports whether an apply of the current content was begun.
func (e *evaluation) tried() bool {
	if len(e.o.Intents) == 0 {
		return true
	}
	for i := range e.o.Intents {
		intent := &e.o.Intents[i]
		if intent.Fault != nil || intent.State == IntentApplied || intent.State == IntentTerminating {
			return true
		}
	}
	return false
}

func (e *evaluation) planActions(ready bool) {
	switch {
	case !e.o.HasFinalizer:
		e.actions = []Action{EnsureFinalizer}
	case e.o.RenderFault != nil:
	case !e.applied && e.orphansHoldNames():
		e.actions = []Action{Prune, Apply}
	case !e.applied:
		e.actions = []Action{Apply}
	case e.recorded && e.hasOrphans() && (ready || e.orphansInTheWay()):
		e.actions = []Action{Prune}
	}
}

// hasOrphans reports whether a child exists that is not rendered any more. A
// list that may be incomplete shows none, which is safe.
func (e *evaluation) hasOrphans() bool {
	type key struct{ kind, name string }
	wanted := make(map[key]bool, len(e.o.Intents))
	for i := range e.o.Intents {
		wanted[key{e.o.Intents[i].Kind, e.o.Intents[i].Name}] = true
	}
	for i := range e.o.Children {
		c := &e.o.Children[i]
		if c.Deleted.IsZero() && !wanted[key{c.Kind, c.Name}] {
			return true
		}
	}
	return false
}

// orphansHoldNames reports that a child which is no longer rendered keeps one that is
// from having its name: Knative makes a Service for each of its own, so a Service of the
// other sort has to go first.
func (e *evaluation) orphansHoldNames() bool {
	clash := map[string]string{KindKnativeService: "Service", "Service": KindKnativeService}
	for i := range e.o.Children {
		c := &e.o.Children[i]
		other, clashes := clash[c.Kind]
		if clashes && c.Deleted.IsZero() && e.renders(other, c.Name) && !e.renders(c.Kind, c.Name) {
			return true
		}
	}
	return false
}

func (e *evaluation) renders(kind, name string) bool {
	for i := range e.o.Intents {
		if e.o.Intents[i].Kind == kind && e.o.Intents[i].Name == name {
			return true
		}
	}
	return false
}

// orphansInTheWay reports that waiting for the new children before the old ones
// go may wait for ever, because the old ones hold what the new ones need.
func (e *evaluation) orphansInTheWay() bool {
	if e.top == nil {
		return false
	}
	switch e.top.fault.Reason {
	case v1alpha1.ReasonInsufficientCapacity, v1alpha1.ReasonQuotaExceeded, v1alpha1.ReasonProgressDeadlineExceeded:
		return true
	default:
		return false
	}
}

// schedule decides when to look again.
func (e *evaluation) schedule(ready bool) {
	switch {
	case ready || e.o.RenderFault != nil:
		// Only a change of the object or of a child matters, and both wake us.
	case e.top != nil && stalls(e.top.fault.Reason):
		e.wakeAt(e.now.Add(e.options.StalledRetry))
	case e.complete && !e.recorded:
		e.wakeAt(e.now.Add(recordDelay))
	case e.top != nil:
		e.wakeAt(e.now.Add(degradedPoll))
	case e.applied:
		e.wakeAt(e.now.Add(progressPoll))
	}
	for i := range e.o.Intents {
		if f := e.o.Intents[i].Fault; f != nil && !stalls(f.Reason) {
			e.backoff = true
		}
	}
}

// wakeAt asks for another look at t, if nothing asks for an earlier one.
func (e *evaluation) wakeAt(t time.Time) {
	if t.After(e.now) && (e.wake.IsZero() || t.Before(e.wake)) {
		e.wake = t
	}
}

func (e *evaluation) tell(warning bool, reason v1alpha1.Reason, message string) {
	e.events = append(e.events, Event{Warning: warning, Reason: reason, Message: message})
}

// finish completes the status and drops what did not change.
func (e *evaluation) finish() Verdict {
	o := e.o
	generation := o.Generation
	e.status.ObservedGeneration, e.status.ObservedGenerationCompat = generation, &generation
	e.status.ResourceRefs = refsOf(o.Children)
	if o.Routers != nil {
		e.status.Routers = o.Routers
	}
	changed := !equality.Semantic.DeepEqual(e.status, o.Previous)
	if changed {
		at := metav1.NewTime(e.now.Truncate(time.Second))
		e.status.LastUpdated = &at
	}
	v := Verdict{Status: e.status, Changed: changed, Actions: e.actions, Backoff: e.backoff, Events: e.events}
	if !e.wake.IsZero() {
		v.RequeueAfter = e.wake.Sub(e.now)
	}
	return v
}

func refsOf(children []Child) []v1alpha1.ResourceRef {
	if len(children) == 0 {
		return nil
	}
	out := make([]v1alpha1.ResourceRef, len(children))
	for i, c := range children {
		out[i] = c.Ref
	}
	sortRefs(out)
	return out
}

func stalls(reason v1alpha1.Reason) bool {
	doc, ok := reason.Doc()
	return ok && doc.Stalls
}
