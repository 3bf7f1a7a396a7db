package crd_test

import (
	"bufio"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"

	"oaas.io/control-plane/deploy/crd"
)

// definition decodes the embedded YAML strictly.
func definition(t testing.TB) *apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	out := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.UnmarshalStrict(crd.YAML, out); err != nil {
		t.Fatalf("decode the definition: %v", err)
	}
	return out
}

// row is a line of testdata/oaas-rs-schema.txt.
type row struct {
	path, typ string
	flags     map[string]string
}

func rows(t *testing.T) []row {
	t.Helper()
	file, err := os.Open("testdata/oaas-rs-schema.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }() // only read
	var out []row
	for lines := bufio.NewScanner(file); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		r := row{path: words[0], typ: words[1], flags: map[string]string{}}
		for _, word := range words[2:] {
			key, value, _ := strings.Cut(word, "=")
			r.flags[key] = value
		}
		out = append(out, r)
	}
	if len(out) < 100 {
		t.Fatalf("only %d rows read", len(out))
	}
	return out
}

// find follows a path of the table. It returns the schema and whether the
// member is required by its parent.
func find(root *apiextensionsv1.JSONSchemaProps, path string) (node *apiextensionsv1.JSONSchemaProps, required bool) {
	node = root
	for _, step := range strings.Split(strings.TrimPrefix(path, "."), ".") {
		name, items := step, 0
		for strings.HasSuffix(name, "[]") {
			name, items = strings.TrimSuffix(name, "[]"), items+1
		}
		if name == "*" {
			if node.AdditionalProperties == nil || node.AdditionalProperties.Schema == nil {
				return nil, false
			}
			node, required = node.AdditionalProperties.Schema, false
		} else {
			child, ok := node.Properties[name]
			if !ok {
				return nil, false
			}
			required = slices.Contains(node.Required, name)
			node = &child
		}
		for range items {
			if node.Items == nil || node.Items.Schema == nil {
				return nil, false
			}
			node, required = node.Items.Schema, false
		}
	}
	return node, required
}

// typeOf names the type of a schema as the table does, without widths.
func typeOf(s *apiextensionsv1.JSONSchemaProps) string {
	switch s.Type {
	case "array":
		return "[]" + typeOf(s.Items.Schema)
	case "object":
		if s.AdditionalProperties != nil {
			return "map[string]" + typeOf(s.AdditionalProperties.Schema)
		}
	case "":
		if s.XPreserveUnknownFields != nil && *s.XPreserveUnknownFields {
			return "any"
		}
	}
	return s.Type
}

// widths are the JSON type and the largest value of the table's types.
var widths = map[string]struct {
	json    string
	maximum float64
}{
	"uint16": {"integer", 65535},
	"uint32": {"integer", 4294967295},
	"int32":  {"integer", 2147483647},
	"int64":  {"integer", 0},
	// The API server itself rounds integers beyond this one, so no client
	// could read a larger one back.
	"uint64": {"integer", 9223372036854774784},
	"float":  {"number", 0},
	"double": {"number", 0},
}

func jsonType(typ string) string {
	base := typ[strings.LastIndexByte(typ, ']')+1:]
	if w, ok := widths[base]; ok {
		return strings.TrimSuffix(typ, base) + w.json
	}
	return typ
}

// newBounds are the bounds that oaas-rs does not have. Each is far beyond what
// fits into a stored object together with anything else.
var newBounds = map[string]bool{
	".spec.functions maxItems":                 true,
	".spec.functions[].function_key maxLength": true,
	".status.conditions maxItems":              true,
}

func TestSchemaTakesWhatOaasRsWrites(t *testing.T) {
	t.Parallel()
	root := definition(t).Spec.Versions[0].Schema.OpenAPIV3Schema
	for _, r := range rows(t) {
		s, required := find(root, r.path)
		if s == nil {
			t.Errorf("%s: missing", r.path)
			continue
		}
		if got, want := typeOf(s), jsonType(r.typ); got != want {
			t.Errorf("%s: type %s, want %s", r.path, got, want)
		}
		if _, want := r.flags["required"]; required && !want {
			t.Errorf("%s: required here, optional there", r.path)
		}
		if _, want := r.flags["nullable"]; want && !s.Nullable {
			t.Errorf("%s: not nullable here, nullable there", r.path)
		}
		checkDefault(t, r, s)
		checkBounds(t, r, s)
		checkEnum(t, r, s)
	}
}

