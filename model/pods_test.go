package model

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// podsExample is the example of the documentation.
func podsExample(tb testing.TB) []byte {
	tb.Helper()
	text, err := os.ReadFile("testdata/pods.yaml")
	if err != nil {
		tb.Fatal(err)
	}
	return text
}

func TestPodsExample(t *testing.T) {
	docs, err := DecodeManifest(podsExample(t))
	if err != nil || len(docs) != 1 || docs[0].Deployment == nil {
		t.Fatalf("got %+v, %v", docs, err)
	}
	d := docs[0].Deployment
	if err := d.Validate(); err != nil {
		t.Error(err)
	}
	got, err := d.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"key":"shop.Cart","package_name":"shop","class_key":"Cart",` +
		`"nfr_requirements":{"min_throughput_rps":null,"availability":null,"cpu_utilization_target":null},` +
		`"pods":{"service_account":"shop","pull_secrets":["shop-registry"],"node_selector":{"disk":"ssd"},` +
		`"tolerations":[{"key":"dedicated","operator":"Equal","value":"shop","effect":"NoSchedule"},{"key":"spot","operator":"Exists","effect":"NoExecute","toleration_seconds":60}],` +
		`"security":"restricted","cpu_request":"250m","memory_request":"128Mi","spread":true,"disruption_budget":false,` +
		`"network_policy":"namespace","priority_class":"shop","image_pull_policy":"IfNotPresent"},` +
		`"functions":[],"condition":"PENDING"}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("canonical form (-want +got):\n%s", diff)
	}
}

// What the documentation shows is what the tests read.
func TestPodsExampleIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/rest.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), "```yaml\n"+string(podsExample(t))+"```") {
		t.Error("docs/rest.md does not have testdata/pods.yaml as it is")
	}
}

// Documents without pod settings have the bytes of the original system.
func TestPodsAreLeftOut(t *testing.T) {
	for in, want := range map[string]string{
		``:             ``,
		`,"pods":null`: ``,
		`,"pods":{}`:   `"pods":{},`,
		`,"pods":{"pull_secrets":[],"node_selector":{},"tolerations":[],"service_account":"","spread":null}`: `"pods":{},`,
	} {
		d, err := DecodeDeployment([]byte(`{"key":"k","package_name":"p","class_key":"c"` + in + `}`))
		if err != nil {
			t.Fatal(err)
		}
		got, err := d.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		whole := `{"key":"k","package_name":"p","class_key":"c","nfr_requirements":{"min_throughput_rps":null,"availability":null,"cpu_utilization_target":null},` +
			want + `"functions":[],"condition":"PENDING"}`
		if diff := cmp.Diff(whole, string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", in, diff)
		}
	}
	class, err := OClass{Key: "c"}.MarshalJSON()
	if want := `{"key":"c","description":null,"state_spec":null,"function_bindings":[]}`; err != nil || string(class) != want {
		t.Errorf("%s, %v", class, err)
	}
}

func TestPodsSchema(t *testing.T) {
	for in, want := range map[string]string{
		`"security":"strict"`:                                 `pods.security: must be one of none, baseline, restricted, got "strict"`,
		`"network_policy":false`:                              `pods.network_policy: must be one of none, namespace, got a boolean`,
		`"image_pull_policy":""`:                              `pods.image_pull_policy: must be one of Always, IfNotPresent, Never, got ""`,
		`"spread":"yes"`:                                      `pods.spread: must be true or false`,
		`"tolerations":[{"effect":"No"}]`:                     `pods.tolerations[0].effect: must be one of NoSchedule, PreferNoSchedule, NoExecute, got "No"`,
		`"tolerations":[{"key":"a","toleration_seconds":-1}]`: `pods.tolerations[0].toleration_seconds: must be a whole number`,
		`"cpu_request":1`:                                     `pods.cpu_request: must be a string`,
	} {
		_, err := DecodeDeployment([]byte(`{"key":"k","package_name":"p","class_key":"c","pods":{` + in + `}}`))
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v\nwant %s", in, err, want)
		}
	}
}

