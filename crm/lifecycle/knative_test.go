package lifecycle_test

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/pkg/apis"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/crm/lifecycle"
)

// elastic is a function between 2 and more pods, of which some are there.
func elastic(desired, available int32) func(*lifecycle.Observed) {
	return func(o *lifecycle.Observed) {
		w := &o.Functions[0].Unit.Workload
		w.Elastic, w.Least = true, 2
		w.Desired, w.Total, w.Updated, w.Available = desired, desired, desired, available
	}
}

func ksvc(latest, ready string, conditions ...apis.Condition) *servingv1.Service {
	s := &servingv1.Service{ObjectMeta: metav1.ObjectMeta{Name: fnName, Generation: 2}}
	s.Status.ObservedGeneration = 2
	s.Status.LatestCreatedRevisionName, s.Status.LatestReadyRevisionName = latest, ready
	s.Status.URL = apis.HTTP("record.ns.svc.cluster.local")
	for i := range conditions {
		conditions[i].LastTransitionTime = apis.VolatileTime{Inner: metav1.NewTime(start.Add(-time.Hour))}
	}
	s.Status.Conditions = conditions
	return s
}

func says(t apis.ConditionType, status corev1.ConditionStatus, words ...string) apis.Condition {
	c := apis.Condition{Type: t, Status: status}
	if len(words) > 0 {
		c.Reason, c.Message = words[0], words[1]
	}
	return c
}

