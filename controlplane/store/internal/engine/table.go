package engine

import (
	"cmp"
	"slices"

	"github.com/kuma-dp/kuma-dp/resource"
)

func compare(r *resource.Resource, mesh, name string) int {
	return cmp.Or(cmp.Compare(r.Mesh, mesh), cmp.Compare(r.Name, name))
}

func search(list []*resource.Resource, mesh, name string) (int, bool) {
	return slices.BinarySearchFunc(list, resource.Key{Mesh: mesh, Name: name},
		func(r *resource.Resource, k resource.Key) int { return compare(r, k.Mesh, k.Name) })
}

// inMesh returns the part of list that belongs to mesh.
func inMesh(list []*resource.Resource, mesh string) []*resource.Resource {
	from, _ := search(list, mesh, "")
	to, _ := search(list, mesh+"\x00", "")
	return list[from:to]
}
