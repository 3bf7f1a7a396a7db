package lifecycle_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/crm/lifecycle"
)

// start is when every table begins. Stored times have whole seconds.
var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

const (
	fnKey  = "Record.echo"
	fnName = "record"
	odgm   = "record-odgm"
)

// readyUnit is a unit whose rollout of n replicas is over.
func readyUnit(name string, n int32) lifecycle.Unit {
	return lifecycle.Unit{
		Workload: lifecycle.Workload{
			Kind: "Deployment", Name: name, Exists: true, Generation: 1, ObservedGeneration: 1,
			Desired: n, Total: n, Updated: n, Available: n,
		},
		Service: lifecycle.Service{Exists: true},
	}
}

// world is an applied class with one ready function and a ready object store.
func world(changes ...func(*lifecycle.Observed)) lifecycle.Observed {
	store := readyUnit(odgm, 1)
	o := lifecycle.Observed{
		Generation: 1, HasFinalizer: true, Template: "dev", IntentHash: "h1",
		Intents: []lifecycle.Intent{
			{Kind: "Service", Name: odgm + "-svc", State: lifecycle.IntentApplied},
			{Kind: "Deployment", Name: odgm, State: lifecycle.IntentApplied},
			{Kind: "Service", Name: fnName, State: lifecycle.IntentApplied},
			{Kind: "Deployment", Name: fnName, State: lifecycle.IntentApplied},
		},
		Functions: []lifecycle.Function{{
			Key: fnKey, Service: fnName, Port: 80, URL: "http://record.ns.svc.cluster.local/", Unit: readyUnit(fnName, 1),
		}},
		ODGM:           &store,
		ChildrenListed: true,
	}
	for _, i := range o.Intents {
		o.Children = append(o.Children, lifecycle.Child{Kind: i.Kind, Name: i.Name})
	}
	for _, change := range changes {
		change(&o)
	}
	return o
}

func missing(o *lifecycle.Observed) {
	for i := range o.Intents {
		o.Intents[i].State = lifecycle.IntentMissing
	}
	o.Functions[0].Unit = lifecycle.Unit{Workload: lifecycle.Workload{Name: fnName}}
	o.ODGM = &lifecycle.Unit{Workload: lifecycle.Workload{Name: odgm}}
	o.Children = nil
}

func fault(reason v1alpha1.Reason, message string, age time.Duration) func(*lifecycle.Observed) {
	return func(o *lifecycle.Observed) {
		w := &o.Functions[0].Unit.Workload
		w.Available = 0
		w.Faults = append(w.Faults, lifecycle.Fault{Reason: reason, Message: message, Since: start.Add(-age), Created: start})
	}
}

func intentFault(reason v1alpha1.Reason) func(*lifecycle.Observed) {
	return func(o *lifecycle.Observed) {
		o.Intents[3].State = lifecycle.IntentDrifted
		o.Intents[3].Fault = &lifecycle.Fault{Reason: reason, Message: "the cause"}
	}
}

func starting(o *lifecycle.Observed) {
	w := &o.Functions[0].Unit.Workload
	w.Available, w.Total, w.Updated = 0, 1, 1
}

// settled is the status of world() once it is available, reached age ago.
func settled(age time.Duration) v1alpha1.ClassRuntimeStatus {
	o := world()
	at := start.Add(-age)
	o.Previous = lifecycle.Evaluate(o, lifecycle.Options{}, at).Status
	return lifecycle.Evaluate(o, lifecycle.Options{}, at.Add(time.Second)).Status
}

// applied is the status of world(starting) since age.
func applied(age time.Duration) v1alpha1.ClassRuntimeStatus {
	return lifecycle.Evaluate(world(starting), lifecycle.Options{}, start.Add(-age)).Status
}

func condition(t *testing.T, s v1alpha1.ClassRuntimeStatus, typ v1alpha1.ConditionType) v1alpha1.Condition {
	t.Helper()
	c := v1alpha1.FindCondition(s.Conditions, typ)
	if c == nil {
		t.Fatalf("no condition %s in %+v", typ, s.Conditions)
	}
	return *c
}

type want struct {
	phase    v1alpha1.Phase
	holds    string // the conditions that are True, in order
	reason   v1alpha1.Reason
	message  string // part of status.message
	actions  []lifecycle.Action
	requeue  time.Duration
	backoff  bool
	function v1alpha1.Reason
}

