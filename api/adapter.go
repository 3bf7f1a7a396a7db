package api

import (
	"context"
	"errors"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/raftstore"
	"oaas.io/control-plane/registry"
)

// operatorProblem gives the errors of the node their codes.
func operatorProblem(err error) error {
	var own *problem
	var op *registry.Error
	var guard *fsm.GuardError
	wrap := func(code registry.Code, detail string) error { return &problem{code: code, detail: detail, cause: err} }
	switch {
	case errors.As(err, &own), errors.As(err, &op):
		return err
	case errors.Is(err, raftstore.ErrNotLeader), errors.Is(err, raftstore.ErrNoLeader):
		return errNoLeader()
	case errors.Is(err, raftstore.ErrOutcomeUnknown):
		return wrap(registry.OutcomeUnknown, "The change was proposed and may or may not take effect; look before trying again")
	case errors.Is(err, raftstore.ErrShutdown):
		return wrap(registry.Unavailable, "This node is stopping")
	case errors.Is(err, fsm.ErrFeatureLevel):
		return wrap(registry.FailedPrecondition, err.Error())
	case errors.As(err, &guard):
		return wrap(registry.PreconditionFailed, "The settings were changed meanwhile; read them again")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return err
	default:
		return wrap(registry.Internal, err.Error())
	}
}
