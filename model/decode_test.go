package model

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// pkg wraps a piece of JSON into an otherwise good package.
func pkg(fields string) string { return `{"name":"p",` + fields + `}` }

func TestDecodeErrors(t *testing.T) {
	binding := func(rest string) string {
		return pkg(`"classes":[{"key":"A","function_bindings":[{"name":"x","function_key":"f","access_modifier":"PUBLIC"},{"name":"y","function_key":"f"` + rest + `}]}]`)
	}
	provision := func(rest string) string {
		return pkg(`"functions":[{"key":"f","provision_config":{` + rest + `}}]`)
	}
	for _, tc := range []struct {
		name, in string
		kind     DecodeErrorKind
		path     string
		msg      string // a part of it
	}{
		{"empty", ``, Syntax, "", "empty"},
		{"blank", " \n ", Syntax, "", "empty"},
		{"truncated", `{"name":"p"`, Syntax, "", "unexpected end"},
		{"trailing", `{"name":"p"} x`, Syntax, "", "expected the end"},
		{"two documents", `{"name":"p"}{"name":"q"}`, Syntax, "", "expected the end"},
		{"trailing comma", `{"name":"p",}`, Syntax, "", "field name"},
		{"single quotes", `{'name':'p'}`, Syntax, "", "double quotes"},
		{"comment", `// x`, Syntax, "", "unexpected character '/'"},
		{"leading zero", pkg(`"x":01`), Syntax, "", "','"},
		{"bare minus", pkg(`"x":-`), Syntax, "", "digit"},
		{"no digit after point", pkg(`"x":1.`), Syntax, "", "decimal point"},
		{"no exponent", pkg(`"x":1e`), Syntax, "", "exponent"},
		{"control character", "{\"name\":\"a\nb\"}", Syntax, "", `\u000a`},
		{"open string", `{"name":"p`, Syntax, "", "closing quote"},
		{"bad escape", `{"name":"\x41"}`, Syntax, "", `\x`},
		{"lone surrogate", `{"name":"\ud800"}`, Syntax, "", "surrogate"},
		{"bad utf-8", "{\"name\":\"a\xff\"}", Syntax, "", "UTF-8"},
		{"bad utf-8 after escape", "{\"name\":\"\\n\xff\"}", Syntax, "", "UTF-8"},
		{"too deep", strings.Repeat("[", 200) + strings.Repeat("]", 200), Syntax, "", "nested deeper than 128"},
		{"syntax before schema", `{"name":5,`, Syntax, "", ""},

		{"not an object", `[]`, Schema, "", "must be an object, got an array"},
		{"null document", `null`, Schema, "", "must be an object, got null"},
		{"required missing", `{}`, Schema, "name", "required but missing"},
		{"required null", `{"name":null}`, Schema, "name", "must be a string, got null"},
		{"number for string", `{"name":80}`, Schema, "name", "must be a string, got a number (80)"},
		{"duplicate", `{"name":"a","name":"b"}`, Schema, "name", "twice"},
		{"default null", pkg(`"metadata":null`), Schema, "metadata", "got null"},
		{"list null", pkg(`"classes":null`), Schema, "classes", "must be an array"},
		{"access modifier missing", binding(""), Schema, "classes[0].function_bindings[1].access_modifier", "required"},
		{"access modifier lower case", binding(`,"access_modifier":"public"`), Schema, "classes[0].function_bindings[1].access_modifier", `PUBLIC, INTERNAL, PRIVATE, got "public"`},
		{"access modifier null", binding(`,"access_modifier":null`), Schema, "classes[0].function_bindings[1].access_modifier", "got null"},
		{"bool as string", binding(`,"access_modifier":"PUBLIC","stateless":"true"`), Schema, "classes[0].function_bindings[1].stateless", "true or false"},
		{"fraction", provision(`"port":80.0`), Schema, "functions[0].provision_config.port", "without fraction or exponent, got 80.0"},
		{"exponent", provision(`"port":8e1`), Schema, "functions[0].provision_config.port", "got 8e1"},
		{"negative", provision(`"port":-1`), Schema, "functions[0].provision_config.port", "0..65535"},
		{"minus zero", provision(`"port":-0`), Schema, "functions[0].provision_config.port", "0..65535"},
		{"out of range", provision(`"port":65536`), Schema, "functions[0].provision_config.port", "0..65535"},
		{"uint32 range", provision(`"min_scale":4294967296`), Schema, "functions[0].provision_config.min_scale", "4294967295"},
		{"non-null default", provision(`"max_concurrency":null`), Schema, "functions[0].provision_config.max_concurrency", "got null"},
		{"map value", pkg(`"functions":[{"key":"f","config":{"HTTP_PORT":80}}]`), Schema, "functions[0].config.HTTP_PORT", "must be a string"},
		{"map key twice", pkg(`"functions":[{"key":"f","config":{"a.b":"1","a.b":"2"}}]`), Schema, `functions[0].config["a.b"]`, "twice"},
		{"timestamp without offset", pkg(`"metadata":{"created_at":"2026-03-05T19:36:16"}`), Schema, "metadata.created_at", "RFC 3339"},
		{"timestamp beyond years", pkg(`"metadata":{"created_at":"9999-12-31T23:59:59-01:00"}`), Schema, "metadata.created_at", "years"},
		{"timestamp number", pkg(`"metadata":{"created_at":5}`), Schema, "metadata.created_at", "a time such as"},
		{"nested deployment", pkg(`"deployments":[{"key":"k","package_name":"p","class_key":"c","nfr_requirements":{"availability":"high"}}]`), Schema, "deployments[0].nfr_requirements.availability", "must be a number"},
		{"float too large", pkg(`"deployments":[{"key":"k","package_name":"p","class_key":"c","nfr_requirements":{"availability":1e999}}]`), Schema, "deployments[0].nfr_requirements.availability", "64-bit"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := DecodePackage([]byte(tc.in))
			var got *DecodeError
			if !errors.As(err, &got) {
				t.Fatalf("error = %v, want a *DecodeError", err)
			}
			if got.Kind != tc.kind || got.Path != tc.path || !strings.Contains(got.Msg, tc.msg) {
				t.Errorf("got %s error at %q: %s\nwant %s error at %q with %q", got.Kind, got.Path, got.Msg, tc.kind, tc.path, tc.msg)
			}
		})
	}
}

