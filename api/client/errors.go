package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"oaas.io/control-plane/model"
)

// Codes that callers act on. Servers send more; see Error.Code.
const (
	CodeNotFound      = "not-found"
	CodeAlreadyExists = "already-exists"
	CodeNoLeader      = "no-leader"
	CodeNotConfigured = "not-configured"
)

// Error is an answer that is not a success.
type Error struct {
	// Status is the HTTP status.
	Status int
	// Code names the kind of problem, stable across versions. It is derived from
	// the status when the server sends none.
	Code string
	// Message says what is wrong and what to change.
	Message string
	// RequestID finds the request in the server's log; may be empty.
	RequestID string
	// Retryable says that the same request may succeed later.
	Retryable bool
	// Path, Line and Column locate a fault in the request's document; zero when
	// unknown.
	Path         string
	Line, Column int
	// Override is the query parameter with which the same request would not be
	// refused; empty when there is none.
	Override string
	// Problems are the single findings when there are several.
	Problems []model.Problem
	// Server is the URL of the node that answered.
	Server string
}

func (e *Error) Error() string { return e.Message }

// UnreachableError means that no server answered.
type UnreachableError struct {
	// Servers are the URLs that were tried.
	Servers []string
	// Sent is true when a write reached a server whose answer was lost: it may
	// have taken effect.
	Sent bool
	// Cause is the last failure.
	Cause error
}

func (e *UnreachableError) Error() string {
	text := fmt.Sprintf("no server answered (%s): %v", strings.Join(e.Servers, ", "), e.Cause)
	if e.Sent {
		text += "; the request may have taken effect"
	}
	return text
}

func (e *UnreachableError) Unwrap() error { return e.Cause }

// IsNotFound reports that the named object does not exist.
func IsNotFound(err error) bool { return statusOf(err) == http.StatusNotFound }

// IsConflict reports that the present state does not allow the request.
func IsConflict(err error) bool {
	s := statusOf(err)
	return s == http.StatusConflict || s == http.StatusPreconditionFailed
}

// IsUnavailable reports that no server could do the request now.
func IsUnavailable(err error) bool {
	var u *UnreachableError
	var e *Error
	return errors.As(err, &u) || errors.As(err, &e) && (e.Retryable || unavailable(e.Status))
}

func statusOf(err error) int {
	var e *Error
	if errors.As(err, &e) {
		return e.Status
	}
	return 0
}

func unavailable(status int) bool {
	return status == http.StatusBadGateway || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout
}

// wireProblem is an RFC 9457 document, or the {"error"} object of older servers.
type wireProblem struct {
	Title     string          `json:"title"`
	Detail    string          `json:"detail"`
	Error     string          `json:"error"`
	Code      string          `json:"code"`
	RequestID string          `json:"request_id"`
	Retryable *bool           `json:"retryable"`
	Path      string          `json:"path"`
	Line      int             `json:"line"`
	Column    int             `json:"column"`
	Override  string          `json:"override"`
	Problems  []model.Problem `json:"problems"`
}

// maxErrorText bounds what an answer that is not JSON may put into a message.
const maxErrorText = 300

// decodeError reads whatever a server or a proxy before it answered.
func decodeError(server string, resp *http.Response, body []byte) *Error {
	e := &Error{Status: resp.StatusCode, Server: server, RequestID: resp.Header.Get("X-Request-Id"), Code: codeOf(resp.StatusCode)}
	e.Retryable = resp.StatusCode == http.StatusTooManyRequests || unavailable(resp.StatusCode)
	var p wireProblem
	if err := json.Unmarshal(body, &p); err != nil {
		p = wireProblem{Detail: string(bytes.ToValidUTF8(body[:min(len(body), maxErrorText)], nil))}
	}
	for _, text := range []string{p.Detail, p.Error, p.Title, http.StatusText(resp.StatusCode), "status " + resp.Status} {
		if text = strings.TrimSpace(text); text != "" {
			e.Message = text
			break
		}
	}
	if p.Code != "" {
		e.Code = p.Code
	}
	if p.RequestID != "" {
		e.RequestID = p.RequestID
	}
	if p.Retryable != nil {
		e.Retryable = *p.Retryable
	}
	e.Path, e.Line, e.Column, e.Override, e.Problems = p.Path, p.Line, p.Column, p.Override, p.Problems
	return e
}

// codeOf is the code of an answer that names none.
func codeOf(status int) string {
	switch status {
	case http.StatusNotFound:
		return CodeNotFound
	case http.StatusConflict:
		return CodeAlreadyExists
	case http.StatusServiceUnavailable:
		return "unavailable"
	default:
		return strings.ToLower(strings.ReplaceAll(http.StatusText(status), " ", "-"))
	}
}
