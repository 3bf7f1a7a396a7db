package template

import (
	"k8s.io/apimachinery/pkg/util/intstr"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"oaas.io/control-plane/crm/api/v1alpha1"
)

var (
	deploymentGVK = appsv1.SchemeGroupVersion.WithKind("Deployment")
	serviceGVK    = corev1.SchemeGroupVersion.WithKind("Service")
)

const (
	portNameHTTP  = "http"
	portNameH2C   = "h2c"
	portNameZenoh = "zenoh"
	appProtoH2C   = "kubernetes.io/h2c"
)

// deploymentTemplate runs every container function as a Deployment behind a
// Service. The templates dev, edge and k8s_deployment differ in score, in the default
// image of the object store, and in whether pods have what a production cluster asks of
// them: requests, confinement, and several pods of a function that are kept apart and
// available, which takes more than one node.
type deploymentTemplate struct {
	name      string
	aliases   []string
	odgmImage string
	resilient bool
	score     func(Environment, *v1alpha1.NfrRequirements) int
}

// Name implements Template.
func (t *deploymentTemplate) Name() string { return t.name }

// Aliases implements Template.
func (t *deploymentTemplate) Aliases() []string { return t.aliases }

// Score implements Template. Plain Deployments work in every cluster.
func (t *deploymentTemplate) Score(env Environment, nfr *v1alpha1.NfrRequirements) (int, bool) {
	return t.score(env, nfr), true
}

// Render implements Template.
func (t *deploymentTemplate) Render(in Input) (*Rendered, error) {
	return renderClass(in, t.name, t.odgmImage, t.resilient, func(in Input, i int, resources corev1.ResourceRequirements) ([]Object, error) {
		return t.renderFunction(in, i, resources), nil
	})
}

// renderClass is what all templates do alike: check the spec, render the object store, and
// each container function in the template's own way.
func renderClass(in Input, template, odgmImage string, production bool, function func(Input, int, corev1.ResourceRequirements) ([]Object, error)) (*Rendered, error) {
	resources, err := validate(in)
	if err != nil {
		return nil, err
	}
	in.Environment.Pods = podsOf(in, production)
	out := &Rendered{Template: template, Endpoints: Endpoints(in.Name, in.Namespace, in.Spec.Functions)}
	if in.ODGMEnabled() {
		if err := renderODGM(in, odgmImage, out); err != nil {
			return nil, err
		}
	}
	for i := range in.Spec.Functions {
		if in.Spec.Functions[i].IsWASM() {
			continue
		}
		objects, err := function(in, i, resources[i])
		if err != nil {
			return nil, err
		}
		out.Objects = append(out.Objects, objects...)
	}
	if err := out.seal(); err != nil {
		return nil, err
	}
	return out, nil
}

// renderFunction returns the Service and the Deployment of function i, the policy of who
// may call it if there is to be one, and the budget of its pods if it always has several.
func (t *deploymentTemplate) renderFunction(in Input, i int, resources corev1.ResourceRequirements) []Object {
	fn := &in.Spec.Functions[i]
	c := newChild(in, FunctionName(in.Name, i, len(in.Spec.Functions)), ComponentFunction, i)
	port, http2 := functionPort(fn.ProvisionConfig)
	portName, servicePort := portNameHTTP, corev1ac.ServicePort()
	if http2 {
		portName = portNameH2C
		servicePort.WithAppProtocol(appProtoH2C)
		c.podAnnotations = map[string]string{AnnotationHTTP2: "true"}
	}
	container := corev1ac.Container().
		WithName("function").
		WithImage(fn.ProvisionConfig.ContainerImage).
		WithPorts(containerPort(portName, port)).
		WithReadinessProbe(listening(portName)).
		WithEnv(envConfigurations(functionEnv(in, fn))...)
	if elastic(fn) {
		resources = measurable(c.pods.filled(resources))
	}
	if requirements := resourceConfiguration(resources); requirements != nil {
		container.WithResources(requirements)
	}
	servicePort.WithName(portNameHTTP).
		WithProtocol(corev1.ProtocolTCP).
		WithPort(ServicePort).
		WithTargetPort(intstr.FromInt32(port))
	spec := deploymentSpec(c, container)
	replicas := replicasOf(in, fn, c.name)
	if replicas.By == BySpec {
		spec.WithReplicas(replicas.Min)
	}
	out := []Object{serviceObject(in, c, c.name, servicePort)}
	out = append(out, networkObjects(in, c, port)...)
	// Whether there may be several pods follows from the spec alone: who scales them
	// must not change the pods.
	if c.pods.spreads() && max(replicas.Min, replicas.Max) > 1 {
		spec.Template.Spec.WithTopologySpreadConstraints(spreadConstraints(c)...)
	}
	if c.pods.budgets() && replicas.Min > 1 {
		out = append(out, budgetObject(in, c))
	}
	deployment := deploymentObject(in, c, spec)
	deployment.Replicas = &replicas
	out = append(out, deployment)
	if replicas.By == ByAutoscaler {
		out = append(out, autoscalerObject(in, c, replicas))
	}
	return out
}

