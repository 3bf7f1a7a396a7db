package template

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
)

// PodSecurity is how much the containers of a cluster are confined.
type PodSecurity string

// The levels, after Kubernetes' Pod Security Standards.
const (
	// SecurityUnset is the template's default: baseline, or none with the template dev.
	SecurityUnset PodSecurity = ""
	// SecurityNone leaves it to the images and to the namespace.
	SecurityNone PodSecurity = "none"
	// SecurityBaseline permits no escalation of privileges, and the runtime's default
	// system calls only. Images may run as root, which most of them do.
	SecurityBaseline PodSecurity = "baseline"
	// SecurityRestricted is what a namespace asks for that enforces "restricted":
	// images must not run as root. It is nobody's default, because an image that does
	// would not start.
	SecurityRestricted PodSecurity = "restricted"
)

// The defaults of the production templates.
const (
	defaultCPURequest    = "50m"
	defaultMemoryRequest = "64Mi"
)

// PodOptions is what the pods of functions and object stores have in a cluster. Of each
// member the class has the last word (see podsOf), unless it is in Locked.
type PodOptions struct {
	// ServiceAccount that they run as; empty is the namespace's default.
	ServiceAccount string
	// PullSecrets are names of Secrets in the namespace.
	PullSecrets []string
	// NodeSelector are labels of the nodes that they may run on.
	NodeSelector map[string]string
	// Tolerations let them onto nodes with taints.
	Tolerations []corev1.Toleration
	// PriorityClass is the name of one; empty is the cluster's default.
	PriorityClass string
	// PullPolicy of images is Always, IfNotPresent or Never; empty leaves the choice
	// to the cluster.
	PullPolicy string
	Security   PodSecurity
	// CPURequest and MemoryRequest are requests of containers that name neither a
	// request nor a limit of that resource. Empty is the template's default, "0" none.
	CPURequest, MemoryRequest string
	// Spread keeps the pods of a function apart, DisruptionBudget keeps all but one of
	// them when nodes are drained; nil is the template's default.
	Spread, DisruptionBudget *bool
	// NetworkPolicy says who may call functions and object stores. Empty is none.
	NetworkPolicy NetworkPolicy
	// NetworkFrom are names of namespaces, and address ranges in CIDR notation, from
	// which calls are let in as well.
	NetworkFrom []string
	// Locked are the members of a class's spec.pods that classes may not set here.
	Locked []string
	// Reserved is the service account of the manager itself, which no class may name: its
	// functions would have the manager's rights. Empty when it has none in the namespace.
	Reserved string

	// noToken keeps the token of the service account out of the pods.
	noToken bool
}

// spreads and budgets say what holds for the pods of functions that always have several.
func (o *PodOptions) spreads() bool { return o.Spread != nil && *o.Spread }
func (o *PodOptions) budgets() bool { return o.DisruptionBudget != nil && *o.DisruptionBudget }

// confined reports whether containers have a security context.
func (o *PodOptions) confined() bool {
	return o.Security == SecurityBaseline || o.Security == SecurityRestricted
}

// podFault is a value that Kubernetes would refuse. The key is that of a map or the
// index of a list, and empty for single values.
type podFault struct{ member, key, value, why string }

// Validate reports the first option that Kubernetes would refuse.
func (o *PodOptions) Validate() error {
	faults := o.faults()
	for _, name := range o.Locked {
		if !slices.Contains(podMembers, name) {
			faults = append(faults, podFault{member: "locked", value: name, why: "want one of " + strings.Join(podMembers, ", ")})
		}
	}
	if len(faults) == 0 {
		return nil
	}
	f := faults[0]
	name := "pod " + strings.ReplaceAll(f.member, "_", " ")
	if f.key != "" {
		name += " " + f.key
	}
	return fmt.Errorf("%s %q: %s", name, f.value, f.why)
}

// apply puts the options into a pod and its container. Whatever is rendered with pods
// goes through it, so that a default of pods has a single home.
func (o *PodOptions) apply(pod *corev1ac.PodSpecApplyConfiguration, container *corev1ac.ContainerApplyConfiguration) {
	if o.ServiceAccount != "" {
		pod.WithServiceAccountName(o.ServiceAccount)
	}
	if o.noToken {
		pod.WithAutomountServiceAccountToken(false)
	}
	for _, name := range o.PullSecrets {
		pod.WithImagePullSecrets(corev1ac.LocalObjectReference().WithName(name))
	}
	if len(o.NodeSelector) > 0 {
		pod.WithNodeSelector(maps.Clone(o.NodeSelector))
	}
	for i := range o.Tolerations {
		pod.WithTolerations(tolerationConfiguration(&o.Tolerations[i]))
	}
	if o.PriorityClass != "" {
		pod.WithPriorityClassName(o.PriorityClass)
	}
	if o.PullPolicy != "" && container.ImagePullPolicy == nil {
		container.WithImagePullPolicy(corev1.PullPolicy(o.PullPolicy))
	}
	o.fill(container)
	o.confine(pod, container)
}

func (o *PodOptions) confine(pod *corev1ac.PodSpecApplyConfiguration, container *corev1ac.ContainerApplyConfiguration) {
	if !o.confined() {
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

// filled asks for the resources that a container says nothing of. A limit says something:
// Kubernetes takes it for the request, and ours could be above it.
func (o *PodOptions) filled(r corev1.ResourceRequirements) corev1.ResourceRequirements {
	out := *r.DeepCopy()
	for name, text := range map[corev1.ResourceName]string{corev1.ResourceCPU: o.CPURequest, corev1.ResourceMemory: o.MemoryRequest} {
		_, requested := r.Requests[name]
		_, limited := r.Limits[name]
		quantity, err := resource.ParseQuantity(text)
		if requested || limited || err != nil || quantity.IsZero() {
			continue // it was checked; nothing and zero ask for nothing
		}
		if out.Requests == nil {
			out.Requests = corev1.ResourceList{}
		}
		out.Requests[name] = quantity
	}
	return out
}

// fill is filled for a configuration.
func (o *PodOptions) fill(container *corev1ac.ContainerApplyConfiguration) {
	var have corev1.ResourceRequirements
	if r := container.Resources; r != nil {
		if r.Requests != nil {
			have.Requests = *r.Requests
		}
		if r.Limits != nil {
			have.Limits = *r.Limits
		}
	}
	container.Resources = resourceConfiguration(o.filled(have))
}

func tolerationConfiguration(t *corev1.Toleration) *corev1ac.TolerationApplyConfiguration {
	out := corev1ac.Toleration().WithOperator(t.Operator)
	if t.Key != "" {
		out.WithKey(t.Key)
	}
	if t.Value != "" {
		out.WithValue(t.Value)
	}
	if t.Effect != "" {
		out.WithEffect(t.Effect)
	}
	if t.TolerationSeconds != nil {
		out.WithTolerationSeconds(*t.TolerationSeconds)
	}
	return out
}
