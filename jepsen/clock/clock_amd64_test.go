package clock

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const childVariable = "CLOCK_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childVariable) {
	case "tell":
		os.Exit(exit(tell())) //nolint:forbidigo // this is the main of a child
	case "hurry":
		os.Exit(exit(hurry())) //nolint:forbidigo // this is the main of a child
	}
	goleak.VerifyTestMain(m)
}

func exit(err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// reading is what a process sees of the clocks.
type reading struct {
	// wall is by clock_gettime, day by gettimeofday, second by time, in nanoseconds.
	wall, day, second int64
	// mono is since the process began.
	mono time.Duration
}

// tell answers every line with the clocks.
func tell() error {
	began := time.Now()
	second, err := timeFunction()
	if err != nil {
		return err
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var tv syscall.Timeval
		if err := syscall.Gettimeofday(&tv); err != nil {
			return err
		}
		now := time.Now()
		if _, err := fmt.Println(now.UnixNano(), tv.Nano(), second()*int64(time.Second), int64(time.Since(began))); err != nil {
			return err
		}
	}
	return nil
}

// hurry reads the clocks as fast as it can on many goroutines and fails when the monotonic
// one goes back or the wall clock is neither the machine's nor an hour ahead.
func hurry() error {
	var wg sync.WaitGroup
	began := time.Now()
	stop := make(chan struct{})
	errs := make(chan error, 16)
	for range cap(errs) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			errs <- look(began, stop)
		}()
	}
	fmt.Println("ready")
	_, err := io.ReadAll(os.Stdin)
	close(stop)
	wg.Wait()
	for range cap(errs) {
		err = errors.Join(err, <-errs)
	}
	return err
}

func look(began time.Time, stop <-chan struct{}) error {
	var last time.Duration
	for n := 0; ; n++ {
		select {
		case <-stop:
			if n < 1000 {
				return fmt.Errorf("only %d looks", n)
			}
			return nil
		default:
		}
		now := time.Now()
		mono := now.Sub(began)
		if mono < last {
			return fmt.Errorf("the monotonic clock went back by %v", last-mono)
		}
		last = mono
		off := now.Round(0).Sub(began.Round(0)) - mono
		if off = off.Abs(); off > time.Minute && (off-time.Hour).Abs() > time.Minute {
			return fmt.Errorf("the wall clock is off by %v", off)
		}
	}
}

type process struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Scanner
	err   strings.Builder
}

func start(t *testing.T, name string) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.Command(exe)}
	p.cmd.Env = append(os.Environ(), childVariable+"="+name)
	p.cmd.Stderr = &p.err
	out, err := p.cmd.StdoutPipe()
	if err == nil {
		p.in, err = p.cmd.StdinPipe()
	}
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	p.lines = bufio.NewScanner(out)
	t.Cleanup(func() { _ = p.cmd.Process.Kill(); _ = p.cmd.Wait() })
	return p
}

// ask gives what the process sees, and how far its clocks are from the machine's.
func (p *process) ask(t *testing.T) (r reading) {
	t.Helper()
	if _, err := fmt.Fprintln(p.in); err != nil {
		t.Fatal(err, p.err.String())
	}
	if !p.lines.Scan() {
		t.Fatal("the process has ended: ", p.cmd.Wait(), p.err.String())
	}
	if _, err := fmt.Sscan(p.lines.Text(), &r.wall, &r.day, &r.second, &r.mono); err != nil {
		t.Fatal(err)
	}
	return r
}

