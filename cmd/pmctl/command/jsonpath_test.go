package command

import (
	"strings"
	"testing"
)

// TestJSONPath: every command with -o takes a template, with the meaning that it
// has for kubectl, applied to what -o json shows.
func TestJSONPath(t *testing.T) {
	s := newSession(t)
	s.stock()
	s.operated(nil)
	for _, tt := range []struct {
		command  []string
		template string
		want     string
	}{
		{[]string{"member", "list"}, `{[*].name}`, "pm-0 pm-1 "},
		{[]string{"member", "list"}, `{range [*]}{.name}={.health.lag}{"\n"}{end}`, "pm-0=0\npm-1=112\n=\n"},
		{[]string{"member", "list"}, `{[?(@.leader==true)].server_id}`, "id-0"},
		{[]string{"member", "list"}, `{[?(@.health.lag>100)].name}`, "pm-1"},
		{[]string{"member", "list"}, `{[0].nothing}`, ""},
		{[]string{"raft", "info"}, `{.cluster_id}`, "c-1"},
		{[]string{"raft", "info"}, `{.disk.free_bytes}`, "5368709120"},
		{[]string{"raft", "info"}, `{.settings['http-addr']}`, ":8080"},
		{[]string{"raft", "log"}, `{range [*]}{.index} {.op};{end}`, "1 ;2 put_package;"},
		{[]string{"autopilot", "status"}, `{.failure_tolerance} {.healthy}`, "0 false"},
		{[]string{"autopilot", "config", "get"}, `{.non_voters[0]}`, "id-2"},
		{[]string{"alarms"}, `{[*].kind}`, "no-space"},
		{[]string{"doctor"}, `{[0].checks[0].name}`, "fsync"},
		{[]string{"chain", "--node", "pm-0"}, `{.index}`, "800"},
		{[]string{"feature", "status"}, `{.behind}`, `["id-2"]`},
		{[]string{"snapshot", "list"}, `{[0].index}`, "811"},
		{[]string{"logs"}, `{.message}{"\n"}`, "this node leads\n\n"},
		{[]string{"get", "envs"}, `{[*].name}`, "oaas-1 oaas-2"},
		{[]string{"get", "deployment", "shop.Cart"}, `{.nfr_requirements.availability}`, "0.99"},
		{[]string{"get", "members", "id-2"}, `{.role}`, "non-voter"},
	} {
		out, code := s.run(append(tt.command, "-o", "jsonpath="+tt.template)...)
		_, out, _ = strings.Cut(out, "jsonpath="+tt.template+"\n")
		out, _, _ = strings.Cut(out, "--- ")
		if out != tt.want || code != ExitOK && tt.command[0] != "chain" {
			t.Errorf("%v %s: exit %d, %q, want %q", tt.command, tt.template, code, out, tt.want)
		}
	}
}

// TestBadJSONPath: a template that cannot be read is found before anything is done.
func TestBadJSONPath(t *testing.T) {
	s := newSession(t)
	s.operated(nil)
	for _, tt := range []struct {
		command, format string
		code            int
		want            string
	}{
		{"member remove pm-1", "jsonpath", ExitUsage, "jsonpath={.name}"},
		{"member remove pm-1", "jsonpath=", ExitUsage, "jsonpath={.name}"},
		{"member remove pm-1", "jsonpath={.name", ExitUsage, "unclosed action"},
		{"get envs", "jsonpath={.name", ExitUsage, "unclosed action"},
		{"raft log", "jsonpath={.name", ExitUsage, "unclosed action"},
		{"logs", "jsonpath={.name", ExitUsage, "unclosed action"},
		{"doctor", "jsonpaths={.name}", ExitUsage, "unknown output format"},
		{"member list", "jsonpath={[7].name}", ExitFailure, "array index out of bounds"},
	} {
		out, code := s.run(append(strings.Fields(tt.command), "-o", tt.format)...)
		if code != tt.code || !strings.Contains(out, tt.want) {
			t.Errorf("want %d %q: %s", tt.code, tt.want, out)
		}
	}
	if len(s.srv.writes) > 0 {
		t.Errorf("done all the same: %v", s.srv.writes)
	}
}
