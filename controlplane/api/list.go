package api

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"

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
	keep, err := c.filter(query)
	if err != nil {
		return nil, err
	}
	p := &page{items: []*resource.Resource{}}
	for _, res := range c.server.cfg.Store.List(c.desc.Kind, r.PathValue("mesh")) {
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

// filter returns what the query wants: for all kinds a part of the name, for Dataplanes tags and gateway.
func (c collection) filter(query url.Values) (func(*resource.Resource) bool, error) {
	name := query.Get("name")
	if c.desc.Kind != resource.KindDataplane {
		return func(r *resource.Resource) bool { return strings.Contains(r.Name, name) }, nil
	}
	gateway := query.Get("gateway")
	switch gateway {
	case "", "true", "false", "builtin", "delegated":
	default:
		return nil, Invalid(titleList, "Invalid gateway filter", resource.Violation{
			Field: "gateway", Reason: `must be one of ["true", "false", "builtin", "delegated"]`,
		})
	}
	var tags [][2]string
	for _, t := range query["tag"] {
		key, value, ok := strings.Cut(t, ":")
		if !ok || key == "" {
			return nil, Invalid(titleList, "Invalid tag filter", resource.Violation{Field: "tag", Reason: "must have the form key:value"})
		}
		tags = append(tags, [2]string{key, value})
	}
	return func(r *resource.Resource) bool {
		dp, ok := r.Spec.(*resource.Dataplane)
		return ok && strings.Contains(r.Name, name) && isGateway(dp, gateway) && hasTags(dp, tags)
	}, nil
}

func isGateway(dp *resource.Dataplane, want string) bool {
	kind := proxyType(dp)
	switch want {
	case "":
		return true
	case "true":
		return kind != proxyStandard
	case "false":
		return kind == proxyStandard
	default:
		return kind == want
	}
}

const (
	proxyStandard  = "standard"
	proxyBuiltin   = "builtin"
	proxyDelegated = "delegated"
)

func proxyType(dp *resource.Dataplane) string {
	switch {
	case dp.Networking == nil || dp.Networking.Gateway == nil:
		return proxyStandard
	case dp.Networking.Gateway.Type == "BUILTIN":
		return proxyBuiltin
	default:
		return proxyDelegated
	}
}

// hasTags tells whether dp has, for every wanted tag, a value that contains the wanted one.
func hasTags(dp *resource.Dataplane, want [][2]string) bool {
	for _, t := range want {
		found := false
		for _, tags := range tagSets(dp) {
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
