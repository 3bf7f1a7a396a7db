package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"syscall"
	"time"

	"oaas.io/control-plane/deploy/local/process"
	"oaas.io/control-plane/deploy/local/system"
)

const (
	// probeTimeout bounds one request of a wait.
	probeTimeout = 2 * time.Second
	// stopGrace is how long an orderly end may take.
	stopGrace = 20 * time.Second
)

// Server is one process, through all of its restarts. Its methods may be called from several goroutines.
type Server struct {
	name  string
	dir   string
	place place
	// ready is the URL that answers 200 when the process can do its work.
	ready string
	http  *http.Client
	wrap  func(name string, spec *process.Spec)

	mu     sync.Mutex
	spec   process.Spec
	proc   *process.Process
	paused bool
}

// Name of the process, and of its host.
func (s *Server) Name() string { return s.name }

// Address is that of the host, without a port. Move changes it.
func (s *Server) Address() string { return s.place.address() }

// Dir is the process's own directory.
func (s *Server) Dir() string { return s.dir }

// LogPath has the output of all runs.
func (s *Server) LogPath() string { return s.spec.LogFile }

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

// Paused reports whether the process was paused and not resumed.
func (s *Server) Paused() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.paused && s.proc != nil && s.proc.Running()
}

// Pid is the number of the running process, or 0.
func (s *Server) Pid() int {
	if p := s.current(); p != nil && p.Running() {
		return p.PID()
	}
	return 0
}

// SetBinary has the next starts run another program.
func (s *Server) SetBinary(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spec.Path = path
}

// Start runs the process again after it has ended. It does not wait until the process is ready. To start one that runs is an
// error.
func (s *Server) Start(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("start %s: %w", s.name, context.Cause(ctx))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc != nil && s.proc.Running() {
		return fmt.Errorf("%s is already running", s.name)
	}
	spec := s.spec
	spec.Env = append([]string(nil), spec.Env...)
	if s.wrap != nil {
		s.wrap(s.name, &spec)
	}
	p, err := s.place.start(spec)
	if err != nil {
		return err
	}
	s.proc, s.paused = p, false
	return nil
}

// Kill ends the process with SIGKILL and returns when it is gone. To kill one that does not run is no error.
func (s *Server) Kill() error {
	if p := s.current(); p != nil {
		p.Kill()
	}
	return nil
}

// Stop asks the process to end with SIGTERM and returns when it is gone. It is killed when ctx ends before, which is an error,
// and when it is paused, as it cannot answer then.
func (s *Server) Stop(ctx context.Context) error {
	p := s.current()
	if p == nil {
		return nil
	}
	if s.Paused() {
		return s.Kill()
	}
	if !p.Stop(ctx, stopGrace) {
		return fmt.Errorf("%s did not end in order and was killed", s.name)
	}
	return nil
}

// Pause stops the process where it stands (SIGSTOP).
func (s *Server) Pause() error { return s.signal(syscall.SIGSTOP, true) }

// Resume lets a paused process go on.
func (s *Server) Resume() error { return s.signal(syscall.SIGCONT, false) }

func (s *Server) signal(sig syscall.Signal, paused bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return fmt.Errorf("%s: %w", s.name, process.ErrNotRunning)
	}
	if err := s.proc.Signal(sig); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	s.paused = paused
	return nil
}

// Wait returns when the process has ended, with how it did (*process.ExitError).
func (s *Server) Wait(ctx context.Context) error {
	p := s.current()
	if p == nil {
		return fmt.Errorf("%s: %w", s.name, process.ErrNotRunning)
	}
	select {
	case <-p.Done():
		return p.Err()
	case <-ctx.Done():
		return fmt.Errorf("wait for the end of %s: %w", s.name, context.Cause(ctx))
	}
}

// Err says how the process has ended, with the end of its log; nil while it runs.
func (s *Server) Err() error {
	if p := s.current(); p != nil {
		return p.Err()
	}
	return nil
}

// WaitReady waits until the process can do its work. It fails at once when the process ends.
func (s *Server) WaitReady(ctx context.Context) error {
	return system.Poll(ctx, s.name+" is ready", func(ctx context.Context) (bool, error) {
		if !s.Running() {
			return false, system.Fatal(errors.Join(fmt.Errorf("%s: %w", s.name, process.ErrNotRunning), s.Err()))
		}
		ctx, cancel := context.WithTimeout(ctx, probeTimeout)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.ready, nil)
		if err != nil {
			return false, system.Fatal(err)
		}
		response, err := s.http.Do(request)
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