func TestTransitions(t *testing.T) {
	t.Parallel()
	const (
		running     = "Available,Ready"
		progressing = "Progressing,Reconciling"
	)
	apply := []lifecycle.Action{lifecycle.Apply}
	for name, tc := range map[string]struct {
		observed lifecycle.Observed
		previous v1alpha1.ClassRuntimeStatus
		want     want
	}{
		"new object": {
			world(missing, func(o *lifecycle.Observed) { o.HasFinalizer = false }), v1alpha1.ClassRuntimeStatus{},
			want{v1alpha1.PhasePending, "Reconciling", v1alpha1.ReasonPending, "Awaiting apply", []lifecycle.Action{lifecycle.EnsureFinalizer}, 0, false, v1alpha1.ReasonApplying},
		},
		"finalizer present": {
			world(missing), v1alpha1.ClassRuntimeStatus{},
			want{v1alpha1.PhasePending, "Reconciling", v1alpha1.ReasonPending, "Awaiting apply", apply, 10 * time.Minute, false, v1alpha1.ReasonApplying},
		},
		"half applied": {
			world(func(o *lifecycle.Observed) {
				o.Intents[3].State = lifecycle.IntentMissing
				o.Functions[0].Unit.Workload = lifecycle.Workload{Name: fnName}
			}), v1alpha1.ClassRuntimeStatus{},
			want{v1alpha1.PhaseApplying, progressing, v1alpha1.ReasonApplying, "3 of 4 objects applied", apply, 10 * time.Minute, false, v1alpha1.ReasonApplying},
		},
		"applied and starting": {
			world(starting), v1alpha1.ClassRuntimeStatus{},
			want{v1alpha1.PhaseProgressing, progressing, v1alpha1.ReasonProgressing, `waiting for function "Record.echo": 0 of 1 replicas available`, nil, 5 * time.Second, false, v1alpha1.ReasonNotReady},
		},
		"ready, but not recorded as applied": {
			world(), v1alpha1.ClassRuntimeStatus{},
			want{v1alpha1.PhaseProgressing, progressing, v1alpha1.ReasonProgressing, "the application was not recorded", nil, 50 * time.Millisecond, false, v1alpha1.ReasonReady},
		},
		"ready": {
			world(), applied(time.Second),
			want{v1alpha1.PhaseAvailable, running, v1alpha1.ReasonReady, "1 of 1 functions ready, object store ready", nil, 0, false, v1alpha1.ReasonReady},
		},
		"object store not ready": {
			world(func(o *lifecycle.Observed) { o.ODGM.Workload.Available = 0 }), applied(time.Second),
			want{v1alpha1.PhaseProgressing, progressing, v1alpha1.ReasonProgressing, "waiting for object store: 0 of 1 replicas available", nil, 5 * time.Second, false, v1alpha1.ReasonReady},
		},
		"service missing": {
			world(func(o *lifecycle.Observed) { o.Functions[0].Unit.Service.Exists = false }), applied(time.Second),
			want{v1alpha1.PhaseProgressing, progressing, v1alpha1.ReasonProgressing, "its Service does not exist", nil, 5 * time.Second, false, v1alpha1.ReasonChildMissing},
		},
		"old pods serve, new ones start": {
			world(func(o *lifecycle.Observed) {
				w := &o.Functions[0].Unit.Workload
				w.Total, w.Updated, w.Available, w.Desired = 3, 1, 2, 2
			}), applied(time.Second),
			want{v1alpha1.PhaseProgressing, "Available," + progressing, v1alpha1.ReasonProgressing, "1 of 2 replicas updated, 2 available", nil, 5 * time.Second, false, v1alpha1.ReasonProgressing},
		},
		"autoscaler adds pods": {
			world(elastic(5, 2)), settled(time.Hour),
			want{v1alpha1.PhaseAvailable, running, v1alpha1.ReasonReady, "1 of 1 functions ready", nil, 0, false, v1alpha1.ReasonReady},
		},
		"autoscaler adds pods that no node takes": {
			world(elastic(5, 2), func(o *lifecycle.Observed) {
				w := &o.Functions[0].Unit.Workload
				w.Faults = []lifecycle.Fault{{Reason: v1alpha1.ReasonInsufficientCapacity, Message: "full", Since: start.Add(-time.Hour), Created: start.Add(-time.Hour)}}
			}), settled(2 * time.Hour),
			want{v1alpha1.PhaseDegraded, "Available,Reconciling,Degraded", v1alpha1.ReasonInsufficientCapacity, "full", nil, 30 * time.Second, false, v1alpha1.ReasonInsufficientCapacity},
		},
		"fewer pods than the least": {
			world(elastic(5, 1)), settled(time.Hour),
			want{v1alpha1.PhaseProgressing, "Available," + progressing, v1alpha1.ReasonProgressing, "1 of 5 replicas available", nil, 5 * time.Second, false, v1alpha1.ReasonProgressing},
		},
		"autoscaler without measurements": {
			world(elastic(2, 2), func(o *lifecycle.Observed) { o.Functions[0].Unit.Workload.Unscaled = "no metrics" }), settled(time.Hour),
			want{v1alpha1.PhaseAvailable, running, v1alpha1.ReasonReady, "1 of 1 functions ready", nil, 0, false, v1alpha1.ReasonAutoscalingUnavailable},
		},
		"controller has not looked yet": {
			world(func(o *lifecycle.Observed) { o.Functions[0].Unit.Workload.Generation = 2 }), applied(time.Second),
			want{v1alpha1.PhaseProgressing, "Available," + progressing, v1alpha1.ReasonProgressing, "not yet looked at", nil, 5 * time.Second, false, v1alpha1.ReasonProgressing},
		},
		"new generation": {
			world(func(o *lifecycle.Observed) {
				o.Generation, o.IntentHash = 2, "h2"
				o.Intents[3].State = lifecycle.IntentDrifted
			}), settled(time.Hour),
			want{v1alpha1.PhaseApplying, "Available," + progressing, v1alpha1.ReasonApplying, "3 of 4 objects applied", apply, 10 * time.Minute, false, v1alpha1.ReasonReady},
		},
		"new generation applied": {
			world(func(o *lifecycle.Observed) { o.Generation, o.IntentHash = 2, "h2" }), settled(time.Hour),
			want{v1alpha1.PhaseProgressing, "Available," + progressing, v1alpha1.ReasonProgressing, "not recorded", nil, 50 * time.Millisecond, false, v1alpha1.ReasonReady},
		},
		"child deleted by hand": {
			world(func(o *lifecycle.Observed) {
				o.Intents[3].State = lifecycle.IntentMissing
				o.Functions[0].Unit.Workload = lifecycle.Workload{Name: fnName}
			}), settled(time.Hour),
			want{v1alpha1.PhaseApplying, progressing, v1alpha1.ReasonApplying, "3 of 4 objects applied", apply, 10 * time.Minute, false, v1alpha1.ReasonApplying},
		},
		"child being deleted by hand": {
			world(func(o *lifecycle.Observed) {
				o.Intents[3].State = lifecycle.IntentTerminating
				o.Functions[0].Unit.Workload.Terminating = true
			}), settled(time.Hour),
			want{v1alpha1.PhaseApplying, progressing, v1alpha1.ReasonApplying, "3 of 4 objects applied", apply, 10 * time.Minute, false, v1alpha1.ReasonChildTerminating},
		},
		"lost a moment ago": {
			world(starting), settled(time.Hour),
			want{v1alpha1.PhaseProgressing, progressing, v1alpha1.ReasonProgressing, "0 of 1 replicas available", nil, 5 * time.Second, false, v1alpha1.ReasonNotReady},
		},
		"lost for long": {
			world(starting), lostSince(31 * time.Second),
			want{v1alpha1.PhaseDegraded, "Reconciling,Degraded", v1alpha1.ReasonReplicasUnavailable, "Look at the pods", nil, 30 * time.Second, false, v1alpha1.ReasonNotReady},
		},
		"recovered": {
			world(), lostSince(31 * time.Second),
			want{v1alpha1.PhaseAvailable, running, v1alpha1.ReasonReady, "1 of 1 functions ready", nil, 0, false, v1alpha1.ReasonReady},
		},
		"one of two lost for long": {
			world(func(o *lifecycle.Observed) {
				w := &o.Functions[0].Unit.Workload
				w.Desired, w.Total, w.Updated, w.Available = 2, 2, 2, 1
			}), lostSince(31 * time.Second),
			want{v1alpha1.PhaseProgressing, "Available," + progressing, v1alpha1.ReasonProgressing, "1 of 2 replicas available", nil, 5 * time.Second, false, v1alpha1.ReasonProgressing},
		},
		"never ready in time": {
			world(starting), applied(10 * time.Minute),
			want{v1alpha1.PhaseDegraded, "Reconciling,Degraded", v1alpha1.ReasonProgressDeadlineExceeded, "not ready in time: function", nil, 30 * time.Second, false, v1alpha1.ReasonNotReady},
		},
		"almost never ready in time": {
			world(starting), applied(10*time.Minute - 2*time.Second),
			want{v1alpha1.PhaseProgressing, progressing, v1alpha1.ReasonProgressing, "0 of 1", nil, 2 * time.Second, false, v1alpha1.ReasonNotReady},
		},
		"image, young": {
			world(starting, fault(v1alpha1.ReasonImagePullFailed, "image cannot be pulled", 28*time.Second)), applied(29 * time.Second),
			want{v1alpha1.PhaseProgressing, progressing, v1alpha1.ReasonProgressing, "", nil, 2 * time.Second, false, v1alpha1.ReasonImagePullFailed},
		},
		"image, old": {
			world(starting, fault(v1alpha1.ReasonImagePullFailed, "image cannot be pulled", 30*time.Second)), applied(31 * time.Second),
			want{v1alpha1.PhaseDegraded, "Reconciling,Degraded", v1alpha1.ReasonImagePullFailed, `function "Record.echo": image cannot be pulled. Correct the image name`, nil, 30 * time.Second, false, v1alpha1.ReasonImagePullFailed},
		},
		"new pods crash, old ones serve": {
			world(func(o *lifecycle.Observed) {
				w := &o.Functions[0].Unit.Workload
				w.Total, w.Updated, w.Available = 2, 1, 1
				w.Faults = []lifecycle.Fault{{Reason: v1alpha1.ReasonCrashLoop, Message: "ends", Since: start.Add(-time.Minute), Created: start.Add(-time.Minute)}}
			}), applied(2 * time.Minute),
			want{v1alpha1.PhaseDegraded, "Available,Reconciling,Degraded", v1alpha1.ReasonCrashLoop, "kubectl logs", nil, 30 * time.Second, false, v1alpha1.ReasonCrashLoop},
		},
		"old pods crash, new ones start": {
			world(func(o *lifecycle.Observed) {
				w := &o.Functions[0].Unit.Workload
				w.Total, w.Updated, w.Available = 2, 1, 0
				w.Faults = []lifecycle.Fault{{Reason: v1alpha1.ReasonCrashLoop, Message: "ends", Since: start.Add(-time.Hour), Created: start.Add(-time.Hour)}}
			}), applied(time.Minute),
			want{v1alpha1.PhaseProgressing, progressing, v1alpha1.ReasonProgressing, "", nil, 5 * time.Second, false, v1alpha1.ReasonNotReady},
		},
		"a pod fails where enough serve": {
			world(func(o *lifecycle.Observed) {
				o.Functions[0].Unit.Workload.Faults = []lifecycle.Fault{{Reason: v1alpha1.ReasonCrashLoop, Message: "ends", Since: start.Add(-time.Hour)}}
			}), settled(time.Hour),
			want{v1alpha1.PhaseAvailable, running, v1alpha1.ReasonReady, "", nil, 0, false, v1alpha1.ReasonReady},
		},
		"no node, young": {
			world(starting, fault(v1alpha1.ReasonInsufficientCapacity, "no node", 58*time.Second)), applied(time.Minute),
			want{v1alpha1.PhaseProgressing, progressing, v1alpha1.ReasonProgressing, "", nil, 2 * time.Second, false, v1alpha1.ReasonInsufficientCapacity},
		},
		"invalid spec": {
			world(missing, func(o *lifecycle.Observed) {
				o.Intents = nil
				o.RenderFault = &lifecycle.Fault{Reason: v1alpha1.ReasonInvalidSpec, Message: "spec.functions[0]: Required value"}
			}), v1alpha1.ClassRuntimeStatus{},
			want{v1alpha1.PhaseDegraded, "Degraded,Stalled", v1alpha1.ReasonInvalidSpec, "spec.functions[0]: Required value. Change the field", nil, 0, false, v1alpha1.ReasonInvalidSpec},
		},
		"invalid new generation, old one serves": {
			world(func(o *lifecycle.Observed) {
				o.Generation, o.IntentHash, o.Intents = 2, "", nil
				o.RenderFault = &lifecycle.Fault{Reason: v1alpha1.ReasonInvalidSpec, Message: "bad"}
			}), settled(time.Hour),
			want{v1alpha1.PhaseDegraded, "Available,Degraded,Stalled", v1alpha1.ReasonInvalidSpec, "bad", nil, 0, false, v1alpha1.ReasonReady},
		},
		"apply refused": {
			world(missing, intentFault(v1alpha1.ReasonApplyRejected)), v1alpha1.ClassRuntimeStatus{},
			want{v1alpha1.PhaseDegraded, "Degraded,Stalled", v1alpha1.ReasonApplyRejected, "Deployment record: the cause", apply, 5 * time.Minute, false, v1alpha1.ReasonApplyRejected},
		},
		"apply conflict": {
			world(missing, intentFault(v1alpha1.ReasonFieldConflict)), v1alpha1.ClassRuntimeStatus{},
			want{v1alpha1.PhaseDegraded, "Reconciling,Degraded", v1alpha1.ReasonFieldConflict, "the cause", apply, 30 * time.Second, true, v1alpha1.ReasonFieldConflict},
		},
		"apply failed for the first time": {
			world(missing, intentFault(v1alpha1.ReasonApplyFailed)), v1alpha1.ClassRuntimeStatus{},
			want{v1alpha1.PhaseApplying, progressing, v1alpha1.ReasonApplying, "retrying Deployment record: the cause", apply, 30 * time.Second, true, v1alpha1.ReasonApplyFailed},
		},
		"apply fails for long": {
			world(missing, intentFault(v1alpha1.ReasonApplyFailed)), applied(time.Minute),
			want{v1alpha1.PhaseDegraded, "Reconciling,Degraded", v1alpha1.ReasonApplyFailed, "the cause", apply, 30 * time.Second, true, v1alpha1.ReasonApplyFailed},
		},
		"scaled to zero": {
			world(func(o *lifecycle.Observed) {
				w := &o.Functions[0].Unit.Workload
				w.Desired, w.Total, w.Updated, w.Available = 0, 0, 0, 0
			}), applied(time.Second),
			want{v1alpha1.PhaseAvailable, running, v1alpha1.ReasonReady, "", nil, 0, false, v1alpha1.ReasonScaledToZero},
		},
		"wasm, object store ready": {
			world(wasm), applied(time.Second),
			want{v1alpha1.PhaseAvailable, running, v1alpha1.ReasonReady, "1 of 1", nil, 0, false, v1alpha1.ReasonRunsInODGM},
		},
		"wasm, object store not ready": {
			world(wasm, func(o *lifecycle.Observed) { o.ODGM.Workload.Available = 0 }), applied(time.Second),
			want{v1alpha1.PhaseProgressing, progressing, v1alpha1.ReasonProgressing, "0 of 1 functions", nil, 5 * time.Second, false, v1alpha1.ReasonWaitingForODGM},
		},
		"orphan waits for its successor": {
			world(starting, orphan), applied(time.Second),
			want{v1alpha1.PhaseProgressing, progressing, v1alpha1.ReasonProgressing, "", nil, 5 * time.Second, false, v1alpha1.ReasonNotReady},
		},
		"orphan goes": {
			world(orphan), applied(time.Second),
			want{v1alpha1.PhaseAvailable, running, v1alpha1.ReasonReady, "", []lifecycle.Action{lifecycle.Prune}, 0, false, v1alpha1.ReasonReady},
		},
		"orphan holds the last node": {
			world(starting, orphan, fault(v1alpha1.ReasonInsufficientCapacity, "no node", time.Hour)), applied(time.Minute),
			want{v1alpha1.PhaseDegraded, "Reconciling,Degraded", v1alpha1.ReasonInsufficientCapacity, "Add nodes", []lifecycle.Action{lifecycle.Prune}, 30 * time.Second, false, v1alpha1.ReasonInsufficientCapacity},
		},
		"deletion begins": {
			world(deleted(time.Second)), settled(time.Hour),
			want{v1alpha1.PhaseDeleting, "Reconciling", v1alpha1.ReasonDeleting, "Waiting for 4 objects to go: Deployment record, Deployment record-odgm, ", []lifecycle.Action{lifecycle.DeleteChildren}, 2 * time.Second, false, v1alpha1.ReasonDeleting},
		},
		"children are going": {
			world(deleted(time.Second), terminating("")), settled(time.Hour),
			want{v1alpha1.PhaseDeleting, "Reconciling", v1alpha1.ReasonDeleting, "Waiting for 4", nil, 2 * time.Second, false, v1alpha1.ReasonDeleting},
		},
		"children do not go": {
			world(deleted(5*time.Minute), terminating("other.io/hold")), settled(time.Hour),
			want{v1alpha1.PhaseDeleting, "Reconciling,Degraded", v1alpha1.ReasonDeletionBlocked, "Deployment record (held by other.io/hold)", nil, 30 * time.Second, false, v1alpha1.ReasonDeleting},
		},
		"children are gone": {
			world(deleted(time.Second), func(o *lifecycle.Observed) { o.Children = nil }), settled(time.Hour),
			want{v1alpha1.PhaseDeleting, "Reconciling", v1alpha1.ReasonDeleting, "gone", []lifecycle.Action{lifecycle.RemoveFinalizer}, 0, false, v1alpha1.ReasonDeleting},
		},
		"children cannot be listed": {
			world(deleted(time.Second), func(o *lifecycle.Observed) { o.Children, o.ChildrenListed = nil, false }), settled(time.Hour),
			want{v1alpha1.PhaseDeleting, "Reconciling", v1alpha1.ReasonDeleting, "could not be listed", nil, 0, true, v1alpha1.ReasonDeleting},
		},
		"held by somebody else": {
			world(deleted(time.Hour), func(o *lifecycle.Observed) { o.HasFinalizer = false }), settled(time.Hour),
			want{v1alpha1.PhaseDeleting, "Reconciling", v1alpha1.ReasonDeleting, "somebody else's finalizer", nil, 0, false, v1alpha1.ReasonDeleting},
		},
		"nothing to run": {
			lifecycle.Observed{Generation: 1, HasFinalizer: true, ChildrenListed: true, Template: "dev"},
			v1alpha1.ClassRuntimeStatus{Applied: &v1alpha1.AppliedDelivery{Generation: 1}},
			want{v1alpha1.PhaseAvailable, running, v1alpha1.ReasonReady, "nothing to run", nil, 0, false, ""},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := tc.observed
			o.Previous = tc.previous
			check(t, lifecycle.Evaluate(o, lifecycle.Options{}, start), tc.want)
		})
	}
}

