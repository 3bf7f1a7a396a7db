package command

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var fixedNow = time.Date(2026, 3, 5, 20, 0, 0, 0, time.UTC)

// session is a user at a shell.
type session struct {
	t    *testing.T
	srv  *server
	home string
	env  map[string]string
	in   string
	// columns and rows are the size of the terminal; no columns, no terminal.
	columns, rows int
	// step is how far the clock moves each time that it is read.
	step time.Duration
}

func newSession(t *testing.T) *session {
	t.Helper()
	s := newServer(t)
	return &session{t: t, srv: s, rows: 40, home: t.TempDir(), env: map[string]string{"PMCTL_SERVER": s.URL}}
}

// run executes pmctl and gives a transcript: what was typed, what came out on
// both streams, and the exit code.
func (s *session) run(args ...string) (transcript string, code int) {
	s.t.Helper()
	var out, errs bytes.Buffer
	now := fixedNow
	code = Run(context.Background(), args, Surroundings{
		In: strings.NewReader(s.in), Out: &out, Err: &errs,
		Getenv:  func(key string) string { return s.env[key] },
		HomeDir: func() (string, error) { return s.home, nil },
		Now: func() time.Time {
			now = now.Add(s.step)
			return now
		},
		Size:     func() (int, int, bool) { return s.columns, s.rows, s.columns > 0 },
		Poll:     time.Millisecond,
		RetryFor: 5 * time.Millisecond,
	})
	var b strings.Builder
	fmt.Fprintf(&b, "$ pmctl %s\n%s", strings.Join(args, " "), out.String())
	if errs.Len() > 0 {
		fmt.Fprintf(&b, "--- stderr\n%s", errs.String())
	}
	fmt.Fprintf(&b, "--- exit %d\n", code)
	// What differs from run to run has a name.
	return strings.NewReplacer(s.srv.URL, "SERVER", s.home, "HOME").Replace(b.String()), code
}

// golden compares with testdata/<name>.golden.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

const shop = `name: shop
version: 1.0
metadata: {author: The authors, tags: [a, b], description: A shop}
classes:
- key: Cart
  description: What a customer buys
  state_spec: {consistency_model: STRONG}
  function_bindings:
  - {name: add, function_key: Cart.add, access_modifier: PUBLIC}
  - {name: total, function_key: Cart.total, access_modifier: INTERNAL, stateless: true}
functions:
- key: Cart.add
  provision_config: {container_image: registry.local/add:1, cpu_request: 50m, memory_request: 64Mi, memory_limit: 128Mi, min_scale: 2, max_scale: 9}
- key: Cart.total
  description: Adds <up> & down
  provision_config: {container_image: registry.local/total:1}
deployments:
- key: shop.Cart
  package_name: shop
  class_key: Cart
  target_envs: [oaas-1, oaas-2]
  condition: DEPLOYING
  nfr_requirements: {availability: 0.99, min_throughput_rps: 10}
  odgm: {collections: [shop.Cart], partition_count: 3}
  status: {replication_factor: 2, selected_envs: [oaas-1, oaas-2], achieved_quorum_availability: 0.9801, last_error: "oaas-2: cannot be reached"}
  created_at: 2026-03-05T19:00:00Z
  updated_at: 2026-03-05T19:59:00Z
`

const (
	waiting = `"waiting":{"code":"CLUSTER_UNREACHABLE","message":"connection refused","since":"2026-03-05T19:57:00Z","permanent":false}`
	inPart  = `"fault":{"reason":"ImagePullFailed","message":"function \"Cart.add\": image cannot be pulled","final":false}`
	refused = `"waiting":{"code":"INVALID_CONTENT","message":"image name is not valid","since":"2026-03-05T19:57:00Z","permanent":true}`
)

