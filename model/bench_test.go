package model

import "testing"

var benchDeployment = []byte(`{"key":"shop.Cart","package_name":"shop","class_key":"Cart","target_envs":["oaas-1","oaas-2"],"nfr_requirements":{"min_throughput_rps":null,"availability":0.999,"cpu_utilization_target":null},"functions":[{"function_key":"Cart.add","provision_config":{"container_image":"registry.local/cart:1","port":8080,"max_concurrency":0,"need_http2":false,"cpu_request":"100m","memory_request":null,"cpu_limit":null,"memory_limit":null,"min_scale":null,"max_scale":null}}],"condition":"PENDING","odgm":{"collections":["shop.Cart"],"replica_count":2,"env_node_ids":{"oaas-1":[101],"oaas-2":[202]},"log":"info"},"status":{"replication_factor":2,"selected_envs":["oaas-1","oaas-2"],"achieved_quorum_availability":0.9801},"updated_at":"2026-03-05T19:36:16.123456789Z"}`)

// A restart decodes every stored deployment once.
func BenchmarkDecodeDeployment(b *testing.B) {
	b.SetBytes(int64(len(benchDeployment)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeDeployment(benchDeployment); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodeDeployment(b *testing.B) {
	doc, err := DecodeDeployment(benchDeployment)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := doc.MarshalJSON(); err != nil {
			b.Fatal(err)
		}
	}
}
