package faultfs

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// children are what the test binary does instead of tests when it is started by a test: a
// process that maps files of a mount must not be the one that serves it.
var children = map[string]func(args []string) error{}

const childVariable = "FAULTFS_CHILD"

func TestMain(m *testing.M) {
	if name := os.Getenv(childVariable); name != "" {
		os.Exit(runAs(name)) //nolint:forbidigo // this is the main of a child
	}
	goleak.VerifyTestMain(m)
}

func runAs(name string) int {
	if err := children[name](os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, name+":", err)
		return 1
	}
	return 0
}

// child is a running one.
type child struct {
	cmd    *exec.Cmd
	lines  *bufio.Scanner
	errors *strings.Builder
	stdin  io.WriteCloser
}

func startChild(tb testing.TB, name string, args ...string) *child {
	tb.Helper()
	exe, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), childVariable+"="+name)
	c := &child{cmd: cmd, errors: &strings.Builder{}}
	cmd.Stderr = c.errors
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if c.stdin, err = cmd.StdinPipe(); err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	c.lines = bufio.NewScanner(out)
	tb.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return c
}

// wait is for a child that ends by itself.
func (c *child) wait() error {
	if err := c.cmd.Wait(); err != nil {
		return fmt.Errorf("%w: %s", err, c.errors.String())
	}
	return nil
}

func runChild(tb testing.TB, name string, args ...string) {
	tb.Helper()
	if err := startChild(tb, name, args...).wait(); err != nil {
		tb.Fatal(err)
	}
}

func mounted(tb testing.TB, opts Options) *FS {
	tb.Helper()
	if err := Available(); err != nil {
		tb.Fatalf("this machine cannot mount: %v", err)
	}
	dir := tb.TempDir()
	f, err := Mount(filepath.Join(dir, "backing"), filepath.Join(dir, "mount"), opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := f.Close(); err != nil {
			tb.Error(err)
		}
	})
	return f
}
