package hostname

import (
	"reflect"
	"slices"
	"time"

	"github.com/kuma-dp/kuma-dp/resource"
)

// want is what a service should have.
type want struct {
	published
	of *serviceKind
	// created tells the service from a later one of the same name.
	created time.Time
}

// in tells whether the stored status of r says what w does.
func (w want) in(r *resource.Resource) bool {
	stored := w.of.read(r.Status)
	return slices.Equal(stored.VIPs, w.VIPs) && same(stored.Addresses, w.Addresses) && same(stored.Generators, w.Generators)
}

// same compares lists without telling nil from empty, which is one thing in JSON.
func same[T any](a, b []T) bool { return len(a) == 0 && len(b) == 0 || reflect.DeepEqual(a, b) }

// apply returns a copy of r with its status changed to what w says; the rest of the status stays.
func (w want) apply(r *resource.Resource) *resource.Resource {
	out := *r
	out.Status = w.of.write(r.Status, w.published)
	return &out
}