func wasm(o *lifecycle.Observed) {
	o.Functions[0].WASM, o.Functions[0].URL, o.Functions[0].Unit = true, "wasm://"+fnKey, lifecycle.Unit{}
	o.Intents, o.Children = o.Intents[:2], o.Children[:2]
}

func orphan(o *lifecycle.Observed) {
	o.Children = append(slices.Clone(o.Children), lifecycle.Child{Kind: "Deployment", Name: "record-fn-7"})
}

func deleted(ago time.Duration) func(*lifecycle.Observed) {
	return func(o *lifecycle.Observed) { o.Deleted = start.Add(-ago) }
}

func terminating(finalizer string) func(*lifecycle.Observed) {
	return func(o *lifecycle.Observed) {
		for i := range o.Children {
			o.Children[i].Deleted = o.Deleted
			if finalizer != "" {
				o.Children[i].Finalizers = []string{finalizer}
			}
		}
	}
}

// lostSince is the status of a settled class that lost its pods age ago.
func lostSince(age time.Duration) v1alpha1.ClassRuntimeStatus {
	o := world(starting)
	o.Previous = settled(time.Hour)
	return lifecycle.Evaluate(o, lifecycle.Options{}, start.Add(-age)).Status
}

func check(t *testing.T, v lifecycle.Verdict, w want) {
	t.Helper()
	s := v.Status
	if s.Phase != w.phase {
		t.Errorf("phase %q, want %q (%s)", s.Phase, w.phase, s.Message)
	}
	var yes []string
	for _, c := range s.Conditions {
		if c.Status == metav1.ConditionTrue {
			yes = append(yes, string(c.Type))
		}
	}
	if got := strings.Join(yes, ","); got != w.holds {
		t.Errorf("True are %s, want %s", got, w.holds)
	}
	about := v1alpha1.ConditionProgressing
	if v1alpha1.IsConditionTrue(s.Conditions, v1alpha1.ConditionDegraded) {
		about = v1alpha1.ConditionDegraded
	}
	if c := condition(t, s, about); c.Reason != w.reason || c.ObservedGeneration != s.ObservedGeneration {
		t.Errorf("%s: reason %q of generation %d, want %q of %d", c.Type, c.Reason, c.ObservedGeneration, w.reason, s.ObservedGeneration)
	}
	if !strings.Contains(s.Message, w.message) {
		t.Errorf("message %q, want %q in it", s.Message, w.message)
	}
	if !slices.Equal(v.Actions, w.actions) || v.RequeueAfter != w.requeue || v.Backoff != w.backoff {
		t.Errorf("actions %v, requeue %v, backoff %v; want %v, %v, %v", v.Actions, v.RequeueAfter, v.Backoff, w.actions, w.requeue, w.backoff)
	}
	if w.function == "" {
		return
	}
	f := s.Functions[0]
	if f.Reason != w.function {
		t.Errorf("function reason %q (%s), want %q", f.Reason, f.Message, w.function)
	}
	if (f.ObservedURL != "") != *f.Ready || f.Template != "dev" || f.LastTransitionTime == nil {
		t.Errorf("function %+v", f)
	}
}

