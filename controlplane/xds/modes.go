package xds

import (
	"cmp"
	"fmt"
	"net/netip"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/policy/meshtls"
	"github.com/kuma-dp/kuma-dp/resource"
)

// InboundMode is what an inbound of a Dataplane is to accept.
type InboundMode struct {
	Dataplane *resource.Resource
	Inbound   *resource.Inbound
	// Address is the listener's; not valid where Envoy is told a name.
	Address netip.AddrPort
	// Mode is resource.MTLSStrict or MTLSPermissive, empty without mTLS in the mesh.
	Mode string
}

// MTLSModes lists the inbounds of a mesh, by the names of their Dataplanes. The error is ErrUnknownMesh, or a mode that
// nobody knows.
func (s *Server) MTLSModes(mesh string) ([]InboundMode, error) {
	w := s.cfg.Topology.Current()
	m := w.Meshes[mesh]
	if m == nil {
		return nil, fmt.Errorf("modes of inbounds in mesh %q: %w", mesh, ErrUnknownMesh)
	}
	return s.modes(w, m)
}

// MTLSModesAfter lists the same inbounds before and after old, a Mesh or a policy, is replaced by next; either may be nil. Both
// are nil in a mesh that is not there yet.
func (s *Server) MTLSModesAfter(old, next *resource.Resource) (before, after []InboundMode, err error) {
	r := cmp.Or(next, old)
	w := s.cfg.Topology.Current()
	m := w.Meshes[cmp.Or(r.Mesh, r.Name)]
	if m == nil {
		return nil, nil, nil
	}
	changed := *m
	switch {
	case r.Kind == resource.KindMesh && next != nil:
		changed.Resource, changed.Spec = next, resource.SpecOf[*resource.Mesh](next)
	case r.Kind == resource.KindMesh:
		return nil, nil, nil // it takes everything with it
	case next != nil:
		changed = *withPolicy(m, next)
	default:
		changed = *withoutPolicy(m, old.Kind, old)
	}
	if before, err = s.modes(w, m); err != nil {
		return nil, nil, err
	}
	after, err = s.modes(w, &changed)
	return before, after, err
}

func (s *Server) modes(w *topology.World, m *topology.Mesh) ([]InboundMode, error) {
	kind := meshtls.Kind()
	book := newRulebook([]policy.Kind{kind}, s.cfg.Zone)
	var out []InboundMode
	for _, dp := range m.Dataplanes {
		if dp.Spec.Networking == nil {
			continue
		}
		env := effect.NewEnv(m.Resource, dp.Resource, s.cfg.Zone)
		// What is missing of rules that are too many concerns the tags of clients, which this kind has not.
		rules, _ := book.rules(w, m, dp, false)
		for _, in := range dp.Spec.Networking.Inbound {
			if in.Port == effect.Serviceless {
				continue // it has no listener
			}
			mode, err := meshtls.ModeOf(rules[kind.Descriptor.Kind], in, env.MTLSMode)
			if err != nil {
				return nil, fmt.Errorf("mode of inbound %d of dataplane %s: %w", in.Port, dp.Name, err)
			}
			one := InboundMode{Dataplane: dp.Resource, Inbound: in, Mode: mode}
			if addr, err := netip.ParseAddr(env.ListenerAddress(in)); err == nil && in.Port <= 65535 {
				one.Address = netip.AddrPortFrom(addr, uint16(in.Port))
			}
			out = append(out, one)
		}
	}
	return out, nil
}
