package cluster

import (
	"context"
	"errors"
)

var errNotYet = errors.New("not built yet")

// Server is one process, through all of its restarts. Its methods may be called from several goroutines.
type Server struct {
	name string
}

// Name of the process, and of its host.
func (s *Server) Name() string { return s.name }

// Address is that of the host, without a port. Move changes it.
func (s *Server) Address() string { return "" }

// Dir is the process's own directory.
func (s *Server) Dir() string { return "" }

// LogPath has the output of all runs.
func (s *Server) LogPath() string { return "" }

// Running reports whether the process has not ended. A paused one runs.
func (s *Server) Running() bool { return false }

// Paused reports whether the process was paused and not resumed.
func (s *Server) Paused() bool { return false }

// Pid is the number of the running process, or 0.
func (s *Server) Pid() int { return 0 }

// SetBinary has the next starts run another program.
func (s *Server) SetBinary(path string) {}

// Start runs the process again after it has ended. It does not wait until the process is ready. To start one that runs is an error.
func (s *Server) Start(ctx context.Context) error { return errNotYet }

// Kill ends the process with SIGKILL and returns when it is gone. To kill one that does not run is no error.
func (s *Server) Kill() error { return errNotYet }

// Stop asks the process to end with SIGTERM and returns when it is gone. It is killed when ctx ends before.
func (s *Server) Stop(ctx context.Context) error { return errNotYet }

// Pause stops the process where it stands (SIGSTOP).
func (s *Server) Pause() error { return errNotYet }

// Resume lets a paused process go on.
func (s *Server) Resume() error { return errNotYet }

// Wait returns when the process has ended, with how it did (*process.ExitError).
func (s *Server) Wait(ctx context.Context) error { return errNotYet }

// Err says how the process has ended, with the end of its log; nil while it runs.
func (s *Server) Err() error { return errNotYet }

// WaitReady waits until the process can do its work. It fails at once when the process ends.
func (s *Server) WaitReady(ctx context.Context) error { return errNotYet }