// probePeriod is in seconds, as is what Kubernetes takes for the other times: three
// failures in a row take a pod out of its Service.
const probePeriod = 5

// listening takes a pod for ready when its port is open. Whatever a function speaks, it
// has to listen where its Service sends the calls; before that the class is not
// available.
func listening(port string) *corev1ac.ProbeApplyConfiguration {
	return corev1ac.Probe().
		WithTCPSocket(corev1ac.TCPSocketAction().WithPort(intstr.FromString(port))).
		WithPeriodSeconds(probePeriod)
}

// functionPort returns the port of the container and whether it speaks HTTP/2.
func functionPort(p *v1alpha1.ProvisionConfig) (int32, bool) {
	if p.Port == nil || *p.Port == 0 {
		return DefaultFunctionPort, p.NeedHTTP2
	}
	return *p.Port, p.NeedHTTP2
}

// deploymentSpec is the one place where Deployments get their shape. Every pod
// of every component passes through podTemplate, so that defaults for pods
// have a single home.
func deploymentSpec(c child, container *corev1ac.ContainerApplyConfiguration) *appsv1ac.DeploymentSpecApplyConfiguration {
	return appsv1ac.DeploymentSpec().
		WithSelector(metav1ac.LabelSelector().WithMatchLabels(c.selector)).
		WithTemplate(podTemplate(c, container))
}

func podTemplate(c child, container *corev1ac.ContainerApplyConfiguration) *corev1ac.PodTemplateSpecApplyConfiguration {
	spec := corev1ac.PodSpec()
	c.pods.apply(spec, container)
	return corev1ac.PodTemplateSpec().
		WithLabels(c.labels).
		WithAnnotations(c.podAnnotations).
		WithSpec(spec.WithContainers(container))
}

func deploymentObject(in Input, c child, spec *appsv1ac.DeploymentSpecApplyConfiguration) Object {
	d := appsv1ac.Deployment(c.name, in.Namespace).
		WithLabels(c.labels).
		WithAnnotations(c.annotations).
		WithSpec(spec)
	if owner := ownerReference(in); owner != nil {
		d.WithOwnerReferences(owner)
	}
	return Object{GVK: deploymentGVK, Name: c.name, Component: c.component, Function: c.function, Configuration: d}
}

func serviceObject(in Input, c child, name string, ports ...*corev1ac.ServicePortApplyConfiguration) Object {
	s := corev1ac.Service(name, in.Namespace).
		WithLabels(c.labels).
		WithAnnotations(c.annotations).
		WithSpec(corev1ac.ServiceSpec().WithSelector(c.selector).WithPorts(ports...))
	if owner := ownerReference(in); owner != nil {
		s.WithOwnerReferences(owner)
	}
	return Object{GVK: serviceGVK, Name: name, Component: c.component, Function: c.function, Configuration: s}
}

// containerPort names the port and its protocol: both are part of the key by
// which server-side apply merges the list.
func containerPort(name string, port int32) *corev1ac.ContainerPortApplyConfiguration {
	return corev1ac.ContainerPort().WithName(name).WithContainerPort(port).WithProtocol(corev1.ProtocolTCP)
}
