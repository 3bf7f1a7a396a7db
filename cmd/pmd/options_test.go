package main

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"oaas.io/control-plane/cmd/internal/config"
	"oaas.io/control-plane/cmd/internal/daemon"
)

// parse reads settings as the command does, up to their validation.
func parse(args, environ []string) (*options, error) {
	var o options
	fs := pflag.NewFlagSet("pmd", pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	config.AddFileFlag(fs)
	o.bind(fs)
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if err := config.Load(fs, config.Source{EnvPrefix: "PMD", Legacy: legacy, Environ: func() []string { return environ }}); err != nil {
		return nil, err
	}
	o.resolve(fs)
	return &o, o.Validate()
}

func TestDevelopmentNodeListensOnLoopbackOnly(t *testing.T) {
	o, err := parse([]string{"--dev"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := []string{o.HTTPAddr, o.GRPCAddr, o.RaftAddr, o.GossipAddr, o.advertise(o.HTTPAddr)}
	want := []string{"127.0.0.1:8080", "127.0.0.1:7402", "127.0.0.1:7401", "127.0.0.1:7946", "127.0.0.1:8080"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	o, err = parse([]string{"--dev", "--http-addr=:9999"}, nil)
	if err != nil || o.HTTPAddr != ":9999" {
		t.Errorf("an address that was asked for became %q (%v)", o.HTTPAddr, err)
	}
}

func TestLegacyVariables(t *testing.T) {
	o, err := parse([]string{"--dev"}, []string{
		"SERVER_PORT=9090", "GATEWAY_TIMEOUT=7", "GATEWAY_URL=http://gw", "PACKAGE_DELETE_CASCADE=true", "RUST_LOG=warn,oprc=debug", "LOG_FORMAT=json",
		"CRM_CLUSTERS_JSON={}", "STORAGE_TYPE=etcd",
	})
	if err != nil {
		t.Fatal(err)
	}
	if o.HTTPAddr != "127.0.0.1:9090" || o.GatewayTimeout != 7*time.Second || o.GatewayURL != "http://gw" || !o.DeleteCascade || o.Log.Level != "warn" || o.Log.Format != "json" {
		t.Errorf("%+v", o)
	}
}

func TestRefusals(t *testing.T) {
	tests := map[string]struct {
		args, environ []string
		want          string
	}{
		"durable without a directory": {nil, nil, "--data-dir: is required"},
		"dev with a directory":        {[]string{"--dev", "--data-dir=x"}, nil, "--dev"},
		"even number of peers":        {[]string{"--data-dir=x", "--peers=a:1,b:1"}, nil, "name an odd number"},
		"peer without a port":         {[]string{"--data-dir=x", "--peers=a"}, nil, `--peers: "a" is not host:port`},
		"join without a port":         {[]string{"--dev", "--gossip-join=a"}, nil, `--gossip-join: "a" is not host:port`},
		"bad address":                 {[]string{"--dev", "--http-addr=8080"}, nil, "--http-addr"},
		"bad profile":                 {[]string{"--dev", "--profile=turbo"}, nil, "--profile"},
		"most of the disk free":       {[]string{"--dev", "--disk-low-percent=60"}, nil, "--disk-low-percent"},
		"free at least above at most": {[]string{"--dev", "--disk-low-min-bytes=9", "--disk-low-max-bytes=8"}, nil, "--disk-low-percent"},
		"log all unused":              {[]string{"--dev", "--log-compact-free-percent=100"}, nil, "--log-compact-free-percent"},
		"bad key":                     {[]string{"--dev", "--gossip-key=c2hvcnQ="}, nil, "--gossip-key"},
		"certificate without a key":   {[]string{"--dev", "--crm-tls-cert=x"}, nil, "--crm-tls-cert: needs --crm-tls-key"},
		"key without a certificate":   {[]string{"--dev", "--crm-tls-key=x"}, nil, "--crm-tls-key: needs --crm-tls-cert"},
		"bad server name":             {[]string{"--dev", "--crm-tls-server-name={name}.crm"}, nil, "--crm-tls-server-name"},
		"agents without TLS":          {[]string{"--dev", "--agent-addr=:1"}, nil, "--agent-addr: needs --agent-tls-cert"},
		"agents without proof":        {[]string{"--dev", "--agent-addr=:1", "--agent-tls-cert=x", "--agent-tls-key=x"}, nil, "--agent-addr: needs --agent-tls-client-ca or --agent-token-file"},
		"agents by halves":            {[]string{"--dev", "--agent-addr=:1", "--agent-plaintext", "--agent-token-file=x"}, nil, "--agent-plaintext: excludes"},
		"agents against the rule":     {[]string{"--dev", "--agent-addr=:1", "--agent-plaintext", "--crm-tls-required"}, nil, "--crm-tls-required is set"},
		"one certificate for all":     {[]string{"--dev", "--agent-addr=:1", "--agent-plaintext", "--agent-tls-client-name=crm"}, nil, "--agent-tls-client-name"},
		"agents without a port":       {[]string{"--dev", "--agent-addr=x", "--agent-plaintext"}, nil, "is not host:port"},
		"agents' key alone":           {[]string{"--dev", "--agent-addr=:1", "--agent-tls-key=x"}, nil, "--agent-tls-key: needs --agent-tls-cert"},
		"renewals too rare":           {[]string{"--dev", "--cluster-renewal=15s"}, nil, "--cluster-suspect-after: 15s is not more than the 15s of --cluster-renewal"},
		"failover too early":          {[]string{"--dev", "--cluster-failover-after=10s"}, nil, "--cluster-failover-after: 10s is not more than the 30s of --cluster-unreachable-after"},
		"no time to come back":        {[]string{"--dev", "--cluster-return-after=0s"}, nil, "--cluster-return-after: must be positive"},
		"bad level":                   {[]string{"--dev", "--log-level=loud"}, nil, "--log-level"},
		"unknown variable":            {[]string{"--dev"}, []string{"PMD_HTTPADDR=:1"}, "PMD_HTTPADDR"},
		"bad number":                  {[]string{"--dev"}, []string{"SERVER_PORT=http"}, "server-port"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := parse(tc.args, tc.environ); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}

func TestEveryFlagIsDocumented(t *testing.T) {
	command().Flags().VisitAll(func(f *pflag.Flag) {
		if len(f.Usage) < 10 {
			t.Errorf("--%s has no description", f.Name)
		}
	})
}

func TestWrongUsageIsTold(t *testing.T) {
	for _, args := range [][]string{{"--no-such-flag"}, {"an-argument"}, {"--dev", "--data-dir=x"}} {
		cmd := command()
		cmd.SetArgs(args)
		if err := cmd.Execute(); !errors.Is(err, daemon.ErrUsage) {
			t.Errorf("pmd %v: %v is not a usage error", args, err)
		}
	}
}
