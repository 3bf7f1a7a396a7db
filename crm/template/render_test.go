package template_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"pgregory.net/rapid"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/crm/template"
	"oaas.io/control-plane/proto/oprcpb"
)

func TestInvalidSpecsNameTheField(t *testing.T) {
	t.Parallel()
	function := func(change func(*v1alpha1.FunctionSpec)) v1alpha1.ClassRuntimeSpec {
		f := echo("R.a")
		change(&f)
		return v1alpha1.ClassRuntimeSpec{Functions: []v1alpha1.FunctionSpec{echo("R.b"), f}}
	}
	provision := func(change func(*v1alpha1.ProvisionConfig)) v1alpha1.ClassRuntimeSpec {
		return function(func(f *v1alpha1.FunctionSpec) { change(f.ProvisionConfig) })
	}
	const path = "spec.functions[1].provision_config."
	for name, tc := range map[string]struct {
		spec v1alpha1.ClassRuntimeSpec
		want []string
	}{
		"no provision":  {function(func(f *v1alpha1.FunctionSpec) { f.ProvisionConfig = nil }), []string{path + "container_image", "Required"}},
		"blank image":   {provision(func(p *v1alpha1.ProvisionConfig) { p.ContainerImage = " " }), []string{path + "container_image"}},
		"cpu":           {provision(func(p *v1alpha1.ProvisionConfig) { p.CPURequest = "half" }), []string{path + "cpu_request", `"half"`, "250m"}},
		"memory":        {provision(func(p *v1alpha1.ProvisionConfig) { p.MemoryLimit = "1 GB" }), []string{path + "memory_limit"}},
		"negative":      {provision(func(p *v1alpha1.ProvisionConfig) { p.CPULimit = "-1" }), []string{path + "cpu_limit", "negative"}},
		"over limit":    {provision(func(p *v1alpha1.ProvisionConfig) { p.CPURequest, p.CPULimit = "2", "1" }), []string{path + "cpu_request", "cpu_limit (1)"}},
		"min_scale":     {provision(func(p *v1alpha1.ProvisionConfig) { p.MinScale = ptr(uint32(1 << 31)) }), []string{path + "min_scale"}},
		"port":          {provision(func(p *v1alpha1.ProvisionConfig) { p.Port = ptr(int32(65536)) }), []string{path + "port"}},
		"config":        {function(func(f *v1alpha1.FunctionSpec) { f.Config = map[string]string{"a=b": "", "": ""} }), []string{"spec.functions[1].config[a=b]", "spec.functions[1].config[]"}},
		"wasm alone":    {v1alpha1.ClassRuntimeSpec{Addons: []string{}, Functions: []v1alpha1.FunctionSpec{wasm("R.a")}}, []string{"spec.functions[0].provision_config.wasm_module_url", `"odgm"`}},
		"counts":        {v1alpha1.ClassRuntimeSpec{OdgmConfig: &v1alpha1.OdgmConfig{PartitionCount: ptr(int32(-1)), ReplicaCount: ptr(int32(-1)), Collections: []string{""}}}, []string{"spec.odgm_config.partition_count", "spec.odgm_config.replica_count", "spec.odgm_config.collections[0]"}},
		"sampling_rate": {v1alpha1.ClassRuntimeSpec{Telemetry: &v1alpha1.Telemetry{SamplingRate: ptr(1.5)}}, []string{"spec.telemetry.sampling_rate"}},
		"all at once": {v1alpha1.ClassRuntimeSpec{Functions: make([]v1alpha1.FunctionSpec, 7)},
			[]string{"spec.functions[0]", "spec.functions[4]", "and 2 more"}},
	} {
		rendered, err := registry(t).Render(input(tc.spec))
		var invalid *template.InvalidSpecError
		if !errors.As(err, &invalid) || rendered != nil {
			t.Errorf("%s: %v, %v", name, rendered, err)
			continue
		}
		for _, want := range tc.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q lacks %q", name, err, want)
			}
		}
	}
}

