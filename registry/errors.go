package registry

import (
	"context"
	"errors"
	"fmt"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/raftstore"
)

// Code classifies an Error. The API maps each code to one HTTP status and one
// problem type.
type Code string

// The codes. A client may retry Unavailable, ReadOnly and NoLeader as they are, and
// OutcomeUnknown with the same idempotency key.
const (
	// InvalidArgument: the request itself is wrong, whatever the state.
	InvalidArgument Code = "invalid-argument"
	// Unprocessable: well formed, but it breaks a rule of the model.
	Unprocessable Code = "unprocessable"
	// NotFound: the named object does not exist.
	NotFound Code = "not-found"
	// AlreadyExists: the name is taken.
	AlreadyExists Code = "already-exists"
	// FailedPrecondition: the state does not allow it now, for instance a
	// dependency is missing.
	FailedPrecondition Code = "failed-precondition"
	// PreconditionFailed: the client's own If-Match or If-None-Match does not hold.
	PreconditionFailed Code = "precondition-failed"
	// Conflict: other writers kept changing what the decision was based on.
	Conflict Code = "conflict"
	// IdempotencyMismatch: the idempotency key was used for another request.
	IdempotencyMismatch Code = "idempotency-mismatch"
	// TooLarge: the document does not fit into one command.
	TooLarge Code = "too-large"
	// NoLeader: no leader is known or this node is not it any more; nothing was done.
	NoLeader Code = "no-leader"
	// OutcomeUnknown: the write may or may not take effect.
	OutcomeUnknown Code = "outcome-unknown"
	// DeadlineExceeded: the request's time ran out before anything was proposed.
	DeadlineExceeded Code = "deadline-exceeded"
	// ReadOnly: an alarm is raised, so nothing new is taken; deleting goes on.
	ReadOnly Code = "read-only"
	// Unavailable: the node is stopping or too far behind.
	Unavailable Code = "unavailable"
	// Internal: a fault of this program.
	Internal Code = "internal"
)

// Error is the only error type that operations return, besides *Replayed.
type Error struct {
	Code Code
	// Message says what is wrong and what to change, for the user.
	Message string
	// Problems are the single findings when there are several.
	Problems []model.Problem
	cause    error
}

func (e *Error) Error() string { return e.Message }

// Unwrap gives the cause, for logs.
func (e *Error) Unwrap() error { return e.cause }

// CodeOf gives the Code of err, or Internal when err carries none.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return Internal
}

// Replayed is returned instead of an outcome when the request's idempotency key
// was already answered: Reply holds the answer of the first time.
type Replayed struct{ Reply *pmpb.Reply }

func (r *Replayed) Error() string {
	return fmt.Sprintf("request with idempotency key %q was answered before", r.Reply.GetKey())
}

func errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// invalid turns a failed model validation into an Error that lists all findings.
func invalid(what string, err error) *Error {
	out := &Error{Code: Unprocessable, Message: fmt.Sprintf("Invalid %s: %v", what, err), cause: err}
	var v *model.ValidationError
	if errors.As(err, &v) {
		out.Problems = v.Problems
	}
	return out
}

// fromStore types an error of the store or the state machine.
func fromStore(err error) error {
	var (
		own      *Error
		notFound *fsm.NotFoundError
		mismatch *fsm.IdempotencyConflictError
		guard    *fsm.GuardError
		inUse    *fsm.InUseError
		refused  *fsm.InvalidCommandError
		readOnly *fsm.ReadOnlyError
	)
	wrap := func(code Code, format string, args ...any) *Error {
		e := errorf(code, format, args...)
		e.cause = err
		return e
	}
	switch {
	case err == nil:
		return nil
	case errors.As(err, &own):
		return own
	case errors.Is(err, raftstore.ErrNotLeader), errors.Is(err, raftstore.ErrNoLeader), errors.Is(err, fsm.ErrTermMismatch):
		return wrap(NoLeader, "This node is not the leader and no other leader is known yet; nothing was done, try again")
	case errors.Is(err, raftstore.ErrOutcomeUnknown):
		return wrap(OutcomeUnknown, "The write was proposed but its outcome is unknown; retry with the same Idempotency-Key or read the state before retrying")
	case errors.Is(err, raftstore.ErrTooLarge):
		return wrap(TooLarge, "The document is too large for one change: %v", err)
	case errors.Is(err, raftstore.ErrShutdown):
		return wrap(Unavailable, "This node is stopping; try another one")
	case errors.As(err, &mismatch):
		return wrap(IdempotencyMismatch, "Idempotency-Key %q was already used for another request; use a new key", mismatch.Key)
	case errors.As(err, &notFound):
		return wrap(NotFound, "%v", err)
	case errors.As(err, &refused):
		return wrap(InvalidArgument, "%v", err)
	case errors.As(err, &readOnly):
		e := wrap(ReadOnly, "The cluster takes nothing new while an alarm is raised; deleting still works, and the alarm clears by itself when its cause is gone")
		for _, a := range readOnly.Alarms {
			e.Problems = append(e.Problems, model.Problem{Path: a.GetKey().GetServerId(), Message: a.GetMessage()})
		}
		return e
	case errors.As(err, &inUse):
		return wrap(FailedPrecondition, "%v", err)
	case errors.As(err, &guard):
		return wrap(Conflict, "The state changed while the request was decided, several times in a row; try again")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return wrap(DeadlineExceeded, "The request's time ran out before anything was changed")
	default:
		return wrap(Internal, "Internal error: %v", err)
	}
}
