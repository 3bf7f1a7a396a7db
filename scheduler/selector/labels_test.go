package selector_test

import (
	"errors"
	"strings"
	"testing"

	"oaas.io/control-plane/scheduler/selector"
)

func TestParseLabels(t *testing.T) {
	set := map[string]string{"a": "b", "e": "y", "empty": "", "example.com/tier": "gold", "in": "x"}
	for _, tc := range []struct {
		text, canonical string
		matches         bool
	}{
		{"", "", true},
		{"  ", "", true},
		{"a=b,c!=d,e in (x,y),!f", "a=b,c!=d,e in (x,y),!f", true},
		{" a == b , c != d ,e\tin\n( y , x ,y ) , ! f ", "a=b,c!=d,e in (x,y),!f", true},
		{"a", "a", true},
		{"b", "b", false},
		{"!a", "!a", false},
		{"a!=b", "a!=b", false},
		{"a in (b)", "a=b", true},
		{"z in (b)", "z=b", false},
		{"e notin (x,z)", "e notin (x,z)", true},
		{"e notin (x,y)", "e notin (x,y)", false},
		{"z notin (x,y)", "z notin (x,y)", true},
		{"empty=", "empty=", true},
		{"empty in (,x)", "empty in (,x)", true},
		{"a=", "a=", false},
		{"example.com/tier=gold", "example.com/tier=gold", true},
		{"in", "in", true},
		{"in in (x)", "in=x", true},
		{"inside", "inside", false},
	} {
		l, err := selector.ParseLabels(tc.text)
		if err != nil {
			t.Errorf("%q: %v", tc.text, err)
			continue
		}
		if got := l.String(); got != tc.canonical {
			t.Errorf("%q is %q, want %q", tc.text, got, tc.canonical)
		}
		if got := l.Matches(set); got != tc.matches {
			t.Errorf("%q matches: %v", tc.text, got)
		}
	}
}

func TestLabelsRefused(t *testing.T) {
	for _, tc := range []struct {
		text         string
		line, column int
	}{
		{",", 1, 1}, {"a,", 1, 3}, {"a b", 1, 3}, {"a in", 1, 5}, {"a in x", 1, 6}, {"a in (x", 1, 8},
		{"a in (x y)", 1, 9}, {"!", 1, 2}, {"=b", 1, 1}, {"a=b=c", 1, 4}, {"-a", 1, 1}, {"a=-b", 1, 3},
		{"/a", 1, 1}, {"a/", 1, 1}, {"a/b/c", 1, 1}, {"a>1", 1, 2}, {"a,\nß", 2, 1}, {"a=b)", 1, 4},
		{strings.Repeat("a", 64), 1, 1}, {strings.Repeat("a", selector.MaxLength+1), 0, 0},
	} {
		_, err := selector.ParseLabels(tc.text)
		var e *selector.SyntaxError
		if !errors.As(err, &e) {
			t.Errorf("%q: %v", tc.text, err)
			continue
		}
		if e.Line != tc.line || e.Column != tc.column || e.Problem == "" || e.Error() == "" {
			t.Errorf("%q: line %d column %d: %s", tc.text, e.Line, e.Column, e.Problem)
		}
	}
}

// What is accepted has a canonical text that is accepted too, stays as it is, and
// selects the same.
func FuzzParseLabels(f *testing.F) {
	for _, seed := range []string{"", "a=b,c!=d,e in (x,y),!f", "a notin (,x)", "example.com/a==b", "a in (", "ß"} {
		f.Add(seed, "a", "b")
	}
	f.Fuzz(func(t *testing.T, text, key, value string) {
		l, err := selector.ParseLabels(text)
		if err != nil {
			var e *selector.SyntaxError
			if !errors.As(err, &e) {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		again, err := selector.ParseLabels(l.String())
		if err != nil || again.String() != l.String() {
			t.Fatalf("%q, again %q, %v", l, again, err)
		}
		set := map[string]string{key: value}
		if l.Matches(set) != again.Matches(set) || l.Matches(nil) != again.Matches(nil) {
			t.Fatalf("%q and %q differ", text, l)
		}
	})
}
