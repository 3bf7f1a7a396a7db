package main

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"oaas.io/control-plane/model"
)

// The examples are what a new user submits first.
func TestExamplesAreValid(t *testing.T) {
	files, err := exampleFiles()
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		pkg, err := model.DecodePackageYAML(data)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if err := pkg.Validate(); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		keys, err := deploymentKeys(file)
		if err != nil || len(keys) == 0 {
			t.Errorf("%s: deployments %v, error %v", file, keys, err)
		}
		for i := range pkg.Deployments {
			if err := pkg.Deployments[i].Validate(); err != nil {
				t.Errorf("%s: %v", file, err)
			}
			if _, err := expect(pkg, &pkg.Deployments[i]); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
	}
}

func TestExpect(t *testing.T) {
	pkg, err := model.DecodePackageYAML([]byte(`
name: p
classes:
- key: One
  function_bindings:
  - {name: a, function_key: f, access_modifier: PUBLIC}
  - {name: b, function_key: f, access_modifier: PUBLIC}
- key: Two
  function_bindings:
  - {name: a, function_key: g, access_modifier: PUBLIC}
  - {name: b, function_key: f, access_modifier: PUBLIC}
functions:
- {key: f, provision_config: {container_image: "i:1", port: 9000, min_scale: 2, cpu_request: 10m}, config: {A: b}}
- {key: g, provision_config: {container_image: "i:2"}}
`))
	if err != nil {
		t.Fatal(err)
	}
	names := func(class string) string {
		e, err := expect(pkg, &model.OClassDeployment{Key: "k", PackageName: "p", ClassKey: class})
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, w := range e.workload {
			all = append(all, w.suffix)
		}
		return strings.Join(all, ",")
	}
	// A function that two methods share runs once, and a single one needs no number.
	if got := names("One"); got != ",-odgm" {
		t.Errorf("workloads of One: %q", got)
	}
	if got := names("Two"); got != "-fn-0,-fn-1,-odgm" {
		t.Errorf("workloads of Two: %q", got)
	}
	got := functionWorkload("-fn-1", &pkg.Functions[0])
	want := workload{
		suffix: "-fn-1", serviceSuffix: "-fn-1", container: "function", image: "i:1", ports: []int32{9000}, replicas: 2,
		env: map[string]string{"A": "b"}, requests: map[string]string{"cpu": "10m"}, service: map[int32]int32{80: 9000},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(workload{})); diff != "" {
		t.Error(diff)
	}
	if got := functionWorkload("", &pkg.Functions[1]); got.replicas != 1 || got.ports[0] != defaultPort {
		t.Errorf("defaults: %+v", got)
	}
	if _, err := expect(pkg, &model.OClassDeployment{ClassKey: "None"}); err == nil {
		t.Error("an unknown class was accepted")
	}
}
