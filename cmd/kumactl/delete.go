package main

import (
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/kuma-dp/kuma-dp/cmd/kumactl/client"
)

func newDeleteCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "delete TYPE NAME", Short: "Delete a resource",
		Example: "  kumactl delete meshtimeout backend-timeout",
		Args:    args(2, 2, "a type and a name"),
		RunE: func(cmd *cobra.Command, given []string) error {
			if given[1] == "" {
				return usage(cmd, "the name is empty")
			}
			return a.withClient(cmd.Context(), func(c *client.Client, kinds client.Kinds) error {
				kind, err := kinds.ByWord(given[0])
				if err != nil {
					return err
				}
				if _, err := c.Do(cmd.Context(), http.MethodDelete, kind.URL(a.mesh, given[1]), nil, nil); err != nil {
					return fmt.Errorf("delete %s %q: %w", kind.Name, given[1], err)
				}
				_, err = fmt.Fprintf(a.stdout, "deleted %s %q\n", kind.Name, given[1])
				return err
			})
		},
	}
}
