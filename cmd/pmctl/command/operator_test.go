package command

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	threeMembers = `[
 {"server_id":"id-0","name":"pm-0","zone":"a","raft_address":"pm-0:7401","grpc_address":"pm-0:7402","http_address":"pm-0:8080","version":"1.2.3","feature_level":2,"role":"leader","leader":true,"voter":true,
  "health":{"healthy":true,"stable_since":"2026-03-05T19:00:00Z","last_contact":"0s","last_index":812,"last_term":3,"lag":0,"disk_free_bytes":5368709120,"disk_total_bytes":10737418240,"disk_write_p99":"3.123456ms","clock_offset":"0s","reasons":[]}},
 {"server_id":"id-1","name":"pm-1","zone":"b","raft_address":"pm-1:7401","grpc_address":"pm-1:7402","http_address":"pm-1:8080","version":"1.2.3","feature_level":2,"role":"voter","leader":false,"voter":true,
  "health":{"healthy":false,"stable_since":null,"last_contact":"12.345s","last_index":700,"last_term":3,"lag":112,"disk_free_bytes":0,"disk_total_bytes":0,"disk_write_p99":"0s","clock_offset":"-1.5s","reasons":["it has not heard from the leader for 12s","it lags by 112 entries"]}},
 {"server_id":"id-2","name":"","zone":"","raft_address":"pm-2:7401","grpc_address":"","http_address":"","version":"","feature_level":1,"role":"non-voter","leader":false,"voter":false,"health":null}]`
	autopilotState = `{"healthy":false,"failure_tolerance":0,"optimistic_failure_tolerance":1,"voters":2,"desired_voters":3,"leader_id":"id-0","problems":["1 of 2 voters is not healthy: the next failure stops writes"],
 "servers":[{"server_id":"id-0","name":"pm-0","zone":"a","role":"leader","healthy":true,"stable_since":"2026-03-05T19:00:00Z","last_contact":"0s","lag":0,"reasons":[]},
  {"server_id":"id-1","name":"pm-1","zone":"b","role":"voter","healthy":false,"stable_since":null,"last_contact":"12.345s","lag":112,"reasons":["it has not heard from the leader for 12s"]}]}`
	autopilotSettings = `{"cleanup_dead_servers":true,"dead_server_grace":"10m0s","last_contact_threshold":"200ms","max_trailing_logs":250,"server_stabilization":"10s","min_quorum":2,"desired_voters":3,"spread_zones":false,"non_voters":["id-2"]}`
	oneNode           = `{"server_id":"id-0","name":"pm-0","zone":"a","version":"1.2.3","cluster_id":"c-1","leader_id":"id-0","time":"2026-03-05T20:00:00Z","started_at":"2026-03-05T18:00:00Z","uptime":"2h0m0s",
 "raft":{"state":"Leader","term":3,"ready":true,"last_log_index":812,"commit_index":812,"applied_index":811,"snapshot_index":700,"last_contact":"0s"},
 "disk":{"path":"/var/lib/pmd","free_bytes":5368709120,"total_bytes":10737418240,"low":false,"write_p50":"1.2ms","write_p99":"3.4ms","log_file_bytes":1048576},
 "snapshots":[{"id":"3-700-1","index":700,"term":3,"size_bytes":40960,"time":"2026-03-05T19:40:00Z"}],"tuning":{"snapshot_interval":"1m0s","snapshot_threshold":8192,"trailing_logs":20480,"heartbeat_timeout":"1s","election_timeout":"1s"},
 "features":{"level":2,"own":2,"possible":2,"behind":[]},"state":{"index":811,"epoch":1,"applied_count":640,"chain_hash":"00112233445566778899aabbccddeeff","feature_level":2,"packages":3,"deployments":12,"units":31,"clusters":4,"deletions":1,"members":3,"alarms":0},
 "process":{"pid":42,"host":"pm-0","go_version":"go1.26","platform":"linux/amd64","cpus":4,"goroutines":88,"heap_bytes":12582912,"system_bytes":33554432},"settings":{"http-addr":":8080","gossip-key":"<redacted>"}}`
	doctorFindings = `{"server_id":"id-0","name":"pm-0","status":"warn","checks":[{"name":"fsync","status":"warn","value":"14.2ms","bound":"below 10ms","advice":"use a local SSD"},{"name":"quorum","status":"ok","value":"1.2ms","bound":"a linearizable read succeeds","advice":""}]}`
	removal        = `{"server_id":"id-1","name":"pm-1","dry_run":true,"removed":false,"voters_before":3,"voters_after":2,"quorum_after":2,"healthy_voters_after":2,"failure_tolerance_before":1,"failure_tolerance_after":0,"refused":["the rest would tolerate no failure"],"warnings":[],"override":"force"}`
)

