package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

type settings struct {
	Addr  string
	Wait  time.Duration
	Peers []string
	Dev   bool
	Tags  map[string]string
}

func flags(s *settings) *pflag.FlagSet {
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	fs.StringVar(&s.Addr, "http-addr", ":8080", "")
	fs.DurationVar(&s.Wait, "wait", time.Second, "")
	fs.StringSliceVar(&s.Peers, "peers", nil, "")
	fs.BoolVar(&s.Dev, "dev", false, "")
	fs.StringToStringVar(&s.Tags, "tags", nil, "")
	AddFileFlag(fs)
	return fs
}

func TestLoad(t *testing.T) {
	tests := map[string]struct {
		args    []string
		environ []string
		file    string
		want    settings
		wantErr string
	}{
		"defaults": {want: settings{Addr: ":8080", Wait: time.Second}},
		"file": {
			file: "http-addr: ':1'\nwait: 2s\npeers: [a:1, b:2]\ndev: true\n",
			want: settings{Addr: ":1", Wait: 2 * time.Second, Peers: []string{"a:1", "b:2"}, Dev: true},
		},
		"environment over file": {
			file: "http-addr: ':1'\n", environ: []string{"PMD_HTTP_ADDR=:2", "PMD_PEERS=a:1,b:2"},
			want: settings{Addr: ":2", Wait: time.Second, Peers: []string{"a:1", "b:2"}},
		},
		"command line over environment": {
			args: []string{"--http-addr=:3"}, environ: []string{"PMD_HTTP_ADDR=:2"},
			want: settings{Addr: ":3", Wait: time.Second},
		},
		"legacy below own": {
			environ: []string{"SERVER_ADDR=:4", "PMD_HTTP_ADDR=:2"},
			want:    settings{Addr: ":2", Wait: time.Second},
		},
		"legacy over file": {
			file: "http-addr: ':1'\n", environ: []string{"SERVER_ADDR=:4"},
			want: settings{Addr: ":4", Wait: time.Second},
		},
		"foreign variables that share the prefix": {
			environ: []string{"PMD_CLUSTERS_JSON=x", "PMD_SERVICE_HOST=10.0.0.1", "PMD_PORT_8080_TCP_ADDR=10.0.0.1", "PMD_PORT=tcp://10.0.0.1:8080"},
			want:    settings{Addr: ":8080", Wait: time.Second},
		},
		"map": {
			file: "tags: {rack: a, tier: 1}\n",
			want: settings{Addr: ":8080", Wait: time.Second, Tags: map[string]string{"rack": "a", "tier": "1"}},
		},
		"unknown key":      {file: "http_addr: ':1'\n", wantErr: `unknown key "http_addr" (did you mean "http-addr"?)`},
		"unknown variable": {environ: []string{"PMD_HTP_ADDR=x"}, wantErr: "PMD_HTP_ADDR"},
		"bad value":        {environ: []string{"PMD_WAIT=soon"}, wantErr: "setting wait"},
		"list for one":     {file: "http-addr: [a, b]\n", wantErr: "takes one value"},
		"not yaml":         {file: "a: b: c", wantErr: "read configuration file"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var got settings
			fs := flags(&got)
			if tc.file != "" {
				path := filepath.Join(t.TempDir(), "pmd.yaml")
				if err := os.WriteFile(path, []byte(tc.file), 0o600); err != nil {
					t.Fatal(err)
				}
				tc.args = append(tc.args, "--config="+path)
			}
			if err := fs.Parse(tc.args); err != nil {
				t.Fatal(err)
			}
			err := Load(fs, Source{
				EnvPrefix: "PMD",
				Legacy:    map[string][]string{"http-addr": {"SERVER_ADDR"}},
				Foreign:   []string{"PMD_CLUSTERS"},
				Environ:   func() []string { return tc.environ },
			})
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
					t.Fatalf("error %v, want one with %q", err, tc.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
