package api

import (
	"cmp"
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
	res, err := c.one(c.key(r))
	if err != nil {
		return wrap(titleGet, err)
	}
	body, err := c.encode(r, res)
	if err != nil {
		return wrap(titleGet, err)
	}
	return WriteJSON(w, http.StatusOK, body)
}

func (c collection) one(key resource.Key) (*resource.Resource, error) {
	if key.Kind != resource.KindServiceInsight {
		return c.server.cfg.Store.Get(key)
	}
	for _, r := range c.all(key.Mesh) {
		if r.Name == key.Name {
			return r, nil
		}
	}
	return nil, store.ErrNotFound
}

// encode writes a resource in the form that `?format=` asks for.
func (c collection) encode(r *http.Request, res *resource.Resource) (json.RawMessage, error) {
	form, err := formOf(r)
	switch {
	case err != nil:
		return nil, err
	case form == resource.FormKubernetes:
		return c.server.cfg.Registry.EncodeKubernetes(res, namespaceOf(r))
	default:
		return c.server.cfg.Registry.Encode(res, form)
	}
}

// formOf reads `?format=`, which names the form of an answer, and of the body of a PUT.
func formOf(r *http.Request) (resource.Form, error) {
	switch r.URL.Query().Get("format") {
	case "", "universal":
		return resource.FormUniversal, nil
	case "k8s", "kubernetes":
		return resource.FormKubernetes, nil
	default:
		return "", Invalid("invalid format", notValid, resource.Violation{
			Reason: `"format" must be one of ["k8s", "kubernetes", "universal"]`,
		})
	}
}

// namespaceOf is the namespace of the Kubernetes form.
func namespaceOf(r *http.Request) string {
	return cmp.Or(r.URL.Query().Get("namespace"), resource.SystemNamespace)
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

// delete answers with a body only if there is something to warn of, as 2.9 has none.
func (c collection) delete(w http.ResponseWriter, r *http.Request) error {
	if err := c.writable(r); err != nil {
		return err
	}
	old, err := c.server.cfg.Store.Get(c.key(r))
	if err != nil {
		return wrap(titleDelete, err)
	}
	if faults := c.inUse(old); len(faults) > 0 {
		return Invalid(titleDelete, notValid, faults...)
	}
	texts, err := c.server.strict(r, old, nil)
	if err != nil {
		return err
	}
	if _, err = c.server.cfg.Store.Commit(r.Context(), store.Op{Action: store.Delete, Resource: old}); err != nil || len(texts) == 0 {
		return wrap(titleDelete, err)
	}
	return WriteJSON(w, http.StatusOK, warnings{texts})
}

// inUse says why a resource cannot be deleted (contract controlplane.md §2.1, zones.md §6), and in hardened mode who else
// it belongs to.
func (c collection) inUse(old *resource.Resource) []resource.Violation {
	cfg := &c.server.cfg
	switch {
	case old.Kind == resource.KindMesh && len(cfg.Store.List(resource.KindDataplane, old.Name)) > 0:
		return []resource.Violation{{Field: "mesh", Reason: "unable to delete mesh, there are still some dataplanes attached"}}
	case old.Kind == resource.KindZone && c.connected(old.Name):
		return []resource.Violation{{Field: "zone", Reason: "unable to delete Zone, Zone CP is still connected, please shut it down first"}}
	case cfg.Hardened && !cfg.Zone.Global && old.Labels[resource.LabelOrigin] == resource.OriginGlobal:
		return []resource.Violation{{Field: originField, Reason: "the resource is the global control plane's: delete it there"}}
	}
	return nil
}

// connected tells whether the control plane of a zone is.
func (c collection) connected(zone string) bool {
	r, err := c.server.cfg.Store.Get(resource.Key{Kind: resource.KindZoneInsight, Name: zone})
	if err != nil {
		return false
	}
	insight, ok := r.Spec.(*resource.ZoneInsight)
	return ok && insight.Online()
}

// writable is enter for operations that change something.
func (c collection) writable(r *http.Request) error {
	if why := c.server.whyReadOnly(c.desc); why != "" {
		return &Error{Status: http.StatusMethodNotAllowed, Title: "Method not allowed", Detail: why}
	}
	return c.enter(r)
}

// whyReadOnly says why resources of a kind cannot be written here, empty when they can: by nature, by configuration, or
// because they belong to the other side of the synchronisation (contract controlplane.md §2.1, policies.md §1.5).
func (s *Server) whyReadOnly(d *resource.Descriptor) string {
	switch zone := &s.cfg.Zone; {
	case d.ReadOnly:
		return string(d.Kind) + " is read-only: the control plane makes it"
	case s.cfg.ReadOnly:
		return "the api is read-only"
	case zone.Federated && !d.CreatableInZone:
		return string(d.Kind) + " is read-only in a zone: write it on the global control plane"
	case zone.Global && !madeOnGlobal(d.Kind):
		return string(d.Kind) + " is read-only on the global control plane: write it in its zone"
	default:
		return ""
	}
}

// madeOnGlobal tells whether a kind is sent from the global control plane to zones, or stays there.
func madeOnGlobal(k resource.Kind) bool {
	switch k {
	case resource.KindDataplane, resource.KindMeshService, resource.KindZoneIngress, resource.KindZoneEgress:
		return false
	default:
		return true
	}
}

func isNotFound(err error) bool { return errors.Is(err, store.ErrNotFound) }
