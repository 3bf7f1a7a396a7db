package lifecycle

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"knative.dev/pkg/apis"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"oaas.io/control-plane/crm/api/v1alpha1"
)

// KindKnativeService is the word for a Knative Service, whose own kind is that of a
// Service too.
const KindKnativeService = "Knative Service"

// trafficNotMigrated is Knative's reason while the route still leads to the revision
// before the latest one.
const trafficNotMigrated = "TrafficNotMigrated"

// KnativeUnit reads a Knative Service and its pods. A nil Service is one that does not
// exist; the caller then still sets the name. served says that the function could be
// called when it was last looked at: Knative leaves a route as it is until it has a
// better one, but says "unknown" meanwhile.
//
// Knative counts no replicas: with none, the next call brings one. So a Service that can
// be called counts as one that is available, and one whose latest revision takes the
// calls as one that is updated.
func KnativeUnit(s *servingv1.Service, pods []*corev1.Pod, served bool) Unit {
	unit := Unit{Workload: Workload{Kind: KindKnativeService}}
	w := &unit.Workload
	if s == nil {
		return unit
	}
	unit.Service = Service{Exists: true}
	w.Name, w.Exists, w.Terminating = s.Name, true, s.DeletionTimestamp != nil
	w.Generation, w.ObservedGeneration = s.Generation, s.Status.ObservedGeneration
	w.Desired, w.Total = 1, 1
	if knativeServes(&s.Status, served) {
		w.Available = 1
	}
	if s.IsReady() && s.Status.LatestReadyRevisionName == s.Status.LatestCreatedRevisionName {
		w.Updated = 1
	}
	w.State = knativeState(&s.Status)
	if s.IsFailed() {
		failed := knativeCause(&s.Status)
		w.Faults = append(w.Faults, Fault{
			Reason: v1alpha1.ReasonKnativeFailed, Message: conditionText(failed), Since: failed.LastTransitionTime.Inner.Time,
		})
	}
	working, failing := false, false
	for _, pod := range pods {
		faults := PodFaults(pod)
		w.Faults = append(w.Faults, faults...)
		ready := podCondition(pod, corev1.PodReady)
		working = working || ready != nil && ready.Status == corev1.ConditionTrue
		failing = failing || len(faults) > 0
	}
	if s.IsReady() && failing && !working {
		// Knative is content once a revision was ready, also when every pod that a call
		// brings fails.
		w.Available, w.Updated = 0, 0
	}
	return unit
}

// KnativeURL is where Knative says that the function is called, empty while it does not.
func KnativeURL(s *servingv1.Service) string {
	if s == nil || s.Status.URL == nil {
		return ""
	}
	return s.Status.URL.String()
}

// knativeServes reports whether a call reaches a revision, whichever it is.
func knativeServes(s *servingv1.ServiceStatus, served bool) bool {
	routes := s.GetCondition(servingv1.ServiceConditionRoutesReady)
	if s.LatestReadyRevisionName == "" || routes == nil {
		return false
	}
	return routes.IsTrue() || routes.IsUnknown() && (served || routes.Reason == trafficNotMigrated)
}

// knativeCause is the condition that says most about why the Service is not ready: the
// one that sums up repeats the first of the others only.
func knativeCause(s *servingv1.ServiceStatus) *apis.Condition {
	for _, t := range []apis.ConditionType{servingv1.ServiceConditionConfigurationsReady, servingv1.ServiceConditionRoutesReady} {
		if c := s.GetCondition(t); c != nil && c.IsFalse() {
			return c
		}
	}
	return s.GetCondition(servingv1.ServiceConditionReady)
}

// knativeState is how far the Service is, in words.
func knativeState(s *servingv1.ServiceStatus) string {
	ready := s.GetCondition(servingv1.ServiceConditionReady)
	switch {
	case ready == nil:
		return "Knative did not look at it yet"
	case ready.IsTrue():
		return "Knative is ready with revision " + s.LatestReadyRevisionName
	case ready.IsFalse():
		return conditionText(knativeCause(s))
	case ready.Reason == "" && ready.Message == "":
		return "Knative is at work on revision " + s.LatestCreatedRevisionName
	}
	return "Knative is at work: " + conditionText(ready)
}

// containerOutput begins what a container wrote last, which is different each time.
const containerOutput = "Container failed with: "

func conditionText(c *apis.Condition) string {
	message, _, _ := strings.Cut(c.Message, containerOutput)
	if message != c.Message {
		message += "a container failed"
	}
	return strings.Trim(c.Reason+": "+strings.TrimRight(message, ". "), ": ")
}
