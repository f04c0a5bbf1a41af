package inspect

import (
	"net/http"

	"github.com/kuma-dp/kuma-dp/controlplane/api"
	"github.com/kuma-dp/kuma-dp/controlplane/hostname"
	"github.com/kuma-dp/kuma-dp/resource"
)

// The answer of `_hostnames` (contract dns.md §1.7). Items are null when there is none.
type (
	hostnamesBody struct {
		Total int             `json:"total"`
		Items []hostnameInUse `json:"items"`
	}
	// hostnameInUse is a name with the zones whose proxies know it.
	hostnameInUse struct {
		Hostname string     `json:"hostname"`
		Zones    []zoneName `json:"zones"`
	}
	zoneName struct {
		Name string `json:"name"`
	}
)

// hostnameRoutes adds the endpoint of services, and of the kinds that have none an answer that says so.
func (i *Inspector) hostnameRoutes(r api.Router) {
	kinds := resource.Core()
	for _, k := range i.cfg.Kinds {
		kinds = append(kinds, k.Descriptor)
	}
	for _, d := range resource.NewRegistry(kinds...).All() {
		pattern := "GET /meshes/{mesh}/" + d.Path + "/{name}/_hostnames"
		switch {
		case d.Kind == resource.KindMeshService, d.Kind == resource.KindMeshExternalService, d.Kind == resource.KindMeshMultiZoneService:
			r.Handle(pattern, i.hostnames(d.Kind), api.Doc{Summary: "The hostnames that generators give to the service", Tag: tag, Response: hostnamesBody{}})
		case d.Scope == resource.ScopeMesh && d.Path != "":
			r.Handle(pattern, noHostnames, api.Doc{Summary: "Says that only services have hostnames", Tag: d.Plural})
		}
	}
}

func noHostnames(http.ResponseWriter, *http.Request) error {
	return api.Invalid(`only "meshservices,meshexternalservices,meshmultizoneservices" are available for inspection`, "Bad Request")
}

// hostnames tells which names generators give to a service, also those that are another's: the status says that.
func (i *Inspector) hostnames(kind resource.Kind) api.Handler {
	return func(w http.ResponseWriter, req *http.Request) error {
		service, _, err := i.resource(req, kind)
		if err != nil {
			return err
		}
		names, err := hostname.Of(service, i.cfg.Store.List(resource.KindHostnameGenerator, ""), i.cfg.Zone)
		if err != nil {
			return api.Invalid("could not generate hostname", err.Error())
		}
		out := hostnamesBody{Total: len(names)}
		for _, name := range names {
			out.Items = append(out.Items, hostnameInUse{name, []zoneName{{i.cfg.Zone}}})
		}
		return api.WriteJSON(w, http.StatusOK, out)
	}
}
