// Package memory is a store that is lost with the process: for tests and for demonstrations.
package memory

import (
	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/store/internal/engine"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Open returns an empty store of the kinds of r.
func Open(r *resource.Registry) store.Store {
	e, err := engine.New(engine.Config{Registry: r})
	if err != nil {
		panic(err) // only loaded records can be wrong, and there are none
	}
	return e
}
