package topology

import (
	"slices"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// gateway takes one change of a MeshGateway; next is nil when it is deleted. It touches every builtin gateway of the mesh:
// there are few, and which MeshGateway they serve depends on all of them.
func (e *edit) gateway(name string, next *resource.Resource) {
	list := slices.Clone(e.mesh.Gateways)
	i, found := slices.BinarySearchFunc(list, name, byName)
	switch {
	case found && next != nil:
		list[i] = next
	case found:
		list = slices.Delete(list, i, i+1)
	case next != nil:
		list = slices.Insert(list, i, next)
	}
	e.mesh.Gateways = list
	for _, d := range e.mesh.Dataplanes {
		if d.builtin() {
			e.touched[d.Name] |= ScopeFull
		}
	}
}

func (d *Dataplane) builtin() bool {
	n := d.Spec.Networking
	return n != nil && n.Gateway != nil && n.Gateway.Type == resource.GatewayBuiltin
}

// GatewayOf returns the MeshGateway that a builtin gateway of the mesh serves, nil for every other proxy.
func (m *Mesh) GatewayOf(d *Dataplane) *resource.Resource {
	return policy.GatewayOf(d.Resource, m.Gateways)
}
