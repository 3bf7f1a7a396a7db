package process_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"oaas.io/control-plane/deploy/local/process"
)

// helperEnv makes the test program play a parent that starts children and is then killed.
const helperEnv = "OAAS_PROCESS_TEST_PARENT"

func TestMain(m *testing.M) {
	if dir := os.Getenv(helperEnv); dir != "" {
		parent(dir)
		return
	}
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction(process.ForkLoop))
}

// parent starts children from many goroutines, so that a fork from an ordinary thread would show, prints their pids and waits.
func parent(dir string) {
	pids := make(chan int)
	for i := range 5 {
		go func() {
			p, err := process.Start(process.Spec{
				Name: "sleeper", Path: "/bin/sleep", Args: []string{"600"}, LogFile: filepath.Join(dir, strconv.Itoa(i)+".log"),
			})
			if err != nil {
				fmt.Println(err)
				pids <- 0
				return
			}
			pids <- p.PID()
		}()
	}
	for range 5 {
		fmt.Println(<-pids)
	}
	fmt.Println("ready")
	select {}
}

// alive says whether the process exists and is not a zombie that only waits for init.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		select {
		case <-ctx.Done():
			t.Fatalf("not within 10 s: %s", what)
		case <-ticker.C:
		}
	}
}

func TestChildrenDieWithAKilledParent(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), helperEnv+"="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pids []int
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "ready" {
		pid, err := strconv.Atoi(lines.Text())
		if err != nil {
			t.Fatalf("parent said %q", lines.Text())
		}
		pids = append(pids, pid)
	}
	if len(pids) != 5 {
		t.Fatalf("%d children, want 5", len(pids))
	}
	for _, pid := range pids {
		if !alive(pid) {
			t.Errorf("child %d ended while its parent lived", pid)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for _, pid := range pids {
		eventually(t, fmt.Sprintf("child %d ended after its parent was killed", pid), func() bool { return !alive(pid) })
	}
}

func start(t *testing.T, script string) *process.Process {
	t.Helper()
	p, err := process.Start(process.Spec{
		Name: "test", Path: "/bin/sh", Args: []string{"-c", script}, Env: append(os.Environ(), "GREETING=hello"), LogFile: filepath.Join(t.TempDir(), "logs", "test.log"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

func TestStopAsksThenKills(t *testing.T) {
	polite := start(t, `trap 'exit 0' TERM; echo up; while :; do read x </dev/null; done`)
	eventually(t, "the shell has set its trap", func() bool { return process.Tail(polite.Spec().LogFile, 1) == "up" })
	if !polite.Stop(context.Background(), 10*time.Second) {
		t.Error("a program that ends on SIGTERM was killed")
	}
	stubborn := start(t, `trap '' TERM; echo up; while :; do read x </dev/null; done`)
	eventually(t, "the shell has set its trap", func() bool { return process.Tail(stubborn.Spec().LogFile, 1) == "up" })
	if stubborn.Stop(context.Background(), 50*time.Millisecond) {
		t.Error("a program that ignores SIGTERM is said to have ended by itself")
	}
	if stubborn.Running() {
		t.Error("still running")
	}
	if err := stubborn.Signal(syscall.SIGTERM); !errors.Is(err, process.ErrNotRunning) {
		t.Errorf("signal after the end: got %v, want ErrNotRunning", err)
	}
}

func TestErrCarriesTheEndOfTheLog(t *testing.T) {
	p := start(t, `echo "$GREETING"; echo "cannot bind" >&2; exit 3`)
	<-p.Done()
	var exit *process.ExitError
	if !errors.As(p.Err(), &exit) {
		t.Fatalf("got %v, want an ExitError", p.Err())
	}
	if exit.State != "exit status 3" || exit.Tail != "hello\ncannot bind" {
		t.Errorf("got state %q, tail %q", exit.State, exit.Tail)
	}
}

func TestKillEndsAPausedProcess(t *testing.T) {
	p := start(t, `exec sleep 600`)
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if !p.Running() {
		t.Error("a paused process does not count as ended")
	}
	p.Kill()
	if p.Err() == nil {
		t.Error("want an error after the end")
	}
}

func TestStartOfAMissingProgram(t *testing.T) {
	if _, err := process.Start(process.Spec{Name: "none", Path: "/nonexistent", LogFile: filepath.Join(t.TempDir(), "log")}); err == nil {
		t.Error("want an error")
	}
}

func TestRunEndsWithTheContextAndItsGroup(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- process.Run(exec.CommandContext(ctx, "/bin/sh", "-c", `sleep 600 & echo $! >"$0.new"; mv "$0.new" "$0"; wait`, pidFile))
	}()
	eventually(t, "the grandchild started", func() bool { _, err := os.Stat(pidFile); return err == nil })
	cancel()
	if err := <-done; err == nil {
		t.Error("want an error")
	}
	raw, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the grandchild ended", func() bool { return !alive(pid) })
}
