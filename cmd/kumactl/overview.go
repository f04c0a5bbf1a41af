package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kuma-dp/kuma-dp/cmd/kumactl/client"
)

// listCommand prints a collection.
func (a *app) listCommand(use, short string, list func() (path []string, filter url.Values, err error), human func([]json.RawMessage) (*table, error)) *cobra.Command {
	var output string
	var page client.Page
	cmd := &cobra.Command{
		Use: use, Short: short, Args: args(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(cmd, output); err != nil {
				return err
			}
			path, filter, err := list()
			if err != nil {
				return usage(cmd, err.Error())
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			l, err := c.List(cmd.Context(), path, filter, page)
			if err != nil {
				return fmt.Errorf("inspect %s: %w", use, err)
			}
			return a.showList(output, l, func() (*table, error) { return human(l.Items) })
		},
	}
	outputFlag(cmd, &output)
	cmd.Flags().IntVar(&page.Size, "size", 0, "at most so many (default all)")
	cmd.Flags().StringVar(&page.Offset, "offset", "", "leave out so many")
	return cmd
}

// fixed is a list without a filter.
func fixed(path ...string) func() ([]string, url.Values, error) {
	return func() ([]string, url.Values, error) { return path, nil, nil }
}

func newInspectDataplanesCommand(a *app) *cobra.Command {
	var tags []string
	var gateway, ingress bool
	cmd := a.listCommand("dataplanes", "Show the state of the data plane proxies", func() ([]string, url.Values, error) {
		if ingress {
			return nil, nil, errors.New("--ingress: a zone ingress is no dataplane any more, use `kumactl inspect zone-ingresses`")
		}
		kind := ""
		if gateway {
			kind = "true"
		}
		filter, err := dataplaneFilter(tags, kind)
		return []string{"meshes", a.mesh, "dataplanes", "_overview"}, filter, err
	}, func(items []json.RawMessage) (*table, error) {
		return tableOf(items, slices.Concat(
			[]column[overview]{
				{"MESH", func(o *overview) string { return o.Mesh }},
				{"NAME", func(o *overview) string { return o.Name }},
				{"TAGS", func(o *overview) string { return o.Dataplane.Networking.tags() }},
				{"STATUS", (*overview).dataplaneStatus},
			},
			subscriptionColumns,
			[]column[overview]{
				{"CERT REGENERATED AGO", func(o *overview) string { return ago(o.DataplaneInsight.mtls().LastRegeneration) }},
				{"CERT EXPIRATION", func(o *overview) string { return date(o.DataplaneInsight.mtls().Expiration) }},
				{"CERT REGENERATIONS", func(o *overview) string { return strconv.FormatUint(o.DataplaneInsight.mtls().Regenerations, 10) }},
				{"CERT BACKEND", func(o *overview) string { return orDash(o.DataplaneInsight.mtls().Issued) }},
				{"SUPPORTED CERT BACKENDS", func(o *overview) string { return orDash(strings.Join(o.DataplaneInsight.mtls().Supported, ",")) }},
			},
			versionColumns))
	})
	cmd.Example = "  kumactl inspect dataplanes --tag kuma.io/service=web\n  kumactl inspect dataplanes --gateway -o json"
	cmd.Flags().StringArrayVar(&tags, "tag", nil, "those that have this tag, key=value; may be repeated")
	cmd.Flags().BoolVar(&gateway, "gateway", false, "gateways only")
	cmd.Flags().BoolVar(&ingress, "ingress", false, "not served any more")
	_ = cmd.Flags().MarkHidden("ingress") // cannot fail: the flag is there
	return cmd
}

func newInspectZonesCommand(a *app) *cobra.Command {
	return a.listCommand("zones", "Show the state of the zones", fixed("zones", "_overview"), func(items []json.RawMessage) (*table, error) {
		return tableOf(items, slices.Concat(
			[]column[overview]{
				{"NAME", func(o *overview) string { return o.Name }},
				{"STATUS", func(o *overview) string { return o.insight().status() }},
			},
			subscriptionColumns,
			[]column[overview]{{"ZONE-CP VERSION", func(o *overview) string { return orDash(o.insight().last().Version.KumaCP.Version) }}}))
	})
}

func newInspectZoneProxiesCommand(a *app, path, alias, what string) *cobra.Command {
	cmd := a.listCommand(path, "Show the state of the "+what, fixed(path, "_overview"), func(items []json.RawMessage) (*table, error) {
		return tableOf(items, slices.Concat(
			[]column[overview]{
				{"NAME", func(o *overview) string { return o.Name }},
				{"STATUS", func(o *overview) string { return o.insight().status() }},
			}, subscriptionColumns, versionColumns))
	})
	cmd.Aliases = []string{alias}
	return cmd
}

func newInspectServicesCommand(a *app) *cobra.Command {
	return a.listCommand("services", "Show the state of the services that dataplanes name with kuma.io/service",
		func() ([]string, url.Values, error) { return []string{"meshes", a.mesh, "service-insights"}, nil, nil },
		func(items []json.RawMessage) (*table, error) {
			return tableOf(items, []column[serviceInsight]{
				{"SERVICE", func(s *serviceInsight) string { return s.Name }},
				{"STATUS", func(s *serviceInsight) string { return serviceStatus(s.Status) }},
				{"DATAPLANES", func(s *serviceInsight) string { return fmt.Sprintf("%d/%d", s.Dataplanes.Online, s.Dataplanes.Total) }},
			})
		})
}

type serviceInsight struct {
	head
	Status     string `json:"status"`
	Dataplanes counts `json:"dataplanes"`
}

type counts struct {
	Total  uint32 `json:"total"`
	Online uint32 `json:"online"`
}

func serviceStatus(s string) string {
	names := map[string]string{"online": "Online", "offline": "Offline", "partially_degraded": "Partially degraded", "not_available": "Not available"}
	if name, ok := names[s]; ok {
		return name
	}
	return orDash(s)
}

func newInspectMeshServicesCommand(a *app) *cobra.Command {
	return a.listCommand("meshservices", "Show the state of the MeshServices",
		func() ([]string, url.Values, error) { return []string{"meshes", a.mesh, "meshservices"}, nil, nil },
		func(items []json.RawMessage) (*table, error) {
			return tableOf(items, []column[meshService]{
				{"MESH", func(s *meshService) string { return s.Mesh }},
				{"NAME", func(s *meshService) string { return s.Name }},
				{"STATUS", func(s *meshService) string { return orDash(s.Spec.State) }},
				{"DATAPLANES", func(s *meshService) string {
					return fmt.Sprintf("%d/%d", s.Status.DataplaneProxies.Healthy, s.Status.DataplaneProxies.Total)
				}},
				{"TLS", func(s *meshService) string { return orDash(s.Status.TLS.Status) }},
				{"VIPS", func(s *meshService) string {
					return join(s.Status.VIPs, func(v vip) string { return v.IP })
				}},
				{"HOSTNAMES", func(s *meshService) string {
					return join(s.Status.Addresses, func(h hostname) string { return h.Hostname })
				}},
			})
		})
}

type vip struct {
	IP string `json:"ip"`
}

type hostname struct {
	Hostname string        `json:"hostname"`
	Ref      *generatorRef `json:"hostnameGeneratorRef"`
}

type meshService struct {
	head
	Spec struct {
		State string `json:"state"`
	} `json:"spec"`
	Status struct {
		Addresses []hostname `json:"addresses"`
		VIPs      []vip      `json:"vips"`
		TLS       struct {
			Status string `json:"status"`
		} `json:"tls"`
		DataplaneProxies struct {
			Healthy uint32 `json:"healthy"`
			Total   uint32 `json:"total"`
		} `json:"dataplaneProxies"`
	} `json:"status"`
}

func join[T any](list []T, text func(T) string) string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = text(v)
	}
	return orDash(strings.Join(out, ","))
}

