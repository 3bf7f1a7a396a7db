package command

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// rolloutDoc is a rollout in some phase. Its environments are env=wave/revision/state/phase.
func rolloutDoc(phase string, revision, wave int, extra string, envs ...string) string {
	var list []string
	for _, text := range envs {
		env, rest, _ := strings.Cut(text, "=")
		part := strings.Split(rest, "/")
		detail := ""
		if part[3] == "Progressing" {
			detail = "Progressing: 1 of 2 pods are ready"
		}
		list = append(list, fmt.Sprintf(`{"env":"%s","wave":%s,"revision":%s,"state":"%s","phase":"%s","detail":"%s"}`, env, part[0], part[1], part[2], part[3], detail))
	}
	if extra != "" {
		extra = "," + extra
	}
	return fmt.Sprintf(`{"key":"shop.Cart","phase":"%s","revision":%d,"stable_revision":1,"wave":%d,"waves":2,"environments":[%s]%s}`,
		phase, revision, wave, strings.Join(list, ","), extra)
}

// inWaves is what successive looks at a rollout see that gets everywhere.
var inWaves = []string{
	rolloutDoc("Progressing", 2, 1, `"message":"waiting for oaas-1"`, "oaas-1=1/2/Updating/Pending", "oaas-2=2/1/Pending/Available"),
	rolloutDoc("Progressing", 2, 1, `"message":"waiting for oaas-1"`, "oaas-1=1/2/Updating/Progressing", "oaas-2=2/1/Pending/Available"),
	rolloutDoc("Progressing", 2, 2, "", "oaas-1=1/2/Updated/Available", "oaas-2=2/2/Updating/Progressing"),
	rolloutDoc("Complete", 2, 2, "", "oaas-1=1/2/Updated/Available", "oaas-2=2/2/Updated/Available"),
}

var unitsInWaves = []string{
	units(unit("oaas-1", "Pending", false, ""), unit("oaas-2", "Available", true, "", "Cart.add=ready")),
	units(unit("oaas-1", "Progressing", true, "", "Cart.add=unknown"), unit("oaas-2", "Available", true, "", "Cart.add=ready")),
	units(unit("oaas-1", "Available", true, "", "Cart.add=ready"), unit("oaas-2", "Progressing", true, "", "Cart.add=ready")),
	units(unit("oaas-1", "Available", true, "", "Cart.add=ready"), unit("oaas-2", "Available", true, "", "Cart.add=ready")),
}

// takenBack is one whose canary refuses.
var takenBack = []string{
	rolloutDoc("Progressing", 2, 1, "", "oaas-1=1/2/Updating/Refused", "oaas-2=2/1/Pending/Available"),
	rolloutDoc("RollingBack", 3, 1, `"reason":"Refused","message":"oaas-1 refused it: no such template"`, "oaas-1=1/3/Updating/Pending", "oaas-2=1/3/Updated/Available"),
	rolloutDoc("RolledBack", 3, 1, `"reason":"Refused","message":"oaas-1 refused it: no such template"`, "oaas-1=1/3/Updated/Available", "oaas-2=1/3/Updated/Available"),
}

var unitsTakenBack = []string{
	units(unit("oaas-1", "Refused", false, refused), unit("oaas-2", "Available", true, "", "Cart.add=ready")),
	units(unit("oaas-1", "Pending", false, ""), unit("oaas-2", "Available", true, "", "Cart.add=ready")),
	units(unit("oaas-1", "Available", true, "", "Cart.add=ready"), unit("oaas-2", "Available", true, "", "Cart.add=ready")),
}

func TestRolloutStatusInWaves(t *testing.T) {
	failed := rolloutDoc("Failed", 2, 1, `"reason":"ProgressDeadlineExceeded","message":"nothing has gone on for 10m0s"`, "oaas-1=1/2/Updating/Progressing", "oaas-2=2/1/Pending/Available")
	paused := rolloutDoc("Paused", 2, 1, "", "oaas-1=1/2/Updated/Available", "oaas-2=2/1/Pending/Available")
	for _, tc := range []struct {
		name            string
		rollouts, units []string
		columns         int
		args            []string
		exit            int
	}{
		{name: "lines", rollouts: inWaves, units: unitsInWaves},
		{name: "terminal", rollouts: inWaves, units: unitsInWaves, columns: 120},
		{name: "taken_back", rollouts: takenBack, units: unitsTakenBack, exit: ExitFailure},
		{name: "failed", rollouts: []string{failed}, units: unitsInWaves[1:2], exit: ExitFailure},
		{name: "undone", rollouts: []string{strings.Replace(takenBack[2], `"reason":"Refused"`, `"reason":"Undone"`, 1)}, units: unitsTakenBack[2:]},
		{name: "glance", rollouts: inWaves[1:2], units: unitsInWaves[1:2], args: []string{"--watch=false"}},
		{name: "glance_json", rollouts: []string{failed}, units: unitsInWaves[1:2], args: []string{"-w=false", "-o", "json"}, exit: ExitFailure},
		{name: "json", rollouts: inWaves[2:], units: unitsInWaves[2:], args: []string{"-o", "jsonpath={.phase} {.wave}{\"\\n\"}"}},
		{name: "paused", rollouts: []string{paused}, units: unitsInWaves[3:], args: []string{"--timeout", "1s"}, exit: ExitUnavailable},
		{name: "format", rollouts: inWaves, units: unitsInWaves, args: []string{"-o", "table"}, exit: ExitUsage},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSession(t)
			s.stock()
			s.srv.units["shop.Cart"], s.srv.rollouts["shop.Cart"] = slices.Clone(tc.units), slices.Clone(tc.rollouts)
			s.columns = tc.columns
			s.env["NO_COLOR"] = "1"
			out, code := s.run(append([]string{"rollout", "status", "shop.Cart"}, tc.args...)...)
			if code != tc.exit {
				t.Errorf("exit %d, want %d", code, tc.exit)
			}
			golden(t, "waves_"+tc.name, strings.ReplaceAll(out, "\x1b", "␛"))
		})
	}
}

