package controller

import (
	"errors"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/crm/lifecycle"
)

// applyFault puts a failure to apply one child into the table of reasons.
func applyFault(err error, since time.Time) *lifecycle.Fault {
	fault := &lifecycle.Fault{Reason: v1alpha1.ReasonApplyFailed, Message: err.Error(), Since: since}
	var conflict *ConflictError
	var taken *TakenError
	switch {
	case errors.As(err, &conflict):
		fault.Reason = v1alpha1.ReasonFieldConflict
	case errors.As(err, &taken):
		fault.Reason = v1alpha1.ReasonNameTaken
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		fault.Reason = v1alpha1.ReasonNamespaceTerminating
	case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "exceeded quota"):
		fault.Reason = v1alpha1.ReasonQuotaExceeded
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		fault.Reason = v1alpha1.ReasonForbidden
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err), tooLarge(err):
		fault.Reason = v1alpha1.ReasonApplyRejected
	case meta.IsNoMatchError(err), apierrors.IsNotFound(err) && !namespaceGone(err):
		// What is written with an apply is made when it is missing. Only its API can
		// be the one that is not found.
		fault.Reason = v1alpha1.ReasonCapabilityMissing
	}
	return fault
}

// namespaceGone reports whether what was not found is the namespace.
func namespaceGone(err error) bool {
	var api apierrors.APIStatus
	return errors.As(err, &api) && api.Status().Details != nil && api.Status().Details.Kind == "namespaces"
}

// tooLarge reports whether an object is larger than the cluster stores. What only
// etcd refuses has no code of its own and looks like a server in trouble.
func tooLarge(err error) bool {
	return apierrors.IsRequestEntityTooLargeError(err) ||
		strings.Contains(err.Error(), "etcdserver: request is too large") ||
		strings.Contains(err.Error(), "trying to send message larger than max")
}