const auditLog = `[
{"index":1204,"time":"2026-03-05T19:00:02.7Z","action":"member.remove","object":"id-2","detail":"pm-2, forced","request_id":"r-9","principal":"","address":"10.1.2.3:51122","agent":"pmctl/1.0.0","operator":true},
{"index":1201,"time":"2026-03-05T19:00:01Z","action":"deployment.create","object":"shop.Cart","detail":"envs: oaas-1","request_id":"r-8","principal":"ann","address":"","agent":"","operator":false}]`

var eventStream = strings.Join([]string{
	`{"type":"snapshot","index":41,"events":[{"topic":"clusters","type":"put","key":"oaas-1","object":{"name":"oaas-1","health":{"cluster_name":"oaas-1","status":"Unhealthy","crm_version":null,"last_seen":"2026-03-05T19:00:00Z","node_count":null,"ready_nodes":null,"availability":null,"message":"no answer"}}}]}`,
	`{"type":"change","index":42,"term":3,"time":"2026-03-05T19:00:02.7Z","operation":"commit_deployment","request_id":"r-8","events":[` +
		`{"topic":"deployments","type":"put","key":"shop.Cart","uid":"u-1","generation":2,"object":{"key":"shop.Cart"}},` +
		`{"topic":"units","type":"put","key":"cart-1","name":"shop.Cart","uid":"u-1","generation":2,"object":{"id":"cart-1","env":"oaas-1","phase":"Waiting","waiting":{"code":"CLUSTER_UNREACHABLE","message":"connection refused","since":null,"permanent":false}}},` +
		`{"topic":"plans","type":"delete","key":"shop.Cart"},` +
		`{"topic":"alarms","type":"put","key":"001/id-1","name":"id-1","object":{"kind":"no-space","server_id":"id-1","name":"","message":"3 % free","since":null}},` +
		`{"topic":"audit","type":"put","key":"00000000000000000042","name":"shop.Cart","object":{"index":42,"time":"2026-03-05T19:00:02.7Z","action":"deployment.update","object":"shop.Cart","detail":"envs: oaas-1","agent":"pmctl/1.0.0","operator":false}}]}`,
	`{"type":"bookmark","index":42,"time":"2026-03-05T19:00:03Z","last_contact_ms":0}`,
	`{"type":"change","index":43,"events":[{"topic":"packages","type":"put","key":"late"}]}`,
	`{"type":"error","index":43,"status":410,"code":"compacted","detail":"The changes up to index 90 are not remembered any more","oldest_index":90}`,
}, "\n") + "\n"

