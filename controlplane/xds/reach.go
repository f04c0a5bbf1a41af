package xds

import (
	"errors"
	"fmt"

	"github.com/kuma-dp/kuma-dp/bootstrap"
	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/resource"
)

// ErrNotConnected means that the proxy has no stream to this control plane.
var ErrNotConnected = errors.New("the proxy is not connected")

// AdminEndpoint is where the admin interface of an Envoy is reached.
type AdminEndpoint struct {
	Address string
	Port    uint32
	// Secure says that the listener of contract controlplane.md §3.3 is in front of it; without it, Envoy itself listens
	// there, in clear.
	Secure bool
}

// AdminEndpoint returns where the admin interface of a connected proxy is reached. The error is ErrUnknownProxy,
// ErrNotConnected, or says that the proxy has none.
func (s *Server) AdminEndpoint(mesh, name string) (AdminEndpoint, error) {
	_, _, dp, err := s.find(mesh, name)
	if err != nil {
		return AdminEndpoint{}, err
	}
	address := ""
	if n := dp.Spec.Networking; n != nil {
		address = n.Address
	}
	return s.reach(topology.ProxyID{Mesh: mesh, Name: name}, "", address)
}

// ZoneAdminEndpoint is AdminEndpoint for a ZoneIngress or ZoneEgress.
func (s *Server) ZoneAdminEndpoint(kind resource.Kind, name string) (AdminEndpoint, error) {
	zones := s.cfg.Topology.Current().Zones
	r, address := zones.Egress(name), ""
	if kind == resource.KindZoneIngress {
		r = zones.Ingress(name)
	}
	if r == nil {
		return AdminEndpoint{}, fmt.Errorf("inspect %s %s: %w", kind, name, ErrUnknownProxy)
	}
	switch spec := r.Spec.(type) {
	case *resource.ZoneIngress:
		if spec.Networking != nil {
			address = spec.Networking.Address
		}
	case *resource.ZoneEgress:
		if spec.Networking != nil {
			address = spec.Networking.Address
		}
	}
	return s.reach(topology.ProxyID{Name: name}, proxyTypeOf(kind), address)
}

// proxyTypeOf is what the metadata of proxies calls a kind; "" for a Dataplane.
func proxyTypeOf(kind resource.Kind) string {
	switch kind {
	case resource.KindZoneIngress:
		return bootstrap.TypeIngress
	case resource.KindZoneEgress:
		return bootstrap.TypeEgress
	default:
		return ""
	}
}

// reach finds the Envoy of a proxy that has an address, of any type when that is "".
func (s *Server) reach(id topology.ProxyID, proxyType, address string) (AdminEndpoint, error) {
	s.mu.Lock()
	p := s.proxies[id]
	var meta Meta
	if p != nil {
		meta = p.meta
	}
	s.mu.Unlock()
	switch {
	case p == nil, proxyType != "" && meta.ProxyType != proxyType:
		return AdminEndpoint{}, fmt.Errorf("reach envoy of %s.%s: %w", id.Mesh, id.Name, ErrNotConnected)
	case meta.AdminPort == 0 || address == "":
		return AdminEndpoint{}, fmt.Errorf("reach envoy of %s.%s: its admin interface is off", id.Mesh, id.Name)
	}
	local, err := adminAddress(meta.AdminAddress)
	if err != nil {
		return AdminEndpoint{}, fmt.Errorf("reach envoy of %s.%s: %w", id.Mesh, id.Name, err)
	}
	return AdminEndpoint{Address: address, Port: meta.AdminPort, Secure: address != local}, nil
}
