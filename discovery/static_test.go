package discovery_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"oaas.io/control-plane/discovery"
)

func static(name, address string) discovery.Candidate {
	return discovery.Candidate{Name: name, Address: address, Source: discovery.SourceStatic, RetryAttempts: 3}
}

func TestStatic(t *testing.T) {
	type env map[string]string
	for _, tc := range []struct {
		name     string
		env      env
		want     []discovery.Candidate
		def      string
		warnings int
	}{
		{name: "nothing"},
		{name: "object form", env: env{"CRM_CLUSTERS_JSON": `{"b":{"url":"http://b:1","timeout":5,"retry_attempts":0,"other":1,"URL":"x"},"a":{"url":"http://a"}}`},
			want: []discovery.Candidate{static("a", "a:80"), {Name: "b", Address: "b:1", Source: discovery.SourceStatic, Timeout: 5 * time.Second}}, def: "a"},
		{name: "object form, last one wins", env: env{"CRM_CLUSTERS_JSON": ` {"a":{"url":"http://x","timeout":5},"a":{"url":"http://y"}} `},
			want: []discovery.Candidate{static("a", "y:80")}, def: "a"},
		{name: "empty object", env: env{"CRM_CLUSTERS_JSON": `{}`}},
		{name: "array form keeps its order", env: env{"CRM_CLUSTERS_JSON": `[{"name":"b","url":"http://b:1/"},{"name":"a","url":"http://[::1]:2","timeout":null}]`},
			want: []discovery.Candidate{static("b", "b:1"), static("a", "[::1]:2")}, def: "b"},
		{name: "tls without insecure, and an api key", env: env{"CRM_CLUSTERS_JSON": `{"a":{"url":"http://a","api_key":"k","tls":{"ca_cert":"/ca","x":1}}}`},
			want: []discovery.Candidate{with(static("a", "a:80"), discovery.TLS{CACert: "/ca"})}, def: "a", warnings: 2},
		{name: "json before list before url", env: env{"CRM_CLUSTERS_JSON": `{"a":{"url":"http://a"}}`, "CRM_CLUSTERS": "b", "CRM_DEFAULT_URL": "nonsense"},
			want: []discovery.Candidate{static("a", "a:80")}, def: "a"},
		{name: "list before url", env: env{"CRM_CLUSTERS": "b", "CRM_CLUSTER_B_URL": "http://b", "CRM_DEFAULT_URL": "nonsense"},
			want: []discovery.Candidate{static("b", "b:80")}, def: "b"},
		{name: "list", env: env{"CRM_CLUSTERS": " edge-eu ,, edge_eu,Cloud1 ",
			"CRM_CLUSTER_EDGE_EU_URL": "http://edge:9", "CRM_CLUSTER_EDGE_EU_TIMEOUT": "7", "CRM_CLUSTER_EDGE_EU_RETRY_ATTEMPTS": "1",
			"CRM_CLUSTER_CLOUD1_URL": "http://cloud", "CRM_CLUSTER_CLOUD1_TIMEOUT": "soon", "CRM_CLUSTER_CLOUD1_RETRY_ATTEMPTS": "often"},
			want: []discovery.Candidate{
				{Name: "edge-eu", Address: "edge:9", Source: discovery.SourceStatic, Timeout: 7 * time.Second, RetryAttempts: 1},
				{Name: "edge_eu", Address: "edge:9", Source: discovery.SourceStatic, Timeout: 7 * time.Second, RetryAttempts: 1},
				static("Cloud1", "cloud:80"),
			}, def: "edge-eu", warnings: 2},
		{name: "list with tls by any of its variables", env: env{"CRM_CLUSTERS": "a,b,c,d",
			"CRM_CLUSTER_A_URL": "http://a", "CRM_CLUSTER_A_TLS_ENABLED": "YES",
			"CRM_CLUSTER_B_URL": "http://b", "CRM_CLUSTER_B_TLS_ENABLED": "off", "CRM_CLUSTER_B_TLS_INSECURE": "On",
			"CRM_CLUSTER_C_URL": "http://c", "CRM_CLUSTER_C_TLS_CLIENT_CERT_PATH": "/c", "CRM_CLUSTER_C_TLS_CLIENT_KEY_PATH": "/k", "CRM_CLUSTER_C_TLS_CA_CERT_PATH": "/ca",
			"CRM_CLUSTER_D_URL": "http://d", "CRM_CLUSTER_D_TLS_ENABLED": "perhaps", "CRM_CLUSTER_D_API_KEY": "k"},
			want: []discovery.Candidate{
				with(static("a", "a:80"), discovery.TLS{}), with(static("b", "b:80"), discovery.TLS{Insecure: true}),
				with(static("c", "c:80"), discovery.TLS{CACert: "/ca", ClientCert: "/c", ClientKey: "/k"}), static("d", "d:80"),
			}, def: "a", warnings: 5},
		{name: "tls by the scheme", env: env{"CRM_CLUSTERS_JSON": `[{"name":"a","url":"https://a"},{"name":"b","url":"grpcs://b:1"},{"name":"c","url":"grpc://c:1"}]`},
			want: []discovery.Candidate{static("a", "https://a:443"), static("b", "https://b:1"), static("c", "c:1")}, def: "a"},
		{name: "tls settings", env: env{"CRM_CLUSTERS_JSON": `{"a":{"url":"https://[::1]:1","tls":{"ca_cert":"/ca","client_cert":"/c","client_key":"/k","server_name":"a.crm"}},"b":{"url":"https://b:1","tls":{"insecure":true}}}`},
			want: []discovery.Candidate{
				with(static("a", "https://[::1]:1"), discovery.TLS{CACert: "/ca", ClientCert: "/c", ClientKey: "/k", ServerName: "a.crm"}),
				with(static("b", "https://b:1"), discovery.TLS{Insecure: true}),
			}, def: "a", warnings: 1},
		{name: "tls settings in a list", env: env{"CRM_CLUSTERS": "a", "CRM_CLUSTER_A_URL": "https://a:1", "CRM_CLUSTER_A_TLS_SERVER_NAME": "a.crm"},
			want: []discovery.Candidate{with(static("a", "https://a:1"), discovery.TLS{ServerName: "a.crm"})}, def: "a"},
		{name: "url", env: env{"CRM_DEFAULT_URL": "http://crm:8088"},
			want: []discovery.Candidate{{Name: "default", Address: "crm:8088", Source: discovery.SourceStatic, Timeout: 30 * time.Second, RetryAttempts: 3}}, def: "default"},
		{name: "url with settings", env: env{"CRM_DEFAULT_URL": "http://crm:8088", "CRM_DEFAULT_TIMEOUT": "1", "CRM_DEFAULT_RETRY_ATTEMPTS": "9"},
			want: []discovery.Candidate{{Name: "default", Address: "crm:8088", Source: discovery.SourceStatic, Timeout: time.Second, RetryAttempts: 9}}, def: "default"},
		{name: "chosen default", env: env{"CRM_CLUSTERS_JSON": `{"default":{"url":"http://a"},"b":{"url":"http://b"}}`, "CRM_DEFAULT_CLUSTER": "b"},
			want: []discovery.Candidate{static("b", "b:80"), static("default", "a:80")}, def: "b"},
		{name: "default by name", env: env{"CRM_CLUSTERS_JSON": `{"default":{"url":"http://a"},"b":{"url":"http://b"}}`},
			want: []discovery.Candidate{static("b", "b:80"), static("default", "a:80")}, def: "default"},
		{name: "chosen default is unknown", env: env{"CRM_CLUSTERS_JSON": `{"a":{"url":"http://a"}}`, "CRM_DEFAULT_CLUSTER": "z"},
			want: []discovery.Candidate{static("a", "a:80")}, def: "a", warnings: 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := discovery.Static(func(k string) string { return tc.env[k] })
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got.Candidates); diff != "" {
				t.Errorf("candidates (-want +got):\n%s", diff)
			}
			if got.Default != tc.def || len(got.Warnings) != tc.warnings {
				t.Errorf("default %q, want %q; %d warnings, want %d: %q", got.Default, tc.def, len(got.Warnings), tc.warnings, got.Warnings)
			}
		})
	}
}