func TestDecodeErrorPosition(t *testing.T) {
	_, err := DecodePackage([]byte("{\n  \"name\": \"p\",\n  \"version\": \"ä\", \"classes\": 5\n}"))
	var got *DecodeError
	if !errors.As(err, &got) {
		t.Fatal(err)
	}
	if got.Line != 3 || got.Column != 30 || got.Offset != 47 {
		t.Errorf("line %d column %d offset %d, want 3, 30, 47", got.Line, got.Column, got.Offset)
	}
	if want := "classes: must be an array, got a number (5) (line 3, column 30)"; err.Error() != want {
		t.Errorf("text %q, want %q", err, want)
	}
}

func TestDecodeAccepts(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"unknown fields, even twice", `{"name":"p","x":{"y":[1]},"x":2}`, `"name":"p"`},
		{"escapes", `{"name":"\u0041\ud83d\ude00\/\n"}`, `"name":"A😀/\n"`},
		{"nullable null", `{"name":"p","version":null}`, `"version":null`},
		{"html is not escaped", `{"name":"<&>\u2028"}`, "\"name\":\"<&>\u2028\""},
		{"time to seconds", `{"name":"p","metadata":{"created_at":"2026-03-05T20:36:16.000+01:00"}}`, `"created_at":"2026-03-05T19:36:16Z"`},
		{"time to milliseconds", `{"name":"p","metadata":{"created_at":"2026-03-05t19:36:16.1z"}}`, `"created_at":"2026-03-05T19:36:16.100Z"`},
		{"time to microseconds", `{"name":"p","metadata":{"created_at":"2026-03-05T19:36:16.1234Z"}}`, `"created_at":"2026-03-05T19:36:16.123400Z"`},
		{"time to nanoseconds", `{"name":"p","metadata":{"created_at":"2026-03-05T19:36:16.000000001Z"}}`, `"created_at":"2026-03-05T19:36:16.000000001Z"`},
		{"state defaults", `{"name":"p","classes":[{"key":"A","state_spec":{}}]}`, `"state_spec":{"consistency_model":"NONE","persistent":false,"serialization_format":""}`},
		{"map keys are sorted", `{"name":"p","functions":[{"key":"f","config":{"b":"2","a":"1"}}]}`, `"config":{"a":"1","b":"2"}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			doc, err := DecodePackage([]byte(tc.in))
			if err != nil {
				t.Fatal(err)
			}
			out, err := doc.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Contains(out, []byte(tc.want)) {
				t.Errorf("got %s\nwant it to contain %s", out, tc.want)
			}
		})
	}
}

func TestFloatForm(t *testing.T) {
	for in, want := range map[string]string{
		"1": "1.0", "0": "0.0", "0.5": "0.5", "-0.0": "-0.0", "1e2": "100.0", "0.00001": "0.00001", "1e-6": "1e-6", "1.5e-7": "1.5e-7",
		"1e15": "1000000000000000.0", "1e16": "1e16", "12345678901234567890": "1.2345678901234567e19",
	} {
		var q QoSRequirement
		if err := json.Unmarshal([]byte(`{"availability":`+in+`}`), &q); err != nil {
			t.Fatal(err)
		}
		out, err := json.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(`{"throughput":0,"availability":`+want+`}`, string(out)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", in, diff)
		}
	}
}

func TestMarshalRefusesWhatCannotBeReadAgain(t *testing.T) {
	cls := OClass{Key: "A", FunctionBindings: []FunctionBinding{{Name: "x", FunctionKey: "f"}}}
	if out, err := json.Marshal(cls); err == nil || !strings.Contains(err.Error(), "function_bindings: [0]: access_modifier") {
		t.Errorf("marshalled to %s, error %v; want an error that names the access modifier", out, err)
	}
	if out, err := json.Marshal(OFunction{Key: "f"}); err != nil || !bytes.Contains(out, []byte(`"CUSTOM"`)) {
		t.Errorf("got %s, %v; a type that was never set is the default", out, err)
	}
}

func TestUnmarshalReplacesTheWholeTarget(t *testing.T) {
	f := OFunction{Key: "old", Config: map[string]string{"a": "1"}, Description: new(string)}
	if err := json.Unmarshal([]byte(`{"key":"new"}`), &f); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(OFunction{Key: "new", FunctionType: FunctionCustom}, f); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := json.Unmarshal([]byte(`{"key":1}`), &f); err == nil || f.Key != "new" {
		t.Errorf("error %v, key %q; a failed decode must leave the target alone", err, f.Key)
	}
}
