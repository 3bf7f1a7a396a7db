package command

import (
	"runtime"

	"github.com/spf13/cobra"

	"oaas.io/control-plane/cmd/internal/version"
)

func (a *app) versionCommand() *cobra.Command {
	var clientOnly bool
	cmd := &cobra.Command{
		Use: "version", Short: "Print the versions of pmctl and of the server", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a.printf("Client: pmctl %s (%s, %s/%s)\n", version.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			if clientOnly {
				return nil
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			h, err := c.Health(cmd.Context())
			if err != nil {
				return err
			}
			a.printf("Server: %s %s (%s)\n", h.Service, h.Version, h.Status)
			return nil
		},
	}
	cmd.Flags().BoolVar(&clientOnly, "client", false, "print the version of pmctl only")
	return cmd
}
