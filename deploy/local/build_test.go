package local

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"oaas.io/control-plane/deploy/local/filelock"
)

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
		version, err := requiredVersion(dir, "k8s.io/kubernetes")
		if err != nil {
			t.Fatal(err)
		}
		got, err := nested{dir: dir, version: version}.stamp(toolchain)
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
	put("main.go", "package main")
	if other := stamp("go1.26.8"); other == stamp("go1.26.9") || other == first {
		t.Error("other source gave the same stamp")
	}
	put("go.mod", "module x\n")
	if _, err := requiredVersion(dir, "k8s.io/kubernetes"); err == nil {
		t.Error("a go.mod without Kubernetes was accepted")
	}
}

func TestModuleDirIsFoundHereAndFromBelow(t *testing.T) {
	for _, folder := range []string{moduleFolder, knativeFolder} {
		here, err := moduleDir("", folder)
		if err != nil {
			t.Fatal(err)
		}
		if !exists(filepath.Join(here, "go.sum")) {
			t.Errorf("%s has no go.sum", here)
		}
	}
}

// Test packages run as separate processes at the same time, and each wants the programs.
func TestBuildsWaitForEachOther(t *testing.T) {
	module, err := moduleDir("", moduleFolder)
	if err != nil {
		t.Fatal(err)
	}
	cache := t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	toolchain, err := output(goCommand(ctx, module, "env", "GOVERSION"))
	if err != nil {
		t.Fatal(err)
	}
	version, err := requiredVersion(module, "k8s.io/kubernetes")
	if err != nil {
		t.Fatal(err)
	}
	stamp, err := nested{dir: module, version: version}.stamp(strings.TrimSpace(toolchain))
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
			b, err := Build(ctx, BuildOptions{CacheDir: cache, Progress: notify{waiting}})
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

func TestBuildEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Build(ctx, BuildOptions{CacheDir: t.TempDir()}); err == nil {
		t.Error("want an error")
	}
}

func TestMeterCountsPackagesOnly(t *testing.T) {
	var out bytes.Buffer
	m := newMeter(&out, 40)
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
