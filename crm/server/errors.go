package server

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// errorDomain names who defines the reasons in google.rpc.ErrorInfo.
const errorDomain = "oaas.io"

// Reasons in google.rpc.ErrorInfo. A caller may branch on them; the text is for
// people.
const (
	ReasonStaleFence      = "STALE_FENCE"
	ReasonContentMismatch = "CONTENT_MISMATCH"
	ReasonTombstoned      = "TOMBSTONED"
	ReasonOtherOwner      = "OTHER_OWNER"
	ReasonDeleting        = "BEING_DELETED"
	ReasonAPIServer       = "API_SERVER_UNAVAILABLE"
	ReasonNamespace       = "NAMESPACE_UNAVAILABLE"
	ReasonRight           = "RIGHT_MISSING"
	ReasonRefused         = "REFUSED_BY_API_SERVER"
)

// refusal is an error with a machine-readable reason.
func refusal(code codes.Code, reason, format string, args ...any) error {
	return withDetails(status.New(code, fmt.Sprintf(format, args...)),
		&errdetails.ErrorInfo{Reason: reason, Domain: errorDomain})
}

// fieldError says that one field of the request is not acceptable and why.
func fieldError(field, format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	return withDetails(status.Newf(codes.InvalidArgument, "%s: %s", field, text),
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: field, Description: text}}})
}

func withDetails(st *status.Status, details ...protoadapt.MessageV1) error {
	if detailed, err := st.WithDetails(details...); err == nil {
		return detailed.Err()
	}
	return st.Err()
}

// errUnavailable is what every call gets while the API server is away.
func errUnavailable(cause error) error {
	text := "the cluster's Kubernetes API server cannot be reached; retry later"
	if cause != nil {
		text += ": " + cause.Error()
	}
	return refusal(codes.Unavailable, ReasonAPIServer, "%s", text)
}

// fromKubernetes turns an error of the Kubernetes client into a gRPC status.
// what says what was being done, for the text.
func fromKubernetes(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	if ctxErr := ctx.Err(); ctxErr != nil {
		if errors.Is(context.Cause(ctx), errBudget) {
			return errUnavailable(errBudget)
		}
		return status.FromContextError(ctxErr).Err()
	}
	text := fmt.Sprintf("%s: %v", what, err)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, text)
	case errors.Is(err, context.Canceled):
		return errUnavailable(err)
	case tooLarge(err):
		return status.Error(codes.InvalidArgument, text)
	case namespaceMissing(err):
		return refusal(codes.Unavailable, ReasonNamespace, "the manager's namespace does not exist in the cluster; create it: %s", text)
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return refusal(codes.Unavailable, ReasonNamespace, "the manager's namespace is being deleted in the cluster; retry when it is there again: %s", text)
	case apierrors.IsNotFound(err):
		// Callers tell the absence of an object themselves. What is left is a
		// definition that does not exist: no statement about a unit.
		return refusal(codes.Unavailable, ReasonAPIServer, "%s", text)
	case apierrors.IsAlreadyExists(err):
		return status.Error(codes.AlreadyExists, text)
	case apierrors.IsConflict(err):
		return status.Error(codes.Aborted, text)
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		return invalid(err)
	case RightMissing(err):
		// Says nothing of the unit either, which is taken as soon as the right is given.
		return refusal(codes.Unavailable, ReasonRight, "the manager lacks a right in the cluster: %s", text)
	case apierrors.IsForbidden(err):
		return status.Error(codes.PermissionDenied, text)
	case meta.IsNoMatchError(err):
		// The CRD is missing: someone may install it, so it is worth a retry.
		return errUnavailable(err)
	case apierrors.ReasonForError(err) == metav1.StatusReasonUnknown,
		apierrors.IsInternalError(err), apierrors.IsServerTimeout(err), apierrors.IsTimeout(err),
		apierrors.IsTooManyRequests(err), apierrors.IsServiceUnavailable(err):
		return errUnavailable(err)
	}
	return status.Error(codes.Internal, text)
}

// RightMissing reports whether the API server does not let this identity do something at
// all. Quotas, admission plugins and a namespace that is being deleted forbid things, too;
// only the authorizer says that somebody cannot do them.
func RightMissing(err error) bool {
	text := err.Error()
	return apierrors.IsUnauthorized(err) ||
		apierrors.IsForbidden(err) && strings.Contains(text, " cannot ") && strings.Contains(text, " resource ")
}

// reasonOf is the machine-readable reason of an error, empty without one.
func reasonOf(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

// namespaceMissing reports whether what was not found is the namespace.
func namespaceMissing(err error) bool {
	var api apierrors.APIStatus
	return apierrors.IsNotFound(err) && errors.As(err, &api) && api.Status().Details != nil && api.Status().Details.Kind == "namespaces"
}

// absent reports whether the API server itself said that it has no such object.
// The 404 of a server that does not know the kind, or of a proxy that does not
// know the API, says nothing about the object.
func absent(err error) bool {
	return apierrors.IsNotFound(err) && !apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
}

// tooLarge reports whether an object is larger than the cluster stores. What only
// etcd refuses has no code of its own.
func tooLarge(err error) bool {
	return apierrors.IsRequestEntityTooLargeError(err) ||
		strings.Contains(err.Error(), "etcdserver: request is too large") ||
		strings.Contains(err.Error(), "trying to send message larger than max")
}

// invalid tells a refusal by the transition rules of the delivery (somebody was
// faster, or the message is old) from content that can never be accepted.
func invalid(err error) error {
	var api apierrors.APIStatus
	if !errors.As(err, &api) || api.Status().Details == nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	var violations []*errdetails.BadRequest_FieldViolation
	for _, cause := range api.Status().Details.Causes {
		if strings.HasPrefix(cause.Field, deliveryField) || cause.Field == "spec" && strings.Contains(cause.Message, "delivery") {
			return refusal(codes.FailedPrecondition, ReasonRefused,
				"the Kubernetes API server refused the change: %s: %s", cause.Field, cause.Message)
		}
		violations = append(violations, &errdetails.BadRequest_FieldViolation{Field: cause.Field, Description: cause.Message})
	}
	return withDetails(status.New(codes.InvalidArgument, err.Error()), &errdetails.BadRequest{FieldViolations: violations})
}

// deliveryField is the path of the delivery in the custom resource.
const deliveryField = "spec.delivery"
