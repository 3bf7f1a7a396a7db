package main

import (
	"os"
	// Time zones of maintenance windows, also where the system has none.
	_ "time/tzdata"

	"github.com/spf13/cobra"

	"oaas.io/control-plane/cmd/internal/config"
	"oaas.io/control-plane/cmd/internal/daemon"
)

func main() { os.Exit(daemon.Run(command(), os.Stderr)) }

func command() *cobra.Command {
	var opts options
	cmd := daemon.Prepare(&cobra.Command{
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
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := config.Load(cmd.Flags(), config.Source{EnvPrefix: "PMD", Legacy: legacy}); err != nil {
				return daemon.Usage(err)
			}
			opts.resolve(cmd.Flags())
			if err := opts.Validate(); err != nil {
				return daemon.Usage(err)
			}
			return run(cmd.Context(), &opts)
		},
	})
	config.AddFileFlag(cmd.Flags())
	opts.bind(cmd.Flags())
	return cmd
}
