package api

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/kuma-dp/kuma-dp/controlplane/insight"
	"github.com/kuma-dp/kuma-dp/resource"
)

const (
	defaultPage = 100
	maxPage     = 1000
)

type listBody struct {
	Total int               `json:"total"`
	Items []json.RawMessage `json:"items"`
	Next  *string           `json:"next"`
}

// page is a part of the resources that match a request.
type page struct {
	items []*resource.Resource
	total int
	next  *string
}

// find answers what all lists have in common: access, filters, paging.
func (c collection) find(r *http.Request) (*page, error) {
	if err := c.enter(r); err != nil {
		return nil, err
	}
	query := r.URL.Query()
	size, offset, err := paging(query)
	if err != nil {
		return nil, err
	}
	keep, err := c.filter(r, query)
	if err != nil {
		return nil, err
	}
	p := &page{items: []*resource.Resource{}}
	for _, res := range c.all(r.PathValue("mesh")) {
		if !keep(res) {
			continue
		}
		if p.total >= offset && len(p.items) < size {
			p.items = append(p.items, res)
		}
		p.total++
	}
	if offset+len(p.items) < p.total && len(p.items) > 0 {
		query.Set("offset", strconv.Itoa(offset+len(p.items)))
		query.Set("size", strconv.Itoa(size))
		next := url.URL{Scheme: "http", Host: r.Host, Path: r.URL.Path, RawQuery: query.Encode()}
		if r.TLS != nil {
			next.Scheme = "https"
		}
		text := next.String()
		p.next = &text
	}
	return p, nil
}

// all returns the resources of a mesh, or of all meshes when it is empty.
func (c collection) all(mesh string) []*resource.Resource {
	list := c.server.cfg.Store.List(c.desc.Kind, mesh)
	if c.desc.Kind == resource.KindServiceInsight {
		return perService(list)
	}
	return list
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func paging(query url.Values) (size, offset int, err error) {
	size = defaultPage
	if given := query.Get("size"); given != "" {
		size, err = strconv.Atoi(given)
		switch {
		case err != nil || size < 1:
			return 0, 0, badSize("invalid format")
		case size > maxPage:
			return 0, 0, badSize("invalid page size of " + given + ". Maximum page size is " + strconv.Itoa(maxPage))
		}
	}
	if given := query.Get("offset"); given != "" {
		offset, err = strconv.Atoi(given)
		if err != nil || offset < 0 {
			return 0, 0, Invalid(titleList, "Invalid offset", resource.Violation{Field: "offset", Reason: "Invalid format"})
		}
	}
	return size, offset, nil
}

func badSize(reason string) error {
	return Invalid(titleList, "Invalid page size", resource.Violation{Field: "size", Reason: reason})
}

// filter returns what the query wants: for all kinds a part of the name, for Dataplanes tags and gateway, for
// ExternalServices tags.
func (c collection) filter(r *http.Request, query url.Values) (func(*resource.Resource) bool, error) {
	name := query.Get("name")
	if c.desc.Kind != resource.KindDataplane && c.desc.Kind != resource.KindExternalService {
		return func(r *resource.Resource) bool { return strings.Contains(r.Name, name) }, nil
	}
	gateway := ""
	if c.desc.Kind == resource.KindDataplane {
		gateway = query.Get("gateway")
	}
	switch gateway {
	case "", "true", "false", "builtin", "delegated":
	default:
		_, route, _ := strings.Cut(r.Pattern, " ")
		return nil, Invalid(titleList, notValid, resource.Violation{
			Field: route + ".gateway", Reason: "shoud use `true`, `false`, 'builtin' or 'delegated' instead of " + gateway, // sic
		})
	}
	var tags [][2]string
	for _, t := range query["tag"] {
		key, value, ok := strings.Cut(t, ":")
		if !ok || key == "" {
			return nil, Invalid(titleList, notValid, resource.Violation{Field: "tag", Reason: "must have the form key:value"})
		}
		tags = append(tags, [2]string{key, value})
	}
	return func(r *resource.Resource) bool {
		if !strings.Contains(r.Name, name) {
			return false
		}
		switch spec := r.Spec.(type) {
		case *resource.Dataplane:
			return isGateway(spec, gateway) && hasTags(tagSets(spec), tags)
		case *resource.ExternalService:
			return hasTags([]map[string]string{spec.Tags}, tags)
		default:
			return false
		}
	}, nil
}

func isGateway(dp *resource.Dataplane, want string) bool {
	kind := insight.TypeOf(dp)
	switch want {
	case "true":
		return kind != insight.TypeInternal
	case "false":
		return kind == insight.TypeInternal
	case "builtin":
		return kind == insight.TypeGatewayBuiltin
	case "delegated":
		return kind == insight.TypeGatewayDelegated
	default:
		return true
	}
}

// hasTags tells whether there is, for every wanted tag, a value that contains the wanted one.
func hasTags(sets []map[string]string, want [][2]string) bool {
	for _, t := range want {
		found := false
		for _, tags := range sets {
			value, ok := tags[t[0]]
			found = found || ok && strings.Contains(value, t[1])
		}
		if !found {
			return false
		}
	}
	return true
}

// tagSets returns the tags of every inbound and of the gateway.
func tagSets(dp *resource.Dataplane) []map[string]string {
	if dp.Networking == nil {
		return nil
	}
	var out []map[string]string
	for _, in := range dp.Networking.Inbound {
		if in != nil {
			out = append(out, in.Tags)
		}
	}
	if dp.Networking.Gateway != nil {
		out = append(out, dp.Networking.Gateway.Tags)
	}
	return out
}
