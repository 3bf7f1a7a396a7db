package template

import (
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"

	"k8s.io/apimachinery/pkg/types"

	"oaas.io/control-plane/crm/api/v1alpha1"
)

// Labels and annotations of children.
const (
	// LabelOwner ties a child to its ClassRuntime; watches select by it.
	LabelOwner = "oaas.io/owner"
	// LabelClass is the class of an object store.
	LabelClass = "oaas.io/class"
	// LabelFunction is the key of the function, cut to a label value.
	LabelFunction = "oaas.io/function"
	// LabelApp is the name of the workload.
	LabelApp = "app"

	// AnnotationFunctionKey is the whole key of the function.
	AnnotationFunctionKey = "oaas.io/function-key"
	// AnnotationUnit is the id of the deployment unit.
	AnnotationUnit = "oaas.io/unit"
	// AnnotationDeployment is the key of the deployment.
	AnnotationDeployment = "oaas.io/deployment"
	// AnnotationHTTP2 marks pods that speak HTTP/2 without TLS.
	AnnotationHTTP2 = "oaas.io/http2"

	labelManagedBy = "app.kubernetes.io/managed-by"
	labelName      = "app.kubernetes.io/name"
	labelInstance  = "app.kubernetes.io/instance"
	labelComponent = "app.kubernetes.io/component"
	labelPartOf    = "app.kubernetes.io/part-of"

	// ManagedBy is the value of app.kubernetes.io/managed-by on every child.
	ManagedBy = "oaas-crm"
)

// child is what all objects of one component share.
type child struct {
	name      string
	component Component
	function  int
	// selector never changes for the life of the child.
	selector map[string]string
	// labels and annotations of the objects, selector included.
	labels, annotations map[string]string
	// podAnnotations of the pods, nil if none.
	podAnnotations map[string]string
	pods           PodOptions
}

func newChild(in Input, name string, component Component, function int) child {
	c := child{
		name: name, component: component, function: function,
		selector:    map[string]string{LabelApp: name, LabelOwner: OwnerLabel(in.Name)},
		annotations: map[string]string{}, pods: in.Environment.Pods,
	}
	if component == ComponentODGM && in.Spec.PackageClassKey != "" {
		c.selector[LabelClass] = LabelValue(in.Spec.PackageClassKey)
	}
	c.labels = map[string]string{
		labelManagedBy: ManagedBy,
		labelName:      string(component),
		labelInstance:  name,
		labelComponent: string(component),
	}
	if in.Spec.PackageClassKey != "" {
		c.labels[labelPartOf] = LabelValue(in.Spec.PackageClassKey)
	}
	if function >= 0 {
		key := in.Spec.Functions[function].FunctionKey
		c.labels[LabelFunction] = LabelValue(key)
		c.annotations[AnnotationFunctionKey] = key
	}
	for k, v := range c.selector {
		c.labels[k] = v
	}
	if d := in.Spec.Delivery; d != nil {
		c.annotations[AnnotationUnit] = d.UnitID
		if d.DeploymentKey != "" {
			c.annotations[AnnotationDeployment] = d.DeploymentKey
		}
	}
	return c
}

// ownerReference makes the garbage collector remove children whose finalizer
// never ran. It is nil without a UID.
func ownerReference(in Input) *metav1ac.OwnerReferenceApplyConfiguration {
	if in.UID == "" {
		return nil
	}
	return metav1ac.OwnerReference().
		WithAPIVersion(v1alpha1.GroupVersion.String()).
		WithKind(v1alpha1.Kind).
		WithName(in.Name).
		WithUID(types.UID(in.UID)).
		WithController(true).
		WithBlockOwnerDeletion(true)
}
