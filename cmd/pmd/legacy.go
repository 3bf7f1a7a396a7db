package main

// legacy are the variables of oaas-rs that keep their names and meaning, by
// flag. Those that configure clusters are read by discovery.
var legacy = map[string][]string{
	"server-port":     {"SERVER_PORT"},
	"static-dir":      {"STATIC_DIR"},
	"gateway-url":     {"GATEWAY_URL"},
	"gateway-timeout": {"GATEWAY_TIMEOUT"},
	"max-body-bytes":  {"GATEWAY_MAX_PAYLOAD_BYTES"},
	"delete-cascade":  {"PACKAGE_DELETE_CASCADE"},
	"log-format":      {"LOG_FORMAT"},
	"log-filter":      {"RUST_LOG"},
}

// ineffective are the variables of oaas-rs that have no effect here, with the
// reason.
var ineffective = map[string]string{
	"SERVER_HOST":               "use --http-addr",
	"SERVER_WORKERS":            "the number of threads follows the processors",
	"STORAGE_TYPE":              "the state is in the Raft log of --data-dir",
	"ETCD_ENDPOINTS":            "the state is in the Raft log of --data-dir",
	"ETCD_KEY_PREFIX":           "the state is in the Raft log of --data-dir",
	"CRM_HEALTH_CACHE_TTL":      "health is followed, not cached",
	"CRM_HEALTH_CHECK_INTERVAL": "health is followed, not polled",
	"DEPLOY_MAX_RETRIES":        "units are sent until the cluster has them",
	"OPRC_COMPILER_URL":         "scripts are not supported yet",
	"OPRC_ARTIFACT_DIR":         "scripts are not supported yet",
}