// operated gives the fake server what operators ask for.
func (s *session) operated(more map[string]string) map[string]string {
	answers := map[string]string{
		"GET /api/v1/members":                        threeMembers,
		"GET /api/v1/operator/autopilot":             autopilotState,
		"GET /api/v1/operator/autopilot/config":      autopilotSettings,
		"PUT /api/v1/operator/autopilot/config":      autopilotSettings,
		"GET /api/v1/operator/node":                  oneNode,
		"GET /api/v1/operator/doctor":                doctorFindings,
		"GET /api/v1/operator/alarms":                `[{"kind":"no-space","server_id":"id-1","name":"pm-1","message":"3 % of the disk is free","since":"2026-03-05T19:50:00Z"}]`,
		"GET /api/v1/operator/feature-level":         `{"level":1,"own":2,"possible":1,"behind":["id-2"]}`,
		"POST /api/v1/operator/feature-level":        `{"level":2,"own":2,"possible":2,"behind":[]}`,
		"GET /api/v1/operator/chain":                 `{"index":800,"agree":true,"servers":[{"server_id":"id-0","name":"pm-0","index":800,"hash":"00112233445566778899"},{"server_id":"id-1","name":"pm-1","index":800,"hash":"00112233445566778899"},{"server_id":"id-2","name":"","index":0,"hash":"","error":"does not answer"}]}`,
		"DELETE /api/v1/members/pm-1":                removal,
		"PUT /api/v1/members/id-2/vote":              `{"server_id":"id-2","allowed":true}`,
		"PUT /api/v1/members/pm-1/vote":              `{"server_id":"id-1","allowed":false}`,
		"POST /api/v1/operator/leader/transfer":      `{"from":"id-0","from_name":"pm-0","to":"id-1","to_name":"pm-1","took_ms":14,"gap_ms":31}`,
		"GET /api/v1/operator/raft/tuning":           `{"snapshot_interval":"1m0s","snapshot_threshold":8192,"trailing_logs":20480,"heartbeat_timeout":"1s","election_timeout":"1s"}`,
		"PATCH /api/v1/operator/raft/tuning":         `{"snapshot_interval":"1m0s","snapshot_threshold":50000,"trailing_logs":20480,"heartbeat_timeout":"1s","election_timeout":"1s"}`,
		"GET /api/v1/operator/backups":               `[{"name":"pm-20260305T190000Z-811.snapshot","location":"s3://backups/pm","time":"2026-03-05T19:00:00Z","size_bytes":40960,"index":811,"digest":"ab12"}]`,
		"POST /api/v1/operator/backups":              `{"name":"pm-new.snapshot","location":"/backups","time":"2026-03-05T20:00:00Z","size_bytes":40960,"index":812,"digest":"cd34"}`,
		"POST /api/v1/operator/snapshot/restore":     `{"epoch":2,"index":1204,"packages":3,"deployments":12,"units":31,"removed_units":2,"safety_copy":"/var/lib/pmd/backups/safety"}`,
		"GET /api/v1/operator/raft/log":              `{"index":1,"term":1,"type":"configuration","appended_at":null,"size_bytes":80,"text":"id-0 voter"}` + "\n" + `{"index":2,"term":1,"type":"command","appended_at":"2026-03-05T19:00:00Z","size_bytes":99,"op":"put_package","command":{"request_id":"r"}}` + "\n",
		"GET /api/v1/operator/logs":                  `{"time":"2026-03-05T19:00:00.5Z","level":"info","subsystem":"pmd.raft","message":"this node leads","fields":{"term":"3","note":"two words"}}` + "\n\n" + `{"lost":12}` + "\n",
		"GET /api/v1/operator/metrics":               "oaas_pm 1\n",
		"GET /api/v1/operator/audit":                 auditLog,
		"GET /api/v1/watch":                          eventStream,
		"GET /api/v1/operator/debug/pprof/heap":      "heap",
		"GET /api/v1/operator/debug/pprof/cpu":       "cpu",
		"GET /api/v1/operator/debug/pprof/goroutine": "goroutine",
		"GET /api/v1/operator/debug/pprof/allocs":    "allocs",
		"GET /api/v1/operator/debug/pprof/mutex":     "mutex",
		"GET /api/v1/operator/debug/pprof/block":     "block",
	}
	for k, v := range more {
		answers[k] = v
	}
	s.srv.fail = func(w http.ResponseWriter, r *http.Request) bool {
		body, ok := answers[r.Method+" "+r.URL.Path]
		if ok && r.URL.Path == "/api/v1/operator/autopilot/config" {
			w.Header().Set("ETag", `"autopilot.7"`)
		}
		if code, refused := strings.CutPrefix(body, "!"); refused {
			problem(w, map[string]int{"unavailable": 503, "no-leader": 503, "failed-precondition": 409, "not-found": 404, "not-configured": 503}[code], code, "the server says "+code, false)
			return true
		}
		if ok {
			_, _ = io.WriteString(w, body)
		}
		return ok
	}
	return answers
}