func TestRolloutCommands(t *testing.T) {
	s := newSession(t)
	s.stock()
	s.srv.revisions = `[{"revision":3,"present":true,"time":"2026-03-05T20:00:00Z","agent":"leader","summary":"back to revision 1 (Refused)","rollback_of":1},
		{"revision":2,"time":"2026-03-05T19:00:00Z","agent":"pmctl/dev","summary":"image: 1 → 2","outcome":"failed"},
		{"revision":1,"time":null,"summary":""}]`
	var all strings.Builder
	for _, args := range [][]string{
		{"rollout", "pause", "shop.Cart"}, {"rollout", "resume", "deployment/shop.Cart"}, {"rollout", "abort", "shop.Cart", "-o", "json"},
		{"rollout", "undo", "shop.Cart"}, {"rollout", "undo", "shop.Cart", "--to-revision", "2"}, {"rollout", "undo", "shop.Cart", "--to-revision", "9"},
		{"rollout", "pause", "nope"}, {"rollout", "pause"}, {"rollout", "undo", "package/shop"},
		{"rollout", "history", "shop.Cart"}, {"rollout", "history", "shop.Cart", "-o", "jsonpath={.items[*].revision}"}, {"rollout", "history", "shop.Cart", "-o", "yaml"},
		{"describe", "deployment", "shop.Cart"},
	} {
		if args[0] == "describe" {
			s.srv.rollouts["shop.Cart"], s.srv.units["shop.Cart"] = inWaves[1:2], unitsInWaves[1:2]
		}
		out, _ := s.run(args...)
		all.WriteString(out)
	}
	golden(t, "rollout_commands", all.String())
	if out, _ := s.run("__complete", "rollout", "undo", "shop.Cart", "--to-revision", ""); !strings.Contains(out, "2\timage: 1 → 2") {
		t.Errorf("completion of a revision: %s", out)
	}
	if out, _ := s.run("__complete", "rollout", "pause", ""); !strings.Contains(out, "shop.Cart") {
		t.Errorf("completion of a deployment: %s", out)
	}
}

func TestTimeline(t *testing.T) {
	first := `{"id":"7-0","index":7,"time":"2026-03-05T20:00:00.5Z","type":"Accepted","env":"","reason":"deployment.create","message":"created"}`
	second := `{"id":"8-0","index":8,"time":"2026-03-05T20:00:01Z","type":"Waiting","env":"oaas-1","reason":"TIMEOUT","message":"it takes\u0007 long"}`
	third := `{"id":"ClusterHealthy-oaas-1-5","index":0,"time":"2026-03-05T20:00:02Z","type":"ClusterHealthy","env":"oaas-1"}`
	var all strings.Builder
	for _, args := range [][]string{
		{"events", "shop.Cart"}, {"events", "deployment/shop.Cart", "-o", "json"}, {"events", "deployment", "shop.Cart", "--env", "oaas-1"},
		{"events", "nope"}, {"events", "shop.Cart", "-w"},
	} {
		s := newSession(t)
		s.stock()
		s.srv.timeline["shop.Cart"] = []string{"[" + first + "]", "[" + first + "," + second + "]", "[" + second + "," + third + "]"}
		asked := 0
		s.srv.fail = func(w http.ResponseWriter, _ *http.Request) bool {
			asked++
			switch asked {
			case 2: // it is waited for
				problem(w, 503, "no-leader", "No leader is known", true)
			case 9: // all is forgotten
				problem(w, 404, "not-found", "Deployment not found: shop.Cart", false)
			default:
				return false
			}
			return true
		}
		if !slices.Contains(args, "-w") {
			s.srv.timeline["shop.Cart"] = s.srv.timeline["shop.Cart"][1:]
		}
		out, _ := s.run(args...)
		all.WriteString(out)
	}
	golden(t, "timeline", all.String())
}
