package crm

import (
	"context"
	"errors"
	"fmt"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/deploy/crd"
)

const (
	// installer is the field manager of what is installed at the start.
	installer = "oaas-crm-installer"
	// prepareTimeout bounds one attempt to make the cluster ready for work.
	prepareTimeout = 30 * time.Second
	pollInterval   = 200 * time.Millisecond
)

// newScheme knows every type that the manager reads or writes.
func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	if err := errors.Join(
		clientgoscheme.AddToScheme(scheme),
		apiextensionsv1.AddToScheme(scheme),
		v1alpha1.AddToScheme(scheme),
		servingv1.AddToScheme(scheme),
	); err != nil {
		return nil, fmt.Errorf("build the scheme: %w", err)
	}
	return scheme, nil
}

// prepare makes sure that the cluster has what the manager needs before its
// caches start: an informer on a kind that does not exist would fail it.
func (m *manager) prepare(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, prepareTimeout)
	defer cancel()
	c, err := client.New(m.opts.RESTConfig, client.Options{Scheme: m.scheme})
	if err != nil {
		return fmt.Errorf("kubernetes client: %w", err)
	}
	if m.opts.InstallCRD {
		if err := installCRD(ctx, c); err != nil {
			return err
		}
	}
	if err := waitForCRD(ctx, c, m.opts.Namespace); err != nil {
		return err
	}
	if m.opts.CreateNamespace {
		return ensureNamespace(ctx, c, m.opts.Namespace)
	}
	return nil
}

func installCRD(ctx context.Context, c client.Client) error {
	definition := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(crd.YAML, &definition.Object); err != nil {
		return fmt.Errorf("decode the custom resource definition: %w", err)
	}
	// What the generator writes beside the definition is not ours to apply.
	unstructured.RemoveNestedField(definition.Object, "status")
	unstructured.RemoveNestedField(definition.Object, "metadata", "creationTimestamp")
	err := c.Apply(ctx, client.ApplyConfigurationFromUnstructured(definition), client.FieldOwner(installer), client.ForceOwnership)
	if err != nil {
		return fmt.Errorf("install the custom resource definition: %w", err)
	}
	return nil
}

// waitForCRD returns once class runtimes can be listed. It asks for the objects
// themselves, because a manager may have no right to read definitions.
func waitForCRD(ctx context.Context, c client.Client, namespace string) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		err := c.List(ctx, &v1alpha1.ClassRuntimeList{}, client.InNamespace(namespace), client.Limit(1))
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the custom resource definition %s: %w", v1alpha1.CRDName, err)
		case <-ticker.C:
		}
	}
}

func ensureNamespace(ctx context.Context, c client.Client, name string) error {
	err := c.Get(ctx, types.NamespacedName{Name: name}, &corev1.Namespace{})
	if err == nil || !apierrors.IsNotFound(err) {
		// Without the right to look, the namespace is somebody else's concern.
		return client.IgnoreNotFound(ignoreForbidden(err))
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := c.Create(ctx, namespace, client.FieldOwner(installer)); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create namespace %s: %w", name, err)
	}
	return nil
}

func ignoreForbidden(err error) error {
	if apierrors.IsForbidden(err) {
		return nil
	}
	return err
}

// mayWatchNodes asks the API server whether nodes can be read. They belong to the
// cluster, so a manager that is confined to its namespace has no right to them.
func (m *manager) mayWatchNodes(ctx context.Context) (bool, error) {
	clients, err := kubernetes.NewForConfig(m.opts.RESTConfig)
	if err != nil {
		return false, fmt.Errorf("kubernetes client: %w", err)
	}
	for _, verb := range []string{"list", "watch"} {
		review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: verb, Resource: "nodes"},
		}}
		answer, err := clients.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
		if err != nil {
			return false, fmt.Errorf("ask for the right to %s nodes: %w", verb, err)
		}
		if !answer.Status.Allowed {
			return false, nil
		}
	}
	return true, nil
}
