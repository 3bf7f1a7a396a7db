package model

import (
	"bytes"
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"
)

var enumValues = map[reflect.Type][]string{
	reflect.TypeFor[FunctionType]():        {"BUILTIN", "CUSTOM", "MACRO", "LOGICAL", "WASM"},
	reflect.TypeFor[DeploymentCondition](): {"PENDING", "DEPLOYING", "RUNNING", "DOWN", "DELETED"},
	reflect.TypeFor[AccessModifier]():      {"PUBLIC", "INTERNAL", "PRIVATE"},
	reflect.TypeFor[ConsistencyModel]():    {"NONE", "READ_YOUR_WRITE", "BOUNDED_STALENESS", "STRONG"},
	reflect.TypeFor[TolerationOperator]():  {"Equal", "Exists"},
	reflect.TypeFor[PlacementPreference](): {"fewest", "cheapest"},
	reflect.TypeFor[PlacementStability]():  {"keep", "rebalance"},
	reflect.TypeFor[TemplateName]():        {"dev", "edge", "k8s_deployment", "knative"},
	reflect.TypeFor[PodSecurity]():         {"none", "baseline", "restricted"},
	reflect.TypeFor[NetworkPolicy]():       {"none", "namespace"},
	reflect.TypeFor[ImagePullPolicy]():     {"Always", "IfNotPresent", "Never"},
	reflect.TypeFor[TaintEffect]():         {"NoSchedule", "PreferNoSchedule", "NoExecute"},
	reflect.TypeFor[FailurePolicy]():       {"keep", "rollback"},
	reflect.TypeFor[FailoverMode]():        {"off", "automatic"},
	reflect.TypeFor[ReturnPolicy]():        {"stay", "return"},
	reflect.TypeFor[Amount]():              {"0", "1", "250", "25%", "100%"},
	reflect.TypeFor[Weekday]():             {"mon", "tue", "wed", "thu", "fri", "sat", "sun"},
}

// fill sets every exported field of v. With full, nothing stays empty. It goes by
// reflection, so a field that a table forgets is found.
func fill(t *rapid.T, v reflect.Value, full bool) {
	some := func() bool { return full || rapid.Bool().Draw(t, "some") }
	count := func() int {
		if full {
			return 2
		}
		return rapid.IntRange(0, 2).Draw(t, "count")
	}
	if values, ok := enumValues[v.Type()]; ok {
		v.SetString(rapid.SampledFrom(values).Draw(t, "enum"))
		return
	}
	if v.Type() == reflect.TypeFor[time.Time]() {
		seconds := rapid.Int64Range(-62167219200, 253402300799).Draw(t, "seconds")
		v.Set(reflect.ValueOf(time.Unix(seconds, rapid.Int64Range(0, 999999999).Draw(t, "ns")).UTC()))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(strings.ToValidUTF8(rapid.String().Draw(t, "string"), ""))
		if full && v.String() == "" {
			v.SetString("x")
		}
	case reflect.Bool:
		v.SetBool(some())
	case reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(rapid.Uint64Range(1, 1<<v.Type().Bits()-1).Draw(t, "uint"))
	case reflect.Float64:
		v.SetFloat(rapid.Float64().Filter(func(f float64) bool { return !math.IsInf(f, 0) && !math.IsNaN(f) && f != 0 }).Draw(t, "float"))
	case reflect.Pointer:
		if some() {
			v.Set(reflect.New(v.Type().Elem()))
			fill(t, v.Elem(), full)
		}
	case reflect.Slice:
		if n := count(); n > 0 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
			for i := range n {
				fill(t, v.Index(i), full)
			}
		}
	case reflect.Map:
		for range count() {
			if v.IsNil() {
				v.Set(reflect.MakeMap(v.Type()))
			}
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(t, key, full)
			fill(t, value, full)
			v.SetMapIndex(key, value)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i), full)
		}
	default:
		t.Fatalf("the generator does not know %s", v.Type())
	}
}

