package api

import (
	"net/http"

	"github.com/kuma-dp/kuma-dp/resource"
)

// routes adds everything that this package serves.
func (s *Server) routes() {
	s.handle("GET /{$}", func(w http.ResponseWriter, _ *http.Request) error { return WriteJSON(w, http.StatusOK, s.cfg.Index) })
	s.handle("GET /config", s.getConfig)
	s.handle("GET /policies", s.getPolicies)
	s.handle("GET /_resources", s.getResources)
	s.handle("GET /who-am-i", s.whoAmI)
	s.handle("GET /global-insight", s.globalInsight)
	s.handle("POST /tokens/dataplane", s.dataplaneToken)
	s.handle("POST /tokens/user", s.userToken)
	for _, d := range s.cfg.Registry.All() {
		if d.Hidden || d.Path == "" {
			continue
		}
		c := collection{server: s, desc: d}
		all := "/" + d.Path
		one := all + "/{name}"
		if d.Scope == resource.ScopeMesh {
			s.handle("GET "+all, c.list)
			all = "/meshes/{mesh}" + all
			one = all + "/{name}"
		}
		s.handle("GET "+all, c.list)
		s.handle("GET "+one, c.get)
		s.handle("PUT "+one, c.put)
		s.handle("DELETE "+one, c.delete)
		if !hasOverview(d.Kind) {
			continue
		}
		s.handle("GET "+all+"/_overview", c.listOverviews)
		s.handle("GET "+one+"/_overview", c.getOverview)
		// The older names of the same.
		s.handle("GET "+all+"+insights", c.listOverviews)
		s.handle("GET "+all+"+insights/{name}", c.getOverview)
		if d.Scope == resource.ScopeMesh {
			s.handle("GET /"+d.Path+"/_overview", c.listOverviews)
			s.handle("GET /"+d.Path+"+insights", c.listOverviews)
		}
	}
}
