package nested

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"oaas.io/control-plane/deploy/local/filelock"
	"oaas.io/control-plane/deploy/local/process"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, goleak.IgnoreTopFunction(process.ForkLoop)) }

var kubernetes = Module{Folder: "kubernetes", Title: "Kubernetes", Release: "k8s.io/kubernetes", Packages: "tool"}

func TestStampFollowsEverythingThatMatters(t *testing.T) {
	dir := t.TempDir()
	put := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	stamp := func(toolchain string) string {
		t.Helper()
		got, version, err := kubernetes.stamp(dir, toolchain)
		if err != nil {
			t.Fatal(err)
		}
		if version != "v1.37.2" || !strings.HasPrefix(got, version+"-") {
			t.Fatalf("stamp %q of version %q", got, version)
		}
		return got
	}
	put("go.mod", "require (\n\tk8s.io/kubernetes v1.37.2\n)\n")
	put("go.sum", "one")
	first := stamp("go1.26.8")
	if again := stamp("go1.26.8"); again != first {
		t.Errorf("same input gave %s and %s", first, again)
	}
	if other := stamp("go1.26.9"); other == first {
		t.Error("another Go version gave the same stamp")
	}
	put("go.sum", "two")
	if other := stamp("go1.26.8"); other == first {
		t.Error("another go.sum gave the same stamp")
	}
	second := stamp("go1.26.8")
	put("main_test.go", "package main")
	if again := stamp("go1.26.8"); again != second {
		t.Error("a test gave another stamp")
	}
	put("main.go", "package main")
	if other := stamp("go1.26.8"); other == second {
		t.Error("other source gave the same stamp")
	}
	put("go.mod", "module x\n")
	if _, _, err := kubernetes.stamp(dir, "go1.26.8"); err == nil {
		t.Error("a go.mod without Kubernetes was accepted")
	}
}

func TestModuleDirIsFoundHereAndFromBelow(t *testing.T) {
	here, err := kubernetes.dir("")
	if err != nil {
		t.Fatal(err)
	}
	if !exists(filepath.Join(here, "go.sum")) {
		t.Errorf("%s has no go.sum", here)
	}
}

// Test packages run as separate processes at the same time, and each wants the programs.
func TestBuildsWaitForEachOther(t *testing.T) {
	module, err := kubernetes.dir("")
	if err != nil {
		t.Fatal(err)
	}
	cache := t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	toolchain, err := process.Output(goCommand(ctx, module, "env", "GOVERSION"))
	if err != nil {
		t.Fatal(err)
	}
	stamp, _, err := kubernetes.stamp(module, strings.TrimSpace(toolchain))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(cache, "kubernetes"), 0o700); err != nil {
		t.Fatal(err)
	}
	builder, err := filelock.Acquire(ctx, filepath.Join(cache, "kubernetes", stamp+".lock"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer builder.Release()

	waiting := make(chan struct{}, 3)
	results := make(chan string, 3)
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() {
			b, err := kubernetes.Build(ctx, Options{CacheDir: cache, Progress: notify{waiting}})
			if err != nil {
				t.Error(err)
				return
			}
			results <- b.Dir
		})
	}
	for range 3 {
		select {
		case <-waiting:
		case <-ctx.Done():
			t.Fatal("the builds did not wait for the lock")
		}
	}
	// The holder of the lock finishes: all that waited must take its result and build nothing.
	want := filepath.Join(cache, "kubernetes", stamp)
	if err := os.Mkdir(want, 0o700); err != nil {
		t.Fatal(err)
	}
	builder.Release()
	group.Wait()
	close(results)
	for got := range results {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// notify tells of each message. Only the message about waiting is expected.
type notify struct{ to chan<- struct{} }

func (n notify) Write(p []byte) (int, error) {
	n.to <- struct{}{}
	return len(p), nil
}

func TestBuildHasProgramsAndFilesOfOtherModules(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"go.mod":        "module example.com/tool\n\ngo 1.26\n\nrequire example.com/data v1.2.3\n\nreplace example.com/data => ./data\n",
		"go.sum":        "",
		"main.go":       "package main\n\nfunc main() { println(\"built\") }\n",
		"data/go.mod":   "module example.com/data\n",
		"data/a/1.yaml": "one",
		"data/a/2.yaml": "two",
		"data/a/3.txt":  "three",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m := Module{
		Folder: "tool", Title: "a tool", Release: "example.com/data", Packages: ".", Programs: 1,
		Rename: map[string]string{"tool": "renamed"},
		Copies: []Copy{{Module: "example.com/data", Pattern: "a/*.yaml", Into: "files"}},
	}
	options := Options{CacheDir: t.TempDir(), ModuleDir: dir}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	built, err := m.Build(ctx, options)
	if err != nil {
		t.Fatal(err)
	}
	if built.Version != "v1.2.3" {
		t.Errorf("version: got %s, want v1.2.3", built.Version)
	}
	if out, err := exec.CommandContext(ctx, built.File("renamed")).CombinedOutput(); err != nil || string(out) != "built\n" {
		t.Errorf("the program: %q, %v", out, err)
	}
	files, err := filepath.Glob(filepath.Join(built.File("files"), "*"))
	if err != nil || len(files) != 2 {
		t.Errorf("files: got %v, %v, want the two that match", files, err)
	}
	m.Copies[0].Pattern = "a/*.json"
	if _, err := m.Build(ctx, options); err == nil || !strings.Contains(err.Error(), "a/*.json") {
		t.Errorf("without the files to copy: got %v, want an error that names them", err)
	}
}

func TestBuildEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := kubernetes.Build(ctx, Options{CacheDir: t.TempDir()}); err == nil {
		t.Error("want an error")
	}
}

func TestMeterCountsPackagesOnly(t *testing.T) {
	var out bytes.Buffer
	m := newMeter(&out, 40, 7)
	for _, part := range []string{"go: downloading example.com/x v1.0.0\nexample.com", "/a\nexample.com/b\n# example.com/c\nx.go:1: bad\n"} {
		if _, err := m.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	m.print()
	m.finish()
	if got := out.String(); !strings.Contains(got, "2 of 40 packages") || !strings.Contains(got, "now b") {
		t.Errorf("got %q", got)
	}
}
