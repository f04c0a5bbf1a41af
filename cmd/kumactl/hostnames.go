package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/kuma-dp/kuma-dp/cmd/kumactl/client"
)

// namedService is what a service of any of the kinds says of its hostnames.
type namedService struct {
	head
	Status struct {
		VIPs []vip `json:"vips"`
		// VIP is that of a MeshExternalService.
		VIP        *vip       `json:"vip"`
		Addresses  []hostname `json:"addresses"`
		Generators []struct {
			Ref        generatorRef `json:"hostnameGeneratorRef"`
			Conditions []struct {
				Type    string `json:"type"`
				Reason  string `json:"reason"`
				Message string `json:"message"`
			} `json:"conditions"`
		} `json:"hostnameGenerators"`
	} `json:"status"`
}

type generatorRef struct {
	CoreName string `json:"coreName"`
}

func newInspectHostnamesCommand(a *app) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "hostnames [SERVICE]",
		Short: "Show the hostnames of services and why others have none",
		Long: "Show the hostnames and virtual addresses of the MeshServices, MeshExternalServices and MeshMultiZoneServices of a mesh, or\n" +
			"of those with one name: which HostnameGenerator gave them, and why another one gave none.",
		Example: "  kumactl inspect hostnames\n" +
			"  kumactl inspect hostnames --mesh default -o yaml",
		Args: args(0, 1, "at most a name"),
		RunE: func(cmd *cobra.Command, given []string) error {
			if err := checkOutput(cmd, output); err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			all := &client.List{Items: []json.RawMessage{}}
			for _, path := range []string{"meshservices", "meshexternalservices", "meshmultizoneservices"} {
				l, err := c.List(cmd.Context(), []string{"meshes", a.mesh, path}, nil, client.Page{})
				if err != nil {
					return fmt.Errorf("inspect hostnames: %w", err)
				}
				all.Items = append(all.Items, l.Items...)
			}
			services, err := namedServices(all, given)
			if err != nil {
				return err
			}
			if len(given) > 0 && len(services) == 0 {
				return fmt.Errorf("inspect hostnames: no service of mesh %q has the name %q", a.mesh, given[0])
			}
			all.Total = len(all.Items)
			return a.showList(output, all, func() (*table, error) { return hostnameTable(services), nil })
		},
	}
	outputFlag(cmd, &output)
	return cmd
}

// namedServices reads the services of a list and leaves in it those that were asked for.
func namedServices(l *client.List, names []string) ([]namedService, error) {
	var out []namedService
	items := []json.RawMessage{}
	for _, item := range l.Items {
		var s namedService
		if err := json.Unmarshal(item, &s); err != nil {
			return nil, fmt.Errorf("read the answer: %w", err)
		}
		if len(names) > 0 && !slices.Contains(names, s.Name) {
			continue
		}
		items, out = append(items, item), append(out, s)
	}
	l.Items = items
	return out, nil
}

// hostnameTable has a row for each generator that selects a service, and one for a service that none selects.
func hostnameTable(services []namedService) *table {
	t := &table{header: []string{"TYPE", "NAME", "VIPS", "HOSTNAME", "GENERATOR", "STATE", "MESSAGE"}}
	for _, s := range services {
		vips := s.Status.VIPs
		if s.Status.VIP != nil {
			vips = append(vips, *s.Status.VIP)
		}
		first := []string{s.Type, s.Name, join(vips, func(v vip) string { return v.IP })}
		if len(s.Status.Generators) == 0 {
			t.rows = append(t.rows, append(first, "-", "-", "-", "no HostnameGenerator selects it"))
		}
		for _, g := range s.Status.Generators {
			name := ""
			for _, h := range s.Status.Addresses {
				if h.Ref != nil && *h.Ref == g.Ref {
					name = h.Hostname
				}
			}
			state, message := "", ""
			for _, c := range g.Conditions {
				if c.Type == "Generated" {
					state, message = c.Reason, c.Message
				}
			}
			t.rows = append(t.rows, append(slices.Clone(first), orDash(name), orDash(g.Ref.CoreName), orDash(state), cmp.Or(message, "-")))
		}
	}
	return t
}
