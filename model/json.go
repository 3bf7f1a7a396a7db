package model

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonParser reads RFC 8259 text into nodes. It differs from encoding/json in
// what a store must not let pass: invalid UTF-8 and lone surrogates are errors
// rather than silently replaced. Strings without escapes share the memory of the
// input.
type jsonParser struct {
	in    string
	pos   int
	depth int
	// members and items are those of the objects and arrays around pos, the innermost
	// last. A node gets them when it is complete, in a slice of the right size.
	members []member
	items   []node
}

// jsonParsers keeps the buffers of parsers that are not in use.
var jsonParsers = sync.Pool{New: func() any { return new(jsonParser) }}

// release gives the buffers back, without what they hold of the document.
func (p *jsonParser) release() {
	const most = 1 << 10 // a large document must not be remembered
	if cap(p.members) > most || cap(p.items) > most {
		return
	}
	clear(p.members[:cap(p.members)])
	clear(p.items[:cap(p.items)])
	*p = jsonParser{members: p.members[:0], items: p.items[:0]}
	jsonParsers.Put(p)
}

// parseJSON reads one document. Only white space may follow it.
func parseJSON(in string) (node, *DecodeError) {
	p := jsonParsers.Get().(*jsonParser)
	defer p.release()
	p.in = in
	p.space()
	root, err := p.value()
	if err != nil {
		return node{}, err
	}
	p.space()
	if p.pos < len(p.in) {
		return node{}, p.unexpected("the end of the document")
	}
	return root, nil
}

func (p *jsonParser) fail(at int, format string, args ...any) *DecodeError {
	return &DecodeError{Kind: Syntax, Msg: fmt.Sprintf(format, args...), at: int64(at)}
}

func (p *jsonParser) unexpected(want string) *DecodeError {
	if p.pos >= len(p.in) {
		if strings.TrimSpace(p.in) == "" {
			return p.fail(p.pos, "the document is empty, expected %s", want)
		}
		return p.fail(p.pos, "unexpected end of the document, expected %s", want)
	}
	c, _ := utf8.DecodeRuneInString(p.in[p.pos:])
	return p.fail(p.pos, "unexpected character %q, expected %s", c, want)
}

func (p *jsonParser) space() {
	for p.pos < len(p.in) {
		switch p.in[p.pos] {
		case ' ', '\t', '\n', '\r':
			p.pos++
		default:
			return
		}
	}
}

// next reports whether c comes next and steps over it.
func (p *jsonParser) next(c byte) bool {
	if p.pos < len(p.in) && p.in[p.pos] == c {
		p.pos++
		return true
	}
	return false
}

func (p *jsonParser) value() (node, *DecodeError) {
	if p.pos >= len(p.in) {
		return node{}, p.unexpected("a value")
	}
	start := p.pos
	switch c := p.in[p.pos]; {
	case c == '{':
		return p.nested(p.object)
	case c == '[':
		return p.nested(p.array)
	case c == '"':
		text, err := p.str()
		return node{kind: nodeString, text: text, at: int64(start)}, err
	case c == '-' || (c >= '0' && c <= '9'):
		return p.num()
	}
	for _, l := range [...]struct {
		text string
		kind nodeKind
	}{{"null", nodeNull}, {"true", nodeBool}, {"false", nodeBool}} {
		if strings.HasPrefix(p.in[p.pos:], l.text) {
			p.pos += len(l.text)
			return node{kind: l.kind, text: l.text, at: int64(start)}, nil
		}
	}
	return node{}, p.unexpected("a value")
}

func (p *jsonParser) nested(read func() (node, *DecodeError)) (node, *DecodeError) {
	if p.depth == maxDepth {
		return node{}, p.fail(p.pos, "nested deeper than %d levels", maxDepth)
	}
	p.depth++
	n, err := read()
	p.depth--
	return n, err
}

func (p *jsonParser) object() (node, *DecodeError) {
	n := node{kind: nodeObject, at: int64(p.pos)}
	p.pos++
	p.space()
	if p.next('}') {
		return n, nil
	}
	first := len(p.members)
	for {
		if p.pos >= len(p.in) || p.in[p.pos] != '"' {
			return node{}, p.unexpected("a field name in double quotes")
		}
		name, err := p.str()
		if err != nil {
			return node{}, err
		}
		p.space()
		if !p.next(':') {
			return node{}, p.unexpected("':' after the field name")
		}
		p.space()
		value, err := p.value()
		if err != nil {
			return node{}, err
		}
		p.members = append(p.members, member{name, value})
		p.space()
		if p.next('}') {
			n.members = slices.Clone(p.members[first:])
			p.members = p.members[:first]
			return n, nil
		}
		if !p.next(',') {
			return node{}, p.unexpected("',' or '}'")
		}
		p.space()
	}
}

