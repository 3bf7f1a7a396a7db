package dispatch

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
)

// Waiting codes: why a unit's wish is not acknowledged.
const (
	// WaitUnreachable: the cluster's manager does not answer.
	WaitUnreachable = "CLUSTER_UNREACHABLE"
	// WaitUnavailable: the manager answers, its Kubernetes API server does not.
	WaitUnavailable = "API_SERVER_UNAVAILABLE"
	// WaitTimeout: a call took longer than its deadline.
	WaitTimeout = "TIMEOUT"
	// WaitDeleting: the old runtime of that name is still being removed.
	WaitDeleting = "DELETING"
	// WaitRefused: the cluster refused the content; retrying cannot help.
	WaitRefused = "REFUSED"
	// WaitNameTaken: a runtime of that name belongs to someone else.
	WaitNameTaken = "NAME_TAKEN"
	// WaitFenced: the cluster has seen a newer change of this unit.
	WaitFenced = "FENCED"
	// WaitFailed: any other failure.
	WaitFailed = "FAILED"
)

// outcome is how a call about a unit ended.
type outcome struct {
	step
	// applied is the delivery that the stored runtime now carries, as the manager says, or
	// as is believed of one that tells of no deliveries: then mute is true.
	applied *oaaspb.Delivery
	mute    bool
	// gone is true when the cluster confirmed that the unit does not exist.
	gone bool
	// issued is true when a deletion was accepted but is not finished.
	issued bool
	// waiting is set when the call failed.
	waiting *pmpb.Waiting
	// soon asks for a short fixed pause rather than the backoff.
	soon bool
}

// answered reports that the cluster said anything at all. A manager whose API server
// is away and a connection that breaks look alike, and mean the same: the next call
// will fare no better.
func (o *outcome) answered() bool {
	code := o.waiting.GetCode()
	return code != WaitUnavailable && code != WaitTimeout
}

// call performs one step. It never returns an error: failures are part of the outcome.
func call(ctx context.Context, conn grpc.ClientConnInterface, s step, controlPlane string) outcome {
	out := outcome{step: s}
	client := oaaspb.NewDeploymentServiceClient(conn)
	delivery := deliveryOf(s.unit, controlPlane)
	// The correlation id ties the cluster's log lines and the runtime's annotation to the change.
	ctx = metadata.AppendToOutgoingContext(ctx, "x-correlation-id", fmt.Sprintf("%s/%d", s.unit.GetId(), s.unit.GetFence()))
	if s.do == remove || s.do == clearFirst {
		resp, err := client.DeleteDeployment(ctx, &oaaspb.DeleteDeploymentRequest{DeploymentId: s.unit.GetId(), Delivery: delivery})
		err = inBand(err, resp.GetStatus(), resp.GetMessage())
		switch {
		case status.Code(err) == codes.NotFound:
			out.gone = true
		case err != nil:
			out.waiting, out.soon = explain(err)
		default:
			out.issued = true
		}
		return out
	}
	unit, err := fsm.Desired(s.unit)
	if err != nil {
		out.waiting = &pmpb.Waiting{Code: WaitFailed, Message: err.Error(), Permanent: true}
		return out
	}
	unit.Delivery = delivery
	if at := s.unit.GetCreatedAt(); at != nil {
		unit.CreatedAt = &oaaspb.Timestamp{Seconds: at.GetSeconds(), Nanos: at.GetNanos()}
	}
	resp, err := client.Deploy(ctx, &oaaspb.DeployRequest{DeploymentUnit: unit})
	if err = inBand(err, resp.GetStatus(), resp.GetMessage()); err != nil {
		out.waiting, out.soon = explain(err)
		return out
	}
	// A manager without deliveries confirms by answering at all.
	out.applied, out.mute = delivery, true
	if a := resp.GetApplied(); a != nil {
		out.applied, out.mute = a, false
	}
	if !holdingOf(out.applied).carries(s.unit) {
		// Sending it again at once would get the same answer.
		out.waiting = &pmpb.Waiting{Code: WaitFenced, Message: fmt.Sprintf("the cluster answers that it has the change %d of epoch %d instead of %d of %d, or another content",
			out.applied.GetFence(), out.applied.GetEpoch(), s.unit.GetFence(), s.unit.GetEpoch())}
	}
	return out
}

// inBand treats an error status inside a successful answer as the failure it is.
func inBand(err error, code oaaspb.StatusCode, message string) error {
	if err != nil || code == oaaspb.StatusCode_OK {
		return err
	}
	as := map[oaaspb.StatusCode]codes.Code{
		oaaspb.StatusCode_NOT_FOUND:       codes.NotFound,
		oaaspb.StatusCode_INVALID_REQUEST: codes.InvalidArgument,
	}
	c, ok := as[code]
	if !ok {
		c = codes.Internal
	}
	return status.Error(c, message)
}

// explain classifies a failed call.
func explain(err error) (w *pmpb.Waiting, soon bool) {
	s := status.Convert(err)
	w = &pmpb.Waiting{Message: clip(s.Message())}
	switch s.Code() {
	case codes.Unavailable:
		w.Code = WaitUnavailable
	case codes.DeadlineExceeded, codes.Canceled:
		w.Code = WaitTimeout
	case codes.Aborted:
		w.Code, soon = WaitDeleting, true
	case codes.InvalidArgument, codes.ResourceExhausted, codes.Unimplemented, codes.PermissionDenied, codes.Unauthenticated:
		w.Code, w.Permanent = WaitRefused, true
	case codes.AlreadyExists:
		w.Code, w.Permanent = WaitNameTaken, true
	case codes.FailedPrecondition:
		w.Code, w.Permanent = WaitFenced, true
	default:
		w.Code = WaitFailed
	}
	return w, soon
}

func deliveryOf(u *pmpb.Unit, controlPlane string) *oaaspb.Delivery {
	return &oaaspb.Delivery{
		Epoch:          u.GetEpoch(),
		Fence:          u.GetFence(),
		Generation:     u.GetGeneration(),
		DeploymentUid:  u.GetDeploymentUid(),
		DeploymentKey:  u.GetDeploymentKey(),
		ControlPlaneId: controlPlane,
		ContentHash:    u.GetContentHash(),
	}
}
