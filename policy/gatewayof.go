package policy

import (
	"cmp"
	"maps"

	"github.com/kuma-dp/kuma-dp/resource"
)

// GatewayOf returns the MeshGateway that a builtin gateway serves: one of its mesh with a selector that matches the tags
// of its gateway section. Of several it is the one with the most tags that are equal, then with the most of any value, then
// the first by name. It is nil for every other proxy, and when no MeshGateway fits.
func GatewayOf(dp *resource.Resource, gateways []*resource.Resource) *resource.Resource {
	spec, ok := dp.Spec.(*resource.Dataplane)
	if !ok || spec.Networking == nil || spec.Networking.Gateway == nil || spec.Networking.Gateway.Type != resource.GatewayBuiltin {
		return nil
	}
	var best *resource.Resource
	var bestExact, bestAny int
	for _, g := range gateways {
		own, ok := g.Spec.(*resource.MeshGateway)
		if !ok || g.Mesh != dp.Mesh || own.Conf == nil {
			continue
		}
		for _, s := range own.Selectors {
			if len(s.Match) == 0 || !HasTags(spec.Networking.Gateway.Tags, s.Match) {
				continue
			}
			exact, wild := 0, 0
			for _, v := range s.Match {
				if v == "*" {
					wild++
				} else {
					exact++
				}
			}
			if better := cmp.Or(cmp.Compare(exact, bestExact), cmp.Compare(wild, bestAny)); best == nil || better > 0 ||
				better == 0 && g.Name < best.Name {
				best, bestExact, bestAny = g, exact, wild
			}
		}
	}
	return best
}

// ListenerTags are the tags by which policies select a listener of a builtin gateway: those of the gateway section of its
// Dataplane, of the MeshGateway and of the listener itself, the last one wins.
func ListenerTags(section *resource.Gateway, gateway *resource.MeshGateway, listener *resource.GatewayListener) map[string]string {
	out := maps.Clone(section.Tags)
	if out == nil {
		out = map[string]string{}
	}
	maps.Copy(out, gateway.Tags)
	maps.Copy(out, listener.Tags)
	return out
}
