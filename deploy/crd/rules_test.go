package crd_test

import (
	"encoding/json"
	"maps"
	"math"
	"strings"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"

	"oaas.io/control-plane/crm/api/v1alpha1"
)

// server judges objects with the code that an API server judges them with.
type server struct {
	structural *schema.Structural
	values     validation.SchemaValidator
	rules      *cel.Validator
}

func newServer(t testing.TB) *server {
	t.Helper()
	props := &apiextensions.JSONSchemaProps{}
	root := definition(t).Spec.Versions[0].Schema.OpenAPIV3Schema
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(root, props, nil); err != nil {
		t.Fatal(err)
	}
	structural, err := schema.NewStructural(props)
	if err != nil {
		t.Fatal(err)
	}
	values, _, err := validation.NewSchemaValidator(props)
	if err != nil {
		t.Fatal(err)
	}
	return &server{
		structural: structural, values: values,
		rules: cel.NewValidator(structural, true, celconfig.PerCallLimit),
	}
}

// store does to an object what a create (old is nil) or an update does. It
// returns the stored object, or the refusals.
func (s *server) store(t testing.TB, object, old map[string]any) (map[string]any, string) {
	t.Helper()
	object = decode(t, encode(t, object))
	pruning.Prune(object, s.structural, true)
	defaulting.PruneNonNullableNullsWithoutDefaults(object, s.structural)
	defaulting.Default(object, s.structural)
	errs := validation.ValidateCustomResource(nil, object, s.values)
	var before any
	if old != nil {
		before = old
	}
	more, _ := s.rules.Validate(t.Context(), nil, s.structural, object, before, celconfig.RuntimeCELCostBudget)
	if all := append(errs, more...); len(all) > 0 {
		return nil, all.ToAggregate().Error()
	}
	return object, ""
}

func encode(t testing.TB, value any) []byte {
	t.Helper()
	data, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// decode reads YAML or JSON into the types that an API server uses.
func decode(t testing.TB, data []byte) map[string]any {
	t.Helper()
	out := map[string]any{}
	if err := yaml.Unmarshal(data, &out); err != nil {
		t.Fatal(err)
	}
	return integers(out).(map[string]any)
}

// integers turns whole floats into int64, as the API server's decoder does.
func integers(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for k := range v {
			v[k] = integers(v[k])
		}
	case []any:
		for i := range v {
			v[i] = integers(v[i])
		}
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return int64(v)
		}
	}
	return value
}

// TestDefinitionIsAccepted runs the checks of an API server that installs the
// definition, the estimated cost of the rules among them.
func TestDefinitionIsAccepted(t *testing.T) {
	t.Parallel()
	d := definition(t)
	apiextensionsv1.SetDefaults_CustomResourceDefinition(d)
	apiextensionsv1.SetDefaults_CustomResourceDefinitionSpec(&d.Spec)
	internal := &apiextensions.CustomResourceDefinition{}
	if err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(d, internal, nil); err != nil {
		t.Fatal(err)
	}
	internal.Status.StoredVersions = []string{"v1alpha1"}
	if errs := crdvalidation.ValidateCustomResourceDefinition(t.Context(), internal); len(errs) > 0 {
		t.Fatal(errs.ToAggregate())
	}
}