func with(c discovery.Candidate, tls discovery.TLS) discovery.Candidate {
	c.TLS = &tls
	return c
}

func TestStaticMistakes(t *testing.T) {
	const list, object = "CRM_CLUSTERS", "CRM_CLUSTERS_JSON"
	long := strings.Repeat("x", 64)
	for _, tc := range []struct {
		name, variable, value string
		more                  map[string]string
		blamed, text          string
	}{
		{"syntax", object, `{"a":`, nil, object, "invalid JSON at byte 5"},
		{"garbage after", object, `{} {}`, nil, object, "invalid JSON at byte 4"},
		{"other type", object, `"a"`, nil, object, "must be a JSON object"},
		{"blank", object, ` `, nil, object, "must be a JSON object"},
		{"settings of another type", object, `{"a":"http://a"}`, nil, object, `cluster "a": must be a JSON object`},
		{"settings null", object, `{"a":null}`, nil, object, `cluster "a": must be a JSON object`},
		{"element of another type", object, `["a"]`, nil, object, "element 0: must be a JSON object"},
		{"no name", object, `[{"url":"http://a"}]`, nil, object, `element 0: needs a "name"`},
		{"name of another type", object, `[{"name":1,"url":"http://a"}]`, nil, object, `element 0: needs a "name"`},
		{"no url", object, `{"a":{"URL":"http://a"}}`, nil, object, `cluster "a": needs a "url"`},
		{"url of another type", object, `{"a":{"url":1}}`, nil, object, `"url" must be a string`},
		{"negative timeout", object, `{"a":{"url":"http://a","timeout":-1}}`, nil, object, `"timeout" must be a whole number of seconds`},
		{"zero timeout", object, `{"a":{"url":"http://a","timeout":0}}`, nil, object, `a timeout of 0 seconds is not possible`},
		{"huge timeout", object, `{"a":{"url":"http://a","timeout":18446744073709551615}}`, nil, object, `is not possible`},
		{"huge retry", object, `{"a":{"url":"http://a","retry_attempts":4294967296}}`, nil, object, `"retry_attempts" must be a whole number`},
		{"api key", object, `{"a":{"url":"http://a","api_key":1}}`, nil, object, `"api_key" must be a string`},
		{"tls", object, `{"a":{"url":"http://a","tls":true}}`, nil, object, `tls: must be a JSON object`},
		{"tls member", object, `{"a":{"url":"http://a","tls":{"insecure":"yes"}}}`, nil, object, `tls: "insecure" must be a boolean`},
		{"duplicate", object, `[{"name":"a","url":"http://a"},{"name":"a","url":"http://b"}]`, nil, object, `cluster "a" is configured twice`},
		{"empty name", object, `{"":{"url":"http://a"}}`, nil, object, `is empty`},
		{"name with a dot", object, `{"a.b":{"url":"http://a"}}`, nil, object, `contains '.'`},
		{"long name", object, `{"` + long + `":{"url":"http://a"}}`, nil, object, `more than 63 characters`},
		{"no scheme", object, `{"a":{"url":"a:8088"}}`, nil, object, `must begin with http:// or https://`},
		{"scheme alone", object, `{"a":{"url":"https"}}`, nil, object, `must begin with http:// or https://`},
		{"tls certificate without its key", object, `{"a":{"url":"https://a","tls":{"client_cert":"/c"}}}`, nil, object, `only possible together`},
		{"tls insecure with a name", object, `{"a":{"url":"https://a","tls":{"insecure":true,"server_name":"b"}}}`, nil, object, `exclude each other`},
		{"tls server name", object, `{"a":{"url":"https://a","tls":{"server_name":"a b"}}}`, nil, object, `is not a host`},
		{"tls in list", list, "a", map[string]string{"CRM_CLUSTER_A_URL": "https://a", "CRM_CLUSTER_A_TLS_CLIENT_KEY_PATH": "/k"}, list, `only possible together`},
		{"path", object, `{"a":{"url":"http://a/x"}}`, nil, object, `only a host and a port`},
		{"password", object, `{"a":{"url":"http://u:secret@a"}}`, nil, object, `must not contain a user name`},
		{"no host", object, `{"a":{"url":"http://:80"}}`, nil, object, `"" is not a host`},
		{"port", object, `{"a":{"url":"http://a:0"}}`, nil, object, `port "0"`},
		{"only commas", list, " , ", nil, list, "has no cluster name in it"},
		{"name in list", list, "a b", nil, list, `contains ' '`},
		{"duplicate in list", list, "a, a", map[string]string{"CRM_CLUSTER_A_URL": "http://a"}, list, "configured twice"},
		{"url missing in list", list, "edge-1", nil, "CRM_CLUSTER_EDGE_1_URL", `is required for cluster "edge-1"`},
		{"url wrong in list", list, "a", map[string]string{"CRM_CLUSTER_A_URL": "a"}, "CRM_CLUSTER_A_URL", "must begin with http://"},
		{"default url", "CRM_DEFAULT_URL", "ftp://a", nil, "CRM_DEFAULT_URL", "must begin with http://"},
		{"default timeout", "CRM_DEFAULT_URL", "http://a", map[string]string{"CRM_DEFAULT_TIMEOUT": "1s"}, "CRM_DEFAULT_TIMEOUT", "whole number of seconds"},
		{"default attempts", "CRM_DEFAULT_URL", "http://a", map[string]string{"CRM_DEFAULT_RETRY_ATTEMPTS": "-1"}, "CRM_DEFAULT_RETRY_ATTEMPTS", "whole number"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			env := map[string]string{tc.variable: tc.value}
			maps.Copy(env, tc.more)
			got, err := discovery.Static(func(k string) string { return env[k] })
			var mistake *discovery.ConfigError
			if got != nil || !errors.As(err, &mistake) {
				t.Fatalf("got %+v, error %v", got, err)
			}
			if mistake.Variable != tc.blamed || !strings.Contains(mistake.Problem, tc.text) {
				t.Errorf("got %q, want %q about %s", err, tc.text, tc.blamed)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("the password is shown: %q", err)
			}
		})
	}
}

