package serving

import (
	"context"
	_ "embed" // for setup.yaml
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"oaas.io/control-plane/deploy/local"
	"oaas.io/control-plane/deploy/local/process"
	"oaas.io/control-plane/deploy/local/workdir"
)

//go:embed setup.yaml
var setup []byte

// stopGrace is how long the reconcilers may take to end by themselves.
const stopGrace = 5 * time.Second

// Options of an installation. Only Cluster is needed.
type Options struct {
	// Cluster to install on.
	Cluster *local.Cluster
	// Binaries of Knative. nil means to call local.BuildKnative with Progress.
	Binaries *local.KnativeBinaries
	// Dir receives the log of the program. Empty means a directory of its own, which goes with Remove or Stop.
	Dir string
	// Progress is told about a build that Install has to do first. nil means silence.
	Progress io.Writer
}

// Serving is Knative Serving on a cluster. It belongs to one goroutine at a time.
type Serving struct {
	cluster *local.Cluster
	process *process.Process
	work    *workdir.Dir
	// lent says that the directory is the caller's.
	lent bool
}

// Install brings Knative to the cluster and returns when its reconcilers run.
func Install(ctx context.Context, options Options) (*Serving, error) {
	binaries := options.Binaries
	if binaries == nil {
		built, err := local.BuildKnative(ctx, local.BuildOptions{Progress: options.Progress})
		if err != nil {
			return nil, err
		}
		binaries = built
	}
	work, err := workdir.New(options.Dir, options.Cluster.Name+"-knative")
	if err != nil {
		return nil, fmt.Errorf("install Knative: %w", err)
	}
	s := &Serving{cluster: options.Cluster, work: work, lent: options.Dir != ""}
	if err := s.install(ctx, binaries); err != nil {
		return nil, errors.Join(fmt.Errorf("install Knative: %w", err), s.Stop(ctx))
	}
	return s, nil
}

func (s *Serving) install(ctx context.Context, binaries *local.KnativeBinaries) error {
	if err := s.cluster.InstallCRDs(ctx, binaries.Definitions); err != nil {
		return err
	}
	file := s.work.File("setup.yaml")
	if err := os.WriteFile(file, setup, 0o600); err != nil {
		return fmt.Errorf("write the settings: %w", err)
	}
	if _, err := s.cluster.Kubectl(ctx, "apply", "--server-side", "--force-conflicts", "--output=name", "--filename="+file); err != nil {
		return fmt.Errorf("apply the settings: %w", err)
	}
	return s.start(ctx, binaries.Program)
}

// start runs the program, which makes a file when its reconcilers run.
func (s *Serving) start(ctx context.Context, program string) error {
	ready := s.work.File("knative.ready")
	if err := os.Remove(ready); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the sign of an earlier run: %w", err)
	}
	started, err := process.Start(process.Spec{
		Name:    "Knative on cluster " + s.cluster.Name,
		Path:    program,
		Args:    []string{"--kubeconfig=" + s.cluster.Kubeconfig, "--ready-file=" + ready},
		Env:     []string{"HOME=" + s.work.Path, "PATH=" + os.Getenv("PATH")},
		Dir:     s.work.Path,
		LogFile: s.work.File("knative.log"),
	})
	if err != nil {
		return err
	}
	s.process = started
	// An error of the wait ends it, so that a program that failed is not waited for.
	waiting, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	return s.cluster.Await(waiting, "Knative's reconcilers run", func(context.Context) error {
		if err := started.Err(); err != nil {
			stop(err)
			return err
		}
		_, err := os.Stat(ready)
		return err
	})
}

// Err tells how the reconcilers ended, nil while they run.
func (s *Serving) Err() error {
	if s.process == nil {
		return nil
	}
	return s.process.Err()
}

// Stop ends the reconcilers and leaves the API and its objects. It may be called more than once.
func (s *Serving) Stop(ctx context.Context) error {
	if s.process != nil {
		s.process.Stop(ctx, stopGrace)
		s.process = nil
	}
	work := s.work
	s.work = nil
	switch {
	case work == nil:
		return nil
	case s.lent:
		work.Keep()
		return nil
	}
	if err := work.Remove(); err != nil {
		return fmt.Errorf("stop Knative: %w", err)
	}
	return nil
}