func TestTransitionTimesAreKept(t *testing.T) {
	t.Parallel()
	o := world()
	o.Previous = settled(time.Hour)
	v := lifecycle.Evaluate(o, lifecycle.Options{}, start)
	if v.Changed || len(v.Events) > 0 {
		t.Errorf("an unchanged class changed: %+v", v)
	}
	before := condition(t, o.Previous, v1alpha1.ConditionAvailable)
	o = world(starting)
	o.Previous = settled(time.Hour)
	v = lifecycle.Evaluate(o, lifecycle.Options{}, start.Add(300*time.Millisecond))
	after := condition(t, v.Status, v1alpha1.ConditionAvailable)
	if after.Status != metav1.ConditionFalse || !after.LastTransitionTime.Time.Equal(start) || before.LastTransitionTime.Time.Equal(start) {
		t.Errorf("Available was not withdrawn with a new time: %+v", after)
	}
	if degraded := condition(t, v.Status, v1alpha1.ConditionDegraded); !degraded.LastTransitionTime.Equal(condition(t, o.Previous, v1alpha1.ConditionDegraded).LastTransitionTime) {
		t.Errorf("the time of an unchanged condition changed: %+v", degraded)
	}
	if !v.Changed || !v.Status.LastUpdated.Time.Equal(start) {
		t.Errorf("last_updated %v, changed %v", v.Status.LastUpdated, v.Changed)
	}
}