// newInspectMeshesCommand counts what is in each mesh, a column for each kind that one of them has.
func newInspectMeshesCommand(a *app) *cobra.Command {
	return a.listCommand("meshes", "Show what is in the meshes", fixed("mesh-insights"), func(items []json.RawMessage) (*table, error) {
		type meshInsight struct {
			head
			Dataplanes counts            `json:"dataplanes"`
			Policies   map[string]counts `json:"policies"`
		}
		kinds := map[string]bool{}
		for _, item := range items {
			var m meshInsight
			if err := json.Unmarshal(item, &m); err != nil {
				return nil, fmt.Errorf("read the answer: %w", err)
			}
			for kind := range m.Policies {
				kinds[kind] = true
			}
		}
		columns := []column[meshInsight]{
			{"NAME", func(m *meshInsight) string { return m.Name }},
			{"DATAPLANES", func(m *meshInsight) string { return fmt.Sprintf("%d/%d", m.Dataplanes.Online, m.Dataplanes.Total) }},
		}
		for _, kind := range slices.Sorted(maps.Keys(kinds)) {
			columns = append(columns, column[meshInsight]{
				strings.ToUpper(kind), func(m *meshInsight) string { return strconv.FormatUint(uint64(m.Policies[kind].Total), 10) },
			})
		}
		return tableOf(items, columns)
	})
}

// date is in UTC, "-" when there is none.
func date(t *time.Time) string {
	if t == nil || t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.DateTime)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
