package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"oaas.io/control-plane/model"
	"oaas.io/control-plane/registry"
)

// The codes of problems that arise before or outside of the registry.
const (
	codeMalformed        registry.Code = "malformed-json"
	codeSchema           registry.Code = "schema-mismatch"
	codeMediaType        registry.Code = "unsupported-media-type"
	codeMethod           registry.Code = "method-not-allowed"
	codeOverloaded       registry.Code = "overloaded"
	codeNotConfigured    registry.Code = "not-configured"
	codeNotImplemented   registry.Code = "not-implemented"
	codeGatewayFailed    registry.Code = "gateway-failed"
	codeCompacted        registry.Code = "compacted"
	problemTypePrefix                  = "https://oaas.io/problems/"
	retryAfterSeconds                  = 1
	contentTypeProblem                 = "application/problem+json"
	contentTypeJSON                    = "application/json"
	headerRetryAfter                   = "Retry-After"
	headerContentType                  = "Content-Type"
	headerContentLength                = "Content-Length"
	headerIdempotencyKey               = "Idempotency-Key"
	headerForwardedFor                 = "X-Forwarded-For"
)

// ProblemType is one kind of error answer.
type ProblemType struct {
	Code   registry.Code
	Status int
	Title  string
	// Retryable says that the same request may succeed later, without a change
	// and without the risk of doing it twice.
	Retryable bool
}

// Type is the URI that names the problem type in answers.
func (p ProblemType) Type() string { return problemTypePrefix + string(p.Code) }

// ProblemTypes is the one table of error code, HTTP status and problem type.
func ProblemTypes() []ProblemType {
	return []ProblemType{
		{registry.InvalidArgument, http.StatusBadRequest, "The request is wrong", false},
		{codeMalformed, http.StatusBadRequest, "The body is not JSON", false},
		{registry.NotFound, http.StatusNotFound, "Not found", false},
		{codeMethod, http.StatusMethodNotAllowed, "The resource does not know this method", false},
		{registry.AlreadyExists, http.StatusConflict, "The name is taken", false},
		{registry.FailedPrecondition, http.StatusConflict, "The present state does not allow it", false},
		{registry.Conflict, http.StatusConflict, "Concurrent changes", true},
		{codeCompacted, http.StatusGone, "The history does not reach back that far", false},
		{registry.PreconditionFailed, http.StatusPreconditionFailed, "The request's own condition does not hold", false},
		{registry.TooLarge, http.StatusRequestEntityTooLarge, "Too large", false},
		{codeMediaType, http.StatusUnsupportedMediaType, "The body must be JSON", false},
		{registry.Unprocessable, http.StatusUnprocessableEntity, "The document breaks a rule", false},
		{codeSchema, http.StatusUnprocessableEntity, "The document does not fit the model", false},
		{registry.IdempotencyMismatch, http.StatusUnprocessableEntity, "The idempotency key belongs to another request", false},
		{codeOverloaded, http.StatusTooManyRequests, "Too much at once", true},
		{registry.Internal, http.StatusInternalServerError, "Internal error", false},
		{codeNotImplemented, http.StatusNotImplemented, "Not available in this system", false},
		{registry.NoLeader, http.StatusServiceUnavailable, "No leader", true},
		{registry.OutcomeUnknown, http.StatusServiceUnavailable, "The outcome is unknown", false},
		{registry.DeadlineExceeded, http.StatusServiceUnavailable, "Out of time", true},
		{registry.ReadOnly, http.StatusServiceUnavailable, "The cluster is read-only", true},
		{registry.Unavailable, http.StatusServiceUnavailable, "This node cannot answer now", true},
		{codeNotConfigured, http.StatusServiceUnavailable, "Not configured", false},
		{codeGatewayFailed, http.StatusServiceUnavailable, "The gateway cannot be reached", true},
	}
}

var problemTypes = func() map[registry.Code]ProblemType {
	byCode := map[registry.Code]ProblemType{}
	for _, p := range ProblemTypes() {
		byCode[p.Code] = p
	}
	return byCode
}()