func opened(t *testing.T, p *process) *Clock {
	t.Helper()
	if err := Available(); err != nil {
		t.Skipf("this machine lets nobody into another process: %v", err)
	}
	c, err := Open(p.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// apart compares the clocks of a process with what they should show.
func (p *process) apart(t *testing.T, offset time.Duration) {
	t.Helper()
	r := p.ask(t)
	now := time.Now().Add(offset)
	for name, got := range map[string]int64{"clock_gettime": r.wall, "gettimeofday": r.day, "time": r.second} {
		slack := 2 * time.Second // the machine may be busy, and time counts seconds
		if d := now.Sub(time.Unix(0, got)).Abs(); d > slack {
			t.Errorf("with offset %v, %s is off by %v", offset, name, d)
		}
	}
}

func TestTheWallClockJumpsAndTheMonotonicDoesNot(t *testing.T) {
	p := start(t, "tell")
	before, began := p.ask(t), time.Now()
	c := opened(t, p)
	p.apart(t, 0)
	for _, offset := range []time.Duration{time.Hour, -time.Hour, 1500 * time.Millisecond, -30 * 24 * time.Hour, 40 * 365 * 24 * time.Hour, 0, -17 * time.Nanosecond} {
		if err := c.Set(offset); err != nil {
			t.Fatal(err)
		}
		p.apart(t, offset)
	}
	if d := (p.ask(t).mono - before.mono - time.Since(began)).Abs(); d > 2*time.Second {
		t.Errorf("the monotonic clock moved by %v", d)
	}
	if err := c.Set(time.Hour); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(began); d > time.Minute {
		t.Errorf("our own clock has moved: %v", d)
	}
	other := start(t, "tell")
	other.apart(t, 0)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	p.apart(t, 0)
	if err := c.Set(time.Hour); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	again := opened(t, p)
	if err := again.Set(-time.Hour); err != nil {
		t.Fatal(err)
	}
	p.apart(t, -time.Hour)
}

func TestOneTakesTheClock(t *testing.T) {
	p := start(t, "tell")
	p.ask(t)
	c := opened(t, p)
	if err := c.Set(time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(p.cmd.Process.Pid); !errors.Is(err, ErrTaken) {
		t.Errorf("taken twice: %v", err)
	}
	p.apart(t, time.Hour)
	if err := c.Set(100 * 365 * 24 * time.Hour); err == nil {
		t.Error("a century was accepted")
	}
}

func TestSwitchingUnderLoad(t *testing.T) {
	p := start(t, "hurry")
	if !p.lines.Scan() {
		t.Fatal(p.cmd.Wait())
	}
	for range 10 {
		c := opened(t, p)
		for range 5 {
			if err := errors.Join(c.Set(time.Hour), c.Set(-time.Hour), c.Set(0)); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, p.err.String())
	}
}

func TestAStoppedProcessStaysStopped(t *testing.T) {
	p := start(t, "tell")
	p.ask(t)
	target := &target{pid: p.cmd.Process.Pid}
	stop := func() {
		t.Helper()
		if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		for stopped := false; !stopped; {
			var err error
			if stopped, err = target.stopped(); err != nil {
				t.Fatal(err)
			}
		}
	}
	stop()
	// One that stands where nothing may be written cannot be taken as it is. It must have
	// been left stopped then too.
	for try := 0; ; try++ {
		probe, err := Open(p.cmd.Process.Pid)
		if err == nil {
			if err := probe.Close(); err != nil {
				t.Fatal(err)
			}
			break
		}
		if !errors.Is(err, ErrRestless) || try == 100 {
			t.Fatal(err)
		}
		if stopped, err := target.stopped(); err != nil || !stopped {
			t.Errorf("it runs: %v", err)
		}
		if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		stop()
	}
	c := opened(t, p)
	if err := c.Set(time.Hour); err != nil {
		t.Fatal(err)
	}
	if stopped, err := target.stopped(); err != nil || !stopped {
		t.Errorf("it runs: %v", err)
	}
	if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	p.apart(t, time.Hour)
}

func TestTheProcessMayEnd(t *testing.T) {
	p := start(t, "tell")
	p.ask(t)
	c := opened(t, p)
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = p.cmd.Wait() // killed
	if err := c.Set(time.Hour); !errors.Is(err, ErrGone) {
		t.Errorf("Set: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if _, err := Open(p.cmd.Process.Pid); !errors.Is(err, ErrGone) {
		t.Errorf("Open: %v", err)
	}
}
