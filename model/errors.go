package model

import (
	"fmt"
	"strings"
)

// DecodeErrorKind tells a document that is not well formed from one that does
// not fit the model.
type DecodeErrorKind uint8

// The kinds of DecodeError. Over HTTP, Syntax is 400 and Schema is 422.
const (
	Syntax DecodeErrorKind = iota + 1
	Schema
)

func (k DecodeErrorKind) String() string {
	if k == Syntax {
		return "syntax"
	}
	return "schema"
}

// DecodeError says why and where a document cannot be decoded.
type DecodeError struct {
	Kind DecodeErrorKind
	// Path is where the value stands, such as classes[0].key. It is empty for
	// syntax errors and for the document as a whole.
	Path string
	// Line and Column count from 1; a column is a character. Column is 0 when the
	// parser knows the line only.
	Line, Column int
	// Offset counts bytes from 0. It is -1 for YAML, where only lines are known.
	Offset int64
	// Msg says what is wrong and, where it can, what would be right.
	Msg string

	at int64 // where the value starts, in the terms of the source; see source.locate
}

func (e *DecodeError) Error() string {
	var b strings.Builder
	if e.Path != "" {
		b.WriteString(e.Path)
		b.WriteString(": ")
	}
	b.WriteString(e.Msg)
	switch {
	case e.Line > 0 && e.Column > 0:
		fmt.Fprintf(&b, " (line %d, column %d)", e.Line, e.Column)
	case e.Line > 0:
		fmt.Fprintf(&b, " (line %d)", e.Line)
	}
	return b.String()
}

// within puts the error one level deeper: step is .field or [index].
func (e *DecodeError) within(step string) *DecodeError {
	e.Path = step + e.Path
	return e
}

func schemaError(n *node, format string, args ...any) *DecodeError {
	return &DecodeError{Kind: Schema, Msg: fmt.Sprintf(format, args...), at: n.at}
}

// Problem is one finding of Validate.
type Problem struct {
	// Path is where the value stands, such as functions[2].provision_config.port.
	Path string `json:"path"`
	// Message says what is wrong and what to change.
	Message string `json:"message"`
}

func (p Problem) String() string { return p.Path + ": " + p.Message }

// ValidationError lists everything that Validate found, in document order.
type ValidationError struct{ Problems []Problem }

func (e *ValidationError) Error() string {
	texts := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		texts[i] = p.String()
	}
	return strings.Join(texts, "; ")
}
