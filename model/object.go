package model

import (
	"fmt"
	"strings"
)

// objectCodec is the field table of a type.
type objectCodec[T any] struct{ fields []field[T] }

// field is one line of a table. Its functions hide the type of the field.
type field[T any] struct {
	name      string
	label     []byte // `"name":`
	required  bool
	omitEmpty bool

	decode  func(n *node, t *T) *DecodeError
	initial func(t *T)
	append  func(b []byte, t *T) ([]byte, error)
	empty   func(t *T) bool
	clone   func(dst, src *T)
}

// object makes a table. It holds at most 64 fields: decode keeps a bit for each.
func object[T any](fields ...field[T]) objectCodec[T] { return objectCodec[T]{fields} }

// req is a field that must be present and not null.
func req[T, V any](name string, c codec[V], at func(*T) *V) field[T] {
	f := def(name, c, at)
	f.required = true
	return f
}

// nul is a field that may be absent or null; both mean unset.
func nul[T, V any](name string, c codec[V], at func(*T) **V) field[T] {
	return def[T, *V](name, optionalCodec[V]{c}, at)
}

// def is a field that may be absent, which means its default, but not null.
func def[T, V any](name string, c codec[V], at func(*T) *V) field[T] {
	return field[T]{
		name:    name,
		label:   append(appendString(nil, name), ':'),
		decode:  func(n *node, t *T) *DecodeError { return c.decode(n, at(t)) },
		initial: func(t *T) { c.initial(at(t)) },
		append:  func(b []byte, t *T) ([]byte, error) { return c.append(b, at(t)) },
		empty:   func(t *T) bool { return c.empty(at(t)) },
		clone:   func(dst, src *T) { c.clone(at(dst), at(src)) },
	}
}

// omit leaves the field out of the JSON form when it is unset or empty.
func (f field[T]) omit() field[T] {
	f.omitEmpty = true
	return f
}

func (o objectCodec[T]) decode(n *node, t *T) *DecodeError {
	if n.kind != nodeObject {
		return mismatch(n, "an object")
	}
	var seen uint64
	next := 0
	for i := range n.members {
		m := &n.members[i]
		at := o.find(m.name, next)
		if at < 0 {
			if n.strict {
				return schemaError(&m.value, "is none of %s", o.names()).within("." + m.name)
			}
			continue // unknown fields are ignored
		}
		next = at + 1
		f := &o.fields[at]
		if seen&(1<<at) != 0 {
			return schemaError(&m.value, "appears twice, remove one").within("." + f.name)
		}
		seen |= 1 << at
		if err := f.decode(&m.value, t); err != nil {
			return err.within("." + f.name)
		}
	}
	for i := range o.fields {
		f := &o.fields[i]
		if seen&(1<<i) != 0 {
			continue
		}
		if f.required {
			return schemaError(n, "is required but missing").within("." + f.name)
		}
		f.initial(t)
	}
	return nil
}

func (o objectCodec[T]) names() string {
	names := make([]string, len(o.fields))
	for i := range o.fields {
		names[i] = o.fields[i].name
	}
	return strings.Join(names, ", ")
}

// find looks for a field from position next on: documents that we wrote
// ourselves have table order, so the first comparison succeeds.
func (o objectCodec[T]) find(name string, next int) int {
	for i := range o.fields {
		at := (next + i) % len(o.fields)
		if o.fields[at].name == name {
			return at
		}
	}
	return -1
}

func (o objectCodec[T]) initial(t *T) {
	for i := range o.fields {
		o.fields[i].initial(t)
	}
}

// empty is never true: tables stand behind optionalCodec where they may be left
// out.
func (objectCodec[T]) empty(*T) bool { return false }

func (o objectCodec[T]) append(b []byte, t *T) ([]byte, error) {
	b = append(b, '{')
	first := true
	for i := range o.fields {
		f := &o.fields[i]
		if f.omitEmpty && f.empty(t) {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		var err error
		if b, err = f.append(append(b, f.label...), t); err != nil {
			return b, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return append(b, '}'), nil
}

func (o objectCodec[T]) clone(dst, src *T) {
	for i := range o.fields {
		o.fields[i].clone(dst, src)
	}
}