func TestTelemetryConditions(t *testing.T) {
	t.Parallel()
	for state, want := range map[lifecycle.TelemetryState]string{
		lifecycle.TelemetryOff:        "TelemetryConfigured False TelemetryDisabled",
		lifecycle.TelemetryOn:         "TelemetryConfigured True TelemetryEnabled",
		lifecycle.TelemetryNoEndpoint: "TelemetryConfigured False NoEndpoint,TelemetryDegraded True NoEndpoint",
	} {
		o := world()
		o.Telemetry = state
		// What others own stays, what is not true any more goes.
		o.Previous.Conditions = []v1alpha1.Condition{
			{Type: v1alpha1.ConditionTelemetryDegraded, Status: metav1.ConditionTrue},
			{Type: v1alpha1.ConditionNfrObserved, Status: metav1.ConditionTrue, Reason: "Kept"},
			{Type: v1alpha1.ConditionUnknown, Status: metav1.ConditionTrue},
		}
		var got []string
		for _, c := range lifecycle.Evaluate(o, lifecycle.Options{}, start).Status.Conditions[6:] {
			got = append(got, string(c.Type)+" "+string(c.Status)+" "+string(c.Reason))
		}
		if text := strings.Join(got, ","); text != "NfrObserved True Kept,"+want {
			t.Errorf("%v: %s", state, text)
		}
	}
}

