package model

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// codec is everything that can be done with a value of type V without knowing
// which field it stands in.
type codec[V any] interface {
	// decode sets *v from n as a whole; nothing of the old value remains.
	decode(n *node, v *V) *DecodeError
	// initial sets *v to what an absent field means.
	initial(v *V)
	// append writes the canonical JSON form.
	append(b []byte, v *V) ([]byte, error)
	// empty reports whether a field that is omitted when empty is left out.
	empty(v *V) bool
	// clone makes *dst equal to *src and share nothing mutable with it.
	clone(dst, src *V)
}

func mismatch(n *node, want string) *DecodeError {
	switch n.kind {
	case nodeNumber, nodeBool:
		return schemaError(n, "must be %s, got %s (%s)", want, n.kind, clip(n.text))
	default:
		return schemaError(n, "must be %s, got %s", want, n.kind)
	}
}

// clip keeps messages short whatever the input holds.
func clip(s string) string {
	const most = 40
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// scalar supplies what types without inner structure have in common.
type scalar[V comparable] struct{}

func (scalar[V]) initial(v *V)      { *v = *new(V) }
func (scalar[V]) empty(v *V) bool   { return *v == *new(V) }
func (scalar[V]) clone(dst, src *V) { *dst = *src }

type textCodec struct{ scalar[string] }

func (textCodec) decode(n *node, v *string) *DecodeError {
	// A plain null is text only where nothing at all was written: FOO: is "".
	textual := n.plain && n.kind < nodeString && (n.kind != nodeNull || n.text == "")
	if n.kind != nodeString && !textual {
		return mismatch(n, "a string")
	}
	*v = n.text
	return nil
}

func (textCodec) append(b []byte, v *string) ([]byte, error) { return appendString(b, *v), nil }

type boolCodec struct{ scalar[bool] }

func (boolCodec) decode(n *node, v *bool) *DecodeError {
	if n.kind != nodeBool {
		return mismatch(n, "true or false")
	}
	*v = n.text[0]|0x20 == 't' // YAML also spells True and TRUE
	return nil
}

func (boolCodec) append(b []byte, v *bool) ([]byte, error) { return strconv.AppendBool(b, *v), nil }

type unsigned interface{ uint16 | uint32 | uint64 }

type uintCodec[V unsigned] struct{ scalar[V] }

func (uintCodec[V]) decode(n *node, v *V) *DecodeError {
	highest := uint64(^V(0))
	if n.kind != nodeNumber {
		return mismatch(n, fmt.Sprintf("a whole number within 0..%d", highest))
	}
	parsed, err := strconv.ParseUint(n.number, 10, 64)
	if err != nil || parsed > highest {
		return schemaError(n, "must be a whole number within 0..%d, without fraction or exponent, got %s", highest, clip(n.text))
	}
	*v = V(parsed)
	return nil
}

func (uintCodec[V]) append(b []byte, v *V) ([]byte, error) {
	return strconv.AppendUint(b, uint64(*v), 10), nil
}

type floatCodec struct{ scalar[float64] }

func (floatCodec) decode(n *node, v *float64) *DecodeError {
	if n.kind != nodeNumber {
		return mismatch(n, "a number")
	}
	parsed, err := strconv.ParseFloat(n.number, 64)
	if err != nil {
		return schemaError(n, "must be a number that a 64-bit float can hold, got %s", clip(n.text))
	}
	*v = parsed
	return nil
}

func (floatCodec) append(b []byte, v *float64) ([]byte, error) { return appendFloat(b, *v) }

type timeCodec struct{}

func (timeCodec) decode(n *node, v *time.Time) *DecodeError {
	var text string
	if err := (textCodec{}).decode(n, &text); err != nil {
		return mismatch(n, "a time such as 2026-03-05T19:36:16Z")
	}
	// RFC 3339 allows t and z in lower case, Go's parser does not.
	strict := []byte(text)
	if len(strict) > 10 && strict[10] == 't' {
		strict[10] = 'T'
	}
	if last := len(strict) - 1; last >= 0 && strict[last] == 'z' {
		strict[last] = 'Z'
	}
	var t time.Time
	if err := t.UnmarshalText(strict); err != nil {
		return schemaError(n, "must be an RFC 3339 time with offset such as 2026-03-05T19:36:16Z, got %q", clip(text))
	}
	if t = t.UTC(); t.Year() < 0 || t.Year() > 9999 {
		return schemaError(n, "must be a time within the years 0..9999 in UTC, got %q", clip(text))
	}
	*v = t
	return nil
}

func (timeCodec) initial(v *time.Time)                          { *v = time.Time{} }
func (timeCodec) empty(v *time.Time) bool                       { return v.IsZero() }
func (timeCodec) clone(dst, src *time.Time)                     { *dst = *src }
func (timeCodec) append(b []byte, v *time.Time) ([]byte, error) { return appendTime(b, *v) }

// enumCodec admits the listed values only. The first is the default when
// hasDefault is set.
type enumCodec[V ~string] struct {
	scalar[V]
	values     []V
	hasDefault bool
}

func enum[V ~string](values ...V) enumCodec[V] { return enumCodec[V]{values: values} }

func (c enumCodec[V]) firstIsDefault() enumCodec[V] {
	c.hasDefault = true
	return c
}

func (c enumCodec[V]) decode(n *node, v *V) *DecodeError {
	if n.kind != nodeString {
		return mismatch(n, "one of "+c.list())
	}
	i := slices.Index(c.values, V(n.text))
	if i < 0 {
		return schemaError(n, "must be one of %s, got %q", c.list(), clip(n.text))
	}
	*v = c.values[i]
	return nil
}

func (c enumCodec[V]) list() string {
	texts := make([]string, len(c.values))
	for i, v := range c.values {
		texts[i] = string(v)
	}
	return strings.Join(texts, ", ")
}

func (c enumCodec[V]) initial(v *V) {
	*v = ""
	if c.hasDefault {
		*v = c.values[0]
	}
}

// append writes the default for a value that was never set.
func (c enumCodec[V]) append(b []byte, v *V) ([]byte, error) {
	value := *v
	if value == "" {
		c.initial(&value)
	}
	if !slices.Contains(c.values, value) {
		return b, fmt.Errorf("%q is not one of %s", string(value), c.list())
	}
	return appendString(b, string(value)), nil
}

// optionalCodec is a value that may be null.
type optionalCodec[V any] struct{ of codec[V] }

func (c optionalCodec[V]) decode(n *node, v **V) *DecodeError {
	if n.kind == nodeNull {
		*v = nil
		return nil
	}
	*v = new(V)
	return c.of.decode(n, *v)
}

func (optionalCodec[V]) initial(v **V)    { *v = nil }
func (optionalCodec[V]) empty(v **V) bool { return *v == nil }

func (c optionalCodec[V]) append(b []byte, v **V) ([]byte, error) {
	if *v == nil {
		return append(b, "null"...), nil
	}
	return c.of.append(b, *v)
}

func (c optionalCodec[V]) clone(dst, src **V) {
	if *src == nil {
		*dst = nil
		return
	}
	copied := new(V)
	c.of.clone(copied, *src)
	*dst = copied
}

type listCodec[V any] struct{ of codec[V] }

func list[V any](of codec[V]) listCodec[V] { return listCodec[V]{of} }

func (c listCodec[V]) decode(n *node, v *[]V) *DecodeError {
	if n.kind != nodeArray {
		return mismatch(n, "an array")
	}
	*v = nil
	if len(n.items) == 0 {
		return nil
	}
	out := make([]V, len(n.items))
	for i := range n.items {
		if err := c.of.decode(&n.items[i], &out[i]); err != nil {
			return err.within("[" + strconv.Itoa(i) + "]")
		}
	}
	*v = out
	return nil
}

func (listCodec[V]) initial(v *[]V)    { *v = nil }
func (listCodec[V]) empty(v *[]V) bool { return len(*v) == 0 }

func (c listCodec[V]) append(b []byte, v *[]V) ([]byte, error) {
	b = append(b, '[')
	for i := range *v {
		if i > 0 {
			b = append(b, ',')
		}
		var err error
		if b, err = c.of.append(b, &(*v)[i]); err != nil {
			return b, fmt.Errorf("[%d]: %w", i, err)
		}
	}
	return append(b, ']'), nil
}

func (c listCodec[V]) clone(dst, src *[]V) {
	if len(*src) == 0 {
		*dst = nil
		return
	}
	out := make([]V, len(*src))
	for i := range *src {
		c.of.clone(&out[i], &(*src)[i])
	}
	*dst = out
}

type dictCodec[V any] struct{ of codec[V] }

func dict[V any](of codec[V]) dictCodec[V] { return dictCodec[V]{of} }

func (c dictCodec[V]) decode(n *node, v *map[string]V) *DecodeError {
	if n.kind != nodeObject {
		return mismatch(n, "an object")
	}
	*v = nil
	if len(n.members) == 0 {
		return nil
	}
	out := make(map[string]V, len(n.members))
	for i := range n.members {
		m := &n.members[i]
		if _, twice := out[m.name]; twice {
			return schemaError(&m.value, "appears twice, remove one").within(keyStep(m.name))
		}
		var value V
		if err := c.of.decode(&m.value, &value); err != nil {
			return err.within(keyStep(m.name))
		}
		out[m.name] = value
	}
	*v = out
	return nil
}

func (dictCodec[V]) initial(v *map[string]V)    { *v = nil }
func (dictCodec[V]) empty(v *map[string]V) bool { return len(*v) == 0 }

func (c dictCodec[V]) append(b []byte, v *map[string]V) ([]byte, error) {
	b = append(b, '{')
	for i, key := range slices.Sorted(maps.Keys(*v)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, key), ':')
		value := (*v)[key]
		var err error
		if b, err = c.of.append(b, &value); err != nil {
			return b, fmt.Errorf("%s: %w", key, err)
		}
	}
	return append(b, '}'), nil
}

func (c dictCodec[V]) clone(dst, src *map[string]V) {
	if len(*src) == 0 {
		*dst = nil
		return
	}
	out := make(map[string]V, len(*src))
	for key, value := range *src {
		var copied V
		c.of.clone(&copied, &value)
		out[key] = copied
	}
	*dst = out
}

// keyStep is the path step of a map key: .KEY, or ["k.e y"] where a dot would
// mislead.
func keyStep(key string) string {
	if key != "" && strings.Trim(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") == "" {
		return "." + key
	}
	return "[" + strconv.Quote(clip(key)) + "]"
}
