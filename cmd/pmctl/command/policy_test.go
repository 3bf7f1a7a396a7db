package command

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

// What operators say about environments is read, changed and written back, again when
// somebody else was faster.
func TestPolicies(t *testing.T) {
	const some = `{"labels":{"team":"a","tier":"tin"},"taints":[{"key":"gpu","effect":"NoSelect"},{"key":"gpu","effect":"PreferNoSelect"}],"cost":10}`
	for _, tt := range []struct {
		name      string
		have      string
		conflicts int
		code      int
		args      []string
	}{
		{"cordon", `{}`, 0, 0, []string{"cordon", "oaas-1", "--reason", "new disks"}},
		{"cordon_conflict", `{}`, 2, 0, []string{"cordon", "oaas-1"}},
		{"cordon_conflicts", `{}`, policyAttempts, ExitConflict, []string{"cordon", "oaas-1"}},
		{"uncordon", `{"cordoned":true,"cordon_reason":"new disks"}`, 0, 0, []string{"uncordon", "oaas-1", "-o", "json"}},
		{"taint", some, 0, 0, []string{"taint", "oaas-1", "gpu=true:NoSelect", "edge:PreferNoSelect"}},
		{"taint_remove", some, 0, 0, []string{"taint", "oaas-1", "gpu-"}},
		{"taint_remove_one", some, 0, 0, []string{"taint", "oaas-1", "gpu:NoSelect-"}},
		{"taint_missing", some, 0, ExitNotFound, []string{"taint", "oaas-1", "cpu-"}},
		{"taint_effect", some, 0, ExitUsage, []string{"taint", "oaas-1", "gpu:Never"}},
		{"label", some, 0, 0, []string{"label", "oaas-1", "tier=gold", "team-"}},
		{"label_syntax", some, 0, ExitUsage, []string{"label", "oaas-1", "tier"}},
		{"get", some, 0, 0, []string{"env-policy", "get", "oaas-1"}},
		{"set", some, 0, 0, []string{"env-policy", "set", "oaas-1", "cost=", "availability=0.9995", "zone=z", "max-units=3", "provider=acme", "max-units-per-package=2", "latency_ms.us-east=90.5", "latency_ms.eu="}},
		{"set_unknown", some, 0, ExitUsage, []string{"env-policy", "set", "oaas-1", "colour=red"}},
		{"set_number", some, 0, ExitUsage, []string{"env-policy", "set", "oaas-1", "cost=much"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSession(t)
			policy, conflicts := tt.have, tt.conflicts
			s.srv.fail = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != "/api/v1/envs/oaas-1/policy" {
					t.Errorf("asked for %s", r.URL.Path)
				}
				w.Header().Set("ETag", `"oaas-1.7"`)
				switch {
				case r.Method == http.MethodGet:
				case r.Header.Get("If-Match") != `"oaas-1.7"`:
					t.Errorf("written whatever the version: %v", r.Header)
				case conflicts > 0:
					conflicts--
					problem(w, http.StatusPreconditionFailed, "precondition-failed", "somebody was faster", false)
					return true
				default:
					body, _ := io.ReadAll(r.Body)
					if !json.Valid(body) {
						t.Errorf("%s", body)
					}
					policy = string(body)
				}
				_, _ = io.WriteString(w, policy)
				return true
			}
			out, code := s.run(tt.args...)
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			if code != 0 && policy != tt.have {
				t.Errorf("written in spite of an error: %s", policy)
			}
			golden(t, "policy_"+tt.name, out)
		})
	}
}

func TestPolicyCompletion(t *testing.T) {
	s := newSession(t)
	s.srv.envs = `[{"name":"oaas-1","health":{}},{"name":"oaas-2","health":{}}]`
	for _, args := range [][]string{{"cordon", ""}, {"taint", ""}, {"env-policy", "set", ""}} {
		if out, _ := s.run(append([]string{"__complete"}, args...)...); !strings.Contains(out, "oaas-1\noaas-2") {
			t.Errorf("%v: %s", args, out)
		}
	}
	if out, _ := s.run("__complete", "env-policy", "set", "oaas-1", ""); !strings.Contains(out, "availability=") {
		t.Errorf("settings: %s", out)
	}
}
