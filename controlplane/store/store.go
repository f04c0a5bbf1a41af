// Package store keeps resources: reads come from memory, writes are atomic, and every write becomes an event that
// watchers see in order. Backends: store/memory, store/bolt (later store/postgres); store/storetest is their common suite.
package store

import (
	"context"
	"errors"

	"github.com/kuma-dp/kuma-dp/resource"
)

// Errors that callers branch on; every backend wraps them with the key concerned.
var (
	// ErrNotFound: Get, Update or Delete of a key that is not there.
	ErrNotFound = errors.New("not found")
	// ErrExists: Create of a key that is there already.
	ErrExists = errors.New("already exists")
	// ErrConflict: the stored version is not the expected one.
	ErrConflict = errors.New("was changed in the meantime")
	// ErrNoMesh: Create of a resource of a mesh that is not there at the end of the commit.
	ErrNoMesh = errors.New("mesh is not found")
	// ErrClosed: the store is closed.
	ErrClosed = errors.New("store is closed")
)

// Action is what an operation or event does.
type Action string

// Actions. Upsert is for operations only: it becomes Create or Update.
const (
	Create Action = "create"
	Update Action = "update"
	Upsert Action = "upsert"
	Delete Action = "delete"
)

// Op is one step of a commit. For Delete only Resource.Key is read.
type Op struct {
	Action Action
	// Resource is stored as given: the store sets Version, CreationTime (kept on update) and ModificationTime on a copy,
	// and the caller must not change spec, status or labels afterwards.
	Resource *resource.Resource
	// ExpectVersion, when not 0, must equal the stored version, else ErrConflict.
	ExpectVersion uint64
	// Owner, when set on Create, deletes this resource together with its owner, in the same commit. A resource of a mesh
	// is always deleted with its Mesh, and needs no Owner for that.
	Owner resource.Key
	// Durable makes the commit durable also for a Volatile kind.
	Durable bool
}

// Event is one committed change. A cascade is several events with one revision, owner last.
type Event struct {
	Revision uint64
	Action   Action
	Old      *resource.Resource // nil on Create
	New      *resource.Resource // nil on Delete
}

// Reader reads committed resources. What it returns is immutable and shared.
type Reader interface {
	// Get returns ErrNotFound when there is no such resource.
	Get(key resource.Key) (*resource.Resource, error)
	// List returns the resources of a kind sorted by mesh, then name; mesh "" means all meshes.
	List(kind resource.Kind, mesh string) []*resource.Resource
}

// Store is a set of resources. It is safe for concurrent use.
type Store interface {
	Reader
	// Commit applies all operations or none, and returns the stored resources in the order of ops (nil for deletes).
	// It is durable when it returns, except for kinds that are Volatile without Op.Durable. An Update or Upsert that changes neither
	// labels, spec nor status is no change: it returns the stored resource and makes no event.
	Commit(ctx context.Context, ops ...Op) ([]*resource.Resource, error)
	// Watch returns everything that is stored now, and a Watcher of all later events: none is missed, none is seen twice.
	Watch() ([]*resource.Resource, Watcher)
	// Close flushes and ends all watchers. The store must not be used afterwards.
	Close() error
}

// Watcher hands out events in order. It is for one goroutine; Close may be called by any.
type Watcher interface {
	// Next waits for at least one event and returns all that are pending. It returns ctx's error when that ends, and
	// ErrClosed after Close. A slow watcher never blocks a writer: events queue up in memory.
	Next(ctx context.Context) ([]Event, error)
	Close()
}