func TestValidatePods(t *testing.T) {
	list := func(n int, each string) string {
		var all []string
		for i := range n {
			all = append(all, strings.ReplaceAll(each, "#", fmt.Sprint(i)))
		}
		return strings.Join(all, ",")
	}
	for in, want := range map[string][]string{
		`"service_account":"A_b","priority_class":"-"`: {
			`pods.service_account: "A_b" is no name of a Kubernetes object: lower-case letters, digits, '-' and '.', at most 253 characters`,
			`pods.priority_class: "-" is no name of a Kubernetes object: lower-case letters, digits, '-' and '.', at most 253 characters`},
		`"pull_secrets":["a","","a"]`: {
			"pods.pull_secrets[1]: must not be empty",
			`pods.pull_secrets[2]: secret "a" is already at pods.pull_secrets[0]; rename or remove one`},
		`"pull_secrets":[` + list(17, `"s#"`) + `]`:        {"pods.pull_secrets: has 17 entries; at most 16 are allowed"},
		`"node_selector":{` + list(33, `"k#":"v"`) + `}`:   {"pods.node_selector: has 33 entries; at most 32 are allowed"},
		`"tolerations":[` + list(33, `{"key":"k#"}`) + `]`: {"pods.tolerations: has 33 entries; at most 32 are allowed"},
		`"node_selector":{"a b":"v","k":"-"}`: {
			`pods.node_selector["a b"]: "a b" is not the key of a label; write for instance tier or example.com/tier`,
			`pods.node_selector.k: "-" is no value of a label: up to 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends`},
		`"tolerations":[{"value":"v"},{"key":"k","operator":"Exists","value":"v"},{"key":"k","toleration_seconds":1},{"operator":"Exists","effect":"NoExecute","toleration_seconds":9007199254740992}]`: {
			"pods.tolerations[0].key: must not be empty; only with operator Exists it is, and then means every taint",
			"pods.tolerations[1].value: must be empty, as pods.tolerations[1].operator is Exists; remove it or write Equal",
			"pods.tolerations[2].toleration_seconds: needs the effect NoExecute; remove it or write pods.tolerations[2].effect: NoExecute",
			"pods.tolerations[3].toleration_seconds: must be at most 9007199254740991; leave it out for ever"},
		`"cpu_request":"half","memory_request":"` + strings.Repeat("1", 65) + `"`: {
			`pods.cpu_request: "half" is not a Kubernetes quantity; write for instance 500m or 2, or 0 for none`,
			"pods.memory_request: is 65 bytes long; shorten it to at most 64"},
		`"cpu_request":"0","memory_request":"1Gi"`: nil,
	} {
		d, err := DecodeDeployment([]byte(`{"key":"k","package_name":"p","class_key":"c","pods":{` + in + `}}`))
		if err != nil {
			t.Fatal(in, err)
		}
		var got []string
		if want != nil {
			got = problemsOf(t, d.Validate)
		} else if err := d.Validate(); err != nil {
			t.Errorf("%s: %v", in, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: problems (-want +got):\n%s", in, diff)
		}
	}
	p := OPackage{Name: "p", Classes: []OClass{{Key: "c", Pods: &PodSettings{ServiceAccount: "A"}}}}
	if err := p.Validate(); err == nil || !strings.Contains(err.Error(), "classes[0].pods.service_account") {
		t.Errorf("a class of a package: %v", err)
	}
}

// A setting that is misspelt is refused where people write it, in deployments, in classes
// and in packages.
func TestMisspeltPods(t *testing.T) {
	const pods = `{"service_acount":"a"}`
	deployment := `{"key":"a","package_name":"p","class_key":"C","surprise":1,"pods":` + pods + `}`
	class := `{"name":"p","classes":[{"key":"C","surprise":1,"pods":` + pods + `}]}`
	if _, err := DecodeDeployment([]byte(deployment)); err != nil {
		t.Errorf("what a newer server stored: %v", err)
	}
	if _, err := DecodePackage([]byte(class)); err != nil {
		t.Errorf("what a newer server stored: %v", err)
	}
	_, inDeployment := ReadDeployment([]byte(deployment))
	_, inPackage := ReadPackage([]byte(`{"name":"p","deployments":[` + deployment + `]}`))
	_, inClass := ReadPackage([]byte(class))
	_, inManifest := DecodeManifest([]byte(class))
	_, inTolerations := ReadDeployment([]byte(strings.Replace(deployment, pods, `{"tolerations":[{"kay":"a"}]}`, 1)))
	for want, err := range map[string]error{
		"pods.service_acount: is none of service_account, pull_secrets,": inDeployment,
		"deployments[0].pods.service_acount: is none of":                 inPackage,
		"classes[0].pods.service_acount: is none of":                     inClass,
		"classes[0].pods.service_acount: is none of service_account":     inManifest,
		"pods.tolerations[0].kay: is none of key, operator,":             inTolerations,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
