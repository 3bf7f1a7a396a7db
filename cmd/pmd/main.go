package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"oaas.io/control-plane/cmd/internal/config"
	"oaas.io/control-plane/cmd/internal/version"
)

// errUsage marks errors that a different command line would avoid.
var errUsage = errors.New("usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := command().ExecuteContext(ctx)
	stop()
	switch {
	case err == nil:
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, "pmd:", err)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "pmd:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	var opts options
	cmd := &cobra.Command{
		Use:   "pmd",
		Short: "Package Manager node of the OaaS control plane",
		Long: `pmd is a Package Manager node of the OaaS control plane.

A first look, on loopback and in memory:
  pmd --dev

One of three durable nodes:
  pmd --data-dir /var/lib/pmd --advertise-host pm-0.pm \
      --peers pm-0.pm:7402,pm-1.pm:7402,pm-2.pm:7402

Every flag can also be given as PMD_<NAME> in the environment (PMD_HTTP_ADDR for
--http-addr) or as <name> in the YAML file of --config.`,
		Version:       version.Version,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := config.Load(cmd.Flags(), config.Source{EnvPrefix: "PMD", Legacy: legacy}); err != nil {
				return fmt.Errorf("%w: %w", errUsage, err)
			}
			opts.devDefaults(cmd.Flags())
			if err := opts.Validate(); err != nil {
				return fmt.Errorf("%w: %w", errUsage, err)
			}
			return run(cmd.Context(), &opts)
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fmt.Errorf("%w: %w", errUsage, err) })
	config.AddFileFlag(cmd.Flags())
	opts.bind(cmd.Flags())
	return cmd
}
