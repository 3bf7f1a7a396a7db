package command

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

const (
	drainHeld = `{"reason":"disks","since":"2026-03-05T19:00:00Z","deployments":3,"moved":1,"moving":1,"done":false,"held_count":1,` +
		`"held":[{"key":"shop.Cart","code":"NoPlace","message":"oaas-1: no other environment can take its place","since":"2026-03-05T19:30:00Z"}]}`
	drainDone = `{"reason":"disks","since":"2026-03-05T19:00:00Z","deployments":3,"moved":3,"moving":0,"done":true,"held_count":0,"held":[]}`
)

// An environment is drained by its policy, and followed until nothing runs there.
func TestDrain(t *testing.T) {
	for _, tt := range []struct {
		name   string
		drains []string
		code   int
		args   []string
	}{
		{"begins", nil, 0, []string{"drain", "oaas-1", "--reason", "disks"}},
		{"waits", []string{drainHeld, drainHeld, drainDone}, 0, []string{"drain", "oaas-1", "--wait"}},
		{"waits_in_vain", []string{drainHeld}, ExitUnavailable, []string{"drain", "oaas-1", "--wait", "--timeout", "30ms"}},
		{"ended", []string{drainHeld, ""}, ExitFailure, []string{"drain", "oaas-1", "--wait"}},
		{"dry_run", nil, 1, []string{"drain", "oaas-1", "--dry-run"}},
		{"undrain", nil, 0, []string{"undrain", "oaas-1"}},
		{"nothing", nil, ExitUsage, []string{"drain"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSession(t)
			policy := `{"draining":true,"drain_reason":"old","drain_since":"2026-03-05T19:00:00Z"}`
			s.srv.fail = func(w http.ResponseWriter, r *http.Request) bool {
				switch path := r.Method + " " + r.URL.Path; path {
				case "GET /api/v1/envs/oaas-1/policy":
				case "PUT /api/v1/envs/oaas-1/policy":
					body, _ := io.ReadAll(r.Body)
					policy = string(body)
				case "POST /api/v1/plan/simulate":
					body, _ := io.ReadAll(r.Body)
					if !strings.Contains(string(body), `"drain":["env=oaas-1"]`) {
						t.Errorf("simulated: %s", body)
					}
					_, _ = io.WriteString(w, `{"drained":["oaas-1"],"affected":1,"changed":1,"deployments":[{"key":"shop.Cart","before":["oaas-1"],"plan":{"clusters":["oaas-2"],"summary":"it fits"}}]}`)
					return true
				case "GET /api/v1/envs/oaas-1/drain":
					if body := next(&tt.drains, ""); body != "" {
						_, _ = io.WriteString(w, body)
					} else {
						problem(w, http.StatusNotFound, "not-found", "Drain not found: oaas-1 is not drained", false)
					}
					return true
				default:
					t.Errorf("asked for %s", path)
				}
				_, _ = io.WriteString(w, policy)
				return true
			}
			out, code := s.run(tt.args...)
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			golden(t, "drain_"+tt.name, out)
		})
	}
}

// What is drained, held and suspected is told wherever people look.
func TestDrainsAndMovesAreShown(t *testing.T) {
	s := newSession(t)
	s.srv.load(t, shop)
	s.srv.envs = `[{"name":"oaas-1","health":{"status":"Healthy"},"policy":{"draining":true,"drain_reason":"disks"},"drain":` + drainHeld + `}]`
	s.srv.units["shop.Cart"] = []string{units(unit("oaas-1", "Available", true, "", "add=ready"))}
	s.srv.fail = func(w http.ResponseWriter, r *http.Request) bool {
		switch r.URL.Path {
		case "/api/v1/fleet":
			_, _ = io.WriteString(w, `{"clusters":3,"lost":2,"partition_suspected":true,"reason":"2 of 3 clusters cannot be reached, more than a fifth"}`)
		case "/api/v1/deployments/shop.Cart/move":
			_, _ = io.WriteString(w, `{"key":"shop.Cart","state":"Held","started_at":"2026-03-05T19:30:00Z","leaving":[{"env":"oaas-1","reason":"Drain","replacement":"oaas-2","since":"2026-03-05T19:30:00Z"}],
				"joining":["oaas-2"],"voters":[],"held":{"code":"ReplacementNotAvailable","message":"oaas-1: waits until oaas-2 is available","env":"oaas-1","reason":"Drain","since":"2026-03-05T19:31:00Z"},
				"failovers":["2026-03-05T18:31:00Z"],"lost":[{"env":"oaas-9","left_at":"2026-03-05T18:31:00Z"}]}`)
		default:
			return false
		}
		return true
	}
	for name, args := range map[string][]string{
		"envs": {"get", "envs", "-o", "wide"}, "env": {"describe", "env", "oaas-1"}, "deployment": {"describe", "deployment", "shop.Cart"},
	} {
		out, _ := s.run(args...)
		golden(t, "drain_shown_"+name, out)
	}
}
