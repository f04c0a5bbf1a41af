package api

import (
	"net/http"

	"github.com/kuma-dp/kuma-dp/resource"
)

// legacyOverviews are the older names of the collections of overviews (contract controlplane.md §2.1). The keys are the
// kinds that are shown together with their insight.
var legacyOverviews = map[resource.Kind]string{
	resource.KindDataplane:   "dataplanes+insights",
	resource.KindZone:        "zones+insights",
	resource.KindZoneIngress: "zoneingresses+insights",
	resource.KindZoneEgress:  "zoneegressoverviews",
}

// routes adds everything that this package serves.
func (s *Server) routes() {
	s.handle("GET /{$}", s.getIndex, Doc{Summary: "Which control plane this is", Response: Index{}})
	s.handle("GET /config", s.getConfig, Doc{Summary: "The effective configuration, without secrets", Response: map[string]any{}})
	s.handle("GET /policies", s.getPolicies, Doc{Summary: "The kinds of policies", Response: policyList{}})
	s.handle("GET /_resources", s.getResources, Doc{Summary: "The kinds of resources", Response: resourceList{}})
	s.handle("GET /who-am-i", s.whoAmI, Doc{Summary: "Who asks", Response: identity{}})
	s.handle("GET /global-insight", s.globalInsight, Doc{Summary: "Counts over all meshes", Response: globalInsight{}})
	s.handle("GET /global-insights", s.globalInsights, Doc{Summary: "Counts of the kinds that are in no mesh", Response: globalInsights{}})
	s.handle("GET /_openapi", s.openAPI, Doc{Summary: "This document", Response: map[string]any{}})
	s.handle("POST /tokens/dataplane", s.dataplaneToken, Doc{Summary: "Issue a token of a data plane", Request: dataplaneTokenRequest{}, Text: true})
	s.handle("POST /tokens/zone", s.zoneToken, Doc{Summary: "Issue a token of zone proxies", Request: zoneTokenRequest{}, Text: true})
	s.handle("POST /tokens/user", s.userToken, Doc{Summary: "Issue a token of a user", Request: userTokenRequest{}, Text: true})
	for _, d := range s.visible() {
		s.collection(d)
	}
}

// collection adds what every kind has.
func (s *Server) collection(d *resource.Descriptor) {
	c := collection{server: s, desc: d}
	everywhere := "/" + d.Path
	scope := ""
	if d.Scope == resource.ScopeMesh {
		scope = "/meshes/{mesh}"
	}
	all, one := scope+everywhere, scope+everywhere+"/{name}"
	pages := []string{"size", "offset", "name"}
	switch d.Kind {
	case resource.KindDataplane:
		pages = append(pages, "tag", "gateway")
	case resource.KindExternalService:
		pages = append(pages, "tag")
	}
	list := Doc{Summary: "List " + d.Plural, Tag: d.Plural, Query: pages, Response: listOf(d.Kind)}
	s.handle("GET "+all, c.list, list)
	s.handle("GET "+one, c.get, Doc{Summary: "Show one " + d.Singular, Tag: d.Plural, Query: []string{"format", "namespace"}, Response: anyFormOf(d.Kind)})
	s.handle("PUT "+one, c.put, Doc{Summary: "Create or replace one " + d.Singular, Tag: d.Plural, Query: []string{"format", "namespace", "requireReady"}, Request: anyFormOf(d.Kind), Response: warnings{}, Created: true})
	s.handle("DELETE "+one, c.delete, Doc{Summary: "Delete one " + d.Singular, Tag: d.Plural, Query: []string{"requireReady"}})
	if scope != "" {
		s.handle("GET "+everywhere, c.list, list)
	}
	legacy, ok := legacyOverviews[d.Kind]
	if !ok {
		return
	}
	list.Summary, list.Response = list.Summary+" with their insights", listOf(d.Kind+"Overview")
	show := Doc{Summary: "Show one " + d.Singular + " with its insight", Tag: d.Plural, Response: ref(d.Kind + "Overview")}
	s.handle("GET "+all+"/_overview", c.listOverviews, list)
	s.handle("GET "+one+"/_overview", c.getOverview, show)
	s.handle("GET "+scope+"/"+legacy, c.listOverviews, list)
	s.handle("GET "+scope+"/"+legacy+"/{name}", c.getOverview, show)
	if scope != "" {
		s.handle("GET "+everywhere+"/_overview", c.listOverviews, list)
		s.handle("GET /"+legacy, c.listOverviews, list)
	}
}

// adminFallbacks answers for what no Envoy can be asked, in the words of 2.9, unless another package does.
func (s *Server) adminFallbacks() {
	for _, proxy := range []string{"/meshes/{mesh}/dataplanes", "/zoneingresses", "/zoneegresses"} {
		pattern := "GET " + proxy + "/{name}/{type}"
		if !s.serves(http.MethodGet, proxy+"/{name}/-") {
			s.handle(pattern, func(http.ResponseWriter, *http.Request) error { return NotFound("Could not execute admin operation") },
				Doc{Summary: "Says that there is no such operation"})
		}
	}
}
