package template

import (
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	policyv1ac "k8s.io/client-go/applyconfigurations/policy/v1"
)

var budgetGVK = policyv1.SchemeGroupVersion.WithKind("PodDisruptionBudget")

// budgetObject lets one pod at a time be evicted of a workload that always has several.
// Of a single pod a budget would only keep nodes from being drained, and pods that do
// not work are no reason to keep a node.
func budgetObject(in Input, c child) Object {
	b := policyv1ac.PodDisruptionBudget(c.name, in.Namespace).
		WithLabels(c.labels).
		WithAnnotations(c.annotations).
		WithSpec(policyv1ac.PodDisruptionBudgetSpec().
			WithMaxUnavailable(intstr.FromInt32(1)).
			WithUnhealthyPodEvictionPolicy(policyv1.AlwaysAllow).
			WithSelector(metav1ac.LabelSelector().WithMatchLabels(c.selector)))
	if owner := ownerReference(in); owner != nil {
		b.WithOwnerReferences(owner)
	}
	return Object{GVK: budgetGVK, Name: c.name, Component: c.component, Function: c.function, Configuration: b}
}

// spreadConstraints keep the pods of a workload apart, zones before nodes, as far as
// there are any: a pod in a full zone is better than none.
func spreadConstraints(c child) []*corev1ac.TopologySpreadConstraintApplyConfiguration {
	var out []*corev1ac.TopologySpreadConstraintApplyConfiguration
	for _, topology := range []string{corev1.LabelTopologyZone, corev1.LabelHostname} {
		out = append(out, corev1ac.TopologySpreadConstraint().
			WithMaxSkew(1).
			WithTopologyKey(topology).
			WithWhenUnsatisfiable(corev1.ScheduleAnyway).
			WithLabelSelector(metav1ac.LabelSelector().WithMatchLabels(c.selector)))
	}
	return out
}
