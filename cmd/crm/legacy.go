package main

// legacy are the variables of oaas-rs that keep their names and meaning, by flag.
var legacy = map[string][]string{
	"http-port":         {"HTTP_PORT"},
	"namespace":         {"OPRC_CRM_K8S_NAMESPACE"},
	"region":            {"OPRC_ENV_REGION"},
	"zone":              {"OPRC_ENV_ZONE"},
	"hardware-class":    {"OPRC_ENV_HW_CLASS"},
	"datacenter":        {"OPRC_ENV_IS_DATACENTER"},
	"edge":              {"OPRC_ENV_IS_EDGE"},
	"mock-availability": {"OPRC_MOCK_CLUSTER_AVAILABILITY"},
	"profile":           {"OPRC_CRM_PROFILE"},
	"odgm":              {"OPRC_CRM_FEATURES_ODGM"},
	"odgm-image":        {"OPRC_CRM_TEMPLATES_ODGM_IMAGE"},
	"odgm-pull-policy":  {"OPRC_CRM_TEMPLATES_ODGM_PULL_POLICY"},
	"hpa":               {"OPRC_CRM_FEATURES_HPA"},
	"knative":           {"OPRC_CRM_FEATURES_KNATIVE"},
	"otel":              {"OPRC_CRM_OTEL_ENABLED"},
	"otel-endpoint":     {"OPRC_CRM_OTEL_ENDPOINT"},
	"leader-elect":      {"OPRC_CRM_FEATURES_LEADER_ELECTION"},
	"log-format":        {"LOG_FORMAT"},
	"log-filter":        {"RUST_LOG"},
}

// foreign are the package manager's variables that begin with our prefix.
var foreign = []string{"CRM_CLUSTER", "CRM_DEFAULT_", "CRM_HEALTH_", "CRM_CIRCUIT_BREAKER_"}

// ineffective are the variables of oaas-rs that are accepted and have no effect,
// with the reason.
var ineffective = func() map[string]string {
	const (
		later   = "not supported yet"
		noZenoh = "this manager opens no Zenoh session of its own"
	)
	out := map[string]string{
		"OPRC_CRM_FEATURES_FSM":                  "readiness is always evaluated",
		"OPRC_CRM_SECURITY_MTLS":                 "use --tls-cert, --tls-key and --tls-client-ca",
		"OPRC_CRM_ENFORCEMENT_MAX_REPLICA_DELTA": later,
		"OPRC_CRM_REQ_CPU_PER_POD_M":             later,
		"OPRC_CRM_FEATURES_PROMETHEUS":           later,
		"OPRC_CRM_ANALYZER_INTERVAL_SECS":        later,
	}
	for _, name := range []string{
		"FEATURES_NFR_ENFORCEMENT",
		"ENFORCEMENT_COOLDOWN_SECS", "ENFORCEMENT_STABILITY_SECS", "LIMITS_MAX_REPLICAS",
		"PROM_URL", "PROM_QUERY_TIMEOUT_SECS", "PROM_RANGE", "PROM_STEP", "PROM_MATCH_LABELS", "PROM_SCRAPE_KIND",
	} {
		out["OPRC_CRM_"+name] = later
	}
	for _, name := range []string{
		"MODE", "PEERS", "PORT", "PROTOCOL", "LINKSTATE", "MAX_SESSIONS", "MAX_LINKS", "GOSSIP_ENABLED", "GOSSIP_MULTIHOP",
		"SCOUTING_MULTICAST_ENABLED", "ADMINSPACE_ENABLED", "BUFFER_SIZE", "DEFAULT_TIMEOUT", "CONFIG",
	} {
		out["OPRC_ZENOH_"+name] = noZenoh
	}
	return out
}()
