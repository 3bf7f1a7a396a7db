package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Identity of the resource.
const (
	// Group is the API group.
	Group = "oaas.io"
	// Version is the only served version.
	Version = "v1alpha1"
	// Kind is the kind of one object.
	Kind = "ClassRuntime"
	// Resource is the plural name in URLs and RBAC rules.
	Resource = "classruntimes"
	// CRDName is the name of the custom resource definition.
	CRDName = Resource + "." + Group
)

var (
	// GroupVersion is oaas.io/v1alpha1.
	GroupVersion = schema.GroupVersion{Group: Group, Version: Version}
	// GroupVersionKind is that of a ClassRuntime.
	GroupVersionKind = GroupVersion.WithKind(Kind)
	// GroupVersionResource is that of a ClassRuntime.
	GroupVersionResource = GroupVersion.WithResource(Resource)

	// SchemeBuilder collects the functions that register the types.
	SchemeBuilder = runtime.NewSchemeBuilder(addKnownTypes)
	// AddToScheme registers the types of this package with a scheme.
	AddToScheme = SchemeBuilder.AddToScheme
)

func addKnownTypes(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion, &ClassRuntime{}, &ClassRuntimeList{})
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}
