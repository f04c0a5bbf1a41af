package topology

import (
	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Preview tells what changes would mean to what is stored: the World before, and the Change, which holds the World after.
// It is made as a Tracker makes it, and touches none. What the control plane would derive of the changes and store is not
// in it.
func Preview(zone string, stored []*resource.Resource, events []store.Event) (before *World, after Change) {
	s := newState(zone)
	before = s.load(stored).World
	return before, s.apply(events)
}
