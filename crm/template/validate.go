package template

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"oaas.io/control-plane/crm/api/v1alpha1"
)

// validate checks what the API server's schema cannot, before anything is
// rendered. It returns the parsed resources by function index.
func validate(in Input) ([]corev1.ResourceRequirements, error) {
	root := field.NewPath("spec")
	var errs field.ErrorList
	resources := make([]corev1.ResourceRequirements, len(in.Spec.Functions))
	for i := range in.Spec.Functions {
		fn := &in.Spec.Functions[i]
		path := root.Child("functions").Index(i)
		if fn.IsWASM() {
			if !in.ODGMEnabled() {
				errs = append(errs, field.Forbidden(path.Child("provision_config", "wasm_module_url"),
					`a WASM function runs inside the object store: add "odgm" to spec.addons`))
			}
			continue
		}
		var more field.ErrorList
		resources[i], more = validateContainer(fn, path)
		errs = append(errs, more...)
	}
	errs = append(errs, validateOdgm(in.Spec.OdgmConfig, root.Child("odgm_config"))...)
	errs = append(errs, validateTelemetry(in.Spec.Telemetry, root.Child("telemetry"))...)
	errs = append(errs, validatePods(in.Spec.Pods, &in.Environment.Pods, root.Child("pods"))...)
	if len(errs) > 0 {
		return nil, &InvalidSpecError{Fields: errs}
	}
	return resources, nil
}

func validateContainer(fn *v1alpha1.FunctionSpec, path *field.Path) (corev1.ResourceRequirements, field.ErrorList) {
	provision := path.Child("provision_config")
	p := fn.ProvisionConfig
	if p == nil || strings.TrimSpace(p.ContainerImage) == "" {
		return corev1.ResourceRequirements{}, field.ErrorList{field.Required(provision.Child("container_image"),
			"a function needs a container_image or a wasm_module_url")}
	}
	var errs field.ErrorList
	if p.MinScale != nil && *p.MinScale > math.MaxInt32 {
		errs = append(errs, field.Invalid(provision.Child("min_scale"), *p.MinScale, "must be at most 2147483647"))
	}
	if why := scaleFault(p); why != "" {
		errs = append(errs, field.Invalid(provision.Child("max_scale"), *p.MaxScale, why))
	}
	if p.Port != nil && (*p.Port < 0 || *p.Port > 65535) {
		errs = append(errs, field.Invalid(provision.Child("port"), *p.Port, "must be between 0 and 65535"))
	}
	for _, name := range slices.Sorted(maps.Keys(fn.Config)) {
		if why := envNameFault(name); why != "" {
			errs = append(errs, field.Invalid(path.Child("config").Key(name), name, why))
		}
	}
	resources, more := parseResources(p, provision)
	return resources, append(errs, more...)
}

// envNameFault says why name cannot be the name of a variable, or nothing.
func envNameFault(name string) string {
	if name == "" {
		return "must not be empty: it becomes the name of an environment variable"
	}
	for _, r := range name {
		if r < ' ' || r > '~' || r == '=' {
			return "must be printable ASCII without '=': it becomes the name of an environment variable"
		}
	}
	return ""
}

// parseResources reads the four quantities. A request over its limit is
// reported here rather than by every pod.
func parseResources(p *v1alpha1.ProvisionConfig, path *field.Path) (corev1.ResourceRequirements, field.ErrorList) {
	var errs field.ErrorList
	var out corev1.ResourceRequirements
	read := func(list *corev1.ResourceList, name corev1.ResourceName, member, text string) {
		if text == "" {
			return
		}
		q, err := resource.ParseQuantity(text)
		switch {
		case err != nil:
			errs = append(errs, field.Invalid(path.Child(member), text, `must be a Kubernetes quantity such as "250m" or "128Mi"`))
			return
		case q.Sign() < 0:
			errs = append(errs, field.Invalid(path.Child(member), text, "must not be negative"))
			return
		}
		if *list == nil {
			*list = corev1.ResourceList{}
		}
		(*list)[name] = q
	}
	read(&out.Requests, corev1.ResourceCPU, "cpu_request", p.CPURequest)
	read(&out.Requests, corev1.ResourceMemory, "memory_request", p.MemoryRequest)
	read(&out.Limits, corev1.ResourceCPU, "cpu_limit", p.CPULimit)
	read(&out.Limits, corev1.ResourceMemory, "memory_limit", p.MemoryLimit)
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		request, limited := out.Requests[name], out.Limits[name]
		if _, has := out.Limits[name]; has && request.Cmp(limited) > 0 {
			errs = append(errs, field.Invalid(path.Child(string(name)+"_request"), request.String(),
				fmt.Sprintf("must not exceed %s_limit (%s)", name, limited.String())))
		}
	}
	return out, errs
}

// resourceConfiguration is nil when nothing is set.
func resourceConfiguration(r corev1.ResourceRequirements) *corev1ac.ResourceRequirementsApplyConfiguration {
	if len(r.Requests) == 0 && len(r.Limits) == 0 {
		return nil
	}
	out := corev1ac.ResourceRequirements()
	if len(r.Requests) > 0 {
		out.WithRequests(r.Requests)
	}
	if len(r.Limits) > 0 {
		out.WithLimits(r.Limits)
	}
	return out
}

func validateOdgm(o *v1alpha1.OdgmConfig, path *field.Path) field.ErrorList {
	if o == nil {
		return nil
	}
	var errs field.ErrorList
	if o.PartitionCount != nil && *o.PartitionCount < 0 {
		errs = append(errs, field.Invalid(path.Child("partition_count"), *o.PartitionCount, "must not be negative"))
	}
	if o.ReplicaCount != nil && *o.ReplicaCount < 0 {
		errs = append(errs, field.Invalid(path.Child("replica_count"), *o.ReplicaCount, "must not be negative"))
	}
	for i, name := range o.Collections {
		if name == "" {
			errs = append(errs, field.Required(path.Child("collections").Index(i), "a collection needs a name"))
		}
	}
	return errs
}

// replicasEnforced reports whether the enforcer owns the replicas.
func replicasEnforced(e *v1alpha1.Enforcement) bool {
	return e != nil && strings.EqualFold(e.Mode, "enforce") && slices.Contains(e.Dimensions, "replicas")
}