func FuzzStaticJSON(f *testing.F) {
	f.Add(`{"a":{"url":"http://a","tls":{"insecure":true}}}`)
	f.Add(`[{"name":"a","url":"http://[::1]:1","timeout":3}]`)
	f.Add(`[null]`)
	f.Fuzz(func(t *testing.T, text string) {
		got, err := discovery.Static(func(k string) string {
			if k == "CRM_CLUSTERS_JSON" {
				return text
			}
			return ""
		})
		if (got == nil) == (err == nil) {
			t.Fatalf("got %v, error %v", got, err)
		}
		if got != nil && len(got.Candidates) > 0 && got.Default == "" {
			t.Fatal("no default among clusters")
		}
	})
}

func TestMerge(t *testing.T) {
	gossip := func(name, address, instance string) discovery.Candidate {
		return discovery.Candidate{Name: name, Address: address, Source: discovery.SourceGossip, Instance: instance}
	}
	old, recent := gossip("c", "c:1", "01"), gossip("c", "c:2", "02")
	st := []discovery.Candidate{static("b", "static:1"), static("z", "z:1")}
	agent := func(name, uid string) discovery.Candidate {
		return discovery.Candidate{Name: name, Address: discovery.AgentAddress(uid), Source: discovery.SourceAgent}
	}
	got := discovery.Merge(st, []discovery.Candidate{
		old, gossip("b", "gossip:1", "09"), recent, gossip("a", "a:1", "01"), agent("c", "uid-c"), agent("z", "uid-z"), agent("d", "uid-d"),
	})
	want := []discovery.Candidate{gossip("a", "a:1", "01"), st[0], agent("c", "uid-c"), recent, old, agent("d", "uid-d"), st[1]}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// found is a finder whose candidates a test gives.
type found struct {
	list    []discovery.Candidate
	changed chan struct{}
}

func (f *found) Candidates() []discovery.Candidate { return f.list }
func (f *found) Changed() <-chan struct{}          { return f.changed }

func TestDirectory(t *testing.T) {
	st := []discovery.Candidate{static("b", "static:1")}
	one := &found{changed: make(chan struct{}, 1), list: []discovery.Candidate{{Name: "a", Address: "a:1", Source: discovery.SourceGossip}}}
	two := &found{changed: make(chan struct{}, 1), list: []discovery.Candidate{{Name: "c", Address: "agent://c", Source: discovery.SourceAgent}}}
	d := discovery.NewDirectory(st, one, two)
	if diff := cmp.Diff([]discovery.Candidate{one.list[0], st[0], two.list[0]}, d.Candidates()); diff != "" {
		t.Error(diff)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { d.Run(ctx); close(done) }()
	for _, f := range []*found{one, two} {
		f.changed <- struct{}{}
		<-d.Changed()
	}
	cancel()
	<-done
	if diff := cmp.Diff(st, discovery.NewDirectory(st).Candidates()); diff != "" {
		t.Errorf("a directory that finds nothing: %s", diff)
	}
}

func TestAgentAddress(t *testing.T) {
	if uid, is := discovery.AgentUID(discovery.AgentAddress("uid-1")); !is || uid != "uid-1" {
		t.Errorf("%q, %t", uid, is)
	}
	for _, address := range []string{"agent:8088", "https://agent:8088", ""} {
		if _, is := discovery.AgentUID(address); is {
			t.Errorf("%q is taken for an agent's", address)
		}
	}
}
