package controlplane

import (
	"github.com/kuma-dp/kuma-dp/controlplane/xds"
	"github.com/kuma-dp/kuma-dp/resource"
)

// buildLifecycles makes one for each type of proxy, which differ in what they keep in the store.
func (p *parts) buildLifecycles(cfg xds.LifecycleConfig) {
	p.lifecycle = xds.NewLifecycle(cfg)
	cfg.Joining = nil // nobody is told of a zone proxy as an endpoint of a service
	cfg.Kind = resource.KindZoneIngress
	p.ingresses = xds.NewLifecycle(cfg)
	cfg.Kind = resource.KindZoneEgress
	p.egresses = xds.NewLifecycle(cfg)
}

func (p *parts) registrars() xds.Registrar {
	return xds.Registrars{Dataplanes: p.lifecycle, Ingresses: p.ingresses, Egresses: p.egresses}
}
