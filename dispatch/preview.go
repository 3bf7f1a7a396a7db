package dispatch

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"oaas.io/control-plane/proto/oaaspb"
)

// PreviewUnsupported is the code of managers that know no previews, such as those of
// oaas-rs.
const PreviewUnsupported = "UNSUPPORTED"

// PreviewError is why a cluster would not take a unit, or cannot tell.
type PreviewError struct {
	code, message string
	refused       bool
}

// Error implements error.
func (e *PreviewError) Error() string { return e.code + ": " + e.message }

// Code is PreviewUnsupported or one of the waiting codes.
func (e *PreviewError) Code() string { return e.code }

// Message is the code in words.
func (e *PreviewError) Message() string { return e.message }

// Refused is true when the cluster would not take the unit, and false when it could not
// be asked.
func (e *PreviewError) Refused() bool { return e.refused }

// previewTimeout is how long somebody who looks at a plan waits for a cluster that may
// not answer at all.
const previewTimeout = 5 * time.Second

// Preview asks the manager of a cluster what the unit would do there. It changes
// nothing, and works on every node. The connection is opened for it: who leads has
// others, which are for what has to be done. Errors are *PreviewError.
func (m *Manager) Preview(ctx context.Context, cluster, address string, unit *oaaspb.DeploymentUnit) (*oaaspb.UnitPreview, error) {
	conn, err := m.opts.Dial(cluster, address)
	if err != nil {
		return nil, &PreviewError{code: WaitUnreachable, message: err.Error()}
	}
	defer func() { _ = conn.Close() }() // nothing is in flight any more
	ctx, cancel := context.WithTimeout(ctx, min(previewTimeout, m.opts.CallTimeout))
	defer cancel()
	reached := connected(ctx, conn)
	out, err := oaaspb.NewAgentServiceClient(conn).PreviewUnit(ctx, &oaaspb.PreviewUnitRequest{DeploymentUnit: unit})
	if err == nil {
		return out, nil
	}
	if status.Code(err) == codes.Unimplemented {
		return nil, &PreviewError{code: PreviewUnsupported, message: "the environment's manager knows no previews"}
	}
	w, _ := explain(err)
	if w.GetCode() == WaitUnavailable && !reached {
		w.Code = WaitUnreachable
	}
	if why, untrusted := untrustedBecause(err); untrusted {
		w.Message = why
	}
	return nil, &PreviewError{code: w.GetCode(), message: w.GetMessage(), refused: w.GetPermanent()}
}

// connected reports whether the connection comes about before the context ends. What a
// call says afterwards cannot tell: a manager's own Unavailable and that of a connection
// that never was look alike, and the state of a connection follows its first answers.
func connected(ctx context.Context, conn *grpc.ClientConn) bool {
	conn.Connect()
	for {
		switch state := conn.GetState(); state {
		case connectivity.Ready:
			return true
		case connectivity.TransientFailure, connectivity.Shutdown:
			return false
		default:
			if !conn.WaitForStateChange(ctx, state) {
				return false
			}
		}
	}
}
