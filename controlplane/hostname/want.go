package hostname

import (
	"reflect"
	"slices"

	"github.com/kuma-dp/kuma-dp/resource"
)

// in tells whether the stored status of r says what w does.
func (w want) in(r *resource.Resource) bool {
	status, _ := r.Status.(*resource.MeshServiceStatus)
	if status == nil {
		status = &resource.MeshServiceStatus{}
	}
	return slices.Equal(status.VIPs, w.VIPs) && same(status.Addresses, w.Addresses) && same(status.HostnameGenerators, w.Generators)
}

// same compares lists without telling nil from empty, which is one thing in JSON.
func same[T any](a, b []T) bool { return len(a) == 0 && len(b) == 0 || reflect.DeepEqual(a, b) }

// apply returns a copy of r with its status changed to what w says; the rest of the status stays.
func (w want) apply(r *resource.Resource) *resource.Resource {
	out := *r
	status := resource.MeshServiceStatus{}
	if old, _ := r.Status.(*resource.MeshServiceStatus); old != nil {
		status = *old
	}
	status.VIPs, status.Addresses, status.HostnameGenerators = w.VIPs, w.Addresses, w.Generators
	out.Status = &status
	return &out
}