func (s *session) stock() {
	s.t.Helper()
	s.srv.load(s.t, shop)
	s.srv.envs = `[{"name":"oaas-1","health":{"cluster_name":"oaas-1","status":"Healthy","crm_version":"1.0.0","last_seen":"2026-03-05T19:59:55Z","node_count":3,"ready_nodes":3,"availability":0.999},"policy":{"cordoned":true,"cordon_reason":"new disks"},"availability":{"used":0.9995,"source":"declared","declared":0.9995,"reported":0.999,"measured":{"lower":0.9991,"mean":0.9997,"outages":0,"days":6.9,"mttr_seconds":1800,"planned_outages":0,"since":"2026-02-27T00:00:00Z"}},` +
		`"source":"gossip","address":"10.0.0.1:8088","region":"eu","zone":"eu-1a","labels":{"tier":"gold"},"capabilities":["knative"],"kubernetes_version":"v1.37.2","knative_version":"1.20.0","node_zones":["eu-1a","eu-1b"],"resources":{"allocatable_cpu_millis":24000,"allocatable_memory_bytes":103079215104,"free_cpu_millis":21500}},` +
		`{"name":"oaas-2","health":{"cluster_name":"oaas-2","status":"Unhealthy","crm_version":null,"last_seen":"1970-01-01T00:00:00Z","node_count":null,"ready_nodes":null,"availability":null,"message":"connection refused","since":"2026-03-05T19:57:00Z","state":"Unreachable","disconnected_since":"2026-03-05T19:56:30Z","observers":[{"node":"pm-1","server_id":"id-1","time":"2026-03-05T19:59:55Z","reachable":true,"ready":false,"message":"deadline exceeded"},{"node":"pm-2","server_id":"id-2","time":"2026-03-05T19:59:50Z","reachable":false,"ready":false,"message":"connection refused"}]},"source":"agent","address":"agent://uid-2","agents":[{"node":"pm-1","server_id":"id-1","instance":"018f-a","version":"1.0.0","remote_address":"203.0.113.7:40112","since":"2026-03-05T19:58:00Z"},{"node":"pm-0","server_id":"id-0","instance":"018f-a","remote_address":"203.0.113.7:40114","since":"2026-03-05T19:58:30Z"}]}]`
	s.srv.members = `[{"server_id":"pm-0","raft_address":"pm-0:7401","grpc_address":"pm-0:7402","http_address":"pm-0:8080","version":"1.2.3","leader":false,"voter":true},` +
		`{"server_id":"pm-1","raft_address":"pm-1:7401","grpc_address":"pm-1:7402","http_address":"pm-1:8080","version":"1.2.3","leader":true,"voter":true}]`
	s.srv.units["shop.Cart"] = []string{units(
		unit("oaas-2", "Waiting", false, waiting),
		unit("oaas-1", "Progressing", true, "", "Cart.add=ready", "Cart.total=ImagePull"),
		unit("oaas-0", "Deleting", false, `"tombstone":true`),
	)}
	s.srv.runtimes = "[" + strings.TrimSuffix(strings.SplitN(unit("oaas-1", "Progressing", true, "", "Cart.add=ready", "Cart.total=ImagePull"), `"runtime":`, 2)[1], "}") + "]"
	s.srv.deletions = []string{`[{"deployment_uid":"uid-1","key":"shop.Old","package_name":"shop","class_key":"Old","envs":["oaas-1","oaas-2"],"confirmed_envs":["oaas-1"],"pending_envs":[{"env":"oaas-2","reason":"connection refused","since":null}],"deleted_at":"2026-03-05T19:50:00Z"}]`}
}

func TestReadCommands(t *testing.T) {
	for name, commands := range map[string][]string{
		"get_packages":    {"get packages", "get pkg shop -o wide"},
		"get_deployments": {"get deployments", "get deployment/shop.Cart -o wide", "get deployments --no-headers", "get deploy -o name"},
		"get_json":        {"get deployment shop.Cart -o json", "get functions -o json"},
		"get_yaml":        {"get package shop -o yaml", "get envs -o yaml"},
		"get_classes":     {"get classes", "get class shop.Cart -o wide"},
		"get_functions":   {"get functions", "get fn Cart.add -o wide"},
		"get_envs":        {"get envs", "get clusters -o wide"},
		"get_runtimes":    {"get runtimes", "get runtimes -o wide"},
		"get_deletions":   {"get deletions", "get deletions -o wide"},
		"get_members":     {"get members", "get members -o wide"},
		"describe":        {"describe deployment shop.Cart", "describe package shop", "describe env oaas-1", "describe env oaas-2"},
		"errors": {"get", "get nothings", "get packages -o xml", "get package nope", "get class nope", "get deployment/a package/b", "describe member pm-0", "describe deployment",
			"nonsense", "apply", "apply -x", "apply -f nowhere.yaml", "delete", "delete members pm-0", "delete deployment", "delete deployment nope", "rollout", "rollout status nope", "rollout status package/shop", "config use-context nope", "get envs --context nope"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSession(t)
			s.stock()
			var all strings.Builder
			for _, c := range commands {
				out, _ := s.run(strings.Fields(c)...)
				all.WriteString(out)
			}
			golden(t, name, all.String())
			if len(s.srv.writes) > 0 && name != "errors" {
				t.Errorf("a read wrote: %v", s.srv.writes)
			}
		})
	}
}

