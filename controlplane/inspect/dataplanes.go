package inspect

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/kuma-dp/kuma-dp/controlplane/api"
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

const (
	defaultPage = 100
	maxPage     = 1000
)

type (
	dataplanesBody struct {
		Items []matchedProxy `json:"items"`
		Next  *string        `json:"next,omitempty"`
		Total int            `json:"total"`
	}
	matchedProxy struct {
		meta
		*olderProxy
	}
	// olderProxy is what a proxy has on top under the older path.
	olderProxy struct {
		Kind        string         `json:"kind"`
		Dataplane   keyBody        `json:"dataplane"`
		Attachments []attachment   `json:"attachments,omitempty"`
		Gateway     *keyBody       `json:"gateway,omitempty"`
		Listeners   []listenerBody `json:"listeners,omitempty"`
	}
	attachment struct {
		Type string `json:"type"`
	}
)

// olderProxyOf describes a proxy as clients of the older path read it: these tell proxies by their kind and ask to what of a proxy
// the policy is attached, which for all that we have is the Dataplane.
func olderProxyOf(dp *resource.Resource, gateways []*resource.Resource) *olderProxy {
	gateway := policy.GatewayOf(dp, gateways)
	if gateway == nil {
		return &olderProxy{Kind: kindSidecar, Dataplane: keyBody{dp.Mesh, dp.Name}, Attachments: []attachment{{attachedDataplane}}}
	}
	return &olderProxy{
		Kind: kindGateway, Dataplane: keyBody{dp.Mesh, dp.Name}, Gateway: &keyBody{gateway.Mesh, gateway.Name},
		Listeners: listeners(resource.SpecOf[*resource.MeshGateway](gateway)),
	}
}

// matcher tells whether a policy applies to a proxy.
type matcher func(dp *resource.Resource) bool

// matching is the matcher of a policy with target references.
func (i *Inspector) matching(kind policy.Kind, p *resource.Resource) matcher {
	kind.NoShadow = false
	set := policy.NewSet(kind, []*resource.Resource{p}, i.cfg.Store.List(i.routes, p.Mesh), nil)
	view := policy.View{Zone: i.cfg.Zone, Shadow: true, Gateways: i.cfg.Store.List(resource.KindMeshGateway, p.Mesh)}
	return func(dp *resource.Resource) bool {
		matched, _ := set.Matched(dp, view)
		return len(matched) > 0
	}
}

// dataplanes lists the proxies that a policy of the kind applies to. A shadow policy is shown with those that it would
// apply to.
//
// The older path, `/{name}/dataplanes`, has the same answer by contract controlplane.md §2.3. But clients of Kuma 2.x that
// still ask it, kumactl before `_resources/dataplanes`, stop at an item without a kind. Its items therefore have the fields
// of both forms; those who know only one pass over the rest.
func (i *Inspector) dataplanes(kind resource.Kind, matching func(policy *resource.Resource) matcher, olderPath bool) api.Handler {
	return func(w http.ResponseWriter, req *http.Request) error {
		p, _, err := i.resource(req, kind)
		if err != nil {
			return err
		}
		query := req.URL.Query()
		size, err := number(query, "size", defaultPage, 1, maxPage)
		if err != nil {
			return err
		}
		offset, err := number(query, "offset", 0, 0, 1<<30)
		if err != nil {
			return err
		}
		body := dataplanesBody{Items: []matchedProxy{}}
		matches, gateways := matching(p), i.cfg.Store.List(resource.KindMeshGateway, p.Mesh)
		for _, dp := range i.cfg.Store.List(resource.KindDataplane, p.Mesh) {
			if !strings.Contains(dp.Name, query.Get("name")) || !matches(dp) {
				continue
			}
			if body.Total >= offset && len(body.Items) < size {
				item := matchedProxy{meta: metaOf(dp.Key, dp.Labels)}
				if olderPath {
					item.olderProxy = olderProxyOf(dp, gateways)
				}
				body.Items = append(body.Items, item)
			}
			body.Total++
		}
		if end := offset + len(body.Items); len(body.Items) > 0 && end < body.Total {
			query.Set("offset", strconv.Itoa(end))
			query.Set("size", strconv.Itoa(size))
			next := url.URL{Scheme: "http", Host: req.Host, Path: req.URL.Path, RawQuery: query.Encode()}
			if req.TLS != nil {
				next.Scheme = "https"
			}
			body.Next = new(next.String())
		}
		return api.WriteJSON(w, http.StatusOK, body)
	}
}

func number(query url.Values, name string, def, low, high int) (int, error) {
	given := query.Get(name)
	if given == "" {
		return def, nil
	}
	n, err := strconv.Atoi(given)
	if err != nil || n < low || n > high {
		return 0, api.Invalid("Could not retrieve resources", "Invalid "+name, resource.Violation{Field: name, Reason: "Invalid format"})
	}
	return n, nil
}