const oaasRsObject = `
apiVersion: oaas.io/v1alpha1
kind: ClassRuntime
metadata: {name: record-abcd1234, namespace: oaas-1}
spec:
  package_class_key: example.Record
  selected_template: null
  addons: null
  nfr_requirements: null
  enforcement: null
  telemetry: {enabled: false, traces: null, metrics: null, logs: null, sampling_rate: null, service_name: null}
  functions:
    - function_key: Record.echo
      description: null
      available_location: null
      qos_requirement: null
      provision_config: {container_image: "registry.local/echo:1", wasm_module_url: null, port: null, max_concurrency: 0,
        need_http2: false, cpu_request: null, memory_request: null, cpu_limit: null, memory_limit: null, min_scale: 1, max_scale: null}
      config: {HTTP_PORT: "80"}
  odgm_config:
    collections: [example.Record]
    partition_count: null
    replica_count: 1
    shard_type: null
    options: null
    log: info
    env_node_ids: {oaas-1: [12345]}
    node_id: 12345
    collection_assignments: {example.Record: [{primary: null, replica: [12345], shard_ids: [1]}]}
    invocations: {fn_routes: {echo: {url: "http://record-abcd1234:80/", stateless: true, standby: null, function_key: Record.echo, wasm_module_url: null, active_group: []}}}
status:
  phase: progressing
  message: Applied workload
  observed_generation: 1
  last_updated: "2024-05-01T10:00:00.123456789+00:00"
  conditions: [{type: Progressing, status: "True", reason: ApplySuccessful, message: Resources applied, lastTransitionTime: "2024-05-01T10:00:00Z"}]
  functions: [{function_key: Record.echo, service: record-abcd1234, port: 80, predicted_url: "http://x/", template: dev, observed_url: null, ready: null, reason: null, message: null, lastTransitionTime: null}]
  routers: null
  resource_refs: null
  nfr_recommendations: {replicas: 2, cpu: 250, memory: 1.5}
  last_applied_recommendations: [{component: function, dimension: replicas, target: 2, basis: enforcer, confidence: 1}]
  last_applied_at: null
`

