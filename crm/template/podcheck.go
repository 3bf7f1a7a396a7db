package template

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	apivalidation "k8s.io/apimachinery/pkg/util/validation"
)

// faults are all values that Kubernetes would refuse, so that none of them is found by
// the pods.
func (o *PodOptions) faults() []podFault {
	var out []podFault
	one := func(member, value string, check func(string) string) {
		if value == "" {
			return
		}
		if why := check(value); why != "" {
			out = append(out, podFault{member: member, value: value, why: why})
		}
	}
	one("service_account", o.ServiceAccount, objectNameFault)
	for i, name := range o.PullSecrets {
		why := objectNameFault(name)
		if slices.Contains(o.PullSecrets[:i], name) {
			why = "is named twice"
		}
		if why != "" {
			out = append(out, podFault{member: "pull_secrets", value: name, why: why})
		}
	}
	out = append(out, selectorFaults(o.NodeSelector)...)
	for i := range o.Tolerations {
		if why := tolerationFault(&o.Tolerations[i]); why != "" {
			out = append(out, podFault{member: "tolerations", key: fmt.Sprintf("[%d]", i), value: o.Tolerations[i].Key, why: why})
		}
	}
	one("security", string(o.Security), oneOf(string(SecurityNone), string(SecurityBaseline), string(SecurityRestricted)))
	one("cpu_request", o.CPURequest, quantityFault)
	one("memory_request", o.MemoryRequest, quantityFault)
	one("network_policy", string(o.NetworkPolicy), oneOf(string(NetworkNone), string(NetworkNamespace)))
	for _, from := range o.NetworkFrom {
		if why := sourceFault(from); why != "" {
			out = append(out, podFault{member: "network_from", value: from, why: why})
		}
	}
	one("priority_class", o.PriorityClass, objectNameFault)
	one("image_pull_policy", o.PullPolicy, oneOf(string(corev1.PullAlways), string(corev1.PullIfNotPresent), string(corev1.PullNever)))
	return out
}

func selectorFaults(selector map[string]string) []podFault {
	var out []podFault
	for _, key := range slices.Sorted(maps.Keys(selector)) {
		if why := first(apivalidation.IsQualifiedName(key)); why != "" {
			out = append(out, podFault{member: "node_selector", value: key, why: why})
		}
		if why := first(apivalidation.IsValidLabelValue(selector[key])); why != "" {
			out = append(out, podFault{member: "node_selector", key: key, value: selector[key], why: why})
		}
	}
	return out
}

// tolerationFault follows the validation of pods.
func tolerationFault(t *corev1.Toleration) string {
	switch t.Operator {
	case corev1.TolerationOpExists:
		if t.Value != "" {
			return "a toleration with operator Exists has no value"
		}
	case corev1.TolerationOpEqual:
		if t.Key == "" {
			return "a toleration without a key tolerates every taint, which operator Exists says"
		}
	default:
		return fmt.Sprintf("operator %q: want Equal or Exists", t.Operator)
	}
	if t.Key != "" {
		if why := first(apivalidation.IsQualifiedName(t.Key)); why != "" {
			return why
		}
	}
	if why := first(apivalidation.IsValidLabelValue(t.Value)); why != "" {
		return why
	}
	switch t.Effect {
	case "", corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute:
	default:
		return fmt.Sprintf("effect %q: want NoSchedule, PreferNoSchedule or NoExecute", t.Effect)
	}
	if t.TolerationSeconds != nil && t.Effect != corev1.TaintEffectNoExecute {
		return "toleration_seconds needs the effect NoExecute"
	}
	return ""
}

// ParseToleration reads the form key[=value][:effect], without a value for every value of
// the taint, without an effect for every effect; "*" tolerates all taints.
func ParseToleration(text string) (corev1.Toleration, error) {
	t := corev1.Toleration{Operator: corev1.TolerationOpExists}
	rest, effect, _ := strings.Cut(text, ":")
	t.Effect = corev1.TaintEffect(effect)
	key, value, valued := strings.Cut(rest, "=")
	if valued {
		t.Operator, t.Value = corev1.TolerationOpEqual, value
	}
	switch {
	case key == "*" && !valued:
	case key == "" || key == "*":
		return t, fmt.Errorf("toleration %q: want key, key=value or *, each with :effect or without", text)
	default:
		t.Key = key
	}
	if why := tolerationFault(&t); why != "" {
		return t, fmt.Errorf("toleration %q: %s", text, why)
	}
	return t, nil
}

// sourceFault checks a namespace or an address range.
func sourceFault(from string) string {
	if !strings.Contains(from, "/") {
		return first(apivalidation.IsDNS1123Label(from))
	}
	prefix, err := netip.ParsePrefix(from)
	switch {
	case err != nil:
		return "want a namespace, or an address range such as 10.1.0.0/16"
	case prefix != prefix.Masked():
		return "an address range ends where its prefix does; write " + prefix.Masked().String()
	}
	return ""
}

func quantityFault(text string) string {
	q, err := resource.ParseQuantity(text)
	switch {
	case err != nil:
		return `must be a Kubernetes quantity such as "250m" or "128Mi"; "0" asks for none`
	case q.Sign() < 0:
		return "must not be negative"
	}
	return ""
}

func objectNameFault(name string) string { return first(apivalidation.IsDNS1123Subdomain(name)) }

func oneOf(values ...string) func(string) string {
	return func(value string) string {
		if slices.Contains(values, value) {
			return ""
		}
		return "want " + strings.Join(values[:len(values)-1], ", ") + " or " + values[len(values)-1]
	}
}

func first(problems []string) string {
	if len(problems) == 0 {
		return ""
	}
	return problems[0]
}
