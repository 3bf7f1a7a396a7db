package model

import (
	"fmt"
	"maps"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// maxName is the length of a DNS label and of a Kubernetes label value: names
	// end up in both.
	maxName = 63
	// maxDeploymentKey holds <package>.<class> and is the length of a DNS name.
	maxDeploymentKey = 253
)

// checker collects problems.
type checker struct{ problems []Problem }

func (c *checker) add(at, format string, args ...any) {
	c.problems = append(c.problems, Problem{Path: at, Message: fmt.Sprintf(format, args...)})
}

func (c *checker) result() error {
	if len(c.problems) == 0 {
		return nil
	}
	return &ValidationError{Problems: c.problems}
}

// name checks a name that must be given. Names stand in URLs, in labels and in
// messages, hence no slash and nothing that cannot be seen.
func (c *checker) name(at, s string, longest int) {
	switch n := utf8.RuneCountInString(s); {
	case s == "":
		c.add(at, "must not be empty")
		return
	case n > longest:
		c.add(at, "is %d characters long; shorten it to at most %d", n, longest)
	}
	switch {
	case s == "." || s == "..":
		c.add(at, "%q cannot be used in a URL; choose another name", s)
	case strings.ContainsRune(s, '/'):
		c.add(at, "must not contain '/'; use '.' or '-' instead")
	case strings.TrimSpace(s) != s:
		c.add(at, "must not begin or end with a space")
	case strings.ContainsFunc(s, notPrintable):
		c.add(at, "must consist of printable characters; remove control and invisible characters")
	}
}

// packageName is a name without spaces, as the wire contract wants it.
func (c *checker) packageName(at, s string) {
	before := len(c.problems)
	c.name(at, s, maxName)
	if len(c.problems) == before && strings.ContainsFunc(s, unicode.IsSpace) {
		c.add(at, "must not contain spaces; use '-' instead")
	}
}

// line checks a free text of one line.
func (c *checker) line(at, s string) {
	if strings.ContainsFunc(s, unicode.IsControl) {
		c.add(at, "must not contain control characters")
	}
	if n := utf8.RuneCountInString(s); n > maxDeploymentKey {
		c.add(at, "is %d characters long; shorten it to at most %d", n, maxDeploymentKey)
	}
}

// share checks a number within 0..1. It is written so that NaN fails.
func (c *checker) share(at string, f *float64) {
	if f == nil || (*f >= 0 && *f <= 1) {
		return
	}
	if *f > 1 && *f <= 100 {
		c.add(at, "must be within 0..1, got %v; for %v %% write %.6g", *f, *f, *f/100)
		return
	}
	c.add(at, "must be within 0..1, got %v", *f)
}

func (c *checker) count(at string, n *uint32, most uint32) {
	if n != nil && (*n == 0 || *n > most) {
		c.add(at, "must be within 1..%d, got %d; leave it out for the default", most, *n)
	}
}

// uniqueness finds names that a list uses twice.
type uniqueness struct {
	c    *checker
	what string
	at   map[string]string // name → path of its first use
}

func (c *checker) uniqueness(what string) uniqueness {
	return uniqueness{c, what, map[string]string{}}
}

func (u uniqueness) see(at, name string) {
	if name == "" {
		return // reported as empty
	}
	if first, ok := u.at[name]; ok {
		u.c.add(at, "%s %q is already at %s; rename or remove one", u.what, clip(name), first)
		return
	}
	u.at[name] = at
}

// quantityForm is the grammar of Kubernetes resource quantities without sign.
// Digits and exponent are bounded: the value is computed below.
var quantityForm = regexp.MustCompile(`^([0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?:([KMGTPE]i|[numkMGTPE])|[eE]([+-]?[0-9]{1,2}))?$`)

func (c *checker) quantity(at string, s *string, example string) (*big.Rat, bool) {
	if s == nil {
		return nil, false
	}
	value, ok := ParseQuantity(*s)
	if !ok {
		c.add(at, "%q is not a Kubernetes quantity; write for instance %s", clip(*s), example)
	}
	return value, ok
}

// ParseQuantity reads a Kubernetes resource quantity without sign, such as 500m or 1Gi;
// ok is false for anything else.
func ParseQuantity(s string) (value *big.Rat, ok bool) {
	m := quantityForm.FindStringSubmatch(s)
	if m == nil {
		return nil, false
	}
	if value, ok = new(big.Rat).SetString(strings.TrimSuffix(m[1], ".")); !ok {
		return nil, false
	}
	factor := "1"
	switch suffix, exponent := m[2], m[3]; {
	case exponent != "":
		factor = "1e" + exponent
	case strings.HasSuffix(suffix, "i"):
		power := uint(strings.IndexByte("KMGTPE", suffix[0])+1) * 10
		return value.Mul(value, new(big.Rat).SetInt(new(big.Int).Lsh(big.NewInt(1), power))), true
	case suffix != "":
		factor = "1e" + map[string]string{"n": "-9", "u": "-6", "m": "-3", "k": "3", "M": "6", "G": "9", "T": "12", "P": "15", "E": "18"}[suffix]
	}
	scale, ok := new(big.Rat).SetString(factor)
	if !ok {
		return nil, false
	}
	return value.Mul(value, scale), true
}

func isSpaceOrControl(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }

// notPrintable admits the plain space and whatever has a visible form.
func notPrintable(r rune) bool { return !unicode.IsPrint(r) }

func index(list string, i int) string { return fmt.Sprintf("%s[%d]", list, i) }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// nameList joins at most ten names, so that a message stays readable.
func nameList(names []string) string {
	const most = 10
	switch {
	case len(names) == 0:
		return "(there are none)"
	case len(names) > most:
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	default:
		return strings.Join(names, ", ")
	}
}