// TestOperatorCommands pins tables, formats and exit codes.
func TestOperatorCommands(t *testing.T) {
	for name, commands := range map[string][]string{
		"op_member": {"member list", "member list --wide", "member list -o yaml", "member remove pm-1 --dry-run", "member remove pm-9", "member promote id-2", "member demote pm-1",
			"member demote pm-1 --wait --timeout 5ms", "member remove pm-1 -o json", "member"},
		"op_leader":    {"leader transfer pm-1", "leader transfer -o json"},
		"op_autopilot": {"autopilot status", "autopilot explain", "autopilot explain -o json", "autopilot config get", "autopilot config set desired_voters=5 dead-server-grace=30m non_voters=", "autopilot config set speed=9", "autopilot config set min_quorum=x", "autopilot config set spread_zones"},
		"op_raft":      {"raft info", "raft info pm-0 -o yaml", "raft log --from 1", "raft log -o json", "raft log -o yaml", "raft tune", "raft tune --node pm-1 --snapshot-threshold 50000"},
		"op_cluster":   {"alarms", "alarms -o json", "chain", "feature status", "feature raise", "feature raise x", "doctor --node pm-0", "doctor --problems", "doctor -o xml"},
		"op_events":    {"events", "events -o json", "events -w", "events -w -o jsonpath={.type}/", "events deployments:shop.Cart --from 7 --node pm-1", "events secrets", "events -o yaml"},
		"op_audit":     {"audit", "audit --operator -o yaml", "audit --limit 1 -o json", "audit x"},
		"op_logs":      {"logs", "logs --node pm-0 --level debug --subsystem raft -o json", "logs -o xml"},
		"op_backup":    {"snapshot list", "snapshot backup", "snapshot list -o json", "snapshot restore nowhere --confirm c-1", "snapshot restore nowhere", "snapshot save"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSession(t)
			s.operated(nil)
			var all strings.Builder
			for _, c := range commands {
				out, _ := s.run(strings.Fields(c)...)
				all.WriteString(out)
			}
			golden(t, name, all.String())
		})
	}
}

// TestLogsOfAllNodes: the nodes' lines come as they come, each with its node.
func TestLogsOfAllNodes(t *testing.T) {
	s := newSession(t)
	s.operated(nil)
	out, code := s.run("logs", "--node", "all")
	for _, want := range []string{"pm-0 2026-", "pm-1 2026-", "id-2 2026-", "pm-1 … 12 lines lost"} {
		if code != ExitOK || strings.Count(out, want) != 1 {
			t.Errorf("%q once: %s", want, out)
		}
	}
}

// TestOperatorFailures pins what is said and the exit code when things are bad.
func TestOperatorFailures(t *testing.T) {
	s := newSession(t)
	s.operated(map[string]string{
		"GET /api/v1/operator/chain":            `{"index":800,"agree":false,"servers":[{"server_id":"id-0","name":"pm-0","index":800,"hash":"aa"},{"server_id":"id-1","name":"pm-1","index":800,"hash":"bb"}]}`,
		"GET /api/v1/operator/doctor":           `{"server_id":"id-0","name":"pm-0","status":"fail","checks":[{"name":"quorum","status":"fail","value":"no leader","bound":"a read","advice":"look"}]}`,
		"GET /api/v1/operator/autopilot":        "!no-leader",
		"POST /api/v1/operator/leader/transfer": "!failed-precondition",
		"DELETE /api/v1/members/pm-1":           "!failed-precondition",
		"GET /api/v1/operator/backups":          "!not-configured",
		"GET /api/v1/operator/node":             "!not-found",
	})
	var all strings.Builder
	for _, tt := range []struct {
		command string
		exit    int
	}{
		{"chain", ExitFailure}, {"doctor", ExitFailure}, {"autopilot status", ExitUnavailable}, {"leader transfer pm-1", ExitConflict},
		{"member remove pm-1", ExitConflict}, {"snapshot list", ExitUnavailable}, {"raft info mars", ExitNotFound}, {"member remove", ExitUsage},
	} {
		out, code := s.run(strings.Fields(tt.command)...)
		if code != tt.exit {
			t.Errorf("%s: exit %d, want %d", tt.command, code, tt.exit)
		}
		all.WriteString(out)
	}
	golden(t, "op_failures", all.String())
}

// TestRefusedRemoval: a refusal is told in terms of the command line, and whether
// anything overrides it.
func TestRefusedRemoval(t *testing.T) {
	const detail = "The server is not removed: the loss of one more voter stops all writes"
	for name, tt := range map[string]struct {
		override string
		hint     bool
	}{"forcible": {"force", true}, "not forcible": {"", false}} {
		t.Run(name, func(t *testing.T) {
			s := newSession(t)
			s.srv.fail = func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Content-Type", "application/problem+json")
				w.WriteHeader(http.StatusConflict)
				answer(w, map[string]any{"code": "failed-precondition", "detail": detail, "override": tt.override})
				return true
			}
			out, code := s.run("member", "remove", "pm-1")
			if code != ExitConflict || !strings.Contains(out, detail) || strings.Contains(out, "hint: --force does it all the same") != tt.hint {
				t.Errorf("%s", out)
			}
		})
	}
}

