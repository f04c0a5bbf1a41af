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

func newGetCommand(a *app) *cobra.Command {
	var output, format, gateway string
	var tags []string
	var page client.Page
	cmd := &cobra.Command{
		Use:   "get TYPE [NAME]",
		Short: "Show resources",
		Long: "Show the resources of a type, or one of them. TYPE is the singular or plural of a type that the control plane\n" +
			"knows, such as meshes, dataplane or meshtimeouts; hyphens and capitals do not matter.",
		Example: "  kumactl get meshes\n" +
			"  kumactl get dataplanes --tag kuma.io/service=web\n" +
			"  kumactl get meshtimeout mesh-timeout-all-default -o yaml\n" +
			"  kumactl get mesh default -o yaml --format kubernetes",
		Args: args(1, 2, "a type and perhaps a name"),
		RunE: func(cmd *cobra.Command, given []string) error {
			if err := checkOutput(cmd, output); err != nil {
				return err
			}
			switch {
			case !slices.Contains([]string{"", "universal", "kubernetes", "k8s"}, format):
				return usage(cmd, fmt.Sprintf("--format %q is none of universal, kubernetes", format))
			case format != "" && (len(given) == 1 || output == "table"):
				return usage(cmd, "--format is for one resource with -o yaml or -o json")
			case page.Size < 0:
				return usage(cmd, "--size must not be negative")
			case len(given) == 2 && (page != client.Page{} || gateway != "" || len(tags) > 0):
				return usage(cmd, "--size, --offset, --tag and --gateway are for lists, not for one resource")
			}
			filter, err := dataplaneFilter(tags, gateway)
			if err != nil {
				return usage(cmd, err.Error())
			}
			return a.withClient(cmd.Context(), func(c *client.Client, kinds client.Kinds) error {
				kind, err := kinds.ByWord(given[0])
				if err != nil {
					return err
				}
				if len(filter) > 0 && kind.Name != "Dataplane" {
					return usage(cmd, "--tag and --gateway are for dataplanes, not for "+kind.Path)
				}
				if len(given) == 2 {
					var query url.Values
					if format != "" {
						query = url.Values{"format": {format}}
					}
					body, err := c.Do(cmd.Context(), http.MethodGet, kind.URL(a.mesh, given[1]), query, nil)
					if err != nil {
						return fmt.Errorf("get %s %q: %w", kind.Name, given[1], err)
					}
					return a.show(output, body, func() (*table, error) { return resourceTable(kind, []json.RawMessage{body}) })
				}
				l, err := c.List(cmd.Context(), kind.URL(a.mesh, ""), filter, page)
				if err != nil {
					return fmt.Errorf("get %s: %w", kind.Path, err)
				}
				return a.showList(output, l, func() (*table, error) { return resourceTable(kind, l.Items) })
			})
		},
	}
	f := cmd.Flags()
	outputFlag(cmd, &output)
	f.StringVar(&format, "format", "", "form of one resource: universal or kubernetes (default universal)")
	f.IntVar(&page.Size, "size", 0, "at most so many resources (default all)")
	f.StringVar(&page.Offset, "offset", "", "leave out so many resources")
	f.StringArrayVar(&tags, "tag", nil, "of dataplanes, those that have this tag, key=value; may be repeated")
	f.StringVar(&gateway, "gateway", "", "of dataplanes, the gateways: true, false, builtin or delegated")
	f.Lookup("gateway").NoOptDefVal = "true"
	return cmd
}

// dataplaneFilter makes the query for a list of Dataplanes (contract controlplane.md §2.1).
func dataplaneFilter(tags []string, gateway string) (url.Values, error) {
	filter := url.Values{}
	list, err := pairs(tags)
	if err != nil {
		return nil, fmt.Errorf("--tag %w", err)
	}
	for _, t := range list {
		filter.Add("tag", t.key+":"+t.value)
	}
	switch gateway {
	case "":
	case "true", "false", "builtin", "delegated":
		filter.Set("gateway", gateway)
	default:
		return nil, fmt.Errorf("--gateway %q is none of true, false, builtin, delegated", gateway)
	}
	return filter, nil
}

