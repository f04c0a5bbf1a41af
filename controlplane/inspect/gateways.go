package inspect

import (
	"net/http"

	"github.com/kuma-dp/kuma-dp/controlplane/api"
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// gatewayProxies is the answer of `dataplanes` of a MeshGateway or one of its routes.
type (
	gatewayProxies struct {
		Total int            `json:"total"`
		Items []gatewayProxy `json:"items"`
	}
	gatewayProxy struct {
		Dataplane keyBody `json:"dataplane"`
	}
)

// gatewayDataplanes lists the builtin gateways that serve a MeshGateway.
func (i *Inspector) gatewayDataplanes(w http.ResponseWriter, req *http.Request) error {
	gateway, _, err := i.resource(req, resource.KindMeshGateway)
	if err != nil {
		return err
	}
	return i.writeGateways(w, gateway.Mesh, func(_ *resource.Gateway, serves *resource.Resource) bool {
		return serves.Key == gateway.Key
	})
}

// gatewayRouteDataplanes lists the builtin gateways with a listener that a MeshGatewayRoute selects.
func (i *Inspector) gatewayRouteDataplanes(w http.ResponseWriter, req *http.Request) error {
	route, _, err := i.resource(req, resource.KindMeshGatewayRoute)
	if err != nil {
		return err
	}
	selectors := resource.SpecOf[*resource.MeshGatewayRoute](route).Selectors
	return i.writeGateways(w, route.Mesh, func(section *resource.Gateway, serves *resource.Resource) bool {
		spec := resource.SpecOf[*resource.MeshGateway](serves)
		for n := range spec.Conf.Listeners {
			tags := policy.ListenerTags(section, spec, &spec.Conf.Listeners[n])
			for _, s := range selectors {
				if policy.HasTags(tags, s.Match) {
					return true
				}
			}
		}
		return false
	})
}

func (i *Inspector) writeGateways(w http.ResponseWriter, mesh string, fits func(section *resource.Gateway, serves *resource.Resource) bool) error {
	body := gatewayProxies{Items: []gatewayProxy{}}
	gateways := i.cfg.Store.List(resource.KindMeshGateway, mesh)
	for _, dp := range i.cfg.Store.List(resource.KindDataplane, mesh) {
		serves := policy.GatewayOf(dp, gateways)
		if serves != nil && fits(resource.SpecOf[*resource.Dataplane](dp).Networking.Gateway, serves) {
			body.Items = append(body.Items, gatewayProxy{keyBody{dp.Mesh, dp.Name}})
		}
	}
	body.Total = len(body.Items)
	return api.WriteJSON(w, http.StatusOK, body)
}
