package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kuma-dp/kuma-dp/cmd/kumactl/client"
)

func newInspectCommand(a *app) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "inspect POLICY NAME",
		Short: "Show what is in force",
		Long: "Show the state of proxies, services, meshes and zones, or the data plane proxies that a policy is in force at, what\n" +
			"their Envoys refuse because of it and which parts of it have no effect.\n" +
			"POLICY is the type of a policy, such as meshtimeout or meshtrafficpermission.",
		Example: "  kumactl inspect dataplanes\n" +
			"  kumactl inspect meshtimeout mesh-timeout-all-default",
		Args: func(cmd *cobra.Command, given []string) error {
			if len(given) != 0 && len(given) != 2 {
				return usage(cmd, fmt.Sprintf("want the type and the name of a policy, or one of the commands below, got %d arguments", len(given)))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, given []string) error {
			if len(given) == 0 {
				return cmd.Help()
			}
			if err := checkOutput(cmd, output); err != nil {
				return err
			}
			return a.withClient(cmd.Context(), func(c *client.Client, kinds client.Kinds) error {
				kind, err := kinds.ByWord(given[0])
				if err != nil {
					return err
				}
				if kind.Policy == nil {
					return usage(cmd, fmt.Sprintf("%s is no policy: see it with `kumactl get %s`", kind.Name, kind.Path))
				}
				return a.inspectPolicy(cmd, c, output, kind.URL(a.mesh, given[1]))
			})
		},
	}
	outputFlag(cmd, &output)
	cmd.AddCommand(
		newInspectDataplaneCommand(a), newInspectDataplanesCommand(a), newInspectMeshesCommand(a), newInspectServicesCommand(a),
		newInspectMeshServicesCommand(a), newInspectHostnamesCommand(a), newInspectAuthorityCommand(a), newInspectMTLSCommand(a), newInspectMeshGatewayCommand(a), newInspectZonesCommand(a),
		newInspectZoneProxiesCommand(a, "zone-ingresses", "zoneingresses", "zone ingresses"),
		newInspectZoneProxiesCommand(a, "zoneegresses", "zone-egresses", "zone egresses"),
		newInspectZoneProxyCommand(a, "zone-ingress", "zoneingress", "zone ingress"),
		newInspectZoneProxyCommand(a, "zoneegress", "zone-egress", "zone egress"))
	return cmd
}

// inspectPolicy prints the proxies of a policy and what is wrong with it.
func (a *app) inspectPolicy(cmd *cobra.Command, c *client.Client, output string, path []string) error {
	list, err := c.Do(cmd.Context(), http.MethodGet, append(slices.Clone(path), "_resources", "dataplanes"), nil, nil)
	if err != nil {
		return fmt.Errorf("inspect: %w", err)
	}
	status, denied, err := a.policyStatus(cmd.Context(), c, path)
	if err != nil {
		return fmt.Errorf("inspect: %w", err)
	}
	if output != "table" {
		body, err := withStatus(list, status)
		if err != nil {
			return err
		}
		return a.show(output, body, nil)
	}
	if err := a.printAffected(list); err != nil {
		return err
	}
	switch {
	case denied != "":
		_, err = fmt.Fprintf(a.stdout, "\nWhat Envoys refuse is not shown: %s\n", printable(denied))
	case status != nil:
		err = a.printPolicyStatus(status)
	}
	return err
}

