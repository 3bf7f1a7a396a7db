package model

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const manifest = `# a comment
name: shop
version: 1.0
disabled: true            # unknown fields are ignored
metadata:
  created_at: 2026-03-05T19:36:16Z
classes:
  - key: Cart
    function_bindings:
      - {name: add, function_key: Cart.add, access_modifier: PUBLIC, stateless: true}
functions:
  - key: Cart.add
    provision_config: &run
      container_image: registry.local/cart:1
      port: 8080
      cpu_request: 1
    config:
      HTTP_PORT: 80
      DEBUG: True
      MASK: 0x1F
      EMPTY:
      WORD: "null"
  - key: Cart.del
    provision_config: *run
deployments:
  - key: shop.Cart
    package_name: shop
    class_key: Cart
    nfr_requirements: {availability: 1, min_throughput_rps: 1_000}
---
# nothing here
---
key: shop.Cart2
package_name: shop
class_key: Cart
`

func TestManifest(t *testing.T) {
	docs, err := DecodeManifest([]byte(manifest))
	if err != nil {
		t.Fatal(err)
	}
	if len(docs) != 2 || docs[0].Package == nil || docs[1].Deployment == nil || docs[0].Line != 2 || docs[1].Line != 33 {
		t.Fatalf("got %d documents: %+v", len(docs), docs)
	}
	out, err := docs[0].Package.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	provision := `"provision_config":{"container_image":"registry.local/cart:1","port":8080,"max_concurrency":0,"need_http2":false,"cpu_request":"1","memory_request":null,"cpu_limit":null,"memory_limit":null,"min_scale":null,"max_scale":null}`
	want := `{"name":"shop","version":"1.0","metadata":{"author":null,"description":null,"tags":[],"created_at":"2026-03-05T19:36:16Z"},` +
		`"classes":[{"key":"Cart","description":null,"state_spec":null,"function_bindings":[{"name":"add","function_key":"Cart.add","access_modifier":"PUBLIC","stateless":true,"parameters":[]}]}],` +
		`"functions":[{"key":"Cart.add","function_type":"CUSTOM","description":null,` + provision + `,"config":{"DEBUG":"True","EMPTY":"","HTTP_PORT":"80","MASK":"0x1F","WORD":"null"}},` +
		`{"key":"Cart.del","function_type":"CUSTOM","description":null,` + provision + `,"config":{}}],"dependencies":[],` +
		`"deployments":[{"key":"shop.Cart","package_name":"shop","class_key":"Cart","nfr_requirements":{"min_throughput_rps":1000,"availability":1.0,"cpu_utilization_target":null},"functions":[],"condition":"PENDING"}]}`
	if diff := cmp.Diff(want, string(out)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestManifestJSON(t *testing.T) {
	docs, err := DecodeManifest([]byte("\n{\n\t\"name\": \"p\"}\n"))
	if err != nil || len(docs) != 1 || docs[0].Package.Name != "p" || docs[0].Line != 2 {
		t.Fatalf("got %+v, %v", docs, err)
	}
	var d *DecodeError
	if _, err := DecodeManifest([]byte("\n{\"name\": 5}")); !errors.As(err, &d) || d.Line != 2 || d.Path != "name" {
		t.Errorf("got %v, want an error at name in line 2: JSON is not lenient", err)
	}
}

func TestYAMLErrors(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for i := 'b'; i < 'j'; i++ {
		bomb += string(i) + ": &" + string(i) + " [" + strings.TrimSuffix(strings.Repeat("*"+string(i-1)+",", 10), ",") + "]\n"
	}
	for _, tc := range []struct {
		name, in string
		kind     DecodeErrorKind
		path     string
		line     int
		msg      string
	}{
		{"indent", "name: p\n classes: []\n", Syntax, "", 2, "not readable as YAML"},
		{"tab", "name: p\nclasses:\n\t- key: A\n", Syntax, "", 3, "not readable as YAML"},
		{"unclosed", "name: [p\n", Syntax, "", 1, "not readable as YAML"},
		{"unknown alias", "name: *x\n", Syntax, "", 0, "unknown anchor"},
		{"second document", "name: p\n---\nname: q\nclasses: 5\n", Schema, "classes", 4, "must be an array"},
		{"missing", "name: p\nclasses:\n  - key: A\n    function_bindings:\n      - name: x\n        function_key: f\n", Schema, "classes[0].function_bindings[0].access_modifier", 5, "required"},
		{"quoted number", "name: p\nfunctions:\n  - key: f\n    provision_config: {port: '80'}\n", Schema, "functions[0].provision_config.port", 4, "got a string"},
		{"fraction", "name: p\nfunctions:\n  - key: f\n    provision_config: {port: 80.0}\n", Schema, "functions[0].provision_config.port", 4, "got 80.0"},
		{"twice", "name: p\nname: q\n", Schema, "name", 2, "twice"},
		{"null name", "name: ~\n", Schema, "name", 1, "got null"},
		{"merge", "name: p\nmetadata:\n  <<: {author: x}\n", Schema, "", 3, "merge keys"},
		{"complex key", "? [a]\n: b\n", Schema, "", 1, "plain text"},
		{"infinite", "key: k\nclass_key: c\npackage_name: p\nnfr_requirements: {availability: .inf}\n", Schema, "nfr_requirements.availability", 4, "must be a number"},
		{"alias bomb", bomb, Schema, "", 0, "aliases expand"},
		{"self reference", "a: &a [*a]\n", Syntax, "", 0, ""},
		{"text", "just text\n", Schema, "", 1, "must be an object, got a string"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := DecodeManifest([]byte(tc.in))
			var got *DecodeError
			if !errors.As(err, &got) {
				t.Fatalf("error = %v, want a *DecodeError", err)
			}
			if got.Kind != tc.kind && tc.name != "self reference" || got.Path != tc.path || tc.line != 0 && got.Line != tc.line || !strings.Contains(got.Msg, tc.msg) {
				t.Errorf("got %s error at %q in line %d: %s\nwant %s at %q in line %d with %q", got.Kind, got.Path, got.Line, got.Msg, tc.kind, tc.path, tc.line, tc.msg)
			}
		})
	}
}

func TestDecodePackageYAML(t *testing.T) {
	if p, err := DecodePackageYAML([]byte("name: p\n")); err != nil || p.Name != "p" {
		t.Errorf("got %v, %v", p, err)
	}
	for _, in := range []string{"", "name: p\n---\nname: q\n", "key: k\npackage_name: p\nclass_key: c\n"} {
		if p, err := DecodePackageYAML([]byte(in)); err == nil {
			t.Errorf("%q was read as %v, want an error", in, p)
		}
	}
}