func generate[T any](t *rapid.T) *T {
	out := new(T)
	fill(t, reflect.ValueOf(out).Elem(), rapid.Bool().Draw(t, "full"))
	return out
}

type document[T any] interface {
	*T
	json.Marshaler
	json.Unmarshaler
	Clone() *T
}

func checkRoundTrip[T any, P document[T]](t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := generate[T](t)
		first, err := P(want).MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		got := new(T)
		if err := P(got).UnmarshalJSON(first); err != nil {
			t.Fatalf("%v in %s", err, first)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("decode(encode(x)) differs (-want +got):\n%s", diff)
		}
		second, err := P(got).MarshalJSON()
		if err != nil || !bytes.Equal(first, second) {
			t.Fatalf("encoded again, error %v:\n%s\n%s", err, first, second)
		}
		if !json.Valid(first) {
			t.Fatalf("not JSON: %s", first)
		}
		if diff := cmp.Diff(want, P(want).Clone()); diff != "" {
			t.Fatalf("clone differs (-want +got):\n%s", diff)
		}
	})
}

func TestPackageRoundTrip(t *testing.T)    { checkRoundTrip[OPackage](t) }
func TestDeploymentRoundTrip(t *testing.T) { checkRoundTrip[OClassDeployment](t) }

// TestCloneSharesNothing overwrites everything reachable from a clone.
func TestCloneSharesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		original := generate[OPackage](t)
		before, err := original.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		scramble(reflect.ValueOf(original.Clone()))
		after, err := original.MarshalJSON()
		if err != nil || !bytes.Equal(before, after) {
			t.Fatalf("the original changed with its clone (error %v):\n%s\n%s", err, before, after)
		}
	})
}

func scramble(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			scramble(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			scramble(v.Index(i))
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			if v.MapIndex(key).Kind() == reflect.Slice {
				scramble(v.MapIndex(key))
			}
			v.SetMapIndex(key, reflect.Zero(v.Type().Elem()))
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.SetZero()
			return
		}
		for i := range v.NumField() {
			scramble(v.Field(i))
		}
	default:
		v.SetZero()
	}
}

// TestYAMLSaysTheSame writes documents with another YAML writer and reads them
// with ours.
func TestYAMLSaysTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := generate[OPackage](t)
		text, err := want.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		var tree any
		dec := json.NewDecoder(bytes.NewReader(text))
		dec.UseNumber() // 64-bit integers do not fit a float
		if err := dec.Decode(&tree); err != nil {
			t.Fatal(err)
		}
		asYAML, err := yaml.Marshal(stringly(tree))
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodePackageYAML(asYAML)
		if err != nil {
			t.Fatalf("%v in:\n%s", err, asYAML)
		}
		again, err := got.MarshalJSON()
		if err != nil || !bytes.Equal(text, again) {
			t.Fatalf("error %v\nwant %s\ngot  %s", err, text, again)
		}
	})
}

// stringly quotes every string, so that the writer's idea of what needs quotes
// does not matter, and gives numbers without loss.
func stringly(v any) *yaml.Node {
	switch v := v.(type) {
	case map[string]any:
		n := &yaml.Node{Kind: yaml.MappingNode}
		for _, key := range sortedKeys(v) {
			n.Content = append(n.Content, stringly(key), stringly(v[key]))
		}
		return n
	case []any:
		n := &yaml.Node{Kind: yaml.SequenceNode}
		for _, item := range v {
			n.Content = append(n.Content, stringly(item))
		}
		return n
	case string:
		return &yaml.Node{Kind: yaml.ScalarNode, Style: yaml.DoubleQuotedStyle, Tag: "!!str", Value: v}
	default:
		text, _ := json.Marshal(v)
		return &yaml.Node{Kind: yaml.ScalarNode, Value: string(text)}
	}
}
