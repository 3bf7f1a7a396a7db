package serving

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

// ScaleAnnotation of a PodAutoscaler is the number of pods that the load of its revision would need. In the template of a
// Service it is that of its new revisions.
const ScaleAnnotation = "sim.kwok/scale"

// autoscalers are the objects that have the decisions of Knative's autoscaler.
var autoscalers = schema.GroupVersionResource{Group: "autoscaling.internal.knative.dev", Version: "v1alpha1", Resource: "podautoscalers"}

// Scale gives a revision a load for that many pods. The bounds of the revision hold as always.
func (s *Serving) Scale(ctx context.Context, namespace, revision string, pods int) error {
	client, err := dynamic.NewForConfig(s.cluster.RESTConfig())
	if err != nil {
		return fmt.Errorf("scale revision %s: %w", revision, err)
	}
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:"%d"}}}`, ScaleAnnotation, pods)
	if _, err := client.Resource(autoscalers).Namespace(namespace).Patch(ctx, revision, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("scale revision %s: %w", revision, err)
	}
	return nil
}