func TestForeignStatusIsKept(t *testing.T) {
	t.Parallel()
	o := world()
	o.Previous = settled(time.Hour)
	o.Previous.NfrRecommendations = map[string]v1alpha1.AnyValue{"replicas": {Raw: []byte("2")}}
	o.Previous.Routers = []v1alpha1.RouterStatus{{Service: "old", Port: 1}}
	o.Delivery = &v1alpha1.Delivery{Epoch: 1, Fence: 2, ContentHash: "c"}
	s := lifecycle.Evaluate(o, lifecycle.Options{}, start).Status
	if len(s.NfrRecommendations) != 1 || s.Routers[0].Service != "old" {
		t.Errorf("lost: %+v", s)
	}
	if s.Applied.Fence != 2 || s.Applied.Epoch != 1 || s.Applied.ContentHash != "c" {
		t.Errorf("applied: %+v", s.Applied)
	}
	o.Routers = []v1alpha1.RouterStatus{{Service: "new", Port: 2}}
	if s := lifecycle.Evaluate(o, lifecycle.Options{}, start).Status; s.Routers[0].Service != "new" {
		t.Errorf("routers: %+v", s.Routers)
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		observed lifecycle.Observed
		previous v1alpha1.ClassRuntimeStatus
		want     string
	}{
		"created":     {world(starting), v1alpha1.ClassRuntimeStatus{}, ""},
		"changed":     {newer(world(starting)), applied(time.Second), "ApplySuccessful"},
		"ready":       {world(), applied(time.Second), "Ready"},
		"steady":      {world(), settled(time.Hour), ""},
		"lost":        {world(starting), settled(time.Hour), "!NotReady"},
		"degraded":    {world(starting), lostSince(time.Minute), "!ReplicasUnavailable"},
		"other fault": {world(starting, fault(v1alpha1.ReasonCrashLoop, "ends", time.Hour)), degraded(), "!CrashLoop"},
		"same fault":  {world(starting), degraded(), ""},
		"deleted":     {world(deleted(0)), settled(time.Hour), "Deleting"},
		"blocked":     {world(deleted(time.Hour)), settled(time.Hour), "Deleting,!DeletionBlocked"},
	} {
		o := tc.observed
		o.Previous = tc.previous
		var got []string
		for _, e := range lifecycle.Evaluate(o, lifecycle.Options{}, start).Events {
			mark := ""
			if e.Warning {
				mark = "!"
			}
			got = append(got, mark+string(e.Reason))
		}
		if text := strings.Join(got, ","); text != tc.want {
			t.Errorf("%s: %s, want %s", name, text, tc.want)
		}
	}
}

