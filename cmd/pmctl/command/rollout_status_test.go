package command

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestRolloutStatus(t *testing.T) {
	for _, tc := range []struct {
		name    string
		answers []string
		columns int
		rows    int
		color   bool
		args    []string
		exit    int
	}{
		{name: "lines", answers: becomesAvailable},
		{name: "terminal", answers: becomesAvailable, columns: 60},
		{name: "terminal_low", answers: becomesAvailable[3:], columns: 60, rows: 5},
		{name: "terminal_color", answers: becomesAvailable[3:], columns: 200, color: true},
		{name: "in_part", args: []string{"--timeout", "1s"}, answers: []string{becomesAvailable[0],
			units(unit("oaas-1", "Degraded", true, inPart), unit("oaas-2", "Available", true, ""))}, exit: ExitUnavailable},
		{name: "given_up", answers: []string{units(unit("oaas-1", "Degraded", true, strings.Replace(inPart, "false", "true", 1)), unit("oaas-2", "Available", true, ""))}, exit: ExitFailure},
		{name: "refused", answers: []string{becomesAvailable[0], units(unit("oaas-1", "Refused", false, refused), unit("oaas-2", "Available", true, ""))}, exit: ExitFailure},
		{name: "removal", answers: []string{
			units(unit("oaas-1", "Progressing", true, "", "Cart.add=ImagePull"), unit("oaas-2", "Deleting", false, `"tombstone":true`)),
			units(unit("oaas-1", "Available", true, "", "Cart.add=ready")),
		}},
		{name: "no_watch", answers: becomesAvailable[2:3], args: []string{"--watch=false"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSession(t)
			s.stock()
			s.srv.units["shop.Cart"] = slices.Clone(tc.answers)
			s.columns, s.step = tc.columns, 100*time.Millisecond
			if tc.rows > 0 {
				s.rows = tc.rows
			}
			if !tc.color {
				s.env["NO_COLOR"] = "1"
			}
			out, code := s.run(append([]string{"rollout", "status", "deployment/shop.Cart"}, tc.args...)...)
			if code != tc.exit {
				t.Errorf("exit %d, want %d", code, tc.exit)
			}
			golden(t, "rollout_"+tc.name, strings.ReplaceAll(out, "\x1b", "␛"))
			if tc.columns == 0 && strings.Contains(out, "\x1b") {
				t.Error("control sequences without a terminal")
			}
		})
	}
}

func TestRolloutTimesOutAndSaysWhy(t *testing.T) {
	s := newSession(t)
	s.stock()
	out, code := s.run("rollout", "status", "shop.Cart", "--timeout", "30ms")
	if code != ExitUnavailable {
		t.Errorf("exit %d, want %d", code, ExitUnavailable)
	}
	golden(t, "rollout_timeout", out)
}

// TestRolloutOutlivesAnOutage has the servers gone for some looks.
func TestRolloutOutlivesAnOutage(t *testing.T) {
	s := newSession(t)
	s.stock()
	s.srv.units["shop.Cart"] = slices.Clone(becomesAvailable)
	asked := 0
	s.srv.fail = func(w http.ResponseWriter, _ *http.Request) bool {
		if asked++; asked >= 2 && asked < 20 {
			problem(w, 503, "no-leader", "No leader is known", true)
			return true
		}
		return false
	}
	out, code := s.run("rollout", "status", "shop.Cart")
	if code != 0 || strings.Count(out, "waiting for a server: No leader is known") != 1 {
		t.Errorf("exit %d, want 0 and one line about the outage:\n%s", code, out)
	}
}

func TestRolloutOfADeletedDeployment(t *testing.T) {
	s := newSession(t)
	s.stock()
	asked := 0
	s.srv.fail = func(http.ResponseWriter, *http.Request) bool {
		if asked++; asked == 2 {
			s.srv.deployments = nil
		}
		return false
	}
	out, code := s.run("rollout", "status", "shop.Cart")
	if code != ExitFailure || !strings.Contains(out, `deployment "shop.Cart" was deleted meanwhile`) {
		t.Errorf("exit %d\n%s", code, out)
	}
}

func TestApplyWait(t *testing.T) {
	s := newSession(t)
	s.srv.units["shop.Cart"] = slices.Clone(becomesAvailable)
	s.step = 100 * time.Millisecond
	out, code := s.run("apply", "-f", s.file("shop.yaml", shop), "--wait")
	if code != 0 {
		t.Errorf("exit %d", code)
	}
	golden(t, "apply_wait", out)
}
