package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/kuma-dp/kuma-dp/cmd/kumactl/client"
)

// pageSize is the largest that a control plane of 2.9 gives.
const pageSize = 1000

func newGetCommand(a *app) *cobra.Command {
	var output, offset string
	var size int
	cmd := &cobra.Command{
		Use:   "get TYPE [NAME]",
		Short: "Show resources",
		Long: "Show the resources of a type, or one of them. TYPE is the singular or plural of a type that the control plane\n" +
			"knows, such as meshes, dataplane or meshtimeouts.",
		Example: "  kumactl get dataplanes\n  kumactl get meshtimeout mesh-timeout-all-default -o yaml",
		Args:    args(1, 2, "a type and perhaps a name"),
		RunE: func(cmd *cobra.Command, given []string) error {
			if !slices.Contains([]string{"table", "yaml", "json"}, output) {
				return usage(cmd, fmt.Sprintf("output format %q is none of table, yaml, json", output))
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			kinds, err := c.Kinds(cmd.Context())
			if err != nil {
				return err
			}
			kind, err := kinds.ByWord(given[0])
			if err != nil {
				return err
			}
			if len(given) == 2 {
				body, err := c.Do(cmd.Context(), http.MethodGet, kind.URL(a.mesh, given[1]), nil, nil)
				if err != nil {
					return fmt.Errorf("get %s %q: %w", kind.Name, given[1], err)
				}
				return show(a.stdout, output, body, []json.RawMessage{body}, kind)
			}
			l, err := fetch(cmd.Context(), c, kind, a.mesh, size, offset)
			if err != nil {
				return fmt.Errorf("get %s: %w", kind.Path, err)
			}
			body, err := json.Marshal(l)
			if err != nil {
				return fmt.Errorf("get %s: %w", kind.Path, err)
			}
			return show(a.stdout, output, body, l.Items, kind)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "output format: one of table|yaml|json")
	cmd.Flags().IntVar(&size, "size", 0, "at most so many resources (default all)")
	cmd.Flags().StringVar(&offset, "offset", "", "leave out so many resources")
	return cmd
}

type list struct {
	Total int               `json:"total"`
	Items []json.RawMessage `json:"items"`
	Next  *string           `json:"next"`
}

// fetch returns one page when size is given, else all.
func fetch(ctx context.Context, c *client.Client, kind *client.Kind, mesh string, size int, offset string) (*list, error) {
	out := &list{Items: []json.RawMessage{}}
	for {
		query := url.Values{"size": {strconv.Itoa(pageSize)}}
		if size > 0 {
			query.Set("size", strconv.Itoa(size))
		}
		if offset != "" {
			query.Set("offset", offset)
		}
		b, err := c.Do(ctx, http.MethodGet, kind.URL(mesh, ""), query, nil)
		if err != nil {
			return nil, err
		}
		var p list
		if err := json.Unmarshal(b, &p); err != nil {
			return nil, fmt.Errorf("read the answer: %w", err)
		}
		out.Total, out.Next = p.Total, p.Next
		out.Items = append(out.Items, p.Items...)
		if size > 0 || p.Next == nil {
			return out, nil
		}
		u, err := url.Parse(*p.Next)
		if err != nil {
			return nil, fmt.Errorf("read the address of the next page: %w", err)
		}
		// Only the offset is taken: the page itself is always asked of the same control plane.
		next := u.Query().Get("offset")
		if next == "" || next == offset || len(p.Items) == 0 {
			return nil, errors.New("read the address of the next page: it leads nowhere")
		}
		offset = next
	}
}

// row is what tables show of a resource.
type row struct {
	Name         string    `json:"name"`
	Mesh         string    `json:"mesh"`
	CreationTime time.Time `json:"creationTime"`
	Networking   struct {
		Address string `json:"address"`
		Inbound []struct {
			Tags map[string]string `json:"tags"`
		} `json:"inbound"`
	} `json:"networking"`
	MTLS struct {
		EnabledBackend string `json:"enabledBackend"`
		Backends       []struct {
			Name string `json:"name"`
			Type string `json:"type"`
		} `json:"backends"`
	} `json:"mtls"`
}