func TestKnativeFunctions(t *testing.T) {
	t.Parallel()
	const (
		yes, no, maybe         = corev1.ConditionTrue, corev1.ConditionFalse, corev1.ConditionUnknown
		ready, configs, routes = servingv1.ServiceConditionReady, servingv1.ServiceConditionConfigurationsReady, servingv1.ServiceConditionRoutesReady
	)
	failure := []string{"RevisionFailed", `Revision "record-00002" failed with message: exit code 1.`}
	for name, tc := range map[string]struct {
		service  *servingv1.Service
		served   bool
		phase    v1alpha1.Phase
		callable bool
		reason   v1alpha1.Reason
		message  string
	}{
		"not there":    {nil, false, v1alpha1.PhaseProgressing, false, v1alpha1.ReasonChildMissing, "Knative Service record does not exist"},
		"not seen yet": {&servingv1.Service{ObjectMeta: metav1.ObjectMeta{Name: fnName, Generation: 1}}, false, v1alpha1.PhaseProgressing, false, v1alpha1.ReasonNotReady, "not yet looked at"},
		"ready": {
			ksvc("record-00002", "record-00002", says(ready, yes), says(configs, yes), says(routes, yes)), false,
			v1alpha1.PhaseAvailable, true, v1alpha1.ReasonReady, "",
		},
		"first revision starts": {
			ksvc("record-00001", "", says(ready, maybe), says(configs, maybe), says(routes, maybe, "RevisionMissing", "m")), false,
			v1alpha1.PhaseProgressing, false, v1alpha1.ReasonNotReady, "Knative is at work on revision record-00001",
		},
		"ingress is not there yet": {
			ksvc("record-00001", "record-00001", says(ready, maybe, "IngressNotConfigured", "no ingress"), says(configs, yes), says(routes, maybe, "IngressNotConfigured", "no ingress")), false,
			v1alpha1.PhaseProgressing, false, v1alpha1.ReasonNotReady, "Knative is at work: IngressNotConfigured: no ingress",
		},
		"second revision starts, the first serves": {
			ksvc("record-00002", "record-00001", says(ready, maybe), says(configs, maybe), says(routes, yes)), true,
			v1alpha1.PhaseProgressing, true, v1alpha1.ReasonProgressing, "record-00002",
		},
		"calls move to the second revision": {
			ksvc("record-00002", "record-00002", says(ready, maybe, "TrafficNotMigrated", "wait"), says(configs, yes), says(routes, maybe, "TrafficNotMigrated", "wait")), false,
			v1alpha1.PhaseProgressing, true, v1alpha1.ReasonProgressing, "TrafficNotMigrated",
		},
		"ingress of the second revision, the first serves": {
			ksvc("record-00002", "record-00002", says(ready, maybe, "IngressNotConfigured", "wait"), says(configs, yes), says(routes, maybe, "IngressNotConfigured", "wait")), true,
			v1alpha1.PhaseProgressing, true, v1alpha1.ReasonProgressing, "IngressNotConfigured",
		},
		"first revision fails": {
			ksvc("record-00002", "", says(ready, no, "RevisionMissing", "sum"), says(configs, no, failure...), says(routes, no, "RevisionMissing", "none")), false,
			v1alpha1.PhaseDegraded, false, v1alpha1.ReasonKnativeFailed, "exit code 1",
		},
		"second revision fails, the first serves": {
			ksvc("record-00002", "record-00001", says(ready, no, failure...), says(configs, no, failure...), says(routes, yes)), true,
			v1alpha1.PhaseDegraded, true, v1alpha1.ReasonKnativeFailed, "exit code 1",
		},
		"route fails": {
			ksvc("record-00002", "record-00002", says(ready, no, "NotOwned", "sum"), says(configs, yes), says(routes, no, "NotOwned", `There is an existing Route "record"`)), true,
			v1alpha1.PhaseDegraded, false, v1alpha1.ReasonKnativeFailed, "existing Route",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := world(func(o *lifecycle.Observed) {
				o.Template = "knative"
				o.Functions[0].Unit = lifecycle.KnativeUnit(tc.service, nil, tc.served)
				o.Functions[0].Unit.Workload.Name = fnName
				o.Functions[0].ObservedURL = lifecycle.KnativeURL(tc.service)
				o.Intents[3].Kind = lifecycle.KindKnativeService
			})
			o.Previous = applied(time.Second)
			v := lifecycle.Evaluate(o, lifecycle.Options{}, start)
			f := v.Status.Functions[0]
			if v.Status.Phase != tc.phase || *f.Ready != tc.callable || f.Reason != tc.reason {
				t.Errorf("phase %s, callable %t, %s: %s", v.Status.Phase, *f.Ready, f.Reason, f.Message)
			}
			if !strings.Contains(f.Message, tc.message) {
				t.Errorf("message %q, want %q in it", f.Message, tc.message)
			}
			if available := v1alpha1.IsConditionTrue(v.Status.Conditions, v1alpha1.ConditionAvailable); available != tc.callable {
				t.Errorf("Available is %t", available)
			}
			if *f.Ready && f.ObservedURL != "http://record.ns.svc.cluster.local" || f.ReadyReplicas != nil {
				t.Errorf("%+v", f)
			}
		})
	}
}

// What holds the name of another sort of Service goes before that is applied.
func TestServicesThatHoldNamesGoFirst(t *testing.T) {
	t.Parallel()
	o := world(func(o *lifecycle.Observed) {
		o.Intents = o.Intents[:2]
		o.Intents = append(o.Intents, lifecycle.Intent{Kind: lifecycle.KindKnativeService, Name: fnName})
	})
	o.Previous = settled(time.Hour)
	v := lifecycle.Evaluate(o, lifecycle.Options{}, start)
	if len(v.Actions) != 2 || v.Actions[0] != lifecycle.Prune || v.Actions[1] != lifecycle.Apply {
		t.Errorf("actions %v", v.Actions)
	}
	back := world(func(o *lifecycle.Observed) {
		o.Intents[2].State = lifecycle.IntentMissing
		o.Children = append(o.Children[:2:2], lifecycle.Child{Kind: lifecycle.KindKnativeService, Name: fnName})
	})
	back.Previous = settled(time.Hour)
	if v := lifecycle.Evaluate(back, lifecycle.Options{}, start); len(v.Actions) != 2 || v.Actions[0] != lifecycle.Prune {
		t.Errorf("actions %v on the way back", v.Actions)
	}
}