func TestNothingThere(t *testing.T) {
	s := newSession(t)
	var all strings.Builder
	for _, c := range []string{"get deployments", "get packages -o json", "get envs -o yaml", "get members -o name"} {
		out, code := s.run(strings.Fields(c)...)
		if code != 0 {
			t.Errorf("%s: exit %d", c, code)
		}
		all.WriteString(out)
	}
	golden(t, "nothing", all.String())
}

func (s *session) file(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.home, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

func TestApply(t *testing.T) {
	s := newSession(t)
	path := s.file("shop.yaml", shop)
	var all strings.Builder
	add := func(args ...string) {
		out, _ := s.run(args...)
		all.WriteString(out)
	}
	add("apply", "-f", path)
	add("apply", "-f", path)
	s.file("shop.yaml", strings.Replace(strings.Replace(shop, "add:1", "add:2", 1), "partition_count: 3", "partition_count: 4", 1))
	add("apply", "-f", path)
	s.in = "key: shop.Cart2\npackage_name: shop\nclass_key: Cart\n"
	add("apply", "-f", "-")
	golden(t, "apply", all.String())
	want := []string{
		"POST /api/v1/packages", "POST /api/v1/deployments", "POST /api/v1/deployments",
		"POST /api/v1/packages/shop", "POST /api/v1/deployments", "POST /api/v1/deployments",
	}
	if diff := cmp.Diff(want, s.srv.writes); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
}

func TestApplyDirectoryPutsDependenciesFirst(t *testing.T) {
	s := newSession(t)
	dir := filepath.Join(s.home, "all")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s.file("all/a.yaml", "name: top\ndependencies: [base]\n---\nkey: d\npackage_name: base\nclass_key: c\n")
	s.file("all/b.json", `{"name": "base", "classes": [{"key": "c"}]}`)
	s.file("all/notes.txt", "not a manifest")
	out, code := s.run("apply", "-f", dir)
	if want := "package/base created\npackage/top created\ndeployment/d created\n"; code != 0 || !strings.Contains(out, want) {
		t.Errorf("got\n%s\nwant it to contain\n%s", out, want)
	}
}

// TestApplyChecksEverythingFirst holds that a bad document keeps the good ones
// from being sent.
func TestApplyChecksEverythingFirst(t *testing.T) {
	for name, text := range map[string]string{
		"syntax":           shop + "---\nname: [x\n",
		"schema":           shop + "---\nname: x\nclasses: {}\n",
		"not_valid":        shop + "---\nname: a b\nclasses: [{key: ''}]\n",
		"unknown_class":    strings.Replace(shop, "class_key: Cart", "class_key: Card", 1),
		"missing_image":    strings.Replace(shop, "{container_image: registry.local/total:1}", "{}", 1),
		"defined_twice":    shop + "---\n" + shop,
		"empty":            "# nothing\n",
		"missing_required": "name: x\nclasses:\n- key: A\n  function_bindings:\n  - {name: x, function_key: f}\n",
	} {
		t.Run(name, func(t *testing.T) {
			s := newSession(t)
			out, code := s.run("apply", "-f", s.file("shop.yaml", text))
			if code != ExitFailure || len(s.srv.writes) > 0 {
				t.Errorf("exit %d, writes %v; want 1 and none", code, s.srv.writes)
			}
			golden(t, "apply_"+name, out)
		})
	}
}

func TestServerErrors(t *testing.T) {
	for _, tc := range []struct {
		name   string
		status int
		code   string
		retry  bool
		exit   int
	}{
		{"conflict", 409, "failed-precondition", false, ExitConflict},
		{"precondition", 412, "precondition-failed", false, ExitConflict},
		{"refused", 422, "unprocessable", false, ExitFailure},
		{"no_leader", 503, "no-leader", true, ExitUnavailable},
		{"internal", 500, "internal", false, ExitFailure},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSession(t)
			s.srv.fail = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodGet {
					problem(w, tc.status, tc.code, "what the server says", tc.retry)
					return true
				}
				return false
			}
			out, code := s.run("apply", "-f", s.file("shop.yaml", shop))
			if code != tc.exit {
				t.Errorf("exit %d, want %d", code, tc.exit)
			}
			golden(t, "server_"+tc.name, out)
		})
	}
	t.Run("unreachable", func(t *testing.T) {
		s := newSession(t)
		s.srv.Close()
		out, code := s.run("get", "packages")
		if code != ExitUnavailable || !strings.Contains(out, "no server answered (SERVER)") || !strings.Contains(out, "hint: is pmd running there?") {
			t.Errorf("exit %d\n%s", code, out)
		}
	})
}

