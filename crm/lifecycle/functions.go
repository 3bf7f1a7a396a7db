package lifecycle

import (
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"oaas.io/control-plane/crm/api/v1alpha1"
)

// writeFunctions fills status.functions. A function is ready when it can be
// called; a rollout that still runs is told in its reason.
func (e *evaluation) writeFunctions() {
	intents := e.worstIntents()
	previous := map[string]*v1alpha1.FunctionStatus{}
	for i := range e.o.Previous.Functions {
		f := &e.o.Previous.Functions[i]
		previous[f.FunctionKey+"\x00"+f.Service] = f
	}
	out := make([]v1alpha1.FunctionStatus, len(e.o.Functions))
	ready := 0
	for i := range e.o.Functions {
		f := &e.o.Functions[i]
		out[i] = e.function(f, intents)
		if *out[i].Ready {
			ready++
		}
		out[i].LastTransitionTime = e.transition(previous[f.Key+"\x00"+f.Service], *out[i].Ready)
	}
	e.status.Functions = nil
	if len(out) > 0 {
		e.status.Functions = out
	}
	e.status.ReadyFunctions = fmt.Sprintf("%d/%d", ready, len(out))
}

// worstIntents are the intents by name. A function's workload and Service share
// a name; of the two the one that is further from applied speaks.
func (e *evaluation) worstIntents() map[string]*Intent {
	out := make(map[string]*Intent, len(e.o.Intents))
	for i := range e.o.Intents {
		intent := &e.o.Intents[i]
		known, seen := out[intent.Name]
		switch {
		case !seen, known.Fault == nil && intent.Fault != nil:
		case known.Fault == nil && known.State == IntentApplied && intent.State != IntentApplied:
		default:
			continue
		}
		out[intent.Name] = intent
	}
	return out
}

func (e *evaluation) function(f *Function, intents map[string]*Intent) v1alpha1.FunctionStatus {
	s := v1alpha1.FunctionStatus{
		FunctionKey: f.Key, Service: f.Service, Port: f.Port, PredictedURL: f.URL, Template: e.status.Template,
	}
	var ready bool
	if f.WASM {
		ready, s.Reason, s.Message = e.wasm()
	} else {
		ready, s.Reason, s.Message = e.container(f, intents[f.Unit.Workload.Name])
		if w := &f.Unit.Workload; w.Exists && w.State == "" {
			available, desired := w.Available, w.Desired
			s.ReadyReplicas, s.DesiredReplicas = &available, &desired
		}
	}
	if !e.o.Deleted.IsZero() {
		ready, s.Reason, s.Message = false, v1alpha1.ReasonDeleting, ""
	}
	s.Ready = &ready
	if ready {
		s.ObservedURL = f.URL
		if f.ObservedURL != "" {
			s.ObservedURL = f.ObservedURL
		}
	}
	s.Message = clip(s.Message)
	return s
}

// wasm judges a function that runs inside the object store.
func (e *evaluation) wasm() (bool, v1alpha1.Reason, string) {
	switch {
	case e.o.ODGM == nil:
		return false, v1alpha1.ReasonInvalidSpec, "a WASM function runs inside the object store, which is off"
	case !e.o.ODGM.callable():
		return false, v1alpha1.ReasonWaitingForODGM, "object store: " + unitState(e.o.ODGM)
	}
	return true, v1alpha1.ReasonRunsInODGM, ""
}

// container judges a function with a workload of its own.
func (e *evaluation) container(f *Function, intent *Intent) (bool, v1alpha1.Reason, string) {
	u := &f.Unit
	switch {
	case u.callable() && u.Workload.asleep():
		return true, v1alpha1.ReasonScaledToZero, "scaled to zero as the spec asks; calls fail until min_scale is raised"
	case u.settled() && u.Workload.Unscaled != "":
		return true, v1alpha1.ReasonAutoscalingUnavailable, u.Workload.Unscaled
	case u.settled():
		return true, v1alpha1.ReasonReady, ""
	}
	if fault := e.worstFault(&u.Workload); fault != nil {
		return u.callable(), fault.Reason, fault.Message
	}
	switch {
	case u.complete():
		return true, v1alpha1.ReasonReady, unitState(u)
	case u.callable():
		return true, v1alpha1.ReasonProgressing, unitState(u)
	case intent != nil && intent.Fault != nil:
		return false, intent.Fault.Reason, intent.Fault.Message
	case e.o.RenderFault != nil:
		return false, e.o.RenderFault.Reason, "nothing is applied until the spec is corrected"
	case u.Workload.Terminating || u.Service.Terminating:
		return false, v1alpha1.ReasonChildTerminating, unitState(u)
	case intent == nil || intent.State != IntentApplied:
		return false, v1alpha1.ReasonApplying, unitState(u)
	case !u.Workload.Exists || !u.Service.Exists:
		return false, v1alpha1.ReasonChildMissing, unitState(u)
	}
	return false, v1alpha1.ReasonNotReady, unitState(u)
}

