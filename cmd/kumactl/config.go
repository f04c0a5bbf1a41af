package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/kuma-dp/kuma-dp/cmd/kumactl/client"
)

func newConfigCommand(a *app) *cobra.Command {
	return group("config", "Manage the configuration of kumactl", newViewCommand(a),
		group("control-planes", "Manage the control planes that kumactl knows",
			newAddCommand(a), newListCommand(a),
			nameCommand(a, "remove", "Forget a control plane", "removed Control Plane", (*client.Config).Remove),
			nameCommand(a, "switch", "Use another control plane", "switched active Control Plane to", (*client.Config).Switch)))
}

func newAddCommand(a *app) *cobra.Command {
	var name, address, authType string
	var authConf, headers []string
	var overwrite bool
	var server client.APIServer
	cmd := &cobra.Command{
		Use: "add", Short: "Add a control plane and use it",
		Long: "Add a control plane and use it from now on, once it has answered. The configuration is a file that only its\n" +
			"owner can read, since it holds the token.",
		Example: "  kumactl config control-planes add --name prod --address http://localhost:5681 \\\n" +
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
			conf, err := pairs(authConf)
			if err != nil {
				return usage(cmd, "--auth-conf "+err.Error())
			}
			for _, p := range conf {
				if server.AuthConf == nil {
					server.AuthConf = map[string]string{}
				}
				server.AuthConf[p.key] = p.value
			}
			switch {
			case authType == "tokens" && server.AuthConf["token"] == "":
				return usage(cmd, "--auth-type tokens needs --auth-conf token=...")
			case authType == "" && len(conf) > 0:
				return usage(cmd, "--auth-conf needs --auth-type tokens")
			case (server.ClientCertFile == "") != (server.ClientKeyFile == ""):
				return usage(cmd, "--client-cert-file and --client-key-file belong together")
			}
			list, err := pairs(headers)
			if err != nil {
				return usage(cmd, "--headers "+err.Error())
			}
			for _, h := range list {
				server.Headers = append(server.Headers, client.Header{Key: h.key, Value: h.value})
			}
			for _, file := range []*string{&server.CACertFile, &server.ClientCertFile, &server.ClientKeyFile} {
				if *file == "" {
					continue
				}
				// The file is read again from wherever kumactl runs next.
				if *file, err = filepath.Abs(*file); err != nil {
					return err
				}
			}
			c, err := a.dial(server)
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
	f.StringArrayVar(&authConf, "auth-conf", nil, "key=value of the authentication, such as token=...; may be repeated")
	f.StringVar(&server.CACertFile, "ca-cert-file", "", "PEM of the authority of the control plane's certificate (default the system's authorities)")
	f.StringVar(&server.ClientCertFile, "client-cert-file", "", "PEM of a client certificate")
	f.StringVar(&server.ClientKeyFile, "client-key-file", "", "PEM of the client certificate's key")
	f.BoolVar(&server.SkipVerify, "skip-verify", false, "trust any certificate: whoever is in between sees and changes everything")
	f.StringArrayVar(&headers, "headers", nil, "key=value of a header to send with every request; may be repeated")
	f.BoolVar(&overwrite, "overwrite", false, "replace a control plane of the same name")
	return cmd
}

func newViewCommand(a *app) *cobra.Command {
	var raw bool
	cmd := &cobra.Command{
		Use: "view", Short: "Print the configuration of kumactl",
		Example: "  kumactl config view",
		Args:    args(0, 0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			cfg, err := a.config()
			if err != nil {
				return err
			}
			if !raw {
				cfg = cfg.Redacted()
			}
			text, err := yaml.Marshal(cfg)
			if err != nil {
				return fmt.Errorf("print configuration: %w", err)
			}
			_, err = a.stdout.Write(text)
			return err
		},
	}
	cmd.Flags().BoolVar(&raw, "raw", false, "print tokens and the values of headers too")
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
			t := &table{header: []string{"ACTIVE", "NAME", "ADDRESS"}}
			current, _ := cfg.Current() // none is a valid state here
			for i := range cfg.ControlPlanes {
				cp, active := &cfg.ControlPlanes[i], ""
				if cp == current {
					active = "*"
				}
				t.rows = append(t.rows, []string{active, cp.Name, cp.Coordinates.APIServer.URL})
			}
			return t.print(a.stdout)
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
			_, err := fmt.Fprintf(a.stdout, "%s %q\n", done, name)
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
