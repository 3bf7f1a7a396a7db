package main

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"

	"oaas.io/control-plane/cmd/internal/config"
	"oaas.io/control-plane/crm/template"
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
		{"--name=Bad_Name"}, {"--namespace=A b"}, {"--concurrency=0"}, {"--concurrency=300"}, {"--progress-deadline=-5s"},
		{"--odgm-pull-policy=sometimes"}, {"--odgm-image=NOT AN IMAGE"}, {"--otel-endpoint=nope nope"}, {"--join=a:b:c"},
		{"--odgm-health-path=healthz"}, {"--pod-tolerations=a:Never"},
		{"--control-plane=pm"}, {"--control-plane-tls-cert=x", "--control-plane=pm:1"}, {"--control-plane-tls-key=x", "--control-plane=pm:1"},
		{"--control-plane-plaintext", "--control-plane=pm:1", "--control-plane-tls-ca=x"}, {"--control-plane-plaintext", "--control-plane=pm:1", "--control-plane-token-file=x"},
		{"--control-plane-connections=0"}, {"--control-plane-retry-max=1ms"},
	} {
		flag, _, _ := strings.Cut(args[0], "=")
		if _, err := parse(args, nil); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%v: %v", args, err)
		}
	}
	for _, args := range [][]string{{"--pod-security=strict"}, {"--pod-cpu-request=much"}, {"--pod-network-policy=off"}, {"--pod-locked=all"}} {
		flag, value, _ := strings.Cut(args[0], "=")
		want := fmt.Sprintf("%s %q", strings.ReplaceAll(strings.TrimPrefix(flag, "--"), "-", " "), value)
		if _, err := parse(args, nil); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v: %v, want %s", args, err, want)
		}
	}
	if _, err := parse([]string{"--control-plane-token-file=x"}, nil); err == nil || !strings.Contains(err.Error(), "--control-plane: is missing") {
		t.Errorf("settings of a control plane that is not named: %v", err)
	}
	if _, err := parse(nil, []string{"CRM_REGOIN=eu"}); err == nil {
		t.Error("a misspelt variable was taken")
	}
}

func TestPodFlags(t *testing.T) {
	o, err := parse([]string{
		"--pod-service-account=functions", "--pod-pull-secrets=a,b", "--pod-pull-policy=Always", "--pod-node-selector=pool=x", "--pod-tolerations=pool=x:NoSchedule,gpu",
		"--pod-priority-class=high", "--pod-security=restricted", "--pod-cpu-request=0", "--pod-memory-request=1Gi", "--pod-spread=false",
		"--pod-network-policy=namespace", "--pod-network-from=gateways,10.0.0.0/8", "--pod-locked=security,tolerations",
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := o.Pods.options()
	if err != nil {
		t.Fatal(err)
	}
	off := false
	want := template.PodOptions{
		ServiceAccount: "functions", PullSecrets: []string{"a", "b"}, PullPolicy: "Always", NodeSelector: map[string]string{"pool": "x"},
		Tolerations: []corev1.Toleration{
			{Key: "pool", Operator: corev1.TolerationOpEqual, Value: "x", Effect: corev1.TaintEffectNoSchedule}, {Key: "gpu", Operator: corev1.TolerationOpExists},
		},
		PriorityClass: "high", Security: template.SecurityRestricted, CPURequest: "0", MemoryRequest: "1Gi", Spread: &off,
		NetworkPolicy: template.NetworkNamespace, NetworkFrom: []string{"gateways", "10.0.0.0/8"}, Locked: []string{"security", "tolerations"},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(template.PodOptions{})); diff != "" {
		t.Error(diff)
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
