package template_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/crm/template"
)

var update = flag.Bool("update", false, "write the golden files")

func ptr[T any](v T) *T { return &v }

// echo is a container function with nothing but an image.
func echo(key string) v1alpha1.FunctionSpec {
	return v1alpha1.FunctionSpec{
		FunctionKey:     key,
		ProvisionConfig: &v1alpha1.ProvisionConfig{ContainerImage: "registry.local/echo:1"},
	}
}

func wasm(key string) v1alpha1.FunctionSpec {
	return v1alpha1.FunctionSpec{
		FunctionKey:     key,
		ProvisionConfig: &v1alpha1.ProvisionConfig{WasmModuleURL: "https://modules.local/" + key + ".wasm?a=1&b=2"},
	}
}

func input(spec v1alpha1.ClassRuntimeSpec, changes ...func(*template.Input)) template.Input {
	in := template.Input{
		Name: "record-abcd1234", Namespace: "oaas-1", UID: "7d0f0d7c-0000-4000-8000-000000000001",
		Spec: &spec, Environment: template.Environment{Profile: "full"},
	}
	for _, change := range changes {
		change(&in)
	}
	return in
}

// scaled is a container function with scale bounds.
func scaled(least *uint32, most uint32) v1alpha1.FunctionSpec {
	fn := echo("Record.scaled")
	fn.ProvisionConfig.MinScale, fn.ProvisionConfig.MaxScale = least, &most
	return fn
}

// record is a class with two functions, collections, routes and assignments.
func record() v1alpha1.ClassRuntimeSpec {
	return v1alpha1.ClassRuntimeSpec{
		PackageClassKey: "example.Record",
		Functions:       []v1alpha1.FunctionSpec{echo("Record.echo"), echo("Record.random")},
		OdgmConfig: &v1alpha1.OdgmConfig{
			Collections: []string{"example.Record"}, ReplicaCount: ptr(int32(1)), Log: "info",
			NodeID: ptr(v1alpha1.NodeID(12345)), EnvNodeIDs: map[string][]v1alpha1.NodeID{"oaas-2": {777}, "oaas-1": {12345, 777}},
			CollectionAssignments: map[string][]v1alpha1.ShardAssignment{
				"example.Record": {{Primary: ptr(v1alpha1.NodeID(1)), Replica: []v1alpha1.NodeID{12345}, ShardIDs: []v1alpha1.NodeID{1}}},
			},
			Invocations: &v1alpha1.Invocations{FnRoutes: map[string]v1alpha1.FunctionRoute{
				"random": {URL: "http://record-abcd1234-fn-1:80/", Stateless: ptr(false), FunctionKey: "Record.random"},
				"echo":   {URL: "http://record-abcd1234-fn-0:80/", FunctionKey: "Record.echo"},
			}},
		},
	}
}

func routed(routes map[string]v1alpha1.FunctionRoute, functions ...v1alpha1.FunctionSpec) v1alpha1.ClassRuntimeSpec {
	return v1alpha1.ClassRuntimeSpec{
		PackageClassKey: "example.Record", Functions: functions,
		OdgmConfig: &v1alpha1.OdgmConfig{
			Collections: []string{"b", "a"},
			Invocations: &v1alpha1.Invocations{FnRoutes: routes, DisabledFn: []string{"off"}},
		},
	}
}

// settled is a class that says something of every member of spec.pods.
func settled(functions ...v1alpha1.FunctionSpec) v1alpha1.ClassRuntimeSpec {
	return v1alpha1.ClassRuntimeSpec{
		PackageClassKey: "example.Record", Functions: functions,
		Pods: &v1alpha1.PodSettings{
			ServiceAccount: "records", PullSecrets: []string{"registry", "records"}, NodeSelector: map[string]string{"pool": "records", "gpu": "true"},
			Tolerations: []v1alpha1.Toleration{
				{Key: "gpu", Operator: "Exists", Effect: "NoExecute", TolerationSeconds: ptr(int64(60))}, {Key: "team", Value: "records"},
			},
			Security: "none", CPURequest: "1", MemoryRequest: "1Gi", Spread: ptr(true), DisruptionBudget: ptr(false),
			NetworkPolicy: "namespace", PriorityClass: "records", ImagePullPolicy: "Always",
		},
	}
}

// platform is a cluster that says something of every option of pods.
func platform(in *template.Input) {
	in.Environment.Pods = template.PodOptions{
		ServiceAccount: "functions", PullSecrets: []string{"mirror", "registry"}, NodeSelector: map[string]string{"pool": "functions", "disk": "ssd"},
		Tolerations: []corev1.Toleration{{Key: "pool", Operator: corev1.TolerationOpExists}},
		Security:    template.SecurityRestricted, CPURequest: "100m", MemoryRequest: "32Mi", Spread: ptr(false), DisruptionBudget: ptr(true),
		NetworkPolicy: template.NetworkNone, NetworkFrom: []string{"gateways"}, PriorityClass: "functions", PullPolicy: "IfNotPresent",
	}
	in.Environment.ODGM.PullPolicy = "Never"
}

