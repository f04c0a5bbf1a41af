package dpserver

import (
	"errors"
	"net/http"

	"github.com/kuma-dp/kuma-dp/bootstrap"
	"github.com/kuma-dp/kuma-dp/bootstrap/generate"
	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/resource"
)

// errZoneTokenRequired is the refusal of a zone proxy without token.
var errZoneTokenRequired = &generate.Error{
	Status: http.StatusUnprocessableEntity,
	Body: "Zone Token is required. Generate token using 'kumactl generate zone-token --scope ingress,egress > /path/file' and provide it " +
		"via --dataplane-token-file=/path/file argument to Kuma DP",
}

// zoneProxy answers a ZoneIngress or ZoneEgress. They are of no mesh and run no DNS. A zone token is always asked for: what
// such a proxy may do is not for everybody who reaches the port.
func (s *Server) zoneProxy(w http.ResponseWriter, r *http.Request, req *bootstrap.Request) ([]byte, error) {
	if s.cfg.ZoneTokens == nil || req.DataplaneToken == "" {
		return nil, errZoneTokenRequired
	}
	if err := s.cfg.ZoneTokens.AuthenticateZoneProxy(req.DataplaneToken, s.cfg.Zone.Zone, req.ProxyType); err != nil {
		return nil, unauthenticated(err)
	}
	kind := resource.KindZoneEgress
	if req.ProxyType == bootstrap.TypeIngress {
		kind = resource.KindZoneIngress
	}
	req.Mesh = ""
	res, text, err := s.zoneResource(req, kind)
	if err != nil {
		return nil, err
	}
	p := generate.Proxy{Resource: text}
	switch spec := res.Spec.(type) {
	case *resource.ZoneIngress:
		if n := spec.Networking; n != nil && n.Admin != nil {
			p.AdminPort = n.Admin.Port
		}
	case *resource.ZoneEgress:
		if n := spec.Networking; n != nil && n.Admin != nil {
			p.AdminPort = n.Admin.Port
		}
	}
	return s.render(w, r, req, p, bootstrap.SidecarNetworking{})
}

// zoneResource returns the resource that the agent brought, with its JSON, or the registered one.
func (s *Server) zoneResource(req *bootstrap.Request, kind resource.Kind) (*resource.Resource, string, error) {
	if req.DataplaneResource == "" {
		r, err := s.cfg.Store.Get(resource.Key{Kind: kind, Name: req.Name})
		if errors.Is(err, store.ErrNotFound) {
			return nil, "", &generate.Error{Status: http.StatusNotFound, Cause: err}
		}
		return r, "", err
	}
	r, text, err := s.brought(req)
	_, unknown := errors.AsType[*resource.UnknownKindError](err)
	switch {
	case unknown:
		return nil, "", refuse("dataplane resource: %v", err)
	case err != nil:
		return nil, "", err
	case r.Kind != kind:
		return nil, "", refuse("type: the resource is a %s, the request is for a %s", r.Kind, kind)
	case r.Name != req.Name:
		return nil, "", refuse("name: the resource is %s, the request is for %s", r.Name, req.Name)
	}
	return r, text, s.validate(r)
}