func checkDefault(t *testing.T, r row, s *apiextensionsv1.JSONSchemaProps) {
	t.Helper()
	got := ""
	if s.Default != nil {
		got = strings.Trim(string(s.Default.Raw), `[]"`)
	}
	if got != r.flags["default"] {
		t.Errorf("%s: default %q, want %q", r.path, got, r.flags["default"])
	}
}

func checkBounds(t *testing.T, r row, s *apiextensionsv1.JSONSchemaProps) {
	t.Helper()
	number := func(flag string) *float64 {
		text, ok := r.flags[flag]
		if !ok {
			return nil
		}
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatalf("%s: %s=%q: %v", r.path, flag, text, err)
		}
		return &value
	}
	if s.Minimum != nil {
		if want := number("minimum"); want == nil || *s.Minimum > *want {
			t.Errorf("%s: minimum %v is stricter than there", r.path, *s.Minimum)
		}
	}
	if s.Maximum != nil {
		want, natural := number("maximum"), widths[r.typ].maximum
		if (want == nil || *s.Maximum < *want) && (natural == 0 || *s.Maximum < natural) {
			t.Errorf("%s: maximum %v is stricter than there", r.path, *s.Maximum)
		}
	}
	if want := number("minLength"); s.MinLength != nil && (want == nil || float64(*s.MinLength) > *want) {
		t.Errorf("%s: minLength %d is stricter than there", r.path, *s.MinLength)
	}
	for name, bound := range map[string]*int64{
		"maxItems": s.MaxItems, "minItems": s.MinItems, "maxLength": s.MaxLength,
		"maxProperties": s.MaxProperties, "minProperties": s.MinProperties,
	} {
		if bound != nil && !newBounds[r.path+" "+name] {
			t.Errorf("%s: %s %d does not exist there", r.path, name, *bound)
		}
	}
	if s.Pattern != "" {
		t.Errorf("%s: pattern %q does not exist there", r.path, s.Pattern)
	}
}

func checkEnum(t *testing.T, r row, s *apiextensionsv1.JSONSchemaProps) {
	t.Helper()
	if len(s.Enum) == 0 {
		return
	}
	ours := map[string]bool{}
	for _, value := range s.Enum {
		ours[strings.Trim(string(value.Raw), `"`)] = true
	}
	want, has := r.flags["enum"]
	if !has {
		t.Errorf("%s: an enum here, any string there", r.path)
	}
	for _, value := range strings.Split(want, ",") {
		if !ours[value] {
			t.Errorf("%s: %q is not allowed", r.path, value)
		}
	}
}

// TestNewMembersAreOptional: an object that lacks whatever oaas-rs does not
// know is valid, so no new member may be required outside of new objects.
func TestNewMembersAreOptional(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	for _, r := range rows(t) {
		known[r.path] = true
	}
	root := definition(t).Spec.Versions[0].Schema.OpenAPIV3Schema
	var walk func(path string, s *apiextensionsv1.JSONSchemaProps)
	walk = func(path string, s *apiextensionsv1.JSONSchemaProps) {
		for name := range s.Properties {
			child := s.Properties[name]
			here := path + "." + name
			if !known[here] {
				if slices.Contains(s.Required, name) {
					t.Errorf("%s is new and required", here)
				}
				continue // what is inside a new object is ours alone
			}
			walk(here, &child)
		}
		if s.Items != nil {
			walk(path+"[]", s.Items.Schema)
		}
		if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
			walk(path+".*", s.AdditionalProperties.Schema)
		}
	}
	spec, status := root.Properties["spec"], root.Properties["status"]
	walk(".spec", &spec)
	walk(".status", &status)
}

func TestNames(t *testing.T) {
	t.Parallel()
	d := definition(t)
	if d.Name != "classruntimes.oaas.io" || d.Spec.Group != "oaas.io" || d.Spec.Scope != apiextensionsv1.NamespaceScoped {
		t.Errorf("identity: %s, group %s, scope %s", d.Name, d.Spec.Group, d.Spec.Scope)
	}
	if n := d.Spec.Names; n.Plural != "classruntimes" || n.Kind != "ClassRuntime" ||
		!slices.Equal(n.ShortNames, []string{"crt"}) || !slices.Equal(n.Categories, []string{"oaas"}) {
		t.Errorf("names: %+v", n)
	}
	if len(d.Spec.Versions) != 1 {
		t.Fatalf("%d versions", len(d.Spec.Versions))
	}
	v := d.Spec.Versions[0]
	if v.Name != "v1alpha1" || !v.Served || !v.Storage || v.Subresources == nil || v.Subresources.Status == nil {
		t.Errorf("version: %s served %v storage %v subresources %+v", v.Name, v.Served, v.Storage, v.Subresources)
	}
}