// problem is an error with what its answer needs beyond code and text.
type problem struct {
	code     registry.Code
	detail   string
	problems []model.Problem
	// line and column locate a fault in the body; 0 when unknown.
	line, column int
	// path is the JSON path of a fault in the body.
	path string
	// override is the query parameter with which the same request is not refused,
	// when there is one. Clients word it in their own terms.
	override string
	// oldest is the oldest index that a stream can begin at, when that is the problem.
	oldest uint64
	// retryable overrides the problem type's when not nil.
	retryable *bool
	cause     error
}

func (p *problem) Error() string { return p.detail }
func (p *problem) Unwrap() error { return p.cause }

func fail(code registry.Code, format string, args ...any) *problem {
	return &problem{code: code, detail: fmt.Sprintf(format, args...)}
}

// problemOf turns any error of a handler into a problem.
func problemOf(err error) *problem {
	var (
		own      *problem
		op       *registry.Error
		tooLarge *http.MaxBytesError
	)
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &op):
		return &problem{code: op.Code, detail: op.Message, problems: op.Problems, cause: err}
	case errors.As(err, &tooLarge):
		return fail(registry.TooLarge, "The body is larger than the allowed %d bytes", tooLarge.Limit)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return &problem{code: registry.DeadlineExceeded, detail: "The request's time ran out before anything was changed", cause: err}
	default:
		return &problem{code: registry.Internal, detail: "Internal error; the log has more under the request id", cause: err}
	}
}

// codeOf gives the code that err would be answered with.
func codeOf(err error) registry.Code { return problemOf(err).code }

// problemBody is an RFC 9457 document. Error repeats the detail for clients of
// the older system, which read that member only.
type problemBody struct {
	Type      string        `json:"type"`
	Title     string        `json:"title"`
	Status    int           `json:"status"`
	Detail    string        `json:"detail"`
	Instance  string        `json:"instance"`
	Code      registry.Code `json:"code"`
	RequestID string        `json:"request_id"`
	Retryable bool          `json:"retryable"`
	Error     string        `json:"error"`
	Path      string        `json:"path,omitempty"`
	Line      int           `json:"line,omitempty"`
	Column    int           `json:"column,omitempty"`
	Override  string        `json:"override,omitempty"`
	Oldest    uint64        `json:"oldest_index,omitempty"`
	Problems  []finding     `json:"problems,omitempty"`
}

// finding is one of several things that are wrong with a document.
type finding struct {
	Path    string `json:"path"`
	Message string `json:"message"`
}

// writeProblem answers with err. It is only called before anything was written.
func (s *Server) writeProblem(w http.ResponseWriter, r *http.Request, err error) {
	p := problemOf(err)
	kind, known := problemTypes[p.code]
	if !known {
		kind = problemTypes[registry.Internal]
	}
	c := callOf(r.Context())
	if kind.Status == http.StatusInternalServerError {
		s.log.Error("request failed", "request_id", c.id, "method", r.Method, "path", r.URL.Path, "error", cause(err))
	}
	body := problemBody{
		Type: kind.Type(), Title: kind.Title, Status: kind.Status, Detail: p.detail, Instance: r.URL.EscapedPath(),
		Code: kind.Code, RequestID: c.id, Retryable: kind.Retryable, Error: p.detail,
		Path: p.path, Line: p.line, Column: p.column, Override: p.override, Oldest: p.oldest,
	}
	if p.retryable != nil {
		body.Retryable = *p.retryable
	}
	for _, f := range p.problems {
		body.Problems = append(body.Problems, finding{Path: f.Path, Message: f.Message})
	}
	raw, err := json.Marshal(body)
	if err != nil { // texts and numbers only: cannot fail
		raw = []byte(`{"error":"Internal error"}`)
	}
	h := w.Header()
	h.Del("ETag")
	h.Set(headerContentType, contentTypeProblem)
	h.Set(headerContentLength, strconv.Itoa(len(raw)))
	if body.Retryable && h.Get(headerRetryAfter) == "" {
		h.Set(headerRetryAfter, strconv.Itoa(retryAfterSeconds))
	}
	w.WriteHeader(kind.Status)
	_, _ = w.Write(raw) // the client is gone if this fails
}

// cause gives the innermost text that a log line should have.
func cause(err error) error {
	var p *problem
	if errors.As(err, &p) && p.cause != nil {
		return p.cause
	}
	var op *registry.Error
	if errors.As(err, &op) && op.Unwrap() != nil {
		return op.Unwrap()
	}
	return err
}