func TestTelemetryState(t *testing.T) {
	t.Parallel()
	on, off := &v1alpha1.Telemetry{Enabled: ptr(true)}, &v1alpha1.Telemetry{Enabled: ptr(false)}
	for _, tc := range []struct {
		spec    *v1alpha1.Telemetry
		options template.TelemetryOptions
		want    template.TelemetryState
	}{
		{nil, template.TelemetryOptions{}, template.TelemetryOff},
		{nil, template.TelemetryOptions{Endpoint: "e"}, template.TelemetryOff},
		{nil, template.TelemetryOptions{Enabled: true, Endpoint: "e"}, template.TelemetryOn},
		{&v1alpha1.Telemetry{}, template.TelemetryOptions{Enabled: true}, template.TelemetryNoEndpoint},
		{on, template.TelemetryOptions{}, template.TelemetryNoEndpoint},
		{on, template.TelemetryOptions{Endpoint: "e"}, template.TelemetryOn},
		{off, template.TelemetryOptions{Enabled: true, Endpoint: "e"}, template.TelemetryOff},
	} {
		if got := template.Telemetry(&v1alpha1.ClassRuntimeSpec{Telemetry: tc.spec}, tc.options); got != tc.want {
			t.Errorf("%+v, %+v: %v, want %v", tc.spec, tc.options, got, tc.want)
		}
	}
}

// drawInput draws a spec that can be rendered.
func drawInput(t *rapid.T) template.Input {
	spec := v1alpha1.ClassRuntimeSpec{PackageClassKey: rapid.String().Draw(t, "class")}
	if rapid.Bool().Draw(t, "odgm config") {
		spec.OdgmConfig = &v1alpha1.OdgmConfig{
			Collections:    rapid.SliceOfN(rapid.StringN(1, 20, -1), 0, 3).Draw(t, "collections"),
			PartitionCount: ptr(rapid.Int32Range(0, 3).Draw(t, "partitions")),
			Options:        rapid.MapOfN(rapid.String(), rapid.String(), 0, 5).Draw(t, "options"),
		}
		if rapid.Bool().Draw(t, "routes") {
			routes := rapid.MapOfN(rapid.String(), rapid.Map(rapid.String(), func(url string) v1alpha1.FunctionRoute {
				return v1alpha1.FunctionRoute{URL: url}
			}), 0, 5).Draw(t, "fn_routes")
			spec.OdgmConfig.Invocations = &v1alpha1.Invocations{FnRoutes: routes}
		}
	}
	for i := range rapid.IntRange(0, 5).Draw(t, "functions") {
		f := echo(rapid.StringN(1, 80, -1).Draw(t, "key"))
		if rapid.Bool().Draw(t, "wasm") {
			f = wasm(fmt.Sprintf("C.f%d", i))
		}
		if !f.IsWASM() {
			f.ProvisionConfig.MinScale = ptr(rapid.Uint32Range(0, 3).Draw(t, "min_scale"))
		}
		f.Config = rapid.MapOfN(rapid.StringMatching(`[A-Z_]{1,8}`), rapid.String(), 0, 8).Draw(t, "config")
		spec.Functions = append(spec.Functions, f)
	}
	if rapid.Bool().Draw(t, "pods") {
		spec.Pods = settled().Pods
		spec.Pods.DisruptionBudget = ptr(true)
	}
	return template.Input{
		Name:      rapid.StringMatching(`[a-z0-9]([a-z0-9.-]{0,100}[a-z0-9])?`).Draw(t, "name"),
		Namespace: "n", UID: "u", Spec: &spec,
		Environment: template.Environment{
			Profile: rapid.SampledFrom([]string{"dev", "edge", "full", ""}).Draw(t, "profile"),
			Router:  &template.Router{Service: "r"},
		},
	}
}

func TestRenderingIsDeterministicAndValid(t *testing.T) {
	t.Parallel()
	r := registry(t)
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t)
		before := in.Spec.DeepCopy()
		first, err := r.Render(in)
		if err != nil {
			t.Fatal(err)
		}
		shuffled := in
		shuffled.Spec = in.Spec.DeepCopy()
		second, err := r.Render(shuffled)
		if err != nil {
			t.Fatal(err)
		}
		if first.Hash != second.Hash || len(first.Objects) != len(second.Objects) {
			t.Fatalf("two renderings differ: %s, %s", first.Hash, second.Hash)
		}
		if diff := cmp.Diff(before, in.Spec); diff != "" {
			t.Fatalf("rendering changed the spec:\n%s", diff)
		}
		checkObjects(t, in, first)
	})
}

