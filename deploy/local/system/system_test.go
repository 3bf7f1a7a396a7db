package system_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"oaas.io/control-plane/deploy/local/process"
	"oaas.io/control-plane/deploy/local/system"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction(process.ForkLoop))
}

// bin is the directory of the programs; `make test` builds them once for all packages.
func bin(ctx context.Context, t *testing.T) string {
	t.Helper()
	if dir := os.Getenv(system.BinEnv); dir != "" {
		return dir
	}
	dir := t.TempDir()
	if err := system.Build(ctx, dir, "pmd"); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestThreeNodesSurviveTheirLeader(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	s, err := system.Start(ctx, system.Options{Bin: bin(ctx, t), Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
		for _, server := range s.Servers() {
			if server.Running() {
				t.Errorf("%s runs after Stop", server.Name)
			}
		}
	}()
	for _, pm := range s.PMs {
		if !strings.HasPrefix(pm.HTTPAddress, "127.0.0.1:") {
			t.Errorf("%s listens on %s, want loopback", pm.Name, pm.HTTPAddress)
		}
		info, err := os.Stat(filepath.Join(s.Dir, pm.Name, "settings.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("the settings of %s have mode %o", pm.Name, info.Mode().Perm())
		}
	}
	leader, err := s.Leader(ctx)
	if err != nil {
		t.Fatal(err)
	}
	const pkg = `{"name":"kept","functions":[],"classes":[]}`
	if _, err := leader.Client().Do(ctx, http.MethodPost, "/api/v1/packages", []byte(pkg), nil); err != nil {
		t.Fatal(err)
	}
	leader.Kill()
	if err := s.Err(); err == nil {
		t.Error("a killed node is not reported")
	}
	next, err := s.Leader(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if next == leader {
		t.Fatalf("%s was killed and leads", leader.Name)
	}
	if _, err := next.Client().Do(ctx, http.MethodGet, "/api/v1/packages/kept", nil, nil); err != nil {
		t.Error(err)
	}
	if err := leader.Start(); err != nil {
		t.Fatal(err)
	}
	if err := leader.Start(); err == nil {
		t.Error("a running node was started again")
	}
	if err := leader.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := leader.Client().Do(ctx, http.MethodGet, "/api/v1/packages/kept", nil, nil); err != nil {
		t.Error(err)
	}
	_, err = leader.Client().Do(ctx, http.MethodGet, "/api/v1/packages/none", nil, nil)
	if !system.IsStatus(err, http.StatusNotFound) {
		t.Errorf("got %v, want 404", err)
	}
}

func TestStartSaysWhyAServerEnds(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\necho 'the disk is upside down' >&2\nexit 4\n"
	if err := os.WriteFile(filepath.Join(dir, "pmd"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err := system.Start(ctx, system.Options{Bin: dir, Dir: t.TempDir(), Nodes: 1})
	if err == nil || !strings.Contains(err.Error(), "upside down") || !strings.Contains(err.Error(), "exit status 4") {
		t.Errorf("got %v, want the end of the log and the exit status", err)
	}
}

func TestOptions(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "pmd"), nil, 0o700); err != nil {
		t.Fatal(err)
	}
	cluster := system.Cluster{Name: "c", Kubeconfig: "k"}
	tests := []struct {
		name    string
		options system.Options
		want    string
	}{
		{"no programs", system.Options{Bin: t.TempDir()}, "pmd"},
		{"even", system.Options{Bin: dir, Nodes: 2}, "odd"},
		{"no crm", system.Options{Bin: dir, Clusters: []system.Cluster{cluster}}, "crm"},
		{"no name", system.Options{Bin: dir, Clusters: []system.Cluster{{Kubeconfig: "k"}}}, "name"},
		{"twice", system.Options{Bin: dir, Clusters: []system.Cluster{cluster, cluster}}, "twice"},
		{"good", system.Options{Bin: dir, Nodes: 5}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := test.options.Validate()
			if (err == nil) != (test.want == "") || (err != nil && !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestPollKeepsTheLastUsefulError(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	useful := errors.New("not yet")
	calls := 0
	err := system.Poll(ctx, "it works", func(ctx context.Context) (bool, error) {
		if calls++; calls == 2 {
			cancel()
			return false, ctx.Err()
		}
		return false, useful
	})
	if !errors.Is(err, useful) || !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "it works") {
		t.Errorf("got %v", err)
	}
	err = system.Poll(context.Background(), "it works", func(context.Context) (bool, error) { return false, system.Fatal(useful) })
	if !errors.Is(err, useful) {
		t.Errorf("got %v, want the fatal error", err)
	}
}
