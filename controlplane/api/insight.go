package api

import (
	"net/http"
	"time"

	"github.com/kuma-dp/kuma-dp/controlplane/insight"
	"github.com/kuma-dp/kuma-dp/resource"
)

type total struct {
	Total int `json:"total"`
}

type states struct {
	Offline           int `json:"offline"`
	Online            int `json:"online"`
	PartiallyDegraded int `json:"partiallyDegraded"`
	Total             int `json:"total"`
}

func (s *states) add(c resource.ProxyCount) {
	s.Offline += int(c.Offline)
	s.Online += int(c.Online)
	s.PartiallyDegraded += int(c.PartiallyDegraded)
	s.Total += int(c.Total)
}

// service counts one service.
func (s *states) service(status string) {
	one := resource.ProxyCount{Total: 1}
	switch status {
	case insight.Online:
		one.Online = 1
	case insight.Degraded:
		one.PartiallyDegraded = 1
	default:
		one.Offline = 1
	}
	s.add(one)
}

type byType struct {
	GatewayBuiltin   states `json:"gatewayBuiltin"`
	GatewayDelegated states `json:"gatewayDelegated"`
	Standard         states `json:"standard"`
}

type services struct {
	External         total  `json:"external"`
	GatewayBuiltin   states `json:"gatewayBuiltin"`
	GatewayDelegated states `json:"gatewayDelegated"`
	Internal         states `json:"internal"`
}

type online struct {
	Online int `json:"online"`
	Total  int `json:"total"`
}

type zones struct {
	ControlPlanes online `json:"controlPlanes"`
	ZoneEgresses  online `json:"zoneEgresses"`
	ZoneIngresses online `json:"zoneIngresses"`
}

type globalInsight struct {
	CreatedAt  time.Time               `json:"createdAt"`
	Dataplanes byType                  `json:"dataplanes"`
	Meshes     total                   `json:"meshes"`
	Policies   total                   `json:"policies"`
	Resources  map[resource.Kind]total `json:"resources"`
	Services   services                `json:"services"`
	Zones      zones                   `json:"zones"`
}

// globalInsight counts what is stored. It is made anew for every request: counting is cheap, and never out of date.
func (s *Server) globalInsight(w http.ResponseWriter, _ *http.Request) error {
	st := s.cfg.Store
	out := globalInsight{CreatedAt: s.cfg.Now().UTC(), Resources: map[resource.Kind]total{}}
	for _, mesh := range st.List(resource.KindMesh, "") {
		out.Meshes.Total++
		sum := insight.OfMesh(st, s.cfg.Registry, mesh.Name)
		for kind, n := range sum.Resources {
			out.Resources[kind] = total{out.Resources[kind].Total + int(n.Total)}
		}
		for _, n := range sum.Policies {
			out.Policies.Total += int(n.Total)
		}
		out.Dataplanes.Standard.add(sum.DataplanesByType.Standard)
		out.Dataplanes.GatewayBuiltin.add(sum.DataplanesByType.GatewayBuiltin)
		out.Dataplanes.GatewayDelegated.add(sum.DataplanesByType.GatewayDelegated)
		for _, svc := range insight.Services(st, mesh.Name) {
			switch svc.ServiceType {
			case insight.TypeExternal:
				out.Services.External.Total++
			case insight.TypeGatewayBuiltin:
				out.Services.GatewayBuiltin.service(svc.Status)
			case insight.TypeGatewayDelegated:
				out.Services.GatewayDelegated.service(svc.Status)
			default:
				out.Services.Internal.service(svc.Status)
			}
		}
	}
	out.Zones.ControlPlanes = s.connected(resource.KindZoneInsight)
	out.Zones.ZoneEgresses = s.connected(resource.KindZoneEgressInsight)
	out.Zones.ZoneIngresses = s.connected(resource.KindZoneIngressInsight)
	return WriteJSON(w, http.StatusOK, out)
}

// connected counts what has ever been connected: in 2.9 a zone without an insight is not in the total.
func (s *Server) connected(kind resource.Kind) online {
	var out online
	for _, r := range s.cfg.Store.List(kind, "") {
		out.Total++
		if i, ok := r.Spec.(interface{ Online() bool }); ok && i.Online() {
			out.Online++
		}
	}
	return out
}

type globalInsights struct {
	Type         string                  `json:"type"`
	CreationTime time.Time               `json:"creationTime"`
	Resources    map[resource.Kind]total `json:"resources"`
}

// globalInsights is the older form: it counts the kinds that are in no mesh, also those of which there are none.
func (s *Server) globalInsights(w http.ResponseWriter, _ *http.Request) error {
	out := globalInsights{Type: "GlobalInsights", CreationTime: s.cfg.Now().UTC(), Resources: map[resource.Kind]total{}}
	for _, d := range s.visible() {
		if d.Scope == resource.ScopeGlobal && !d.ReadOnly {
			out.Resources[d.Kind] = total{len(s.cfg.Store.List(d.Kind, ""))}
		}
	}
	return WriteJSON(w, http.StatusOK, out)
}

// perService shows the stored sums of meshes as one resource for each service, which is what 2.9 shows of a ServiceInsight.
func perService(stored []*resource.Resource) []*resource.Resource {
	out := []*resource.Resource{}
	for _, r := range stored {
		sum, ok := r.Spec.(*resource.ServiceInsight)
		if !ok {
			continue
		}
		for _, name := range sortedKeys(sum.Services) {
			one := *r
			one.Name = name
			one.Spec = &resource.ServiceInsight{ServiceSummary: sum.Services[name]}
			out = append(out, &one)
		}
	}
	return out
}
