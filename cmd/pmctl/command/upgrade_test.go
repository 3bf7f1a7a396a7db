package command

import (
	"net/http"
	"strings"
	"testing"
)

// upgradable are the answers of a cluster that can be upgraded.
func upgradable() map[string]string {
	const server = `"zone":"a","raft_address":"pm:7401","grpc_address":"pm:7402","http_address":"pm:8080","version":"1.2.3","feature_level":2,"voter":true,"health":{"healthy":true,"lag":2,"reasons":[]}`
	return map[string]string{
		"GET /api/v1/members":                   `[{"server_id":"id-0","name":"pm-0",` + server + `},{"server_id":"id-1","name":"pm-1",` + server + `},{"server_id":"id-2","name":"pm-2",` + server + `}]`,
		"GET /api/v1/operator/autopilot":        `{"healthy":true,"failure_tolerance":1,"voters":3,"desired_voters":3}`,
		"GET /api/v1/operator/alarms":           `[]`,
		"GET /api/v1/operator/feature-level":    `{"level":2,"own":2,"possible":2,"behind":[]}`,
		"GET /api/v1/operator/chain":            `{"index":800,"agree":true,"servers":[{"server_id":"id-0","index":800,"hash":"aa"},{"server_id":"id-1","index":800,"hash":"aa"},{"server_id":"id-2","index":800,"hash":"aa"}]}`,
		"GET /api/v1/operator/autopilot/config": autopilotSettings,
	}
}

// TestUpgradeCheck: everything that stands against an upgrade is found, and only
// what makes it unsafe changes the exit code.
func TestUpgradeCheck(t *testing.T) {
	for name, tt := range map[string]struct {
		route, old, new string
		code            int
		want            string
	}{
		"ready":                {"", "", "", ExitOK, "Nothing stands against an upgrade."},
		"versions":             {"GET /api/v1/members", `"version":"1.2.3"`, `"version":"1.3.0"`, ExitOK, "versions|warn|1.2.3: pm-1, pm-2; 1.3.0: pm-0"},
		"level not raised":     {"GET /api/v1/operator/feature-level", `"level":2`, `"level":1`, ExitFailure, "feature level|fail|1, all servers know 2"},
		"behind":               {"GET /api/v1/operator/feature-level", `"behind":[]`, `"behind":["id-2"]`, ExitOK, "feature level|warn|2, behind: pm-2"},
		"alarm":                {"GET /api/v1/operator/alarms", `[]`, `[{"kind":"no-space","server_id":"id-1","name":"pm-1","message":"full"}]`, ExitFailure, "alarms|fail|no-space on pm-1"},
		"not healthy":          {"GET /api/v1/members", `"healthy":true`, `"healthy":false`, ExitFailure, "nodes|fail|not healthy: pm-0"},
		"health not known":     {"GET /api/v1/members", `{"healthy":true,"lag":2,"reasons":[]}`, `null`, ExitFailure, "nodes|fail|not healthy: pm-0"},
		"lag":                  {"GET /api/v1/members", `"lag":2`, `"lag":900`, ExitFailure, "lag|fail|900 entries (pm-0)|at most 250"},
		"lag of one":           {"GET /api/v1/members", `"lag":2`, `"lag":1`, ExitOK, "lag|ok|2 entries (pm-1)"},
		"no tolerance":         {"GET /api/v1/operator/autopilot", `"failure_tolerance":1`, `"failure_tolerance":0`, ExitFailure, "failure tolerance|fail|0"},
		"one node":             {"GET /api/v1/operator/autopilot", `"failure_tolerance":1,"voters":3,"desired_voters":3`, `"failure_tolerance":0,"voters":1,"desired_voters":1`, ExitOK, "failure tolerance|warn|0"},
		"missing voters":       {"GET /api/v1/operator/autopilot", `"desired_voters":3`, `"desired_voters":5`, ExitOK, "voters|warn|3|5"},
		"histories":            {"GET /api/v1/operator/chain", `"hash":"aa"`, `"hash":"bb"`, ExitFailure, "histories|fail|the nodes do not agree at index 800"},
		"silent":               {"GET /api/v1/operator/chain", `"index":800,"hash":"aa"}]`, `"error":"does not answer"}]`, ExitFailure, "histories|fail|not compared: id-2"},
		"no backups":           {"GET /api/v1/operator/backups", "", "!not-configured", ExitOK, "backup|warn|none is made"},
		"old backup":           {"GET /api/v1/operator/backups", "2026-03-05T19:00:00Z", "2026-03-01T19:00:00Z", ExitOK, "backup|warn|4d1h"},
		"no backup":            {"GET /api/v1/operator/backups", "", "[]", ExitOK, "backup|warn|there is none"},
		"backups out of reach": {"GET /api/v1/operator/backups", "", "!unavailable", ExitOK, "backup|warn|the server says unavailable"},
		"no leader":            {"GET /api/v1/operator/autopilot", "", "!no-leader", ExitUnavailable, "the server says no-leader"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSession(t)
			answers := upgradable()
			for route, body := range s.operated(nil) {
				if _, mine := answers[route]; !mine {
					answers[route] = body
				}
			}
			if body := strings.Replace(answers[tt.route], tt.old, tt.new, 1); tt.old != "" && body == answers[tt.route] {
				t.Fatal("nothing was replaced")
			} else if tt.route != "" && tt.old != "" {
				answers[tt.route] = body
			} else if tt.route != "" {
				answers[tt.route] = tt.new
			}
			s.operated(answers)
			out, code := s.run("upgrade", "check")
			if code != tt.code || !strings.Contains(cells(out), tt.want) {
				t.Errorf("want %d, %q: %s", tt.code, tt.want, out)
			}
			if name == "ready" {
				golden(t, "op_upgrade", out)
			}
			if out, _ := s.run("upgrade", "check", "-o", "jsonpath={[*].status}"); name == "ready" && strings.Contains(out, "fail") {
				t.Errorf("%s", out)
			}
		})
	}
	if s := newSession(t); true {
		s.srv.fail = func(w http.ResponseWriter, _ *http.Request) bool {
			problem(w, 503, "no-leader", "No leader is known", true)
			return true
		}
		if out, code := s.run("upgrade", "check"); code != ExitUnavailable {
			t.Errorf("%s", out)
		}
	}
}

// cells is a table with bars for its gaps.
func cells(out string) string {
	var b strings.Builder
	for line := range strings.Lines(out) {
		for strings.Contains(line, "    ") {
			line = strings.ReplaceAll(line, "    ", "   ")
		}
		b.WriteString(strings.ReplaceAll(line, "   ", "|"))
	}
	return b.String()
}