// checkObjects checks what has to hold for every rendering.
func checkObjects(t *rapid.T, in template.Input, r *template.Rendered) {
	seen := map[string]bool{}
	services := map[string]map[string]string{}
	deployments := 0
	for _, o := range r.Objects {
		if id := o.GVK.Kind + "/" + o.Name; seen[id] {
			t.Fatalf("%s twice", id)
		} else {
			seen[id] = true
		}
		if errs := validation.IsDNS1035Label(o.Name); len(errs) > 0 {
			t.Fatalf("%q: %v", o.Name, errs)
		}
		var meta metav1.ObjectMeta
		switch o.GVK.Kind {
		case "Deployment":
			deployments++
			d := remarshal[appsv1.Deployment](t, o)
			meta = d.ObjectMeta
			checkPods(t, d)
		case "NetworkPolicy":
			meta = remarshal[networkingv1.NetworkPolicy](t, o).ObjectMeta
		case "PodDisruptionBudget":
			meta = remarshal[policyv1.PodDisruptionBudget](t, o).ObjectMeta
		case "Service":
			s := remarshal[corev1.Service](t, o)
			meta = s.ObjectMeta
			services[o.Name] = s.Spec.Selector
			for _, p := range s.Spec.Ports {
				if p.Name == "" || p.Protocol == "" || p.TargetPort.IntVal == 0 {
					t.Fatalf("port without name, protocol or target: %+v", p)
				}
			}
		}
		if meta.Name != o.Name || meta.Namespace != in.Namespace || len(meta.OwnerReferences) != 1 || meta.Labels[template.LabelOwner] != template.OwnerLabel(in.Name) {
			t.Fatalf("metadata of %s: %+v", o.Name, meta)
		}
		for k, v := range meta.Labels {
			if len(validation.IsValidLabelValue(v)) > 0 {
				t.Fatalf("label %s=%q", k, v)
			}
		}
	}
	containers := 0
	for i, e := range r.Endpoints {
		if !in.Spec.Functions[i].IsWASM() {
			containers++
		}
		if services[e.Service] == nil && (!e.WASM || r.ODGM != "") {
			t.Fatalf("endpoint %+v has no Service", e)
		}
	}
	if r.ODGM != "" {
		containers++
	}
	if deployments != containers {
		t.Fatalf("%d Deployments for %d parts", deployments, containers)
	}
}

func checkPods(t *rapid.T, d appsv1.Deployment) {
	for k, v := range d.Spec.Selector.MatchLabels {
		if d.Spec.Template.Labels[k] != v {
			t.Fatalf("the selector of %s does not select its pods", d.Name)
		}
	}
	for _, c := range d.Spec.Template.Spec.Containers {
		names := slices.Collect(maps.Keys(envOf(c)))
		if len(names) != len(c.Env) {
			t.Fatalf("a variable of %s occurs twice: %v", d.Name, c.Env)
		}
		if collections, ok := envOf(c)["ODGM_COLLECTION"]; ok {
			checkCollections(t, collections)
		}
	}
}

// checkCollections reads the collections as the object store's own message: a
// member with another name or type than there is an error.
func checkCollections(t *rapid.T, text string) {
	var collections []json.RawMessage
	if err := json.Unmarshal([]byte(text), &collections); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	for _, c := range collections {
		if err := protojson.Unmarshal(c, &oprcpb.CreateCollectionRequest{}); err != nil {
			t.Fatalf("%v: %s", err, c)
		}
	}
}

func envOf(c corev1.Container) map[string]string {
	out := map[string]string{}
	for _, e := range c.Env {
		out[e.Name] = e.Value
	}
	return out
}

// remarshal reads a configuration as the API server would, strictly.
func remarshal[T any](t *rapid.T, o template.Object) T {
	var out T
	data, err := json.Marshal(o.Configuration)
	if err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(strings.NewReader(string(data)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&out); err != nil {
		t.Fatal(err)
	}
	return out
}