// newer is the world of the next generation.
func newer(o lifecycle.Observed) lifecycle.Observed {
	o.Generation++
	return o
}

// degraded is the status of a class that is degraded for lost pods.
func degraded() v1alpha1.ClassRuntimeStatus {
	o := world(starting)
	o.Previous = lostSince(time.Minute)
	return lifecycle.Evaluate(o, lifecycle.Options{}, start.Add(-time.Second)).Status
}

func TestManyFaultsAreBounded(t *testing.T) {
	t.Parallel()
	o := world()
	o.Functions = nil
	for range 500 {
		u := readyUnit("f", 1)
		u.Workload.Available = 0
		u.Workload.Faults = []lifecycle.Fault{{Reason: v1alpha1.ReasonCrashLoop, Message: strings.Repeat("é", 400), Since: start.Add(-time.Hour)}}
		o.Functions = append(o.Functions, lifecycle.Function{Key: "f", Service: "f", Port: 80, Unit: u})
	}
	v := lifecycle.Evaluate(o, lifecycle.Options{}, start)
	if m := v.Status.Message; len(m) > 1024 || !strings.HasSuffix(m, "é…") {
		t.Errorf("message of %d bytes ends in %q", len(m), m[len(m)-8:])
	}
	if v.Status.ReadyFunctions != "0/500" {
		t.Errorf("ready functions %s", v.Status.ReadyFunctions)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	if err := (lifecycle.Options{}).WithDefaults().Validate(); err != nil {
		t.Error(err)
	}
	bad := lifecycle.Options{ProgressDeadline: -1, LossGrace: -1, FaultGrace: -1, ProbeGrace: -1, CapacityGrace: -1, DeletionDeadline: -1, StalledRetry: -1, DeletionPoll: -1}
	if err := bad.Validate(); err == nil || strings.Count(err.Error(), "must not be negative") != 8 {
		t.Errorf("%v", err)
	}
	if got := (lifecycle.Options{LossGrace: time.Hour}).WithDefaults(); got.LossGrace != time.Hour || got.FaultGrace != 30*time.Second {
		t.Errorf("%+v", got)
	}
}
