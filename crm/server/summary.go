package server

import (
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/proto/oaaspb"
)

// unitID is the id that the package manager knows the object by.
func unitID(object *v1alpha1.ClassRuntime) string {
	if d := object.Spec.Delivery; d != nil && d.UnitID != "" {
		return d.UnitID
	}
	if raw := object.Annotations[AnnotationUnitID]; raw != "" {
		return raw
	}
	if label := object.Labels[LabelDeploymentID]; label != "" {
		return label
	}
	return object.Name
}

// summary is the object as a package manager sees it.
func (s *Server) summary(object *v1alpha1.ClassRuntime) *oaaspb.ClassRuntimeSummary {
	id := unitID(object)
	class := object.Spec.PackageClassKey
	if class == "" {
		class = object.Name
	}
	created := rfc3339(object.CreationTimestamp.Time)
	out := &oaaspb.ClassRuntimeSummary{
		Id: id, DeploymentUnitId: id,
		PackageName: packageOf(class), ClassKey: class,
		TargetEnvironment: s.opts.ClusterName,
		ClusterName:       proto.String(s.opts.ClusterName),
		Status:            s.statusOf(object),
		ResourceRefs:      s.resourceRefs(object),
		CreatedAt:         created,
		UpdatedAt:         created,
		PartitionCount:    1,
		Delivery:          deliveryToProto(deliveryOfObject(object)),
		ResourceVersion:   object.ResourceVersion,
		Deleting:          object.DeletionTimestamp != nil,
		Conditions:        conditionsOf(object),
	}
	if updated := object.Status.LastUpdated; updated != nil && !updated.IsZero() {
		out.UpdatedAt = rfc3339(updated.Time)
	}
	if config := object.Spec.OdgmConfig; config != nil && config.PartitionCount != nil && *config.PartitionCount > 0 {
		out.PartitionCount = uint32(*config.PartitionCount)
	}
	return out
}

// packageOf is what stands before the last dot of "<package>.<class>".
func packageOf(classKey string) string {
	if i := strings.LastIndexByte(classKey, '.'); i >= 0 {
		return classKey[:i]
	}
	return ""
}

func (s *Server) statusOf(object *v1alpha1.ClassRuntime) *oaaspb.ClassRuntimeStatus {
	text := "Pending"
	if hasStatus(object) {
		text = summaryText(object)
	}
	condition, phase := coarse(text)
	updated := s.opts.Clock()
	if t := object.Status.LastUpdated; t != nil && !t.IsZero() {
		updated = t.Time
	}
	out := &oaaspb.ClassRuntimeStatus{
		Condition: condition, Phase: phase,
		Message: proto.String(text), LastUpdated: rfc3339(updated),
	}
	for i := range object.Status.Functions {
		out.Functions = append(out.Functions, functionStatusOf(&object.Status.Functions[i]))
	}
	return out
}

// hasStatus tells a status that was written from none.
func hasStatus(object *v1alpha1.ClassRuntime) bool {
	st := &object.Status
	return st.Phase != "" || st.Message != "" || len(st.Conditions) > 0 || st.ObservedGeneration != 0 || st.LastUpdated != nil
}

// summaryText is one line for people, whose first word programs of the contract
// read: what can be called is Available, even when something about it does not
// work. Two states of ours have no place in the contract and are told first: an
// object that is going away, and a change that has not reached the workloads
// yet, which must not pass for available because its predecessor is.
func summaryText(object *v1alpha1.ClassRuntime) string {
	available := isTrue(findCondition(object, v1alpha1.ConditionAvailable))
	degraded := findCondition(object, v1alpha1.ConditionDegraded)
	progressing := findCondition(object, v1alpha1.ConditionProgressing)
	ready := findCondition(object, v1alpha1.ConditionReady)
	switch {
	case object.DeletionTimestamp != nil:
		return "Deleting"
	case unobserved(object):
		return "Progressing: the change is not applied yet"
	case available && isTrue(degraded):
		return "Available, but degraded" + because(degraded)
	case available && ready != nil && !isTrue(ready) && isTrue(progressing):
		return "Progressing" + because(progressing)
	case available:
		return "Available"
	case isTrue(degraded):
		return "Degraded" + because(degraded)
	case isTrue(progressing):
		return "Progressing"
	case object.Status.Phase != "":
		return string(object.Status.Phase)
	case object.Status.Message != "":
		return object.Status.Message
	}
	return "found"
}

