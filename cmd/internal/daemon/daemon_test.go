package daemon_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"oaas.io/control-plane/cmd/internal/daemon"
)

func TestExitCodes(t *testing.T) {
	tests := map[string]struct {
		args []string
		err  error
		code int
		told string
	}{
		"asked to stop": {nil, nil, 0, ""},
		"part failed":   {nil, errors.New("disk is broken"), 1, "x: disk is broken\n"},
		"bad setting":   {nil, fmt.Errorf("start: %w", daemon.Usage(errors.New("--a: is odd"))), 2, "x: start: usage: --a: is odd\n"},
		"unknown flag":  {[]string{"--none"}, nil, 2, "x: usage: unknown flag: --none\n"},
		"argument":      {[]string{"up"}, nil, 2, "x: usage: unknown command \"up\" for \"x\"\n"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			cmd := daemon.Prepare(&cobra.Command{Use: "x", RunE: func(*cobra.Command, []string) error { return tc.err }})
			cmd.SetArgs(tc.args)
			var told bytes.Buffer
			if code := daemon.Run(cmd, &told); code != tc.code {
				t.Errorf("exit code %d, want %d", code, tc.code)
			}
			if diff := cmp.Diff(tc.told, told.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLevel(t *testing.T) {
	tests := map[string]struct {
		args []string
		want string
	}{
		"default":            {nil, "info"},
		"filter":             {[]string{"--log-filter=oprc=Debug,h2=warn"}, "debug"},
		"filter of no level": {[]string{"--log-filter=off"}, "info"},
		"the newer one wins": {[]string{"--log-filter=debug", "--log-level=error"}, "error"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var l daemon.Logging
			fs := pflag.NewFlagSet("x", pflag.ContinueOnError)
			l.Bind(fs)
			if err := fs.Parse(tc.args); err != nil {
				t.Fatal(err)
			}
			l.Resolve(fs)
			if err := l.Validate(); err != nil || l.Level != tc.want {
				t.Errorf("level %q (%v), want %q", l.Level, err, tc.want)
			}
		})
	}
}

func TestMistakesAreNamed(t *testing.T) {
	l := daemon.Logging{Level: "loud", Format: "xml"}
	for _, flag := range []string{"--log-level", "--log-format"} {
		if err := l.Validate(); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%v does not name %s", err, flag)
		}
	}
}

func TestVariablesSetInVainAreTold(t *testing.T) {
	var out bytes.Buffer
	l := daemon.Logging{Level: "info", Format: "JSON"}
	set := map[string]bool{"B": true, "A": true}
	daemon.WarnIneffective(l.Logger("x", &out), map[string]string{"A": "reason a", "B": "reason b", "C": "reason c"},
		func(name string) (string, bool) { return "", set[name] })
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], "reason a") || !strings.Contains(lines[1], "reason b") {
		t.Errorf("told %q", lines)
	}
	if l.Logger("x", &out).GetLevel() != hclog.Info {
		t.Error("the level is not the one that was set")
	}
}
