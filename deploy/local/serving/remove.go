package serving

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsclient "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset/typed/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
)

// groupSuffix is what the API groups of all of Knative's definitions end in.
const groupSuffix = ".knative.dev"

// withoutFinalizers is a merge patch.
var withoutFinalizers = []byte(`{"metadata":{"finalizers":null}}`)

// remover takes the definitions away.
type remover struct {
	definitions apiextensionsclient.CustomResourceDefinitionInterface
	objects     dynamic.Interface
	discovery   discovery.DiscoveryInterface
}

// Remove ends the reconcilers and deletes the API with all objects of its kinds. It returns when the API server has forgotten
// the API. Pods and the like that belonged to these objects are left to Kubernetes' garbage collector, as on every cluster.
func (s *Serving) Remove(ctx context.Context) error {
	stopped := s.Stop(ctx)
	config := s.cluster.RESTConfig()
	extensions, err := apiextensionsclient.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("remove Knative: %w", err)
	}
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("remove Knative: %w", err)
	}
	found, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return fmt.Errorf("remove Knative: %w", err)
	}
	r := remover{definitions: extensions.CustomResourceDefinitions(), objects: objects, discovery: found}
	if err := s.cluster.Await(ctx, "Knative's definitions are gone", r.removed); err != nil {
		return fmt.Errorf("remove Knative: %w", err)
	}
	if err := s.cluster.Await(ctx, "Knative's API is gone", r.forgotten); err != nil {
		return fmt.Errorf("remove Knative: %w", err)
	}
	return stopped
}

// removed does what is to be done about the definitions that are left, and is nil when there are none.
func (r *remover) removed(ctx context.Context) error {
	list, err := r.definitions.List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list the definitions: %w", err)
	}
	var left []error
	for i := range list.Items {
		definition := &list.Items[i]
		if !strings.HasSuffix(definition.Spec.Group, groupSuffix) {
			continue
		}
		if err := r.remove(ctx, definition); err != nil {
			left = append(left, fmt.Errorf("%s is still there: %w", definition.Name, err))
			continue
		}
		left = append(left, fmt.Errorf("%s is still there", definition.Name))
	}
	return errors.Join(left...)
}

// remove takes the next step for one definition. The look at its objects comes first for another reason too: the API server
// makes the storage of a kind when it is first used, and a deletion that finds it unmade fails.
func (r *remover) remove(ctx context.Context, definition *apiextensionsv1.CustomResourceDefinition) error {
	if err := r.release(ctx, definition); err != nil {
		return err
	}
	var err error
	switch {
	case definition.DeletionTimestamp == nil:
		err = r.definitions.Delete(ctx, definition.Name, metav1.DeleteOptions{})
	case deletionFailed(definition):
		// Kubernetes tries a failed deletion again, but gives up for good if its own note about the failure gets in the way. Any
		// change of the definition makes it look again.
		patch := fmt.Appendf(nil, `{"metadata":{"annotations":{"oaas.io/retry":%q}}}`, definition.ResourceVersion)
		_, err = r.definitions.Patch(ctx, definition.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	}
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// deletionFailed says whether Kubernetes has noted that it could not delete the objects of a definition.
func deletionFailed(definition *apiextensionsv1.CustomResourceDefinition) bool {
	return slices.ContainsFunc(definition.Status.Conditions, func(c apiextensionsv1.CustomResourceDefinitionCondition) bool {
		return c.Type == apiextensionsv1.Terminating && c.Reason == "InstanceDeletionFailed"
	})
}

// release takes the finalizers from the objects of a definition. With the reconcilers gone, nobody is left who would do so; and
// while they run, they find objects of the other definitions missing, and some of them never let go.
func (r *remover) release(ctx context.Context, definition *apiextensionsv1.CustomResourceDefinition) error {
	stored := slices.IndexFunc(definition.Spec.Versions, func(v apiextensionsv1.CustomResourceDefinitionVersion) bool { return v.Storage })
	if stored < 0 {
		return fmt.Errorf("%s stores no version", definition.Name)
	}
	resource := r.objects.Resource(schema.GroupVersionResource{
		Group: definition.Spec.Group, Version: definition.Spec.Versions[stored].Name, Resource: definition.Spec.Names.Plural,
	})
	list, err := resource.List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list %s: %w", definition.Name, err)
	}
	for i := range list.Items {
		object := &list.Items[i]
		if len(object.GetFinalizers()) == 0 {
			continue
		}
		_, err := resource.Namespace(object.GetNamespace()).Patch(ctx, object.GetName(), types.MergePatchType, withoutFinalizers, metav1.PatchOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("release %s %s: %w", definition.Name, object.GetName(), err)
		}
	}
	return nil
}

// forgotten is nil when no group of Knative's is served: the API server notices a moment after the definitions have gone.
func (r *remover) forgotten(context.Context) error {
	groups, err := r.discovery.ServerGroups()
	if err != nil {
		return fmt.Errorf("ask for the API groups: %w", err)
	}
	for _, group := range groups.Groups {
		if strings.HasSuffix(group.Name, groupSuffix) {
			return fmt.Errorf("the API group %s is still served", group.Name)
		}
	}
	return nil
}