func TestDelete(t *testing.T) {
	s := newSession(t)
	s.stock()
	deletion := func(confirmed, pending string) string {
		return `[{"deployment_uid":"old","key":"shop.Cart","envs":["oaas-1"],"confirmed_envs":[],"pending_envs":[],"deleted_at":"2026-03-05T19:00:00Z"},` +
			`{"deployment_uid":"new","key":"shop.Cart","envs":["oaas-1","oaas-2"],"confirmed_envs":[` + confirmed + `],"pending_envs":[` + pending + `],"deleted_at":"2026-03-05T20:00:00Z"}]`
	}
	one, two := `{"env":"oaas-1","reason":"The cluster has not confirmed yet"}`, `{"env":"oaas-2","reason":"connection refused"}`
	s.srv.deletions = []string{deletion("", one+","+two), deletion("", one+","+two), deletion(`"oaas-1"`, two),
		`[{"deployment_uid":"old","key":"shop.Cart","envs":["oaas-1"],"confirmed_envs":[],"pending_envs":[],"deleted_at":"2026-03-05T19:00:00Z"}]`}
	path := s.file("shop.yaml", shop)
	var all strings.Builder
	for _, args := range [][]string{{"delete", "-f", path, "--wait"}, {"delete", "-f", path}, {"delete", "-f", path, "--ignore-not-found"}} {
		out, _ := s.run(args...)
		all.WriteString(out)
	}
	golden(t, "delete", all.String())
	if want := []string{"DELETE /api/v1/deployments/shop.Cart", "DELETE /api/v1/packages/shop"}; !slices.Equal(s.srv.writes[:2], want) {
		t.Errorf("writes %v, want %v first", s.srv.writes, want)
	}
}

func TestDeleteWaitTimesOut(t *testing.T) {
	s := newSession(t)
	s.stock()
	s.srv.deletions = []string{`[{"deployment_uid":"u","key":"shop.Cart","envs":["oaas-1","oaas-2"],"confirmed_envs":["oaas-1"],"pending_envs":[{"env":"oaas-2","reason":"connection refused"}]}]`}
	out, code := s.run("delete", "deployment", "shop.Cart", "--wait", "--timeout", "30ms")
	if code != ExitUnavailable {
		t.Errorf("exit %d, want %d", code, ExitUnavailable)
	}
	golden(t, "delete_timeout", out)
}

func TestForceDelete(t *testing.T) {
	s := newSession(t)
	s.stock()
	waiting := `{"deployment_uid":"uid-1","key":"shop.Old","envs":["oaas-1","oaas-2"],"confirmed_envs":[],"orphaned_envs":["oaas-2"],"pending_envs":[{"env":"oaas-1","reason":"TIMEOUT","code":"TIMEOUT"}],"progress":"0 of 2 confirmed, 1 orphaned, 1 waiting"}`
	twice := `{"deployment_uid":"uid-2","key":"shop.Cart","envs":["oaas-1"],"confirmed_envs":[],"pending_envs":[]},{"deployment_uid":"uid-3","key":"shop.Cart","envs":["oaas-1"],"confirmed_envs":[],"pending_envs":[]}`
	s.srv.deletions = []string{"[" + waiting + "," + twice + "]"}
	var all strings.Builder
	for _, args := range []string{
		"delete deployment shop.Cart --force", "delete deployment shop.Cart --orphan", "delete deployment shop.Cart --env oaas-2",
		"delete env oaas-2 --force --orphan", "delete deletion shop.Old", "delete deletion shop.Cart --force --orphan", "delete deletion nope --force --orphan",
		"delete deployment shop.Cart --force --orphan --env oaas-2 --env oaas-3", "delete deletion shop.Old --force --orphan", "delete deletion uid-3 --force --orphan",
	} {
		out, _ := s.run(strings.Fields(args)...)
		all.WriteString(out)
	}
	s.srv.deletions = []string{"[" + waiting + "]", "[]"}
	out, _ := s.run("delete", "deployment", "shop.Old", "--force", "--orphan", "--wait", "--timeout", "5s")
	all.WriteString(out)
	golden(t, "delete_force", all.String())
	want := []string{
		"DELETE /api/v1/deployments/shop.Cart?env=oaas-2&env=oaas-3&force=true&orphan=true",
		"DELETE /api/v1/deletions/uid-1?force=true&orphan=true", "DELETE /api/v1/deletions/uid-3?force=true&orphan=true",
		"DELETE /api/v1/deployments/shop.Old?force=true&orphan=true",
	}
	if !slices.Equal(s.srv.writes, want) {
		t.Errorf("writes %v, want %v", s.srv.writes, want)
	}
}

