package main

import (
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/kuma-dp/kuma-dp/cmd/kumactl/client"
)

func newDeleteCommand(a *app) *cobra.Command {
	var ready requireReady
	cmd := &cobra.Command{
		Use: "delete TYPE NAME", Short: "Delete a resource",
		Long: "Delete a resource. Who would be shut out by strict mTLS, without the policy that let them in, is warned of; with\n" +
			"--require-ready nothing is deleted that shuts somebody out.",
		Example: "  kumactl delete meshtimeout backend-timeout\n" +
			"  kumactl delete meshtls backend --require-ready",
		Args: args(2, 2, "a type and a name"),
		RunE: func(cmd *cobra.Command, given []string) error {
			if given[1] == "" {
				return usage(cmd, "the name is empty")
			}
			return a.withClient(cmd.Context(), func(c *client.Client, kinds client.Kinds) error {
				kind, err := kinds.ByWord(given[0])
				if err != nil {
					return err
				}
				if err := ready.check(cmd.Context(), c, a.mesh); err != nil {
					return fmt.Errorf("%w; nothing was deleted", err)
				}
				answer, err := c.Do(cmd.Context(), http.MethodDelete, kind.URL(a.mesh, given[1]), ready.query(), nil)
				if err != nil {
					return fmt.Errorf("delete %s %q: %w", kind.Name, given[1], err)
				}
				a.warn(answer, kind.Name, given[1])
				_, err = fmt.Fprintf(a.stdout, "deleted %s %q\n", kind.Name, given[1])
				return err
			})
		},
	}
	ready.flag(cmd)
	return cmd
}
