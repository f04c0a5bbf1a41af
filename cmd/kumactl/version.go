package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kuma-dp/kuma-dp/internal/command"
	"github.com/kuma-dp/kuma-dp/internal/version"
)

func newVersionCommand(a *app) *cobra.Command {
	var detailed bool
	cmd := &cobra.Command{
		Use: "version", Short: "Show the versions of kumactl and of the control plane",
		Example: "  kumactl version -a",
		Args:    args(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if detailed {
				fmt.Fprintf(a.stdout, "Client:\n%s", version.Detailed())
			} else {
				fmt.Fprintf(a.stdout, "Client: %s %s\n", version.Product, version.Version)
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			// A control plane that is away is worth a line, but the question about kumactl has been answered.
			index, err := c.Index(cmd.Context())
			if err != nil {
				fmt.Fprintln(a.stderr, "Warning:", command.OneLine(err.Error()))
				return nil
			}
			_, err = fmt.Fprintf(a.stdout, "Server: %s %s\n", index.Product, index.Version)
			return err
		},
	}
	cmd.Flags().BoolVarP(&detailed, "detailed", "a", false, "show what kumactl was built from")
	return cmd
}
