package controller

import (
	"errors"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"oaas.io/control-plane/crm/api/v1alpha1"
)

// A namespace that is being deleted forbids what is new in it, and says why in a cause. A
// person has other things to do about that than about a missing right.
func TestFaultOfANamespaceThatGoes(t *testing.T) {
	t.Parallel()
	refused := apierrors.NewForbidden(schema.GroupResource{Group: "apps", Resource: "deployments"}, "record-1", errors.New("unable to create new content"))
	if got := applyFault(&ApplyError{Err: refused}, time.Now()).Reason; got != v1alpha1.ReasonForbidden {
		t.Errorf("without a cause: %s", got)
	}
	refused.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	if got := applyFault(&ApplyError{Err: refused}, time.Now()).Reason; got != v1alpha1.ReasonNamespaceTerminating {
		t.Errorf("with the cause: %s", got)
	}
}