func TestOaasRsObjectIsValid(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	want := decode(t, []byte(oaasRsObject))
	got, refusal := s.store(t, want, nil)
	if refusal != "" {
		t.Fatal(refusal)
	}
	// The stored object reads into the Go types and nothing of it is lost.
	object := &v1alpha1.ClassRuntime{}
	if err := json.Unmarshal(encode(t, got), object); err != nil {
		t.Fatal(err)
	}
	if object.Spec.Addons != nil || *object.Spec.OdgmConfig.NodeID != 12345 || object.Status.LastUpdated == nil ||
		string(object.Status.NfrRecommendations["memory"].Raw) != "1.5" {
		t.Errorf("decoded: %+v", object)
	}
	if _, refusal := s.store(t, decode(t, encode(t, object)), got); refusal != "" {
		t.Errorf("written back: %s", refusal)
	}
	null := maps.Clone(got)
	null["status"] = nil
	if _, refusal := s.store(t, null, nil); refusal != "" {
		t.Errorf("null status: %s", refusal)
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	got, refusal := s.store(t, decode(t, []byte(`{spec: {functions: [{function_key: a, provision_config: {container_image: i}, qos_requirement: {availability: 0.5}}]}}`)), nil)
	if refusal != "" {
		t.Fatal(refusal)
	}
	text := string(encode(t, got))
	for _, want := range []string{`"addons":["odgm"]`, `"max_concurrency":0`, `"need_http2":false`, `"throughput":0`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
}

func TestEmptyAddonsSurviveTheGoTypes(t *testing.T) {
	t.Parallel()
	object := &v1alpha1.ClassRuntime{}
	object.Spec.Addons = []string{}
	if text := string(encode(t, object)); !strings.Contains(text, `"addons":[]`) {
		t.Errorf("an empty allow-list got lost, and the default would switch the object store on: %s", text)
	}
	object.Spec.Addons = nil
	if text := string(encode(t, object)); strings.Contains(text, "addons") {
		t.Errorf("unset addons are written: %s", text)
	}
}

// delivered is an object with a delivery; changes are "member: value".
func delivered(changes map[string]any) map[string]any {
	delivery := map[string]any{
		"unit_id": "u", "deployment_uid": "d", "control_plane_id": "c",
		"epoch": int64(1), "fence": int64(10), "content_hash": "aa",
	}
	maps.Copy(delivery, changes)
	return map[string]any{"spec": map[string]any{"delivery": delivery}}
}

func TestDeliveryRules(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	bare := map[string]any{"spec": map[string]any{}}
	tests := map[string]struct {
		old, object map[string]any
		refusal     string
	}{
		"first":                       {object: delivered(nil)},
		"same again":                  {old: delivered(nil), object: delivered(nil)},
		"higher fence":                {old: delivered(nil), object: delivered(map[string]any{"fence": int64(11), "content_hash": "bb"})},
		"higher epoch, lower fence":   {old: delivered(nil), object: delivered(map[string]any{"epoch": int64(2), "fence": int64(1), "content_hash": "bb"})},
		"lower fence":                 {old: delivered(nil), object: delivered(map[string]any{"fence": int64(9)}), refusal: "stale change"},
		"lower epoch, higher fence":   {old: delivered(nil), object: delivered(map[string]any{"epoch": int64(0), "fence": int64(99)}), refusal: "stale change"},
		"same fence, other hash":      {old: delivered(nil), object: delivered(map[string]any{"content_hash": "bb"}), refusal: "another content_hash"},
		"adopted":                     {old: bare, object: delivered(nil)},
		"removed":                     {old: delivered(nil), object: bare, refusal: "cannot be removed"},
		"nulled":                      {old: delivered(nil), object: map[string]any{"spec": map[string]any{"delivery": nil}}, refusal: "cannot be removed"},
		"never had one":               {old: bare, object: bare},
		"another unit":                {old: delivered(nil), object: delivered(map[string]any{"fence": int64(11), "unit_id": "x"}), refusal: "unit_id is immutable"},
		"another deployment":          {old: delivered(nil), object: delivered(map[string]any{"fence": int64(11), "deployment_uid": "x"}), refusal: "deployment_uid is immutable"},
		"another control plane":       {old: delivered(nil), object: delivered(map[string]any{"fence": int64(11), "control_plane_id": "x"}), refusal: "control_plane_id is immutable"},
		"incomplete":                  {object: map[string]any{"spec": map[string]any{"delivery": map[string]any{"epoch": int64(1)}}}, refusal: "Required value"},
		"negative fence":              {object: delivered(map[string]any{"fence": int64(-1)}), refusal: "greater than or equal to 0"},
		"fence beyond what JSON does": {object: delivered(map[string]any{"fence": int64(1) << 60}), refusal: "less than or equal to"},
		"empty hash":                  {object: delivered(map[string]any{"content_hash": ""}), refusal: "at least 1"},
		"huge hash":                   {object: delivered(map[string]any{"content_hash": strings.Repeat("a", 129)}), refusal: "Too long"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, refusal := s.store(t, tc.object, tc.old)
			if tc.refusal == "" && refusal != "" {
				t.Errorf("refused: %s", refusal)
			}
			if !strings.Contains(refusal, tc.refusal) {
				t.Errorf("refusal %q, want %q", refusal, tc.refusal)
			}
		})
	}
}

// TestStoredObjectsDecode: what the schema lets through decodes into the Go
// types. One object that does not would stop every informer.
func TestStoredObjectsDecode(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for _, text := range []string{
		`{spec: {odgm_config: {node_id: 18446744073709551615}}}`,
		`{spec: {odgm_config: {node_id: 9223372036854775807}}}`,
		`{spec: {odgm_config: {env_node_ids: {a: [1.5]}}}}`,
		`{spec: {odgm_config: {partition_count: 3000000000}}}`,
		`{spec: {functions: [{function_key: a, provision_config: {min_scale: 4294967295}}]}}`,
		`{spec: {functions: [{function_key: a, provision_config: {min_scale: 4294967296}}]}}`,
		`{spec: {functions: [{function_key: a, provision_config: {port: 70000}}]}}`,
		`{spec: {functions: [{function_key: a, provision_config: {max_concurrency: -1}}]}}`,
		`{spec: {telemetry: {sampling_rate: 1e300}}}`,
		`{spec: {}, status: {last_updated: yesterday}}`,
		`{spec: {}, status: {last_updated: "2024-05-01T10:00:00Z", observed_generation: 9223372036854775807}}`,
		`{spec: {}, status: {nfr_recommendations: {a: {b: [1, null]}, c: null}}}`,
		`{spec: {delivery: {unit_id: u, deployment_uid: d, control_plane_id: c, content_hash: h, epoch: 9007199254740991, fence: 9007199254740991}}}`,
	} {
		stored, refusal := s.store(t, decode(t, []byte(text)), nil)
		if refusal != "" {
			continue
		}
		if err := json.Unmarshal(encode(t, stored), &v1alpha1.ClassRuntime{}); err != nil {
			t.Errorf("%s is stored but does not decode: %v", text, err)
		}
	}
}
