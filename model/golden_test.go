package model

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCanonicalExamples(t *testing.T) {
	for _, tc := range []struct {
		name, in, want string
		decode         func(string) (json.Marshaler, error)
	}{
		{
			name: "smallest package",
			in: `{"name":"shop","classes":[{"key":"Cart","function_bindings":[{"name":"add","function_key":"Cart.add","access_modifier":"PUBLIC"}]}],
     "functions":[{"key":"Cart.add","provision_config":{"container_image":"registry.local/cart:1","port":8080}}]}`,
			want: `{"name":"shop","version":null,"metadata":{"author":null,"description":null,"tags":[]},` +
				`"classes":[{"key":"Cart","description":null,"state_spec":null,"function_bindings":[{"name":"add","function_key":"Cart.add","access_modifier":"PUBLIC","stateless":false,"parameters":[]}]}],` +
				`"functions":[{"key":"Cart.add","function_type":"CUSTOM","description":null,"provision_config":{"container_image":"registry.local/cart:1","port":8080,"max_concurrency":0,"need_http2":false,"cpu_request":null,"memory_request":null,"cpu_limit":null,"memory_limit":null,"min_scale":null,"max_scale":null},"config":{}}],` +
				`"dependencies":[],"deployments":[]}`,
			decode: func(s string) (json.Marshaler, error) { return DecodePackage([]byte(s)) },
		},
		{
			name: "deployment after enrichment",
			in: `{"updated_at":"2026-03-05T20:36:16.123456789+01:00","key":"shop.Cart","package_name":"shop","class_key":"Cart","target_envs":["oaas-1","oaas-2"],
     "functions":[{"function_key":"Cart.add"}],"odgm":{"collections":["shop.Cart"],"replica_count":2,"env_node_ids":{"oaas-2":[202],"oaas-1":[101]},"log":"info"},
     "status":{"replication_factor":2,"selected_envs":["oaas-1","oaas-2"],"achieved_quorum_availability":0.9801}}`,
			want: `{"key":"shop.Cart","package_name":"shop","class_key":"Cart","target_envs":["oaas-1","oaas-2"],` +
				`"nfr_requirements":{"min_throughput_rps":null,"availability":null,"cpu_utilization_target":null},` +
				`"functions":[{"function_key":"Cart.add"}],"condition":"PENDING",` +
				`"odgm":{"collections":["shop.Cart"],"replica_count":2,"env_node_ids":{"oaas-1":[101],"oaas-2":[202]},"log":"info"},` +
				`"status":{"replication_factor":2,"selected_envs":["oaas-1","oaas-2"],"achieved_quorum_availability":0.9801},` +
				`"updated_at":"2026-03-05T19:36:16.123456789Z"}`,
			decode: func(s string) (json.Marshaler, error) { return DecodeDeployment([]byte(s)) },
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			doc, err := tc.decode(tc.in)
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.Marshal(doc)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, string(got)); diff != "" {
				t.Errorf("canonical form (-want +got):\n%s", diff)
			}
		})
	}
}
