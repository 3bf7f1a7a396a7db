package model

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// problemsOf decodes, validates and gives the problems as text.
func problemsOf(t *testing.T, validate func() error) []string {
	t.Helper()
	err := validate()
	if err == nil {
		return nil
	}
	var v *ValidationError
	if !errors.As(err, &v) {
		t.Fatalf("error %v is not a *ValidationError", err)
	}
	var out []string
	for _, p := range v.Problems {
		out = append(out, p.String())
	}
	return out
}

func TestValidatePackage(t *testing.T) {
	long := strings.Repeat("n", 64)
	for _, tc := range []struct {
		name, in string
		want     []string
	}{
		{"good", `{"name":"shop","classes":[{"key":"Cart","function_bindings":[{"name":"add","function_key":"Cart.add","access_modifier":"PUBLIC"}]}],"functions":[{"key":"Cart.add"}]}`, nil},
		{"empty names", `{"name":"","classes":[{"key":""}],"functions":[{"key":""}],"dependencies":[""]}`, []string{
			"name: must not be empty", "classes[0].key: must not be empty", "functions[0].key: must not be empty", "dependencies[0]: must not be empty"}},
		{"space in the name", `{"name":"my shop"}`, []string{"name: must not contain spaces; use '-' instead"}},
		{"slash", `{"name":"a/b"}`, []string{"name: must not contain '/'; use '.' or '-' instead"}},
		{"control character", `{"name":"a\u0007b"}`, []string{"name: must consist of printable characters; remove control and invisible characters"}},
		{"invisible character", `{"name":"a\u200bb"}`, []string{"name: must consist of printable characters; remove control and invisible characters"}},
		{"dots", `{"name":".."}`, []string{`name: ".." cannot be used in a URL; choose another name`}},
		{"too long", `{"name":"` + long + `","classes":[{"key":"` + long + `"}]}`, []string{
			"name: is 64 characters long; shorten it to at most 63", "classes[0].key: is 64 characters long; shorten it to at most 63"}},
		{"63 characters that are more bytes", `{"name":"` + strings.Repeat("ä", 63) + `"}`, nil},
		{"duplicates", `{"name":"p","classes":[{"key":"A"},{"key":"A"}],"functions":[{"key":"f"},{"key":"g"},{"key":"f"}],"dependencies":["d","d"]}`, []string{
			`classes[1].key: class "A" is already at classes[0].key; rename or remove one`,
			`functions[2].key: function "f" is already at functions[0].key; rename or remove one`,
			`dependencies[1]: dependency "d" is already at dependencies[0]; rename or remove one`}},
		{"unknown function", `{"name":"p","classes":[{"key":"A","function_bindings":[{"name":"x","function_key":"f","access_modifier":"PUBLIC"},{"name":"y","function_key":"g","access_modifier":"PUBLIC"}]}],"functions":[{"key":"f"}]}`, []string{
			`classes[0].function_bindings[1].function_key: no function "g" in this package; add it to functions or bind one of: f`}},
		{"binding twice", `{"name":"p","classes":[{"key":"A","function_bindings":[{"name":"x","function_key":"f","access_modifier":"PUBLIC"},{"name":"x","function_key":"f","access_modifier":"PUBLIC"}]}],"functions":[{"key":"f"}]}`, []string{
			`classes[0].function_bindings[1].name: binding "x" is already at classes[0].function_bindings[0].name; rename or remove one`}},
		{"self dependency", `{"name":"p","dependencies":["p"]}`, []string{`dependencies[0]: a package cannot depend on itself; remove "p"`}},
		{"provision", `{"name":"p","functions":[{"key":"f","provision_config":{"container_image":" ","port":0,"cpu_request":"2","cpu_limit":"500m","memory_request":"1Gi","memory_limit":"lots","min_scale":3,"max_scale":2}}]}`, []string{
			"functions[0].provision_config.container_image: is blank; give a value or leave the field out",
			"functions[0].provision_config.port: must be within 1..65535; leave it out for the default",
			"functions[0].provision_config.cpu_request: must not be above cpu_limit (2 > 500m); lower the request or raise the limit",
			`functions[0].provision_config.memory_limit: "lots" is not a Kubernetes quantity; write for instance 256Mi or 1Gi`,
			"functions[0].provision_config.min_scale: must not be above max_scale (3 > 2); lower min_scale or raise max_scale"}},
		{"max_scale 0 is unlimited", `{"name":"p","functions":[{"key":"f","provision_config":{"min_scale":3,"max_scale":0}}]}`, nil},
		{"config", `{"name":"p","functions":[{"key":"f","config":{"":"x","A=B":"x","OK":"a\u0000"}}]}`, []string{
			"functions[0].config: has an empty name; name the variable",
			`functions[0].config["A=B"]: a name must not contain '=', spaces or control characters`,
			"functions[0].config.OK: a value must not contain NUL characters"}},
		{"deployments are not looked at", `{"name":"p","deployments":[{"key":"","package_name":"","class_key":""}]}`, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			doc, err := DecodePackage([]byte(tc.in))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, problemsOf(t, doc.Validate)); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func TestValidateDeployment(t *testing.T) {
	base := func(rest string) string {
		return `{"key":"shop.Cart","package_name":"shop","class_key":"Cart"` + rest + `}`
	}
	n63 := strings.Repeat("n", 63)
	for _, tc := range []struct {
		name, in string
		want     []string
	}{
		{"good", base(`,"nfr_requirements":{"availability":0.999,"min_throughput_rps":5}`), nil},
		{"longest names", `{"key":"` + n63 + "." + n63 + `","package_name":"` + n63 + `","class_key":"` + n63 + `"}`, nil},
		{"key too long", `{"key":"` + strings.Repeat("k", 254) + `","package_name":"p","class_key":"c"}`, []string{"key: is 254 characters long; shorten it to at most 253"}},
		{"key with slash", `{"key":"x/clusters/y","package_name":"p","class_key":"c"}`, []string{"key: must not contain '/'; use '.' or '-' instead"}},
		{"empty", `{"key":"","package_name":"","class_key":""}`, []string{"key: must not be empty", "package_name: must not be empty", "class_key: must not be empty"}},
		{"percent for share", base(`,"nfr_requirements":{"availability":99.9,"cpu_utilization_target":-1,"min_throughput_rps":0}`), []string{
			"nfr_requirements.min_throughput_rps: must be at least 1; leave it out when there is no requirement",
			"nfr_requirements.availability: must be within 0..1, got 99.9; for 99.9 % write 0.999",
			"nfr_requirements.cpu_utilization_target: must be within 0..1, got -1"}},
		{"environments", base(`,"target_envs":["a","a",""],"env_templates":{"` + n63 + `x":"knative"}`), []string{
			`target_envs[1]: environment "a" is already at target_envs[0]; rename or remove one`,
			"target_envs[2]: must not be empty",
			"env_templates." + n63 + "x: is 64 characters long; shorten it to at most 63"}},
		{"functions", base(`,"functions":[{"function_key":"f","qos_requirement":{"availability":2}},{"function_key":"f"}]`), []string{
			"functions[0].qos_requirement.availability: must be within 0..1, got 2; for 2 % write 0.02",
			`functions[1].function_key: function "f" is already at functions[0].function_key; rename or remove one`}},
		{"odgm", base(`,"odgm":{"partition_count":0,"replica_count":1025,"env_node_ids":{"a":[1,0]}}`), []string{
			"odgm.partition_count: must be within 1..4096, got 0; leave it out for the default",
			"odgm.replica_count: must be within 1..1024, got 1025; leave it out for the default",
			"odgm.env_node_ids.a[1]: a node id must not be 0; leave env_node_ids out to have ids chosen"}},
		{"telemetry", base(`,"telemetry":{"sampling_rate":1.5}`), []string{"telemetry.sampling_rate: must be within 0..1, got 1.5; for 1.5 % write 0.015"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			doc, err := DecodeDeployment([]byte(tc.in))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, problemsOf(t, doc.Validate)); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func TestQuantities(t *testing.T) {
	equal := [][2]string{{"1", "1000m"}, {"0.5", "500m"}, {"1Ki", "1024"}, {"1k", "1e3"}, {"1Gi", "1024Mi"}, {"1.", "1"}, {".5", "0.5"}, {"1E", "1e18"}, {"1n", "1e-9"}, {"5E3", "5k"}}
	for _, pair := range equal {
		a, ok := ParseQuantity(pair[0])
		b, ok2 := ParseQuantity(pair[1])
		if !ok || !ok2 || a.Cmp(b) != 0 {
			t.Errorf("%s = %v (%v), %s = %v (%v), want equal", pair[0], a, ok, pair[1], b, ok2)
		}
	}
	for _, bad := range []string{"", " ", "1 ", "-1", "+1", "1mi", "Mi", "1e", "1e999999999", ".", "1.2.3", "0x1", "1Kii", "1_000", strings.Repeat("9", 99)} {
		if v, ok := ParseQuantity(bad); ok {
			t.Errorf("%q was read as %v", bad, v)
		}
	}
}

func TestMissingImage(t *testing.T) {
	text := func(s string) *string { return &s }
	for _, tc := range []struct {
		t    FunctionType
		p    *ProvisionConfig
		want bool
	}{
		{FunctionCustom, nil, true},
		{FunctionCustom, &ProvisionConfig{ContainerImage: text(" ")}, true},
		{FunctionCustom, &ProvisionConfig{ContainerImage: text("i")}, false},
		{FunctionWASM, &ProvisionConfig{WasmModuleURL: text("http://m")}, false},
		{FunctionWASM, &ProvisionConfig{}, true},
		{FunctionBuiltin, nil, false},
	} {
		if got := MissingImage(tc.t, tc.p); got != tc.want {
			t.Errorf("MissingImage(%s, %+v) = %v", tc.t, tc.p, got)
		}
	}
}
