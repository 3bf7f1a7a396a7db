package template

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"oaas.io/control-plane/crm/api/v1alpha1"
)

// podMembers are the members of spec.pods.
var podMembers = []string{
	"service_account", "pull_secrets", "node_selector", "tolerations", "security", "cpu_request", "memory_request",
	"spread", "disruption_budget", "network_policy", "priority_class", "image_pull_policy",
}

// podsOf is what the pods of a class have, the first that says something: the class, the
// cluster, the template. Lists and the node selector of the class are added to those of
// the cluster, so that a class which needs a secret or a GPU keeps what the platform
// asks for; of the same node label the class's value counts.
func podsOf(in Input, production bool) PodOptions {
	o := in.Environment.Pods
	if production {
		o.defaults()
	}
	if class := in.Spec.Pods; class != nil {
		o.override(class)
	}
	// A token opens the API server, and a function that says nothing of it needs none.
	// Whoever names an account, be it "default", wants what comes with it.
	o.noToken = production && o.ServiceAccount == ""
	return o
}

// defaults fills in what the production templates have.
func (o *PodOptions) defaults() {
	yes := true
	if o.Security == SecurityUnset {
		o.Security = SecurityBaseline
	}
	if o.CPURequest == "" {
		o.CPURequest = defaultCPURequest
	}
	if o.MemoryRequest == "" {
		o.MemoryRequest = defaultMemoryRequest
	}
	if o.Spread == nil {
		o.Spread = &yes
	}
	if o.DisruptionBudget == nil {
		o.DisruptionBudget = &yes
	}
}

// override takes over what a class says. It changes nothing that o shares with others.
func (o *PodOptions) override(class *v1alpha1.PodSettings) {
	replace(&o.ServiceAccount, class.ServiceAccount)
	replace(&o.Security, PodSecurity(class.Security))
	replace(&o.CPURequest, class.CPURequest)
	replace(&o.MemoryRequest, class.MemoryRequest)
	replace(&o.NetworkPolicy, NetworkPolicy(class.NetworkPolicy))
	replace(&o.PriorityClass, class.PriorityClass)
	replace(&o.PullPolicy, class.ImagePullPolicy)
	if class.Spread != nil {
		o.Spread = class.Spread
	}
	if class.DisruptionBudget != nil {
		o.DisruptionBudget = class.DisruptionBudget
	}
	for _, name := range class.PullSecrets {
		if !slices.Contains(o.PullSecrets, name) {
			o.PullSecrets = append(slices.Clip(o.PullSecrets), name)
		}
	}
	for i := range class.Tolerations {
		o.Tolerations = append(slices.Clip(o.Tolerations), tolerationOf(&class.Tolerations[i]))
	}
	if len(class.NodeSelector) > 0 {
		selector := maps.Clone(class.NodeSelector)
		for key, value := range o.NodeSelector {
			if _, taken := selector[key]; !taken {
				selector[key] = value
			}
		}
		o.NodeSelector = selector
	}
}

func replace[T ~string](old *T, value T) {
	if value != "" {
		*old = value
	}
}

func tolerationOf(t *v1alpha1.Toleration) corev1.Toleration {
	out := corev1.Toleration{
		Key: t.Key, Operator: corev1.TolerationOperator(t.Operator), Value: t.Value,
		Effect: corev1.TaintEffect(t.Effect), TolerationSeconds: t.TolerationSeconds,
	}
	if out.Operator == "" {
		out.Operator = corev1.TolerationOpEqual
	}
	return out
}

// validatePods checks what a class says of its pods by itself: what the cluster says was
// checked when the manager started.
func validatePods(class *v1alpha1.PodSettings, cluster *PodOptions, path *field.Path) field.ErrorList {
	if class == nil {
		return nil
	}
	var errs field.ErrorList
	if class.ServiceAccount != "" && class.ServiceAccount == cluster.Reserved {
		errs = append(errs, field.Forbidden(path.Child("service_account"), "it is the manager's own account, whose rights are for no class; name another one"))
	}
	for _, member := range cluster.Locked {
		if slices.Contains(class.Members(), member) {
			errs = append(errs, field.Forbidden(path.Child(member), "this cluster decides it for all classes (crm --pod-locked)"))
		}
	}
	var own PodOptions
	own.override(class)
	for _, f := range own.faults() {
		at := path.Child(f.member)
		if f.key != "" {
			at = at.Key(strings.Trim(f.key, "[]"))
		}
		errs = append(errs, field.Invalid(at, f.value, f.why))
	}
	return errs
}
