package run

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"oaas.io/control-plane/jepsen/cluster"
	"oaas.io/control-plane/jepsen/history"
)

var classRuntimeResource = schema.GroupVersionResource{Group: "oaas.io", Version: "v1alpha1", Resource: "classruntimes"}

// classRuntimes reads what a crm has made from its API server, past the crm.
func classRuntimes(ctx context.Context, m *cluster.Manager) ([]history.Runtime, error) {
	client, err := dynamic.NewForConfig(m.Kubernetes().Config)
	if err != nil {
		return nil, err
	}
	list, err := client.Resource(classRuntimeResource).Namespace(m.Namespace()).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list class runtimes: %w", err)
	}
	have := make([]history.Runtime, 0, len(list.Items))
	for i := range list.Items {
		have = append(have, runtimeOf(&list.Items[i]))
	}
	return have, nil
}

func runtimeOf(o *unstructured.Unstructured) history.Runtime {
	// What is absent or of another type stays empty, and differs from what is wanted.
	uid, _, _ := unstructured.NestedString(o.Object, "spec", "delivery", "deployment_uid")
	hash, _, _ := unstructured.NestedString(o.Object, "spec", "delivery", "content_hash")
	epoch, _, _ := unstructured.NestedInt64(o.Object, "spec", "delivery", "epoch")
	fence, _, _ := unstructured.NestedInt64(o.Object, "spec", "delivery", "fence")
	return history.Runtime{
		Name: o.GetName(), UID: string(o.GetUID()), DeploymentUID: uid, Hash: hash,
		Epoch: uint64(max(epoch, 0)), Fence: uint64(max(fence, 0)), //nolint:gosec // not negative
	}
}