// TestRefusedDryRun: a script sees by the exit code that a removal would be refused,
// and people whether anything overrides it.
func TestRefusedDryRun(t *testing.T) {
	for name, tt := range map[string]struct {
		refused, override string
		code              int
		want              []string
	}{
		"goes":         {`[]`, "", ExitOK, []string{"member/pm-1 would be removed"}},
		"forcible":     {`["the rest would tolerate no failure"]`, "force", ExitConflict, []string{"member/pm-1 would not be removed\n", "- the rest would tolerate no failure", "error: member/pm-1 would not be removed", "hint: --force does it all the same"}},
		"not forcible": {`["the rest would have no quorum"]`, "", ExitConflict, []string{"member/pm-1 would not be removed\n", "error: member/pm-1 would not be removed"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSession(t)
			s.operated(map[string]string{"DELETE /api/v1/members/pm-1": `{"server_id":"id-1","name":"pm-1","dry_run":true,"refused":` + tt.refused + `,"override":"` + tt.override + `"}`})
			out, code := s.run("member", "remove", "pm-1", "--dry-run")
			if code != tt.code || strings.Contains(out, "--force") != (tt.override != "") {
				t.Errorf("%s", out)
			}
			for _, want := range tt.want {
				if !strings.Contains(out, want) {
					t.Errorf("%q is missing: %s", want, out)
				}
			}
			if _, code = s.run("member", "remove", "pm-1", "--dry-run", "-o", "json"); code != tt.code {
				t.Errorf("-o json: exit %d", code)
			}
		})
	}
}

// TestWithoutLeader: what one node knows is better than nothing, but nobody may take
// it for the truth: it is said, and the exit code says so too.
func TestWithoutLeader(t *testing.T) {
	s := newSession(t)
	s.operated(nil)
	with, alarms := s.srv.fail, ""
	s.srv.fail = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("consistency") == "" {
			problem(w, 503, "no-leader", "No leader is known", true)
			return true
		}
		if alarms != "" && strings.HasSuffix(r.URL.Path, "/alarms") {
			_, _ = io.WriteString(w, alarms)
			return true
		}
		return with(w, r)
	}
	for _, tt := range []struct {
		command, alarms string
		code            int
		want, not       string
	}{
		{"member list", "", ExitUnavailable, "pm-1", ""},
		{"member list -o json", "", ExitUnavailable, `"name": "pm-1"`, ""},
		{"member list --stale", "", ExitOK, "pm-1", "error"},
		{"alarms", "", ExitUnavailable, "no-space", ""},
		{"alarms", "[]", ExitUnavailable, "No alarms that this node knows of.", "No alarms.\n"},
		{"alarms -o json", "[]", ExitUnavailable, "[]\n", ""},
		{"alarms --stale", "", ExitOK, "no-space", "error"},
		{"alarms --stale", "[]", ExitOK, "No alarms that this node knows of.", "error"},
		{"autopilot status", "", ExitUnavailable, "No leader is known", ""},
		{"autopilot config get", "", ExitUnavailable, "No leader is known", ""},
		{"feature status", "", ExitUnavailable, "No leader is known", ""},
	} {
		alarms = tt.alarms
		out, code := s.run(strings.Fields(tt.command)...)
		if code != tt.code || !strings.Contains(out, tt.want) || tt.not != "" && strings.Contains(out, tt.not) {
			t.Errorf("want %d, %q, not %q: %s", tt.code, tt.want, tt.not, out)
		}
		if code == ExitUnavailable && (!strings.Contains(out, "No leader is known") || !strings.Contains(out, "hint: the cluster is electing a leader")) {
			t.Errorf("no reason: %s", out)
		}
	}
}

