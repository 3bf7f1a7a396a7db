package server

import (
	"fmt"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/proto/oaaspb"
)

const (
	// AnnotationPods tells whose spec.pods are: those of the unit, or without the
	// annotation those of a person.
	AnnotationPods = "oaas.io/pods"
	podsOfUnit     = "unit"
)

// podsOf builds what a unit says of its pods. Words and quantities are judged where all
// objects are, however they were stored: by the definition and by the templates.
func podsOf(pods *oaaspb.PodSettings) (*v1alpha1.PodSettings, error) {
	if pods == nil {
		return nil, nil
	}
	out := &v1alpha1.PodSettings{
		ServiceAccount: pods.GetServiceAccount(), PullSecrets: pods.GetPullSecrets(), NodeSelector: pods.GetNodeSelector(),
		Security: pods.GetSecurity(), CPURequest: pods.GetCpuRequest(), MemoryRequest: pods.GetMemoryRequest(),
		Spread: pods.Spread, DisruptionBudget: pods.DisruptionBudget, NetworkPolicy: pods.GetNetworkPolicy(),
		PriorityClass: pods.GetPriorityClass(), ImagePullPolicy: pods.GetImagePullPolicy(),
	}
	for i, t := range pods.GetTolerations() {
		toleration := v1alpha1.Toleration{Key: t.GetKey(), Operator: t.GetOperator(), Value: t.GetValue(), Effect: t.GetEffect()}
		if t.TolerationSeconds != nil {
			if t.GetTolerationSeconds() > maxExact {
				return nil, fieldError(fmt.Sprintf("deployment_unit.pods.tolerations[%d].toleration_seconds", i), "must be at most 2^53-1")
			}
			seconds := int64(t.GetTolerationSeconds())
			toleration.TolerationSeconds = &seconds
		}
		out.Tolerations = append(out.Tolerations, toleration)
	}
	return out, nil
}

// podsToProto is what was sent, nil when a person says what the pods have.
func podsToProto(object *v1alpha1.ClassRuntime) *oaaspb.PodSettings {
	p := object.Spec.Pods
	if p == nil || object.Annotations[AnnotationPods] != podsOfUnit {
		return nil
	}
	out := &oaaspb.PodSettings{
		ServiceAccount: p.ServiceAccount, PullSecrets: p.PullSecrets, NodeSelector: p.NodeSelector,
		Security: p.Security, CpuRequest: p.CPURequest, MemoryRequest: p.MemoryRequest,
		Spread: p.Spread, DisruptionBudget: p.DisruptionBudget, NetworkPolicy: p.NetworkPolicy,
		PriorityClass: p.PriorityClass, ImagePullPolicy: p.ImagePullPolicy,
	}
	for _, t := range p.Tolerations {
		toleration := &oaaspb.PodToleration{Key: t.Key, Operator: t.Operator, Value: t.Value, Effect: t.Effect}
		if t.TolerationSeconds != nil && *t.TolerationSeconds >= 0 {
			seconds := uint64(*t.TolerationSeconds)
			toleration.TolerationSeconds = &seconds
		}
		out.Tolerations = append(out.Tolerations, toleration)
	}
	return out
}

// keptPods are the pod settings that stay when a change says nothing of them: those of a
// person. Settings of an earlier change of the unit go with it.
func keptPods(live *v1alpha1.ClassRuntime) *v1alpha1.PodSettings {
	if live.Annotations[AnnotationPods] == podsOfUnit {
		return nil
	}
	return live.Spec.Pods.DeepCopy()
}
