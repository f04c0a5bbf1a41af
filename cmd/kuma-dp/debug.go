package main

import (
	"github.com/spf13/cobra"

	"github.com/kuma-dp/kuma-dp/agent/admin"
	"github.com/kuma-dp/kuma-dp/internal/command"
)

// newDebug asks a running agent of this user.
func newDebug(s command.Streams) *cobra.Command {
	var dir string
	c := &cobra.Command{Use: "debug", Short: "Look into a running kuma-dp of this user", Args: command.NoArgs}
	c.PersistentFlags().StringVar(&dir, "work-dir", "", "its work directory; needed only when several run")
	for _, page := range []struct{ name, help string }{
		{"status", "Connection to the control plane, configuration by type, what is missing"},
		{"identity", "The workload's certificate"},
		{"dns", "Names of the mesh and their addresses"},
	} {
		c.AddCommand(&cobra.Command{
			Use: page.name, Short: page.help, Args: command.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				body, err := admin.Get(c.Context(), dir, page.name)
				if err != nil {
					return err
				}
				_, err = s.Out.Write(body)
				return err
			},
		})
	}
	return c
}
