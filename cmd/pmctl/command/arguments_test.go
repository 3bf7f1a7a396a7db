package command

import (
	"strings"
	"testing"
)

// TestArgumentsAreNamed: whoever leaves one out is told which.
func TestArgumentsAreNamed(t *testing.T) {
	s := newSession(t)
	for command, want := range map[string]string{
		"member remove":                  "pmctl member remove needs NODE",
		"member remove a b":              `pmctl member remove NODE: "b" is one too many`,
		"member demote":                  "pmctl member demote needs NODE",
		"leader transfer a b":            `pmctl leader transfer [NODE]: "b" is one too many`,
		"autopilot config set":           "pmctl autopilot config set needs NAME=VALUE",
		"snapshot save":                  "pmctl snapshot save needs FILE",
		"snapshot diff one":              "pmctl snapshot diff needs FROM and TO",
		"recover inspect":                "pmctl recover inspect needs DIR",
		"get":                            "pmctl get needs TYPE",
		"describe":                       "pmctl describe needs TYPE",
		"rollout status":                 "pmctl rollout status needs KEY",
		"config set-context":             "pmctl config set-context needs NAME",
		"feature raise 1 2":              `pmctl feature raise [LEVEL]: "2" is one too many`,
		"snapshot restore a b --confirm": "flag needs an argument",
	} {
		out, code := s.run(strings.Fields(command)...)
		if code != ExitUsage || !strings.Contains(out, want) || strings.Contains(out, "arg(s)") {
			t.Errorf("want %q: %s", want, out)
		}
	}
}

func TestCounted(t *testing.T) {
	for _, tt := range []struct {
		n    int
		want string
	}{{0, "0 packages"}, {1, "1 package"}, {2, "2 packages"}} {
		if got := counted(tt.n, "package"); got != tt.want {
			t.Errorf("%q", got)
		}
	}
	for noun, want := range map[string]string{"index": "2 indexes", "entry": "2 entries", "day": "2 days"} {
		if got := counted(2, noun); got != want {
			t.Errorf("%q", got)
		}
	}
}

// TestOneIsSingular: tables and sentences count like people.
func TestOneIsSingular(t *testing.T) {
	for failures, want := range map[string]string{"0": "no failure is tolerated", "1": "1 failure is tolerated", "2": "2 failures are tolerated"} {
		s := newSession(t)
		s.operated(map[string]string{
			"GET /api/v1/operator/autopilot": `{"healthy":true,"voters":3,"desired_voters":3,"failure_tolerance":` + failures + `}`,
		})
		if out, _ := s.run("autopilot", "explain"); !strings.Contains(out, "Nothing is wrong: 3 voters of 3, "+want+".") {
			t.Errorf("%s", out)
		}
	}
	s := newSession(t)
	s.operated(map[string]string{
		"GET /api/v1/operator/node":              strings.NewReplacer(`"packages":3`, `"packages":1`, `"deployments":12`, `"deployments":1`, `"units":31`, `"units":1`, `"clusters":4`, `"clusters":1`, `"alarms":0`, `"alarms":1`).Replace(oneNode),
		"POST /api/v1/operator/snapshot/restore": `{"epoch":2,"index":9,"packages":1,"deployments":1,"units":1,"removed_units":1}`,
		"GET /api/v1/members":                    `[{"server_id":"id-0","name":"pm-0"}]`,
		"GET /api/v1/operator/doctor":            `{"server_id":"id-0","name":"pm-0","status":"ok","checks":[]}`,
	})
	for command, want := range map[string]string{
		"raft info": "1 package, 1 deployment, 1 unit, 1 cluster, 1 deletion, 1 alarm\n",
		"snapshot restore " + s.file("pm.snapshot", "x") + " --confirm c-1": "1 package, 1 deployment, 1 unit; 1 unit is taken down",
		"doctor": "All is well on 1 node.",
		"debug --duration 1ms --file " + s.home + "/b.tar.gz": "collecting from 1 node for",
	} {
		if out, _ := s.run(strings.Fields(command)...); !strings.Contains(out, want) {
			t.Errorf("want %q: %s", want, out)
		}
	}
}
