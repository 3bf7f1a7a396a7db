package model

import (
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// placementExample is the example of the documentation.
func placementExample(tb testing.TB) []byte {
	tb.Helper()
	text, err := os.ReadFile("testdata/placement.yaml")
	if err != nil {
		tb.Fatal(err)
	}
	return text
}

func TestPlacementExample(t *testing.T) {
	docs, err := DecodeManifest(placementExample(t))
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
		`"nfr_requirements":{"min_throughput_rps":null,"availability":0.9995,"cpu_utilization_target":null},` +
		`"placement":{"allow":["eu-1","eu-2","eu-3","us-1"],"deny":["eu-9"],"match_labels":{"tier":"gold"},` +
		`"selector":"!legacy,generation in (g7,g8)","expression":"cluster.availability >= 0.99 && cluster.node_count >= 3",` +
		`"tolerations":[{"key":"dedicated","value":"shop","operator":"Equal"},{"key":"spot","operator":"Exists"}],` +
		`"requires":{"capabilities":["odgm"],"architecture":"arm64","template":"k8s_deployment"},` +
		`"resources":{"cpu_millis":1500,"memory_bytes":2147483648},` +
		`"spread":[{"topology":"region","max_per_domain":2,"min_domains":2},{"topology":"example.com/rack","max_per_domain":1}],` +
		`"anti_affinity":{"deployments":["shop.Order"],"topology":"zone"},"divide":[{"function":"Cart.add","pods":12,"survive":1},{"function":"Cart.sum","pods":3}],"max_cost":250.0,"max_latency_ms":30.0,"prefer":"cheapest","stability":"rebalance",` +
		`"disruption":{"max_moves":1},"windows":[{"days":["sat","sun"],"start":"02:00","duration":"4h","zone":"Europe/Berlin"}]},` +
		`"functions":[],"condition":"PENDING"}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("canonical form (-want +got):\n%s", diff)
	}
}

// What the documentation shows is what the tests read.
func TestPlacementExampleIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/rest.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), "```yaml\n"+string(placementExample(t))+"```") {
		t.Error("docs/rest.md does not have testdata/placement.yaml as it is")
	}
}

// A deployment without a placement has the bytes of the original system.
func TestPlacementIsLeftOut(t *testing.T) {
	for in, want := range map[string]string{
		``:                  ``,
		`,"placement":null`: ``,
		`,"placement":{}`:   `"placement":{"stability":"keep"},`,
		`,"placement":{"allow":[],"match_labels":{},"selector":"","requires":{},"resources":{"cpu_millis":0},"disruption":{},"windows":[]}`: `"placement":{"requires":{},"resources":{},"stability":"keep","disruption":{"max_moves":0}},`,
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
		if err := d.Validate(); err != nil {
			t.Errorf("%s: %v", in, err)
		}
	}
}

func TestPlacementSchema(t *testing.T) {
	for in, want := range map[string]string{
		`"prefer":"best"`:                         `placement.prefer: must be one of fewest, cheapest, got "best"`,
		`"stability":null`:                        `placement.stability: must be one of keep, rebalance, got null`,
		`"requires":{"template":""}`:              `placement.requires.template: must be one of dev, edge, k8s_deployment, knative, got ""`,
		`"tolerations":[{"operator":"In"}]`:       `placement.tolerations[0].operator: must be one of Equal, Exists, got "In"`,
		`"resources":{"cpu_millis":-1}`:           `placement.resources.cpu_millis: must be a whole number within 0..18446744073709551615`,
		`"spread":[{}]`:                           `placement.spread[0].topology: is required but missing`,
		`"anti_affinity":{}`:                      `placement.anti_affinity.deployments: is required but missing`,
		`"windows":[{"start":"1","zone":"UTC"}]`:  `placement.windows[0].duration: is required but missing`,
		`"disruption":{"max_moves":1.5}`:          `placement.disruption.max_moves: must be a whole number`,
		`"max_cost":"1"`:                          `placement.max_cost: must be a number, got a string`,
		`"match_labels":{"a":"1","a":"2"}`:        `placement.match_labels.a: appears twice`,
		`"windows":[{"days":["Mon"],"start":""}]`: `placement.windows[0].days[0]: must be one of mon, tue, wed, thu, fri, sat, sun, got "Mon"`,
	} {
		_, err := DecodeDeployment([]byte(`{"key":"k","package_name":"p","class_key":"c","placement":{` + in + `}}`))
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v\nwant %s", in, err, want)
		}
	}
}

func TestValidatePlacement(t *testing.T) {
	names := func(n int) string {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf(`"e%d"`, i))
		}
		return strings.Join(all, ",")
	}
	rules := func(n int) string {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf(`{"topology":"l%d","max_per_domain":1}`, i))
		}
		return strings.Join(all, ",")
	}
	for _, tc := range []struct {
		name, around, in string
		want             []string
	}{
		{"at the limits", "", `"allow":[` + names(100) + `],"selector":"` + strings.Repeat("s", 4096) + `","expression":"` + strings.Repeat("e", 4096) + `","spread":[` + rules(10) + `]`, nil},
		{"beyond the limits", "", `"allow":[` + names(101) + `],"selector":"` + strings.Repeat("s", 4097) + `","expression":"` + strings.Repeat("e", 4097) + `","spread":[` + rules(11) + `]`, []string{
			"placement.allow: has 101 entries; at most 100 are allowed",
			"placement.selector: is 4097 bytes long; shorten it to at most 4096",
			"placement.expression: is 4097 bytes long; shorten it to at most 4096",
			"placement.spread: has 11 entries; at most 10 are allowed"}},
		{"blank", "", `"selector":" ","expression":"\n"`, []string{
			"placement.selector: is blank; give a value or leave the field out",
			"placement.expression: is blank; give a value or leave the field out"}},
		{"names", "", `"allow":["a","a",""],"deny":["x/y"]`, []string{
			`placement.allow[1]: environment "a" is already at placement.allow[0]; rename or remove one`,
			"placement.allow[2]: must not be empty",
			"placement.deny[0]: must not contain '/'; use '.' or '-' instead"}},
		{"allowed and denied", "", `"allow":["a","b"],"deny":["b"]`, []string{
			`placement.deny[0]: environment "b" is also at placement.allow[1]; remove one`}},
		{"target denied", `,"target_envs":["a","b"]`, `"deny":["b"]`, []string{
			`placement.deny[0]: environment "b" is also at target_envs[1]; remove one`}},
		{"target not allowed", `,"target_envs":["a","b"]`, `"allow":["b"]`, []string{
			`target_envs[0]: environment "a" is not in placement.allow; add it there or remove it here`}},
		{"nothing available is allowed", `,"available_envs":["a"]`, `"allow":["b"]`, []string{
			"placement.allow: leaves no environment: none is in all of available_envs and placement.allow and not in placement.deny"}},
		{"everything available is denied", `,"available_envs":["a"]`, `"deny":["a"]`, []string{
			"available_envs: leaves no environment: none is in all of available_envs and placement.allow and not in placement.deny"}},
		{"labels", "", `"match_labels":{"-a":"1","b":"\u0007","example.com/c":"any text"}`, []string{
			`placement.match_labels.-a: "-a" is not the key of a label; write for instance tier or example.com/tier`,
			"placement.match_labels.b: must not contain control characters"}},
		{"tolerations", "", `"tolerations":[{"operator":"Exists"},{"value":"v"},{"key":"k","value":"v","operator":"Exists"},{"key":"a b"}]`, []string{
			"placement.tolerations[1].key: must not be empty; only with operator Exists it is, and then means every taint",
			"placement.tolerations[2].value: must be empty, as placement.tolerations[2].operator is Exists; remove it or write Equal",
			`placement.tolerations[3].key: "a b" is not the key of a label; write for instance tier or example.com/tier`}},
		{"requirements", "", `"requires":{"capabilities":["odgm","odgm",""],"architecture":"a/b"}`, []string{
			`placement.requires.capabilities[1]: capability "odgm" is already at placement.requires.capabilities[0]; rename or remove one`,
			"placement.requires.capabilities[2]: must not be empty",
			"placement.requires.architecture: must not contain '/'; use '.' or '-' instead"}},
		{"divide", "", `"divide":[{"function":"f","pods":0},{"function":"f","pods":100001,"survive":50},{"function":"","pods":1}]`, []string{
			"placement.divide[0].pods: must be within 1..100000, got 0",
			`placement.divide[1].function: function "f" is already at placement.divide[0].function; rename or remove one`,
			"placement.divide[1].pods: must be within 1..100000, got 100001",
			"placement.divide[1].survive: is 50; no deployment has more than 50 environments",
			"placement.divide[2].function: is empty; give the key of a function",
		}},
		{"spread", "", `"spread":[{"topology":"region"},{"topology":"region","max_per_domain":0},{"topology":"cluster","min_domains":51},{"topology":"a b","max_per_domain":1}]`, []string{
			"placement.spread[0]: has neither max_per_domain nor min_domains; give at least one",
			`placement.spread[1].topology: topology "region" is already at placement.spread[0].topology; rename or remove one`,
			"placement.spread[1].max_per_domain: must be within 1..50, got 0; leave it out for the default",
			`placement.spread[2].topology: must be region, zone, provider or the key of a label, got "cluster"`,
			"placement.spread[2].min_domains: must be within 1..50, got 51; leave it out for the default",
			`placement.spread[3].topology: must be region, zone, provider or the key of a label, got "a b"`}},
		{"more domains than allowed environments", "", `"allow":["a","b","c"],"spread":[{"topology":"zone","min_domains":4}]`, []string{
			"placement.spread[0].min_domains: asks for 4 domains, but placement.allow leaves 3 environments; lower it or add environments there"}},
		{"more domains than available environments", `,"available_envs":["a","b"]`, `"deny":["b"],"spread":[{"topology":"zone","min_domains":2}]`, []string{
			"placement.spread[0].min_domains: asks for 2 domains, but available_envs leaves 1 environments; lower it or add environments there"}},
		{"more domains than targets", `,"target_envs":["a"]`, `"spread":[{"topology":"zone","min_domains":2}]`, []string{
			"placement.spread[0].min_domains: asks for 2 domains, but target_envs leaves 1 environments; lower it or add environments there"}},
		{"apart from itself", "", `"anti_affinity":{"deployments":["k","o","o"],"topology":"rack row"}`, []string{
			`placement.anti_affinity.deployments[0]: "k" is this deployment itself, see key; use placement.spread to spread it`,
			`placement.anti_affinity.deployments[2]: deployment "o" is already at placement.anti_affinity.deployments[1]; rename or remove one`,
			`placement.anti_affinity.topology: must be cluster, region, zone, provider or the key of a label, got "rack row"`}},
		{"apart from nobody", "", `"anti_affinity":{"deployments":[]}`, []string{
			"placement.anti_affinity.deployments: must not be empty; name deployments or leave anti_affinity out"}},
		{"latency", "", `"max_latency_ms":-1`, []string{"placement.max_latency_ms: must be a finite number of at least 0, got -1; leave it out for no limit"}},
		{"cost", "", `"max_cost":-1`, []string{"placement.max_cost: must be a finite number of at least 0, got -1; leave it out for no limit"}},
		{"windows", "", `"windows":[{"days":["mon","mon"],"start":"24:00","duration":"168h1s","zone":""},{"start":"2:30","duration":"4","zone":"UTC"}]`, []string{
			`placement.windows[0].days[1]: day "mon" is already at placement.windows[0].days[0]; rename or remove one`,
			`placement.windows[0].start: "24:00" is not a time of day; write for instance 02:30`,
			`placement.windows[0].duration: "168h1s" is not a duration above 0 and up to 168h; write for instance 4h or 1h30m`,
			"placement.windows[0].zone: must not be empty; name a time zone such as Europe/Berlin or UTC",
			`placement.windows[1].start: "2:30" is not a time of day; write for instance 02:30`,
			`placement.windows[1].duration: "4" is not a duration above 0 and up to 168h; write for instance 4h or 1h30m`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d, err := DecodeDeployment([]byte(`{"key":"k","package_name":"p","class_key":"c"` + tc.around + `,"placement":{` + tc.in + `}}`))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, problemsOf(t, d.Validate)); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

// Numbers without a JSON form come from code only.
func TestPlacementCostNotFinite(t *testing.T) {
	for _, cost := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		d := OClassDeployment{Key: "k", PackageName: "p", ClassKey: "c", Placement: &Placement{MaxCost: &cost}}
		if err := d.Validate(); err == nil || !strings.Contains(err.Error(), "placement.max_cost: must be a finite number") {
			t.Errorf("%v: %v", cost, err)
		}
	}
}

// A wish that is misspelt is refused where people write it; what servers store is read
// whatever a newer one has put in.
func TestMisspeltPlacement(t *testing.T) {
	const head = `{"key":"a","package_name":"p","class_key":"C","surprise":1,"placement":`
	for placement, want := range map[string]string{
		`{"alow":["a"]}`: "placement.alow: is none of allow, deny,",
		`{"divide":[{"function":"f","pods":1,"surviv":1}]}`: "placement.divide[0].surviv: is none of function, pods, survive",
		`{"match_labels":{"anything":"goes"}}`:              "",
	} {
		doc := []byte(head + placement + "}")
		if _, err := DecodeDeployment(doc); err != nil {
			t.Errorf("%s: %v", placement, err)
		}
		_, err := ReadDeployment(doc)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", placement, err)
		}
		_, err = ReadPackage([]byte(`{"name":"p","deployments":[` + string(doc) + `]}`))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("in a package: %s: %v", placement, err)
		}
		_, err = DecodeManifest(doc)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("in a manifest: %s: %v", placement, err)
		}
	}
}