func goldenCases() map[string]template.Input {
	profile := func(name string) func(*template.Input) {
		return func(in *template.Input) { in.Environment.Profile = name }
	}
	full := echo("Record.echo")
	full.Config = map[string]string{"HTTP_PORT": "9000", "ODGM_ENABLED": "mine", "A": ""}
	full.ProvisionConfig.Port, full.ProvisionConfig.NeedHTTP2 = ptr(int32(9000)), true
	full.ProvisionConfig.CPURequest, full.ProvisionConfig.CPULimit = "250m", "1"
	full.ProvisionConfig.MemoryRequest, full.ProvisionConfig.MemoryLimit = "64Mi", "128Mi"
	full.ProvisionConfig.MinScale, full.ProvisionConfig.MaxScale = ptr(uint32(3)), ptr(uint32(9))
	busy := full
	provision := *full.ProvisionConfig
	provision.MaxConcurrency = 20
	busy.ProvisionConfig = &provision
	telemetry := v1alpha1.ClassRuntimeSpec{
		PackageClassKey: "example.Record", Functions: []v1alpha1.FunctionSpec{echo("Record.echo")},
		Telemetry: &v1alpha1.Telemetry{
			Enabled: ptr(true), Traces: ptr(true), Metrics: ptr(false), Logs: ptr(true), SamplingRate: ptr(0.25),
			ServiceName: "records", ResourceAttributes: map[string]string{"team": "a,b", "stage": "prod"},
		},
	}
	collector := func(in *template.Input) { in.Environment.Telemetry.Endpoint = "http://otel:4317" }
	delivered := record()
	delivered.Delivery = &v1alpha1.Delivery{UnitID: "record-abcd1234", DeploymentKey: "records", DeploymentUID: "u", ControlPlaneID: "c", Epoch: 1, Fence: 7, ContentHash: "h"}
	plain := v1alpha1.ClassRuntimeSpec{Addons: []string{}, Functions: []v1alpha1.FunctionSpec{echo("echo")}}
	broken := record()
	broken.OdgmConfig.CollectionAssignments["example.Record"][0].Replica = nil
	return map[string]template.Input{
		"dev":            input(record(), profile("dev")),
		"edge":           input(record(), profile("edge")),
		"k8s_deployment": input(record()),
		"minimal":        input(plain, func(in *template.Input) { in.UID = "" }),
		"function-options": input(v1alpha1.ClassRuntimeSpec{
			PackageClassKey: "example.Record", Functions: []v1alpha1.FunctionSpec{full},
		}, func(in *template.Input) { in.Environment.Router = &template.Router{Service: "router", Port: 7447} }),
		"pod-options": input(record(), func(in *template.Input) {
			in.Environment.Pods = template.PodOptions{
				ServiceAccount: "functions", PullSecrets: []string{"registry", "mirror"}, NodeSelector: map[string]string{"pool": "functions"},
				Security: template.SecurityRestricted, PriorityClass: "functions", PullPolicy: "IfNotPresent",
				CPURequest: "100m", MemoryRequest: "0",
				Tolerations: []corev1.Toleration{{Key: "pool", Operator: corev1.TolerationOpEqual, Value: "functions", Effect: corev1.TaintEffectNoSchedule}},
			}
		}),
		"pod-class":     input(settled(full), platform),
		"pod-class-dev": input(settled(full), platform, profile("dev")),
		"network-policy": input(record(), func(in *template.Input) {
			in.Environment.Pods = template.PodOptions{NetworkPolicy: template.NetworkNamespace, NetworkFrom: []string{"gateways", "10.1.0.0/16"}}
		}),
		"odgm-options": input(record(), func(in *template.Input) {
			in.Environment.ODGM = template.ODGMOptions{Image: "registry.local/odgm:2", PullPolicy: "Never", HealthPath: "/healthz"}
			in.Environment.Router = &template.Router{Service: "router"}
		}),
		"odgm-alone":       input(v1alpha1.ClassRuntimeSpec{PackageClassKey: "bad key/ü", Addons: []string{"ODGM"}, OdgmConfig: &v1alpha1.OdgmConfig{Collections: []string{"c"}}}),
		"bad-assignments":  input(broken),
		"wasm":             input(routed(map[string]v1alpha1.FunctionRoute{"first": {FunctionKey: "R.first"}}, wasm("R.first"), echo("R.second"))),
		"routes-predicted": input(routed(nil, echo("R.echo"), echo("Other.echo"), echo("plain"), wasm("R.module"))),
		"routes-given": input(routed(map[string]v1alpha1.FunctionRoute{
			"port":    {URL: "http://svc:9000/"},
			"local":   {URL: "http://localhost:80/x"},
			"far":     {URL: "http://svc.ns:80/x"},
			"bare":    {URL: "http://svc", Standby: ptr(true), ActiveGroup: []v1alpha1.NodeID{2, 1}},
			"path":    {URL: "http://svc:80/a.b?c=d&e=f"},
			"tls":     {URL: "https://svc/"},
			"byKey":   {FunctionKey: "R.echo"},
			"nowhere": {FunctionKey: "R.nope"},
		}, echo("R.echo"), echo("R.unbound"))),
		"telemetry":             input(telemetry, collector),
		"telemetry-no-endpoint": input(telemetry),
		"replicas-enforced": input(v1alpha1.ClassRuntimeSpec{
			Functions: []v1alpha1.FunctionSpec{full}, Enforcement: &v1alpha1.Enforcement{Mode: "Enforce", Dimensions: []string{"replicas"}},
		}),
		"autoscaled": input(v1alpha1.ClassRuntimeSpec{
			PackageClassKey: "example.Record", Functions: []v1alpha1.FunctionSpec{full, scaled(nil, 4), scaled(ptr(uint32(0)), 4), scaled(ptr(uint32(2)), 2), echo("Record.one")},
			NfrRequirements: &v1alpha1.NfrRequirements{CPUUtilizationTarget: ptr(0.65)}, Addons: []string{},
		}, func(in *template.Input) {
			in.Environment.HPA = true
		}),
		"autoscaled-by-others": input(v1alpha1.ClassRuntimeSpec{
			Functions: []v1alpha1.FunctionSpec{full}, Addons: []string{},
		}, func(in *template.Input) {
			in.Environment.HPA = true
			in.Scaling = map[string]template.Scaling{"record-abcd1234": {Foreign: "keda-hpa"}}
		}),
		"autoscaler-left": input(v1alpha1.ClassRuntimeSpec{
			Functions: []v1alpha1.FunctionSpec{full}, Addons: []string{},
		}, func(in *template.Input) {
			in.Scaling = map[string]template.Scaling{"record-abcd1234": {KeptSince: ptr(int32(3))}}
		}),
		"knative": input(record(), func(in *template.Input) { in.Environment.Knative = true }),
		"knative-options": input(v1alpha1.ClassRuntimeSpec{
			PackageClassKey: "example.Record", SelectedTemplate: "kn",
			Functions: []v1alpha1.FunctionSpec{wasm("R.first"), busy, scaled(nil, 0)},
		}, func(in *template.Input) {
			in.Environment.Knative, in.UID = true, ""
			in.Environment.Pods = template.PodOptions{ServiceAccount: "functions", PullSecrets: []string{"registry"}, Security: template.SecurityRestricted}
		}),
		"knative-network": input(v1alpha1.ClassRuntimeSpec{
			PackageClassKey: "example.Record", SelectedTemplate: "kn", Functions: []v1alpha1.FunctionSpec{echo("echo")},
		}, func(in *template.Input) {
			in.Environment.Knative, in.Environment.Pods.NetworkPolicy = true, template.NetworkNamespace
		}),
		"knative-nothing": input(v1alpha1.ClassRuntimeSpec{Addons: []string{}, SelectedTemplate: "knative"}, func(in *template.Input) { in.Environment.Knative = true }),
		"delivered":       input(delivered),
		"long-name": input(record(), func(in *template.Input) {
			in.Name = "a-very-long-class-name-that-somebody-chose-without-thinking-of-dns.v1"
		}),
		"nothing": input(v1alpha1.ClassRuntimeSpec{Addons: []string{}}),
	}
}

