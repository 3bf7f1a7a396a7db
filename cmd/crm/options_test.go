package main

import (
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"oaas.io/control-plane/cmd/internal/config"
)

// parse reads settings as the command does, up to their validation.
func parse(args, environ []string) (*options, error) {
	var o options
	fs := pflag.NewFlagSet("crm", pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	config.AddFileFlag(fs)
	o.bind(fs)
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	source := config.Source{EnvPrefix: "CRM", Legacy: legacy, Foreign: foreign, Environ: func() []string { return environ }}
	if err := config.Load(fs, source); err != nil {
		return nil, err
	}
	o.resolve(fs)
	return &o, o.Validate()
}

func TestDefaults(t *testing.T) {
	o, err := parse(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if o.GRPCAddr != ":8088" || o.Namespace != "default" || o.Name != "default" || o.declared() != nil || !o.ODGM || o.Profile != "dev" {
		t.Errorf("%+v", o)
	}
}

func TestLegacyVariables(t *testing.T) {
	o, err := parse(nil, []string{
		"HTTP_PORT=9000", "OPRC_CRM_K8S_NAMESPACE=oaas-1", "OPRC_MOCK_CLUSTER_AVAILABILITY=1.5", "OPRC_ENV_HW_CLASS=gpu",
		"OPRC_ENV_IS_EDGE=true", "OPRC_CRM_FEATURES_ODGM=false", "OPRC_CRM_PROFILE=full", "RUST_LOG=warn,oprc=debug", "LOG_FORMAT=json",
		"CRM_CLUSTERS_JSON={}", "CRM_DEFAULT_URL=http://x", "CRM_HEALTH_CACHE_TTL=1", "CRM_CIRCUIT_BREAKER_TIMEOUT=1",
		"OPRC_CRM_FEATURES_FSM=true", "CRM_REGION=eu",
	})
	if err != nil {
		t.Fatal(err)
	}
	if o.GRPCAddr != ":9000" || o.Name != "oaas-1" || *o.declared() != 1 || !o.Edge || o.ODGM || o.Profile != "full" ||
		o.Log.Level != "warn" || o.Log.Format != "json" || o.Region != "eu" {
		t.Errorf("%+v", o)
	}
	if diff := cmp.Diff(map[string]string{"hardware-class": "gpu"}, o.Labels); diff != "" {
		t.Error(diff)
	}
	if o, err = parse([]string{"--grpc-addr=:1", "--availability=0.5"}, []string{"HTTP_PORT=9000", "OPRC_MOCK_CLUSTER_AVAILABILITY=1"}); err != nil ||
		o.GRPCAddr != ":1" || *o.declared() != 0.5 {
		t.Errorf("flags do not win: %+v (%v)", o, err)
	}
	if o, err = parse(nil, []string{"OPRC_MOCK_CLUSTER_AVAILABILITY=often"}); err != nil || o.declared() != nil {
		t.Errorf("an unreadable availability counts: %+v (%v)", o, err)
	}
}

func TestMistakesAreNamed(t *testing.T) {
	for _, args := range [][]string{
		{"--grpc-addr=8088"}, {"--metrics-addr=x"}, {"--advertise-address=host"}, {"--availability=2"},
		{"--tls-cert=x"}, {"--tls-key=x"}, {"--tls-client-ca=x"}, {"--tls-client-names=x"}, {"--tls-client-names=,x", "--tls-client-ca=x", "--tls-cert=x", "--tls-key=x"},
		{"--gossip-key=short"}, {"--log-level=loud"}, {"--log-format=xml"},
	} {
		flag, _, _ := strings.Cut(args[0], "=")
		if _, err := parse(args, nil); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%v: %v", args, err)
		}
	}
	if _, err := parse(nil, []string{"CRM_REGOIN=eu"}); err == nil {
		t.Error("a misspelt variable was taken")
	}
}

func TestIneffectiveVariablesAreNotFlags(t *testing.T) {
	for flag, names := range legacy {
		for _, name := range names {
			if _, both := ineffective[name]; both {
				t.Errorf("%s sets --%s and is called ineffective", name, flag)
			}
		}
	}
}
