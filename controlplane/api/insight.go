package api

import (
	"net/http"
	"time"

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

func (s *states) add(state string) {
	s.Total++
	switch state {
	case stateOnline:
		s.Online++
	case stateDegraded:
		s.PartiallyDegraded++
	default:
		s.Offline++
	}
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

const (
	stateOnline   = "online"
	stateDegraded = "partially_degraded"
	stateOffline  = "offline"
)

// globalInsight counts what is stored. It is made anew for every request: counting is cheap, and never out of date.
func (s *Server) globalInsight(w http.ResponseWriter, _ *http.Request) error {
	out := globalInsight{CreatedAt: s.cfg.Now().UTC(), Resources: map[resource.Kind]total{}}
	for _, d := range s.visible() {
		n := len(s.cfg.Store.List(d.Kind, ""))
		switch {
		case d.Kind == resource.KindMesh:
			out.Meshes.Total = n
		case d.Kind == resource.KindZone:
			out.Zones.ControlPlanes.Total = n
		case d.Scope == resource.ScopeMesh && !d.ReadOnly && n > 0:
			out.Resources[d.Kind] = total{n}
		}
		if d.Policy != nil {
			out.Policies.Total += n
		}
	}
	s.countProxies(&out)
	return WriteJSON(w, http.StatusOK, out)
}

// service counts the proxies that serve one kuma.io/service.
type service struct {
	online, total int
	proxyType     string
}

func (s *Server) countProxies(out *globalInsight) {
	found := map[[2]string]*service{}
	for _, res := range s.cfg.Store.List(resource.KindDataplane, "") {
		dp, ok := res.Spec.(*resource.Dataplane)
		if !ok {
			continue
		}
		state, kind := s.proxyState(res.Key, dp), proxyType(dp)
		switch kind {
		case proxyBuiltin:
			out.Dataplanes.GatewayBuiltin.add(state)
		case proxyDelegated:
			out.Dataplanes.GatewayDelegated.add(state)
		default:
			out.Dataplanes.Standard.add(state)
		}
		mine := map[string]bool{}
		for _, tags := range tagSets(dp) {
			if name := tags[resource.TagService]; name != "" && !mine[name] {
				mine[name] = true
				k := [2]string{res.Mesh, name}
				if found[k] == nil {
					found[k] = &service{proxyType: kind}
				}
				found[k].total++
				if state == stateOnline {
					found[k].online++
				}
			}
		}
	}
	for _, svc := range found {
		state := stateDegraded
		switch svc.online {
		case 0:
			state = stateOffline
		case svc.total:
			state = stateOnline
		}
		switch svc.proxyType {
		case proxyBuiltin:
			out.Services.GatewayBuiltin.add(state)
		case proxyDelegated:
			out.Services.GatewayDelegated.add(state)
		default:
			out.Services.Internal.add(state)
		}
	}
}

// proxyState is offline without an open stream, degraded when some inbounds take no traffic (contract §1.7).
func (s *Server) proxyState(key resource.Key, dp *resource.Dataplane) string {
	key.Kind = resource.KindDataplaneInsight
	res, err := s.cfg.Store.Get(key)
	if err != nil {
		return stateOffline
	}
	insight, ok := res.Spec.(*resource.DataplaneInsight)
	if !ok || !insight.Online() {
		return stateOffline
	}
	if dp.Networking != nil {
		for _, in := range dp.Networking.Inbound {
			if in != nil && in.State != resource.InboundIgnored && !in.Healthy() {
				return stateDegraded
			}
		}
	}
	return stateOnline
}
