package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"oaas.io/control-plane/model"
	"oaas.io/control-plane/registry"
)

const (
	// smallBody is read without asking for a share of MaxBufferedBytes.
	smallBody = 64 << 10
	// maxDepth bounds the nesting of JSON; the model needs eight levels.
	maxDepth = 64
	// unreadBodyTimeout bounds the wait for the rest of an unwanted body.
	unreadBodyTimeout = 2 * time.Second
)

// readDocument reads and decodes the request's JSON document. The second result
// is the document without white space: what is forwarded and hashed.
func readDocument[T any](s *Server, w http.ResponseWriter, r *http.Request, decode func([]byte) (*T, error)) (*T, []byte, error) {
	if err := checkMediaType(r.Header.Get(headerContentType)); err != nil {
		return nil, nil, err
	}
	raw, release, err := s.readBody(w, r)
	if err != nil {
		return nil, nil, err
	}
	defer release()
	if err := checkDepth(raw); err != nil {
		return nil, nil, err
	}
	// Size before meaning: decoding is the costly part.
	var compact bytes.Buffer
	if err := json.Compact(&compact, raw); err == nil && compact.Len() > s.opts.MaxDocumentBytes {
		return nil, nil, fail(registry.TooLarge, "The document has %d bytes without white space; at most %d fit into one change. Split the package or shorten what is long",
			compact.Len(), s.opts.MaxDocumentBytes)
	}
	doc, err := decode(raw)
	if err != nil {
		return nil, nil, decodeProblem(err)
	}
	return doc, bytes.Clone(compact.Bytes()), nil
}

func decodeProblem(err error) error {
	var bad *model.DecodeError
	if !errors.As(err, &bad) {
		return err
	}
	p := fail(codeSchema, "The document does not fit the model: %v", bad)
	if bad.Kind == model.Syntax {
		p = fail(codeMalformed, "Malformed JSON: %v", bad)
	}
	p.path, p.line, p.column = bad.Path, bad.Line, bad.Column
	return p
}

// checkMediaType accepts application/json and application/*+json in UTF-8.
func checkMediaType(value string) error {
	kind, params, err := mime.ParseMediaType(value)
	isJSON := kind == contentTypeJSON || strings.HasPrefix(kind, "application/") && strings.HasSuffix(kind, "+json")
	charset, has := params["charset"]
	if err != nil || !isJSON || has && !strings.EqualFold(charset, "utf-8") {
		return fail(codeMediaType, "The body must be sent with Content-Type: application/json, got %q", value)
	}
	return nil
}

// readBody reads the whole body within the limits. release gives back its share
// of the memory for bodies.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request) (raw []byte, release func(), err error) {
	release = func() {}
	if r.ContentLength > s.opts.MaxBodyBytes {
		return nil, release, &http.MaxBytesError{Limit: s.opts.MaxBodyBytes}
	}
	// The deadline is cleared afterwards: it would otherwise end a long ?wait.
	control := http.NewResponseController(w)
	if err := control.SetReadDeadline(time.Now().Add(s.opts.RequestTimeout)); err == nil {
		defer func() { _ = control.SetReadDeadline(time.Time{}) }()
	}
	body := http.MaxBytesReader(w, r.Body, s.opts.MaxBodyBytes)
	head, err := io.ReadAll(io.LimitReader(body, smallBody+1))
	if err != nil {
		return nil, release, bodyProblem(err)
	}
	if len(head) <= smallBody {
		return head, release, nil
	}
	share := s.opts.MaxBodyBytes
	if r.ContentLength > 0 {
		share = r.ContentLength
	}
	if !s.buffered.TryAcquire(share) {
		return nil, release, fail(codeOverloaded, "Too many large bodies at once; try again in a moment")
	}
	release = func() { s.buffered.Release(share) }
	rest, err := io.ReadAll(body)
	if err != nil {
		release()
		return nil, func() {}, bodyProblem(err)
	}
	return append(head, rest...), release, nil
}

func bodyProblem(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return err
	}
	return &problem{code: registry.InvalidArgument, detail: "The body could not be read to its end", cause: err}
}

// checkDepth refuses nesting that no document has, before anything recurses.
func checkDepth(raw []byte) error {
	depth, inString := 0, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{', c == '[':
			if depth++; depth > maxDepth {
				return fail(codeMalformed, "The document is nested deeper than %d levels", maxDepth)
			}
		case c == '}', c == ']':
			depth--
		}
	}
	return nil
}
