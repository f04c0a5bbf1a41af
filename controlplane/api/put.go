package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// putAttempts bounds how often a PUT starts again because somebody else wrote the resource at the same time.
const putAttempts = 5

type warnings struct {
	Warnings []string `json:"warnings"`
}

// put creates or replaces a resource. Faults are reported in the order of Kuma: the schema's alone, those of URL
// against body alone, then all others (contract controlplane.md §0 item 9).
func (c collection) put(w http.ResponseWriter, r *http.Request) error {
	if err := c.writable(r); err != nil {
		return err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return c.badBody(err)
	}
	next, err := c.decode(r, body)
	if err != nil {
		return err
	}
	status := 0
	for attempt := 1; ; attempt++ {
		status, err = c.save(r.Context(), next)
		if err == nil {
			break
		}
		raced := errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrExists) || errors.Is(err, store.ErrNotFound)
		if !raced || attempt == putAttempts {
			return wrap(titlePut, err)
		}
	}
	texts := policy.Deprecations(next)
	if c.server.cfg.Warnings != nil {
		texts = append(texts, c.server.cfg.Warnings(next)...)
	}
	if len(texts) > 0 {
		return WriteJSON(w, status, warnings{texts})
	}
	w.WriteHeader(status)
	return nil
}

func (c collection) badBody(err error) error {
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return &Error{
			Status: http.StatusRequestEntityTooLarge, Title: "Bad Request",
			Detail: fmt.Sprintf("body is larger than %d bytes", c.server.cfg.MaxBody),
		}
	}
	return &Error{Status: http.StatusBadRequest, Title: "Bad Request", Detail: fmt.Sprintf("invalid %s object: %q", c.desc.Kind, err.Error())}
}

// decode reads a body that must be of the kind, mesh and name of the URL.
func (c collection) decode(r *http.Request, body []byte) (*resource.Resource, error) {
	var head struct{ Type, Mesh, Name string }
	err := json.Unmarshal(body, &head)
	if _, wrongType := errors.AsType[*json.UnmarshalTypeError](err); err != nil && !wrongType {
		return nil, c.badBody(err)
	}
	key := c.key(r)
	if err == nil && resource.Kind(head.Type) != key.Kind {
		return nil, Invalid(titlePut, notValid, mismatch("type"))
	}
	res, err := c.server.cfg.Registry.Decode(body)
	if bad, ok := errors.AsType[*resource.DecodeError](err); ok {
		return nil, Invalid(titlePut, notValid, bad.Faults...)
	}
	if err != nil {
		return nil, c.badBody(err)
	}
	if s, ok := res.Spec.(resource.SchemaChecker); ok {
		if faults := s.CheckSchema(); len(faults) > 0 {
			return nil, Invalid(titlePut, notValid, faults...)
		}
	}
	var faults []resource.Violation
	if res.Kind != key.Kind {
		faults = append(faults, mismatch("type"))
	}
	if res.Name != key.Name {
		faults = append(faults, mismatch("name"))
	}
	if res.Mesh != key.Mesh {
		faults = append(faults, mismatch("mesh"))
	}
	if len(faults) > 0 {
		return nil, Invalid(titlePut, notValid, faults...)
	}
	return res, nil
}

func mismatch(field string) resource.Violation {
	return resource.Violation{Field: field, Reason: field + " from the URL has to be the same as in body"}
}

// save validates and commits. It works on a copy, as it may be called again for the same body.
func (c collection) save(ctx context.Context, given *resource.Resource) (status int, err error) {
	cfg := c.server.cfg
	next := given.Clone()
	old, err := cfg.Store.Get(next.Key)
	if err != nil && !isNotFound(err) {
		return 0, err
	}
	faults := resource.ValidateLabels(next, cfg.Zone)
	// A Dataplane's labels are computed on update too; others keep exactly what the body says (contract policies.md §1.4).
	if old == nil || next.Kind == resource.KindDataplane {
		resource.ComputeLabels(next, cfg.Zone)
	}
	title := titleUpdate
	if old == nil {
		title = titleCreate
		faults = append(faults, resource.Validate(next)...)
	} else {
		faults = append(faults, resource.ValidateUpdate(next)...)
		resource.KeepComputed(old, next)
	}
	if len(faults) > 0 {
		return 0, Invalid(titlePut, notValid, faults...)
	}
	resource.SetDefaults(next, cfg.Zone)
	if cfg.BeforePut != nil {
		faults, err := cfg.BeforePut(ctx, old, next)
		if err != nil {
			return 0, wrap(title, err)
		}
		if len(faults) > 0 {
			return 0, Invalid(title, notValid, faults...)
		}
	}
	ops := []store.Op{{Action: store.Create, Resource: next}}
	status = http.StatusCreated
	switch {
	case old != nil:
		ops[0].Action, ops[0].ExpectVersion = store.Update, old.Version
		status = http.StatusOK
	case next.Kind == resource.KindMesh && cfg.OnMeshCreate != nil:
		more, err := cfg.OnMeshCreate(ctx, next)
		if err != nil {
			return 0, wrap(title, err)
		}
		ops = append(ops, more...)
	}
	_, err = cfg.Store.Commit(ctx, ops...)
	return status, err
}