func (p *jsonParser) array() (node, *DecodeError) {
	n := node{kind: nodeArray, at: int64(p.pos)}
	p.pos++
	p.space()
	if p.next(']') {
		return n, nil
	}
	first := len(p.items)
	for {
		item, err := p.value()
		if err != nil {
			return node{}, err
		}
		p.items = append(p.items, item)
		p.space()
		if p.next(']') {
			n.items = slices.Clone(p.items[first:])
			p.items = p.items[:first]
			return n, nil
		}
		if !p.next(',') {
			return node{}, p.unexpected("',' or ']'")
		}
		p.space()
	}
}

func (p *jsonParser) num() (node, *DecodeError) {
	start := p.pos
	p.next('-')
	if !p.next('0') && !p.digits() {
		return node{}, p.unexpected("a digit")
	}
	if p.next('.') && !p.digits() {
		return node{}, p.unexpected("a digit after the decimal point")
	}
	if p.next('e') || p.next('E') {
		if !p.next('+') {
			p.next('-')
		}
		if !p.digits() {
			return node{}, p.unexpected("a digit in the exponent")
		}
	}
	literal := p.in[start:p.pos]
	return node{kind: nodeNumber, text: literal, number: literal, at: int64(start)}, nil
}

func (p *jsonParser) digits() bool {
	start := p.pos
	for p.pos < len(p.in) && p.in[p.pos] >= '0' && p.in[p.pos] <= '9' {
		p.pos++
	}
	return p.pos > start
}

// str reads a string. The opening quote is known to be there.
func (p *jsonParser) str() (string, *DecodeError) {
	open := p.pos
	p.pos++
	start, ascii := p.pos, true
	for p.pos < len(p.in) {
		switch c := p.in[p.pos]; {
		case c == '"':
			text := p.in[start:p.pos]
			p.pos++
			return text, p.checkUTF8(start, text, ascii)
		case c == '\\':
			return p.escaped(open, start)
		case c < 0x20:
			return "", p.fail(p.pos, "control character in a string, write it as \\u%04x", c)
		case c >= utf8.RuneSelf:
			ascii = false
		}
		p.pos++
	}
	return "", p.fail(open, "string without closing quote")
}

func (p *jsonParser) checkUTF8(start int, text string, ascii bool) *DecodeError {
	if ascii || utf8.ValidString(text) {
		return nil
	}
	for i, r := range text {
		if r == utf8.RuneError && !strings.HasPrefix(text[i:], "\uFFFD") {
			return p.fail(start+i, "text is not valid UTF-8")
		}
	}
	return nil
}

// escaped reads the rest of a string from its first backslash on.
func (p *jsonParser) escaped(open, start int) (string, *DecodeError) {
	buf := append(make([]byte, 0, p.pos-start+16), p.in[start:p.pos]...)
	if err := p.checkUTF8(start, p.in[start:p.pos], false); err != nil {
		return "", err
	}
	for p.pos < len(p.in) {
		switch c := p.in[p.pos]; {
		case c == '"':
			p.pos++
			return string(buf), nil
		case c == '\\':
			r, err := p.escape()
			if err != nil {
				return "", err
			}
			buf = utf8.AppendRune(buf, r)
		case c < 0x20:
			return "", p.fail(p.pos, "control character in a string, write it as \\u%04x", c)
		default:
			r, size := utf8.DecodeRuneInString(p.in[p.pos:])
			if r == utf8.RuneError && size == 1 {
				return "", p.fail(p.pos, "text is not valid UTF-8")
			}
			buf = append(buf, p.in[p.pos:p.pos+size]...)
			p.pos += size
		}
	}
	return "", p.fail(open, "string without closing quote")
}

// escape reads one escape sequence, or two when they are a surrogate pair.
func (p *jsonParser) escape() (rune, *DecodeError) {
	start := p.pos
	p.pos++
	if p.pos >= len(p.in) {
		return 0, p.unexpected("an escape character")
	}
	c := p.in[p.pos]
	p.pos++
	if i := strings.IndexByte(`"\/bfnrt`, c); i >= 0 {
		return rune("\"\\/\b\f\n\r\t"[i]), nil
	}
	if c != 'u' {
		return 0, p.fail(start, "unknown escape sequence \\%c", c)
	}
	r, ok := p.hex4()
	if !ok {
		return 0, p.fail(start, "\\u needs four hexadecimal digits")
	}
	if !utf16.IsSurrogate(r) {
		return r, nil
	}
	if strings.HasPrefix(p.in[p.pos:], `\u`) {
		p.pos += 2
		if low, ok := p.hex4(); ok {
			if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
				return pair, nil
			}
		}
	}
	return 0, p.fail(start, "\\u%04x is half of a surrogate pair without the other half", r)
}

func (p *jsonParser) hex4() (rune, bool) {
	if len(p.in)-p.pos < 4 {
		return 0, false
	}
	for _, c := range []byte(p.in[p.pos : p.pos+4]) {
		if !strings.ContainsRune("0123456789abcdefABCDEF", rune(c)) {
			return 0, false
		}
	}
	v, err := strconv.ParseUint(p.in[p.pos:p.pos+4], 16, 32)
	p.pos += 4
	return rune(v), err == nil
}
