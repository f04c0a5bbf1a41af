package main

import (
	"github.com/spf13/cobra"

	"github.com/kuma-dp/kuma-dp/agent/admin"
)

// newDebug asks a running agent of this user.
func newDebug(s streams) *cobra.Command {
	var dir string
	c := &cobra.Command{Use: "debug", Short: "Look into a running kuma-dp of this user", Args: cobra.NoArgs}
	c.PersistentFlags().StringVar(&dir, "work-dir", "", "its work directory; needed only when several run")
	for _, page := range []struct{ name, help string }{
		{"status", "Connection to the control plane, configuration by type, what is missing"},
		{"identity", "The workload's certificate"},
		{"dns", "Names of the mesh and their addresses"},
	} {
		c.AddCommand(&cobra.Command{
			Use: page.name, Short: page.help, Args: cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				body, err := admin.Get(c.Context(), dir, page.name)
				if err != nil {
					return err
				}
				_, err = s.out.Write(body)
				return err
			},
		})
	}
	return c
}