// unobserved reports whether the status is about an earlier spec. Objects of
// oaas-rs do not keep their observed generation up to date and never count.
func unobserved(object *v1alpha1.ClassRuntime) bool {
	return object.Status.ObservedGeneration > 0 && object.Status.ObservedGeneration < object.Generation
}

func because(condition *v1alpha1.Condition) string {
	text := ""
	if condition.Reason != "" {
		text += " (" + string(condition.Reason) + ")"
	}
	if condition.Message != "" {
		text += ": " + condition.Message
	}
	return text
}

func findCondition(object *v1alpha1.ClassRuntime, kind v1alpha1.ConditionType) *v1alpha1.Condition {
	i := slices.IndexFunc(object.Status.Conditions, func(c v1alpha1.Condition) bool { return c.Type == kind })
	if i < 0 {
		return nil
	}
	return &object.Status.Conditions[i]
}

func isTrue(condition *v1alpha1.Condition) bool {
	return condition != nil && condition.Status == metav1.ConditionTrue
}

// coarse maps the summary text to the two enums of the contract.
func coarse(text string) (oaaspb.DeploymentCondition, oaaspb.DeploymentPhase) {
	switch {
	case strings.HasPrefix(text, "Available"), text == "found":
		return oaaspb.DeploymentCondition_RUNNING, oaaspb.DeploymentPhase_PHASE_RUNNING
	case strings.HasPrefix(text, "Progressing"):
		return oaaspb.DeploymentCondition_DEPLOYING, oaaspb.DeploymentPhase_RESOURCE_PROVISIONING
	case strings.HasPrefix(text, "Degraded"):
		return oaaspb.DeploymentCondition_DOWN, oaaspb.DeploymentPhase_RESOURCE_PROVISIONING
	}
	return oaaspb.DeploymentCondition_PENDING, oaaspb.DeploymentPhase_RESOURCE_PROVISIONING
}

func functionStatusOf(f *v1alpha1.FunctionStatus) *oaaspb.FunctionStatus {
	return &oaaspb.FunctionStatus{
		FunctionKey: f.FunctionKey, Service: f.Service, Port: uint32(max(f.Port, 0)), PredictedUrl: f.PredictedURL,
		ObservedUrl: optional(f.ObservedURL), Template: f.Template, Ready: f.Ready,
		Reason: optional(string(f.Reason)), Message: optional(f.Message),
		LastTransitionTime: optionalTime(f.LastTransitionTime),
	}
}

// conditionsOf copies the conditions. Those that speak of completeness are
// Unknown while the status is about an earlier spec; Available stays, because
// what runs can still be called.
func conditionsOf(object *v1alpha1.ClassRuntime) []*oaaspb.RuntimeCondition {
	out := make([]*oaaspb.RuntimeCondition, 0, len(object.Status.Conditions))
	stale := unobserved(object)
	for _, c := range object.Status.Conditions {
		if stale && (c.Type == v1alpha1.ConditionReady || c.Type == v1alpha1.ConditionReconciling) {
			c.Status, c.Reason, c.Message = metav1.ConditionUnknown, v1alpha1.ReasonPending, "the change is not applied yet"
		}
		condition := &oaaspb.RuntimeCondition{
			Type: string(c.Type), Status: string(c.Status), Reason: string(c.Reason), Message: c.Message,
		}
		if c.LastTransitionTime != nil {
			condition.LastTransitionTime = rfc3339(c.LastTransitionTime.Time)
		}
		out = append(out, condition)
	}
	return out
}

func (s *Server) resourceRefs(object *v1alpha1.ClassRuntime) []*oaaspb.ResourceReference {
	out := make([]*oaaspb.ResourceReference, 0, len(object.Status.ResourceRefs))
	for _, ref := range object.Status.ResourceRefs {
		out = append(out, &oaaspb.ResourceReference{
			Kind: ref.Kind, Name: ref.Name, Namespace: proto.String(object.Namespace), Uid: optional(ref.UID),
		})
	}
	return out
}

func routersOf(object *v1alpha1.ClassRuntime) []string {
	names := make([]string, 0, len(object.Status.Routers))
	for _, router := range object.Status.Routers {
		names = append(names, router.Service)
	}
	return names
}

func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

func optionalTime(t *metav1.Time) *string {
	if t == nil || t.IsZero() {
		return nil
	}
	return proto.String(rfc3339(t.Time))
}

func rfc3339(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
