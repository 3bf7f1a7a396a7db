package main

import (
	"os"

	"github.com/spf13/cobra"

	"oaas.io/control-plane/cmd/internal/config"
	"oaas.io/control-plane/cmd/internal/daemon"
)

func main() { os.Exit(daemon.Run(command(), os.Stderr)) }

func command() *cobra.Command {
	var opts options
	cmd := daemon.Prepare(&cobra.Command{
		Use:   "crm",
		Short: "Class Runtime Manager: runs classes in one Kubernetes cluster",
		Long: `crm runs the classes that a package manager sends to one Kubernetes cluster.

With the cluster of the current kubeconfig, announced to a package manager:
  crm --name edge-1 --install-crd --create-namespace --join pm-0.pm:7946

Without --join it waits to be called: tell the package manager its address. Where the
package manager cannot call it, as at the edge, it connects itself:
  crm --name edge-1 --control-plane pm.example.org:7403 --control-plane-tls-ca ca.crt \
      --control-plane-tls-cert edge-1.crt --control-plane-tls-key edge-1.key

Every flag can also be given as CRM_<NAME> in the environment (CRM_GRPC_ADDR for
--grpc-addr) or as <name> in the YAML file of --config. The variables of oaas-rs
(HTTP_PORT, OPRC_CRM_*, OPRC_ENV_*, OPRC_MOCK_CLUSTER_AVAILABILITY, RUST_LOG,
LOG_FORMAT) keep their names and meaning.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			source := config.Source{EnvPrefix: "CRM", Legacy: legacy, Foreign: foreign}
			if err := config.Load(cmd.Flags(), source); err != nil {
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
