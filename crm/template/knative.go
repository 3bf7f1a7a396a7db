package template

import (
	"encoding/json"
	"fmt"
	"maps"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/utils/ptr"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"oaas.io/control-plane/crm/api/v1alpha1"
)

// KnativeServiceGVK is the kind that runs a function in the knative template.
var KnativeServiceGVK = servingv1.SchemeGroupVersion.WithKind("Service")

// KnativeName is the name of the template that runs functions with Knative.
const KnativeName = "knative"

const (
	annotationMinScale = "autoscaling.knative.dev/minScale"
	annotationMaxScale = "autoscaling.knative.dev/maxScale"
	labelVisibility    = "networking.knative.dev/visibility"
	clusterLocal       = "cluster-local"
	// portNameHTTP1 is how Knative calls HTTP/1.1; portNameH2C is HTTP/2 for it too.
	portNameHTTP1 = "http1"
)

// knativeTemplate runs every container function as a Knative Service, which scales with
// its calls and to zero without any. The object store stays a Deployment.
type knativeTemplate struct{}

// Name implements Template.
func (*knativeTemplate) Name() string { return KnativeName }

// Aliases implements Template.
func (*knativeTemplate) Aliases() []string { return []string{"kn", "knsvc"} }

// Score implements Template. It needs the API of Knative Serving.
func (*knativeTemplate) Score(env Environment, nfr *v1alpha1.NfrRequirements) (int, bool) {
	return scoreKnative(env, nfr), env.Knative
}

// Needs implements Requiring.
func (*knativeTemplate) Needs() string { return "Knative Serving (serving.knative.dev/v1)" }

// Render implements Template.
func (*knativeTemplate) Render(in Input) (*Rendered, error) {
	out, err := renderClass(in, KnativeName, odgmImage, true, knativeService)
	if err != nil {
		return nil, err
	}
	if podsOf(in, true).NetworkPolicy == NetworkNamespace {
		out.Warnings = append(out.Warnings, "network_policy does not hold for functions that run with Knative: their calls come from its own namespace")
	}
	return out, nil
}

// knativeService is the Knative Service of function i.
func knativeService(in Input, i int, resources corev1.ResourceRequirements) ([]Object, error) {
	fn := &in.Spec.Functions[i]
	c := newChild(in, FunctionName(in.Name, i, len(in.Spec.Functions)), ComponentFunction, i)
	// Knative selects pods by labels of its own, so this one is free to say which
	// function it is, also when the class has only one.
	c.labels[LabelApp] = childName(in.Name, fmt.Sprintf("-fn-%d", i))
	port, http2 := functionPort(fn.ProvisionConfig)
	labels := maps.Clone(c.labels)
	labels[labelVisibility] = clusterLocal
	service := &servingv1.Service{
		TypeMeta: metav1.TypeMeta{APIVersion: servingv1.SchemeGroupVersion.String(), Kind: KnativeServiceGVK.Kind},
		ObjectMeta: metav1.ObjectMeta{
			Name: c.name, Namespace: in.Namespace, Annotations: c.annotations,
			Labels: labels,
		},
	}
	service.Annotations["prometheus.io/scrape"] = "true"
	service.Annotations["prometheus.io/port"] = strconv.Itoa(int(port))
	service.Annotations["prometheus.io/path"] = "/metrics"
	if in.UID != "" {
		service.OwnerReferences = []metav1.OwnerReference{{
			APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.Kind, Name: in.Name, UID: types.UID(in.UID),
			Controller: ptr.To(true), BlockOwnerDeletion: ptr.To(true),
		}}
	}
	revision := &service.Spec.Template
	revision.Labels, revision.Annotations = c.labels, knativeScale(fn.ProvisionConfig)
	if n := fn.ProvisionConfig.MaxConcurrency; n > 0 {
		revision.Spec.ContainerConcurrency = ptr.To(int64(n))
	}
	portName := portNameHTTP1
	if http2 {
		portName = portNameH2C
	}
	container := corev1ac.Container().
		WithName("function").
		WithImage(fn.ProvisionConfig.ContainerImage).
		WithPorts(containerPort(portName, port)).
		WithEnv(envConfigurations(functionEnv(in, fn))...)
	if requirements := resourceConfiguration(resources); requirements != nil {
		container.WithResources(requirements)
	}
	var err error
	if revision.Spec.PodSpec, err = knativePod(&c.pods, container); err != nil {
		return nil, fmt.Errorf("encode the pod of Knative Service %s: %w", c.name, err)
	}
	configuration, err := sparse(service)
	if err != nil {
		return nil, fmt.Errorf("encode Knative Service %s: %w", c.name, err)
	}
	return []Object{{
		GVK: KnativeServiceGVK, Name: c.name, Component: c.component, Function: c.function,
		Configuration: client.ApplyConfigurationFromUnstructured(configuration),
	}}, nil
}

// knativePod is a pod with the options. What Knative takes in a container only, unless a
// feature of it is switched on, goes there; what it does not take at all is left in, so
// that its refusal tells of it.
func knativePod(o *PodOptions, container *corev1ac.ContainerApplyConfiguration) (corev1.PodSpec, error) {
	spec := corev1ac.PodSpec()
	o.apply(spec, container)
	var pod corev1.PodSpec
	text, err := json.Marshal(spec.WithContainers(container))
	if err != nil {
		return pod, err
	}
	if err := json.Unmarshal(text, &pod); err != nil {
		return pod, err
	}
	if of, in := pod.SecurityContext, pod.Containers[0].SecurityContext; of != nil && in != nil {
		in.SeccompProfile, in.RunAsNonRoot = of.SeccompProfile, of.RunAsNonRoot
		pod.SecurityContext = nil
	}
	return pod, nil
}

// knativeScale are the bounds of Knative's autoscaler, nil if there are none. A
// max_scale of 0 is no bound, to Knative too.
func knativeScale(p *v1alpha1.ProvisionConfig) map[string]string {
	out := map[string]string{}
	if p.MinScale != nil {
		out[annotationMinScale] = strconv.FormatUint(uint64(*p.MinScale), 10)
	}
	if p.MaxScale != nil {
		out[annotationMaxScale] = strconv.FormatUint(uint64(*p.MaxScale), 10)
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// sparse is the object without the members that are empty: who applies an empty member
// claims it.
func sparse(object any) (*unstructured.Unstructured, error) {
	text, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	out := &unstructured.Unstructured{Object: map[string]any{}}
	if err := utiljson.Unmarshal(text, &out.Object); err != nil {
		return nil, err
	}
	prune(out.Object)
	return out, nil
}

// prune removes nulls and empty objects, from the inside out. Empty texts stay: an
// environment variable may be one. The one of a name that is not set is not encoded.
func prune(value any) {
	switch v := value.(type) {
	case map[string]any:
		for key, member := range v {
			prune(member)
			if m, isMap := member.(map[string]any); member == nil || isMap && len(m) == 0 {
				delete(v, key)
			}
		}
	case []any:
		for _, item := range v {
			prune(item)
		}
	}
}