// worstFault is the worst current fault of the workload, however young.
func (e *evaluation) worstFault(w *Workload) *Fault {
	var worst *Fault
	for i := range w.Faults {
		f := &w.Faults[i]
		if e.outdated(w, *f) {
			continue
		}
		if worst == nil || severity(f.Reason) < severity(worst.Reason) {
			worst = f
		}
	}
	return worst
}

// transition returns when ready last changed.
func (e *evaluation) transition(previous *v1alpha1.FunctionStatus, ready bool) *metav1.Time {
	if previous != nil && previous.Ready != nil && *previous.Ready == ready && previous.LastTransitionTime != nil {
		return previous.LastTransitionTime
	}
	at := metav1.NewTime(e.now.Truncate(time.Second))
	return &at
}

// unitState says in words how far a unit is.
func unitState(u *Unit) string {
	w := &u.Workload
	switch {
	case w.Terminating:
		return fmt.Sprintf("%s %s is being deleted", w.kind(), w.Name)
	case u.Service.Terminating:
		return "its Service is being deleted"
	case !w.Exists:
		return fmt.Sprintf("%s %s does not exist", w.kind(), w.Name)
	case !u.Service.Exists:
		return "its Service does not exist"
	case w.ObservedGeneration < w.Generation:
		return fmt.Sprintf("%s %s was not yet looked at by its controller", w.kind(), w.Name)
	case w.State != "":
		return w.State
	case w.Updated < w.required():
		return fmt.Sprintf("%d of %d replicas updated, %d available", w.Updated, w.Desired, w.Available)
	case w.Total > w.Updated:
		return fmt.Sprintf("%d replicas of the previous content are still there", w.Total-w.Updated)
	}
	return fmt.Sprintf("%d of %d replicas available", w.Available, w.Desired)
}

func (w *Workload) kind() string {
	if w.Kind == "" {
		return "Deployment"
	}
	return w.Kind
}

// firstUnready names the first part that is not complete.
func (e *evaluation) firstUnready() string {
	for _, s := range e.units() {
		if !s.unit.complete() {
			return s.name + ": " + unitState(s.unit)
		}
	}
	for i := range e.o.Intents {
		switch intent := &e.o.Intents[i]; intent.State {
		case IntentTerminating:
			return intent.Kind + " " + intent.Name + " is still being deleted"
		case IntentMissing, IntentDrifted:
			return intent.Kind + " " + intent.Name + " is not applied"
		case IntentApplied:
		}
	}
	return "the application was not recorded"
}

// summary is the one sentence of status.message.
func (e *evaluation) summary() string {
	switch e.status.Phase {
	case v1alpha1.PhaseDegraded:
		return e.faultsText()
	case v1alpha1.PhasePending:
		return "Awaiting apply"
	case v1alpha1.PhaseApplying:
		return clip(e.applyState())
	case v1alpha1.PhaseProgressing:
		return clip(e.counts() + "; waiting for " + e.firstUnready())
	default:
		return e.counts()
	}
}

func (e *evaluation) counts() string {
	var parts []string
	if len(e.o.Functions) > 0 {
		parts = append(parts, strings.Replace(e.status.ReadyFunctions, "/", " of ", 1)+" functions ready")
	}
	if e.o.ODGM != nil {
		state := "object store not ready"
		if e.o.ODGM.callable() {
			state = "object store ready"
		}
		parts = append(parts, state)
	}
	if len(parts) == 0 {
		return "nothing to run: the class has no functions here and the object store is off"
	}
	return strings.Join(parts, ", ")
}

func (e *evaluation) applyState() string {
	applied := 0
	var fault *Intent
	for i := range e.o.Intents {
		intent := &e.o.Intents[i]
		if intent.State == IntentApplied {
			applied++
		}
		if fault == nil && intent.Fault != nil {
			fault = intent
		}
	}
	text := fmt.Sprintf("%d of %d objects applied", applied, len(e.o.Intents))
	if fault != nil {
		text += "; retrying " + fault.Kind + " " + fault.Name + ": " + fault.Fault.Message
	}
	return text
}

func sortRefs(refs []v1alpha1.ResourceRef) {
	slices.SortFunc(refs, func(a, b v1alpha1.ResourceRef) int {
		if c := strings.Compare(a.Kind, b.Kind); c != 0 {
			return c
		}
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return strings.Compare(a.APIVersion, b.APIVersion)
	})
}