func TestGolden(t *testing.T) {
	t.Parallel()
	r := registry(t)
	for name, in := range goldenCases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rendered, err := r.Render(in)
			if err != nil {
				t.Fatal(err)
			}
			got := show(t, rendered)
			path := filepath.Join("testdata", name+".yaml")
			if *update {
				if err := os.WriteFile(path, got, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("differs from %s (run with -update if that is meant):\n%s", path, diff)
			}
		})
	}
}

// TestGoldenFilesAreUsed finds files that a renamed case left behind.
func TestGoldenFilesAreUsed(t *testing.T) {
	t.Parallel()
	cases := goldenCases()
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) != len(cases) {
		t.Errorf("%d files for %d cases: %v", len(files), len(cases), err)
	}
}

// show is a rendering as one YAML stream: a summary, then the objects.
func show(t *testing.T, r *template.Rendered) []byte {
	t.Helper()
	var b bytes.Buffer
	fmt.Fprintf(&b, "# template: %s\n", r.Template)
	for _, e := range r.Endpoints {
		fmt.Fprintf(&b, "# function %s: workload %s, service %s:%d, %s\n", e.FunctionKey, e.Workload, e.Service, e.Port, e.URL)
	}
	for _, w := range r.Warnings {
		fmt.Fprintf(&b, "# warning: %s\n", w)
	}
	for _, o := range r.Objects {
		text, err := yaml.Marshal(o.Configuration)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "---\n# %s, function %d\n%s", o.Component, o.Function, text)
	}
	return b.Bytes()
}
