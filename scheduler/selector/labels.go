package selector

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Labels is a label selector. The zero value selects everything.
type Labels struct{ requirements []requirement }

// requirement is one part between commas. The values are sorted and without repetition.
type requirement struct {
	key    string
	op     operator
	values []string
}

type operator int

const (
	exists operator = iota
	absent
	in
	notIn
)

// ParseLabels reads a label selector as Kubernetes writes it: requirements with commas
// between them, all of which must hold, each of the form key, !key, key=value,
// key==value, key!=value, key in (value,value) or key notin (value,value). As there,
// != and notin also hold when the label is not there, and the empty text selects
// everything. The comparisons of numbers, key>1 and key<1, are not offered; a selector
// for numbers is an expression. Errors are *SyntaxError.
func ParseLabels(text string) (Labels, error) {
	if len(text) > MaxLength {
		return Labels{}, &SyntaxError{Text: text[:64] + "…", Problem: fmt.Sprintf(
			"a selector of %d bytes is longer than %d", len(text), MaxLength)}
	}
	p := &parser{text: text}
	p.space()
	if p.at == len(text) {
		return Labels{}, nil
	}
	var l Labels
	for {
		r, err := p.requirement()
		if err != nil {
			return Labels{}, err
		}
		l.requirements = append(l.requirements, r)
		if p.at == len(text) {
			return l, nil
		}
		if !p.take(",") {
			return Labels{}, p.expected("a comma or the end")
		}
	}
}

// Matches tells whether the labels meet every requirement.
func (l Labels) Matches(labels map[string]string) bool {
	for _, r := range l.requirements {
		if !r.holds(labels) {
			return false
		}
	}
	return true
}

// String is the canonical text, of which ParseLabels makes an equal selector.
func (l Labels) String() string {
	parts := make([]string, len(l.requirements))
	for i, r := range l.requirements {
		parts[i] = r.String()
	}
	return strings.Join(parts, ",")
}

func (r requirement) holds(labels map[string]string) bool {
	value, there := labels[r.key]
	switch r.op {
	case exists:
		return there
	case absent:
		return !there
	case in:
		return there && slices.Contains(r.values, value)
	case notIn:
		return !there || !slices.Contains(r.values, value)
	default:
		return false
	}
}

func (r requirement) String() string {
	switch {
	case r.op == exists:
		return r.key
	case r.op == absent:
		return "!" + r.key
	case r.op == in && len(r.values) == 1:
		return r.key + "=" + r.values[0]
	case r.op == in:
		return r.key + " in (" + strings.Join(r.values, ",") + ")"
	case len(r.values) == 1:
		return r.key + "!=" + r.values[0]
	default:
		return r.key + " notin (" + strings.Join(r.values, ",") + ")"
	}
}

// parser reads a text from left to right. After every token the space behind it is
// skipped.
type parser struct {
	text string
	at   int
}

func (p *parser) requirement() (requirement, error) {
	if p.take("!") {
		key, err := p.key()
		return requirement{key: key, op: absent}, err
	}
	key, err := p.key()
	if err != nil {
		return requirement{}, err
	}
	switch {
	case p.take("!="):
		return p.one(key, notIn)
	case p.take("=="), p.take("="):
		return p.one(key, in)
	case p.word("in"):
		return p.set(key, in)
	case p.word("notin"):
		return p.set(key, notIn)
	default:
		return requirement{key: key, op: exists}, nil
	}
}

func (p *parser) one(key string, op operator) (requirement, error) {
	value, err := p.value()
	return requirement{key: key, op: op, values: []string{value}}, err
}

func (p *parser) set(key string, op operator) (requirement, error) {
	if !p.take("(") {
		return requirement{}, p.expected("(")
	}
	r := requirement{key: key, op: op}
	for {
		value, err := p.value()
		if err != nil {
			return requirement{}, err
		}
		r.values = append(r.values, value)
		if p.take(")") {
			break
		}
		if !p.take(",") {
			return requirement{}, p.expected("a comma or )")
		}
	}
	slices.Sort(r.values)
	r.values = slices.Compact(r.values)
	return r, nil
}

// The lengths that Kubernetes permits for the parts of labels.
const (
	maxName   = 63
	maxPrefix = 253
)

// key reads the key of a label: a name, perhaps with a domain and a slash before it.
func (p *parser) key() (string, error) {
	start := p.at
	token := p.token(func(c byte) bool { return inName(c) || c == '/' })
	prefix, name, prefixed := strings.Cut(token, "/")
	if !prefixed {
		prefix, name = "", token
	}
	switch {
	case token == "":
		return "", p.expected("the key of a label")
	case !isName(name, maxName), prefixed && !isName(prefix, maxPrefix):
		return "", p.wrong(start, fmt.Sprintf("%q is not the key of a label", token))
	}
	return token, nil
}

// value reads the value of a label, which may be empty.
func (p *parser) value() (string, error) {
	start := p.at
	token := p.token(inName)
	if token != "" && !isName(token, maxName) {
		return "", p.wrong(start, fmt.Sprintf("%q is not the value of a label", token))
	}
	return token, nil
}

func (p *parser) token(belongs func(byte) bool) string {
	start := p.at
	for p.at < len(p.text) && belongs(p.text[p.at]) {
		p.at++
	}
	token := p.text[start:p.at]
	p.space()
	return token
}

// word takes a word that is not the beginning of a longer one.
func (p *parser) word(w string) bool {
	rest := p.text[p.at:]
	if !strings.HasPrefix(rest, w) || len(rest) > len(w) && (inName(rest[len(w)]) || rest[len(w)] == '/') {
		return false
	}
	return p.take(w)
}

func (p *parser) take(symbol string) bool {
	if !strings.HasPrefix(p.text[p.at:], symbol) {
		return false
	}
	p.at += len(symbol)
	p.space()
	return true
}

func (p *parser) space() {
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.at]) >= 0 {
		p.at++
	}
}

func (p *parser) expected(what string) error {
	if p.at == len(p.text) {
		return p.wrong(p.at, "expected "+what+" but the text ends")
	}
	found, _ := utf8.DecodeRuneInString(p.text[p.at:])
	return p.wrong(p.at, fmt.Sprintf("expected %s but found %q", what, found))
}

func (p *parser) wrong(at int, problem string) error {
	before := p.text[:at]
	line := strings.LastIndexByte(before, '\n') + 1
	return &SyntaxError{
		Text: p.text, Line: strings.Count(before, "\n") + 1,
		Column: utf8.RuneCountInString(before[line:]) + 1, Problem: problem,
	}
}

func inName(c byte) bool { return alphanumeric(c) || c == '-' || c == '_' || c == '.' }

func alphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// isName tells whether a text of the right characters begins and ends as a name does.
func isName(s string, most int) bool {
	return s != "" && len(s) <= most && !strings.Contains(s, "/") &&
		alphanumeric(s[0]) && alphanumeric(s[len(s)-1])
}
