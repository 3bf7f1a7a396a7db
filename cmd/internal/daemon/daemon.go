package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"oaas.io/control-plane/cmd/internal/version"
)

// ErrUsage marks errors that a different command line would avoid.
var ErrUsage = errors.New("usage")

// Usage marks an error as one of usage.
func Usage(err error) error { return fmt.Errorf("%w: %w", ErrUsage, err) }

// Prepare makes a command one that takes flags only, has the version of the
// build, and leaves it to Run to tell errors.
func Prepare(cmd *cobra.Command) *cobra.Command {
	cmd.Version = version.Version
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if err := cobra.NoArgs(cmd, args); err != nil {
			return Usage(err)
		}
		return nil
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return Usage(err) })
	return cmd
}

// Run executes a command until it ends or the process is asked to stop, tells an
// error on stderr, and gives the exit code.
func Run(cmd *cobra.Command, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	// A second signal ends the process at once: the first one gave up its handler.
	defer context.AfterFunc(ctx, stop)()
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	_, _ = fmt.Fprintf(stderr, "%s: %v\n", cmd.Name(), err)
	if errors.Is(err, ErrUsage) {
		return 2
	}
	return 1
}
