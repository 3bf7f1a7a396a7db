package command

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

// snapshotOf writes a snapshot of a state with these environments.
func (s *session) snapshotOf(name string, envs ...string) string {
	s.t.Helper()
	state, err := fsm.NewState()
	if err != nil {
		s.t.Fatal(err)
	}
	commands := []*pmpb.Command{{Op: &pmpb.Command_Found{Found: &pmpb.Found{ClusterId: "0d9c0c7e-0f5c-4d5b-9a1c-5f0a4b8f6a11"}}}}
	for _, env := range envs {
		name, address, _ := strings.Cut(env, "=")
		commands = append(commands, &pmpb.Command{Op: &pmpb.Command_PutCluster{PutCluster: &pmpb.PutCluster{Cluster: &pmpb.Cluster{Name: name, Address: address}}}})
	}
	for i, cmd := range commands {
		cmd.LeaderTime = timestamppb.New(fixedNow.Add(-1000000000 * 60))
		data, err := fsm.EncodeCommand(cmd)
		if err != nil {
			s.t.Fatal(err)
		}
		if res := state.Apply(uint64(i+5), 2, data); res.Err != nil {
			s.t.Fatal(res.Err)
		}
	}
	var b bytes.Buffer
	if err := state.WriteSnapshot(&b); err != nil {
		s.t.Fatal(err)
	}
	return s.file(name, b.String())
}

func TestSnapshotFiles(t *testing.T) {
	s := newSession(t)
	one, two := s.snapshotOf("one", "a=x:1", "b=x:2"), s.snapshotOf("two", "a=x:1", "b=y:2", "c=x:3")
	whole, err := os.ReadFile(one)
	if err != nil {
		t.Fatal(err)
	}
	damaged := s.file("damaged", string(whole[:len(whole)/2])+"?"+string(whole[len(whole)/2+1:]))
	short := s.file("short", string(whole[:len(whole)-9]))
	var all strings.Builder
	for _, tt := range []struct {
		exit int
		args []string
	}{
		{ExitOK, []string{"inspect", one}},
		{ExitOK, []string{"verify", one}},
		{ExitOK, []string{"diff", one, two}},
		{ExitOK, []string{"diff", one, two, "-o", "json"}},
		{ExitOK, []string{"diff", one, one}},
		{ExitOK, []string{"export", two, "--table", "clusters", "--prefix", "b"}},
		{ExitFailure, []string{"export", two, "--table", "nothing"}},
		{ExitFailure, []string{"verify", damaged}},
		{ExitFailure, []string{"inspect", short}},
		{ExitFailure, []string{"diff", one, short}},
		{ExitUsage, []string{"inspect", filepath.Join(s.home, "none")}},
	} {
		out, code := s.run(append([]string{"snapshot"}, tt.args...)...)
		if code != tt.exit {
			t.Errorf("%v: exit %d, want %d: %s", tt.args, code, tt.exit, out)
		}
		all.WriteString(out)
	}
	golden(t, "op_snapshot_files", all.String())
	file := filepath.Join(s.home, "rows.ndjson")
	if out, code := s.run("snapshot", "export", two, "--file", file); code != ExitOK {
		t.Errorf("%s", out)
	}
	if rows, err := os.ReadFile(file); err != nil || bytes.Count(rows, []byte("\n")) != 4 {
		t.Errorf("%s %v", rows, err)
	}
	if out, code := s.run("snapshot", "export", short, "--file", filepath.Join(s.home, "half")); code != ExitFailure {
		t.Errorf("%s", out)
	}
	if _, err := os.Stat(filepath.Join(s.home, "half")); err == nil {
		t.Error("half an export was left behind")
	}
	s.in = string(whole)
	if out, code := s.run("snapshot", "verify", "-"); code != ExitOK {
		t.Errorf("%s", out)
	}
}