// resourceTable has the columns of 2.9.
func resourceTable(kind *client.Kind, items []json.RawMessage) (*table, error) {
	switch kind.Name {
	case "Mesh":
		return tableOf(items, []column[meshRow]{
			{"NAME", func(r *meshRow) string { return r.Name }},
			{"mTLS", func(r *meshRow) string { return enabled(r.MTLS) }},
			{"METRICS", func(r *meshRow) string { return enabled(r.Metrics) }},
			{"LOGGING", func(r *meshRow) string { return every(r.Logging) }},
			{"TRACING", func(r *meshRow) string { return every(r.Tracing) }},
			{"LOCALITY", func(r *meshRow) string { return onOff(r.Routing.LocalityAwareLoadBalancing) }},
			{"ZONEEGRESS", func(r *meshRow) string { return onOff(r.Routing.ZoneEgress) }},
			{"AGE", func(r *meshRow) string { return ago(r.CreationTime) }},
		})
	case "Dataplane":
		return tableOf(items, []column[dataplaneRow]{
			{"MESH", func(r *dataplaneRow) string { return r.Mesh }},
			{"NAME", func(r *dataplaneRow) string { return r.Name }},
			{"TAGS", func(r *dataplaneRow) string { return r.Networking.tags() }},
			{"ADDRESS", func(r *dataplaneRow) string { return r.Networking.Address }},
			{"AGE", func(r *dataplaneRow) string { return ago(r.CreationTime) }},
		})
	case "ExternalService":
		return tableOf(items, []column[dataplaneRow]{
			{"MESH", func(r *dataplaneRow) string { return r.Mesh }},
			{"NAME", func(r *dataplaneRow) string { return r.Name }},
			{"TAGS", func(r *dataplaneRow) string { return joinTags([]map[string]string{r.Tags}) }},
			{"ADDRESS", func(r *dataplaneRow) string { return r.Networking.Address }},
			{"AGE", func(r *dataplaneRow) string { return ago(r.CreationTime) }},
		})
	}
	columns := []column[head]{
		{"NAME", func(r *head) string { return r.Name }},
		{"AGE", func(r *head) string { return ago(r.CreationTime) }},
	}
	if kind.Scope == "Mesh" {
		columns = append([]column[head]{{"MESH", func(r *head) string { return r.Mesh }}}, columns...)
	}
	return tableOf(items, columns)
}

// meshRow is what a table shows of a Mesh.
type meshRow struct {
	head
	MTLS    backends `json:"mtls"`
	Metrics backends `json:"metrics"`
	Logging backends `json:"logging"`
	Tracing backends `json:"tracing"`
	Routing struct {
		LocalityAwareLoadBalancing bool `json:"localityAwareLoadBalancing"`
		ZoneEgress                 bool `json:"zoneEgress"`
	} `json:"routing"`
}

type backends struct {
	EnabledBackend string `json:"enabledBackend"`
	Backends       []struct {
		Name string `json:"name"`
		Type string `json:"type"`
	} `json:"backends"`
}

// enabled names the backend in use.
func enabled(b backends) string {
	for _, one := range b.Backends {
		if one.Name == b.EnabledBackend {
			return one.Type + "/" + one.Name
		}
	}
	return "off"
}

// every names all backends.
func every(b backends) string {
	names := make([]string, len(b.Backends))
	for i, one := range b.Backends {
		names[i] = one.Type + "/" + one.Name
	}
	if len(names) == 0 {
		return "off"
	}
	return strings.Join(names, ", ")
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

type dataplaneRow struct {
	head
	Tags       map[string]string `json:"tags"`
	Networking networking        `json:"networking"`
}