// TestSnapshotSave: the file appears only when it is whole and right.
func TestSnapshotSave(t *testing.T) {
	const content = "the snapshot"
	sum := sha256.Sum256([]byte(content))
	digest := hex.EncodeToString(sum[:])
	for name, tt := range map[string]struct {
		command, digest string
		code            int
		text            string
	}{
		"save, whole":   {"snapshot save", digest, ExitOK, "index 812, 12 B, sha256 " + digest},
		"save, damaged": {"snapshot save", strings.Repeat("0", 64), ExitFailure, "damaged"},
		"save, early":   {"snapshot save", "", ExitFailure, "ended early"},
		"get, whole":    {"snapshot get b-1", digest, ExitOK, "index 812, 12 B"},
		"get, damaged":  {"snapshot get b-1", strings.Repeat("0", 64), ExitFailure, "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSession(t)
			s.srv.fail = func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Trailer", "Pm-Snapshot-Sha256, Pm-Snapshot-Index")
				_, _ = io.WriteString(w, content)
				if tt.digest != "" {
					w.Header().Set(http.TrailerPrefix+"Pm-Snapshot-Sha256", tt.digest)
					w.Header().Set(http.TrailerPrefix+"Pm-Snapshot-Index", "812")
				}
				return true
			}
			file := filepath.Join(s.home, "pm.snapshot")
			out, code := s.run(append(strings.Fields(tt.command), file)...)
			if code != tt.code || !strings.Contains(out, tt.text) {
				t.Errorf("%s", out)
			}
			got, err := os.ReadFile(file)
			if whole := err == nil && string(got) == content; whole != (tt.code == ExitOK) {
				t.Errorf("file %q, %v", got, err)
			}
			if files, _ := os.ReadDir(s.home); tt.code != ExitOK && len(files) > 0 {
				t.Errorf("left behind: %v", files)
			}
		})
	}
}

