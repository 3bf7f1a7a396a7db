package local

import (
	"context"
	"fmt"
	"syscall"

	"oaas.io/control-plane/deploy/local/process"
)

// PauseAPIServer stops the API server in the middle of what it does (SIGSTOP): connections stay open and answers do not come.
func (c *Cluster) PauseAPIServer() error { return c.signal(programAPIServer, syscall.SIGSTOP) }

// ResumeAPIServer lets a paused API server go on.
func (c *Cluster) ResumeAPIServer() error { return c.signal(programAPIServer, syscall.SIGCONT) }

// PauseNodes stops all simulated kubelets at once, as if every node had lost its network. After about 20 seconds Kubernetes
// calls the nodes unreachable.
func (c *Cluster) PauseNodes() error { return c.signal(programKwok, syscall.SIGSTOP) }

// ResumeNodes lets the simulated kubelets go on.
func (c *Cluster) ResumeNodes() error { return c.signal(programKwok, syscall.SIGCONT) }

// CrashNodes crashes all simulated kubelets (SIGKILL). They come back by themselves, as they do after a crash of their own.
func (c *Cluster) CrashNodes() error { return c.signal(programKwok, syscall.SIGKILL) }

// KillAPIServer crashes the API server (SIGKILL): connections break and new ones are refused. For everything outside, the
// whole cluster is down then.
func (c *Cluster) KillAPIServer() error {
	c.mu.Lock()
	p, err := c.process(programAPIServer)
	// A process that was ended on purpose is not a reason for Err to complain.
	delete(c.processes, programAPIServer)
	c.mu.Unlock()
	if err != nil {
		return err
	}
	p.Kill()
	return nil
}

// RestartAPIServer brings a killed API server back on the same port with the same data, and waits until it is ready.
func (c *Cluster) RestartAPIServer(ctx context.Context) error {
	if c.work == nil {
		return ErrNotOwned
	}
	c.mu.Lock()
	running := c.processes[programAPIServer] != nil
	c.mu.Unlock()
	if running {
		return fmt.Errorf("the API server of cluster %s is already running", c.Name)
	}
	if err := c.run(c.apiserverSpec()); err != nil {
		return err
	}
	return c.WaitReady(ctx)
}

func (c *Cluster) signal(program string, sig syscall.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, err := c.process(program)
	if err != nil {
		return err
	}
	return p.Signal(sig)
}

// process finds a running process; the caller holds the lock.
func (c *Cluster) process(program string) (*process.Process, error) {
	if c.work == nil {
		return nil, ErrNotOwned
	}
	p := c.processes[program]
	if p == nil {
		return nil, fmt.Errorf("%s of cluster %s: %w", program, c.Name, process.ErrNotRunning)
	}
	return p, nil
}