func TestDescribeWhatIsLeft(t *testing.T) {
	s := newSession(t)
	s.stock()
	s.srv.deletions = []string{`[{"deployment_uid":"uid-1","key":"shop.Old","package_name":"shop","class_key":"Old","envs":["a","b","c","d"],"confirmed_envs":["a"],"orphaned_envs":["b"],` +
		`"pending_envs":[{"env":"c","reason":"The cluster has not confirmed yet","since":"2026-03-05T19:50:00Z"},{"env":"d","reason":"no answer","since":"2026-03-05T19:50:00Z","code":"CLUSTER_UNREACHABLE","unreachable_since":"2026-03-05T19:00:00Z"}],` +
		`"deleted_at":"2026-03-05T19:50:00Z","progress":"1 of 4 confirmed, 1 orphaned, 1 waiting, 1 unreachable since 2026-03-05T19:00:00Z"}]`}
	s.srv.envs = `[{"name":"oaas-1","health":{"cluster_name":"oaas-1","status":"Healthy","crm_version":null,"last_seen":"2026-03-05T19:59:55Z","node_count":null,"ready_nodes":null,"availability":null},` +
		`"strays":[{"unit_id":"cart-x81f02ab","deployment_uid":"uid-0","deployment_key":"shop.Cart","first_seen":"2026-03-05T19:40:00Z","orphaned":true}]}]`
	var all strings.Builder
	for _, args := range []string{"get deletions -o wide", "describe deletion shop.Old", "describe deletion uid-1", "describe deletion nope", "describe env oaas-1"} {
		out, _ := s.run(strings.Fields(args)...)
		all.WriteString(out)
	}
	golden(t, "describe_left", all.String())
}

// becomesAvailable is what successive looks at a rollout see.
var becomesAvailable = []string{
	units(unit("oaas-1", "Pending", false, ""), unit("oaas-2", "Waiting", false, waiting)),
	units(unit("oaas-1", "Pending", false, ""), unit("oaas-2", "Waiting", false, waiting)),
	units(unit("oaas-1", "Progressing", true, "", "Cart.add=unknown", "Cart.total=ImagePull"), unit("oaas-2", "Pending", false, "")),
	// Available from before the change: not done while it is not acknowledged.
	units(unit("oaas-1", "Available", true, "", "Cart.add=ready", "Cart.total=ready"), unit("oaas-2", "Available", false, "", "Cart.add=ready")),
	units(unit("oaas-1", "Available", true, "", "Cart.add=ready", "Cart.total=ready"), unit("oaas-2", "Available", true, "", "Cart.add=ready", "Cart.total=ready")),
}

func TestConfig(t *testing.T) {
	s := newSession(t)
	s.stock()
	url := s.env["PMCTL_SERVER"]
	delete(s.env, "PMCTL_SERVER")
	var all strings.Builder
	for _, args := range [][]string{
		{"config", "current-context"},
		{"config", "set-context", "local", "--server", url},
		{"config", "set-context", "far", "--server", "https://pm-0.example,https://pm-1.example"},
		{"config", "current-context"},
		{"config", "get-contexts"},
		{"get", "packages"},
		{"config", "use-context", "far"},
		{"get", "packages", "--context", "local"},
		{"config", "delete-context", "far"},
		{"config", "get-contexts"},
		{"config", "set-context", "x"},
	} {
		out, _ := s.run(args...)
		all.WriteString(out)
	}
	golden(t, "config", all.String())
}

