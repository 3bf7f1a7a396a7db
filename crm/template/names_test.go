package template_test

import (
	"regexp"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation"
	"pgregory.net/rapid"

	"oaas.io/control-plane/crm/template"
)

func TestNameVectors(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ input, sanitized, dns string }{
		{"Record", "record", "record"},
		{"My.Class_Name", "my-class-name", "my-class-name"},
		{"--Foo--", "foo", "foo"},
		{"9abc", "9abc", "a9abc"},
		{"", "", "default"},
		{"---", "", "default"},
		{"日本Class", "class", "class"},
		{"e2e-test.E2EClass", "e2e-test-e2eclass", "e2e-test-e2eclass"},
		{strings.Repeat("A", 70), strings.Repeat("a", 70), strings.Repeat("a", 63)},
		{"a\xff\xfeb", "a--b", "a--b"},
		{strings.Repeat("a", 62) + "-b", strings.Repeat("a", 62) + "-b", strings.Repeat("a", 62)},
	} {
		if got := template.Sanitize(tc.input); got != tc.sanitized {
			t.Errorf("Sanitize(%q) = %q, want %q", tc.input, got, tc.sanitized)
		}
		if got := template.DNS1035(tc.input); got != tc.dns {
			t.Errorf("DNS1035(%q) = %q, want %q", tc.input, got, tc.dns)
		}
	}
}

func TestRenderedNames(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 60)
	for name, tc := range map[string]struct{ got, want string }{
		"one function":       {template.FunctionName("OrderSvc", 0, 1), "ordersvc"},
		"first of two":       {template.FunctionName("OrderSvc", 0, 2), "ordersvc-fn-0"},
		"second of two":      {template.FunctionName("OrderSvc", 1, 2), "ordersvc-fn-1"},
		"object store":       {template.ODGMName("OrderSvc"), "ordersvc-odgm"},
		"its service":        {template.ODGMServiceName("OrderSvc"), "ordersvc-odgm-svc"},
		"longest uncut":      {template.ODGMServiceName(long[:54]), long[:54] + "-odgm-svc"},
		"label stays":        {template.LabelValue("example.Record"), "example.Record"},
		"owner of long name": {template.OwnerLabel(strings.Repeat("y", 63)), strings.Repeat("y", 63)},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: %q, want %q", name, tc.got, tc.want)
		}
	}
	if got := template.ODGMServiceName(long); len(got) != 63 || !regexp.MustCompile(`^x{45}-[0-9a-f]{8}-odgm-svc$`).MatchString(got) {
		t.Errorf("cut name: %q", got)
	}
}

func TestNamesAreValidAndDistinct(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		object := rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-z][a-z0-9.-]{0,250}[a-z0-9]`)).Draw(t, "object")
		count := rapid.IntRange(1, 1024).Draw(t, "count")
		index := rapid.IntRange(0, count-1).Draw(t, "index")
		seen := map[string]bool{}
		for _, name := range []string{
			template.FunctionName(object, index, count), template.ODGMName(object), template.ODGMServiceName(object),
		} {
			if errs := validation.IsDNS1035Label(name); len(errs) > 0 {
				t.Fatalf("%q: %v", name, errs)
			}
			if seen[name] {
				t.Fatalf("%q twice", name)
			}
			seen[name] = true
		}
		if count > 1 && template.FunctionName(object, index, count) == template.FunctionName(object, (index+1)%count, count) {
			t.Fatalf("two functions share a name")
		}
		for _, text := range []string{object, template.DNS1035(object)} {
			if value := template.LabelValue(text); (value == "") != (text == "") || len(validation.IsValidLabelValue(value)) > 0 {
				t.Fatalf("label %q from %q", value, text)
			}
		}
		long := strings.Repeat("long", 16) + object
		if template.FunctionName(long+"a", 0, 1) == template.FunctionName(long+"b", 0, 1) {
			t.Fatalf("two long names share a child")
		}
	})
}