func (a *app) printAffected(body []byte) error {
	var list struct {
		Items []struct {
			head
			// Older control planes answer with attachments.
			Dataplane *head `json:"dataplane"`
		} `json:"items"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	fmt.Fprintf(a.stdout, "Affected data plane proxies:\n\n")
	for _, item := range list.Items {
		name := item.Name
		if item.Dataplane != nil {
			name = item.Dataplane.Name
		}
		fmt.Fprintf(a.stdout, "  %s\n", printable(name))
	}
	return nil
}

func newInspectMeshGatewayCommand(a *app) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "meshgateway NAME", Short: "Show the data plane proxies that a builtin gateway runs on",
		Args: args(1, 1, "a name"),
		RunE: func(cmd *cobra.Command, given []string) error {
			if err := checkOutput(cmd, output); err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			body, err := c.Do(cmd.Context(), http.MethodGet, []string{"meshes", a.mesh, "meshgateways", given[0], "dataplanes"}, nil, nil)
			if err != nil {
				return fmt.Errorf("inspect: %w", err)
			}
			if output != "table" {
				return a.show(output, body, nil)
			}
			return a.printAffected(body)
		},
	}
	outputFlag(cmd, &output)
	return cmd
}

// proxyTypes are what `inspect dataplane --type` knows, with the end of their path.
var proxyTypes = map[string]string{
	"policies": "policies", "rules": "_rules", "config": "_config", "config-dump": "xds", "stats": "stats", "clusters": "clusters",
	"status": "_status",
}

func newInspectDataplaneCommand(a *app) *cobra.Command {
	var output, kind string
	var shadow bool
	var include []string
	cmd := &cobra.Command{
		Use: "dataplane NAME", Short: "Show one data plane proxy from inside",
		Long: "Show one data plane proxy from inside:\n" +
			"  policies     the policies that select it\n" +
			"  rules        what they make together, and where each part comes from\n" +
			"  config       the configuration that the control plane makes for it\n" +
			"  config-dump  the configuration that its Envoy has\n" +
			"  stats        the statistics of its Envoy\n" +
			"  clusters     the clusters of its Envoy and their health\n" +
			"  status       what its Envoy refuses and why, and which parts of policies have no effect",
		Example: "  kumactl inspect dataplane web-1\n" +
			"  kumactl inspect dataplane web-1 --type rules\n" +
			"  kumactl inspect dataplane web-1 --type status\n" +
			"  kumactl inspect dataplane web-1 --type config --shadow --include=diff",
		Args: args(1, 1, "a name"),
		RunE: func(cmd *cobra.Command, given []string) error {
			if err := checkOutput(cmd, output); err != nil {
				return err
			}
			end, ok := proxyTypes[kind]
			switch {
			case !ok:
				return usage(cmd, fmt.Sprintf("--type %q is none of policies, rules, config, config-dump, stats, clusters", kind))
			case kind != "config" && (shadow || len(include) > 0):
				return usage(cmd, "--shadow and --include are for --type config")
			case slices.ContainsFunc(include, func(s string) bool { return s != "diff" }):
				return usage(cmd, fmt.Sprintf("--include %q is not known, want diff", strings.Join(include, ",")))
			}
			query := url.Values{}
			if shadow {
				query.Set("shadow", "true")
			}
			if len(include) > 0 {
				query.Set("include", "diff")
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			body, err := c.Do(cmd.Context(), http.MethodGet, []string{"meshes", a.mesh, "dataplanes", given[0], end}, query, nil)
			if err != nil {
				return fmt.Errorf("inspect dataplane %q: %w", given[0], err)
			}
			switch {
			case kind == "policies" && output == "table":
				return printPolicies(a.stdout, body)
			case kind == "rules" && output == "table":
				return printRules(a.stdout, body)
			case kind == "status" && output == "table":
				return a.printStatus(fmt.Sprintf("Dataplane %s of mesh %s", given[0], a.mesh), body)
			}
			return a.printProxy(output, body)
		},
	}
	outputFlag(cmd, &output)
	cmd.Flags().StringVar(&kind, "type", "policies", "what to show: one of policies|rules|config|config-dump|stats|clusters|status")
	cmd.Flags().BoolVar(&shadow, "shadow", false, "with --type config, let policies with the label kuma.io/effect: shadow count")
	cmd.Flags().StringSliceVar(&include, "include", nil, "with --type config, diff adds what --shadow changes, as a JSON patch")
	return cmd
}

// printProxy prints JSON with an indent, or as YAML, and text as it is.
func (a *app) printProxy(output string, body []byte) error {
	if !json.Valid(body) {
		_, err := a.stdout.Write(body)
		return err
	}
	if output == "table" {
		output = "json"
	}
	return a.show(output, body, nil)
}

func newInspectZoneProxyCommand(a *app, name, alias, what string) *cobra.Command {
	var kind, output string
	path := strings.ReplaceAll(name, "-", "") + "es" // /zoneingresses and /zoneegresses (contract controlplane.md §0)
	cmd := &cobra.Command{
		Use: name + " NAME", Aliases: []string{alias}, Short: "Show one " + what + " from inside",
		Args: args(1, 1, "a name"),
		RunE: func(cmd *cobra.Command, given []string) error {
			if err := checkOutput(cmd, output); err != nil {
				return err
			}
			end := map[string]string{"config-dump": "xds", "stats": "stats", "clusters": "clusters", "status": "_status"}[kind]
			if end == "" {
				return usage(cmd, fmt.Sprintf("--type %q is none of config-dump, stats, clusters, status", kind))
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			body, err := c.Do(cmd.Context(), http.MethodGet, []string{path, given[0], end}, nil, nil)
			if err != nil {
				return fmt.Errorf("inspect %s %q: %w", what, given[0], err)
			}
			if kind == "status" && output == "table" {
				return a.printStatus(what+" "+given[0], body)
			}
			return a.printProxy(output, body)
		},
	}
	outputFlag(cmd, &output)
	cmd.Flags().StringVar(&kind, "type", "config-dump", "what to show: one of config-dump|stats|clusters|status")
	return cmd
}
