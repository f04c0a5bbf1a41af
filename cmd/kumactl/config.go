package main

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/kuma-dp/kuma-dp/cmd/kumactl/client"
)

func newConfigCommand(a *app) *cobra.Command {
	return group("config", "Manage the configuration of kumactl",
		group("control-planes", "Manage the control planes that kumactl knows",
			newAddCommand(a), newListCommand(a),
			nameCommand(a, "remove", "Forget a control plane", "removed", (*client.Config).Remove),
			nameCommand(a, "switch", "Use another control plane", "switched to", (*client.Config).Switch)))
}

func newAddCommand(a *app) *cobra.Command {
	var name, address, authType string
	var authConf, headers []string
	var overwrite bool
	var server client.APIServer
	cmd := &cobra.Command{
		Use: "add", Short: "Add a control plane and use it",
		Example: "  kumactl config control-planes add --name prod --address https://cp:5682 --ca-cert-file ca.crt \\\n" +
			"    --auth-type tokens --auth-conf token=$TOKEN",
		Args: args(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			switch {
			case name == "":
				return usage(cmd, "--name is required")
			case address == "":
				return usage(cmd, "--address is required")
			}
			if server.URL, err = client.CheckURL(address); err != nil {
				return usage(cmd, err.Error())
			}
			server.AuthType = authType
			if server.AuthConf, err = pairs(authConf); err != nil {
				return usage(cmd, "--auth-conf "+err.Error())
			}
			for _, h := range headers {
				key, value, ok := strings.Cut(h, "=")
				if !ok {
					return usage(cmd, "--headers wants key=value")
				}
				server.Headers = append(server.Headers, client.Header{Key: key, Value: value})
			}
			c, err := client.New(server, a.timeout)
			if err != nil {
				return err
			}
			defer c.Close()
			if _, err := c.Index(cmd.Context()); err != nil {
				return fmt.Errorf("add control plane %q: %w", name, err)
			}
			err = a.edit(func(cfg *client.Config) error {
				return cfg.Add(client.ControlPlane{Name: name, Coordinates: client.Coordinates{APIServer: server}}, overwrite)
			})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.stdout, "added Control Plane %q\nswitched active Control Plane to %q\n", name, name)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&name, "name", "", "name of the control plane")
	f.StringVar(&address, "address", "", "address of its REST interface, such as "+client.DefaultAddress)
	f.StringVar(&authType, "auth-type", "", `authentication: "tokens" or nothing`)
	f.StringArrayVar(&authConf, "auth-conf", nil, "key=value of the authentication, such as token=…")
	f.StringVar(&server.CACertFile, "ca-cert-file", "", "PEM of the authority of the control plane's certificate (default the system's authorities)")
	f.StringVar(&server.ClientCertFile, "client-cert-file", "", "PEM of a client certificate")
	f.StringVar(&server.ClientKeyFile, "client-key-file", "", "PEM of the client certificate's key")
	f.BoolVar(&server.SkipVerify, "skip-verify", false, "trust any certificate: whoever is in between sees and changes everything")
	f.StringArrayVar(&headers, "headers", nil, "key=value of a header to send with every request")
	f.BoolVar(&overwrite, "overwrite", false, "replace a control plane of the same name")
	return cmd
}

func newListCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the control planes",
		Args: args(0, 0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			cfg, err := a.config()
			if err != nil {
				return err
			}
			t := tabwriter.NewWriter(a.stdout, 0, 0, 3, ' ', 0)
			fmt.Fprintln(t, "ACTIVE\tNAME\tADDRESS")
			current, _ := cfg.Current() // none is a valid state here
			for i := range cfg.ControlPlanes {
				cp, active := &cfg.ControlPlanes[i], ""
				if cp == current {
					active = "*"
				}
				fmt.Fprintf(t, "%s\t%s\t%s\n", active, cp.Name, cp.Coordinates.APIServer.URL)
			}
			return t.Flush()
		},
	}
}

// nameCommand changes the configuration by the name of a control plane.
func nameCommand(a *app, use, short, done string, change func(*client.Config, string) error) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use: use, Short: short, Args: args(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if name == "" {
				return usage(cmd, "--name is required")
			}
			if err := a.edit(func(cfg *client.Config) error { return change(cfg, name) }); err != nil {
				return err
			}
			_, err := fmt.Fprintf(a.stdout, "%s Control Plane %q\n", done, name)
			return err
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "name of the control plane")
	return cmd
}

// edit changes the file.
func (a *app) edit(change func(*client.Config) error) error {
	if a.noConfig {
		return &usageError{"--no-config leaves no file to change"}
	}
	path, err := a.path()
	if err != nil {
		return err
	}
	cfg, err := client.Load(path)
	if err != nil {
		return err
	}
	if err := change(cfg); err != nil {
		return err
	}
	return cfg.Save(path)
}

// pairs reads key=value arguments. Its error does not repeat values, which may be secret.
func pairs(given []string) (map[string]string, error) {
	if len(given) == 0 {
		return nil, nil //nolint:nilnil // no pairs are an absent map in the file
	}
	out := map[string]string{}
	for _, p := range given {
		key, value, ok := strings.Cut(p, "=")
		if !ok || key == "" {
			return nil, errors.New("wants key=value")
		}
		out[key] = value
	}
	return out, nil
}
