package model

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
)

// checkFuzzed holds what must be true for any input at all.
func checkFuzzed[T any, P document[T]](t *testing.T, data []byte, doc *T, err error) {
	t.Helper()
	if err != nil {
		var d *DecodeError
		if !errors.As(err, &d) || (d.Kind != Syntax && d.Kind != Schema) || d.Msg == "" {
			t.Fatalf("error %#v is not a complete *DecodeError", err)
		}
		return
	}
	first, err := P(doc).MarshalJSON()
	if err != nil {
		t.Fatalf("decoded from %q but cannot be encoded: %v", data, err)
	}
	again := new(T)
	if err := P(again).UnmarshalJSON(first); err != nil {
		t.Fatalf("cannot read back %s: %v", first, err)
	}
	second, err := P(again).MarshalJSON()
	if err != nil || !bytes.Equal(first, second) {
		t.Fatalf("not canonical (error %v):\n%s\n%s", err, first, second)
	}
}

func FuzzDecodePackage(f *testing.F) {
	f.Add([]byte(`{"name":"shop","version":null,"metadata":{"tags":["a"],"created_at":"2026-03-05T19:36:16.5+01:00"},"classes":[{"key":"Cart","state_spec":{"key_specs":[{"name":"a","key_type":"b"}]},"function_bindings":[{"name":"add","function_key":"f","access_modifier":"PUBLIC"}]}],"functions":[{"key":"f","provision_config":{"port":8080,"cpu_request":"1"},"config":{"A":"\ud83d\ude00"}}]}`))
	f.Add([]byte(`{"name":"a","name":"b"}`))
	f.Add([]byte(`{"name":"\ud800"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		doc, err := DecodePackage(data)
		checkFuzzed(t, data, doc, err)
		var d *DecodeError
		if errors.As(err, &d) && d.Kind == Schema && !json.Valid(data) {
			t.Fatalf("accepted as well formed, but it is not: %q", data)
		}
		if doc != nil {
			_ = doc.Validate()
		}
	})
}

func FuzzDecodeDeployment(f *testing.F) {
	f.Add([]byte(`{"key":"k","package_name":"p","class_key":"c","target_envs":["a"],"nfr_requirements":{"availability":1e-3},"odgm":{"env_node_ids":{"a":[18446744073709551615]}},"status":{"replication_factor":1},"telemetry":{"sampling_rate":0.5}}`))
	f.Add([]byte(`{"key":"k","package_name":"p","class_key":"c","target_envs":["a"],"placement":{"allow":["a"],"deny":["b"],"match_labels":{"t":"g"},"selector":"!x","expression":"true","tolerations":[{"operator":"Exists"}],"requires":{"capabilities":["odgm"],"template":"knative"},"resources":{"cpu_millis":1},"spread":[{"topology":"zone","max_per_domain":1,"min_domains":4294967295}],"anti_affinity":{"deployments":["o"],"topology":"cluster"},"max_cost":1e308,"prefer":"cheapest","disruption":{"max_moves":1},"windows":[{"days":["sun"],"start":"23:59","duration":"9999h","zone":"X"}]}}`))
	f.Add([]byte(`{"key":"k","package_name":"p","class_key":"c","pods":{"service_account":"a","pull_secrets":["b"],"node_selector":{"k":"v"},"tolerations":[{"operator":"Exists","effect":"NoExecute","toleration_seconds":1}],"security":"none","cpu_request":"1e-3","spread":false,"network_policy":"namespace","image_pull_policy":"Never"}}`))
	f.Add([]byte(`{"key":"k","package_name":"p","class_key":"c","rollout":{"canary":"10%","max_unavailable":2,"min_healthy_time":"1s","progress_deadline":"9h","on_failure":"rollback"}}`))
	f.Add([]byte(`{"key":"k","package_name":"p","class_key":"c","failover":{"mode":"automatic","after":"1m","max_per_hour":1,"on_return":"return"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		doc, err := DecodeDeployment(data)
		checkFuzzed(t, data, doc, err)
		if doc != nil {
			_ = doc.Validate()
		}
	})
}

func FuzzDecodeManifest(f *testing.F) {
	f.Add([]byte(manifest))
	f.Add(placementExample(f))
	f.Add(podsExample(f))
	f.Add(rolloutExample(f))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("name: !!int 1.5\nversion: !!bool yes\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		docs, err := DecodeManifest(data)
		if err != nil {
			checkFuzzed[OPackage](t, data, nil, err)
			return
		}
		for _, d := range docs {
			if d.Package != nil {
				checkFuzzed(t, data, d.Package, nil)
			} else {
				checkFuzzed(t, data, d.Deployment, nil)
			}
		}
	})
}
