package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Spec says what to run. It can be started any number of times, which is how a killed server comes back.
type Spec struct {
	// Name is used in error texts.
	Name string
	// Path is the program's file.
	Path string
	// Args are its arguments without the program's name.
	Args []string
	// Env is the whole environment, as KEY=VALUE. nil means the environment of this process.
	Env []string
	// Dir is the working directory; empty means that of this process.
	Dir string
	// LogFile receives stdout and stderr, appended, so that the log of an earlier run stays readable.
	LogFile string
	// Fork runs start on a thread from which the program inherits what threads have for themselves, such as namespaces. The
	// program dies with that thread (see the package comment). nil means the one thread for all.
	Fork func(start func() error) error
}

// Process is one run of a Spec.
type Process struct {
	spec Spec
	cmd  *exec.Cmd
	done chan struct{}

	mu      sync.Mutex
	waitErr error
}

// ErrNotRunning is returned by Signal when the process has already ended.
var ErrNotRunning = errors.New("process is not running")

// Start runs the program. The error of a program that starts and then fails shows up in Done and Err.
func Start(spec Spec) (*Process, error) {
	if err := os.MkdirAll(filepath.Dir(spec.LogFile), 0o700); err != nil {
		return nil, fmt.Errorf("%s: create log directory: %w", spec.Name, err)
	}
	log, err := os.OpenFile(spec.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%s: open log: %w", spec.Name, err)
	}
	// The child has its own descriptor of the file once it is started.
	defer log.Close() //nolint:errcheck // nothing was written through this descriptor

	cmd := exec.Command(spec.Path, spec.Args...)
	cmd.Env = spec.Env
	cmd.Dir = spec.Dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = sysProcAttr()
	fork := spec.Fork
	if fork == nil {
		fork = onForkThread
	}
	if err := fork(cmd.Start); err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	p := &Process{spec: spec, cmd: cmd, done: make(chan struct{})}
	go p.reap()
	return p, nil
}

func (p *Process) reap() {
	err := p.cmd.Wait()
	p.mu.Lock()
	p.waitErr = err
	p.mu.Unlock()
	close(p.done)
}

// Spec returns what was started.
func (p *Process) Spec() Spec { return p.spec }

// PID is the operating system's number of the process. It may be reused by another one after Done is closed.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended and was reaped.
func (p *Process) Done() <-chan struct{} { return p.done }

// Running reports whether the process has not ended yet. A stopped (SIGSTOP) process counts as running.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Err describes, with the end of the log, how the process ended. It is nil while the process runs and never nil after it
// ended, because no program started here is expected to end by itself.
func (p *Process) Err() error {
	if p.Running() {
		return nil
	}
	p.mu.Lock()
	err := p.waitErr
	p.mu.Unlock()
	state := "exit status 0"
	if err != nil {
		state = err.Error()
	}
	return &ExitError{Name: p.spec.Name, State: state, LogFile: p.spec.LogFile, Tail: Tail(p.spec.LogFile, 8)}
}

// Signal sends a signal. ErrNotRunning says that the process had ended before.
func (p *Process) Signal(sig syscall.Signal) error {
	err := p.cmd.Process.Signal(sig)
	if errors.Is(err, os.ErrProcessDone) {
		return ErrNotRunning
	}
	return err
}

// Kill sends SIGKILL and waits until the process is gone. It works on a stopped process too.
func (p *Process) Kill() {
	_ = p.Signal(syscall.SIGKILL)
	<-p.done
}

// Stop asks the process to end with SIGTERM, waits for grace (or ctx) at most, then kills it. It reports whether the process
// ended by itself.
func (p *Process) Stop(ctx context.Context, grace time.Duration) bool {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		p.Kill()
		return true
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	p.Kill()
	return false
}

// ExitError is the end of a process that should have gone on.
type ExitError struct {
	// Name is the name from the Spec.
	Name string
	// State is the exit status or signal in words.
	State string
	// LogFile is where all of its output is.
	LogFile string
	// Tail is the end of the log.
	Tail string
}

func (e *ExitError) Error() string {
	if e.Tail == "" {
		return fmt.Sprintf("%s ended (%s); its log %s is empty", e.Name, e.State, e.LogFile)
	}
	return fmt.Sprintf("%s ended (%s); end of %s:\n%s", e.Name, e.State, e.LogFile, e.Tail)
}

// tailBytes bounds what Tail reads, because servers write long logs.
const tailBytes = 16 << 10

// Tail returns the last lines of a file, or "" when it cannot be read.
func Tail(path string, lines int) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close() //nolint:errcheck // only read
	if info, err := f.Stat(); err == nil && info.Size() > tailBytes {
		if _, err := f.Seek(-tailBytes, 2); err != nil {
			return ""
		}
	}
	var buf bytes.Buffer
	if _, err := buf.ReadFrom(f); err != nil {
		return ""
	}
	all := bytes.Split(bytes.TrimRight(buf.Bytes(), "\n"), []byte("\n"))
	if len(all) > lines {
		all = all[len(all)-lines:]
	}
	return string(bytes.Join(all, []byte("\n")))
}