// TestBackupsWithoutACluster: when all nodes are lost, the place of the backups is
// read by pmctl itself.
func TestBackupsWithoutACluster(t *testing.T) {
	s := newSession(t)
	s.srv.fail = func(http.ResponseWriter, *http.Request) bool { t.Error("a node was asked"); return false }
	dir := t.TempDir()
	sum := sha256.Sum256([]byte("the snapshot"))
	name := "oaas-pm_c-1_20260305T190000.000Z_00000000000000000811_" + hex.EncodeToString(sum[:8]) + ".snapshot"
	rotten := strings.Replace(name, "811_", "812_", 1)
	for n, data := range map[string]string{name: "the snapshot", rotten: "rot", "notes.txt": "x"} {
		if err := os.WriteFile(filepath.Join(dir, n), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(t.TempDir(), "pm.snapshot")
	for _, tt := range []struct {
		args []string
		code int
		text string
	}{
		{[]string{"list", "--target", dir}, ExitOK, name},
		{[]string{"list", "--target", dir + "/missing"}, ExitUsage, "no such file"},
		{[]string{"list", "--target", "https://x"}, ExitUsage, "there are file and s3"},
		{[]string{"list", "--credentials-file", "x"}, ExitUsage, "goes with --target"},
		{[]string{"get", rotten, "--target", dir, "--credentials-file"}, ExitUsage, "flag needs an argument"},
		{[]string{"get", "notes.txt", file, "--target", dir}, ExitNotFound, "notes.txt"},
		{[]string{"get", rotten, file, "--target", dir}, ExitFailure, "damaged"},
		{[]string{"get", name, "-", "--target", dir}, ExitOK, "the snapshot"},
		{[]string{"get", name, file, "--target", dir}, ExitOK, "index 811, 12 B"},
	} {
		_, before := os.Stat(file)
		out, code := s.run(append([]string{"snapshot"}, tt.args...)...)
		if code != tt.code || !strings.Contains(out, tt.text) || before == nil {
			t.Errorf("%q: exit %d, %s", tt.args, code, out)
		}
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "the snapshot" {
		t.Errorf("%q, %v", got, err)
	}
	if out, _ := s.run("__complete", "snapshot", "get", "--target", dir, ""); !strings.Contains(out, name) || strings.Contains(out, "notes.txt") {
		t.Errorf("completed: %s", out)
	}
}

func TestSnapshotRestore(t *testing.T) {
	s := newSession(t)
	s.operated(nil)
	var got string
	with := s.srv.fail
	s.srv.fail = func(w http.ResponseWriter, r *http.Request) bool {
		body, _ := io.ReadAll(r.Body)
		got = r.URL.Query().Get("confirm") + " " + string(body)
		return with(w, r)
	}
	file := s.file("pm.snapshot", "the snapshot")
	out, code := s.run("snapshot", "restore", file, "--confirm", "c-1")
	if code != ExitOK || got != "c-1 the snapshot" || !strings.Contains(out, "epoch 2") || !strings.Contains(out, "backups/safety") {
		t.Errorf("%s, the server got %q", out, got)
	}
}

// unpack reads a bundle.
func unpack(t *testing.T, file string) map[string][]byte {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	zip, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for in := tar.NewReader(zip); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		out[strings.TrimPrefix(h.Name, "pm-debug/")] = data
	}
}

// TestDebugBundle: everything is in it, with a manifest; what one node cannot give
// does not end it, and nothing leaves the bundle's folder.
func TestDebugBundle(t *testing.T) {
	s := newSession(t)
	s.operated(map[string]string{"GET /api/v1/members": strings.Replace(threeMembers, `"name":""`, `"name":"../../evil"`, 1), "GET /api/v1/operator/backups": "!not-configured"})
	with := s.srv.fail
	s.srv.fail = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("node") == "id-1" {
			problem(w, 503, "unavailable", "Node id-1 cannot be reached", false)
			return true
		}
		return with(w, r)
	}
	file := filepath.Join(s.home, "b.tar.gz")
	out, code := s.run("debug", "--file", file, "--duration", "1ms")
	if code != ExitOK || !strings.Contains(out, "2 missing") {
		t.Fatalf("%s", out)
	}
	files := unpack(t, file)
	var m bundleManifest
	if err := json.Unmarshal(files["manifest.json"], &m); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"cluster/members.json", "cluster/autopilot.json", "cluster/alarms.json", "nodes/pm-0/node.json", "nodes/pm-0/logs.ndjson", "nodes/pm-0/raft-log.ndjson",
		"nodes/pm-0/cpu.pprof", "nodes/pm-0/heap.pprof", "nodes/pm-0/goroutines.txt", "nodes/pm-0/metrics.txt", "nodes/pm-0/doctor.json", "nodes/pm-0/chain.json", "nodes/_.._evil/node.json",
	} {
		if len(files[name]) == 0 {
			t.Errorf("%s is missing", name)
		}
	}
	if len(m.Files) != len(files)-1 || len(m.Nodes) != 3 {
		t.Errorf("manifest of %d files and %d nodes, the bundle has %d files", len(m.Files), len(m.Nodes), len(files))
	}
	for _, f := range m.Files {
		if sum := sha256.Sum256(files[f.Path]); hex.EncodeToString(sum[:]) != f.SHA256 {
			t.Errorf("%s: digest", f.Path)
		}
	}
	for name := range files {
		if strings.Contains(name, "..") && !strings.HasPrefix(name, "nodes/_..") || strings.HasPrefix(name, "/") {
			t.Errorf("a file at %s", name)
		}
	}
	if len(m.Errors) != 2 || m.Errors[1].Path != "nodes/pm-1/node.json" {
		t.Errorf("%+v", m.Errors)
	}
	// A bundle is never overwritten.
	if out, code := s.run("debug", "--file", file); code != ExitUsage {
		t.Errorf("%s", out)
	}
}

func TestBundleFilesAreBounded(t *testing.T) {
	var b bounded
	n, err := b.Write(make([]byte, bundleFileLimit-1))
	if n != bundleFileLimit-1 || err != nil {
		t.Errorf("%d %v", n, err)
	}
	if _, err := b.Write([]byte("ab")); !errors.Is(err, errBounded) || b.Len() != bundleFileLimit || !b.full {
		t.Errorf("%v, %d", err, b.Len())
	}
}

func TestNodeCompletion(t *testing.T) {
	s := newSession(t)
	s.operated(nil)
	out, _ := s.run("__complete", "member", "remove", "")
	for _, want := range []string{"pm-0\n", "pm-1\n", "id-2\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing: %s", want, out)
		}
	}
	if out, _ = s.run("__complete", "autopilot", "config", "set", "dead"); !strings.Contains(out, "dead_server_grace=") {
		t.Errorf("%s", out)
	}
}
