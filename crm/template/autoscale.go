package template

import (
	"fmt"
	"math"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	autoscalingv2ac "k8s.io/client-go/applyconfigurations/autoscaling/v2"

	"oaas.io/control-plane/crm/api/v1alpha1"
)

var autoscalerGVK = autoscalingv2.SchemeGroupVersion.WithKind("HorizontalPodAutoscaler")

const (
	// defaultCPUTarget is how busy containers are meant to be when the class does
	// not say, in percent of their CPU request.
	defaultCPUTarget = 80
	// autoscaledCPU is the CPU request of a function that has none from anywhere: what has no
	// request cannot be measured against it.
	autoscaledCPU = "100m"
)

// Decider says who decides how many pods a Deployment has.
type Decider string

// The deciders.
const (
	// BySpec: the configuration holds the number.
	BySpec Decider = "spec"
	// ByAutoscaler: an autoscaler that is rendered beside the Deployment.
	ByAutoscaler Decider = "autoscaler"
	// ByOthers: an autoscaler of somebody else, which is left alone.
	ByOthers Decider = "others"
	// ByEnforcer: who enforces the requirements of the class.
	ByEnforcer Decider = "enforcer"
	// ByPast: the number that an autoscaler of ours left behind stays until the
	// spec asks for another one, so that switching it off under load is no fall.
	ByPast Decider = "past"
)

// Replicas says how many pods a Deployment has.
type Replicas struct {
	By Decider
	// Min and Max bound the number, whoever decides it. Max 0 is no bound.
	Min, Max int32
}

// Elastic reports whether the number may change at any time without a change of the
// spec.
func (r *Replicas) Elastic() bool {
	return r != nil && (r.By == ByAutoscaler || r.By == ByOthers || r.By == ByEnforcer)
}

// Clamp returns n within the bounds.
func (r *Replicas) Clamp(n int32) int32 {
	if r.Max > 0 {
		n = min(n, r.Max)
	}
	return max(n, r.Min)
}

// Scaling is what was found to decide the replicas of a Deployment besides the spec.
type Scaling struct {
	// Foreign is the autoscaler of somebody else that scales it, empty if there is
	// none.
	Foreign string
	// KeptSince is the lower bound that was in force when an autoscaler of ours left
	// the number behind, nil if none did. It is kept while the bound is the same.
	KeptSince *int32
}

// bounds are the scale bounds of a function.
func bounds(fn *v1alpha1.FunctionSpec) (least, most int32) {
	least = 1
	if p := fn.ProvisionConfig; p != nil {
		if p.MinScale != nil {
			least = int32(min(*p.MinScale, math.MaxInt32))
		}
		if p.MaxScale != nil {
			most = int32(min(*p.MaxScale, math.MaxInt32))
		}
	}
	return least, most
}

// elastic reports whether the bounds leave room. From 0 replicas no CPU can be measured,
// so a function that may have none is left at its lower bound.
func elastic(fn *v1alpha1.FunctionSpec) bool {
	least, most := bounds(fn)
	return least > 0 && most > least
}

func replicasOf(in Input, fn *v1alpha1.FunctionSpec, workload string) Replicas {
	least, most := bounds(fn)
	r := Replicas{By: BySpec, Min: least, Max: most}
	found := in.Scaling[workload]
	switch {
	case found.Foreign != "":
		r.By = ByOthers
	case in.Environment.HPA && elastic(fn):
		r.By = ByAutoscaler
	case replicasEnforced(in.Spec.Enforcement):
		r.By = ByEnforcer
	case found.KeptSince != nil && *found.KeptSince == least:
		r.By = ByPast
	}
	return r
}

// measurable gives the container a CPU request when it would have none, neither its own
// nor that of its limit.
func measurable(r corev1.ResourceRequirements) corev1.ResourceRequirements {
	_, requested := r.Requests[corev1.ResourceCPU]
	_, limited := r.Limits[corev1.ResourceCPU]
	if requested || limited {
		return r
	}
	out := *r.DeepCopy()
	if out.Requests == nil {
		out.Requests = corev1.ResourceList{}
	}
	out.Requests[corev1.ResourceCPU] = resource.MustParse(autoscaledCPU)
	return out
}

// cpuTarget is the utilization to aim at, in percent.
func cpuTarget(nfr *v1alpha1.NfrRequirements) int32 {
	if nfr == nil || nfr.CPUUtilizationTarget == nil || *nfr.CPUUtilizationTarget <= 0 {
		return defaultCPUTarget
	}
	return max(1, int32(math.Round(100*min(*nfr.CPUUtilizationTarget, 1))))
}

// autoscalerObject scales the Deployment of the same name by the CPU that its pods use.
func autoscalerObject(in Input, c child, replicas Replicas) Object {
	target := autoscalingv2ac.MetricTarget().
		WithType(autoscalingv2.UtilizationMetricType).
		WithAverageUtilization(cpuTarget(in.Spec.NfrRequirements))
	a := autoscalingv2ac.HorizontalPodAutoscaler(c.name, in.Namespace).
		WithLabels(c.labels).
		WithAnnotations(c.annotations).
		WithSpec(autoscalingv2ac.HorizontalPodAutoscalerSpec().
			WithScaleTargetRef(autoscalingv2ac.CrossVersionObjectReference().
				WithAPIVersion(appsv1.SchemeGroupVersion.String()).
				WithKind(deploymentGVK.Kind).
				WithName(c.name)).
			WithMinReplicas(replicas.Min).
			WithMaxReplicas(replicas.Max).
			WithMetrics(autoscalingv2ac.MetricSpec().
				WithType(autoscalingv2.ResourceMetricSourceType).
				WithResource(autoscalingv2ac.ResourceMetricSource().WithName(corev1.ResourceCPU).WithTarget(target))))
	if owner := ownerReference(in); owner != nil {
		a.WithOwnerReferences(owner)
	}
	return Object{GVK: autoscalerGVK, Name: c.name, Component: c.component, Function: c.function, Configuration: a}
}

// scaleFault says why the scale bounds of a function cannot be kept, or nothing.
func scaleFault(p *v1alpha1.ProvisionConfig) string {
	least, most := bounds(&v1alpha1.FunctionSpec{ProvisionConfig: p})
	if p.MaxScale == nil || most == 0 || least <= most {
		return ""
	}
	return fmt.Sprintf("must be at least min_scale (%d)", least)
}
