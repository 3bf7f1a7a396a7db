package fsm

import (
	"errors"
	"fmt"
	"strings"

	"oaas.io/control-plane/proto/pmpb"
)

// Results of commands that had no effect. They are values of Result.Err.
var (
	// ErrTermMismatch: the command was proposed for another term than the one it
	// was appended in, so its author has been deposed meanwhile.
	ErrTermMismatch = errors.New("fsm: command was proposed in another term")
	// ErrUnknownCommand: the command's version, operation or a field of it is not
	// known to this build.
	ErrUnknownCommand = errors.New("fsm: command is of an unknown version or kind")
	// ErrMalformedCommand: the bytes are no command.
	ErrMalformedCommand = errors.New("fsm: malformed command")
	// ErrFeatureLevel: the command belongs to a feature level that the cluster has
	// not reached.
	ErrFeatureLevel = errors.New("fsm: command needs a higher feature level")
	// ErrReadOnly matches every *ReadOnlyError.
	ErrReadOnly = errors.New("fsm: read-only")
	// ErrIndexOrder: the log offered an entry that is not newer than the state.
	// It is the one error that does not even advance Meta.
	ErrIndexOrder = errors.New("fsm: log index is not newer than the state")
	// ErrCorruptSnapshot matches every *CorruptSnapshotError.
	ErrCorruptSnapshot = errors.New("fsm: corrupt snapshot")
)

// GuardError says which guard of a command did not hold.
type GuardError struct {
	Guard *pmpb.Guard
	// Have is the row's modify index, 0 when it is absent.
	Have uint64
}

func (e *GuardError) Error() string {
	return fmt.Sprintf("fsm: guard on %s %q: want modify index %d, have %d",
		e.Guard.GetTable(), e.Guard.GetKey(), e.Guard.GetModifyIndex(), e.Have)
}

// NotFoundError says that the row that a command is about does not exist.
type NotFoundError struct {
	// Table is one of the Table constants.
	Table string
	Key   string
}

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("fsm: no %q in %s", e.Key, e.Table)
}

// InUseError says that a row cannot be removed because another one needs it.
type InUseError struct {
	Table string
	Key   string
	// ByTable and By name one row that needs it.
	ByTable string
	By      string
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("fsm: %q in %s is used by %q in %s", e.Key, e.Table, e.By, e.ByTable)
}

// InvalidCommandError says that a command is well-formed but makes no sense, for
// instance a unit without an id or a uid that belongs to another deployment.
type InvalidCommandError struct {
	Reason string
	cause  error
}

func (e *InvalidCommandError) Error() string { return "fsm: invalid command: " + e.Reason }

// Unwrap gives the decoding error of a document, if that was the reason.
func (e *InvalidCommandError) Unwrap() error { return e.cause }

func invalidf(format string, args ...any) error {
	return &InvalidCommandError{Reason: fmt.Sprintf(format, args...)}
}

func invalidDocument(what string, err error) error {
	return &InvalidCommandError{Reason: fmt.Sprintf("%s document: %v", what, err), cause: err}
}

// IdempotencyConflictError says that an idempotency key was used before for a
// different request.
type IdempotencyConflictError struct {
	Key string
}

func (e *IdempotencyConflictError) Error() string {
	return fmt.Sprintf("fsm: idempotency key %q belongs to another request", e.Key)
}

// ReadOnlyError says that the state takes nothing new while alarms are raised.
// What removes or reports goes on.
type ReadOnlyError struct {
	Alarms []*pmpb.Alarm
}

func (e *ReadOnlyError) Error() string {
	texts := make([]string, len(e.Alarms))
	for i, a := range e.Alarms {
		texts[i] = fmt.Sprintf("%s on %s: %s", a.GetKey().GetKind(), a.GetKey().GetServerId(), a.GetMessage())
	}
	return "fsm: read-only: " + strings.Join(texts, "; ")
}

// Is makes errors.Is(err, ErrReadOnly) hold.
func (e *ReadOnlyError) Is(target error) bool { return target == ErrReadOnly }

// CorruptSnapshotError says what is wrong with a snapshot and where.
type CorruptSnapshotError struct {
	// Where is the part of the snapshot: header, a table, trailer or contents.
	Where string
	// Record is the number of the record in the stream, from 1; 0 outside of records.
	Record uint64
	Reason string
	cause  error
}

func (e *CorruptSnapshotError) Error() string {
	at := e.Where
	if e.Record > 0 {
		at = fmt.Sprintf("%s, record %d", e.Where, e.Record)
	}
	return fmt.Sprintf("fsm: corrupt snapshot: %s: %s", at, e.Reason)
}

// Unwrap gives the error of the reader or decoder below, if there was one.
func (e *CorruptSnapshotError) Unwrap() error { return e.cause }

// Is makes errors.Is(err, ErrCorruptSnapshot) hold.
func (e *CorruptSnapshotError) Is(target error) bool { return target == ErrCorruptSnapshot }
