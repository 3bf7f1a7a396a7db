package template

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/util/validation"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/utils/ptr"
)

// PodSecurity is how much the containers of a cluster are confined.
type PodSecurity string

// The levels, after Kubernetes' Pod Security Standards.
const (
	// SecurityUnset leaves it to the images and to the namespace.
	SecurityUnset PodSecurity = ""
	// SecurityBaseline permits no escalation of privileges, and the runtime's default
	// system calls only.
	SecurityBaseline PodSecurity = "baseline"
	// SecurityRestricted is what a namespace asks for that enforces "restricted":
	// images must not run as root.
	SecurityRestricted PodSecurity = "restricted"
)

// PodOptions is what the pods of functions and object stores have in a cluster.
type PodOptions struct {
	// ServiceAccount that they run as; empty is the namespace's default.
	ServiceAccount string
	// PullSecrets are names of Secrets in the namespace.
	PullSecrets []string
	// NodeSelector are labels of the nodes that they may run on.
	NodeSelector map[string]string
	Security     PodSecurity
}

// Validate reports the first option that Kubernetes would refuse.
func (o *PodOptions) Validate() error {
	if name := o.ServiceAccount; name != "" {
		if problems := apivalidation.IsDNS1123Subdomain(name); len(problems) > 0 {
			return fmt.Errorf("service account %q: %s", name, problems[0])
		}
	}
	for _, name := range o.PullSecrets {
		if problems := apivalidation.IsDNS1123Subdomain(name); len(problems) > 0 {
			return fmt.Errorf("pull secret %q: %s", name, problems[0])
		}
	}
	for _, key := range slices.Sorted(maps.Keys(o.NodeSelector)) {
		if problems := apivalidation.IsQualifiedName(key); len(problems) > 0 {
			return fmt.Errorf("node selector %q: %s", key, problems[0])
		}
		if problems := apivalidation.IsValidLabelValue(o.NodeSelector[key]); len(problems) > 0 {
			return fmt.Errorf("node selector %s=%q: %s", key, o.NodeSelector[key], problems[0])
		}
	}
	switch o.Security {
	case SecurityUnset, SecurityBaseline, SecurityRestricted:
		return nil
	default:
		return fmt.Errorf("pod security %q: want %s or %s", o.Security, SecurityBaseline, SecurityRestricted)
	}
}

// knative is a pod of a Knative Service with the options. What Knative takes in a
// container only, unless its features are switched on, goes there.
func (o *PodOptions) knative(container corev1.Container) corev1.PodSpec {
	pod := corev1.PodSpec{ServiceAccountName: o.ServiceAccount, NodeSelector: o.NodeSelector}
	for _, name := range o.PullSecrets {
		pod.ImagePullSecrets = append(pod.ImagePullSecrets, corev1.LocalObjectReference{Name: name})
	}
	if o.Security != SecurityUnset {
		container.SecurityContext = &corev1.SecurityContext{
			AllowPrivilegeEscalation: ptr.To(false),
			SeccompProfile:           &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		}
	}
	if o.Security == SecurityRestricted {
		container.SecurityContext.RunAsNonRoot = ptr.To(true)
		container.SecurityContext.Capabilities = &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}
	}
	pod.Containers = []corev1.Container{container}
	return pod
}

// apply puts the options into a pod and its container.
func (o *PodOptions) apply(pod *corev1ac.PodSpecApplyConfiguration, container *corev1ac.ContainerApplyConfiguration) {
	if o.ServiceAccount != "" {
		pod.WithServiceAccountName(o.ServiceAccount)
	}
	for _, name := range o.PullSecrets {
		pod.WithImagePullSecrets(corev1ac.LocalObjectReference().WithName(name))
	}
	if len(o.NodeSelector) > 0 {
		pod.WithNodeSelector(o.NodeSelector)
	}
	if o.Security == SecurityUnset {
		return
	}
	profile := corev1ac.SeccompProfile().WithType(corev1.SeccompProfileTypeRuntimeDefault)
	security := corev1ac.PodSecurityContext().WithSeccompProfile(profile)
	confined := corev1ac.SecurityContext().WithAllowPrivilegeEscalation(false)
	if o.Security == SecurityRestricted {
		security.WithRunAsNonRoot(true)
		confined.WithCapabilities(corev1ac.Capabilities().WithDrop("ALL"))
	}
	pod.WithSecurityContext(security)
	container.WithSecurityContext(confined)
}
