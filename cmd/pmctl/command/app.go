package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"oaas.io/control-plane/api/client"
	"oaas.io/control-plane/cmd/internal/version"
)

// Surroundings are what pmctl takes from the system. Tests replace them.
type Surroundings struct {
	In       io.Reader
	Out, Err io.Writer
	// Getenv reads an environment variable.
	Getenv func(string) string
	// HomeDir gives the user's home directory.
	HomeDir func() (string, error)
	// Now is the wall clock.
	Now func() time.Time
	// Size gives the columns and rows of the terminal behind Out; ok is false when
	// Out is no terminal.
	Size func() (columns, rows int, ok bool)
	// Poll is the pause between two looks at a rollout. Default 300 ms.
	Poll time.Duration
	// RetryFor bounds how long a call goes on trying. Zero is the client's default.
	RetryFor time.Duration
}

// System gives the surroundings of a real process.
func System() Surroundings {
	return Surroundings{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		Getenv: os.Getenv, HomeDir: os.UserHomeDir, Now: time.Now,
		Size: func() (int, int, bool) {
			fd := int(os.Stdout.Fd())
			if !term.IsTerminal(fd) || os.Getenv("TERM") == "dumb" {
				return 0, 0, false
			}
			columns, rows, err := term.GetSize(fd)
			return columns, rows, err == nil && columns > 1 && rows > 2
		},
	}
}

// app is what all commands share.
type app struct {
	Surroundings
	flags globalFlags
	api   *client.Client // made by client() on first use
}

type globalFlags struct {
	servers []string
	context string
	config  string
}

// Run executes pmctl and returns its exit code.
func Run(ctx context.Context, args []string, s Surroundings) int {
	if s.Poll == 0 {
		s.Poll = 300 * time.Millisecond
	}
	a := &app{Surroundings: s}
	root, started := a.root() //nolint:contextcheck // commands get ctx from ExecuteContext below
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if a.api != nil {
		a.api.CloseIdle()
	}
	if err == nil {
		return ExitOK
	}
	if !*started {
		// Cobra checks command, flags and arguments before the first hook.
		err = &usageError{err}
	}
	if done := new(planOutcome); errors.As(err, &done) && done.err == nil {
		return done.code
	}
	a.report(err)
	return exitCode(err)
}

func (a *app) root() (root *cobra.Command, started *bool) {
	started = new(bool)
	root = &cobra.Command{
		Use:   "pmctl",
		Short: "Deploy packages of classes and functions to many Kubernetes clusters",
		Long: `pmctl talks to the Package Manager of the OaaS control plane.

  pmctl apply -f shop.yaml              create or update packages and deployments
  pmctl rollout status shop.Cart        watch a deployment become available everywhere
  pmctl get deployments                 see what there is
  pmctl describe deployment shop.Cart   see why something waits

Servers come from --server, from --context, from PMCTL_SERVER, or from the current
context of ~/.config/oaas/pmctl.yaml, in this order; otherwise ` + defaultServer + `.

Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 conflict, 5 unreachable or
out of time. Those of plan and simulate: 0 no change, 1 change, 2 error.`,
		Version:       version.Version,
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRun: func(*cobra.Command, []string) {
			*started = true
		},
	}
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	fs := root.PersistentFlags()
	fs.StringSliceVarP(&a.flags.servers, "server", "s", nil, "URLs of the Package Manager nodes, separated by commas")
	fs.StringVar(&a.flags.context, "context", "", "context of the configuration file to use")
	fs.StringVar(&a.flags.config, "config", "", "configuration file (default ~/.config/oaas/pmctl.yaml, or PMCTL_CONFIG)")
	complete(root, "context", a.completeContexts)
	root.AddGroup(&cobra.Group{ID: operatorGroup, Title: "Operator commands:"})
	root.AddCommand(a.operatorCommands()...)
	root.AddCommand(
		a.applyCommand(), a.getCommand(), a.describeCommand(), a.deleteCommand(), a.rolloutCommand(), a.eventsCommand(),
		a.planCommand(), a.explainCommand(), a.plansCommand(), a.simulateCommand(), a.replanCommand(),
		a.configCommand(), a.versionCommand(),
	)
	return root, started
}

// client connects lazily: commands that need no server work without one.
func (a *app) client() (*client.Client, error) {
	if a.api != nil {
		return a.api, nil
	}
	servers, err := a.servers()
	if err != nil {
		return nil, err
	}
	c, err := client.New(client.Options{Servers: servers, UserAgent: "pmctl/" + version.Version, RetryFor: a.RetryFor})
	if err != nil {
		return nil, &usageError{err}
	}
	a.api = c
	return c, nil
}

// printf writes to standard output. A reader that went away is no error of ours.
func (a *app) printf(format string, args ...any) { _, _ = fmt.Fprintf(a.Out, format, args...) }

func (a *app) errorf(format string, args ...any) { _, _ = fmt.Fprintf(a.Err, format, args...) }

// withTimeout bounds a wait. A limit of 0 means none.
func withTimeout(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	if limit <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, limit)
}

// pause waits for the next poll.
func (a *app) pause(ctx context.Context) error {
	t := time.NewTimer(a.Poll)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
