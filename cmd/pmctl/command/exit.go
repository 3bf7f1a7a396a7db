package command

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"oaas.io/control-plane/api/client"
	"oaas.io/control-plane/model"
)

// The exit codes of pmctl. They are documented and stable.
const (
	ExitOK          = 0
	ExitFailure     = 1
	ExitUsage       = 2
	ExitNotFound    = 3
	ExitConflict    = 4
	ExitUnavailable = 5
)

// usageError is a mistake on the command line.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// notFoundError is an object that a list does not have.
type notFoundError struct {
	kind, name string
	// lister is the command that shows what there is.
	lister string
}

func (e *notFoundError) Error() string { return fmt.Sprintf("%s %q not found", e.kind, e.name) }

// timeoutError is a wait that ended before what it waited for.
type timeoutError struct{ text string }

func (e *timeoutError) Error() string { return e.text }

// refusedError is a refusal that a dry run found.
type refusedError struct{ text string }

func (e *refusedError) Error() string { return e.text }

// hinted adds what the user can do about an error.
type hinted struct {
	err  error
	hint string
}

func (e *hinted) Error() string { return e.err.Error() }
func (e *hinted) Unwrap() error { return e.err }

// exitCode classifies an error.
func exitCode(err error) int {
	var (
		usage   *usageError
		missing *notFoundError
		timeout *timeoutError
		refused *refusedError
	)
	var plan *planOutcome
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &plan):
		return plan.code
	case errors.As(err, &usage):
		return ExitUsage
	case errors.As(err, &missing), client.IsNotFound(err):
		return ExitNotFound
	case errors.As(err, &refused), client.IsConflict(err):
		return ExitConflict
	case errors.As(err, &timeout), errors.Is(err, context.DeadlineExceeded), client.IsUnavailable(err):
		return ExitUnavailable
	default:
		return ExitFailure
	}
}

// report writes an error for people: what, where, and what to do.
func (a *app) report(err error) {
	a.errorf("error: %s\n", strings.TrimSpace(err.Error()))
	var (
		answer  *client.Error
		invalid *model.ValidationError
	)
	switch {
	case errors.As(err, &answer):
		if len(answer.Problems) > 1 {
			a.problems(answer.Problems)
		}
		if answer.Status >= http.StatusInternalServerError && answer.RequestID != "" {
			a.errorf("  request id: %s (server %s)\n", answer.RequestID, answer.Server)
		}
	case errors.As(err, &invalid):
		a.problems(invalid.Problems)
	}
	if hint := a.hint(err); hint != "" {
		a.errorf("hint: %s\n", hint)
	}
}

func (a *app) problems(list []model.Problem) {
	for _, p := range list {
		a.errorf("  - %s\n", p)
	}
}

func (a *app) hint(err error) string {
	var (
		own     *hinted
		usage   *usageError
		missing *notFoundError
		gone    *client.UnreachableError
		answer  *client.Error
	)
	switch {
	case errors.As(err, &own):
		return own.hint
	case errors.As(err, &usage):
		return "see 'pmctl --help', or --help after any command"
	case errors.As(err, &missing):
		return fmt.Sprintf("'pmctl %s' lists what there is", missing.lister)
	case errors.As(err, &gone):
		return "is pmd running there? Choose servers with --server, PMCTL_SERVER or 'pmctl config set-context'"
	case errors.As(err, &answer):
		return answerHint(answer)
	}
	return ""
}

func answerHint(e *client.Error) string {
	switch {
	case e.Code == client.CodeNoLeader:
		return "the cluster is electing a leader or has lost its majority; 'pmctl get members' asks the nodes"
	case e.Status == http.StatusNotFound && strings.HasPrefix(e.Message, "Package"):
		return "'pmctl get packages' lists what there is; apply the package before its deployments"
	case e.Status == http.StatusNotFound && strings.HasPrefix(e.Message, "Deployment"):
		return "'pmctl get deployments' lists what there is"
	case strings.HasPrefix(e.Message, "Invalid target envs"):
		return "'pmctl get envs' lists the environments"
	case e.Override != "":
		return overrideHint(e.Override)
	case e.Retryable:
		return "try again"
	}
	return ""
}

// overrideHint words what overrides a refusal: flags have the names of the query
// parameters that they set.
func overrideHint(parameter string) string { return "--" + parameter + " does it all the same" }
