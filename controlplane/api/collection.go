package api

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Titles of errors, per operation.
const (
	titleGet    = "Could not retrieve a resource"
	titleList   = "Could not retrieve resources"
	titlePut    = "Could not process a resource"
	titleCreate = "Could not create a resource"
	titleUpdate = "Could not update a resource"
	titleDelete = "Could not delete a resource"
	titleMesh   = "Failed to retrieve Mesh"
)

// collection serves the resources of one kind.
type collection struct {
	server *Server
	desc   *resource.Descriptor
}

func (c collection) key(r *http.Request) resource.Key {
	return resource.Key{Kind: c.desc.Kind, Mesh: r.PathValue("mesh"), Name: r.PathValue("name")}
}

// enter checks what holds for every operation: the access to the kind and the mesh of the path.
func (c collection) enter(r *http.Request) error {
	if err := c.server.mayAccess(r, c.desc); err != nil {
		return err
	}
	mesh := r.PathValue("mesh")
	if mesh == "" {
		return nil
	}
	_, err := c.server.cfg.Store.Get(resource.Key{Kind: resource.KindMesh, Name: mesh})
	return wrap(titleMesh, err)
}

func (c collection) get(w http.ResponseWriter, r *http.Request) error {
	if err := c.enter(r); err != nil {
		return err
	}
	res, err := c.server.cfg.Store.Get(c.key(r))
	if err != nil {
		return wrap(titleGet, err)
	}
	body, err := c.encode(r, res)
	if err != nil {
		return wrap(titleGet, err)
	}
	return WriteJSON(w, http.StatusOK, body)
}

// encode writes a resource in the form that `?format=` asks for.
func (c collection) encode(r *http.Request, res *resource.Resource) (json.RawMessage, error) {
	query := r.URL.Query()
	switch format := query.Get("format"); format {
	case "", "universal":
		return c.server.cfg.Registry.Encode(res, resource.FormUniversal)
	case "k8s", "kubernetes":
		namespace := query.Get("namespace")
		if namespace == "" {
			namespace = resource.SystemNamespace
		}
		return c.server.cfg.Registry.EncodeKubernetes(res, namespace)
	default:
		return nil, Invalid(titleGet, "Invalid format", resource.Violation{
			Field: "format", Reason: `must be one of ["k8s", "kubernetes", "universal"]`,
		})
	}
}

func (c collection) list(w http.ResponseWriter, r *http.Request) error {
	found, err := c.find(r)
	if err != nil {
		return err
	}
	items := make([]json.RawMessage, len(found.items))
	for i, res := range found.items {
		if items[i], err = c.server.cfg.Registry.Encode(res, resource.FormUniversal); err != nil {
			return wrap(titleList, err)
		}
	}
	return WriteJSON(w, http.StatusOK, listBody{Total: found.total, Items: items, Next: found.next})
}

func (c collection) delete(_ http.ResponseWriter, r *http.Request) error {
	if err := c.writable(r); err != nil {
		return err
	}
	key := c.key(r)
	old, err := c.server.cfg.Store.Get(key)
	if err != nil {
		return wrap(titleDelete, err)
	}
	if key.Kind == resource.KindMesh && len(c.server.cfg.Store.List(resource.KindDataplane, key.Name)) > 0 {
		return Invalid(titleDelete, notValid, resource.Violation{
			Field: "mesh", Reason: "unable to delete mesh, there are still some dataplanes attached",
		})
	}
	_, err = c.server.cfg.Store.Commit(r.Context(), store.Op{Action: store.Delete, Resource: old})
	return wrap(titleDelete, err)
}

// writable is enter for operations that change something.
func (c collection) writable(r *http.Request) error {
	if c.server.cfg.ReadOnly || c.desc.ReadOnly {
		detail := "the api is read-only"
		if c.desc.ReadOnly {
			detail = string(c.desc.Kind) + " is read-only: the control plane makes it"
		}
		return &Error{Status: http.StatusMethodNotAllowed, Title: "Method not allowed", Detail: detail}
	}
	return c.enter(r)
}

func isNotFound(err error) bool { return errors.Is(err, store.ErrNotFound) }
