package system

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"syscall"
	"time"

	"oaas.io/control-plane/deploy/local/process"
)

const (
	// pollEvery is the interval of all waits.
	pollEvery = 20 * time.Millisecond
	// probeTimeout bounds one request of a wait, so that a hung process cannot use up the whole wait.
	probeTimeout = 2 * time.Second
	// stopGrace is how long an orderly end may take.
	stopGrace = 10 * time.Second
)

// Server is one process of the system, through all of its restarts. Its methods may be called from several goroutines.
type Server struct {
	// Name is unique in the system.
	Name string
	// LogFile has the output of all runs.
	LogFile string

	spec process.Spec
	// ready is the URL that answers 200 when the server can work.
	ready  string
	client *http.Client

	mu   sync.Mutex
	proc *process.Process
}

// Start runs the process again after it was killed or stopped. It does not wait for readiness.
func (s *Server) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc != nil && s.proc.Running() {
		return fmt.Errorf("%s is already running", s.Name)
	}
	p, err := process.Start(s.spec)
	if err != nil {
		return err
	}
	s.proc = p
	return nil
}

func (s *Server) current() *process.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc
}

// Running reports whether the process has not ended. A paused one runs.
func (s *Server) Running() bool {
	p := s.current()
	return p != nil && p.Running()
}

// PID is the number of the running process, or 0.
func (s *Server) PID() int {
	if p := s.current(); p != nil && p.Running() {
		return p.PID()
	}
	return 0
}

// Kill ends the process with SIGKILL and returns when it is gone.
func (s *Server) Kill() {
	if p := s.current(); p != nil {
		p.Kill()
	}
}

// Stop ends the process in order, as an operator would, and returns when it is gone. It reports whether SIGTERM was enough.
func (s *Server) Stop(ctx context.Context) bool {
	p := s.current()
	return p == nil || p.Stop(ctx, stopGrace)
}

// Pause stops the process where it stands (SIGSTOP).
func (s *Server) Pause() error { return s.signal(syscall.SIGSTOP) }

// Resume lets a paused process go on.
func (s *Server) Resume() error { return s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) error {
	p := s.current()
	if p == nil {
		return fmt.Errorf("%s: %w", s.Name, process.ErrNotRunning)
	}
	if err := p.Signal(sig); err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	return nil
}

// Err says how the process ended, with the end of its log; nil while it runs.
func (s *Server) Err() error {
	if p := s.current(); p != nil {
		return p.Err()
	}
	return nil
}

// WaitReady waits until the server can work. It fails at once when the process ends.
func (s *Server) WaitReady(ctx context.Context) error {
	return Poll(ctx, s.Name+" is ready", func(ctx context.Context) (bool, error) {
		if err := s.Err(); err != nil {
			return false, Fatal(err)
		}
		ctx, cancel := context.WithTimeout(ctx, probeTimeout)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.ready, nil)
		if err != nil {
			return false, Fatal(err)
		}
		response, err := s.client.Do(request)
		if err != nil {
			return false, err
		}
		defer response.Body.Close() //nolint:errcheck // only the status counts
		if response.StatusCode != http.StatusOK {
			return false, fmt.Errorf("%s answered %s", s.ready, response.Status)
		}
		return true, nil
	})
}

// LogTail is the end of the output of all runs.
func (s *Server) LogTail(lines int) string { return process.Tail(s.LogFile, lines) }