// TestUnreadableConfigIsKept: a typing error must not cost the user the file.
func TestUnreadableConfigIsKept(t *testing.T) {
	s := newSession(t)
	path := s.file("c.yaml", "contexts: [\n")
	out, code := s.run("config", "set-context", "x", "--server", "http://h", "--config", path)
	kept, err := os.ReadFile(path)
	if err != nil || code != ExitUsage || string(kept) != "contexts: [\n" {
		t.Errorf("exit %d, file %q, %v\n%s", code, kept, err, out)
	}
}

func TestServerPrecedence(t *testing.T) {
	s := newSession(t)
	s.stock()
	good := s.env["PMCTL_SERVER"]
	for _, tc := range []struct {
		name, env string
		args      []string
	}{
		{"flag over environment", "http://nowhere.invalid", []string{"--server", good}},
		{"environment", good, nil},
		{"list", "", []string{"--server", "http://127.0.0.1:1," + good}},
	} {
		s.env["PMCTL_SERVER"] = tc.env
		if out, code := s.run(append([]string{"get", "packages"}, tc.args...)...); code != 0 {
			t.Errorf("%s: exit %d\n%s", tc.name, code, out)
		}
	}
}

func TestCompletion(t *testing.T) {
	s := newSession(t)
	s.stock()
	for args, want := range map[string]string{
		"get dep":                        "deployments",
		"get deployment ":                "shop.Cart",
		"get deployment/":                "deployment/shop.Cart",
		"describe env oaas-1":            "oaas-1",
		"rollout status ":                "shop.Cart",
		"rollout status deployment/shop": "deployment/shop.Cart",
		"delete package ":                "shop",
		"get packages -o ":               "yaml",
	} {
		out, _ := s.run(append([]string{"__complete"}, strings.Split(args, " ")...)...)
		if !slices.Contains(strings.Split(out, "\n"), want) {
			t.Errorf("%q completes to\n%s\nwant %s among it", args, out, want)
		}
	}
	s.srv.Close()
	if out, code := s.run("__complete", "get", "deployment", ""); code != 0 || strings.Contains(out, "error") {
		t.Errorf("without a server: exit %d\n%s", code, out)
	}
}

func TestVersion(t *testing.T) {
	s := newSession(t)
	out, code := s.run("version")
	if code != 0 || !strings.Contains(out, "Client: pmctl dev (go") || !strings.Contains(out, "Server: oprc-pm 1.2.3 (healthy)") {
		t.Errorf("exit %d\n%s", code, out)
	}
	s.srv.Close()
	if out, code := s.run("version", "--client"); code != 0 {
		t.Errorf("--client asks the server: exit %d\n%s", code, out)
	}
}

// TestApplyGoesOnAfterARefusal: one bad object does not keep the others back, but
// what depends on it is left alone.
func TestApplyGoesOnAfterARefusal(t *testing.T) {
	s := newSession(t)
	s.srv.fail = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPost && len(s.srv.writes) == 1 {
			problem(w, 422, "unprocessable", "what the server says", false)
			return true
		}
		return false
	}
	out, code := s.run("apply", "-f", s.file("shop.yaml", shop+"---\nname: other\nclasses: [{key: A}]\n---\nkey: other.A\npackage_name: other\nclass_key: A\n"))
	if code != ExitFailure {
		t.Errorf("exit %d", code)
	}
	golden(t, "apply_goes_on", out)
}

func TestDurations(t *testing.T) {
	for in, want := range map[time.Duration]string{
		-time.Second: "0s", 0: "0s", 119 * time.Second: "119s", 2 * time.Minute: "2m", 192 * time.Second: "3m12s", 11 * time.Minute: "11m",
		5*time.Hour + 10*time.Minute: "5h10m", 30 * time.Hour: "30h", 77 * time.Hour: "3d5h", 400 * 24 * time.Hour: "400d",
	} {
		if got := duration(in); got != want {
			t.Errorf("duration(%s) = %s, want %s", in, got, want)
		}
	}
}

// TestHostileTextStaysText: names come from other people's clusters.
func TestHostileTextStaysText(t *testing.T) {
	s := newSession(t)
	s.srv.members = `[{"server_id":"pm\u001b[2J\n0","http_address":"h"}]`
	out, _ := s.run("get", "members")
	if strings.Contains(out, "\x1b") || !strings.Contains(out, "pm [2J 0") {
		t.Errorf("got %q", out)
	}
}
