package main

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func newVersionCommand(a *app) *cobra.Command {
	var detailed bool
	cmd := &cobra.Command{
		Use: "version", Short: "Show the versions of kumactl and of the control plane",
		Args: args(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			version, commit := build()
			fmt.Fprintf(a.stdout, "Client: Kuma %s\n", version)
			if detailed {
				fmt.Fprintf(a.stdout, "  Git Commit: %s\n", commit)
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			// A control plane that is away is worth a line, but the question about kumactl has been answered.
			index, err := c.Index(cmd.Context())
			if err != nil {
				fmt.Fprintln(a.stderr, "Warning:", oneLine(err.Error()))
				return nil
			}
			_, err = fmt.Fprintf(a.stdout, "Server: %s %s\n", index.Product, index.Version)
			return err
		},
	}
	cmd.Flags().BoolVarP(&detailed, "detailed", "a", false, "show the commit that kumactl was built from")
	return cmd
}

// build returns what the Go tool noted in the binary.
func build() (version, commit string) {
	version, commit = "unknown", "unknown"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return version, commit
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		version = v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			commit = s.Value
		}
	}
	return version, commit
}
